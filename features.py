"""The 37 features of every host and port of a day (paper Table 1).

STATS(x) = sum, minimum, maximum, average, standard deviation (sample, n - 1; 0 for a single sample).

    columns   host node                              port node
    0         contacted darknet ports                hosts contacting the port
    1-5       STATS(packets per darknet port)        STATS(packets per source host contacting the port)
    6         contacted darknet addresses            0
    7-11      STATS(packets per darknet address)     0
    12-36     STATS over the node's packets of: size, TTL, MSS, window, TCP timestamp (5 columns each)

Packet fields are counted per edge and addresses per (host, address), in whole numbers, and then merged per node: exact,
so that packets may come in any order, in any number of parts, and the same features result bit by bit. What a model
reads is these columns scaled, per day, hosts and ports separately: by their maximum (the released code) or, beyond the
paper, by rank:

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
NOTHING = np.iinfo(np.int64)  # the minimum of no samples is its max, the maximum its min
AT_A_TIME = 1 << 16  # packets that are counted at once: they stay in the cache


class Moments(NamedTuple):
    """What STATS needs of sets of samples, whole numbers in [0, 2^32): exact and mergeable, each (sets,) int64."""
    n: np.ndarray             # samples
    total: np.ndarray
    low: np.ndarray
    high: np.ndarray
    squares_high: np.ndarray  # sum of x^2 // 2^32
    squares_low: np.ndarray   # sum of x^2 mod 2^32


def same(x):
    return x


def node_features(edge_host, edge_port, weight, n_hosts, n_ports, address, fields, order=None):
    """The day's raw features x (N, 37) float64, hosts first, then ports (paper Table 1).

    edge_host, edge_port, weight (E,): the day's edges, sorted by (host, port), of weight >= 1. address (n,): the
    darknet address of each packet, unsigned 32-bit; fields: {name in FIELDS: (n,) whole numbers in [0, 2^32) per
    packet, 0 = option absent}. order (sum of weight,) int64: which packets are the edges', one edge after the other, as
    graph.build_graph gives it; None where the columns are in that order. A field that is not in `fields` gives zeros in
    its five columns. Raises ValueError if order, or without it the columns, are not as long as the edges have packets,
    columns differ in length, a field's name is unknown, or values are no whole numbers in [0, 2^32).
    """
    weight = np.asarray(weight, np.int64)
    n = int(weight.sum())
    if order is not None and (len(order) != n or (n and not 0 <= order.min() <= order.max() < len(address))):
        raise ValueError(f"order must hold the packets of the edges, {n} of 0..{len(address) - 1}, got {len(order)}"
                         + (f" of {order.min()}..{order.max()}" if len(order) else ""))
    if unknown := set(fields) - set(FIELDS):
        raise ValueError(f"fields must be among {', '.join(FIELDS)}, got {', '.join(sorted(unknown))}")
    length, of = (n, "packet of the edges") if order is None else (len(address), "address")
    for name, column in {"addresses": address, **fields}.items():
        if len(column) != length:
            raise ValueError(f"{name} must hold one value per {of}, {length}, got {len(column)}")
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
        if len(column) and not (column.min() >= 0 and column.max() < 1 << 32):
            raise ValueError(f"{name} must lie in [0, 2^32), got {column.min()}..{column.max()}")

    address, per_edge = moments_of_edges(weight, {"address": address, **fields}, order)
    contacted, _, packets = packets_per_address(np.repeat(edge_host, weight), address)
    return merged_features(edge_host, edge_port, weight, n_hosts, n_ports, contacted, packets,
                           edge_host, edge_port, per_edge)


def moments_of_edges(weight, columns, order=None):
    """Packets' columns {"address": (n,), name: (n,), ...} -> (their addresses edge by edge, {name: Moments (E,)}).

    Weight (E,) >= 1, columns of whole numbers in [0, 2^32) and order as node_features takes them; addresses
    (sum of weight,).
    """
    names = [name for name in columns if name != "address"]
    records = None if order is None else as_records(columns)
    end, edge = np.cumsum(weight), 0
    start, addresses, moments = end - weight, [columns["address"][:0]], {name: [single(weight[:0])] for name in names}
    while edge < len(weight):                               # as many edges as there are AT_A_TIME packets of, or one
        edges = slice(edge, max(edge + 1, np.searchsorted(end, start[edge] + AT_A_TIME)))
        packets, edge = slice(start[edge], end[edges.stop - 1]), edges.stop
        part = {name: column[packets] for name, column in columns.items()} if order is None else \
            records.take(order[packets])
        addresses.append(part["address"])
        for name in names:
            moments[name].append(moments_of_runs(part[name], start[edges] - packets.start, weight[edges]))
    return np.concatenate(addresses), {name: Moments(*map(np.concatenate, zip(*moments[name]))) for name in names}


def as_records(columns):
    """Columns {name: (n,)} of whole numbers below 2^32 as one array (n,) of records {name: number}.

    To fetch a packet in any order then is one access to memory, not one per column. Records fill up 16 bytes, or 32:
    numpy moves items of these sizes faster than others.
    """
    kinds = [column.dtype if column.itemsize <= 4 else np.dtype(np.uint32) for column in columns.values()]
    ends = np.cumsum([kind.itemsize for kind in kinds])
    records = np.empty(len(columns["address"]), {
        "names": list(columns), "formats": kinds, "offsets": [0, *ends[:-1]], "itemsize": -(-ends[-1] // 16) * 16})
    for i in range(0, len(records), AT_A_TIME):
        for name, column in columns.items():
            records[name][i : i + AT_A_TIME] = column[i : i + AT_A_TIME]
    return records


def merged_features(edge_host, edge_port, weight, n_hosts, n_ports, contacted, packets, host_of, port_of, fields,
                    total=same):
    """`node_features` from what was counted before: x (N, 37) float64.

    contacted, packets (pairs,): the host and the packets of each distinct pair of a host and a darknet address.
    fields: {name: Moments of any parts (m,) of the packets}, of host host_of (m,) to port port_of (m,). total(Moments
    of the ports) -> Moments: theirs over all processes, where edges and parts are those of one process's own hosts.
    """
    x = np.zeros((n_hosts + n_ports, N_FEATURES))
    host, port = x[:n_hosts], x[n_hosts:]                   # views: the rows of hosts and of ports

    edges = single(weight)                                  # one sample per edge: its packets
    of_host, of_port = merge(edges, edge_host, n_hosts), total(merge(edges, edge_port, n_ports))
    host[:, 0], host[:, 1:6] = of_host.n, stats(of_host)
    port[:, 0], port[:, 1:6] = of_port.n, stats(of_port)

    of_host = merge(single(packets), contacted, n_hosts)
    host[:, 6], host[:, 7:12] = of_host.n, stats(of_host)

    for i, name in enumerate(FIELDS):
        if name in fields:
            columns = slice(12 + 5 * i, 17 + 5 * i)
            host[:, columns] = stats(merge(fields[name], host_of, n_hosts))
            port[:, columns] = stats(total(merge(fields[name], port_of, n_ports)))
    return x


def scale_by_maximum(x, n_hosts, most=same):
    """Every column divided by its maximum of the day, hosts and ports separately: (N, 37) float32 in [0, 1].

    A column whose maximum is 0 stays 0. x (N, 37), hosts first. most(maxima (37,)) -> (37,): those over all processes,
    where x is one process's share of the nodes.
    """
    scaled = np.empty(x.shape, np.float32)
    for rows in (slice(0, n_hosts), slice(n_hosts, None)):
        top = most(x[rows].max(axis=0, initial=0))
        scaled[rows] = x[rows] / np.where(top > 0, top, 1)
    return scaled


def scale_by_rank(x, n_hosts, ranks=None, total=same):
    """Every column's normal scores over the day's nodes, hosts and ports separately: (N, 37) float32.

    x = Phi^-1((r - 0.5) / n): only the order of a column's values counts, not how heavy its tail is. A constant
    column becomes 0. x (N, 37), hosts first. ranks, total: `average_ranks` and a sum over all processes, where x is
    one process's share of the hosts.
    """
    scaled = np.empty(x.shape, np.float32)
    for rows, ranks_of, n in ((slice(0, n_hosts), ranks or average_ranks, total(n_hosts)),
                              (slice(n_hosts, None), average_ranks, len(x) - n_hosts)):
        r = ranks_of(x[rows].astype(np.float32))            # float32: what the model could tell apart
        scaled[rows] = scipy.special.ndtri((r - 0.5) / max(n, 1))
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
    n, total = m.n.astype(object), m.total.astype(object)   # Python's integers: no rounding, no overflow
    squares = m.squares_high.astype(object) * (1 << 32) + m.squares_low
    variance = (n * squares - total * total) / np.maximum(n * (n - 1), 1)  # = sum of (x - average)^2 / (n - 1)
    deviation = np.sqrt(variance.astype(np.float64))
    return np.where(m.n[:, None] > 0, np.stack([m.total, m.low, m.high, average, deviation], axis=1), 0)


def single(x):
    """Moments of sets of one sample each, x (sets,)."""
    return moments_of_runs(x, np.arange(len(x)), np.ones(len(x), np.int64))


def moments_of_runs(x, start, length):
    """Moments of consecutive runs of x (n,) unsigned; run i holds x[start[i] : start[i] + length[i]], length >= 1."""
    x = x.astype(np.uint64)
    squares = x * x                                         # below 2^64
    high, low = squares >> np.uint64(32), squares & np.uint64(0xFFFFFFFF)
    sums = [np.add.reduceat(part, start) for part in (x, high, low)]
    low, high = np.minimum.reduceat(x, start), np.maximum.reduceat(x, start)
    return Moments(*(part.astype(np.int64) for part in (length, sums[0], low, high, sums[1], sums[2])))


def merge(parts, group, n_groups):
    """Moments of unions: set i of `parts` goes into group[i] in [0, n_groups). The one place that sums over hosts."""
    out = Moments(*(np.full(n_groups, fill) for fill in (0, 0, NOTHING.max, NOTHING.min, 0, 0)))
    for add, into, part in zip((np.add, np.add, np.minimum, np.maximum, np.add, np.add), out, parts):
        add.at(into, group, part)
    return out


def packets_per_address(host, address, packets=None):
    """Distinct (host, address) pairs and their packets: (host, address, packets), each (pairs,) int64.

    host (n,) indices and address (n,) unsigned 32-bit values, one entry per packet or, with packets (n,), per so many.
    """
    pair = host.astype(np.uint64) << np.uint64(32) | address.astype(np.uint64)
    if packets is None:
        pair.sort()
    else:
        order = pair.argsort()
        pair, packets = pair[order], packets[order]
    start = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])[: len(pair)])
    count = np.diff(np.append(start, len(pair))) if packets is None else np.add.reduceat(packets, start)
    pair = pair[start]
    return (pair >> np.uint64(32)).astype(np.int64), (pair & np.uint64(0xFFFFFFFF)).astype(np.int64), count
