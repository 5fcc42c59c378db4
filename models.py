"""GCN, GRU and link predictor of *Exploring Temporal GNN Embeddings for Darknet Traffic Analysis* (section 2).

    N           nodes of a day, hosts first, then ports          A_hat (N, N)  D^-1 (A + I), sparse CSR
    x, z, h     input features, GCN output, GRU state            W, b          weights (in, out) and bias (out,)
    H           history: day t is embedded from days t-H..t      E             embedding width, 128

    GCN         z^1 = x,   z^l = A_hat z^(l-1) W^l + b^l,  ReLU except after the last layer;  37 -> 1024 -> 512
    gcn         embedding = norm(ReLU(z W + b)),  512 -> 128                                  StaticEmbedder
    gcn-gru     embedding = norm(GRU(GCN(G^(t-H)), ..., GCN(G^t)))                            TemporalEmbedder
    norm        batch normalization over the nodes of day t, in training and inference alike
    pretext     log softmax(Linear 2 (ReLU(Linear 64 (z_host, z_port)))): is there an edge?   LinkPredictor

"i-" (incremental) is a way of training, not a model. The plain forms are `GCN.forward` and `GRU.forward`; the
embedders use identities that give the same function with far less work, each stated where it stands and held to the
plain form by a test. Sparse operators come as pairs (A, A_T), the CSR tensor and its transpose. Imports torch only.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

MANY = 1.5  # nodes for each row wanted of them: where there are more, propagating first is the faster order
ROWS_OF_GRU = 8192  # rows of a GRU step computed at once with low_memory
AT_A_TIME = {"cpu": 1 << 20, "cuda": 1 << 26}  # numbers of a hidden layer: what a cache holds; a GPU wants few launches


class Propagate(torch.autograd.Function):
    """A z with the gradient A_T g, for sparse A: autograd's own would transpose A at every step."""

    @staticmethod
    def forward(ctx, A, A_T, z):
        ctx.A_T = A_T
        return A @ z

    @staticmethod
    def backward(ctx, g):
        return None, None, ctx.A_T @ g.contiguous()


# function(*inputs), with its inputs alone kept: the backward pass computes the rest anew, to the same values.
recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def mean_of_rows(z):
    return z.mean(0)


def with_bias(x, W, b):
    """x W + b = [x 1] [W; b]: the two factors, whose product needs no pass over the result to add the bias.

    x is data here; ValueError if it requires gradients.
    """
    if x.requires_grad:
        raise ValueError("expected an x that requires no gradient; GCN.forward has gradients of x")
    return torch.cat([x, x.new_ones(len(x), 1)], 1), torch.cat([W, b[None]])


def rows_of(z, who):
    """z[who]; all of z for None."""
    return z if who is None else z.index_select(0, who)


def propagate(operator, z):
    """A z, (rows of A, d), for operator = (A, A_T) and z (columns of A, d): the weighted sums over neighbours.

    An operator (A, A_T, complete) is one process's share of a larger one: complete(A z) adds what the others hold.
    """
    return completed(operator, Propagate.apply(*operator[:2], z))


def completed(operator, z):
    """z = A z' of one process's share with what the others hold added; z itself for a plain (A, A_T)."""
    return operator[2](z) if len(operator) > 2 else z


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
    """S ReLU(x W1 + b1) for sparse S, given with its transpose, a block of the hidden layer's columns at a time.

    As above, the hidden layer itself is never there as a whole. x is data.
    """

    @staticmethod
    def forward(ctx, S, S_T, x, W1, b1):
        x, W1 = with_bias(x, W1, b1)
        ctx.S_T = S_T
        ctx.save_for_backward(x, W1)
        out = x.new_empty(S.shape[0], W1.shape[1])
        for columns in blocks(W1.shape[1], len(x), x.device):
            out[:, columns] = S @ (x @ W1[:, columns]).relu_()
        return out                                          # (rows of S, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W1 = ctx.saved_tensors
        g_W1 = torch.empty_like(W1)
        for columns in blocks(W1.shape[1], len(x), x.device):
            z = (x @ W1[:, columns]).relu_()
            g_z = torch.ops.aten.threshold_backward(ctx.S_T @ g[:, columns].contiguous(), z, 0)
            g_W1[:, columns] = x.T @ g_z
        return None, None, None, g_W1[:-1], g_W1[-1]


def blocks(n, width, device):
    """Slices of 0..n-1 whose items, `width` numbers each, fill the device's AT_A_TIME; of 32 items at least."""
    step = max(32, AT_A_TIME[device.type] // width)
    return [slice(start, start + step) for start in range(0, n, step)]


class GraphConvolution(nn.Module):
    """One layer, z' = A_hat z W + b (paper 2). The bias is the released code's; the paper is silent."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_in, n_out)))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, operator, z):
        z = z @ self.W                                      # (N, out)   transform
        return propagate(operator, z) + self.b              # (N, out)   propagate


class GCN(nn.Module):
    """The paper's graph convolution, L = 3 counting the input: 37 -> 1024 -> 512.

    n_features None: no node features. The input is then the identity, one row of the first W per node ever seen
    (`grow` adds rows), and x @ W is a look-up of rows: no dense identity is ever formed.
    """

    def __init__(self, n_features=37, hidden=1024, out=512):
        super().__init__()
        self.first = NodeRows(hidden) if n_features is None else GraphConvolution(n_features, hidden)
        self.second = GraphConvolution(hidden, out)

    def forward(self, operator, x):
        """The plain form. x (N, n_features), or without features the nodes' rows (N,) int64 -> z (N, out)."""
        z = torch.relu(self.first(operator, x))             # (N, hidden)
        return self.second(operator, z)                     # (N, out)

    def followed_by(self, weight, bias):
        """The last layer and a linear map after it as one: (W2 weight, b2 weight + bias), for `linear_of`."""
        return self.second.W @ weight, self.second.b @ weight + bias  # (hidden, n_out), (n_out,)

    def linear_of(self, rows, x, W, b, many=None):
        """z[rows] @ weight + bias, (R, n_out), of the last layer's z, which is never formed.

        (W, b) is self.followed_by(weight, bias). Exact identities:

        A_hat (x W1) = (A_hat x) W1: propagation of the input does not depend on weights and is done beforehand;
        (A_hat z W2 + b2) weight = A_hat (z (W2 weight)) + b2 weight;
        rows of A_hat z are products of rows of A_hat: only the rows wanted are propagated;
        A_hat (z W) = (A_hat z) W: where `many` times (None: MANY) as many nodes are there as rows wanted, these are
        propagated first, which is faster, and keeps (R, hidden) numbers for the backward pass.

        rows = (S, S_T): the R rows of A_hat that are wanted, see graph.rows_for; a column past the N nodes' stands for
        nodes absent on this day, whose z is ReLU(b1) W2 + b2.
        x: with node features those of A_hat x, with one zero row below: a row for each column of S. It is data: if it
        requires gradients, which `forward` has, that is a ValueError. Without features a triple (A_hat operator, some
        rows of W1, which of them are the N nodes' and below those of the absent nodes), see `looked_up`.
        """
        if isinstance(self.first, NodeRows):
            operator, W_some, which = x
            N = operator[0].shape[0]
            present, absent = W_some.index_select(0, which).split([N, len(which) - N])
            z = torch.cat([propagate(operator, present), absent]) + self.first.b  # absent: the self-loop alone
            z = propagate(rows, torch.relu(z) @ W)          # (R, n_out)
        elif len(x) > (many or MANY) * rows[0].shape[0]:
            z = completed(rows, PropagatedHidden.apply(*rows[:2], x, self.first.W, self.first.b) @ W)
        else:
            z = propagate(rows, HiddenProduct.apply(x, self.first.W, self.first.b, W))
        return z.add_(b)                                    # in place: one (R, n_out) less to touch

    def looked_up(self, days):
        """A window's days, tuples (rows, x, ...), with each x as `linear_of` takes it.

        Without node features x comes as (A_hat operator, nodes, which), `nodes` being the rows of W1 that the window
        needs, the same on all days. They are looked up once: the gradient of a look-up is as large as W1.
        """
        if not isinstance(self.first, NodeRows):
            return days
        W_some = self.first.W.index_select(0, days[0][1][1])
        return [(rows, (operator, W_some, which), *more) for rows, (operator, _, which), *more in days]


class NodeRows(nn.Module):
    """First layer on identity input, A_hat W + b: W (nodes ever seen, out), one row per node."""

    def __init__(self, n_out):
        super().__init__()
        self.W = nn.Parameter(torch.empty(0, n_out))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, operator, rows):
        return propagate(operator, self.W.index_select(0, rows)) + self.b   # (N, out)

    def grow(self, n, generator):
        """`n` more rows, uniform with the variance 1 / out (the input of a node is one-hot, its fan-in 1).

        What goes with W grows apart: an optimizer's moments, see training.grow; saved weights load into as many rows.
        """
        fresh = torch.rand(n, self.W.shape[1], generator=generator, device=self.W.device)
        fresh = (2 * fresh - 1) * (3 / self.W.shape[1]) ** 0.5
        self.W.data, self.W.grad = torch.cat([self.W.data, fresh.to(self.W.dtype)]), None


class GRU(nn.Module):
    """Gated recurrent unit in the form of Chung et al., as torch.nn.GRU computes it (the paper is silent on the form).

        r = sigmoid(x W_r + b_r + h U_r + c_r)        u = sigmoid(x W_u + b_u + h U_u + c_u)
        n = tanh(x W_n + b_n + r * (h U_n + c_n))     h' = (1 - u) * n + u * h

    W = [W_r W_u W_n] (n_in, 3 E), b (3 E,), U (E, 3 E), c (3 E,): the transposes of torch.nn.GRU's weight_ih,
    bias_ih, weight_hh, bias_hh, which orders the gates the same way.
    """

    def __init__(self, n_in, n_out):
        super().__init__()
        bound = n_out**-0.5                                 # as torch.nn.GRU
        for name, shape in {"W": (n_in, 3 * n_out), "b": (3 * n_out,),
                            "U": (n_out, 3 * n_out), "c": (3 * n_out,)}.items():
            setattr(self, name, nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound)))

    def forward(self, x):
        """x (steps, N, n_in) -> h (N, E) after the last step; h = 0 before the first."""
        h = x.new_zeros(x.shape[1], len(self.U))
        for x_W in x @ self.W + self.b:                     # all steps' input products in one
            h = self.step(x_W, h)
        return h

    def step(self, x_W, h):
        """x_W (N, 3 E), the step's x W + b, and h (N, E) -> h' (N, E)."""
        x_r, x_u, x_n = x_W.chunk(3, dim=1)                 # (N, E) each
        h_r, h_u, h_n = torch.addmm(self.c, h, self.U).chunk(3, dim=1)  # h U + c
        r = (x_r + h_r).sigmoid_()                          # reset gate; in place: nothing else needs the sum
        u = (x_u + h_u).sigmoid_()                          # update gate
        n = torch.addcmul(x_n, r, h_n).tanh_()              # candidate, x_n + r * h_n
        return torch.lerp(n, h, u)                          # (1 - u) * n + u * h


class StepByBlocks(torch.autograd.Function):
    """GRU.step by blocks of rows; the backward pass computes each block's gates again instead of keeping them."""

    @staticmethod
    def forward(ctx, gru, inputs, h, U, c):
        ctx.gru = gru
        ctx.save_for_backward(inputs, h, U, c)
        out = torch.empty_like(h)
        for start in range(0, len(h), ROWS_OF_GRU):
            rows = slice(start, start + ROWS_OF_GRU)
            out[rows] = gru.step(inputs[rows], h[rows])
        return out                                          # (N, E)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        inputs, h, U, c = ctx.saved_tensors
        g_inputs, g_h, g_U, g_c = (torch.zeros_like(z) for z in (inputs, h, U, c))
        for start in range(0, len(h), ROWS_OF_GRU):
            rows = slice(start, start + ROWS_OF_GRU)
            x, z = inputs[rows].detach().requires_grad_(), h[rows].detach().requires_grad_()
            with torch.enable_grad():
                out = ctx.gru.step(x, z)
            g_inputs[rows], g_h[rows], more_U, more_c = torch.autograd.grad(out, (x, z, U, c), g[rows])
            g_U += more_U
            g_c += more_c
        return None, g_inputs, g_h, g_U, g_c


class ActiveNorm(nn.Module):
    """Batch normalization by the statistics of the nodes given: the day's active ones, always; no running averages.

    (z - mean) / sqrt(variance + eps) * scale + shift, per dimension, population variance. z (N, E) -> (N, E).
    mean(z) -> (E,) is over all of the day's nodes, of which z may be one process's share.
    """

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, z, mean=mean_of_rows):
        z = z - mean(z)
        return z * (self.scale * torch.rsqrt(mean(z.square()) + self.eps)) + self.shift


class StaticEmbedder(nn.Module):
    """GCN, Linear 512 -> E, ReLU, normalization: the embedder of `gcn` and `i-gcn` (paper 4.1; ReLU: released code)."""

    def __init__(self, n_features=37, hidden=1024, gcn_out=512, n_out=128):
        super().__init__()
        self.gcn = GCN(n_features, hidden, gcn_out)
        self.linear = nn.Linear(gcn_out, n_out)
        self.norm = ActiveNorm(n_out)

    def forward(self, days, mean=mean_of_rows, who=None):
        """days, mean and who as TemporalEmbedder takes them, of one day -> embeddings (N, E) of that day's nodes."""
        days = self.gcn.looked_up(days)
        [(rows, x, *_)] = days                              # one day's states are its rows
        z = self.gcn.linear_of(rows, x, *self.gcn.followed_by(self.linear.weight.T, self.linear.bias))
        return self.norm(rows_of(torch.relu(z), who), mean)  # (N, E)


class TemporalEmbedder(nn.Module):
    """GRU over the GCN outputs of days t-H..t, normalization: `gcn-gru` and `i-gcn-gru` (paper 2, figure 3).

    Embeds the nodes active on day t, the last one. Nodes that are alike on all days so far have one state of the GRU
    between them; a day that tells them apart makes more states of it.
    low_memory: of each day its states h alone are kept for the backward pass.
    """

    def __init__(self, n_features=37, hidden=1024, gcn_out=512, n_out=128, low_memory=False):
        super().__init__()
        self.gcn = GCN(n_features, hidden, gcn_out)
        self.gru = GRU(gcn_out, n_out)
        self.norm = ActiveNorm(n_out)
        self.low_memory = low_memory

    def forward(self, days, mean=mean_of_rows, who=None):
        """Embeddings (N_t, E) of the nodes of day t.

        days: H + 1 tuples (rows, x, now, before), oldest first: rows and x as GCN.looked_up takes them; state i of the
        day's R goes on from state before[i] of the day before, with row now[i] of `rows`. who (N_t,): the state of
        day t that each node has. now, before (R,) and who are int64, or None where i has i. mean: see ActiveNorm.
        """
        days = self.gcn.looked_up(days)
        W, b = self.gcn.followed_by(self.gru.W, self.gru.b)
        step = partial(recompute, self.step) if self.low_memory else self.step
        (rows, *_), _, now, _ = days[0]
        h = self.gru.U.new_zeros(rows.shape[0] if now is None else len(now), len(self.gru.U))
        for day in days:
            h = step(*day, h, W, b)                         # (R, E)
        return self.norm(rows_of(h, who), mean)             # (N_t, E)

    def step(self, rows, x, now, before, h, W, b):
        """The GRU's states (R, E) after one more day."""
        x_W = rows_of(self.gcn.linear_of(rows, x, W, b, many=4 * MANY if self.low_memory else None), now)  # (R, 3 E)
        h = rows_of(h, before)                              # (R, E)
        if self.low_memory:
            return StepByBlocks.apply(self.gru, x_W, h, self.gru.U, self.gru.c)
        return self.gru.step(x_W, h)


class LinkPredictor(nn.Module):
    """The pretext task's head: concat(z_host, z_port) -> 64, ReLU -> 2 -> log-softmax (paper 4.1).

    concat(z_host, z_port) W = z_host W_host + z_port W_port: one product per node instead of one per edge.
    low_memory: the hidden layer (pairs, hidden) is computed as many pairs at a time as there are nodes, twice.
    """

    def __init__(self, n_in=128, hidden=64, low_memory=False):
        super().__init__()
        self.first = nn.Linear(2 * n_in, hidden)
        self.last = nn.Linear(hidden, 2)
        self.low_memory = low_memory

    def forward(self, z_host, z_port, host, port):
        """Log-probabilities (pairs, 2) of (no edge, edge) for the pairs (host[i], port[i]), (pairs,) int64 each."""
        W_host, W_port = self.first.weight.chunk(2, dim=1)  # (hidden, n_in) each
        a, b = F.linear(z_host, W_host, self.first.bias), F.linear(z_port, W_port)  # (nodes, hidden)
        if not self.low_memory:
            return self.of_pairs(a, b, host, port)
        pairs = zip(host.split(len(a) + len(b)), port.split(len(a) + len(b)))
        return torch.cat([recompute(self.of_pairs, a, b, *block) for block in pairs])

    def of_pairs(self, a, b, host, port):
        z = torch.relu(a.index_select(0, host) + b.index_select(0, port))  # (pairs, hidden)
        return F.log_softmax(self.last(z), dim=1)


def link_loss(log_p, n_edges, n_pairs=None):
    """Negative log-likelihood (mean over the pairs) and accuracy of log_p (pairs, 2): edges first, then negatives.

    n_pairs: how many pairs there are in all where these are one process's share of them; the shares add up.
    """
    n_pairs = n_pairs or len(log_p)
    log_p_true = torch.cat([log_p[:n_edges, 1], log_p[n_edges:, 0]])  # (pairs,)
    correct = log_p_true.detach() > -math.log(2)            # more likely than not: p > 1/2
    return -log_p_true.sum() / n_pairs, correct.float().sum() / n_pairs
