"""fast.Network: whole training steps give the numbers of the plain network."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

import fast
import graph as graphs
import training
from tests.fast.days import DEVICES, agree, empty_day, float64, networks, some_days
from tests.test_training import MODELS, run, snapshots


def negatives_of(window, device="cpu"):
    """As many negatives as a third of the non-edges."""
    return graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                   window.non_edges // 3, torch.Generator(device).manual_seed(1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize(("recurrent", "history"), [(False, 0), (True, 0), (True, 5)])
@pytest.mark.parametrize("alike", [False, True])
def test_a_whole_step_is_the_plain_one(recurrent, history, with_features, dtype, device, alike):
    """Loss, embeddings and every gradient of a training step equal the plain network's, absent nodes included."""
    days = some_days(history + 1, alike=alike)
    plain, quick, window, quick_window = networks(recurrent, days, dtype, with_features, device)
    today = days[-1][0]
    absent = [graphs.node_positions(graph, today) < 0 for graph, _ in days[:-1]]
    assert not history or any(part[: len(today.hosts)].any() for part in absent)
    assert not history or not alike or any(part[len(today.hosts) :].any() for part in absent)
    host, port = negatives_of(window, device)
    results = []
    for network, its_window in ((plain, window), (quick, quick_window)):
        loss, accuracy = network(its_window, host, port)
        loss.backward()
        results.append((loss.detach(), accuracy))
    agree(results[1][0], results[0][0], dtype)
    assert results[1][1] == results[0][1]
    agree(quick.embed(quick_window), plain.embed(window), dtype)
    for (name, found), expected in zip(quick.named_parameters(), plain.parameters()):
        if expected.grad is None:
            assert found.grad is None or not found.grad.any(), name
            continue
        assert expected.grad.abs().max() > 0 or name == "embedder.gru.U", name  # at H = 0 h = 0
        agree(found.grad, expected.grad, dtype)


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("recurrent", [False, True])
def test_several_steps_are_the_plain_ones(recurrent, with_features):
    """Ten Adam steps from equal weights, each network with its own optimizer, end with equal embeddings."""
    plain, quick, window, quick_window = networks(recurrent, some_days(3 if recurrent else 1), torch.float64,
                                                  with_features)
    before, results = plain.embed(window), []
    for network, its_window, optimizer in ((plain, window, torch.optim.Adam), (quick, quick_window, fast.Adam)):
        learner = training.Learner(network, optimizer(network.parameters(), lr=1e-2, weight_decay=5e-3, fused=True),
                                   torch.Generator().manual_seed(0))
        results.append((training.train(learner, [its_window], 10), network.embed(its_window)))
    agree(results[1][1], results[0][1], torch.float64)
    torch.testing.assert_close(results[1][0], results[0][0], check_dtype=False)
    assert (results[0][1] - before).abs().max() > 0.1


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_what_the_plain_one_learns(model, with_features):
    """Loss, accuracy and embeddings of each of seven days agree, in float64 from one seed, whatever the strategy."""
    plain, quick = (run(model, [float64(day) for day in snapshots(7, with_features, kind=kind)], kind, with_features,
                        dtype=torch.float64) for kind in (training.Network, fast.Network))
    for (result, z), (expected, expected_z) in zip(quick, plain):
        assert (result is None) == (expected is None) and (z is None) == (expected_z is None)
        for found, wanted in ((result, expected), (z, expected_z)):  # Adam makes a step of a gradient's last bits
            if found is not None:
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("with_features", [True, False])
def test_an_earlier_day_without_hosts_is_one_like_any_other(with_features):
    """Where an earlier day is empty every node has its own self-loop alone; where today is, nothing comes out."""
    for days in ([empty_day(), *some_days(2)], [some_days(1)[0], empty_day(), some_days(2)[1]],
                 [*some_days(1), empty_day()]):
        plain, quick, window, quick_window = networks(True, days, torch.float64, with_features)
        agree(quick.embed(quick_window), plain.embed(window), torch.float64)
        assert len(plain.embed(window)) == len(days[-1][0].hosts)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_state_dict_is_the_plain_one(recurrent):
    """Plain and fast networks load each other's weights: the same names and shapes; of one seed, the same values."""
    plain, quick = (training.new_learner(7, "cpu", partial(kind, recurrent)).network
                    for kind in (training.Network, fast.Network))
    assert plain.state_dict().keys() == quick.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, quick.state_dict()[name]), name
    plain.load_state_dict(copy.deepcopy(quick.state_dict()))
    quick.load_state_dict(copy.deepcopy(plain.state_dict()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [training.Network, fast.Network])
def test_training_lowers_the_loss_on_every_device(kind, device):
    """Thirty Adam steps on one window lower the pretext loss, in float32, on CPU and on CUDA."""
    days = some_days(4)
    learner = training.new_learner(0, device, partial(kind, True, 37, 64, 32, 16, 8), fast.Adam, learning_rate=1e-2)
    window = learner.network.window([learner.network.snapshot(graph, x) for graph, x in days])
    losses = [training.train_step(learner, window)[0].item() for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("kind", [training.Network, fast.Network])
def test_a_step_never_waits_for_the_device(kind):
    """After a warm-up, training steps and an embedding pass on CUDA run without a single host synchronization."""
    rng = np.random.default_rng(0)                          # sparse: negatives are drawn, not shuffled
    graph, _ = graphs.build_graph(rng.integers(0, 400, 4000).astype(np.uint32), rng.integers(0, 300, 4000))
    x = rng.random((len(graph.hosts) + len(graph.ports), 37), dtype=np.float32)
    learner = training.new_learner(0, "cuda", partial(kind, True, 37, 16, 8, 6, 4), fast.Adam)
    window = learner.network.window([learner.network.snapshot(graph, x)] * 3)
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for _ in range(2):
                training.train_step(learner, window)
            learner.network.embed(window)
        finally:
            torch.cuda.set_sync_debug_mode("default")
