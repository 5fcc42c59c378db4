"""Features scaled by rank: only the order of a column's values counts, not how heavy its tail is (beyond the paper).

    n       nodes of the kind, hosts or ports, that day
    r       (n,) rank of each node's value among them, 1..n; equal values share the average of their ranks
    Phi     distribution function of the standard normal; x = Phi^-1((r - 0.5) / n), the column's normal scores

Imports numpy and torch only.
"""

import numpy as np
import torch


def scale_by_rank(x, n_hosts):
    """Every column's normal scores over the day's nodes, hosts and ports separately: x (N, 37) -> (N, 37) float32.

    x holds the hosts first. A constant column becomes 0.
    """
    return np.concatenate([normal_scores(average_ranks(rows), len(rows)) for rows in (x[:n_hosts], x[n_hosts:])])


def normal_scores(r, n):
    """Phi^-1((r - 0.5) / n) of ranks r, float32; n may be more than the rows of r, which then are a share of all."""
    return torch.special.ndtri(torch.from_numpy((r - 0.5) / max(n, 1))).numpy().astype(np.float32)


def average_ranks(x):
    """Ranks 1..n of each column's values, ties sharing the average of theirs: x (n, columns) -> float64.

    Values that are equal in float32, all that a model could tell apart, are ties.
    """
    x = x.astype(np.float32)
    order = np.argsort(x, axis=0)                           # (n, columns)
    ascending = np.take_along_axis(x, order, axis=0)
    i = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
    rises = ascending[1:] != ascending[:-1]                 # between i and i + 1: a run of equal values ends
    first, last = np.zeros(x.shape, np.int64), np.full(x.shape, len(x) - 1)
    first[1:], last[:-1] = np.where(rises, i[1:], 0), np.where(rises, i[:-1], len(x) - 1)
    first = np.maximum.accumulate(first)                    # of the run that holds place i
    last = np.minimum.accumulate(last[::-1])[::-1]
    ranks = np.empty(x.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks
