"""models.py: every layer and both embedders against their dense float64 forms, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

import graph as graphs
import models
import training
from tests.test_graph import random_packets


@pytest.fixture(autouse=True)
def seeded_float64():
    """Equations are compared in float64."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def some_days(n_days=4, n_features=5):
    """Snapshots of random small days whose hosts come and go, float64, and the node table of all of them."""
    table, days = training.NO_NODES, []
    for seed in range(n_days):
        src, port = random_packets(seed, n=200)
        hosts = 10 + (src % 23 + 3 * seed) % 29            # a few hosts shared from day to day
        graph, _ = graphs.build_graph(hosts.astype("uint32"), port, top_ports=6)
        x = torch.rand(len(graph.hosts) + len(graph.ports), n_features).numpy()
        table, row = training.add_nodes(table, training.node_keys(graph))
        A_hat = graphs.normalized_adjacency(graph).astype("float64")
        days.append(training.Snapshot(graph, x, A_hat, row))
    return table, days


def window_of(network, days, with_features=True):
    """The network's window, of days with features or without."""
    if with_features:
        return network.window([day._replace(row=None) for day in days])
    return network.window([day._replace(x=None) for day in days])


def everywhere(table, days):
    """The all-nodes form: per day a dense A_hat over every node ever seen and, for the absent, zero features."""
    total = len(table.row)
    A, X = [], []
    for day in days:
        full, x = torch.eye(total), torch.zeros(total, day.x.shape[1])
        row = torch.from_numpy(day.row)
        full[row[:, None], row[None]] = torch.from_numpy(day.A_hat.toarray())
        x[row] = torch.from_numpy(day.x)
        A.append(full)
        X.append(x)
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
            assert b.abs().max() > 0 or name.endswith("gru.U"), name  # U has no gradient at H = 0: h = 0
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)


def randomize(module):
    """Biases start at zero: give every parameter a value that shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    return module


@pytest.mark.parametrize(("hidden", "out"), [(7, 6), (4, 6), (5, 5)])
def test_graph_convolution_and_gcn_equal_the_dense_form(hidden, out):
    """The sparse GCN equals A_hat z W + b written densely, values and gradients, whichever side is the narrower."""
    _, [day] = some_days(1)
    x = torch.from_numpy(day.x).requires_grad_()
    gcn = randomize(models.GCN(5, hidden, out))
    z = gcn(graphs.as_torch(day.A_hat), x)
    expected = dense_gcn(gcn, torch.from_numpy(day.A_hat.toarray()), x)
    close(z, expected)
    weight = torch.randn_like(z)
    close(*(torch.autograd.grad((value * weight).sum(), x, retain_graph=True)[0] for value in (z, expected)))
    same_gradients(gcn, (z * weight).sum(), (expected * weight).sum())


def test_without_features_a_row_of_weights_is_a_node():
    """NodeRows equals A_hat x W + b with x the rows of the identity that the nodes have, values and gradients."""
    table, [*_, day] = some_days(3)
    layer = models.NodeRows(6)
    layer.grow(len(table.key), torch.Generator().manual_seed(0))
    randomize(layer)
    z = layer(graphs.as_torch(day.A_hat), torch.from_numpy(day.row))
    identity = torch.eye(len(table.key))[torch.from_numpy(day.row)]
    expected = torch.from_numpy(day.A_hat.toarray()) @ identity @ layer.W + layer.b
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(layer, (z * weight).sum(), (expected * weight).sum())


def test_new_rows_are_uniform_and_old_ones_stay():
    """`grow` keeps the rows that are there; new ones have mean 0 and variance 1 / out, by the generator's numbers."""
    layers = []
    for seed in (0, 0, 1):
        layer, generator = models.NodeRows(50), torch.Generator().manual_seed(seed)
        layer.grow(30, generator)
        first = layer.W.detach().clone()
        layer.grow(2000, generator)
        assert layer.W.shape == (2030, 50) and torch.equal(layer.W[:30], first) and layer.W.grad is None
        layers.append(layer.W.detach())
    assert torch.equal(layers[0], layers[1]) and not torch.equal(layers[0], layers[2])
    assert layers[0].mean().abs() < 0.002 and layers[0].var().item() == pytest.approx(1 / 50, rel=0.02)
    assert layers[0].abs().max() <= (3 / 50) ** 0.5


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("history", [0, 1, 3])
def test_temporal_embedder_equals_the_all_nodes_form(history, with_features):
    """What GCN on all nodes of all days, GRU and normalization give densely is what the window gives.

    Absent nodes are one constant with features; without, the input is the identity, and each has its row of W.
    """
    table, days = some_days()
    days = days[-history - 1 :]
    network = training.Network(True, 5 if with_features else None, 7, 6, 4)
    if not with_features:
        network.grow(len(table.key), torch.Generator().manual_seed(0))
    model = randomize(network).embedder
    z = model(window_of(network, days, with_features))

    A, X = everywhere(table, days)
    X = X if with_features else [torch.eye(len(table.key))] * len(A)
    steps = torch.stack([dense_gcn(model.gcn, a, x) for a, x in zip(A, X)])
    expected = dense_norm(model.norm, dense_gru(model.gru, steps)[torch.from_numpy(days[-1].row)])
    assert any((graphs.node_positions(day.graph, days[-1].graph) < 0).any() for day in days[:-1]) or not history
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(model, (z * weight).sum(), (expected * weight).sum())


def test_absent_nodes_share_the_stated_constant():
    """A node absent on a day has GCN output ReLU(b1) W2 + b2 on it."""
    table, days = some_days()
    network = randomize(training.Network(True, 5, 7, 6, 4))
    gcn = network.embedder.gcn
    A, X = everywhere(table, days)
    absent = torch.ones(len(table.row), dtype=torch.bool)
    absent[torch.from_numpy(days[0].row)] = False
    constant = torch.relu(gcn.first.b) @ gcn.second.W + gcn.second.b
    close(dense_gcn(gcn, A[0], X[0])[absent], constant.expand(int(absent.sum()), -1))
    A_hat, x, node = window_of(network, days).days[0]
    gone = torch.from_numpy(graphs.node_positions(days[0].graph, days[-1].graph) < 0)
    assert absent.any() and gone.any()
    close(gcn(A_hat, x)[node][gone], constant.expand(int(gone.sum()), -1))


@pytest.mark.parametrize("with_features", [True, False])
def test_static_embedder_equals_the_dense_form(with_features):
    """GCN, linear layer with ReLU, normalization over the day's nodes, written densely; values and gradients."""
    table, [day] = some_days(1)
    network = training.Network(False, 5 if with_features else None, 7, 6, 4)
    if not with_features:
        network.grow(len(table.key), torch.Generator().manual_seed(0))
    model = randomize(network).embedder
    z = model(window_of(network, [day], with_features))
    x = torch.from_numpy(day.x) if with_features else torch.eye(len(table.key))[torch.from_numpy(day.row)]
    plain = dense_gcn(model.gcn, torch.from_numpy(day.A_hat.toarray()), x)
    expected = dense_norm(model.norm, torch.relu(plain @ model.linear.weight.T + model.linear.bias))
    close(z, expected)
    weight = torch.randn_like(z)
    same_gradients(model, (z * weight).sum(), (expected * weight).sum())


@pytest.mark.parametrize("steps", [1, 5])
def test_gru_equals_torch(steps):
    """The hand-written GRU equals its gates written out and torch.nn.GRU with copied weights, output and gradients."""
    ours, theirs = randomize(models.GRU(6, 4)), torch.nn.GRU(6, 4)
    pairs = {"W": theirs.weight_ih_l0, "b": theirs.bias_ih_l0, "U": theirs.weight_hh_l0, "c": theirs.bias_hh_l0}
    with torch.no_grad():
        for name, parameter in pairs.items():
            parameter.copy_(getattr(ours, name).t())
    x = torch.randn(steps, 9, 6, requires_grad=True)
    h, expected = ours(x), theirs(x)[1][0]
    close(h, expected)
    close(h, dense_gru(ours, x))
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
    (W1, b1), (W2, b2) = ((layer.weight, layer.bias) for layer in (head.first, head.last))
    scores = [torch.relu(torch.cat([z_host[h], z_port[p]]) @ W1.T + b1) @ W2.T + b2 for h, p in zip(host, port)]
    plain = torch.stack([score - torch.log(torch.exp(score).sum()) for score in scores])
    close(log_p, plain)

    loss, accuracy = models.link_loss(log_p, 4)
    truth = torch.tensor([1, 1, 1, 1, 0, 0])
    expected = F.nll_loss(plain, truth)
    close(loss, expected)
    assert accuracy.item() == pytest.approx((plain.argmax(1) == truth).float().mean().item())
    same_gradients(head, loss, expected)


def test_the_paper_s_widths_are_the_defaults():
    """37 -> 1024 -> 512, embeddings of 128, a head of 256 -> 64 -> 2 (paper 4.1)."""
    shapes = {name: tuple(value.shape) for name, value in training.Network(True).named_parameters()}
    assert shapes["embedder.gcn.first.W"] == (37, 1024) and shapes["embedder.gcn.second.W"] == (1024, 512)
    assert shapes["embedder.gru.W"] == (512, 3 * 128) and shapes["embedder.norm.scale"] == (128,)
    assert shapes["head.first.weight"] == (64, 256) and shapes["head.last.weight"] == (2, 64)
    assert models.StaticEmbedder().linear.weight.shape == (128, 512)
