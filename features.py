"""The 37 features of every host and port of a day (paper Table 1).

STATS(x) = sum, minimum, maximum, average, standard deviation (sample, n - 1; 0 for a single sample).

    columns   host node                              port node
    0         contacted darknet ports                hosts contacting the port
    1-5       STATS(packets per darknet port)        STATS(packets per source host contacting the port)
    6         contacted darknet addresses            0
    7-11      STATS(packets per darknet address)     0
    12-36     STATS over the node's packets of: size, TTL, MSS, window, TCP timestamp (5 columns each)

First everything is counted, in whole numbers: `Moments` of sets of samples, which add up exactly, so that packets may
come in any order and in any number of parts and the same features result bit by bit. Then `feature_columns` makes the
columns of them, and `scale_by_maximum` what a model reads. Imports numpy only.
"""

from typing import NamedTuple

import numpy as np

FIELDS = ("length", "ttl", "mss", "window", "timestamp")  # packet columns of features 12-36, in this order
N_FEATURES = 37
LOW_32 = np.uint64(0xFFFFFFFF)
BITS_32 = np.uint64(32)
MOST_PACKETS = 1 << 48  # of one host to one port or address


class Moments(NamedTuple):
    """What STATS needs of sets of samples, exactly and so that it adds up. Sums are numbers in base 2^32, lowest digit
    first, so that no square overflows."""
    n: np.ndarray        # (sets,) int64     samples
    low: np.ndarray      # (sets,) int64     smallest and
    high: np.ndarray     # (sets,) int64     largest of them
    total: np.ndarray    # (sets, 2) int64   their sum
    squares: np.ndarray  # (sets, 3) int64   the sum of their squares


class Counts(NamedTuple):
    """A day's Moments: all that its features are made of."""
    host_ports: Moments      # of packets per contacted port, by host
    host_addresses: Moments  # of packets per contacted address, by host
    host_fields: dict        # {name in FIELDS: Moments of the field over the packets, by host}
    port_hosts: Moments      # of packets per contacting host, by port
    port_fields: dict        # {name in FIELDS: Moments of the field over the packets, by port}


def node_features(edge_host, edge_port, weight, n_hosts, n_ports, address, fields, order=None, packets=None):
    """The day's raw features x (N, 37) float64, hosts first, then ports (paper Table 1).

    edge_host, edge_port, weight (E,): the day's edges, sorted by (host, port), of weight >= 1. address (n,): the
    darknet address of each packet, unsigned 32-bit; fields: {name in FIELDS: (n,) whole numbers in [0, 2^32) per
    packet, 0 = option absent}. order (n_kept,) int64: which entries are the edges', one edge after the other, as
    graph.build_graph gives it; None where the columns are in that order. packets (n,) in [1, 2^32): how many packets
    each entry stands for; None: one. A field that is not in `fields` gives zeros in its five columns.
    Raises ValueError if order, or without it the columns, do not hold the packets of the edges, columns differ in
    length, a field's name is unknown, or values are no whole numbers in their range.
    """
    weight = np.asarray(weight, np.int64)
    columns = checked_columns(weight, address, fields, order, packets)
    if order is not None:
        columns = {name: column[order] for name, column in columns.items()}
    address, packets = columns.pop("addresses"), columns.pop("packets", None)
    entries = weight if packets is None else entries_of_edges(weight, packets)
    start = np.cumsum(entries) - entries
    per_edge = {name: moments_of_runs(column, start, packets) for name, column in columns.items()}
    contacted, _, per_address = packets_per_address(np.repeat(edge_host, entries), address, packets)
    return feature_columns(count(edge_host, edge_port, weight, n_hosts, n_ports, contacted, per_address, per_edge))


def feature_columns(counts):
    """The raw features of the day's Counts: x (N, 37) float64, hosts first, then ports (paper Table 1)."""
    n_hosts = len(counts.host_ports.n)
    x = np.zeros((n_hosts + len(counts.port_hosts.n), N_FEATURES))
    host, port = x[:n_hosts], x[n_hosts:]                   # views: the rows of hosts and of ports
    host[:, 0], host[:, 1:6] = counts.host_ports.n, stats(counts.host_ports)
    port[:, 0], port[:, 1:6] = counts.port_hosts.n, stats(counts.port_hosts)
    host[:, 6], host[:, 7:12] = counts.host_addresses.n, stats(counts.host_addresses)
    for i, name in enumerate(FIELDS):
        if name in counts.host_fields:
            columns = slice(12 + 5 * i, 17 + 5 * i)
            host[:, columns], port[:, columns] = stats(counts.host_fields[name]), stats(counts.port_fields[name])
    return x


def stats(m):
    """STATS of each set: sum, minimum, maximum, average, sample standard deviation -> (sets, 5) (paper 3.1).

    A set without samples gives zeros.
    """
    n, total, squares = m.n.astype(object), whole(m.total), whole(m.squares)  # Python's integers: no rounding
    average = total / np.maximum(n, 1)
    variance = (n * squares - total * total) / np.maximum(n * (n - 1), 1)  # = sum of (x - average)^2 / (n - 1)
    columns = [total, m.low, m.high, average, np.sqrt(variance.astype(np.float64))]
    return np.where(m.n[:, None] > 0, np.stack([column.astype(np.float64) for column in columns], 1), 0)


def whole(digits):
    """Numbers from their digits in base 2^32, (sets, digits) int64 -> (sets,) of Python's integers."""
    return sum((digits[:, i].astype(object) * (1 << 32 * i) for i in range(digits.shape[1])), 0)


def scale_by_maximum(x, n_hosts, maxima=None):
    """Every column divided by its maximum of the day, hosts and ports separately: (N, 37) float32 in [0, 1].

    A column whose maximum is 0 stays 0. x (N, 37), hosts first; maxima (2, 37): those of hosts and of ports where x
    holds a part of the day's nodes, else None.
    """
    maxima = maxima_of(x, n_hosts) if maxima is None else maxima
    divisor = np.where(maxima > 0, maxima, 1)
    return np.concatenate([x[:n_hosts] / divisor[0], x[n_hosts:] / divisor[1]]).astype(np.float32)


def maxima_of(x, n_hosts):
    """The maxima of each column of x (N, 37) over its hosts, the first n_hosts rows, and over its ports: (2, 37)."""
    return np.stack([x[:n_hosts].max(axis=0, initial=0), x[n_hosts:].max(axis=0, initial=0)])


# -- counting, in whole numbers ---------------------------------------------------------------------------------------

def checked_columns(weight, address, fields, order=None, packets=None):
    """The columns of `node_features` by name: "addresses", fields, "packets" if there are any. Raises its errors."""
    if unknown := set(fields) - set(FIELDS):
        raise ValueError(f"fields must be among {', '.join(FIELDS)}, got {', '.join(sorted(unknown))}")
    columns = {"addresses": address, **fields, **({} if packets is None else {"packets": packets})}
    if len(weight) and weight.min() < 1:
        raise ValueError(f"an edge's weight must be 1 packet or more, got {weight.min()}")
    n, what = len(columns["addresses"]), "address"
    if order is None and "packets" not in columns:
        n, what = int(weight.sum()), "packet of the edges"
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(f"{name} must hold one value per {what}, {n}, got {len(column)}")
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
        least = 1 if name == "packets" else 0
        if len(column) and not (column.min() >= least and column.max() < 1 << 32):
            raise ValueError(f"{name} must lie in [{least}, 2^32), got {column.min()}..{column.max()}")
    if order is not None and len(order) and not 0 <= order.min() <= order.max() < n:
        raise ValueError(f"order must hold numbers of 0..{n - 1}, got {order.min()}..{order.max()}")
    kept = n if order is None else len(order)
    if "packets" in columns:
        packets = columns["packets"] if order is None else columns["packets"][order]
        kept = int(packets.sum(dtype=np.int64))
    if kept != weight.sum():
        raise ValueError(f"the entries must hold the packets of the edges, {weight.sum()}, got {kept}")
    return columns


def entries_of_edges(weight, packets):
    """How many entries each edge has, (E,) int64: packets (n,) of the entries, edge by edge, weight (E,) their sums.

    Raises ValueError where an edge ends within an entry: the entries are then in another order than the edges.
    """
    so_far, wanted = np.cumsum(packets, dtype=np.int64), np.cumsum(weight)
    last = np.searchsorted(so_far, wanted)                  # (E,) the entry with which each edge ends
    if not np.array_equal(so_far[last], wanted):
        raise ValueError("the entries must come edge by edge, got one whose packets would belong to two edges")
    return np.diff(last + 1, prepend=0)


def packets_per_address(host, address, packets=None):
    """Distinct (host, address) pairs and their packets: (host, address, packets), each (pairs,) int64.

    host (n,) indices and address (n,) unsigned 32-bit values, one entry per packet or, with packets (n,), per so many.
    """
    pair = host.astype(np.uint64) << BITS_32 | address.astype(np.uint32, copy=False)
    if packets is None:
        pair.sort()
    else:
        order = pair.argsort()
        pair, packets = pair[order], packets[order].astype(np.int64)
    start = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])[: len(pair)])
    if packets is None or not len(start):
        packets = np.diff(np.append(start, len(pair)))
    else:
        packets = np.add.reduceat(packets, start)
    pair = pair[start]
    return (pair >> BITS_32).astype(np.int64), (pair & LOW_32).astype(np.int64), packets


def count(edge_host, edge_port, weight, n_hosts, n_ports, contacted, per_address, fields, host_of=None, port_of=None):
    """The day's Counts.

    contacted, per_address (pairs,): the host and the packets of each distinct pair of a host and a darknet address.
    fields: {name: Moments (m,) of the field over parts of the packets}; host_of, port_of (m,): host and port of each
    part. None: part i has the packets of edge i.
    """
    host_of, port_of = edge_host if host_of is None else host_of, edge_port if port_of is None else port_of
    edges = moments_of_counts(weight)
    return Counts(
        merge(edges, edge_host, n_hosts),
        merge(moments_of_counts(per_address), contacted, n_hosts),
        {name: merge(parts, host_of, n_hosts) for name, parts in fields.items()},
        merge(edges, edge_port, n_ports),
        {name: merge(parts, port_of, n_ports) for name, parts in fields.items()})


def moments_of_runs(x, start, packets=None):
    """Moments of consecutive runs of x (n,), whole numbers in [0, 2^32); a run begins at each of start (runs,).

    packets (n,) in [1, 2^32): how many samples each entry of x stands for; None: one.
    """
    x = x.astype(np.uint64)
    square = x * x                                          # below 2^64
    total, squares = [x], [square & LOW_32, square >> BITS_32]
    n = np.diff(np.append(start, len(x)))
    if packets is not None:
        packets = packets.astype(np.uint64)
        n = np.add.reduceat(packets, start).astype(np.int64) if len(start) else n
        total, squares = digits_of_products(total, packets), digits_of_products(squares, packets)
    smallest, largest = np.zeros_like(n), np.zeros_like(n)
    sums = np.zeros((2, len(n)), np.int64), np.zeros((3, len(n)), np.int64)
    if len(start):
        smallest[:], largest[:] = np.minimum.reduceat(x, start), np.maximum.reduceat(x, start)
        for into, digits in zip(sums, (total, squares)):
            for i, digit in enumerate(digits):
                into[i] = np.add.reduceat(digit, start)
    return Moments(n, smallest, largest, sums[0].T, sums[1].T)


def digits_of_products(digits, packets):
    """The digits of a number in base 2^32, each below 2^32, multiplied by packets (n,) below 2^32: one digit more."""
    products = [digit * packets for digit in digits]        # below 2^64
    low, high = [p & LOW_32 for p in products], [p >> BITS_32 for p in products]
    return [low[0], *(a + b for a, b in zip(low[1:], high)), high[-1]]


def moments_of_counts(x):
    """Moments of sets of one sample each, x (sets,) packets in [0, MOST_PACKETS)."""
    if len(x) and x.max() >= MOST_PACKETS:
        raise ValueError(f"a host's packets to one port or address must be fewer than 2^48, got {x.max()}")
    x = x.astype(np.uint64)
    low, high = x & LOW_32, x >> BITS_32                    # x^2 = low^2 + 2 low high 2^32 + high^2 2^64
    square, mixed = low * low, np.uint64(2) * low * high
    squares = [square & LOW_32, (square >> BITS_32) + (mixed & LOW_32), (mixed >> BITS_32) + high * high]
    x = x.astype(np.int64)
    return Moments(np.ones_like(x), x, x, np.stack([low, high]).astype(np.int64).T,
                   np.stack(squares).astype(np.int64).T)


def merge(parts, group, n_groups):
    """Moments of unions: set i of `parts` goes into group[i] in [0, n_groups)."""
    most, least = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    n, low, high = np.zeros(n_groups, np.int64), np.full(n_groups, most), np.full(n_groups, least)
    np.add.at(n, group, parts.n)
    np.minimum.at(low, group, parts.low)
    np.maximum.at(high, group, parts.high)
    total, squares = np.zeros((2, n_groups), np.int64), np.zeros((3, n_groups), np.int64)
    for sums, digits in ((total, parts.total), (squares, parts.squares)):
        for into, digit in zip(sums, digits.T):
            if digit.any():                                 # the highest are 0, but for counts and rows of many packets
                np.add.at(into, group, digit)
    return Moments(n, low, high, total.T, squares.T)
