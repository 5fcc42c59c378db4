"""How the four models learn from day to day (paper section 2, figure 2).

    Snapshot    one day: its graph, A_hat, node features
    Window      days t-H..t as the embedder takes them, and day t's edges for the pretext task
    Network     embedder and link predictor: all that one Adam step trains
    Learner     a network, its optimizer, its random stream
    Progress    a learner on its way through the days: all that its next day needs

    gcn         static        a fresh model for every test day, up to 50 epochs, early stop after 3 without improvement
    gcn-gru     frozen        one model, trained likewise on the windows of days H+1..M, then frozen
    i-gcn       incremental   one model; each day goes on from yesterday's weights and optimizer, H = 0
                              (the released code's stops learning after the first day)
    i-gcn-gru   incremental   the same with windows of H + 1 days

Day by day: `take` the day in, let one of the strategies learn from it, `embed_day`. Imports graph and models.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import nn

import graph as graphs
import models

PATIENCE = 3  # epochs without a better accuracy that end a training of many epochs


class Snapshot(NamedTuple):
    """One day as a learner keeps it for its windows."""
    graph: graphs.BipartiteGraph
    x: np.ndarray | None            # (N, 37) float32 node features; None: without
    A_hat: "scipy.sparse.csr_matrix"  # (N, N)
    row: np.ndarray | None = None   # (N,) int64 without features: row of each node in the NodeTable


class Window(NamedTuple):
    """Days t-H..t, and what the pretext task asks about day t."""
    days: list                 # H + 1 tuples, oldest first, as the embedder takes them
    edge_host: torch.Tensor    # (E,) int64 edges of day t
    edge_port: torch.Tensor    # (E,) int64
    n_hosts: int
    n_ports: int
    non_edges: int             # pairs of a host and a port without an edge: what negatives are drawn from


class NodeTable(NamedTuple):
    """The nodes known and their rows of the first layer's W, for models without node features."""
    key: np.ndarray            # (nodes,) uint64 ascending: a host's address, or 2^32 + a port's number
    row: np.ndarray            # (nodes,) int64, a permutation of 0..nodes-1
    seen: np.ndarray           # (nodes,) int64 number of the last day on which the node was active


NO_NODES = NodeTable(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))


class Network(nn.Module):
    """Embedder and link predictor, and how they want a day and a window laid out.

    n_features None: without node features, one row of weights per node ever seen (`grow`).
    """

    static, temporal, predictor = models.StaticEmbedder, models.TemporalEmbedder, models.LinkPredictor

    def __init__(self, recurrent, n_features=37, hidden=1024, gcn_out=512, n_out=128, head=64):
        super().__init__()
        self.embedder = (self.temporal if recurrent else self.static)(n_features, hidden, gcn_out, n_out)
        self.head = self.predictor(n_out, head)

    def snapshot(self, graph, x):
        """The day as `window` wants it. x (N, 37) float32 scaled features; None: without."""
        return Snapshot(graph, x, graphs.normalized_adjacency(graph))

    def window(self, snapshots):
        """The Window that ends on the last of `snapshots`, oldest first."""
        today, days = snapshots[-1], []
        for day in snapshots:
            A_hat, x, node = with_absent_nodes(day, today)
            days.append((graphs.as_torch(A_hat, self.device), torch.from_numpy(x).to(self.device),
                         torch.from_numpy(node).to(self.device)))
        return Window(days, *edges_of(today.graph, self.device))

    def forward(self, window, host, port):
        """Loss and accuracy of the pretext task on the window's last day with the negatives (host, port), (n,) each."""
        log_p = self.log_probabilities(window, host, port)
        return models.link_loss(log_p, len(window.edge_host))

    def log_probabilities(self, window, host, port):
        """Those of the window's edges, then of the negatives: (E + n, 2)."""
        z = self.embedder(window)                           # (N, E)
        return self.head(z[: window.n_hosts], z[window.n_hosts :],
                         torch.cat([window.edge_host, host]), torch.cat([window.edge_port, port]))

    @torch.no_grad()
    def embed(self, window):
        """Embeddings of the hosts of the window's last day: (n_hosts, E)."""
        return self.embedder(window)[: window.n_hosts]

    def grow(self, n, generator):
        """Without node features: rows for `n` nodes in all."""
        first = self.embedder.gcn.first
        if n > len(first.W):
            first.grow(n - len(first.W), generator)

    def keep(self, rows):
        """Without node features: leave only these rows (kept,) int64, which become 0, 1, ..."""
        first = self.embedder.gcn.first
        first.W.data, first.W.grad = first.W.data[rows], None

    @property
    def device(self):
        return self.head.last.bias.device


def with_absent_nodes(day, today):
    """The day with today's nodes that were absent behind its own: (A_hat, x, node), node (N_t,) the place of each of
    today's nodes.

    An absent node has its self-loop alone, and zero features, so that its output is ReLU(b1) W2 + b2: one node stands
    for all of them. Without features each has its own row of W.
    """
    node = graphs.node_positions(day.graph, today.graph)
    absent, N = node < 0, day.A_hat.shape[0]
    if not absent.any():
        return day.A_hat, day.row if day.x is None else day.x, node
    if day.x is None:
        n_absent, x = absent.sum(), np.concatenate([day.row, today.row[absent]])
        node[absent] = N + np.arange(n_absent)
    else:
        n_absent, x = 1, np.concatenate([day.x, np.zeros((1, day.x.shape[1]), day.x.dtype)])
        node[absent] = N
    loops = scipy.sparse.identity(n_absent, np.float32)
    return scipy.sparse.block_diag([day.A_hat, loops], format="csr"), x, node


def edges_of(graph, device):
    """The last five fields of a Window that ends on the graph's day."""
    n_hosts, n_ports = len(graph.hosts), len(graph.ports)
    return (torch.from_numpy(graph.edge_host).to(device), torch.from_numpy(graph.edge_port).to(device),
            n_hosts, n_ports, graphs.count_non_edges(n_hosts, n_ports, len(graph.edge_host)))


@dataclass
class Learner:
    """What is trained, and with what."""
    network: Network
    optimizer: torch.optim.Optimizer | None
    generator: torch.Generator


@dataclass
class Progress:
    """A learner on its way through the days."""
    learner: Learner | None    # None: a model that learns nothing
    history: int               # H
    past: list = field(default_factory=list)        # Snapshots, the last of them today's
    nodes: NodeTable = NO_NODES
    trained: bool = False      # whether there is anything to embed with
    window: Window | None = None                    # today's, once it was made


def new_learner(seed, device, make, optimizer=torch.optim.Adam, learning_rate=1e-3, weight_decay=5e-3):
    """A fresh learner, its weights and its random stream from `seed` alone; make() is its Network on the CPU.

    Learning rate and weight decay: released code.
    """
    with torch.random.fork_rng(devices=[]):                 # leaves torch's global generator as it was
        torch.default_generator.manual_seed(seed)           # torch.manual_seed would seed CUDA's too, for good
        network = make().to(device)
    optimizer = optimizer(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    generator = torch.Generator(device).manual_seed(seed ^ 0x9E3779B9)  # another stream than that of the weights
    return Learner(network, optimizer, generator)


def train(learner, windows, epochs, patience=None, negatives=1, log=None):
    """Self-supervised training on the windows: epochs and patience of paper 4.1, one full-batch Adam step per window
    and epoch (released code).

    patience: stop after so many epochs without a better training accuracy (mean over the epoch's windows) and go
    back to the weights with which the best epoch ended; None: always `epochs` epochs. `negatives`: non-edges per
    edge, drawn anew each epoch. log(epoch, loss, accuracy) is called after each epoch where early stopping is on.
    Windows without a single non-edge have nothing to learn from and are passed over. Returns (2,) loss and accuracy
    of the last or, with patience, the best epoch; None if no window is left.
    """
    windows = [window for window in windows if window.non_edges]
    if not windows:
        return None
    best, stale, kept = None, 0, None
    for epoch in range(1, epochs + 1):
        result = torch.stack([train_step(learner, window, negatives) for window in windows]).mean(0)
        if patience is None:
            best = result
            continue
        if log:
            log(epoch, *result.tolist())
        if best is None or result[1] > best[1]:
            best, stale = result, 0
            # the accuracy is that before the epoch's steps, the weights are those after them
            kept = {name: value.clone() for name, value in learner.network.state_dict().items()}
        else:
            stale += 1
        if stale == patience:
            break
    if kept is not None:
        learner.network.load_state_dict(kept)
    return best


def train_step(learner, window, negatives=1):
    """One Adam step on the link prediction of the window's last day -> (2,) loss and accuracy before the step."""
    host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                         negatives * len(window.edge_host), learner.generator)
    loss, accuracy = learner.network(window, host, port)
    learner.optimizer.zero_grad()
    loss.backward()
    learner.optimizer.step()
    return torch.stack([loss.detach(), accuracy])


# -- day by day -------------------------------------------------------------------------------------------------------

def take(progress, day, number=0, keep=None):
    """Make `day`, a Snapshot, today: the last of progress.past, of which the last `keep` (default H + 1) are kept.

    Without node features its nodes get rows, see `add_nodes`; `number` is that of the day.
    """
    if day.x is None:
        progress.nodes, row = add_nodes(progress.nodes, node_keys(day.graph), number)
        day = day._replace(row=row)
    progress.past = [*progress.past, day][-(keep or progress.history + 1):]
    progress.window = None


def window_of(progress, ago=0):
    """The window that ends today or `ago` days before; None where fewer than H + 1 days are there for it."""
    if ago == 0 and progress.window:
        return progress.window
    end = len(progress.past) - ago
    if end <= progress.history:
        return None
    if progress.past[-1].row is not None:
        grow(progress.learner, len(progress.nodes.key))
    window = progress.learner.network.window(progress.past[end - progress.history - 1 : end])
    if ago == 0:
        progress.window = window
    return window


def embed_day(progress, ago=0):
    """Today's weights on the window that ends today or `ago` days before: (n_hosts, E) float32 embeddings of its
    last day's hosts; None while nothing was learned, or where that window is not there."""
    window = window_of(progress, ago) if progress.trained else None
    return progress.learner.network.embed(window) if window else None


# -- strategies: what a model learns from today; (2,) loss and accuracy of the pretext task, or None -------------------

def static(progress, fresh_learner, epochs, negatives=1, log=None):
    """gcn: today has a model of its own, which fresh_learner() makes."""
    progress.learner = fresh_learner()
    if progress.past[-1].row is not None:                   # one row per node of this day alone
        progress.nodes, row = add_nodes(NO_NODES, node_keys(progress.past[-1].graph))
        progress.past = [progress.past[-1]._replace(row=row)]
    result = train(progress.learner, [window_of(progress)], epochs, PATIENCE, negatives, log)
    progress.trained = result is not None
    return result


def frozen(progress, epochs, negatives=1, log=None):
    """gcn-gru, called on day M = train_days alone: trained on all windows of the days kept, which end on H+1..M."""
    n_windows = len(progress.past) - progress.history
    windows = [window_of(progress, ago) for ago in reversed(range(n_windows))]  # oldest first
    result = train(progress.learner, windows, epochs, PATIENCE, negatives, log)
    progress.trained = result is not None
    return result


def incremental(progress, epochs, negatives=1):
    """i-gcn (H = 0) and i-gcn-gru: `epochs` Adam steps on the window that ends today, from day H+1 on."""
    window = window_of(progress)
    result = train(progress.learner, [window], epochs, negatives=negatives) if window else None
    progress.trained = progress.trained or result is not None
    return result


# -- without node features: one row of the first W per node ever seen --------------------------------------------------

def node_keys(graph):
    """What a NodeTable knows the graph's nodes by: (N,) uint64."""
    return np.concatenate([graph.hosts.astype(np.uint64), graph.ports.astype(np.uint64) + np.uint64(1 << 32)])


def add_nodes(table, key, number=0):
    """The table with unseen nodes added, in their order, and the rows of all of `key` (n,): (NodeTable, (n,) int64).

    number: that of the day, which the table keeps as the last one on which these nodes were seen.
    """
    fresh = key[~np.isin(key, table.key, assume_unique=True)]
    all_keys = np.concatenate([table.key, fresh])
    all_rows = np.concatenate([table.row, len(table.row) + np.arange(len(fresh))])
    seen = np.concatenate([table.seen, np.full(len(fresh), number)])
    order = np.argsort(all_keys)
    table = NodeTable(all_keys[order], all_rows[order], seen[order])
    at = np.searchsorted(table.key, key)
    table.seen[at] = number
    return table, table.row[at]


def grow(learner, n):
    """Rows of the network for `n` nodes in all; Adam's moments of the new ones are zero."""
    learner.network.grow(n, learner.generator)
    change_moments(learner, lambda moment: torch.cat([moment, moment.new_zeros(n - len(moment), moment.shape[1])])
                   if len(moment) < n else moment)


def keep_rows(learner, rows):
    """Only these rows (kept,) int64 of the network and of Adam's moments stay; they become 0, 1, ..."""
    rows = rows.to(learner.generator.device)
    learner.network.keep(rows)
    change_moments(learner, lambda moment: moment[rows])


def change_moments(learner, change):
    """Adam's two moments of the network's rows become change(moment) each."""
    if learner.optimizer:
        moments = learner.optimizer.state.get(learner.network.embedder.gcn.first.W, {})
        moments.update({name: change(moments[name]) for name in ("exp_avg", "exp_avg_sq") if name in moments})
