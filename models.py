"""GCN, GRU and link predictor of *Exploring Temporal GNN Embeddings for Darknet Traffic Analysis* (section 2).

    N           nodes of a day, hosts first, then ports          A_hat (N, N)  D^-1 (A + I), sparse CSR
    x, z, h     input features, GCN output, GRU state            W, b          weights (in, out) and bias (out,)
    H           history: day t is embedded from days t-H..t      E             embedding width, 128

    GCN         z^1 = x,   z^l = A_hat z^(l-1) W^l + b^l,  ReLU except after the last layer;  37 -> 1024 -> 512
    gcn         embedding = norm(ReLU(z W + b)),  512 -> 128                                  StaticEmbedder
    gcn-gru     embedding = norm(GRU(GCN(G^(t-H)), ..., GCN(G^t)))                            TemporalEmbedder
    norm        batch normalization over the nodes of day t, in training and inference alike
    pretext     log softmax(Linear 2 (ReLU(Linear 64 (z_host, z_port)))): is there an edge?   LinkPredictor

"i-" (incremental) is a way of training, not a model. Imports torch only.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class GraphConvolution(nn.Module):
    """One layer, z' = A_hat z W + b (paper 2). The bias is the released code's; the paper is silent."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_in, n_out)))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, A_hat, z):
        if len(self.W) < self.W.shape[1]:                   # (A_hat z) W = A_hat (z W): the narrower is propagated
            return (A_hat @ z) @ self.W + self.b            # (N, out)
        return A_hat @ (z @ self.W) + self.b                # (N, out)


class NodeRows(nn.Module):
    """The first layer without node features, A_hat x W + b with x the identity: W has one row per node ever seen.

    x W is then a look-up of rows; no dense identity is ever formed.
    """

    def __init__(self, n_out):
        super().__init__()
        self.W = nn.Parameter(torch.empty(0, n_out))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, A_hat, rows):
        z = self.W.index_select(0, rows)                    # (N, out)   transform; rows (N,) int64
        return A_hat @ z + self.b                           # (N, out)   propagate

    def grow(self, n, generator):
        """`n` more rows, uniform with the variance 1 / out (ours), which does not depend on how many there are.

        What goes with W grows apart: an optimizer's moments, see training.grow; saved weights load into as many rows.
        """
        fresh = torch.rand(n, self.W.shape[1], generator=generator, device=self.W.device)
        fresh = (2 * fresh - 1) * (3 / self.W.shape[1]) ** 0.5
        self.W.data, self.W.grad = torch.cat([self.W.data, fresh.to(self.W.dtype)]), None


class GCN(nn.Module):
    """The paper's graph convolution, L = 3 counting the input: 37 -> 1024 -> 512. n_features None: without them."""

    def __init__(self, n_features=37, hidden=1024, out=512):
        super().__init__()
        self.first = NodeRows(hidden) if n_features is None else GraphConvolution(n_features, hidden)
        self.second = GraphConvolution(hidden, out)

    def forward(self, A_hat, x):
        """A_hat (N, N); x (N, n_features), or without features the nodes' rows (N,) int64 -> z (N, out)."""
        z = torch.relu(self.first(A_hat, x))                # (N, hidden)
        return self.second(A_hat, z)                        # (N, out)


class GRU(nn.Module):
    """Gated recurrent unit as torch.nn.GRU computes it: the reset gate comes after the product with U_n.

    That is the released code's form; the paper cites Chung et al. and gives no formula.

        r = sigmoid(x W_r + b_r + h U_r + c_r)        u = sigmoid(x W_u + b_u + h U_u + c_u)
        n = tanh(x W_n + b_n + r * (h U_n + c_n))     h' = (1 - u) * n + u * h

    W = [W_r W_u W_n] (n_in, 3 E), b (3 E,), U (E, 3 E), c (3 E,): the transposes of torch.nn.GRU's weight_ih,
    bias_ih, weight_hh, bias_hh, which orders the gates the same way.
    """

    def __init__(self, n_in, n_out):
        super().__init__()
        bound = n_out**-0.5                                 # as torch.nn.GRU
        self.W = nn.Parameter(torch.empty(n_in, 3 * n_out).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(3 * n_out).uniform_(-bound, bound))
        self.U = nn.Parameter(torch.empty(n_out, 3 * n_out).uniform_(-bound, bound))
        self.c = nn.Parameter(torch.empty(3 * n_out).uniform_(-bound, bound))

    def forward(self, x):
        """x (steps, N, n_in) -> h (N, E) after the last step; h = 0 before the first."""
        h = x.new_zeros(x.shape[1], len(self.U))
        for x_t in x:
            h = self.step(x_t @ self.W + self.b, h)
        return h

    def step(self, x_W, h):
        """x_W (N, 3 E), the step's x W + b, and h (N, E) -> h' (N, E)."""
        x_r, x_u, x_n = x_W.chunk(3, dim=1)                 # (N, E) each
        h_r, h_u, h_n = (h @ self.U + self.c).chunk(3, dim=1)
        r = torch.sigmoid(x_r + h_r)                        # reset gate
        u = torch.sigmoid(x_u + h_u)                        # update gate
        n = torch.tanh(x_n + r * h_n)                       # candidate
        return (1 - u) * n + u * h


class ActiveNorm(nn.Module):
    """Batch normalization by the statistics of the nodes given, the day's active ones; no running averages.

    Training and inference do the same (released code; the paper is silent). Over day t's nodes: ours, the released code
    takes those of the whole month. z (N, E) -> (N, E).
    """

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, z):
        z = z - z.mean(0)
        variance = z.square().mean(0)                       # (E,)   of the population
        return z * (self.scale * torch.rsqrt(variance + self.eps)) + self.shift


class StaticEmbedder(nn.Module):
    """GCN, Linear 512 -> E, ReLU, normalization: the embedder of `gcn` and `i-gcn` (paper 4.1; ReLU: released code).

    Called with a window of one day, see TemporalEmbedder -> embeddings (N, E) of its nodes.
    """

    def __init__(self, n_features=37, hidden=1024, gcn_out=512, n_out=128):
        super().__init__()
        self.gcn = GCN(n_features, hidden, gcn_out)
        self.linear = nn.Linear(gcn_out, n_out)
        self.norm = ActiveNorm(n_out)

    def forward(self, window):
        return self.norm(self.before_norm(window))              # (N, E)

    def before_norm(self, window):
        """What is normalized, (N, E)."""
        [(A_hat, x, node)] = window.days
        z = self.gcn(A_hat, x).index_select(0, node)        # (N, gcn_out)
        return torch.relu(self.linear(z))                   # (N, E)


class TemporalEmbedder(nn.Module):
    """GRU over the GCN outputs of days t-H..t, normalization: `gcn-gru` and `i-gcn-gru` (paper 2, figure 3).

    Called with a window, whose `days` are H + 1 tuples (A_hat, x, node), oldest first -> embeddings (N_t, E) of the
    nodes active on day t, the last. A_hat (N_s, N_s) and x as GCN takes them; node (N_t,) int64 is the row of each node
    of day t on day s. A node absent on day s has its own self-loop alone and zero features there. Today is one of the
    days, as in the paper's equation (the released code leaves it out for gcn-gru).
    """

    def __init__(self, n_features=37, hidden=1024, gcn_out=512, n_out=128):
        super().__init__()
        self.gcn = GCN(n_features, hidden, gcn_out)
        self.gru = GRU(gcn_out, n_out)
        self.norm = ActiveNorm(n_out)

    def forward(self, window):
        return self.norm(self.before_norm(window))              # (N_t, E)

    def before_norm(self, window):
        """What is normalized: the GRU's states (N_t, E) after day t."""
        z = [self.gcn(A_hat, x).index_select(0, node) for A_hat, x, node in window.days]  # (N_t, gcn_out) each
        return self.gru(torch.stack(z))                     # (N_t, E)


class LinkPredictor(nn.Module):
    """The pretext task's head: concat(z_host, z_port) -> 64, ReLU -> 2 -> log-softmax.

    64 and 2 neurons: paper 4.1; concatenation, ReLU and log-softmax: released code.
    """

    def __init__(self, n_in=128, hidden=64):
        super().__init__()
        self.first = nn.Linear(2 * n_in, hidden)
        self.last = nn.Linear(hidden, 2)

    def forward(self, z_host, z_port, host, port):
        """Log-probabilities (pairs, 2) of (no edge, edge) for the pairs (host[i], port[i]), (pairs,) int64 each."""
        z = torch.cat([z_host.index_select(0, host), z_port.index_select(0, port)], dim=1)  # (pairs, 2 n_in)
        z = torch.relu(self.first(z))                       # (pairs, hidden)
        return F.log_softmax(self.last(z), dim=1)           # (pairs, 2)


def link_loss(log_p, n_edges):
    """Negative log-likelihood, mean over the pairs, and accuracy of log_p (pairs, 2): edges first, then negatives."""
    log_p_true = torch.cat([log_p[:n_edges, 1], log_p[n_edges:, 0]])  # (pairs,)
    correct = log_p_true.detach() > -math.log(2)            # more likely than not: p > 1/2
    return -log_p_true.mean(), correct.float().mean()
