"""One day of packets -> the bipartite graph of sending hosts and darknet ports (paper sections 2 and 3.1).

    V_A     hosts        (n_hosts,) sending addresses with at least `min_packets` packets that day, ascending
    V_B     ports        (n_ports,) the day's `top_ports` busiest ports, ascending, then OTHER for all the rest
    E       edge_host, edge_port, weight   (E,) host v_A sent `weight` packets to port v_B; sorted by (host, port)
    N       n_hosts + n_ports nodes, numbered hosts first, then ports
    A       (N, N) symmetric packet counts,   A_hat = D^-1 (A + I),   D = row sums of A + I

An edge belongs to its host: edges are sorted by host, a host's edges are contiguous, and hosts never touch each
other. Imports numpy, scipy and torch only.
"""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

OTHER = 65536  # the port node that stands for every port outside the day's busiest


class BipartiteGraph(NamedTuple):
    hosts: np.ndarray      # (n_hosts,) uint32  IPv4 addresses, ascending
    ports: np.ndarray      # (n_ports,) int32   port numbers, ascending; OTHER, if present, is last
    edge_host: np.ndarray  # (E,) int64         index into hosts, ascending
    edge_port: np.ndarray  # (E,) int64         index into ports, ascending within a host
    weight: np.ndarray     # (E,) int64         packets of the edge, >= 1


def same(x):
    return x


def build_graph(src, port, min_packets=5, top_ports=2500, packets=None, total=same):
    """The day's graph and the order that sorts its packets by edge (paper 2, 3, 3.1).

    Hosts with fewer than `min_packets` packets are dropped first; of what is left, the `top_ports` ports with the
    most packets are nodes of their own (ties: the lower port) and all others fold into OTHER.

    src (n,) unsigned addresses and port (n,) integers in [0, OTHER], one entry per packet, any order.
    Returns (BipartiteGraph, order): order (n_kept,) int64 lists the kept packets edge by edge, in their given
    order within an edge, so `column[order]` splits into runs of length `weight`.
    With packets (n,) int64 an entry stands for so many packets, and order lists entries. total(packets of each port)
    sums them over the processes among which the day's hosts are shared out; ports are then those of all shares.
    Raises ValueError for unequal lengths, sources, ports or packets that are no integers or out of range,
    top_ports < 1.
    """
    src, port = np.asarray(src), np.asarray(port)
    if src.shape != port.shape or src.ndim != 1:
        raise ValueError(f"expected one source and one port per packet, got shapes {src.shape} and {port.shape}")
    columns = [("sources", src, (1 << 32) - 1), ("ports", port, OTHER)]
    if packets is not None:
        packets = np.asarray(packets)
        columns.append(("packets", packets, (1 << 63) - 1))
        if packets.shape != src.shape:
            raise ValueError(f"expected the packets of each of {len(src)} entries, got shape {packets.shape}")
    for name, column, most in columns:
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
        if len(column) and not (column.min() >= 0 and column.max() <= most):
            raise ValueError(f"{name} must lie in [0, {most}], got {column.min()}..{column.max()}")
    if top_ports < 1:
        raise ValueError(f"expected top_ports of 1 or more, got {top_ports}")

    by_host, order = stable_sort(src, 1 << 32)              # packets by host
    start = run_starts(by_host)
    length = np.diff(np.append(start, len(by_host)))        # (hosts before the filter,)
    active = (length if packets is None else np.add.reduceat(packets[order], start)) >= min_packets
    hosts = by_host[start][active].astype(np.uint32)
    order = order[np.repeat(active, length)]
    host = np.repeat(np.arange(len(hosts)), length[active])  # (n_kept,) ascending

    port = port[order]
    per_port = np.bincount(port, None if packets is None else packets[order], OTHER + 1).astype(np.int64)
    ports, node = top_port_nodes(total(per_port), top_ports)
    pair = host * len(ports) + node[port]                   # (n_kept,) one integer per (host, port)
    pair, by_edge = stable_sort(pair, max(1, len(hosts) * len(ports)))
    order = order[by_edge]
    start = run_starts(pair)
    edge_host, edge_port = np.divmod(pair[start], max(1, len(ports)))
    weight = np.diff(np.append(start, len(pair))) if packets is None else np.add.reduceat(packets[order], start)
    return BipartiteGraph(hosts, ports, edge_host, edge_port, weight), order


def top_port_nodes(packets, top_ports):
    """The port nodes of a day, from `packets` (OTHER + 1,), the day's packet count of every port (paper 3.1).

    Returns (ports, node): ports (n_ports,) int32 as in BipartiteGraph; node (OTHER + 1,) int64 maps a port to its
    index in ports (meaningless for ports without packets).
    """
    busiest = np.argsort(-packets[:OTHER], kind="stable")[:top_ports]  # stable: ties go to the lower port
    top = np.sort(busiest[packets[busiest] > 0]).astype(np.int32)
    has_other = packets.sum() > packets[top].sum()
    ports = np.append(top, np.int32(OTHER)) if has_other else top
    node = np.full(OTHER + 1, len(top))
    node[top] = np.arange(len(top))
    return ports, node


def stable_sort(key, bound):
    """(key[order], order) with order = np.argsort(key, kind="stable"), for integers 0 <= key < bound.

    Key and position are packed into one integer and sorted as plain values, which numpy does several times faster
    than an argsort, and both are read off the result: no random access. A key too wide for that is argsorted.
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


def normalized_adjacency(graph, port_loop=1, total=same):
    """A_hat = D^-1 (A + I), row-normalized: the weights of a node's edges and its self-loop sum to 1 (paper 2).

    Where the day's hosts are shared out among processes and its ports are common to all, graph is one share: a port's
    row then holds this share's hosts and is normalized by total(its row sum), that of all shares; port_loop is 1 in
    one of them and 0 in the others, so that the shares' rows of a port add up to its row.
    Returns a scipy CSR matrix (N, N) float32 with int32 indices; `as_torch` makes the tensors of it.
    """
    n_hosts, n = len(graph.hosts), len(graph.hosts) + len(graph.ports)
    u, v, w = graph.edge_host, n_hosts + graph.edge_port, graph.weight
    loop = np.arange(n)
    one = np.where(loop < n_hosts, 1, port_loop)
    A_I = scipy.sparse.coo_matrix(                          # A + I
        (np.concatenate([w, w, one]), (np.concatenate([u, v, loop]), np.concatenate([v, u, loop]))),
        shape=(n, n), dtype=np.float64).tocsr()
    D = np.asarray(A_I.sum(axis=1)).ravel()                 # (N,) row sums
    D[n_hosts:] = total(D[n_hosts:])
    A_I.data /= np.repeat(D, np.diff(A_I.indptr))
    return A_I.astype(np.float32)


def node_positions(earlier, later):
    """Where each node of graph `later` stands in graph `earlier`: (N_later,) int64 node numbers, -1 if absent."""
    def find(keys, wanted, first):
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        return np.where(keys[at] == wanted, at + first, -1) if len(keys) else np.full(len(wanted), -1)
    return np.concatenate([find(earlier.hosts, later.hosts, 0),
                           find(earlier.ports, later.ports, len(earlier.hosts))])


def rows_for(A_hat, position, n_absent=1, loop=1):
    """The rows of A_hat wanted on a later day: what a GCN layer needs of day s for the nodes of day t.

    position (N_t,) as from node_positions. A node present on day s gets its row of A_hat; an absent one has only
    its self-loop on day s, weight 1, whose column stands after the N_s others: all absent nodes share one such
    column (n_absent=1: without activity their features are all zero, so they are all alike), or each has its own
    in order (n_absent = number of absent nodes). loop, a number or (N_t,): that weight, 0 where another process has
    the self-loop. Returns scipy CSR (N_t, N_s + n_absent) float32.
    """
    absent = position < 0
    if n_absent not in (1, absent.sum()):
        raise ValueError(f"expected n_absent of 1 or {absent.sum()} (one column per absent node), got {n_absent}")
    start = A_hat.indptr[position]                          # (N_t,); of an absent node, position -1, the entry
    length = np.append(np.diff(A_hat.indptr), 1)[position]  # that is appended, and then overwritten
    indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    take = np.repeat(start - indptr[:-1], length) + np.arange(indptr[-1])
    indices, data = np.append(A_hat.indices, np.int32(0))[take], np.append(A_hat.data, np.float32(1))[take]
    own = np.arange(absent.sum()) if n_absent > 1 else 0
    indices[indptr[:-1][absent]] = A_hat.shape[1] + own
    data[indptr[:-1][absent]] = np.broadcast_to(loop, absent.shape)[absent]
    return scipy.sparse.csr_matrix((data, indices, indptr), shape=(len(position), A_hat.shape[1] + n_absent))


def twins(graph, x):
    """The first node like each node: (N,) int64. Twins are leaves (one neighbour) of the same node by edges of the same
    weight, whose rows of x (N, d) float32 are equal; every other node is like itself alone.

    With x the node features or A_hat x, every layer of a GCN gives twins the same row. Most of the ports that one
    scanner tries and nobody else are twins.
    """
    n_hosts, twin = len(graph.hosts), np.arange(len(x))
    u, v = graph.edge_host, n_hosts + graph.edge_port
    for node, neighbour in ((u, v), (v, u)):
        leaf = np.bincount(node, minlength=len(x))[node] == 1  # edges at a leaf
        node, neighbour, weight = node[leaf], neighbour[leaf], graph.weight[leaf]
        alike = np.column_stack([neighbour, weight, np.ascontiguousarray(x[node]).view(np.int32)])  # bit by bit
        mixed = alike @ np.random.default_rng(0).integers(-1 << 63, 1 << 63, alike.shape[1])  # a hash of each row
        _, first, of = np.unique(mixed, return_index=True, return_inverse=True)
        equal = (alike == alike[first][of]).all(1)          # rows that share a sum by chance stay alone
        twin[node[equal]] = node[first][of][equal]
    return twin


def add_columns(matrix, twin):
    """A CSR matrix with every column added to that of its twin (columns,): M z = add_columns(M) z for z whose rows of
    twins are equal."""
    parts = matrix.data, twin[matrix.indices].astype(np.int32), matrix.indptr
    added = scipy.sparse.csr_matrix(parts, matrix.shape, copy=True)
    added.sum_duplicates()                                  # in place
    return added


def without_empty_columns(matrix, worth=0.8):
    """A CSR matrix without its empty columns, and the numbers of the others: (matrix, used (columns,) int64).

    Nodes of an earlier day that no wanted row touches need no hidden layer: most of them, where few nodes stay from
    day to day. (matrix itself, None) where more than the share `worth` of the columns is used.
    """
    touched = np.zeros(matrix.shape[1], bool)
    touched[matrix.indices] = True
    used = np.flatnonzero(touched)
    if len(used) > worth * len(touched):
        return matrix, None
    number = (np.cumsum(touched) - 1).astype(np.int32)
    parts = matrix.data, number[matrix.indices], matrix.indptr
    return scipy.sparse.csr_matrix(parts, (matrix.shape[0], len(used))), used


def as_torch(matrix, device="cpu"):
    """(A, A_T): a scipy CSR matrix and its transpose as torch.sparse CSR tensors.

    Both are kept because a product's gradient multiplies by the transpose; int32 indices because they are two to
    three times faster than int64 ones on CPU.
    """
    def tensor(csr):
        parts = [torch.from_numpy(part) for part in (csr.indptr, csr.indices, csr.data)]
        return torch.sparse_csr_tensor(*parts, size=csr.shape, device=device, check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return tensor(matrix), tensor(matrix.T.tocsr())


def count_non_edges(n_hosts, n_ports, n_edges):
    """(host, port) pairs that are no edge of the day: what negatives may be drawn from."""
    return n_hosts * n_ports - n_edges


def sample_negatives(edge_host, edge_port, n_hosts, n_ports, n, generator):
    """`n` negative edges: pairs drawn uniformly from V_A x V_B, all distinct, none an edge (paper section 2).

    More pairs than needed are drawn with replacement; edges and repeats among the first n are replaced by the
    surplus. That treats all non-edges alike: every ordered n distinct ones are equally likely. Pairs are compared as
    numbers (code = host * n_ports + port), edges and draws sorted together: equal ones then are neighbours. Where n
    is a good part of all non-edges, these are shuffled instead.

    edge_host, edge_port (E,) int64 tensors sorted by (host, port). Returns (host, port), two (m,) int64 tensors on
    the edges' device in random order; m = n, or all non-edges where fewer than n exist. No host synchronization.
    Raises ValueError for n < 0, and where pairs and draws do not fit into 63 bits together.
    """
    if n < 0:
        raise ValueError(f"expected 0 negatives or more, got {n}")
    n_hosts, n_ports = int(n_hosts), int(n_ports)           # numpy's own numbers would overflow
    free, pairs = count_non_edges(n_hosts, n_ports, len(edge_host)), n_hosts * n_ports
    if 4 * n >= free:
        return _shuffled_non_edges(edge_host * n_ports + edge_port, n_ports, n, free, generator)
    m, device = _enough_draws(n, free, pairs), edge_host.device
    host = torch.randint(n_hosts, (m,), generator=generator, device=device)
    port = torch.randint(n_ports, (m,), generator=generator, device=device)
    shift = 1 << m.bit_length()
    if pairs * shift >= 1 << 63:
        raise ValueError(f"expected fewer hosts, ports and negatives, got {n_hosts} x {n_ports} and {n}")
    key = torch.empty(len(edge_host) + m, dtype=torch.int64, device=device)  # code * shift + 0: edge, i: the i-th draw
    edges, draws = key[: len(edge_host)], key[len(edge_host) :]
    torch.mul(edge_host, n_ports * shift, out=edges).add_(edge_port, alpha=shift)
    torch.arange(1, m + 1, out=draws).add_(host, alpha=n_ports * shift).add_(port, alpha=shift)
    if key.is_cuda:
        key = key.sort()[0]
        equal = (key[1:] ^ key[:-1]) < shift
        taken = torch.zeros(m + 1, dtype=torch.uint8, device=device)
        taken[key[1:] & (shift - 1)] = equal.to(torch.uint8)
        keep = taken[1:].argsort(stable=True)[:n]           # how many are taken is known to the device alone
        return host[keep], port[keep]
    key, taken = key.numpy(), []
    key.sort()                                              # in place; numpy sorts integers ten times faster than torch
    for part in (key[i : i + (1 << 16) + 1] for i in range(0, len(key), 1 << 16)):  # temporaries stay in the cache
        taken.append(part[1:][np.flatnonzero((part[1:] ^ part[:-1]) < shift)] & (shift - 1))
    taken = torch.from_numpy(np.concatenate(taken)) - 1     # draws that are an edge or were drawn before
    gap, spare = taken[taken < n], torch.ones(m - n, dtype=torch.bool)
    spare[taken[taken >= n] - n] = False
    spare = n + spare.nonzero()[: len(gap), 0]
    host[gap], port[gap] = host[spare], port[spare]
    return host[:n], port[:n]


def _enough_draws(n, free, pairs):
    """So many draws from `pairs` that n distinct ones of the `free` non-edges are certain: missed with p < 1e-13.

    Repeats are about Poisson(n^2 / 2 free), draws of an edge binomial; both with a margin of 8 standard deviations.
    """
    repeats, share = n * n / (2 * free), free / pairs
    wanted = n + 1.6 * repeats + 8 * repeats**0.5 + 32
    spread = 4 * (1 - share) ** 0.5                         # m share - 8 sqrt(m share (1 - share)) = wanted
    return int((spread + (spread**2 + wanted) ** 0.5) ** 2 / share) + 1


def _shuffled_non_edges(code, n_ports, n, free, generator):
    """The first `n` of all non-edges in random order, drawn by rank: the r-th has the code r + #{i : code_i - i <= r}.

    code (E,) int64 of the edges, ascending.
    """
    rank = torch.randperm(free, generator=generator, device=code.device)[:n]
    before = code - torch.arange(len(code), device=code.device)  # non-edges before each edge
    negative = rank + torch.searchsorted(before, rank, right=True)
    return negative // n_ports, negative % n_ports
