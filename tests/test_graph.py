from collections import Counter

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
import torch

import graph as graphs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def random_packets(seed, n=400, hosts=15, ports=12):
    rng = np.random.default_rng(seed)
    src = rng.choice(rng.integers(0, 2**32, hosts, dtype=np.uint64).astype(np.uint32), n)
    return src, (rng.zipf(1.5, n) % ports * 1000 + 7).astype(np.int32)


def dense(csr):
    return torch.as_tensor(csr.toarray()).double()


def dense_A(graph):
    n = len(graph.hosts) + len(graph.ports)
    A = np.zeros((n, n))
    v = len(graph.hosts) + graph.edge_port
    A[graph.edge_host, v] = A[v, graph.edge_host] = graph.weight
    return A


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_ports", [1, 3, 100])
def test_graph_is_that_of_a_plain_count(seed, top_ports):
    """Hosts, ports, edges, weights equal a count by dictionaries: host filter first, then ports, ties lower first."""
    src, port = random_packets(seed)
    per_host = Counter(src.tolist())
    kept = [(s, p) for s, p in zip(src.tolist(), port.tolist()) if per_host[s] >= 20]
    per_port = Counter(p for _, p in kept)
    top = sorted(sorted(per_port), key=lambda p: -per_port[p])[:top_ports]
    edges = Counter((s, p if p in top else graphs.OTHER) for s, p in kept)

    graph, order = graphs.build_graph(src, port, min_packets=20, top_ports=top_ports)
    assert graph.hosts.tolist() == sorted(h for h, n in per_host.items() if n >= 20)
    assert graph.ports.tolist() == sorted(top) + [graphs.OTHER] * (len(per_port) > top_ports)
    found = zip(graph.hosts[graph.edge_host].tolist(), graph.ports[graph.edge_port].tolist(), graph.weight.tolist())
    assert list(found) == [(*pair, n) for pair, n in sorted(edges.items())]

    assert len(order) == len(kept) == graph.weight.sum()
    edge = np.repeat(np.arange(len(graph.weight)), graph.weight)
    assert (src[order] == graph.hosts[graph.edge_host[edge]]).all()
    assert (np.diff(order)[np.diff(edge) == 0] > 0).all(), "packets of an edge keep their order"


def test_equally_busy_ports_go_to_the_lower_number():
    """Of ports with equally many packets the lower ones become nodes, the rest fold into OTHER."""
    port = np.repeat([443, 22, 80, 23], 5).astype(np.int32)
    graph, _ = graphs.build_graph(np.ones(20, np.uint32), port, top_ports=2)
    assert graph.ports.tolist() == [22, 23, graphs.OTHER]
    assert graph.weight.tolist() == [5, 5, 10]


def test_ports_the_trace_folded_are_never_a_top_port():
    """OTHER in the input joins the other node, however busy it is."""
    port = np.array([graphs.OTHER] * 50 + [22] * 3 + [23] * 2, np.int32)
    graph, _ = graphs.build_graph(np.ones(55, np.uint32), port, top_ports=1)
    assert graph.ports.tolist() == [22, graphs.OTHER]
    assert graph.weight.tolist() == [3, 52]


def test_at_least_five_packets_keep_a_host():
    """Four packets a day drop a host, five keep it (paper 3: fewer than 5 are removed)."""
    src = np.array([1] * 4 + [2] * 5, np.uint32)
    graph, order = graphs.build_graph(src, np.full(9, 80, np.int32))
    assert graph.hosts.tolist() == [2] and order.tolist() == [4, 5, 6, 7, 8]


def test_no_packets_give_an_empty_graph():
    """A day without packets, or without a host over the threshold, is a graph of nothing rather than an error."""
    for src, port in ((np.empty(0, np.uint32), np.empty(0, np.int32)), (np.array([1], np.uint32), np.array([2], int))):
        graph, order = graphs.build_graph(src, port)
        assert [len(part) for part in graph] == [0] * 5 and len(order) == 0


@pytest.mark.parametrize("src, port, top_ports, expected", [
    (1, -1, 5, r"ports must lie in \[0, 65536\], got -1..-1"), (1, 65537, 5, r"ports must lie in \[0, 65536\]"),
    (1, 2.0, 5, r"ports must be integers, got float64"), (1 << 32, 2, 5, r"sources must lie in \[0, 4294967295\]"),
    (-1, 2, 5, r"sources must lie in"), (1, 2, 0, r"top_ports of 1 or more, got 0"),
])
def test_values_out_of_range_are_refused(src, port, top_ports, expected):
    """A port, a source or a number of top ports that makes no sense is a ValueError that says what was expected."""
    with pytest.raises(ValueError, match=expected):
        graphs.build_graph(np.array([src]), np.array([port]), top_ports=top_ports)


def test_packets_that_do_not_fit_the_entries_are_refused():
    """Numbers of packets are one per entry, whole and not negative; negatives wanted are 0 or more."""
    for packets, expected in ((np.ones(2, int), "of each of 3 entries"), (np.ones(4, int), "of each of 3 entries"),
                              (np.array([5, -1, 9]), "packets must lie in"), (np.ones(3), "packets must be integers")):
        with pytest.raises(ValueError, match=expected):
            graphs.build_graph(np.arange(3), np.arange(3), packets=packets)
    edge = torch.tensor([0])
    with pytest.raises(ValueError, match="expected 0 negatives or more, got -3"):
        graphs.sample_negatives(edge, edge, 10, 10, -3, torch.Generator())


def test_stable_sort_is_a_stable_argsort():
    """Packed or not, over several blocks, the order is numpy's stable argsort, and the keys are in that order."""
    rng = np.random.default_rng(0)
    key = rng.integers(0, 50, 150_000)
    for bound in (50, 1 << 62):
        ordered, order = graphs.stable_sort(key, bound)
        assert (order == np.argsort(key, kind="stable")).all() and (ordered == key[order]).all()
    ordered, order = graphs.stable_sort(np.array([2**32 - 1, 0], np.uint32), 1 << 32)
    assert order.tolist() == [1, 0] and ordered.tolist() == [0, 2**32 - 1]


@pytest.mark.parametrize("seed", range(3))
def test_A_hat_is_the_dense_form(seed):
    """A_hat equals D^-1 (A + I) written out densely, and its rows sum to 1."""
    graph, _ = graphs.build_graph(*random_packets(seed))
    A_I = dense_A(graph) + np.eye(len(graph.hosts) + len(graph.ports))
    A_hat = graphs.normalized_adjacency(graph)
    assert np.allclose(A_hat.toarray(), A_I / A_I.sum(1, keepdims=True), atol=1e-7)
    assert np.allclose(A_hat.sum(1), 1, atol=1e-6)
    A, A_T = graphs.as_torch(A_hat)
    assert A.layout == torch.sparse_csr and A.crow_indices().dtype == torch.int32
    assert (A_T.to_dense() == A.to_dense().T).all()


def test_rows_for_select_and_fill():
    """Rows of A_hat in the later day's order; an absent node gets weight 1 in the extra column, alone or shared."""
    first, _ = graphs.build_graph(*random_packets(1))
    later, _ = graphs.build_graph(*random_packets(2, hosts=20))
    mixed = later._replace(hosts=np.union1d(later.hosts[::2], first.hosts[::3]))
    position = graphs.node_positions(first, mixed)
    nodes = [*first.hosts.tolist(), *(-1 - first.ports).tolist()]
    wanted = [*mixed.hosts.tolist(), *(-1 - mixed.ports).tolist()]
    assert position.tolist() == [nodes.index(v) if v in nodes else -1 for v in wanted]
    assert (position < 0).sum() > 1 and (position >= 0).sum() > 1

    A_hat = graphs.normalized_adjacency(first)
    A = A_hat.toarray()
    shared = graphs.rows_for(A_hat, position).toarray()
    own = graphs.rows_for(A_hat, position, int((position < 0).sum())).toarray()
    absent = 0
    for i, at in enumerate(position):
        if at >= 0:
            assert (shared[i, :-1] == A[at]).all() and shared[i, -1] == 0
            assert (own[i, : len(A)] == A[at]).all() and not own[i, len(A) :].any()
        else:
            assert shared[i, -1] == 1 and not shared[i, :-1].any()
            assert own[i, len(A) + absent] == 1 and own[i].sum() == 1
            absent += 1


def test_twins_are_leaves_alike():
    """Twins are exactly the pairs of nodes with one neighbour, the same, equal weights and equal features."""
    rng = np.random.default_rng(0)
    src = np.concatenate([rng.choice([3, 5, 8], 60), np.repeat([3, 5], 30), np.repeat([20, 21, 22, 23], 6)])
    port = np.concatenate([rng.choice([22, 80, 443], 60), 1000 + np.arange(60) // 2, np.full(24, 22)])
    port[60 + 50 :] = np.concatenate([[2000] * 6, port[60 + 56 :]])  # one with a weight of its own
    graph, _ = graphs.build_graph(src.astype(np.uint32), port)
    n_hosts, A = len(graph.hosts), dense_A(graph)
    x = rng.integers(0, 2, (len(A), 1)).repeat(3, 1).astype(np.float32)
    twin = graphs.twins(graph, x)

    def alike(i, j):
        return ((A[i] > 0).sum() == 1 == (A[j] > 0).sum() and (A[i] == A[j]).all() and (x[i] == x[j]).all()
                and (i < n_hosts) == (j < n_hosts))
    expected = [next(j for j in range(i + 1) if j == i or alike(i, j)) for i in range(len(A))]
    assert twin.tolist() == expected
    for part in (twin[:n_hosts], twin[n_hosts:]):
        assert len(np.unique(part)) < len(part), "both among hosts and among ports there are some"


def test_columns_of_twins_add_up():
    """A matrix with twins' columns added has only the first ones' filled and makes the same product, if z agrees."""
    matrix = scipy.sparse.random(9, 6, 0.6, format="csr", rng=np.random.default_rng(0))
    twin = np.array([0, 1, 0, 3, 1, 0])
    added = graphs.add_columns(matrix, twin)
    z = np.random.default_rng(1).random((6, 4))[twin]
    np.testing.assert_allclose(added @ z, matrix @ z, rtol=1e-12)
    assert not added.toarray()[:, [2, 4, 5]].any() and added.nnz < matrix.nnz


@pytest.mark.parametrize("worth", [0.8, 0.5])
def test_empty_columns_go_and_the_product_stays(worth):
    """Without its empty columns the matrix makes the same product of the rows that are left; few of them stay."""
    dense = np.zeros((4, 5), np.float32)
    dense[[0, 0, 2], [1, 4, 3]] = [0.5, 0.25, 2]            # 3 of 5 columns are used
    matrix, used = graphs.without_empty_columns(scipy.sparse.csr_matrix(dense), worth)
    if worth == 0.5:
        assert used is None and (matrix.toarray() == dense).all()
    else:
        assert used.tolist() == [1, 3, 4] and (matrix.toarray() == dense[:, used]).all()


def edges_of(mask):
    host, port = np.nonzero(mask)
    return torch.from_numpy(host), torch.from_numpy(port)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("density", [0.01, 0.3, 0.6, 0.97])
def test_negatives_are_distinct_non_edges(density, device):
    """Drawn pairs are never an edge and never repeated; on a dense graph all non-edges there are, against the mask."""
    rng = np.random.default_rng(3)
    mask = rng.random((40, 30)) < density
    host, port = edges_of(mask)
    for seed in range(20):
        generator = torch.Generator(device).manual_seed(seed)
        h, p = graphs.sample_negatives(host.to(device), port.to(device), 40, 30, len(host), generator)
        assert h.device.type == p.device.type == device
        h, p = h.cpu(), p.cpu()
        assert len(h) == min(len(host), (~mask).sum())
        assert not mask[h, p].any()
        assert len(set(zip(h.tolist(), p.tolist()))) == len(h)


def test_complete_graph_has_no_negatives():
    """Where every pair is an edge nothing is drawn."""
    h, p = graphs.sample_negatives(*edges_of(np.ones((3, 4), bool)), 3, 4, 12, torch.Generator())
    assert len(h) == len(p) == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [6, 20])
def test_negatives_are_uniform(n, device):
    """Every non-edge is drawn equally often (chi-square), from few and from many of all non-edges alike."""
    mask = np.random.default_rng(0).random((12, 10)) < 0.3
    host, port = edges_of(mask)
    host, port = host.to(device), port.to(device)
    count, generator = np.zeros((12, 10)), torch.Generator(device).manual_seed(1)
    for _ in range(3000):
        h, p = graphs.sample_negatives(host, port, 12, 10, n, generator)
        count[h.cpu(), p.cpu()] += 1
    observed = count[~mask]
    assert observed.sum() == 3000 * n
    assert scipy.stats.chisquare(observed).pvalue > 1e-3


def test_negatives_of_a_sparse_day_by_pairs():
    """Ordered pairs of draws are uniform too: any two non-edges are drawn first and second equally often."""
    host, port = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2])
    count, generator = np.zeros((12, 12)), torch.Generator().manual_seed(2)
    for _ in range(6000):
        h, p = graphs.sample_negatives(host, port, 4, 3, 2, generator)
        assert len(h) == 2
        count[tuple((3 * h + p).tolist())] += 1
    free = np.setdiff1d(np.arange(12), [1, 3, 8])           # 4 n < 9 free ones: drawn and replaced, not shuffled
    possible = count[free[:, None], free][~np.eye(9, dtype=bool)]
    assert possible.sum() == 6000 and scipy.stats.chisquare(possible).pvalue > 1e-3


@pytest.mark.parametrize("device", DEVICES)
def test_negatives_of_a_large_day(device):
    """Enough draws and no slip over many blocks of the sorted codes: distinct, no edges, as many as asked."""
    n_hosts, n_ports, n = 3000, 700, 200_000
    edges = torch.from_numpy(np.random.default_rng(0).choice(n_hosts * n_ports, n, replace=False)).to(device).sort()[0]
    h, p = graphs.sample_negatives(edges // n_ports, edges % n_ports, n_hosts, n_ports, n, torch.Generator(device))
    drawn = (h * n_ports + p).cpu().numpy()
    assert len(h) == n and len(np.union1d(drawn, edges.cpu().numpy())) == 2 * n
    assert scipy.stats.kstest(drawn / (n_hosts * n_ports), "uniform").pvalue > 1e-4


def test_rows_of_an_earlier_day_without_nodes():
    """Where the earlier day is empty every node has its own self-loop alone."""
    empty, _ = graphs.build_graph(np.empty(0, np.uint32), np.empty(0, np.int32))
    day, _ = graphs.build_graph(np.repeat([1, 2], 5).astype(np.uint32), np.tile(np.arange(5, dtype=np.int32), 2))
    rows = graphs.rows_for(graphs.normalized_adjacency(empty), graphs.node_positions(empty, day))
    assert rows.shape == (7, 1) and (rows.toarray() == 1).all()
