"""training.py: the four strategies from day to day, by the plain network and by the fast one alike."""

from functools import partial

import numpy as np
import pytest
import torch

import fast
import graph as graphs
import training
from tests.fast.days import float64
from tests.test_graph import random_packets

MODELS = ("gcn", "i-gcn", "gcn-gru", "i-gcn-gru")
WIDTHS = {"hidden": 16, "gcn_out": 8, "n_out": 6, "head": 4}
FORMS = {training.Network: torch.optim.Adam, fast.Network: fast.Adam}

each_form = pytest.mark.parametrize("kind", FORMS, ids=["plain", "fast"])
each_model = pytest.mark.parametrize("model", MODELS)
with_and_without = pytest.mark.parametrize("with_features", [True, False], ids=["features", "none"])


def graphs_of(n_days, with_features=True, seed=0):
    """(graph, x) of every day; x None without features."""
    days = []
    for t in range(n_days):
        src, port = random_packets(100 * seed + t)
        graph, _ = graphs.build_graph(10 + src % 40, port, top_ports=8)
        n = len(graph.hosts) + len(graph.ports)
        x = np.random.default_rng(t).random((n, 37), dtype=np.float32) if with_features else None
        days.append((graph, x))
    return days


def snapshots(n_days, with_features=True, seed=0, kind=training.Network):
    """The days as a network of that kind keeps them."""
    network = kind(False, 37 if with_features else None, **WIDTHS)
    return [network.snapshot(*day) for day in graphs_of(n_days, with_features, seed)]


def maker(model, seed=0, with_features=True, kind=training.Network, dtype=torch.float32):
    """A function that makes a fresh learner."""
    network = partial(kind, model.endswith("gru"), 37 if with_features else None, **WIDTHS)
    return lambda: training.new_learner(seed, "cpu", lambda: network().to(dtype), FORMS[kind])


def walk(model, days, kind, with_features=True, seed=0, train_days=4, epochs=2, history=2, dtype=torch.float32):
    """Yields (progress, result, z) of every day as the model's strategy goes; z None on days that are not test days."""
    fresh = maker(model, seed, with_features, kind, dtype)
    progress = training.Progress(fresh(), history if model.endswith("gru") else 0)
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
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


# -- the strategies ---------------------------------------------------------------------------------------------------

@each_form
@with_and_without
@each_model
def test_test_days_are_embedded_and_only_they(model, with_features, kind):
    """Each day after the training days has finite embeddings of its hosts, the others have none."""
    days = snapshots(7, with_features, kind=kind)
    learned = run(model, days, kind, with_features)
    assert len(learned) == 7
    for t, (day, (_, z)) in enumerate(zip(days, learned), 1):
        if t <= 4:
            assert z is None
        else:
            assert z.shape == (len(day.graph.hosts), 6) and z.dtype == torch.float32 and not z.requires_grad
            assert torch.isfinite(z).all() and z.std() > 0


@each_form
@with_and_without
@pytest.mark.parametrize("model", ["i-gcn", "i-gcn-gru"])
def test_incremental_weights_change_every_day(model, with_features, kind):
    """ONE learner is trained, and its weights change on every day from H + 1 on, the second included."""
    days = snapshots(6, with_features, kind=kind)
    history = 2 if model == "i-gcn-gru" else 0
    before, learner = None, None
    for t, (progress, result, _) in enumerate(walk(model, days, kind, with_features, train_days=3, epochs=1), 1):
        assert (result is not None) == (t > history)
        assert learner is None or progress.learner is learner
        learner = progress.learner
        now = {name: p.detach().clone() for name, p in learner.network.embedder.named_parameters()}
        if result is not None and before is not None:
            for name, value in now.items():
                old = before[name]
                assert len(old) == 0 or not torch.equal(value[: len(old)], old), (t, name)
        before = now


@each_form
def test_frozen_weights_never_change(kind):
    """gcn-gru trains on day M alone; afterwards its weights stay, bit for bit."""
    history = []
    for t, (progress, result, _) in enumerate(walk("gcn-gru", snapshots(7, kind=kind), kind, epochs=3), 1):
        assert (result is not None) == (t == 4)
        history.append(weights(progress.learner))
    assert torch.equal(history[0], history[2]) and not torch.equal(history[2], history[3])
    assert all(torch.equal(history[3], later) for later in history[4:])


@each_form
def test_frozen_sees_every_window_of_the_training_days(kind, monkeypatch):
    """gcn-gru steps once an epoch on the windows that end on days H+1..M, in that order; without history on all."""
    for history, ends in ((2, [3, 4, 5]), (0, [1, 2, 3, 4, 5])):
        days = snapshots(5, kind=kind)
        progress = training.Progress(maker("gcn-gru", kind=kind)(), history)
        for t, day in enumerate(days, 1):
            training.take(progress, day, t, t)
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(training, "train_step", lambda learner, window, negatives, seen=seen: seen.append(
                (window.n_hosts, window.edge_host.tolist(), len(window.days))) or torch.tensor([0.0, 0.5]))
            training.frozen(progress, 1)
        expected = [days[end - 1].graph for end in ends]
        assert seen == [(len(graph.hosts), graph.edge_host.tolist(), history + 1) for graph in expected]


@each_form
@with_and_without
def test_static_models_are_fresh_every_day(with_features, kind):
    """gcn makes one learner per test day, each from the same first weights: what came before today does not matter."""
    days = snapshots(6, with_features, kind=kind)
    learners, tables = zip(*((progress.learner, progress.nodes) for progress, _, _ in walk(
        "gcn", days, kind, with_features)))
    assert all(learner is learners[0] for learner in learners[:4]) and learners[4] is not learners[5]
    if not with_features:                                   # one row of W per node of today
        for table, learner, day in zip(tables[4:], learners[4:], days[4:]):
            assert len(table.key) == len(learner.network.embedder.gcn.first.W) == day.A_hat.shape[0]
    last = run("gcn", days, kind, with_features)[5][1]
    assert torch.equal(last, run("gcn", days[1:], kind, with_features, train_days=3)[4][1])
    assert torch.equal(last, run("gcn", days[5:], kind, with_features, train_days=0)[0][1])


@each_form
@with_and_without
@each_model
def test_tomorrow_changes_nothing_today(model, with_features, kind):
    """Other days to come, or none, leave the embeddings of the days before them bitwise as they are."""
    days, others = (snapshots(7, with_features, seed, kind) for seed in (0, 5))
    full = run(model, days, kind, with_features)
    short = run(model, days[:6], kind, with_features)
    other = run(model, [*days[:6], others[6]], kind, with_features)
    for t in (4, 5):
        assert torch.equal(full[t][1], short[t][1]) and torch.equal(full[t][1], other[t][1])


@each_form
@with_and_without
@each_model
def test_same_seed_same_bytes(model, with_features, kind):
    """The same seed gives bitwise the same embeddings, another seed others."""
    days = snapshots(6, with_features, kind=kind)
    a, b, c = (run(model, days, kind, with_features, seed=seed)[5][1] for seed in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


@each_form
def test_yesterday_is_embedded_by_today_s_weights(kind):
    """embed_day(ago=1) is the window that ended yesterday under the weights of now; None where days lack for it."""
    days = snapshots(5, kind=kind)
    progress = training.Progress(maker("i-gcn-gru", kind=kind)(), 2)
    for t, day in enumerate(days, 1):
        training.take(progress, day, t, keep=4)
        training.incremental(progress, 1)
        if t < 4:
            assert training.embed_day(progress, ago=1) is None
    network = progress.learner.network
    assert torch.equal(training.embed_day(progress, 1), network.embed(network.window(days[1:4])))
    assert torch.equal(training.embed_day(progress), network.embed(network.window(days[2:5])))


@each_form
def test_a_window_is_made_once_a_day(kind, monkeypatch):
    """Training and embedding share today's window; the next day has one of its own."""
    made, window = [], kind.window
    monkeypatch.setattr(kind, "window", lambda self, days: made.append(1) or window(self, days))
    progress = training.Progress(maker("i-gcn", kind=kind)(), 0)
    for t, day in enumerate(snapshots(2, kind=kind), 1):
        training.take(progress, day, t)
        training.incremental(progress, 2)
        training.embed_day(progress)
        assert len(made) == t


def complete_day():
    graph, _ = graphs.build_graph(np.full(9, 7, np.uint32), np.repeat([1, 2, 3], 3).astype(np.int32))
    return graph, np.ones((4, 37), np.float32)


@each_form
@each_model
def test_a_complete_graph_teaches_nothing(model, kind):
    """A day on which every host contacts every port has no negatives: no training, and no embedding before any."""
    day = kind(False, **WIDTHS).snapshot(*complete_day())
    assert run(model, [day] * 6, kind) == [(None, None)] * 6
    if model != "gcn":
        result, z = run(model, [*snapshots(5, kind=kind), day], kind)[5]
        assert result is None and z is not None


# -- training ---------------------------------------------------------------------------------------------------------

def test_weights_and_negatives_come_from_different_streams():
    """A learner's generator repeats no number that its weights were made of, and torch's own is left alone."""
    before = torch.random.get_rng_state()
    learner = maker("gcn", seed=7)()
    assert torch.equal(torch.random.get_rng_state(), before)
    same_seed = torch.Generator().manual_seed(7)
    assert not torch.equal(torch.rand(9, generator=learner.generator), torch.rand(9, generator=same_seed))


@each_form
def test_a_step_is_adam_on_the_pretext_task(kind):
    """A step is torch.optim.Adam's by the gradient of the loss, with negatives from the learner's stream."""
    learner, same = (maker("i-gcn", kind=kind, dtype=torch.float64)() for _ in range(2))
    window = learner.network.window([float64(day) for day in snapshots(1, kind=kind)])
    optimizer = torch.optim.Adam(same.network.parameters(), lr=1e-3, weight_decay=5e-3)
    for negatives in (1, 2, 1):
        host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                             negatives * len(window.edge_host), same.generator)
        loss, accuracy = same.network(window, host, port)
        result = training.train_step(learner, window, negatives)
        assert result.tolist() == pytest.approx([loss.item(), accuracy.item()], rel=1e-6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(weights(learner), weights(same))


def test_accuracy_is_the_share_of_pairs_told_right():
    """Loss and accuracy of a step are those of all edges and as many negatives, or of all non-edges there are."""
    learner = maker("i-gcn")()
    window = learner.network.window(snapshots(1))
    host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                         len(window.edge_host), torch.Generator().manual_seed(0))
    p = learner.network.log_probabilities(window, host, port).exp()
    truth = torch.arange(len(p)) < len(window.edge_host)
    loss, accuracy = learner.network(window, host, port)
    assert len(p) == len(window.edge_host) + min(len(window.edge_host), window.non_edges)
    assert accuracy.item() == pytest.approx(((p[:, 1] > 0.5) == truth).float().mean().item())
    assert loss.item() == pytest.approx(-torch.where(truth, p[:, 1], p[:, 0]).log().mean().item(), rel=1e-5)


def test_early_stopping_restores_the_best_epoch(monkeypatch):
    """Training ends three epochs after the best accuracy and goes back to the weights that epoch ended with."""
    accuracies = iter([0.5, 0.7, 0.6, 0.65, 0.7, 0.99])
    learner = maker("gcn")()
    window = learner.network.window(snapshots(1))
    after, log = [], []

    def step(learner, window, negatives):
        with torch.no_grad():
            learner.network.head.last.bias += 1
        after.append(weights(learner))
        return torch.tensor([0.0, next(accuracies)])
    monkeypatch.setattr(training, "train_step", step)
    loss_accuracy = training.train(learner, [window], 50, patience=3, log=lambda *line: log.append(line))
    assert len(after) == 5 and loss_accuracy[1].item() == pytest.approx(0.7)
    assert torch.equal(weights(learner), after[1])
    assert [epoch for epoch, _, _ in log] == [1, 2, 3, 4, 5] and log[1][1:] == pytest.approx((0, 0.7))


def test_epochs_without_patience_are_all_taken():
    """Incremental training takes exactly `epochs` Adam steps per window."""
    learner = maker("i-gcn")()
    training.train(learner, [learner.network.window(snapshots(1))] * 2, 4)
    steps = {state["step"].item() for state in learner.optimizer.state.values()}
    assert steps == {8}


# -- without node features --------------------------------------------------------------------------------------------

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


def progress_without_features(days, kind, model="i-gcn", epochs=2, history=0):
    """A model without node features that has gone through the days."""
    progress = training.Progress(maker(model, with_features=False, kind=kind)(), history)
    for t, day in enumerate(days, 1):
        training.take(progress, day, t)
        training.incremental(progress, epochs)
    return progress


def rows_of(progress):
    """{node: its row of W and of Adam's moments, as one vector}."""
    W = progress.learner.network.embedder.gcn.first.W
    state = progress.learner.optimizer.state[W]
    parts = torch.cat([W.detach(), state["exp_avg"], state["exp_avg_sq"]], 1)
    return {key: parts[row].clone() for key, row in zip(progress.nodes.key.tolist(), progress.nodes.row.tolist())}


@each_form
def test_growing_keeps_weights_and_moments(kind):
    """New rows leave the old rows and Adam's moments as they were; the new rows' moments are zero."""
    days = snapshots(2, with_features=False, kind=kind)
    progress = progress_without_features(days[:1], kind)
    before, n = rows_of(progress), len(progress.nodes.key)
    training.take(progress, days[1], 2)
    training.window_of(progress)
    after = rows_of(progress)
    assert len(after) > n and all(torch.equal(after[key], value) for key, value in before.items())
    for key in after.keys() - before.keys():
        assert after[key][:16].std() > 0 and not after[key][16:].any()
    for fewer in (len(after), n):                           # nothing to grow: nothing moves
        training.grow(progress.learner, fewer)
        assert all(torch.equal(value, after[key]) for key, value in rows_of(progress).items())
    assert torch.isfinite(training.train(progress.learner, [training.window_of(progress)], 1)).all()


@each_form
def test_rows_kept_keep_weights_and_moments(kind):
    """`keep_rows` leaves the rows named, in that order, with their moments; their nodes' embedding is the same."""
    progress = progress_without_features(snapshots(3, with_features=False, kind=kind), kind)
    before, z = rows_of(progress), training.embed_day(progress)
    today = progress.past[-1].row
    assert len(today) < len(progress.nodes.key)
    training.keep_rows(progress.learner, torch.from_numpy(today))
    of_today = np.isin(progress.nodes.row, today)
    place = np.full(len(progress.nodes.row), -1)
    place[today] = np.arange(len(today))
    progress.nodes = training.NodeTable(progress.nodes.key[of_today], place[progress.nodes.row[of_today]],
                                        progress.nodes.seen[of_today])
    progress.past, progress.window = [progress.past[-1]._replace(row=np.arange(len(today)))], None
    after = rows_of(progress)
    assert len(progress.learner.network.embedder.gcn.first.W) == len(today) == len(after)
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert torch.equal(training.embed_day(progress), z)
    training.incremental(progress, 1)
    assert torch.isfinite(training.embed_day(progress)).all()


@each_form
def test_the_window_knows_nodes_by_their_rows(kind):
    """With history, an earlier day's nodes go by the rows that they have now, absent ones of today included."""
    days = snapshots(4, with_features=False, kind=kind)
    progress = progress_without_features(days, kind, "i-gcn-gru", 1, 2)
    row = dict(zip(progress.nodes.key.tolist(), progress.nodes.row.tolist()))
    assert len(progress.past) == 3
    for day, kept in zip(days[1:], progress.past):
        assert kept.row.tolist() == [row[key] for key in training.node_keys(day.graph).tolist()]
    assert len(progress.learner.network.embedder.gcn.first.W) == len(row)
