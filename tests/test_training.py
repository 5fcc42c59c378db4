import numpy as np
import pytest
import torch
from test_graph import random_packets

import graph as graphs
import training

WIDTHS = {"n_features": 37, "hidden": 16, "gcn_out": 8, "n_out": 6, "head": 4}


def snapshots(n_days, with_features=True, seed=0):
    table, days = training.empty_table(), []
    for t in range(n_days):
        src, port = random_packets(100 * seed + t)
        graph, _ = graphs.build_graph(10 + src % 40, port, top_ports=8)
        n = len(graph.hosts) + len(graph.ports)
        table, row = training.add_nodes(table, training.node_keys(graph))
        x = np.random.default_rng(t).random((n, 37), dtype=np.float32) if with_features else None
        days.append(training.make_snapshot(graph, x, None if with_features else row, "cpu"))
    return days


def maker(model, seed=0, with_features=True, made=None):
    """A fresh_learner function that also collects what it makes."""
    def fresh():
        learner = training.new_learner(model, seed, "cpu", **{**WIDTHS, "n_features": 37 if with_features else None})
        if made is not None:
            made.append(learner)
        return learner
    return fresh


def run(model, days, with_features=True, made=None, seed=0, train_days=4, epochs=2, history=2):
    """(result, z) of every day under the model's strategy."""
    fresh = maker(model, seed, with_features, made)
    if model == "gcn":
        return list(training.static(iter(days), fresh, train_days, epochs))
    if model == "gcn-gru":
        return list(training.frozen(iter(days), fresh, train_days, epochs, history))
    return list(training.incremental(iter(days), fresh, train_days, epochs, history if model == "i-gcn-gru" else 0))


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
    made, days = [], snapshots(6, with_features)
    fresh = maker(model, 0, with_features, made)
    history = 2 if model == "i-gcn-gru" else 0
    before = None
    for t, (result, _) in enumerate(training.incremental(iter(days), fresh, 3, 1, history), 1):
        assert (result is not None) == (t > history)
        now = {name: p.detach().clone() for name, p in made[0].embedder.named_parameters()}
        if result is not None and before is not None:
            for name, value in now.items():
                old = before[name]
                assert not torch.equal(value[: len(old)], old), (t, name)
        before = now
    assert len(made) == 1


def test_frozen_weights_never_change():
    """gcn-gru trains on day M alone; afterwards its weights stay, bit for bit."""
    made, days = [], snapshots(7)
    history = []
    for t, (result, _) in enumerate(training.frozen(iter(days), maker("gcn-gru", made=made), 4, 3, 2), 1):
        assert (result is not None) == (t == 4)
        history.append(weights(made[0]))
    assert len(made) == 1
    assert torch.equal(history[0], history[2]) and not torch.equal(history[2], history[3])
    assert all(torch.equal(history[3], later) for later in history[4:])


def test_static_models_are_fresh_every_day():
    """gcn makes one learner per test day, each from the same first weights."""
    made, days = [], snapshots(6)
    run("gcn", days, made=made)
    assert len(made) == 2
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


def complete_day():
    graph, _ = graphs.build_graph(np.full(9, 7, np.uint32), np.repeat([1, 2, 3], 3).astype(np.int32))
    return training.make_snapshot(graph, np.ones((4, 37), np.float32), None, "cpu")


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
    table, row = training.add_nodes(training.empty_table(), training.node_keys(first))
    assert row.tolist() == [0, 1]
    table, row = training.add_nodes(table, training.node_keys(second))
    assert row.tolist() == [2, 0, 3, 1] and sorted(table.row.tolist()) == [0, 1, 2, 3]
    assert training.add_nodes(table, training.node_keys(first))[1].tolist() == [0, 1]


def test_growing_keeps_weights_and_moments():
    """New rows leave the old rows and Adam's moments as they were; the new rows' moments are zero."""
    days = snapshots(2, with_features=False)
    learner = maker("i-gcn", with_features=False)()
    training.grow(learner, days[0].row)
    n = len(days[0].row)
    training.train(learner, [training.make_window(days[:1], "cpu")], 2)
    W = learner.embedder.gcn.first.W
    old, moments = W.detach().clone(), {k: v.clone() for k, v in learner.optimizer.state[W].items()}
    training.grow(learner, np.array([n + 4]))
    assert len(W) == n + 5 and torch.equal(W[:n], old) and W[n:].std() > 0
    for name in ("exp_avg", "exp_avg_sq"):
        grown = learner.optimizer.state[W][name]
        assert torch.equal(grown[:n], moments[name]) and not grown[n:].any()
