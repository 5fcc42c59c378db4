"""Several processes on one day's hosts, under torchrun: what a run does otherwise there, and nobody else knows.

    rank r of R     owns the hosts with hash(address) mod R = r: all their packets, edges, rows of A_hat
    ports           at most 2,501 nodes, replicated: every rank holds all of their rows
    rank 0          writes: files, the state, what there is to say

    processes.py    the collectives: sums over ranks, records to the ranks that own them, the ring
    network.py      fast.Network on the rank's graph, its own hosts and all ports; Adam with everyone's gradients
    counting.py     packets that all ranks read -> graph and features of the rank's own hosts
    parts.py        the state, put together at rank 0 and handed out again
    shared.py       what a run takes for fast.alone: the same functions, done by all ranks together

Every function that communicates is called by all ranks, in the same order; with one process it does what one process
does. Imports graph, features, models, fast, traces and beyond; darkgnn.py and command/ alone import this room.
"""

from fast import alone
from scale import shared
from scale.network import Adam, Network
from scale.processes import leave, lost, rank, start, started, stop

__all__ = ["Adam", "Network", "leave", "lost", "rank", "started", "stop", "way"]


def way(device):
    """Join the other processes, if torchrun started any: `shared` then, else fast.alone. Errors as in `start`."""
    start(device)
    return shared if started() > 1 else alone
