"""features.py: the 37 columns against loops over the nodes' packets, exactly, however the packets come."""

import math

import numpy as np
import pytest

import features
import graph as graphs


def trace(seed, n=300):
    rng = np.random.default_rng(seed)
    return {"src": rng.integers(1, 9, n).astype(np.uint32), "dst": rng.integers(10, 20, n).astype(np.uint32),
            "port": (rng.zipf(1.4, n) % 15).astype(np.int32), "length": rng.integers(40, 1500, n).astype(np.uint16),
            "ttl": rng.integers(1, 256, n).astype(np.uint8), "mss": rng.choice([0, 1460, 536], n).astype(np.uint16),
            "window": rng.integers(0, 65536, n).astype(np.uint16),
            "timestamp": rng.integers(0, 2**32, n).astype(np.uint32) * rng.integers(0, 2, n).astype(np.uint32)}


def of(columns, top_ports=6, min_packets=5, node_features=features.node_features):
    """Graph and raw features of a day's packets; a column `packets` says how many each row stands for."""
    packets = columns.get("packets")
    graph, order = graphs.build_graph(columns["src"], columns["port"], min_packets, top_ports, packets)
    fields = {name: columns[name] for name in features.FIELDS if name in columns}
    return graph, node_features(*nodes_of(graph), columns["dst"], fields, order, packets)


def nodes_of(graph):
    return graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports)


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


def test_scaling_of_a_part_takes_the_maxima_of_the_whole():
    """With the maxima of all nodes, parts of the nodes are scaled as the whole is."""
    graph, x = of(trace(3))
    n = len(graph.hosts)
    maxima, whole = features.maxima_of(x, n), features.scale_by_maximum(x, n)
    part = features.scale_by_maximum(np.concatenate([x[:3], x[n:]]), 3, maxima)
    assert (part == np.concatenate([whole[:3], whole[n:]])).all()


@pytest.mark.parametrize("dtype", [None, np.int64])
def test_the_order_of_packets_changes_nothing(dtype):
    """Packets by edge or in any order with `order`, narrow integers or wide: the same bits."""
    day = trace(0, 500)
    graph, order = graphs.build_graph(day["src"], day["port"], top_ports=6)
    by_edge = {name: column[order] for name, column in day.items()}
    expected = of(day)[1]
    mixed = np.random.default_rng(0).permutation(500)
    assert (of({name: column[mixed] for name, column in day.items()})[1] == expected).all()
    for columns, place in ((day, order), (by_edge, None)):
        columns = {name: column.astype(dtype or column.dtype) for name, column in columns.items()}
        fields = {name: columns[name] for name in features.FIELDS}
        assert (features.node_features(*nodes_of(graph), columns["dst"], fields, place) == expected).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_row_of_many_packets_is_as_many_rows(seed):
    """Rows with numbers of packets, by `order` or edge by edge, have the features of the rows repeated, to the bit."""
    day = trace(seed)
    packets = np.random.default_rng(seed).integers(1, 9, 300)
    _, expected = of({name: np.repeat(column, packets) for name, column in day.items()}, min_packets=160)
    graph, x = of({**day, "packets": packets}, min_packets=160)
    assert 2 < len(graph.hosts) < len(np.unique(day["src"])) and (x == expected).all()
    _, order = graphs.build_graph(day["src"], day["port"], 160, 6, packets)
    fields = {name: day[name][order] for name in features.FIELDS}
    by_edge = features.node_features(*nodes_of(graph), day["dst"][order], fields, packets=packets[order])
    assert (by_edge == expected).all()


def test_a_row_of_a_billion_packets():
    """Sums of squares far beyond 2^63 are exact: two rows of 10^9 and 2^32 - 1 packets against whole numbers."""
    most = (1 << 32) - 1
    n, x = [1_000_000_000, most], [most, most - 1]
    columns = {"src": np.ones(2, int), "port": np.array([22, 23]), "dst": np.array([5, 5]), "packets": np.array(n),
               "timestamp": np.array(x), "ttl": np.array([64, 65])}
    _, features_of = of(columns)
    total = sum(n)
    for column, values in ((17, [64, 65]), (32, x)):
        sums, squares = (sum(m * v**power for m, v in zip(n, values)) for power in (1, 2))
        assert column == 17 or (sums > 1 << 63 and squares > 1 << 94)
        expected = [float(sums), min(values), max(values), sums / total,
                    math.sqrt((total * squares - sums**2) / (total * (total - 1)))]
        assert features_of[0, column : column + 5].tolist() == expected
        assert features_of[1, column : column + 5].tolist() == [float(n[0] * values[0]), *[values[0]] * 3, 0]
    assert features_of[0, :5].tolist() == [2, total, n[0], most, total / 2]
    assert features_of[0, 6:12].tolist() == [1, total, total, total, total, 0]


def test_no_sum_overflows():
    """Thousands of largest values, as rows of their own and as rows of many packets, add up exactly."""
    most, n = (1 << 32) - 1, 5000
    day = {"src": np.ones(n, int), "port": np.full(n, 22), "dst": np.full(n, 9), "timestamp": np.full(n, most),
           "window": np.arange(n)}
    for packets in (None, np.full(n, most)):
        _, x = of(day if packets is None else {**day, "packets": packets})
        each = 1 if packets is None else most
        assert x[0, 32:].tolist() == [float(n * each * most), most, most, most, 0]
        total, sums, squares = n * each, each * (n * (n - 1) // 2), each * (n * (n - 1) * (2 * n - 1) // 6)
        assert x[0, 27:32].tolist() == [float(sums), 0, n - 1, sums / total,
                                        math.sqrt((total * squares - sums**2) / (total * (total - 1)))]
        assert x[0, 1:6].tolist() == [total] * 4 + [0]


@pytest.mark.parametrize("x", [0, 1, most := (1 << 32) - 1, most + 1, (1 << 48) - 1, 123_456_789_012_345])
def test_moments_of_a_count_are_whole_numbers(x):
    """A number of packets below 2^48 and its square come back from their digits exactly; more is refused."""
    moments = features.moments_of_counts(np.array([x, 1]))
    assert features.whole(moments.total).tolist() == [x, 1] and features.whole(moments.squares).tolist() == [x * x, 1]
    assert moments.low.tolist() == moments.high.tolist() == [x, 1] and moments.n.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"to one port or address must be fewer than 2\^48, got 281474976710656"):
        features.moments_of_counts(np.array([x, 1 << 48]))


def test_moments_merge_in_any_parts():
    """Moments of parts, merged in any order, are those of the whole; a set without samples has no statistics."""
    rng = np.random.default_rng(0)
    x, group = rng.integers(0, 1 << 32, 400), np.sort(rng.integers(0, 4, 400) * 2)
    start = np.searchsorted(group, [0, 2, 4, 6])
    whole = features.moments_of_runs(x, start)
    parts = features.moments_of_runs(x, np.arange(400))
    mixed = rng.permutation(400)
    merged = features.merge(features.Moments(*(part[mixed] for part in parts)), group[mixed], 7)
    expected = [features.whole(digits).tolist() for digits in (whole.total, whole.squares)]
    assert [features.whole(digits)[::2].tolist() for digits in (merged.total, merged.squares)] == expected
    assert (features.stats(merged)[::2] == features.stats(whole)).all() and not features.stats(merged)[1::2].any()
    np.testing.assert_allclose(features.stats(whole)[1], stats(x[group == 2]), rtol=1e-12)


@pytest.mark.parametrize("changed, line", [
    ({"fields": {"ttl": np.zeros(4, int)}}, "ttl must hold one value per address, 6, got 4"),
    ({"fields": {"ttl": np.zeros(6)}}, "ttl must be integers, got float64"),
    ({"fields": {"ttl": np.full(6, 1 << 32)}}, r"ttl must lie in \[0, 2\^32\), got 4294967296..4294967296"),
    ({"fields": {"TTL": np.zeros(6, int)}}, "fields must be among length, ttl, mss, window, timestamp, got TTL"),
    ({"address": np.full(6, -1)}, r"addresses must lie in \[0, 2\^32\), got -1..-1"),
    ({"order": np.arange(4)}, "the entries must hold the packets of the edges, 5, got 4"),
    ({"order": np.arange(5) - 1}, r"order must hold numbers of 0..5, got -1..3"),
    ({"order": np.arange(5) + 2}, r"order must hold numbers of 0..5, got 2..6"),
    ({"order": None}, "addresses must hold one value per packet of the edges, 5, got 6"),
    ({"packets": np.ones(5, int)}, "packets must hold one value per address, 6, got 5"),
    ({"packets": np.ones(6)}, "packets must be integers, got float64"),
    ({"packets": np.array([1, 1, 0, 1, 1, 1])}, r"packets must lie in \[1, 2\^32\), got 0..1"),
    ({"packets": np.array([1, 1 << 32, 1, 1, 1, 1])}, r"packets must lie in \[1, 2\^32\), got 1..4294967296"),
    ({"packets": np.full(6, 2)}, "the entries must hold the packets of the edges, 5, got 10"),
    ({"packets": np.array([1, 3, 1, 9, 9, 9]), "order": np.arange(3)},
     "the entries must come edge by edge, got one whose packets would belong to two edges"),
])
def test_columns_that_do_not_fit_are_refused(changed, line):
    """Columns of another length, type or range, an order or packets that are not the edges': a line says which."""
    day = {"edge_host": np.array([0, 0]), "edge_port": np.array([0, 1]), "weight": np.array([3, 2]), "n_hosts": 1,
           "n_ports": 2, "address": np.zeros(6, int), "fields": {}, "order": np.arange(5)}
    features.node_features(**day)
    with pytest.raises(ValueError, match=line):
        features.node_features(**{**day, **changed})


def test_columns_edge_by_edge_are_as_long_as_the_edges():
    """Without an order a column holds one value per packet of the edges."""
    edge = np.array([0]), np.array([0]), np.array([5])
    with pytest.raises(ValueError, match="ttl must hold one value per packet of the edges, 5, got 4"):
        features.node_features(*edge, 1, 1, np.zeros(5, int), {"ttl": np.zeros(4)})


def test_no_hosts_no_features():
    """An empty day gives an empty matrix."""
    nothing = np.empty(0, np.int64)
    for order, packets in ((None, None), (nothing, None), (None, nothing), (nothing, nothing)):
        assert features.node_features(*[nothing] * 3, 0, 0, nothing, {"ttl": nothing}, order, packets).shape == (0, 37)
    assert features.scale_by_maximum(np.empty((0, 37)), 0).shape == (0, 37)
