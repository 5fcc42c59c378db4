"""One day of packets -> the bipartite graph of sending hosts and darknet ports (paper sections 2 and 3.1).

    V_A     hosts        (n_hosts,) sending addresses with at least `min_packets` packets that day, ascending
    V_B     ports        (n_ports,) the day's `top_ports` busiest ports, ascending, then OTHER for all the rest
    E       edge_host, edge_port, weight   (E,) host v_A sent `weight` packets to port v_B; sorted by (host, port)
    N       n_hosts + n_ports nodes, numbered hosts first, then ports
    A       (N, N) symmetric packet counts,   A_hat = D^-1 (A + I),   D = row sums of A + I

`build_graph` goes in four steps, each a function: which hosts are active, how many packets each port got, which ports
are nodes, which edges that makes. Imports numpy, scipy and torch only.
"""

import warnings
from typing import NamedTuple

import numpy as np
import scipy  # which loads scipy.sparse where it is first used
import torch

OTHER = 65536  # the port node that stands for every port outside the day's busiest


class BipartiteGraph(NamedTuple):
    """One day's graph, see the file's header."""
    hosts: np.ndarray      # (n_hosts,) uint32  IPv4 addresses, ascending
    ports: np.ndarray      # (n_ports,) int32   port numbers, ascending; OTHER, if present, is last
    edge_host: np.ndarray  # (E,) int64         index into hosts, ascending
    edge_port: np.ndarray  # (E,) int64         index into ports, ascending within a host
    weight: np.ndarray     # (E,) int64         packets of the edge, >= 1


def build_graph(src, port, min_packets=5, top_ports=2500, packets=None):
    """The day's graph, and the order that sorts its packets by edge (paper 2, 3, 3.1).

    Hosts with fewer than `min_packets` packets are dropped first (the released code drops those with 5 too); of what is
    left, the `top_ports` ports with the most packets are nodes of their own (ties: the lower port), and all others fold
    into OTHER.

    src (n,) unsigned addresses and port (n,) integers in [0, OTHER], one entry per packet, in any order; with packets
    (n,) in [1, 2^32) an entry stands for so many. Returns (BipartiteGraph, order): order (n_kept,) int64 lists the
    entries that are kept, edge by edge, in their given order within an edge.
    Raises ValueError for unequal lengths, columns that are no integers or out of range, top_ports < 1.
    """
    src, port, packets = checked_columns(src, port, packets)
    hosts, host, order = active_hosts(src, min_packets, packets)
    port, packets = port[order], None if packets is None else packets[order]
    ports, node = top_port_nodes(packets_per_port(port, packets), top_ports)
    edge_host, edge_port, weight, by_edge = edges_of(host, node[port], len(ports), packets)
    return BipartiteGraph(hosts, ports, edge_host, edge_port, weight), order[by_edge]


def checked_columns(src, port, packets=None):
    """The three columns as arrays. Raises the errors that `build_graph` names."""
    src, port = np.asarray(src), np.asarray(port)
    if src.shape != port.shape or src.ndim != 1:
        raise ValueError(f"expected one source and one port per packet, got shapes {src.shape} and {port.shape}")
    columns = [("sources", src, 0, (1 << 32) - 1), ("ports", port, 0, OTHER)]
    if packets is not None:
        packets = np.asarray(packets)
        columns.append(("packets", packets, 1, (1 << 32) - 1))  # no sum of int64 overflows
        if packets.shape != src.shape:
            raise ValueError(f"expected the packets of each of {len(src)} entries, got shape {packets.shape}")
    for name, column, least, most in columns:
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
        if len(column) and not (column.min() >= least and column.max() <= most):
            raise ValueError(f"{name} must lie in [{least}, {most}], got {column.min()}..{column.max()}")
    return src, port, packets if packets is None else packets.astype(np.int64)


def active_hosts(src, min_packets, packets=None):
    """The hosts with `min_packets` packets or more (paper 3): (hosts, host, order).

    hosts (n_hosts,) uint32 ascending; order (n_kept,) int64 lists their entries, host by host; host (n_kept,) int64 is
    the place in `hosts` of each of these.
    """
    by_host, order = stable_sort(src, 1 << 32)
    start = run_starts(by_host)
    entries = np.diff(np.append(start, len(by_host)))       # (hosts before the filter,)
    sent = entries if packets is None else np.add.reduceat(packets[order], start) if len(start) else entries
    active = sent >= min_packets
    hosts = by_host[start][active].astype(np.uint32)
    return hosts, np.repeat(np.arange(len(hosts)), entries[active]), order[np.repeat(active, entries)]


def packets_per_port(port, packets=None):
    """How many packets each port got that day: (OTHER + 1,) int64."""
    if packets is None:
        return np.bincount(port, minlength=OTHER + 1)
    total = np.zeros(OTHER + 1, np.int64)
    np.add.at(total, port, packets)                         # in whole numbers; bincount's weights are floats
    return total


def top_port_nodes(packets, top_ports):
    """The port nodes of a day, from `packets` (OTHER + 1,), the day's packet count of every port (paper 3.1).

    Returns (ports, node): ports (n_ports,) int32 as in BipartiteGraph; node (OTHER + 1,) int64 maps a port to its
    index in ports (meaningless for ports without packets). Raises ValueError for top_ports < 1.
    """
    if top_ports < 1:
        raise ValueError(f"expected top_ports of 1 or more, got {top_ports}")
    busiest = np.argsort(-packets[:OTHER], kind="stable")[:top_ports]  # stable: ties go to the lower port
    top = np.sort(busiest[packets[busiest] > 0]).astype(np.int32)
    has_other = packets.sum() > packets[top].sum()
    ports = np.append(top, np.int32(OTHER)) if has_other else top
    node = np.full(OTHER + 1, len(top))
    node[top] = np.arange(len(top))
    return ports, node


def edges_of(host, port, n_ports, packets=None):
    """The distinct pairs of a host and a port, and their packets: (edge_host, edge_port, weight, order).

    host (n,) ascending and port (n,) in [0, n_ports): the nodes of each entry. The three are (E,) int64; order (n,)
    int64 lists the entries edge by edge.
    """
    n_ports = max(1, n_ports)
    n_hosts = int(host[-1]) + 1 if len(host) else 1
    pair, order = stable_sort(host * n_ports + port, n_hosts * n_ports)
    start = run_starts(pair)
    edge_host, edge_port = np.divmod(pair[start], n_ports)
    if packets is None or not len(start):
        return edge_host, edge_port, np.diff(np.append(start, len(pair))), order
    return edge_host, edge_port, np.add.reduceat(packets[order], start), order


def stable_sort(key, bound):
    """(key[order], order) with order = np.argsort(key, kind="stable"), for integers 0 <= key < bound.

    Key and position are packed into one integer and sorted as plain values, which numpy does several times faster
    than an argsort, and both are read off the result. A key too wide for that is argsorted.
    """
    bits = max(1, len(key) - 1).bit_length()
    if (bound - 1).bit_length() + bits > 64:
        order = np.argsort(key, kind="stable")
        return key[order], order
    packed = key.astype(np.uint64)
    packed <<= np.uint64(bits)
    for i in range(0, len(key), 1 << 16):                   # positions are made in the cache
        packed[i : i + (1 << 16)] |= np.arange(i, min(i + (1 << 16), len(key)), dtype=np.uint64)
    packed.sort()
    key = (packed >> np.uint64(bits)).view(np.int64)
    packed &= np.uint64((1 << bits) - 1)
    return key, packed.view(np.int64)


def run_starts(ordered):
    """First index of each run of equal values in a sorted array (n,) -> (runs,) int64."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


def normalized_adjacency(graph):
    """A_hat = D^-1 (A + I): the weights of a node's edges and of its self-loop sum to 1 (paper 2).

    Returns a scipy CSR matrix (N, N) float32; `as_torch` makes a tensor of it.
    """
    A = with_self_loops(graph)
    D = np.asarray(A.sum(axis=1)).ravel()                   # (N,) row sums
    return divided_rows(A, D)


def with_self_loops(graph):
    """A + I as a scipy CSR matrix (N, N) float64, hosts first, then ports."""
    n = len(graph.hosts) + len(graph.ports)
    u, v, w = graph.edge_host, len(graph.hosts) + graph.edge_port, graph.weight
    loop = np.arange(n)
    entries = np.concatenate([w, w, np.ones(n)]), (np.concatenate([u, v, loop]), np.concatenate([v, u, loop]))
    return scipy.sparse.coo_matrix(entries, shape=(n, n), dtype=np.float64).tocsr()


def divided_rows(A, D):
    """D^-1 A as CSR float32, for CSR A (N, N) and D (N,) the divisor of each row."""
    A.data /= np.repeat(D, np.diff(A.indptr))
    return A.astype(np.float32)


def as_torch(matrix, device="cpu"):
    """A scipy CSR matrix as a torch.sparse CSR tensor; int32 indices, with which products are fastest on a CPU."""
    parts = [torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(*parts, size=matrix.shape, device=device, check_invariants=False)


def node_positions(earlier, later):
    """Where each node of graph `later` stands in graph `earlier`: (N_later,) int64 node numbers, -1 if absent."""
    def find(keys, wanted, first):
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        return np.where(keys[at] == wanted, at + first, -1) if len(keys) else np.full(len(wanted), -1)
    return np.concatenate([find(earlier.hosts, later.hosts, 0),
                           find(earlier.ports, later.ports, len(earlier.hosts))])


def count_non_edges(n_hosts, n_ports, n_edges):
    """(host, port) pairs that are no edge of the day: what negatives may be drawn from."""
    return int(n_hosts) * int(n_ports) - n_edges            # Python's integers: no overflow


def sample_negatives(edge_host, edge_port, n_hosts, n_ports, n, generator):
    """`n` negative edges: pairs of V_A x V_B, none an edge (paper 2), drawn uniformly and all distinct (ours).

    Non-edges are numbered 0, 1, ... in order of (host, port), and distinct numbers are drawn. Edge i, in that order,
    has code_i - i non-edges before it; so the non-edge of number r has the code r + #{i : code_i - i <= r}.

    edge_host, edge_port (E,) int64 tensors sorted by (host, port). Returns (host, port), two (m,) int64 tensors on
    the edges' device in random order; m = n, or all non-edges where fewer than n exist.
    Raises ValueError for n < 0.
    """
    if n < 0:
        raise ValueError(f"expected 0 negatives or more, got {n}")
    free, n_ports = count_non_edges(n_hosts, n_ports, len(edge_host)), max(1, int(n_ports))
    code = edge_host.long() * n_ports + edge_port           # (E,) ascending
    before = code - torch.arange(len(code), device=code.device)
    number = distinct_numbers(n, free, generator, code.device)
    code = number + torch.searchsorted(before, number, right=True)
    return code // n_ports, code % n_ports


def distinct_numbers(n, bound, generator, device):
    """`n` distinct numbers of 0..bound-1 in random order, or all of them if there are no more: (m,) int64.

    More are drawn with replacement than needed, and the first n that repeat no earlier draw are taken. Repeats are
    about Poisson(n^2 / 2 bound), 1.6 times that with the repeats among the draws added for them; more than the
    margin of 8 standard deviations has a probability below 1e-13.
    """
    if 4 * n >= bound:
        return torch.randperm(bound, generator=generator, device=device)[:n]
    repeats = n * n / (2 * bound)
    drawn = torch.randint(bound, (n + int(1.6 * repeats + 8 * repeats**0.5) + 32,), generator=generator, device=device)
    ordered, at = drawn.sort(stable=True)                   # equal draws side by side, the earliest first
    again = torch.zeros(len(drawn), dtype=torch.uint8, device=device)
    again[at[1:]] = (ordered[1:] == ordered[:-1]).to(torch.uint8)
    return drawn[again.argsort(stable=True)[:n]]
