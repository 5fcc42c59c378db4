import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import graph as graphs
import training
from tests.test_graph import random_packets

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
WIDTHS = {"n_features": 37, "hidden": 16, "gcn_out": 8, "n_out": 6, "head": 4}


def snapshots(n_days, with_features=True, seed=0):
    days = []
    for t in range(n_days):
        src, port = random_packets(100 * seed + t)
        graph, _ = graphs.build_graph(10 + src % 40, port, top_ports=8)
        n = len(graph.hosts) + len(graph.ports)
        x = np.random.default_rng(t).random((n, 37), dtype=np.float32) if with_features else None
        days.append(training.make_snapshot(graph, x, "cpu"))
    return days


def maker(model, seed=0, with_features=True):
    """A function that makes a fresh learner."""
    widths = {**WIDTHS, "n_features": 37 if with_features else None}
    return lambda: training.new_learner(model, seed, "cpu", **widths)


def walk(model, days, with_features=True, seed=0, train_days=4, epochs=2, history=2):
    """Yields (progress, result, z) of every day as the model's strategy goes; z None on days that are not test days."""
    fresh = maker(model, seed, with_features)
    H = history if model.endswith("gru") else 0
    progress = training.Progress(None if model == "gcn" else fresh(), H)
    for t, day in enumerate(days, 1):
        training.take(progress, day, t, t if model == "gcn-gru" and t <= train_days else None)
        result = None
        if model == "gcn" and t > train_days:
            result = training.static(progress, fresh, epochs)
        elif model == "gcn-gru" and t == train_days:
            result = training.frozen(progress, epochs)
        elif model.startswith("i-"):
            result = training.incremental(progress, epochs)
        yield progress, result, training.embed_day(progress) if t > train_days else None


def run(*arguments, **named):
    """(result, z) of every day."""
    return [(result, z) for _, result, z in walk(*arguments, **named)]


def weights(learner):
    return torch.cat([p.detach().flatten() for p in [*learner.embedder.parameters(), *learner.head.parameters()]])


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("model", training.MODELS)
def test_test_days_are_embedded_and_only_they(model, with_features):
    """Each day after the training days has finite embeddings of its hosts, the others have none."""
    days = snapshots(7, with_features)
    learned = run(model, days, with_features)
    assert len(learned) == 7
    for t, (day, (_, z)) in enumerate(zip(days, learned), 1):
        if t <= 4:
            assert z is None
        else:
            assert z.shape == (len(day.graph.hosts), 6) and z.dtype == torch.float32
            assert torch.isfinite(z).all() and z.std() > 0


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("model", ["i-gcn", "i-gcn-gru"])
def test_incremental_weights_change_every_day(model, with_features):
    """ONE learner is trained, and its weights change on every day from H + 1 on, the second included."""
    days = snapshots(6, with_features)
    history = 2 if model == "i-gcn-gru" else 0
    before, learner = None, None
    for t, (progress, result, _) in enumerate(walk(model, days, with_features, train_days=3, epochs=1), 1):
        assert (result is not None) == (t > history)
        assert learner is None or progress.learner is learner
        learner = progress.learner
        now = {name: p.detach().clone() for name, p in learner.embedder.named_parameters()}
        if result is not None and before is not None:
            for name, value in now.items():
                old = before[name]
                assert len(old) == 0 or not torch.equal(value[: len(old)], old), (t, name)
        before = now


def test_frozen_weights_never_change():
    """gcn-gru trains on day M alone; afterwards its weights stay, bit for bit."""
    history = []
    for t, (progress, result, _) in enumerate(walk("gcn-gru", snapshots(7), epochs=3), 1):
        assert (result is not None) == (t == 4)
        history.append(weights(progress.learner))
    assert torch.equal(history[0], history[2]) and not torch.equal(history[2], history[3])
    assert all(torch.equal(history[3], later) for later in history[4:])


def test_static_models_are_fresh_every_day():
    """gcn makes one learner per test day, each from the same first weights."""
    days = snapshots(6)
    learners = [progress.learner for progress, _, _ in walk("gcn", days)]
    assert learners[:4] == [None] * 4 and learners[4] is not learners[5]
    assert torch.equal(run("gcn", days)[5][1], run("gcn", days[1:], train_days=3)[4][1])


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("model", training.MODELS)
def test_tomorrow_changes_nothing_today(model, with_features):
    """Other days to come, or none, leave the embeddings of the days before them bitwise as they are."""
    days, others = snapshots(7, with_features), snapshots(7, with_features, seed=5)
    full = run(model, days, with_features)
    short = run(model, days[:6], with_features)
    other = run(model, [*days[:6], others[6]], with_features)
    for t in (4, 5):
        assert torch.equal(full[t][1], short[t][1]) and torch.equal(full[t][1], other[t][1])


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("model", training.MODELS)
def test_same_seed_same_bytes(model, with_features):
    """The same seed gives bitwise the same embeddings, another seed others."""
    days = snapshots(6, with_features)
    a, b, c = (run(model, days, with_features, seed=seed)[5][1] for seed in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_weights_and_negatives_come_from_different_streams():
    """A learner's generator repeats no number that its weights were made of, and torch's own is left alone."""
    before = torch.random.get_rng_state()
    learner = maker("gcn", seed=7)()
    assert torch.equal(torch.random.get_rng_state(), before)
    same_seed = torch.Generator().manual_seed(7)
    assert not torch.equal(torch.rand(9, generator=learner.generator), torch.rand(9, generator=same_seed))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_step_never_waits_for_the_device():
    """After a warm-up, training steps and an embedding pass on CUDA run without a single host synchronization."""
    rng = np.random.default_rng(0)                          # sparse: negatives are drawn, not shuffled
    graph, _ = graphs.build_graph(rng.integers(0, 400, 4000).astype(np.uint32), rng.integers(0, 300, 4000))
    x = rng.random((len(graph.hosts) + len(graph.ports), 37), dtype=np.float32)
    window = training.make_window([training.make_snapshot(graph, x, "cuda")] * 3, "cuda")
    learner = training.new_learner("i-gcn-gru", 0, "cuda", **WIDTHS)
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for _ in range(2):
                training.train_step(learner, window)
            training.embed(learner, window)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_early_stopping_restores_the_best_epoch(monkeypatch):
    """Training ends three epochs after the best accuracy and goes back to the weights that epoch ended with."""
    accuracies = iter([0.5, 0.7, 0.6, 0.65, 0.7, 0.99])
    learner = maker("gcn")()
    window = training.make_window(snapshots(1), "cpu")
    after = []

    def step(learner, window, negatives):
        with torch.no_grad():
            learner.head.last.bias += 1
        after.append(weights(learner))
        return torch.tensor([0.0, next(accuracies)])
    monkeypatch.setattr(training, "train_step", step)
    loss_accuracy = training.train(learner, [window], 50, patience=3)
    assert len(after) == 5 and loss_accuracy[1].item() == pytest.approx(0.7)
    assert torch.equal(weights(learner), after[1])


def test_epochs_without_patience_are_all_taken():
    """Incremental training takes exactly `epochs` Adam steps per window."""
    learner = maker("i-gcn")()
    training.train(learner, [training.make_window(snapshots(1), "cpu")], 4)
    steps = {state["step"].item() for state in learner.optimizer.state.values()}
    assert steps == {4}


@pytest.mark.parametrize("device", DEVICES)
def test_adam_is_that_of_pytorch(device):
    """Step by step the weights of torch.optim.Adam with weight decay; each goes on from what the other saved."""
    ours, theirs = ([torch.nn.Parameter(torch.ones(n, 3, device=device)) for n in (40, 1, 2)] for _ in range(2))
    optimizer = training.Adam(ours, 1e-2, 5e-3)
    reference = torch.optim.Adam(theirs, 1e-2, weight_decay=5e-3, fused=True)
    for step in range(6):
        if step == 3:
            saved = optimizer.state_dict(), reference.state_dict()
            optimizer = training.Adam(ours, 1e-2, 5e-3)
            optimizer.load_state_dict(saved[1])
            reference.load_state_dict(saved[0])
        for a, b in zip(ours[:2], theirs):                  # the third never has a gradient
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step)).to(device)
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    assert optimizer.state_dict()["state"].keys() == reference.state_dict()["state"].keys() == {0, 1}
    optimizer.zero_grad()
    assert ours[0].grad is None


def test_a_step_does_not_import_the_compiler():
    """torch._dynamo, two seconds of importing, stays out of a process that trains."""
    code = ("import sys, test_training as t\nlearner = t.maker('i-gcn')()\n"
            "t.training.train(learner, [t.training.make_window(t.snapshots(1), 'cpu')], 1)\n"
            "assert 'torch._dynamo' not in sys.modules")
    folders = [str(Path(__file__).parent), str(Path(training.__file__).parent)]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)})
    assert done.returncode == 0, done.stderr


def complete_day():
    graph, _ = graphs.build_graph(np.full(9, 7, np.uint32), np.repeat([1, 2, 3], 3).astype(np.int32))
    return training.make_snapshot(graph, np.ones((4, 37), np.float32), "cpu")


@pytest.mark.parametrize("model", training.MODELS)
def test_a_complete_graph_teaches_nothing(model):
    """A day on which every host contacts every port has no negatives: no training, and no embedding before any."""
    assert run(model, [complete_day()] * 6) == [(None, None)] * 6
    if model != "gcn":
        days = [*snapshots(5), complete_day()]
        assert run(model, days)[5][0] is None and run(model, days)[5][1] is not None


def test_new_nodes_get_rows_and_keep_them():
    """A node has one row for good; hosts and ports of equal number are different nodes."""
    first, _ = graphs.build_graph(np.full(5, 80, np.uint32), np.full(5, 80, np.int32))
    second, _ = graphs.build_graph(np.repeat([3, 80], 5).astype(np.uint32), np.repeat([80, 22], 5).astype(np.int32))
    table, row = training.add_nodes(training.NO_NODES, training.node_keys(first), 1)
    assert row.tolist() == [0, 1]
    table, row = training.add_nodes(table, training.node_keys(second), 2)
    assert row.tolist() == [2, 0, 3, 1] and sorted(table.row.tolist()) == [0, 1, 2, 3]
    assert training.add_nodes(table, training.node_keys(first), 3)[1].tolist() == [0, 1]
    assert dict(zip(table.key.tolist(), table.seen.tolist())) == {3: 2, 80: 2, 2**32 + 22: 2, 2**32 + 80: 2}


def plain_progress(days, model="i-gcn", epochs=2):
    """A model without node features that has gone through the days."""
    progress = training.Progress(maker(model, with_features=False)(), 0)
    for t, day in enumerate(days, 1):
        training.take(progress, day, t)
        training.incremental(progress, epochs)
    return progress


def rows_of(progress):
    """{node: its row of W and of Adam's moments, as one vector}."""
    W = progress.learner.embedder.gcn.first.W
    state = progress.learner.optimizer.state[W]
    parts = torch.cat([W.detach(), state["exp_avg"], state["exp_avg_sq"]], 1)
    return {key: parts[row].clone() for key, row in zip(progress.nodes.key.tolist(), progress.nodes.row.tolist())}


def test_growing_keeps_weights_and_moments():
    """New rows leave the old rows and Adam's moments as they were; the new rows' moments are zero."""
    progress = plain_progress(snapshots(1, with_features=False))
    before, n = rows_of(progress), len(progress.nodes.key)
    training.take(progress, snapshots(2, with_features=False)[1], 2)
    training.window_of(progress)
    after = rows_of(progress)
    assert len(after) > n and all(torch.equal(after[key], value) for key, value in before.items())
    for key in after.keys() - before.keys():
        assert after[key][:16].std() > 0 and not after[key][16:].any()


def test_forgotten_nodes_give_back_their_rows():
    """`forget` drops the nodes not seen since the given day; every other keeps its weights and moments bit for bit."""
    days = snapshots(3, with_features=False)
    progress = plain_progress(days)
    before = rows_of(progress)
    gone = set(progress.nodes.key[progress.nodes.seen < 3].tolist())
    z = training.embed_day(progress)
    training.forget(progress, 3)
    after = rows_of(progress)
    assert gone and before.keys() - after.keys() == gone
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert sorted(progress.nodes.row.tolist()) == list(range(len(after)))
    assert len(progress.learner.embedder.gcn.first.W) == len(after)
    assert torch.equal(training.embed_day(progress), z)
    training.incremental(progress, 1)
    assert torch.isfinite(training.embed_day(progress)).all()


def test_nodes_of_the_window_are_not_forgotten():
    """A day that stands in the window keeps its nodes' rows however long ago it was."""
    progress = training.Progress(maker("i-gcn-gru", with_features=False)(), 2)
    for t, day in enumerate(snapshots(4, with_features=False), 1):
        training.take(progress, day, t)
        training.incremental(progress, 1)
    needed = set(np.concatenate([training.node_keys(day.graph) for day in progress.past]).tolist())
    training.forget(progress, 1000)
    assert set(progress.nodes.key.tolist()) == needed
    assert torch.isfinite(training.embed_day(progress)).all()
