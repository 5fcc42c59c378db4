"""The same numbers with less work: what the command takes unless it is told --plain.

    network.py     Network: that of training.py with the two below
    models.py      the embedders and the link predictor: same parameters, same state_dict, another forward
    layout.py      days and windows as they take them: only what day t needs of each earlier day
    neighbours.py  nearest neighbours: by symmetry, and by tiles of which only maxima are looked at
    pruned.py      the same of many rows: without the blocks that no neighbour can be in
    trees.py       the spanning tree from which campaigns are made, of many rows: likewise
    features.py    the 37 features of many packets, with fewer trips to memory
    adam.py        Adam without most of a second of imports
    precision.py   exact products by the quicker library; bfloat16 and TF32 where the machine has them, if asked for
    alone.py       the steps of a day that several processes do otherwise, as one does them

Each function names the plain one that it equals and has a test that holds it to that; docs/speed.md has what each
saves. Imports the flat files; trees.py and alone.py also beyond, and alone.py traces.
"""

from fast.adam import Adam
from fast.features import node_features
from fast.network import Network
from fast.pruned import nearest
from fast.trees import spanning_tree

__all__ = ["Adam", "Network", "nearest", "node_features", "spanning_tree"]
