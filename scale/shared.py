"""The steps of a day that several processes do together: fast.alone's functions, of the same names and arguments.

Every rank has its own hosts and all ports; what a function gives of "all hosts" it gives at rank 0, which writes, and
of no host on the others. All ranks call each function, in the same order. Imports graph, features, fast.alone,
beyond.ranks and traces.
"""

from datetime import date

import numpy as np
import torch

import features
import graph as graphs
from beyond import ranks
from fast.alone import Found
from scale import processes
from scale.counting import count_day
from scale.network import local_adjacency
from scale.parts import gathered, handed_out
from scale.processes import all_max, all_min, all_objects, all_sum, at_rank_0
from traces import packets, synthetic

__all__ = ["count_day", "gathered", "handed_out"]

may_read_ahead = False  # in a thread: collectives of two threads would meet in any order


def __getattr__(name):
    """`writes`: whether this process writes the run's files. It joins the others after this module is imported."""
    if name == "writes":
        return processes.rank() == 0
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# -- what is read -----------------------------------------------------------------------------------------------------

def read_days(paths, summary, **settings):
    """As packets.read_days, every rank reading its share of the files: (date, Packets or None) a day of any rank's."""
    own = packets.read_days(paths, summary, share=share(), **settings)
    return packets.counted(days(own), summary, settings.get("after"))


def made_days(scale, seed):
    """The synthetic month, every rank making its share of the hosts: (date, Packets or None) a day."""
    return days((day, packets.Packets(**columns)) for day, columns in synthetic.month(scale, seed, share=share()))


def share():
    """This rank's share of what is read, as packets.read_days takes it."""
    return processes.rank(), processes.size()


def days(own):
    """Yield (date, packets or None) per day that some rank has: own yields this rank's (date, packets), in order."""
    own, none = iter(own), date.max.toordinal()
    ahead = next(own, None)
    while (today := all_min(ahead[0].toordinal() if ahead else none)) < none:
        if ahead and ahead[0].toordinal() == today:
            yield ahead
            ahead = next(own, None)
        else:
            yield date.fromordinal(today), None


def earliest(number):
    """The smallest of all ranks' numbers."""
    return all_min(number)


def merged(summary):
    """The Summary of what all ranks have read."""
    return packets.merged(all_objects(summary))


# -- what is computed -------------------------------------------------------------------------------------------------

def by_maximum(x, n_hosts):
    """As features.scale_by_maximum, by the maxima over all hosts."""
    return features.scale_by_maximum(x, n_hosts, all_max(features.maxima_of(x, n_hosts)))


def by_rank(x, n_hosts):
    """As beyond.ranks.scale_by_rank, among all hosts."""
    hosts, ports = x[:n_hosts], x[n_hosts:]
    return np.concatenate([ranks.normal_scores(average_ranks(hosts), all_sum(n_hosts)),
                           ranks.normal_scores(ranks.average_ranks(ports), len(ports))])


def average_ranks(x):
    """beyond.ranks.average_ranks of this rank's x (n, columns) among the rows of all ranks: (n, columns) float64."""
    x = x.astype(np.float32)
    below, upto = np.zeros(x.shape, np.int64), np.zeros(x.shape, np.int64)
    for block in processes.ring({"x": np.sort(x, axis=0)}):
        for i in range(x.shape[1]):
            below[:, i] += np.searchsorted(block["x"][:, i], x[:, i])
            upto[:, i] += np.searchsorted(block["x"][:, i], x[:, i], side="right")
    return (below + upto + 1) / 2


def standardize(x):
    """As knn.standardize, over the rows of all ranks."""
    ends = torch.cat([x, x.new_full((1, x.shape[1]), -torch.inf)]).amax(0), \
        torch.cat([-x, x.new_full((1, x.shape[1]), -torch.inf)]).amax(0)
    highest, lowest = all_max(torch.stack(ends))            # (E,) and minus the minima
    constant = highest == -lowest
    x = (x - mean_of_rows(x)).masked_fill(constant, 0)
    deviation = mean_of_rows(x.square()).sqrt()
    return x / torch.where(deviation > 0, deviation, 1)


def mean_of_rows(x):
    """Mean over all ranks' rows, x (n, E) -> (E,), summed in float64."""
    total = all_sum(torch.cat([x.sum(0, dtype=torch.float64), x.new_full((1,), len(x), dtype=torch.float64)]))
    return (total[:-1] / total[-1].clamp(min=1)).to(x.dtype)


def total(value):
    """The sum over all ranks of a tensor or a number."""
    return all_sum(value)


class Propagation:
    """A_hat of a day for `A_hat @ z`, z (N, d) of this rank's hosts and all ports: the ports' rows are completed."""

    def __init__(self, graph, device):
        self.A = graphs.as_torch(local_adjacency(graph), device)
        self.n_hosts = len(graph.hosts)

    def __matmul__(self, z):
        out = self.A @ z
        out[self.n_hosts :] = all_sum(out[self.n_hosts :])
        return out


def propagation(graph, device):
    """A_hat of the graph, for `A_hat @ z`."""
    return Propagation(graph, device)


def own_stream(learner):
    """The learner with a random stream of this rank's own."""
    stream = learner.generator.initial_seed() ^ (processes.rank() * 0x85EBCA6B & 0xFFFFFFFF)
    learner.generator.manual_seed(stream)
    return learner


# -- neighbours -------------------------------------------------------------------------------------------------------

def search(nearest, day, embedded, k):
    """The Found of a day, of all ranks' hosts at rank 0, of none on the others."""
    device, surprise = embedded.X.device, embedded.surprise
    similarity, neighbours = nearest_of_all(nearest, embedded.X, day.graph.hosts, k)
    columns = [day.labels, embedded.X, similarity, neighbours]
    columns += [] if surprise is None else [surprise]
    columns += [] if embedded.saved is embedded.X else [embedded.saved]
    hosts, labels, X, similarity, neighbours, *more = at_rank_0(day.graph.hosts, *columns)
    saved = X if embedded.saved is embedded.X else more.pop()
    neighbours = torch.from_numpy(np.searchsorted(hosts, neighbours.numpy()))
    found = Found(hosts, labels, saved, X, more[0] if more else None, similarity, neighbours)
    return Found(hosts, *(column if column is None else column.to(device) for column in found[1:]))


def nearest_of_all(nearest, x, hosts, k):
    """The k hosts nearest to each of this rank's among all ranks' hosts but itself, by cosine (paper section 4).

    nearest: knn.nearest or its equal; x (n, E) embeddings, hosts (n,) addresses, ascending. Returns (similarity (n, k),
    neighbours (n, k) int64 addresses), nearest first, the lower address among equals: what `nearest` finds where all
    hosts are in one process, in order of address. Every rank keeps its queries while the ranks' embeddings travel
    around the ring.
    """
    k = min(k, all_sum(len(x)) - 1)
    best, who = x.new_empty(len(x), 0), torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    blocks = processes.ring({"x": x.cpu().numpy(), "host": hosts.astype(np.int64)}) if k > 0 else ()
    for step, block in enumerate(blocks):
        block = {name: torch.from_numpy(column).to(x.device) for name, column in block.items()}
        s, at = nearest(block["x"], k, queries=x if step else None)
        who, best = torch.cat([who, block["host"][at]], 1), torch.cat([best, s], 1)
        order = who.argsort(dim=1)
        order = order.gather(1, best.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :k]
        best, who = best.gather(1, order), who.gather(1, order)
    return best, who


def everyone(hosts, *columns):
    """(hosts, *columns) of all ranks' hosts, by ascending address, at rank 0; of none on the others."""
    return at_rank_0(hosts, *columns)
