"""The 37 features of every host and port of a day (paper Table 1).

STATS(x) = sum, minimum, maximum, average, standard deviation (sample, n - 1; 0 for a single sample).

    columns   host node                              port node
    0         contacted darknet ports                hosts contacting the port
    1-5       STATS(packets per darknet port)        STATS(packets per source host contacting the port)
    6         contacted darknet addresses            0
    7-11      STATS(packets per darknet address)     0
    12-36     STATS over the node's packets of: size, TTL, MSS, window, TCP timestamp (5 columns each)

Packets come sorted by edge, edges by host (as `graph.build_graph` orders them), so every statistic is taken once per
edge and merged per host and per port. What a model reads is these columns scaled, per day, hosts and ports separately:
by their maximum (the released code) or, beyond the paper, by rank:

    n       nodes of the kind that day
    r       (n,) rank of each node's value among them, 1..n; equal values share the average of their ranks
    Phi     distribution function of the standard normal; x = Phi^-1((r - 0.5) / n), the column's normal scores

Imports numpy and scipy only.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

FIELDS = ("length", "ttl", "mss", "window", "timestamp")  # packet columns of features 12-36, in this order
N_FEATURES = 37


class Moments(NamedTuple):
    """What STATS needs of a set of samples, mergeable: each (sets,) float64."""
    n: np.ndarray        # samples
    total: np.ndarray
    low: np.ndarray
    high: np.ndarray
    squares: np.ndarray  # sum of (x - average)^2


def node_features(edge_host, edge_port, weight, n_hosts, n_ports, address, fields):
    """The day's raw features x (N, 37) float64, hosts first, then ports (paper Table 1).

    edge_host, edge_port, weight (E,): the day's edges, sorted by (host, port). address (n,): the darknet address of
    each packet, unsigned 32-bit; fields: {name in FIELDS: (n,) values per packet, 0 = option absent}; both in the order
    of the edges, `weight` packets each. A field that is not in `fields` gives zeros in its five columns.
    Raises ValueError if a column's length is not the number of packets, a field's name is unknown, or an address
    lies outside [0, 2^32).
    """
    n = int(weight.sum())
    for name, column in {"address": address, **fields}.items():
        if len(column) != n:
            raise ValueError(f"{name} must hold one value per packet of the edges, {n}, got {len(column)}")
    if n and not (address.min() >= 0 and address.max() < 1 << 32):
        raise ValueError(f"addresses must lie in [0, 2^32), got {address.min()}..{address.max()}")
    if unknown := set(fields) - set(FIELDS):
        raise ValueError(f"fields must be among {', '.join(FIELDS)}, got {', '.join(sorted(unknown))}")

    x = np.zeros((n_hosts + n_ports, N_FEATURES))
    host, port = x[:n_hosts], x[n_hosts:]                   # views: the rows of hosts and of ports

    edges = single(weight)                                  # one sample per edge: its packets
    of_host, of_port = merge(edges, edge_host, n_hosts), merge(edges, edge_port, n_ports)
    host[:, 0], host[:, 1:6] = of_host.n, stats(of_host)
    port[:, 0], port[:, 1:6] = of_port.n, stats(of_port)

    contacted, packets = packets_per_address(np.repeat(edge_host, weight), address)
    of_host = merge(single(packets), contacted, n_hosts)
    host[:, 6], host[:, 7:12] = of_host.n, stats(of_host)

    start = np.cumsum(weight) - weight                      # (E,) first packet of each edge
    for i, name in enumerate(FIELDS):
        if name in fields and n:
            per_edge = moments_of_runs(fields[name].astype(np.float64), start, weight)
            columns = slice(12 + 5 * i, 17 + 5 * i)
            host[:, columns] = stats(merge(per_edge, edge_host, n_hosts))
            port[:, columns] = stats(merge(per_edge, edge_port, n_ports))
    return x


def scale_by_maximum(x, n_hosts):
    """Every column divided by its maximum of the day, hosts and ports separately: (N, 37) float32 in [0, 1].

    A column whose maximum is 0 stays 0. x (N, 37), hosts first.
    """
    scaled = np.empty(x.shape, np.float32)
    for rows in (slice(0, n_hosts), slice(n_hosts, None)):
        top = x[rows].max(axis=0, initial=0)
        scaled[rows] = x[rows] / np.where(top > 0, top, 1)
    return scaled


def scale_by_rank(x, n_hosts):
    """Every column's normal scores over the day's nodes, hosts and ports separately: (N, 37) float32.

    x = Phi^-1((r - 0.5) / n): only the order of a column's values counts, not how heavy its tail is. A constant
    column becomes 0. x (N, 37), hosts first.
    """
    scaled = np.empty(x.shape, np.float32)
    for rows in (slice(0, n_hosts), slice(n_hosts, None)):
        r, n = average_ranks(x[rows].astype(np.float32)), len(x[rows])  # float32: equal deviations differ in the last
        scaled[rows] = scipy.special.ndtri((r - 0.5) / max(n, 1))       # bits of float64, by the order of their sums
    return scaled


def average_ranks(x):
    """Ranks 1..n of each column's values, ties sharing the average of theirs: x (n, columns) -> float64."""
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


def stats(m):
    """STATS of each set: sum, minimum, maximum, average, sample standard deviation -> (sets, 5) (paper 3.1).

    A set without samples gives zeros.
    """
    average = m.total / np.maximum(m.n, 1)
    deviation = np.sqrt(m.squares / np.maximum(m.n - 1, 1))
    return np.where(m.n[:, None] > 0, np.stack([m.total, m.low, m.high, average, deviation], axis=1), 0)


def single(x):
    """Moments of sets of one sample each, x (sets,)."""
    x = x.astype(np.float64)
    return Moments(np.ones(len(x)), x, x, x, np.zeros(len(x)))


def moments_of_runs(x, start, length):
    """Moments of consecutive runs of x (n,) float64; run i holds x[start[i] : start[i] + length[i]], length >= 1."""
    total = np.add.reduceat(x, start)
    deviation = x - np.repeat(total / length, length)       # two passes: no cancellation in the squares
    return Moments(length.astype(np.float64), total, np.minimum.reduceat(x, start), np.maximum.reduceat(x, start),
                   np.add.reduceat(np.square(deviation, out=deviation), start))


def merge(parts, group, n_groups):
    """Moments of unions: set i of `parts` goes into group[i] in [0, n_groups). The one place that sums a port's hosts.

    A union's squares are the parts' own plus n_i (average_i - average of the union)^2 of each.
    """
    n = np.bincount(group, parts.n, n_groups)
    total = np.bincount(group, parts.total, n_groups)
    shift = parts.total / parts.n - (total / np.maximum(n, 1))[group]
    squares = np.bincount(group, parts.squares + parts.n * shift**2, n_groups)
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group, parts.low)
    np.maximum.at(high, group, parts.high)
    return Moments(n, total, low, high, squares)


def packets_per_address(host, address):
    """Distinct (host, address) pairs of the packets and their counts: (host (pairs,), packets (pairs,)).

    host (n,) indices and address (n,) unsigned 32-bit values, one entry per packet.
    """
    pair = host.astype(np.uint64) << np.uint64(32) | address.astype(np.uint64)
    pair.sort()
    start = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])[: len(pair)])
    return (pair[start] >> np.uint64(32)).astype(np.int64), np.diff(np.append(start, len(pair)))
