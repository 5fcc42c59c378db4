"""What the next day needs of the days before: packed, unpacked, forgotten."""

import datetime
from functools import partial

import numpy as np
import pytest
import torch

import fast
import graph as graphs
import training
from beyond import views
from daily import memory, state
from tests.command.running import TINY, run

WIDTHS = {"hidden": 16, "gcn_out": 8, "n_out": 6, "head": 4}
FORMS = {"plain": (training.Network, torch.optim.Adam), "fast": (fast.Network, fast.Adam)}


def learner(form, recurrent=True, features=True, seed=0):
    network, optimizer = FORMS[form]
    make = partial(network, recurrent, 37 if features else None, **WIDTHS)
    return training.new_learner(seed, "cpu", make, optimizer)


def days(n, features=True):
    """(graph, x) of n days of random traffic."""
    for t in range(n):
        rng = np.random.default_rng(t)
        src, port = rng.integers(10, 50, 600).astype(np.uint32), rng.integers(1, 14, 600).astype(np.uint16)
        graph, _ = graphs.build_graph(src, port, top_ports=8)
        n_nodes = len(graph.hosts) + len(graph.ports)
        yield graph, rng.random((n_nodes, 37), dtype=np.float32) if features else None


def live(progress, day, number):
    """The day is taken in and learned from."""
    training.take(progress, progress.learner.network.snapshot(*day), number)
    training.incremental(progress, 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("features", [True, False])
def test_progress_survives_packing(tmp_path, form, features):
    """pack and unpack, through a file's bytes, give a model that trains on exactly as the first does."""
    first = training.Progress(learner(form, features=features), 1)
    *earlier, last = days(5, features)
    for t, day in enumerate(earlier, 1):
        live(first, day, t)
    state.save(tmp_path / "s", memory.pack(first))
    second = memory.unpack(state.load(tmp_path / "s"), learner(form, features=features, seed=9), 1)
    assert all(np.array_equal(a, b) for a, b in zip(first.nodes, second.nodes))
    for progress in (first, second):
        live(progress, last, 5)
    assert torch.equal(training.embed_day(first), training.embed_day(second))
    assert isinstance(second.past[0].graph, graphs.BipartiteGraph)


def test_a_state_without_a_random_stream_goes_on_with_a_new_one():
    """Where the generator is missing, the stream depends on the seed and on the day, and on nothing else."""
    first = training.Progress(learner("fast"), 1)
    for t, day in enumerate(days(3), 1):
        live(first, day, t)
    saved = {**memory.pack(first), "generator": None}

    def drawn(seed, number):
        return torch.rand(4, generator=memory.unpack(saved, learner("fast", seed=seed), 1, number).learner.generator)
    assert torch.equal(drawn(1, 3), drawn(1, 3))
    assert not torch.equal(drawn(1, 3), drawn(1, 4)) and not torch.equal(drawn(1, 3), drawn(2, 3))


def test_a_memory_survives_the_state(tmp_path):
    """packed and unpacked give equal days, hosts, names, steady sums and settings."""
    rng, view = np.random.default_rng(0), views.View()
    for t in range(3):
        x = torch.from_numpy(rng.normal(size=(6, 37)))
        _, view = views.of_features(view, x, np.arange(6, dtype=np.uint32), 738000 + t, "memory", lambda value: value)
    before = memory.Memory(3, datetime.date(2021, 7, 31), [training.Progress(None, 0)], [view], names=["Unknown", "a"])
    files = {("ufw.log", 7, 1.5): "2021-07-31"}
    state.save(tmp_path / "s", memory.packed(before, {"model": "features"}, files))
    saved = state.load(tmp_path / "s")
    after = memory.unpacked(saved, None, 0, "cpu")
    assert saved["settings"] == {"model": "features"} and saved["files"] == [["ufw.log", 7, 1.5, "2021-07-31"]]
    assert (after.day, after.last, after.names) == (before.day, before.last, before.names)
    assert all(a.dtype == b.dtype for a, b in zip(after.hosts, before.hosts))
    assert after.views[0].graph is None and after.views[0].features.sums.rows == 18
    assert all(torch.equal(a, b) for a, b in zip(after.views[0].features[1:], view.features[1:]))


@pytest.mark.parametrize("form", FORMS)
def test_forgotten_nodes_leave_the_others_as_they_are(form):
    """Without node features: rows of nodes not seen lately go, and the embeddings of today stay bitwise the same."""
    progress = training.Progress(learner(form, recurrent=False, features=False), 0)
    for t in range(4):
        hosts = np.repeat(np.arange(20 * t, 20 * t + 30, dtype=np.uint32), 8)
        ports = (np.arange(len(hosts)) * (1 + hosts % 5) % 9 + 10 * t).astype(np.uint16)
        live(progress, (graphs.build_graph(hosts, ports)[0], None), t)
    before, n = training.embed_day(progress), len(progress.nodes.key)
    whole = memory.Memory(4, models=[progress], views=[views.View()])
    memory.forget(whole, 3)
    assert len(progress.nodes.key) == len(progress.learner.network.embedder.gcn.first.W) < n
    assert sorted(progress.nodes.row) == list(range(len(progress.nodes.key)))
    assert torch.equal(training.embed_day(progress), before)


@pytest.mark.parametrize("arguments", [["--model", "i-gcn-gru", "--no-node-features"], ["--model", "i-darkvec"],
                                       ["--model", "fixed-gcn"]], ids=lambda arguments: arguments[1])
def test_memory_is_bounded_by_the_forget_days(capsys, tmp_path, arguments):
    """Over 50 days on which every host is new, rows, host table and steady means hold those of the last days only."""
    rng = np.random.default_rng(0)
    rows = ["ts,src_ip,dst_ip,dst_port"]
    for day in range(50):
        for host in range(12):
            for i in range(5):
                rows.append(f"{1609459200 + 86400 * day + 60 * i + host},10.{day}.0.{host},8.8.8.8,"
                            f"{rng.integers(1, 9)}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    path = tmp_path / "s"
    assert run(capsys, "--input", tmp_path / "t.csv", "--train-days", 2, *TINY, "--quiet", "--forget-days", 10,
               *arguments, "--state", path, "--out", tmp_path / "out")[0] == 0
    kept = state.load(path)
    n = 11 * 12                                             # those last seen on one of the last 10 days, and today's
    assert len(kept["hosts"]["address"]) == n
    for view in (kept["view"]["features"], kept["view"]["graph"]):
        assert (view is not None) == ("fixed-gcn" in arguments)
        assert view is None or len(view["hosts"]) == len(view["xbar"]) == n
    if "fixed-gcn" not in arguments:
        table = kept["model"]["network"]["V" if "i-darkvec" in arguments else "embedder.gcn.first.W"]
        assert len(table) == len(kept["model"]["nodes"]["key"]) <= n + 8 + 5
    assert path.stat().st_size < 600_000                    # of which fixed-gcn's two covariances are half
