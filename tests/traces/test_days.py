"""Packets of a day -> what a model reads of it; days made ready one ahead; what a run reads."""

import dataclasses
import datetime
import resource
import threading
import time
from functools import partial

import numpy as np
import pytest

import darkgnn
import fast
import features
import graph as graphs
from fast import alone
from tests.command.running import firewall_run
from traces import days, inputs, labels, packets, synthetic

DATE = datetime.date(2021, 12, 31)
LISTED = labels.from_arrays(np.array([7 << 24, (7 << 24) + 1], np.uint32), np.array([1, 0]), ("Unknown", "a"))


def made(n_hosts=20, without=(), seed=0):
    """A day of packets of n_hosts hosts in 7.0.0.0/24, six each, without some of the fields."""
    rng, n = np.random.default_rng(seed), 6 * n_hosts
    columns = {"time": np.arange(n, dtype=np.float64),
               "src": np.tile((7 << 24) + np.arange(n_hosts), 6).astype(np.uint32),
               "dst": rng.integers(1, 9, n).astype(np.uint32), "port": rng.integers(1, 5, n).astype(np.uint16),
               **{name: rng.integers(0, 99, n).astype(np.int64) for name in features.FIELDS if name not in without}}
    return packets.Packets(**columns)


count = partial(days.count_day, min_packets=5, top_ports=3, node_features=features.node_features)


def test_a_day_is_counted_as_the_flat_files_count_it():
    """The graph is graph.build_graph's, the features features.node_features', hosts and edges those of the graph."""
    day = made()
    counted = count(day)
    graph, order = graphs.build_graph(day.src, day.port, 5, 3)
    fields = {name: getattr(day, name) for name in features.FIELDS}
    raw = features.node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
                                 day.dst, fields, order)
    assert np.array_equal(counted.raw, raw) and np.array_equal(counted.graph.weight, graph.weight)
    assert (counted.n_hosts, counted.n_edges, counted.n_packets) == (20, len(graph.weight), 120)
    assert counted.sequence is None and len(counted.mirai) == 0 and "seq" in counted.missing


def test_the_sequence_is_that_of_the_capture():
    """Times ascend as the packets came, and each packet has its own host and port node."""
    day = made()
    day = dataclasses.replace(day, src=day.src[::-1].copy())
    counted = days.count_day(day, 5, 3, sequence=True)
    at, host, port = counted.sequence
    assert at.tolist() == day.time.tolist() and np.array_equal(counted.graph.hosts[host], day.src)
    known = counted.graph.ports[port] != graphs.OTHER                  # the others are folded into one node
    assert np.array_equal(counted.graph.ports[port][known], day.port[known]) and counted.raw is None


def prepared(coming, truth=LISTED, mirai=False, **settings):
    notes = []
    counting = partial(days.count_day, min_packets=5, top_ports=3, node_features=features.node_features, **settings)
    ready = list(days.prepare(coming, truth, counting, features.scale_by_maximum, notes.append, 5, mirai))
    return ready, notes


def test_days_are_prepared_with_labels_and_scaled_features():
    """x is scaled, labels are those of the lists; a field that the trace lacks is told once."""
    lacking = made(without=("mss", "timestamp"))
    small = packets.Packets(time=lacking.time[:4], src=lacking.src[:4], dst=lacking.dst[:4], port=lacking.port[:4])
    coming = [(DATE, lacking), (DATE + datetime.timedelta(1), small), (DATE + datetime.timedelta(2), lacking)]
    ready, notes = prepared(coming)
    assert [day.date.day for day in ready] == [31, 2] and ready[0].x.max() == 1 and ready[0].x.dtype == np.float32
    assert ready[0].labels.tolist() == [1] + [0] * 19
    assert notes == ["2021-12-31: the trace has no MSS, TCP timestamp: these features are 0",
                     "2022-01-01: no host sends 5 TCP packets or more, the day is left out"]


def test_mirai_without_sequence_numbers_is_said():
    """--mirai on a trace that lacks sequence numbers labels nothing, and says so."""
    ready, notes = prepared([(DATE, made())], days.with_mirai(LISTED), mirai=True, mirai_packets=1)
    assert notes == ["2021-12-31: the trace has no TCP sequence numbers: --mirai labels nothing"]
    assert set(ready[0].labels.tolist()) == {0, 1}


def test_mirai_is_for_hosts_that_no_list_names():
    """The fingerprint labels hosts on no list; one listed as Unknown stays Unknown; the labels' own name is kept."""
    truth = days.with_mirai(LISTED)
    hosts = (7 << 24) + np.arange(4, dtype=np.uint32)
    assert truth.names == ("Unknown", "a", "Mirai-like")
    assert days.host_classes(truth, hosts, hosts[:3]).tolist() == [1, 0, 2, 0]
    assert days.host_classes(truth, hosts).tolist() == [1, 0, 0, 0]
    for spelled in ("mirai", "MIRAI_like", "Mirai like", "mirai-like"):
        named = LISTED._replace(names=("Unknown", spelled))
        assert days.with_mirai(named).names == ("Unknown", spelled) and days.mirai_code(named) == 1
    assert days.mirai_code(LISTED) is None and days.mirai_code(LISTED._replace(names=("Unknown", "miraix"))) is None


def test_fast_and_plain_features_are_the_same():
    """The two functions that a run counts with give the same raw features."""
    day = made(60)
    fast_raw = days.count_day(day, 5, 3, fast.node_features).raw
    np.testing.assert_allclose(fast_raw, count(day).raw, rtol=1e-9)


# -- one day ahead -----------------------------------------------------------------------------------------------------

def test_days_are_made_ready_one_ahead():
    """While a day is worked on the next one is made ready, and no other; they come in order and the thread ends."""
    came, threads = [], threading.active_count()

    def coming():
        for day in range(4):
            came.append(day)
            yield day
    seen = []
    for day in days.ahead(coming()):
        seen.append(day)
        for _ in range(1000):
            if len(came) == min(day + 2, 4):
                break
            time.sleep(0.01)
        time.sleep(0.02)
        assert came == list(range(min(day + 2, 4)))
    assert seen == [0, 1, 2, 3]
    first = days.ahead(coming())
    assert next(first) == 0
    first.close()                                           # who stops early leaves no thread behind
    assert threading.active_count() <= threads


def test_an_error_ahead_comes_in_its_place():
    """The days before the one that fails are all handed out; then its error is raised."""
    def coming():
        yield from "ab"
        raise ValueError("c is broken")
    came = days.ahead(coming())
    assert [next(came), next(came)] == ["a", "b"]
    with pytest.raises(ValueError, match="c is broken"):
        next(came)


# -- what a run reads --------------------------------------------------------------------------------------------------

def test_as_many_files_may_be_open_as_the_system_lets(tmp_path):
    """The soft limit of open files, which many sensors' files would meet, becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, before[1]), before[1]))
    try:
        args = darkgnn.parse_arguments([str(a) for a in firewall_run(tmp_path)])
        inputs.read(args, packets.Summary(), alone)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_run_that_goes_on_reads_later_days_only(monkeypatch):
    """Of the synthetic month, as of files, the days after the state's last come."""
    month = synthetic.month
    monkeypatch.setattr(synthetic, "month", lambda scale, seed: month(scale, seed, days=3))
    args = darkgnn.parse_arguments(["--synthetic-scale", "0.01"])
    coming, truth = inputs.read(args, None, alone, after=datetime.date(2021, 12, 1))
    assert [str(date) for date, _ in coming] == ["2021-12-02", "2021-12-03"] and len(truth.names) > 2


def test_the_days_that_are_expected():
    """All of the synthetic month; of files by the share of them that was read; nobody knows of a pipe."""
    assert inputs.expected_days(None) == synthetic.DAYS
    assert inputs.expected_days(packets.Summary(days_seen=5, bytes_seen=10, bytes_total=40)) == 20
    assert inputs.expected_days(packets.Summary(days_seen=5, bytes_seen=10, bytes_total=None)) is None
    assert inputs.expected_days(packets.Summary(bytes_total=40)) is None


def test_pipes_are_not_read_ahead(tmp_path):
    """Files and folders may be read ahead; standard input, pipes and what is not there may not."""
    (tmp_path / "a").write_text("")
    assert inputs.may_read_ahead([tmp_path, tmp_path / "a"]) and inputs.may_read_ahead([])
    assert not inputs.may_read_ahead([tmp_path, "-"]) and not inputs.may_read_ahead([tmp_path / "none"])
