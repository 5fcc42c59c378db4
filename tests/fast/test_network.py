"""fast/: every identity, and whole training steps, give the numbers of the plain forms."""

import copy

import numpy as np
import pytest
import torch

import graph as graphs
import training
from fast import layout, models
from fast.network import Network
from tests.test_graph import random_packets

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-10}


def some_days(n_days, n_features=37, alike=True):
    """(graph, x) of random small days whose hosts and ports come and go.

    alike: with ports that one host alone contacts, by an equal number of packets, and all ports of equal features.
    """
    days = []
    for seed in range(n_days):
        src, port = random_packets(seed, n=200)
        hosts = 10 + (src % 23 + 3 * seed) % 29            # a few hosts shared from day to day
        if alike:
            hosts = np.concatenate([hosts, np.repeat([hosts.max(), hosts.min()], 20)])
            port = np.concatenate([port, np.repeat(np.arange(20) + 50000 + seed, 2)]).astype("int32")
        graph, _ = graphs.build_graph(hosts.astype("uint32"), port, top_ports=26 if alike else 6)
        x = np.random.default_rng(seed).random((len(graph.hosts) + len(graph.ports), n_features), np.float32)
        if alike:
            x[len(graph.hosts) :] = x[-1]
        days.append((graph, x))
    return days


def float64(day):
    """A snapshot in float64."""
    A_hat, x = day.A_hat.astype(np.float64), None if day.x is None else day.x.astype(np.float64)
    day = day._replace(A_hat=A_hat, x=x)
    if isinstance(day, layout.Snapshot) and x is not None:
        day = day._replace(Ax=torch.from_numpy(np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]))])).to(day.Ax))
        day = day._replace(Ax=torch.from_numpy(np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]))])))
    return day


def networks(recurrent, days, dtype, with_features=True, device="cpu", widths=(37, 40, 24, 16, 8)):
    """The plain and the fast network of equal weights, and the window of all days as either takes it."""
    torch.manual_seed(0)
    n_features, *others = widths
    plain = training.Network(recurrent, n_features if with_features else None, *others)
    fast = Network(recurrent, n_features if with_features else None, *others)
    table, rows = training.NO_NODES, []
    for graph, _ in days:
        table, row = training.add_nodes(table, training.node_keys(graph))
        rows.append(row)
    if not with_features:
        for network in (plain, fast):
            network.embedder.gcn.first.grow(len(table.key), torch.Generator().manual_seed(0))
    for parameter in plain.parameters():                    # biases start at zero: let every parameter show
        parameter.data.uniform_(-0.5, 0.5)
    fast.load_state_dict(plain.state_dict())
    windows = []
    for network in (plain, fast):
        network.to(dtype).to(device)
        snapshots = []
        for (graph, x), row in zip(days, rows):
            day = network.snapshot(graph, x if with_features else None)
            day = float64(day) if dtype == torch.float64 else day
            snapshots.append(day if with_features else day._replace(row=row))
        windows.append(network.window(snapshots))
    return plain, fast, *windows


def agree(found, expected, dtype):
    scale = max(1.0, expected.abs().max().item())
    assert (found - expected).abs().max().item() <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("history", [0, 5])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_a_whole_step_is_the_plain_one(recurrent, history, with_features, dtype, device, alike):
    """Loss, embeddings and every gradient of a training step equal the plain network's, absent nodes included."""
    if history and not recurrent:
        pytest.skip("gcn sees one day")
    days = some_days(history + 1, alike=alike)
    plain, fast, window, fast_window = networks(recurrent, days, dtype, with_features, device)
    today = days[-1][0]
    assert not history or any((graphs.node_positions(graph, today) < 0).any() for graph, _ in days[:-1])
    host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                         window.non_edges // 3, torch.Generator(device).manual_seed(1))
    for network, its_window in ((plain, window), (fast, fast_window)):
        loss, accuracy = network(its_window, host, port)
        loss.backward()
    agree(fast(fast_window, host, port)[0], plain(window, host, port)[0], dtype)
    agree(fast.embed(fast_window), plain.embed(window), dtype)
    for (name, found), expected in zip(fast.named_parameters(), plain.parameters()):
        if expected.grad is None:
            assert found.grad is None or not found.grad.any(), name
            continue
        assert expected.grad.abs().max() > 0 or name == "embedder.gru.U", name  # at H = 0 h = 0
        agree(found.grad, expected.grad, dtype)


def test_the_state_dict_is_the_plain_one():
    """Plain and fast networks load each other's weights: the same names and shapes."""
    for recurrent in (False, True):
        plain, fast = training.Network(recurrent), Network(recurrent)
        shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (plain, fast)]
        assert shapes[0] == shapes[1]
        fast.load_state_dict(copy.deepcopy(plain.state_dict()))


@pytest.mark.parametrize("propagate_first", [False, True])
def test_either_order_of_propagating_and_transforming(propagate_first):
    """A_hat (z W) = (A_hat z) W: both orders give the plain embeddings and gradients."""
    plain, fast, window, fast_window = networks(True, some_days(4), torch.float64)
    fast_window = fast_window._replace(days=[day._replace(propagate_first=propagate_first)
                                             for day in fast_window.days])
    weight = torch.randn(len(plain.embedder(window)), 16, dtype=torch.float64)
    for network, its_window in ((plain, window), (fast, fast_window)):
        (network.embedder(its_window) * weight).sum().backward()
    for found, expected in zip(fast.embedder.parameters(), plain.embedder.parameters()):
        agree(found.grad, expected.grad, torch.float64)


@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_the_hidden_layer_by_blocks_is_the_plain_one(at_a_time, monkeypatch):
    """ReLU(x W1 + b1) W by blocks of rows and S ReLU(x W1 + b1) by blocks of columns: values and all gradients."""
    monkeypatch.setitem(models.AT_A_TIME, "cpu", at_a_time)
    x, W1, b1, W = (torch.randn(*shape, dtype=torch.float64, requires_grad=True)
                    for shape in ((70, 4), (4, 80), (80,), (80, 3)))
    S = torch.rand(5, 70, dtype=torch.float64) * (torch.rand(5, 70) < 0.3)
    operator = layout.Operator(S.to_sparse_csr(), S.T.contiguous().to_sparse_csr())
    assert len(models.blocks(70, 80, x.device)) == len(models.blocks(80, 70, x.device)) == (3 if at_a_time == 1 else 1)
    z = torch.relu(x.detach() @ W1 + b1)
    for out, plain in ((models.HiddenProduct.apply(x.detach(), W1, b1, W), z @ W),
                       (models.PropagatedHidden.apply(operator, x.detach(), W1, b1) @ W, S @ z @ W)):
        agree(out, plain, torch.float64)
        g = torch.randn_like(out)
        for a, b in zip(torch.autograd.grad((out * g).sum(), (W1, b1, W)),
                        torch.autograd.grad((plain * g).sum(), (W1, b1, W), retain_graph=True)):
            agree(a, b, torch.float64)


def test_a_gradient_reaches_the_input_of_a_propagation():
    """An Operator's gradient with respect to z is A^T g (checked numerically)."""
    graph, _ = some_days(1)[0]
    operator = layout.operator_of(graphs.normalized_adjacency(graph).astype(np.float64), "cpu")
    z = torch.randn(operator.shape[1], 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: operator @ z, z)


def test_an_input_that_wants_gradients_is_refused():
    """Where the hidden layer goes by blocks its input is data: no gradient is lost in silence."""
    for recurrent in (False, True):
        _, fast, _, window = networks(recurrent, some_days(1), torch.float32)
        day = window.days[0]
        wanting = window._replace(days=[day._replace(Ax=day.Ax.clone().requires_grad_())])
        with pytest.raises(ValueError, match="requires no gradient"):
            fast.embedder(wanting)
        assert torch.isfinite(fast.embedder(window)).all()


def test_second_derivatives_are_refused():
    """The hidden layer by blocks has first derivatives only: asked for more it says so, and gives no wrong number."""
    x, W1, b1, W = torch.rand(9, 4), torch.rand(4, 6), torch.rand(6), torch.rand(6, 3)
    for parameter in (W1, b1, W):
        parameter.requires_grad_()
    S = layout.Operator(torch.eye(9).to_sparse_csr(), torch.eye(9).to_sparse_csr())
    for out in (models.HiddenProduct.apply(x, W1, b1, W), models.PropagatedHidden.apply(S, x, W1, b1)):
        g, = torch.autograd.grad(out.square().sum(), W1, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            g.sum().backward()


def kept_for_backward(network, window):
    """Loss, its gradients, and the numbers that autograd keeps beside the window between forward and backward pass."""
    data = {part.data_ptr() for day in window.days for part in day if isinstance(part, torch.Tensor)}
    kept, none = {}, torch.empty(0, dtype=torch.int64)

    def pack(tensor):
        if tensor.data_ptr() not in data:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 8
        return tensor
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = network(window, none, none)
    return loss, torch.autograd.grad(loss, network.parameters()), sum(kept.values())


@pytest.mark.parametrize("with_features", [True, False])
def test_low_memory_changes_no_number_and_keeps_little(with_features):
    """With low_memory loss and gradients are the same; a day leaves its states alone for the backward pass."""
    _, network, _, window = networks(True, some_days(4, alike=False), torch.float64, with_features,
                                     widths=(37, 7, 6, 4, 5))
    loss, gradients, much = kept_for_backward(network, window)
    network.embedder.low_memory = True
    same_loss, same_gradients, little = kept_for_backward(network, window)
    agree(same_loss, loss, torch.float64)
    for found, expected in zip(same_gradients, gradients):
        agree(found, expected, torch.float64)
    if with_features:
        assert little < much / 2


def test_twins_are_told_bit_by_bit():
    """Leaves of one node, by edges of one weight and with equal features, are twins; all others are like themselves."""
    src = np.repeat([1, 2, 3], [7, 9, 5]).astype(np.uint32)
    port = np.repeat([10, 11, 12, 20, 21, 22, 12], [2, 2, 3, 3, 3, 3, 5]).astype(np.int32)
    graph, _ = graphs.build_graph(src, port)
    n_hosts = len(graph.hosts)
    x = np.zeros((n_hosts + len(graph.ports), 2), np.float32)
    names = [*graph.hosts.tolist(), *graph.ports.tolist()]
    twin = {names[i]: names[j] for i, j in enumerate(layout.twins(graph, x))}
    assert twin == {1: 1, 2: 2, 3: 3, 10: 10, 11: 10, 12: 12, 20: 20, 21: 20, 22: 20}
    x[names.index(21), 1] = -0.0                            # another bit is another row
    assert names[layout.twins(graph, x)[names.index(21)]] == 21
