"""The steps of a day that several processes do otherwise, as one process does them.

The room that shares a day out by hosts has functions of the same names and arguments; darkgnn.py takes one or the
other. A day's hosts are all here, and so is every sum. Imports graph, features, knn, beyond, traces.
"""

from typing import NamedTuple

import torch

import features
import graph as graphs
import knn
from beyond import ranks
from traces import days, packets, synthetic

writes = True  # whether this process writes the run's files
may_read_ahead = True  # whether a thread may prepare the next day


class Found(NamedTuple):
    """A day's hosts as one model embedded them, and their neighbours; all of them, in the process that writes."""
    hosts: object             # (n,) uint32 addresses, ascending
    labels: torch.Tensor      # (n,) int64
    saved: torch.Tensor       # (n, E) see beyond.views.Embedded
    X: torch.Tensor           # (n, E)
    surprise: torch.Tensor | None  # (n,) float64
    similarity: torch.Tensor  # (n, k)
    neighbours: torch.Tensor  # (n, k) int64 rows


def read_days(paths, summary, **settings):
    """packets.read_days: (date, Packets) a day, in order."""
    return packets.read_days(paths, summary, **settings)


def earliest(number):
    """The smallest of all processes' numbers."""
    return number


def merged(summary):
    """The Summary of what all processes have read."""
    return summary


count_day = days.count_day
by_maximum = features.scale_by_maximum
by_rank = ranks.scale_by_rank
standardize = knn.standardize


def total(value):
    """The sum over all processes of a tensor or a number."""
    return value


def propagation(graph, device):
    """A_hat of the graph, for `A_hat @ z`."""
    return graphs.as_torch(graphs.normalized_adjacency(graph), device)


def own_stream(learner):
    """The learner with this process's own random stream."""
    return learner


def search(nearest, day, embedded, k):
    """The Found of a day, a traces.days.Day, embedded (views.Embedded); nearest: knn.nearest or its equal."""
    similarity, neighbours = nearest(embedded.X, k)
    return Found(day.graph.hosts, day.labels.to(embedded.X.device), *embedded, similarity, neighbours)


def everyone(hosts, *columns):
    """(hosts, *columns) of all processes, by ascending address, in the one that writes: (n,) and (n, ...) arrays."""
    return hosts, *columns


def gathered(state):
    """The state that daily.memory packed, with all processes' hosts, in the one that writes."""
    return state


def handed_out(state):
    """This process's part of a state that was loaded, or None."""
    return state


def made_days(scale, seed):
    """The synthetic month's (date, Packets) a day."""
    return ((date, packets.Packets(**columns)) for date, columns in synthetic.month(scale, seed))
