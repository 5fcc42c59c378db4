"""fast/models.py: each identity against the plain form, values and gradients."""

import pytest
import torch

import models as plain_models
from fast import layout, models
from tests.fast.days import agree, networks, some_days


@pytest.mark.parametrize("propagate_first", [False, True])
def test_either_order_of_propagating_and_transforming(propagate_first):
    """A_hat (z W) = (A_hat z) W: both orders give the plain embeddings and gradients."""
    plain, fast, window, fast_window = networks(True, some_days(4), torch.float64)
    fast_window = fast_window._replace(days=[day._replace(propagate_first=propagate_first)
                                             for day in fast_window.days])
    weight = torch.randn(len(plain.embedder(window)), 16, dtype=torch.float64)
    for network, its_window in ((plain, window), (fast, fast_window)):
        z = network.embedder(its_window)
        (z * weight).sum().backward()
    agree(z.detach(), plain.embedder(window).detach(), torch.float64)
    for found, expected in zip(fast.embedder.parameters(), plain.embedder.parameters()):
        agree(found.grad, expected.grad, torch.float64)


def test_two_linear_maps_are_one():
    """(z W2 + b2) W + b is one product of z and one bias."""
    layer = plain_models.GraphConvolution(6, 5).double()
    layer.b.data.uniform_()
    z, W, b = (torch.rand(*shape, dtype=torch.float64) for shape in ((9, 6), (5, 4), (4,)))
    product, bias = models.followed_by(layer, W, b)
    agree((z @ product + bias).detach(), ((z @ layer.W + layer.b) @ W + b).detach(), torch.float64)


def test_the_head_by_nodes_is_the_head_by_pairs():
    """concat(z_host, z_port) W = z_host W_host + z_port W_port: log-probabilities and gradients, nodes repeated."""
    plain, fast = plain_models.LinkPredictor(4, 3).double(), models.LinkPredictor(4, 3).double()
    fast.load_state_dict(plain.state_dict())
    z_host, z_port = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 6))
    pairs = torch.tensor([[0, 1, 1, 4, 0, 2], [5, 0, 3, 3, 0, 1]])
    log_p, expected = (head(z_host, z_port, *pairs) for head in (fast, plain))
    agree(log_p, expected, torch.float64)
    weight = torch.randn_like(log_p)
    found, wanted = (torch.autograd.grad((out * weight).sum(), (z_host, z_port, *head.parameters()))
                     for out, head in ((log_p, fast), (expected, plain)))
    for a, b in zip(found, wanted):
        agree(a, b, torch.float64)


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
