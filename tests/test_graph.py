"""graph.py: the day's graph, A_hat and negative edges, against plain counts, dense forms and masks."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch

import graph as graphs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def random_packets(seed, n=400, hosts=15, ports=12):
    rng = np.random.default_rng(seed)
    src = rng.choice(rng.integers(0, 2**32, hosts, dtype=np.uint64).astype(np.uint32), n)
    return src, (rng.zipf(1.5, n) % ports * 1000 + 7).astype(np.int32)


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


@pytest.mark.parametrize("packets, expected", [
    (np.ones(2, int), r"packets of each of 3 entries, got shape \(2,\)"),
    (np.ones((3, 1), int), r"packets of each of 3 entries, got shape \(3, 1\)"),
    (np.ones(3), "packets must be integers, got float64"),
    (np.array([5, 0, 9]), r"packets must lie in \[1, 4294967295\], got 0..9"),
    (np.array([5, -1, 9]), "packets must lie in"), (np.array([5, 1 << 32, 9]), "packets must lie in"),
])
def test_packets_that_do_not_fit_the_entries_are_refused(packets, expected):
    """Numbers of packets are one per entry, whole, at least 1 and below 2^32."""
    with pytest.raises(ValueError, match=expected):
        graphs.build_graph(np.arange(3), np.arange(3), packets=packets)


def test_sources_and_ports_of_unequal_number_are_refused():
    """A packet has one source and one port."""
    for src, port in ((np.arange(3), np.arange(2)), (np.ones((2, 2), int), np.ones((2, 2), int))):
        with pytest.raises(ValueError, match="expected one source and one port per packet, got shapes"):
            graphs.build_graph(src, port)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top_ports", [2, 100])
def test_an_entry_of_many_packets_is_as_many_entries(seed, top_ports):
    """The graph of rows with numbers of packets is that of the rows repeated; order lists the rows edge by edge."""
    src, port = random_packets(seed)
    packets = np.random.default_rng(seed).integers(1, 9, len(src)).astype(np.uint16)
    graph, order = graphs.build_graph(src, port, 110, top_ports, packets)
    expanded, _ = graphs.build_graph(np.repeat(src, packets), np.repeat(port, packets), 110, top_ports)
    assert 0 < len(graph.hosts) < len(np.unique(src))
    for part, expected in zip(graph, expanded):
        assert part.dtype == expected.dtype and (part == expected).all()
    edge = np.searchsorted(np.cumsum(graph.weight), np.cumsum(packets[order], dtype=np.int64))
    assert (np.bincount(edge, packets[order]) == graph.weight).all()
    assert (src[order] == graph.hosts[graph.edge_host[edge]]).all()
    assert (np.diff(order)[np.diff(edge) == 0] > 0).all(), "rows of an edge keep their order"


def test_rows_of_many_packets_are_counted_to_the_last():
    """A row of a billion packets keeps its host, and no step rounds a sum to what a float64 holds."""
    graph, order = graphs.build_graph(np.array([7, 8, 7]), np.array([22, 23, 22]),
                                      packets=np.array([1_000_000_000, 4, (1 << 32) - 1]))
    assert graph.hosts.tolist() == [7] and graph.weight.tolist() == [1_000_000_000 + (1 << 32) - 1]
    assert order.tolist() == [0, 2]
    place, packets, total = np.zeros(3, np.int64), np.array([1 << 60, 1, 1 << 60]), (1 << 61) + 1
    assert len(graphs.active_hosts(place, total, packets)[0]) == 1
    assert len(graphs.active_hosts(place, total + 1, packets)[0]) == 0
    assert graphs.packets_per_port(place, packets)[0] == total
    assert graphs.edges_of(place, place, 1, packets)[2].tolist() == [total]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_four_steps_make_the_graph(weighted):
    """Hosts, packets per port, port nodes, edges: each step by hand, and together they are build_graph."""
    src = np.array([9, 4, 9, 4, 9, 5, 9], np.uint32)
    port = np.array([80, 22, 23, 22, 80, 80, 23], np.int32)
    packets = np.array([1, 1, 1, 1, 1, 1, 3]) if weighted else None
    hosts, host, order = graphs.active_hosts(src, 2, packets)
    assert hosts.tolist() == [4, 9] and hosts.dtype == np.uint32
    assert host.tolist() == [0, 0, 1, 1, 1, 1] and order.tolist() == [1, 3, 0, 2, 4, 6]
    kept = None if packets is None else packets[order]
    per_port = graphs.packets_per_port(port[order], kept)
    assert per_port.shape == (graphs.OTHER + 1,) and per_port.dtype == np.int64
    assert per_port[[22, 23, 80]].tolist() == [2, 4 if weighted else 2, 2] and per_port.sum() == (8 if weighted else 6)
    ports, node = graphs.top_port_nodes(per_port, 2)
    assert ports.tolist() == [22, 23, graphs.OTHER] and node[[22, 23, 80]].tolist() == [0, 1, 2]
    *edges, by_edge = graphs.edges_of(host, node[port[order]], len(ports), kept)
    assert [part.tolist() for part in edges] == [[0, 1, 1], [0, 1, 2], [2, 4 if weighted else 2, 2]]
    assert by_edge.tolist() == [0, 1, 3, 5, 2, 4]
    graph, of_all = graphs.build_graph(src, port, 2, 2, packets)
    for part, expected in zip(graph, (hosts, ports, *edges)):
        assert (part == expected).all()
    assert (of_all == order[by_edge]).all()


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
    A = graphs.as_torch(A_hat)
    assert A.layout == torch.sparse_csr and A.crow_indices().dtype == torch.int32
    assert A.dtype == torch.float32 and (A.to_dense().numpy() == A_hat.toarray()).all()


def test_node_positions_are_found_by_address_and_port():
    """Each node of the later day has its number on the earlier one, or -1; also where the earlier day is empty."""
    first, _ = graphs.build_graph(*random_packets(1))
    later, _ = graphs.build_graph(*random_packets(2, hosts=20))
    mixed = later._replace(hosts=np.union1d(later.hosts[::2], first.hosts[::3]))
    position = graphs.node_positions(first, mixed)
    nodes = [*first.hosts.tolist(), *(-1 - first.ports).tolist()]
    wanted = [*mixed.hosts.tolist(), *(-1 - mixed.ports).tolist()]
    assert position.tolist() == [nodes.index(v) if v in nodes else -1 for v in wanted]
    assert (position < 0).sum() > 1 and (position >= 0).sum() > 1
    empty, _ = graphs.build_graph(np.empty(0, np.uint32), np.empty(0, np.int32))
    assert (graphs.node_positions(empty, first) == -1).all() and len(graphs.node_positions(first, empty)) == 0


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


@pytest.mark.parametrize("n_hosts, n_ports, edges, n", [(3, 4, 12, 12), (3, 4, 5, 0), (0, 0, 0, 4), (0, 5, 0, 4)])
def test_where_nothing_can_be_drawn_nothing_is(n_hosts, n_ports, edges, n):
    """A complete graph, none wanted, a day without hosts: two empty tensors of whole numbers."""
    code = torch.arange(edges)
    h, p = graphs.sample_negatives(code // max(1, n_ports), code % max(1, n_ports), n_hosts, n_ports, n,
                                   torch.Generator())
    assert len(h) == len(p) == 0 and h.dtype == p.dtype == torch.int64
    assert graphs.count_non_edges(n_hosts, n_ports, edges) == n_hosts * n_ports - edges


def test_fewer_than_no_negatives_are_refused():
    """The number of negatives is 0 or more."""
    edge = torch.tensor([0])
    with pytest.raises(ValueError, match="expected 0 negatives or more, got -3"):
        graphs.sample_negatives(edge, edge, 10, 10, -3, torch.Generator())


@pytest.mark.parametrize("seed", range(3))
def test_a_dense_graph_gives_all_its_non_edges(seed):
    """Where no more non-edges exist than wanted each is drawn once, in an order that the generator decides."""
    mask = np.random.default_rng(seed).random((20, 15)) < 0.8
    wanted = int((~mask).sum())
    draws = []
    for n in (wanted, wanted + 1, 10 * wanted):
        h, p = graphs.sample_negatives(*edges_of(mask), 20, 15, n, torch.Generator().manual_seed(n))
        assert sorted(zip(h.tolist(), p.tolist())) == list(zip(*(part.tolist() for part in np.nonzero(~mask))))
        draws.append(h.tolist())
    assert draws[0] != draws[1]


def test_non_edges_are_numbered_in_order(monkeypatch):
    """Number r is the r-th pair, in order of (host, port), that is no edge."""
    mask = np.random.default_rng(0).random((9, 7)) < 0.4
    monkeypatch.setattr(graphs, "distinct_numbers", lambda n, bound, generator, device: torch.arange(bound))
    h, p = graphs.sample_negatives(*edges_of(mask), 9, 7, 1, None)
    assert [h.tolist(), p.tolist()] == [part.tolist() for part in np.nonzero(~mask)]


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
