"""The embedders and the link predictor of models.py, computed with less work: same parameters, same state_dict.

Exact identities; the tests hold each, and whole steps, to the plain forms (tests/fast). What each saves of a training
step stands in docs/speed.md.

    A_hat (x W1) = (A_hat x) W1                      the propagation of the input knows no weights: once per day
    (A_hat (z W2) + b2) W = A_hat (z (W2 W)) + b2 W  two linear maps are one: 1024 -> 384 instead of 1024 -> 512 -> 384
    (A_hat z)[rows] = A_hat[rows] z                  only the rows that day t wants are propagated
    A_hat (z W) = (A_hat z) W                        propagated first where many more nodes are there than are wanted
    concat(z_a, z_b) W = z_a W_a + z_b W_b           the head: a product per node, not one per edge

Imports models and torch.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

import models

AT_A_TIME = {"cpu": 1 << 20, "cuda": 1 << 26}  # numbers of a hidden layer: what a cache holds; a GPU wants few launches


def followed_by(layer, W, b):
    """A last layer z W2 + b2 and a linear map (W, b) after it as one: (W2 W, b2 W + b)."""
    return layer.W @ W, layer.b @ W + b                     # (hidden, n_out), (n_out,)


def hidden_then(gcn, day, W, b):
    """The rows of A_hat ReLU(A_hat x W1 + b1) W + b that day t wants, (R, n_out), of day, a layout.Day.

    With W, b = followed_by(gcn.second, ...) that is the GCN's output under a linear map, without the output itself.
    """
    if day.Ax is None:
        N = day.A_hat.shape[0]
        present, absent = gcn.first.W.index_select(0, day.row).split([N, len(day.row) - N])
        z = torch.relu(torch.cat([day.A_hat @ present, absent]) + gcn.first.b)  # absent: the self-loop alone
        return day.S @ (z @ W) + b
    if day.propagate_first:
        return torch.addmm(b, PropagatedHidden.apply(day.S, day.Ax, gcn.first.W, gcn.first.b), W)
    return (day.S @ HiddenProduct.apply(day.Ax, gcn.first.W, gcn.first.b, W)).add_(b)  # one (R, n_out) less to touch


class HiddenProduct(torch.autograd.Function):
    """ReLU(x W1 + b1) W, a block of rows at a time.

    The hidden layer (N, 1024) is the largest thing in the model. By blocks it never leaves the cache, and the
    backward pass computes it again from x (37 wide: a few percent of the work) instead of keeping it. x is data: it
    gets no gradient.
    """

    @staticmethod
    def forward(ctx, x, W1, b1, W):
        x, W1 = with_bias(x, W1, b1)
        ctx.save_for_backward(x, W1, W)
        out = x.new_empty(len(x), W.shape[1])
        for rows in blocks(len(x), len(W), x.device):
            torch.mm((x[rows] @ W1).relu_(), W, out=out[rows])
        return out                                          # (N, out)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W1, W = ctx.saved_tensors
        g_W1, g_W = torch.zeros_like(W1), torch.zeros_like(W)
        for rows in blocks(len(x), len(W), x.device):
            z = (x[rows] @ W1).relu_()
            g_W.addmm_(z.T, g[rows])
            g_z = torch.ops.aten.threshold_backward(g[rows] @ W.T, z, 0)  # gradient where z > 0, else 0
            g_W1.addmm_(x[rows].T, g_z)
        return None, g_W1[:-1], g_W1[-1], g_W


class PropagatedHidden(torch.autograd.Function):
    """S ReLU(x W1 + b1) for an Operator S, a block of the hidden layer's columns at a time, likewise."""

    @staticmethod
    def forward(ctx, S, x, W1, b1):
        x, W1 = with_bias(x, W1, b1)
        ctx.S = S
        ctx.save_for_backward(x, W1)
        out = x.new_empty(S.shape[0], W1.shape[1])
        for columns in blocks(W1.shape[1], len(x), x.device):
            out[:, columns] = S.A @ (x @ W1[:, columns]).relu_()
        return out                                          # (R, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W1 = ctx.saved_tensors
        g_W1 = torch.empty_like(W1)
        for columns in blocks(W1.shape[1], len(x), x.device):
            z = (x @ W1[:, columns]).relu_()
            g_z = torch.ops.aten.threshold_backward(ctx.S.A_T @ g[:, columns].contiguous(), z, 0)
            g_W1[:, columns] = x.T @ g_z
        return None, None, g_W1[:-1], g_W1[-1]


def with_bias(x, W1, b1):
    """x W1 + b1 = [x 1] [W1; b1]: the two factors, whose product needs no pass over the result to add the bias.

    Raises ValueError for an x that requires gradients, which only the plain form has.
    """
    if x.requires_grad:
        raise ValueError("expected an x that requires no gradient; models.GCN has gradients of x")
    return torch.cat([x, x.new_ones(len(x), 1)], 1), torch.cat([W1, b1[None]])


def blocks(n, width, device):
    """Slices of 0..n-1 whose items, `width` numbers each, fill the device's AT_A_TIME; of 32 items at least."""
    step = max(32, AT_A_TIME["cpu" if device.type == "cpu" else "cuda"] // width)
    return [slice(start, start + step) for start in range(0, n, step)]


def rows_of(z, at):
    """z[at]; all of z for None."""
    return z if at is None else z.index_select(0, at)


def gru_step(gru, x_W, h):
    """As models.GRU.step, of x_W (N, 3 E) and h (N, E), with fewer passes over memory."""
    x_r, x_u, x_n = x_W.chunk(3, dim=1)
    h_r, h_u, h_n = torch.addmm(gru.c, h, gru.U).chunk(3, dim=1)
    r = (x_r + h_r).sigmoid_()                              # in place: nothing else needs the sum
    u = (x_u + h_u).sigmoid_()
    return torch.lerp(torch.addcmul(x_n, r, h_n).tanh_(), h, u)  # (1 - u) * n + u * h


class StaticEmbedder(models.StaticEmbedder):
    """As the plain one; called with a fast.layout.Window."""

    def before_norm(self, window):
        [day] = window.days
        W, b = followed_by(self.gcn.second, self.linear.weight.T, self.linear.bias)
        z = hidden_then(self.gcn, day, W, b)
        return rows_of(rows_of(torch.relu(z), day.now), window.state)  # (N, E)


class TemporalEmbedder(models.TemporalEmbedder):
    """As the plain one; called with a fast.layout.Window."""

    low_memory = False  # keep of each day its states alone, and compute the rest again in the backward pass

    def before_norm(self, window):
        W, b = followed_by(self.gcn.second, self.gru.W, self.gru.b)
        h = W.new_zeros(1, len(self.gru.U))                 # before the first day one state for all
        for day in window.days:
            if self.low_memory:
                h = checkpoint(self.day, day, h, W, b, use_reentrant=False, preserve_rng_state=False)
            else:
                h = self.day(day, h, W, b)
        return rows_of(h, window.state)                     # (N_t, E)

    def day(self, day, h, W, b):
        """The GRU's states (states, E) after one more day, from h, those after the day before."""
        x_W = rows_of(hidden_then(self.gcn, day, W, b), day.now)  # (states, 3 E)
        return gru_step(self.gru, x_W, rows_of(h, day.before))


class LinkPredictor(models.LinkPredictor):
    """As the plain one: concat(z_host, z_port) W = z_host W_host + z_port W_port."""

    def forward(self, z_host, z_port, host, port):
        W_host, W_port = self.first.weight.chunk(2, dim=1)  # (hidden, n_in) each
        a, b = F.linear(z_host, W_host, self.first.bias), F.linear(z_port, W_port)  # (nodes, hidden)
        z = torch.relu(a.index_select(0, host) + b.index_select(0, port))  # (pairs, hidden)
        return F.log_softmax(self.last(z), dim=1)
