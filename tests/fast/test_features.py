"""fast.node_features gives the bits of features.node_features."""

import numpy as np
import pytest

import fast
import features
import graph as graphs
from fast import features as blocks
from tests.test_features import nodes_of, of, trace


@pytest.mark.parametrize("at_a_time", [1, 7, 100, 1 << 16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [None, np.int64])
def test_blocks_change_no_bit(at_a_time, weighted, dtype, monkeypatch):
    """Any number of packets at a time, rows of one packet or of many, narrow integers or wide: the plain features."""
    day = trace(0, 500)
    if weighted:
        day["packets"] = np.random.default_rng(0).integers(1, 1 << 31, 500)
    graph, expected = of(day)
    monkeypatch.setattr(blocks, "AT_A_TIME", at_a_time)
    assert len(graph.weight) > 40 and graph.weight.max() > 7
    columns = {name: column.astype(dtype or column.dtype) for name, column in day.items()}
    assert (of(columns, node_features=fast.node_features)[1] == expected).all()


@pytest.mark.parametrize("missing", [{"mss"}, {"timestamp", "ttl"}, set(features.FIELDS)])
def test_missing_fields_are_zero_columns(missing):
    """Without some fields, or all of them, the records are smaller and the features the plain ones."""
    day = {name: column for name, column in trace(1).items() if name not in missing}
    assert (of(day, node_features=fast.node_features)[1] == of(day)[1]).all()


def test_large_values_stay_whole():
    """Addresses and timestamps up to 2^32 - 1, given as wide integers, pass through the records as they are."""
    day = trace(2)
    day["dst"] = day["dst"].astype(np.int64) + (1 << 32) - 20
    day["timestamp"] = (1 << 32) - 1 - day["timestamp"].astype(np.int64)
    assert day["dst"].max() == (1 << 32) - 1 == day["timestamp"].max()
    assert (of(day, node_features=fast.node_features)[1] == of(day)[1]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_day_without_packets_has_no_features(weighted):
    """No packet at all, and no host with enough of them: an empty matrix."""
    for day in ({name: column[:n] for name, column in trace(0).items()} for n in (0, 3)):
        packets = np.ones(len(day["src"]), int) if weighted else None
        graph, order = graphs.build_graph(day["src"], day["port"], packets=packets)
        fields = {name: day[name] for name in features.FIELDS}
        assert fast.node_features(*nodes_of(graph), day["dst"], fields, order, packets).shape == (0, 37)


def test_columns_that_do_not_fit_are_refused():
    """What the plain form refuses is refused with the same line."""
    day = trace(0, 50)
    graph, order = graphs.build_graph(day["src"], day["port"], 1)
    for fields, place in (({"TTL": day["ttl"]}, order), ({"ttl": day["ttl"][1:]}, order), ({}, order + 1),
                          ({}, order[1:])):
        lines = []
        for node_features in (features.node_features, fast.node_features):
            with pytest.raises(ValueError) as error:
                node_features(*nodes_of(graph), day["dst"], fields, place)
            lines.append(str(error.value))
        assert lines[0] == lines[1]
