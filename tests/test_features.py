import numpy as np
import pytest
import scipy.stats

import features
import graph as graphs


def trace(seed, n=300):
    rng = np.random.default_rng(seed)
    return {"src": rng.integers(1, 9, n).astype(np.uint32), "dst": rng.integers(10, 20, n).astype(np.uint32),
            "port": (rng.zipf(1.4, n) % 15).astype(np.int32), "length": rng.integers(40, 1500, n).astype(np.uint16),
            "ttl": rng.integers(1, 256, n).astype(np.uint8), "mss": rng.choice([0, 1460, 536], n).astype(np.uint16),
            "window": rng.integers(0, 65536, n).astype(np.uint16),
            "timestamp": rng.integers(0, 2**32, n).astype(np.uint32) * rng.integers(0, 2, n).astype(np.uint32)}


def of(columns, top_ports=6, min_packets=5):
    graph, order = graphs.build_graph(columns["src"], columns["port"], min_packets, top_ports)
    fields = {name: columns[name] for name in features.FIELDS if name in columns}
    return graph, features.node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts),
                                         len(graph.ports), columns["dst"], fields, order)


def stats(values):
    values = np.asarray(values, dtype=np.float64)
    return [values.sum(), values.min(), values.max(), values.mean(), values.std(ddof=1) if len(values) > 1 else 0]


@pytest.mark.parametrize("seed", range(4))
def test_every_column_against_a_loop_over_nodes(seed):
    """Each of the 37 columns equals Table 1 computed node by node from the packets."""
    columns = trace(seed)
    graph, x = of(columns)
    folded = np.where(np.isin(columns["port"], graph.ports), columns["port"], graphs.OTHER)
    kept = np.isin(columns["src"], graph.hosts)
    expected = np.zeros((len(graph.hosts) + len(graph.ports), features.N_FEATURES))
    for i, host in enumerate(graph.hosts):
        mine = kept & (columns["src"] == host)
        ports = np.unique(folded[mine], return_counts=True)[1]
        addresses = np.unique(columns["dst"][mine], return_counts=True)[1]
        expected[i] = [len(ports), *stats(ports), len(addresses), *stats(addresses),
                       *(s for name in features.FIELDS for s in stats(columns[name][mine]))]
    for i, port in enumerate(graph.ports, len(graph.hosts)):
        mine = kept & (folded == port)
        hosts = np.unique(columns["src"][mine], return_counts=True)[1]
        expected[i] = [len(hosts), *stats(hosts), 0, 0, 0, 0, 0, 0,
                       *(s for name in features.FIELDS for s in stats(columns[name][mine]))]
    assert graphs.OTHER in graph.ports and len(graph.hosts) > 5
    for column in range(features.N_FEATURES):
        np.testing.assert_allclose(x[:, column], expected[:, column], rtol=1e-9, atol=1e-9, err_msg=f"column {column}")


def test_a_single_packet_has_no_deviation():
    """One sample: sum = minimum = maximum = average, deviation 0."""
    columns = {name: values[:1] for name, values in trace(0).items()}
    _, x = of(columns, min_packets=1)
    assert x[0, 1:6].tolist() == [1, 1, 1, 1, 0]
    assert x[0, 12:17].tolist() == [columns["length"][0]] * 4 + [0]


def test_large_timestamps_keep_their_deviation():
    """Equal large values have deviation exactly 0, and neighbours 1 apart keep theirs: no cancellation."""
    columns = trace(1, 10)
    columns["src"][:], columns["port"][:] = 1, 1
    columns["timestamp"] = np.full(10, 2**32 - 7, np.uint32)
    assert of(columns)[1][0, 36] == 0
    columns["timestamp"][::2] += 1
    np.testing.assert_allclose(of(columns)[1][0, 36], np.std([0, 1] * 5, ddof=1), rtol=1e-9)


def test_missing_fields_are_zero_columns():
    """A field the trace lacks gives five zero columns; the other columns do not change."""
    columns = trace(2)
    full = of(columns)[1]
    del columns["mss"], columns["timestamp"]
    part = of(columns)[1]
    assert not part[:, 22:27].any() and not part[:, 32:37].any()
    rest = np.r_[0:22, 27:32]
    assert (part[:, rest] == full[:, rest]).all()


def test_scaling_divides_by_the_maximum_of_hosts_and_of_ports():
    """Every column's maximum is 1, hosts and ports separately; all-zero columns stay 0."""
    graph, x = of(trace(3))
    n = len(graph.hosts)
    scaled = features.scale_by_maximum(x, n)
    assert scaled.dtype == np.float32
    for rows in (slice(0, n), slice(n, None)):
        top = x[rows].max(0)
        np.testing.assert_allclose(scaled[rows], x[rows] / np.where(top > 0, top, 1), rtol=1e-6)
        assert set(scaled[rows].max(0)) <= {0, 1}
    assert not scaled[n:, 6:12].any()


@pytest.mark.parametrize("n_hosts", [0, 1, 2, 7, 200, 201])
def test_rank_scaling_is_normal_scores(n_hosts):
    """Hosts and ports separately, each column is norm.ppf((rankdata - 0.5) / n): ties, constants and one node too."""
    rng = np.random.default_rng(n_hosts)
    x = np.stack([rng.integers(0, high, 201).astype(np.float64) for high in (1, 2, 5, 1000)]
                 + [rng.lognormal(0, 5, 201), np.arange(201)], axis=1)
    scaled = features.scale_by_rank(x, n_hosts)
    assert scaled.dtype == np.float32 and scaled.shape == x.shape
    for rows in (slice(0, n_hosts), slice(n_hosts, None)):
        n = len(x[rows])
        for column in range(x.shape[1] if n else 0):
            expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x[rows, column]) - 0.5) / n)
            np.testing.assert_allclose(scaled[rows, column], expected, rtol=1e-6, atol=1e-7)


def test_rank_scaling_by_hand():
    """Three values, two of them equal: ranks 1.5, 1.5, 3; a constant column is 0, exactly; so is a single node."""
    scaled = features.scale_by_rank(np.array([[4, 7.3], [9, 7.3], [4, 7.3], [1, 2]]), 3)
    np.testing.assert_allclose(scaled[:3, 0], scipy.stats.norm.ppf([1 / 3, 5 / 6, 1 / 3]), rtol=1e-6)
    assert not scaled[:, 1].any() and not scaled[3].any()


def test_rank_scaling_knows_only_order():
    """A strictly increasing function of a column changes nothing; a decreasing one changes the sign."""
    x = np.random.default_rng(0).integers(1, 50, (300, 3)).astype(np.float64)
    scaled = features.scale_by_rank(x, 100)
    for f in (np.log, np.exp, lambda x: 3 * x - 1e4):
        assert (features.scale_by_rank(f(x), 100) == scaled).all()
    np.testing.assert_allclose(features.scale_by_rank(-x, 100), -scaled, rtol=1e-6, atol=1e-7)


def test_rank_scaling_keeps_hosts_and_ports_apart():
    """Another port changes no host's scores, and another host no port's."""
    x = np.random.default_rng(1).random((50, 4))
    for changed, kept in ((slice(20, None), slice(0, 20)), (slice(0, 20), slice(20, None))):
        y = x.copy()
        y[changed] = np.random.default_rng(2).random(y[changed].shape) * 9
        assert (features.scale_by_rank(y, 20)[kept] == features.scale_by_rank(x, 20)[kept]).all()
        assert (features.scale_by_rank(y, 20)[changed] != features.scale_by_rank(x, 20)[changed]).any()


def test_rank_scaling_ties_what_only_rounding_tells_apart():
    """The same packets split over edges differently have the same deviation but for its last bits: equal scores."""
    x = np.array([[0.1 + 0.2], [0.3], [5.0]])
    assert x[0] != x[1]
    scaled = features.scale_by_rank(x, 3)
    assert scaled[0] == scaled[1] < scaled[2]


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 16])
@pytest.mark.parametrize("dtype", [None, np.int64])
def test_blocks_and_orders_change_nothing(at_a_time, dtype, monkeypatch):
    """Packets by edge or in any order with `order`, any number at a time, narrow integers or wide: the same bits."""
    day = trace(0, 500)
    graph, order = graphs.build_graph(day["src"], day["port"], top_ports=6)
    nodes = graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports)
    by_edge = {name: column[order] for name, column in day.items()}
    expected = features.node_features(*nodes, by_edge["dst"], {name: by_edge[name] for name in features.FIELDS})
    monkeypatch.setattr(features, "AT_A_TIME", at_a_time)
    for columns, place in ((day, order), (by_edge, None)):
        columns = {name: column.astype(dtype or column.dtype) for name, column in columns.items()}
        fields = {name: columns[name] for name in features.FIELDS}
        assert (features.node_features(*nodes, columns["dst"], fields, place) == expected).all()


def test_wrong_lengths_and_unknown_fields_are_refused():
    """A column that is not one value per packet, or a field with another name, is a ValueError that says so."""
    edge = np.array([0]), np.array([0]), np.array([5])
    with pytest.raises(ValueError, match="ttl must hold one value per packet of the edges, 5, got 4"):
        features.node_features(*edge, 1, 1, np.zeros(5, int), {"ttl": np.zeros(4)})
    for order in (np.arange(4), np.arange(5) - 1, np.arange(5) + 2):
        got = f"{len(order)} of {order[0]}..{order[-1]}"
        with pytest.raises(ValueError, match=f"order must hold the packets of the edges, 5 of 0..5, got {got}"):
            features.node_features(*edge, 1, 1, np.zeros(6, int), {}, order)
    with pytest.raises(ValueError, match="ttl must hold one value per address, 6, got 5"):
        features.node_features(*edge, 1, 1, np.zeros(6, int), {"ttl": np.zeros(5, int)}, np.arange(5))
    with pytest.raises(ValueError, match=r"addresses must lie in \[0, 2\^32\), got -1..-1"):
        features.node_features(*edge, 1, 1, np.full(5, -1), {})
    with pytest.raises(ValueError, match="fields must be among length, ttl, mss, window, timestamp, got TTL"):
        features.node_features(*edge, 1, 1, np.zeros(5, int), {"TTL": np.zeros(5)})


def test_no_hosts_no_features():
    """An empty day gives an empty matrix."""
    nothing = np.empty(0, np.int64)
    assert features.node_features(nothing, nothing, nothing, 0, 0, nothing, {"ttl": nothing}).shape == (0, 37)
