"""The graph and the features of a day whose packets several processes read are those of one."""

from datetime import date

import numpy as np
import pytest

import features
from beyond import ranks
from scale import counting, shared
from tests.scale.ranks import LONELY, SIZES, TOP_PORTS, day_of_packets, found_by_ranks, one_process, owned, part_of
from traces import packets, synthetic


def count(rank, size):
    """What a rank finds: each day counted, and its features scaled in both ways; the days that it goes through."""
    found = []
    for t in range(4):
        counted = shared.count_day(part_of(day_of_packets(t), rank, size), 5, TOP_PORTS, features.node_features, 2)
        n_hosts = len(counted.graph.hosts)
        found.append((counted, shared.by_maximum(counted.raw, n_hosts), shared.by_rank(counted.raw, n_hosts)))
    own = [(date(2020, 1, 1 + t), t) for t in range(6) if t % size == rank or t == 4]
    return found, list(shared.days(own))


@pytest.fixture(scope="module", params=SIZES)
def by_rank(request, tmp_path_factory):
    """What each rank found."""
    return found_by_ranks(request.param, count, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone():
    return [one_process(t) for t in range(4)]


def test_every_rank_owns_some_and_on_one_day_none(alone):
    """The hash shares the test's hosts out unevenly, and on one day a rank has no host at all."""
    for size in SIZES:
        counts = [[len(owned(day.graph.hosts, rank, size)) for rank in range(size)] for day in alone]
        assert all(min(count) > 0 for t, count in enumerate(counts) if t != LONELY) and counts[LONELY][1] == 0
        assert any(len(set(count)) > 1 for count in counts)


def test_graph_and_features_are_those_of_one_process_bit_by_bit(by_rank, alone):
    """Hosts, ports, edges and the features that the model gets are the same, whoever read and owns what."""
    for t, one in enumerate(alone):
        found = [days[t] for days, _ in by_rank]
        graphs, n = [counted.graph for counted, *_ in found], len(one.graph.hosts)
        hosts = np.concatenate([graph.hosts for graph in graphs])
        order = np.argsort(hosts)
        assert (hosts[order] == one.graph.hosts).all()
        scaled = features.scale_by_maximum(one.raw, n), ranks.scale_by_rank(one.raw, n)
        for i, x in enumerate((one.raw, *scaled)):
            rows = [(days[0].raw, *days[1:])[i] for days in found]
            own = np.concatenate([part[: len(graph.hosts)] for part, graph in zip(rows, graphs)])
            assert own.dtype == x.dtype and (own[order] == x[:n]).all()
            assert all((part[len(graph.hosts) :] == x[n:]).all() for part, graph in zip(rows, graphs))
        assert all((graph.ports == one.graph.ports).all() for graph in graphs)
        address = np.concatenate([graph.hosts[graph.edge_host] for graph in graphs])
        order = np.argsort(address, kind="stable")
        for name in ("edge_port", "weight"):
            edges = np.concatenate([getattr(graph, name) for graph in graphs])
            assert (edges[order] == getattr(one.graph, name)).all()


def test_every_rank_knows_what_concerns_the_whole_day(by_rank, alone):
    """Hosts, edges, packets and missing fields are counted over all ranks; hosts with Mirai's fingerprint by owner."""
    for t, one in enumerate(alone):
        found = [days[t][0] for days, _ in by_rank]
        for counted in found:
            assert counted[-3:] == one[-3:] and counted.missing == one.missing == {"mss"} and counted.sequence is None
        day = day_of_packets(t)
        assert one.n_packets == (len(day.src) if day.packets is None else day.packets.sum())
        mirai = np.concatenate([counted.mirai for counted in found])
        assert (np.sort(mirai) == one.mirai).all() and 0 < len(mirai) < len(np.unique(day.src))


def test_ranks_agree_on_the_days(by_rank):
    """Every rank goes through every day that some rank has, once, in order, with its own packets or none."""
    size = len(by_rank)
    for rank, (_, days) in enumerate(by_rank):
        assert days == [(date(2020, 1, 1 + t), t if t % size == rank or t == 4 else None) for t in range(6)]


def test_the_order_of_packets_is_refused():
    """One line: i-darkvec reads in one process."""
    with pytest.raises(ValueError, match="their order, which i-darkvec needs, is not known"):
        counting.count_day(None, 5, TOP_PORTS, sequence=True)


def test_shares_of_the_input_are_the_whole(tmp_path):
    """Three readers' files are all files, each once; three makers' packets of a synthetic day are all of the day's."""
    for t in range(5):
        lines = [f"{86400 * t + i},1.0.0.{i},9.9.9.9,{t}" for i in range(1, 4)]
        (tmp_path / f"{t}.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port", *lines]))
    read = [[day for day, _ in packets.read_days(tmp_path, packets.Summary(), share=(i, 3))] for i in range(3)]
    assert sorted(day for days in read for day in days) == [date(1970, 1, 1 + t) for t in range(5)]
    assert all(0 < len(days) < 3 for days in read)
    day, parts = synthetic.day(3, 0.01), [synthetic.day(3, 0.01, share=(i, 3)) for i in range(3)]
    for name in ("src", "dst", "timestamp"):
        assert (np.sort(np.concatenate([part[name] for part in parts])) == np.sort(day[name])).all()
    assert len(synthetic.day(3, 0.01, share=(99, 100))["time"]) == 0


def test_names_of_sensors_are_refused_where_several_read(tmp_path):
    """Each reader would number them in its own way."""
    (tmp_path / "a.csv").write_text("ts,src_ip,dst_ip,dst_port\n5,1.0.0.1,tokyo,22\n")
    with pytest.raises(ValueError, match="expected destination addresses, got the name"):
        list(packets.read_days(tmp_path, packets.Summary(), share=(0, 2)))
