import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graph as graphs
import models
import training
from tests.test_graph import random_packets

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.fixture(autouse=True)
def seeded_float64():
    """Equations are compared in float64."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def some_days(n_days=4, n_features=5, with_features=True, alike=False):
    """Snapshots of random small days whose hosts come and go, float64, and the node table of all of them.

    alike: with ports that one host alone contacts, by an equal number of packets, and all ports of equal features.
    """
    table, days, xs = training.NO_NODES, [], []
    for seed in range(n_days):
        src, port = random_packets(seed, n=200)
        hosts = 10 + (src % 23 + 3 * seed) % 29            # a few hosts shared from day to day
        if alike:
            hosts = np.concatenate([hosts, np.repeat([hosts.max(), hosts.min()], 20)])
            port = np.concatenate([port, np.repeat(np.arange(20) + 50000 + seed, 2)]).astype("int32")
        graph, _ = graphs.build_graph(hosts.astype("uint32"), port, top_ports=26 if alike else 6)
        n = len(graph.hosts) + len(graph.ports)
        x = torch.rand(n, n_features).float().numpy()
        if alike:
            x[len(graph.hosts) :] = x[-1]
        table, row = training.add_nodes(table, training.node_keys(graph))
        day = training.make_snapshot(graph, x if with_features else None, "cpu")._replace(row=row)
        A_hat = day.A_hat.astype("float64")
        days.append(day._replace(A_hat=A_hat, Ax=torch.cat([torch.from_numpy(A_hat @ x.astype("float64")),
                                                            torch.zeros(1, n_features)]) if with_features else None))
        xs.append(torch.from_numpy(x).double())
    return table, days, xs


def everywhere(table, days, xs):
    """The plain all-nodes form: per day a dense A_hat over every node ever seen and, for the absent, zero features."""
    total = len(table.row)
    A, X = [], []
    for day, x in zip(days, xs):
        full, features = torch.eye(total), torch.zeros(total, x.shape[1])
        row = torch.from_numpy(day.row)
        full[row[:, None], row[None]] = torch.from_numpy(day.A_hat.toarray())
        features[row] = x
        A.append(full)
        X.append(features)
    return A, X


def dense_gcn(gcn, A, x):
    """z^l = A_hat z^(l-1) W^l + b^l, ReLU except after the last layer."""
    z = torch.relu(A @ x @ gcn.first.W + gcn.first.b)
    return A @ z @ gcn.second.W + gcn.second.b


def dense_gru(gru, x):
    """The GRU is that of Chung et al. in PyTorch's form, gate by gate."""
    W_r, W_u, W_n = gru.W.chunk(3, 1)
    U_r, U_u, U_n = gru.U.chunk(3, 1)
    b_r, b_u, b_n = gru.b.chunk(3)
    c_r, c_u, c_n = gru.c.chunk(3)
    h = torch.zeros(x.shape[1], U_r.shape[0])
    for x_t in x:
        r = torch.sigmoid(x_t @ W_r + b_r + h @ U_r + c_r)
        u = torch.sigmoid(x_t @ W_u + b_u + h @ U_u + c_u)
        n = torch.tanh(x_t @ W_n + b_n + r * (h @ U_n + c_n))
        h = (1 - u) * n + u * h
    return h


def dense_norm(norm, z):
    return (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + norm.eps) * norm.scale + norm.shift


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def same_gradients(module, value, expected):
    """Both scalars have the same gradient with respect to every parameter."""
    parameters = dict(module.named_parameters())
    found = torch.autograd.grad(value, parameters.values(), allow_unused=True)
    wanted = torch.autograd.grad(expected, parameters.values(), allow_unused=True)
    for name, a, b in zip(parameters, found, wanted):
        assert (a is None) == (b is None), name
        if a is not None:
            assert b.abs().max() > 0 or name == "gru.U", name  # U has no gradient at H = 0: h = 0
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)


def randomize(module):
    """Biases start at zero: give every parameter a value that shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    return module


def test_graph_convolution_and_gcn_equal_the_dense_form():
    """The sparse GCN, transform then propagate, equals A_hat z W + b written densely, values and gradients."""
    _, days, xs = some_days(1)
    gcn = randomize(models.GCN(5, 7, 6))
    z = gcn(graphs.as_torch(days[0].A_hat), xs[0])
    expected = dense_gcn(gcn, torch.from_numpy(days[0].A_hat.toarray()), xs[0])
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(gcn, (z * weight).sum(), (expected * weight).sum())


def test_a_gradient_reaches_the_input_of_a_propagation():
    """propagate's gradient with respect to z is A^T g (checked numerically)."""
    _, days, _ = some_days(1)
    operator = graphs.as_torch(days[0].A_hat)
    z = torch.randn(days[0].A_hat.shape[1], 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: models.propagate(operator, z), z)


@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_the_hidden_layer_by_blocks_is_the_plain_one(at_a_time, monkeypatch):
    """ReLU(x W1 + b1) W by blocks of rows and S ReLU(x W1 + b1) by blocks of columns: values and all gradients."""
    monkeypatch.setitem(models.AT_A_TIME, "cpu", at_a_time)
    x, W1, b1, W = (torch.randn(*shape, requires_grad=True) for shape in ((70, 4), (4, 80), (80,), (80, 3)))
    S = torch.rand(5, 70) * (torch.rand(5, 70) < 0.3)
    operator = [matrix.to_sparse_csr() for matrix in (S, S.T)]
    assert len(models.blocks(70, 80, x.device)) == len(models.blocks(80, 70, x.device)) == (3 if at_a_time == 1 else 1)
    z = torch.relu(x.detach() @ W1 + b1)
    for out, plain in ((models.HiddenProduct.apply(x.detach(), W1, b1, W), z @ W),
                       (models.PropagatedHidden.apply(*operator, x.detach(), W1, b1) @ W, S @ z @ W)):
        close(out, plain)
        g = torch.randn_like(out)
        for a, b in zip(torch.autograd.grad((out * g).sum(), (W1, b1, W)),
                        torch.autograd.grad((plain * g).sum(), (W1, b1, W), retain_graph=True)):
            close(a, b)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("propagate_first", [False, True])
@pytest.mark.parametrize("history", [0, 1, 3])
def test_temporal_embedder_equals_the_plain_all_nodes_form(history, propagate_first, alike, monkeypatch):
    """What GCN on all nodes of all days, GRU and normalization give densely is what the window's few rows give.

    Absent nodes are one constant, nodes alike on all days so far one state; both orders of propagate and transform.
    """
    monkeypatch.setattr(models, "MANY", 0 if propagate_first else 1e9)
    table, days, xs = some_days(alike=alike)
    days, xs = days[-history - 1 :], xs[-history - 1 :]
    model = randomize(models.TemporalEmbedder(5, 7, 6, 4))
    window = training.make_window(days, "cpu")
    z = model(window.days, window.mean, window.who)
    first, last = (rows[0].shape for rows, *_ in (window.days[0], window.days[-1]))
    assert first[0] < len(z) or not history                 # some are absent
    assert (last[0] < len(z), last[1] < len(z)) == (alike, alike)  # twins: in the output, in the hidden layer

    A, X = everywhere(table, days, xs)
    steps = torch.stack([dense_gcn(model.gcn, a, x) for a, x in zip(A, X)])
    expected = dense_norm(model.norm, dense_gru(model.gru, steps)[torch.from_numpy(days[-1].row)])
    assert any((graphs.node_positions(day.graph, days[-1].graph) < 0).any() for day in days[:-1]) or not history
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(model, (z * weight).sum(), (expected * weight).sum())


def kept_for_backward(embedder, head, window):
    """Loss, its gradients, and the numbers that autograd keeps beside the window between forward and backward pass."""
    kept, data = {}, {part.data_ptr() for day in window.days for part in day if isinstance(part, torch.Tensor)}

    def pack(tensor):
        if tensor.data_ptr() not in data:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 8
        return tensor
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        z = embedder(window.days, window.mean, window.who)
        log_p = head(z[: window.n_hosts], z[window.n_hosts :], window.edge_host, window.edge_port)
        loss = models.link_loss(log_p, len(log_p))[0]
    parameters = [*embedder.parameters(), *head.parameters()]
    return loss, torch.autograd.grad(loss, parameters), sum(kept.values())


@pytest.mark.parametrize("with_features", [True, False])
def test_low_memory_changes_no_number_and_keeps_little(with_features, monkeypatch):
    """With low_memory loss and gradients are the same; a day leaves its state h for the backward pass, (N, E)."""
    monkeypatch.setattr(models, "ROWS_OF_GRU", 7)
    table, days, _ = some_days(with_features=with_features)
    window = training.make_window(days, "cpu")
    embedder, head = models.TemporalEmbedder(5 if with_features else None, 7, 6, 4), models.LinkPredictor(4, 50)
    if not with_features:
        embedder.gcn.first.grow(len(table.row), torch.Generator().manual_seed(0))
    randomize(embedder), randomize(head)
    loss, gradients, much = kept_for_backward(embedder, head, window)
    embedder.low_memory = head.low_memory = True
    same_loss, same_gradients, little = kept_for_backward(embedder, head, window)
    close(same_loss, loss)
    for found, expected in zip(same_gradients, gradients):
        close(found, expected)
    if with_features:
        assert little < much / 3


def test_absent_nodes_share_the_stated_constant():
    """A node absent on a day has GCN output ReLU(b1) W2 + b2 on it."""
    table, days, xs = some_days()
    gcn = randomize(models.GCN(5, 7, 6))
    A, X = everywhere(table, days, xs)
    absent = torch.ones(len(table.row), dtype=torch.bool)
    absent[torch.from_numpy(days[0].row)] = False
    assert absent.any()
    constant = torch.relu(gcn.first.b) @ gcn.second.W + gcn.second.b
    close(dense_gcn(gcn, A[0], X[0])[absent], constant.expand(int(absent.sum()), -1))


@pytest.mark.parametrize("alike", [False, True])
def test_static_embedder_equals_the_dense_form(alike):
    """GCN, linear layer with ReLU, normalization over the day's nodes, written densely; values and gradients."""
    _, days, xs = some_days(1, alike=alike)
    model = randomize(models.StaticEmbedder(5, 7, 6, 4))
    window = training.make_window(days, "cpu")
    z = model(window.days, window.mean, window.who)
    assert (window.who is not None) == alike
    plain = dense_gcn(model.gcn, torch.from_numpy(days[0].A_hat.toarray()), xs[0])
    expected = dense_norm(model.norm, torch.relu(plain @ model.linear.weight.T + model.linear.bias))
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(model, (z * weight).sum(), (expected * weight).sum())


@pytest.mark.parametrize("history", [0, 2])
def test_without_node_features_the_input_is_the_identity(history):
    """Rows of W stand for x W with x the identity over all nodes ever seen, absent ones included."""
    table, days, _ = some_days(with_features=False)
    days = days[-history - 1 :]
    model = models.TemporalEmbedder(None, 7, 6, 4)
    model.gcn.first.grow(len(table.row), torch.Generator().manual_seed(0))
    randomize(model)
    window = training.make_window(days, "cpu")
    z = model(window.days, window.mean, window.who)

    A, _ = everywhere(table, days, [torch.zeros(len(day.row), 1) for day in days])
    identity = torch.eye(len(table.row))
    steps = torch.stack([dense_gcn(model.gcn, a, identity) for a in A])
    expected = dense_norm(model.norm, dense_gru(model.gru, steps)[torch.from_numpy(days[-1].row)])
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(model, (z * weight).sum(), (expected * weight).sum())


@pytest.mark.parametrize("steps", [1, 5])
def test_gru_equals_torch(steps):
    """The hand-written GRU equals torch.nn.GRU with copied weights, output and gradients."""
    ours, theirs = randomize(models.GRU(6, 4)), torch.nn.GRU(6, 4)
    pairs = {"W": theirs.weight_ih_l0, "b": theirs.bias_ih_l0, "U": theirs.weight_hh_l0, "c": theirs.bias_hh_l0}
    with torch.no_grad():
        for name, parameter in pairs.items():
            parameter.copy_(getattr(ours, name).t())
    x = torch.randn(steps, 9, 6, requires_grad=True)
    h, expected = ours(x), theirs(x)[1][0]
    close(h, expected)
    weight = torch.randn_like(h)
    found = torch.autograd.grad((h * weight).sum(), [x, *(getattr(ours, name) for name in pairs)])
    wanted = torch.autograd.grad((expected * weight).sum(), [x, *pairs.values()])
    for a, b in zip(found, wanted):
        close(a, b.t() if b.ndim <= 2 else b)


def test_active_norm_equals_torch_without_running_averages():
    """The normalization equals nn.BatchNorm1d on batch statistics, in training and in evaluation mode alike."""
    ours, theirs = randomize(models.ActiveNorm(4)), torch.nn.BatchNorm1d(4, track_running_stats=False)
    with torch.no_grad():
        theirs.weight.copy_(ours.scale)
        theirs.bias.copy_(ours.shift)
    z = torch.randn(11, 4) * 3 + 1
    close(ours(z), theirs(z))
    close(ours.eval()(z), theirs(z))


def test_link_predictor_and_loss_equal_the_dense_form():
    """Head and loss equal concat, two linear layers, log-softmax and NLL per pair; values and gradients."""
    head = randomize(models.LinkPredictor(4, 3))
    z_host, z_port = torch.randn(5, 4), torch.randn(6, 4)
    host, port = torch.tensor([0, 1, 1, 4, 0, 2]), torch.tensor([5, 0, 3, 3, 0, 1])
    log_p = head(z_host, z_port, host, port)
    plain = F.log_softmax(head.last(torch.relu(head.first(torch.cat([z_host[host], z_port[port]], 1)))), 1)
    close(log_p, plain)

    loss, accuracy = models.link_loss(log_p, 4)
    truth = torch.tensor([1, 1, 1, 1, 0, 0])
    expected = F.nll_loss(plain, truth)
    close(loss, expected)
    assert accuracy.item() == pytest.approx((plain.argmax(1) == truth).float().mean().item())
    same_gradients(head, loss, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_training_lowers_the_loss_on_every_device(device):
    """Thirty Adam steps on one window lower the pretext loss, in float32, on CPU and on CUDA."""
    torch.set_default_dtype(torch.float32)
    _, days, _ = some_days()
    days = [training.make_snapshot(day.graph, torch.rand(len(day.row), 37).numpy(), device) for day in days]
    learner = training.new_learner("i-gcn-gru", 0, device, 37, 64, 32, 16, 8, learning_rate=1e-2)
    window = training.make_window(days, device)
    losses = [training.train_step(learner, window)[0].item() for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_an_input_that_wants_gradients_is_refused():
    """Where the hidden layer goes by blocks its input is data: no gradient is lost in silence."""
    S, x = torch.eye(9).to_sparse_csr(), torch.rand(9, 37, requires_grad=True)
    for model, day in ((models.StaticEmbedder(37, 6, 5, 4), ((S, S), x)),
                       (models.TemporalEmbedder(37, 6, 5, 4), ((S, S), x, None, None))):
        with pytest.raises(ValueError, match="requires no gradient"):
            model([day])
        assert torch.isfinite(model([(day[0], x.detach(), *day[2:])])).all()


def test_second_derivatives_are_refused():
    """The hidden layer by blocks has first derivatives only: asked for more it says so, and gives no wrong number."""
    x, W1, b1, W = torch.rand(9, 4), torch.rand(4, 6), torch.rand(6), torch.rand(6, 3)
    for parameter in (W1, b1, W):
        parameter.requires_grad_()
    S = torch.eye(9).to_sparse_csr()
    for out in (models.HiddenProduct.apply(x, W1, b1, W), models.PropagatedHidden.apply(S, S, x, W1, b1)):
        g, = torch.autograd.grad(out.square().sum(), W1, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            g.sum().backward()
