"""How the four models, and the baseline i-DarkVec, learn from day to day (paper section 2, figure 2).

    Snapshot    one day as tensors: its graph, A_hat, propagated features
    Window      days t-H..t as the embedder takes them, and day t's edges for the pretext task
    Learner     embedder, link predictor, optimizer, random generator
    Progress    a model on its way through the days: all that its next day needs

    gcn         static        a fresh model for every day, up to 50 epochs, early stop after 3 without improvement
    gcn-gru     frozen        one model, trained likewise on the windows of days H+1..M, then frozen
    i-gcn       incremental   one model; each day goes on from yesterday's weights and optimizer, H = 0
    i-gcn-gru   incremental   the same with windows of H + 1 days
    i-darkvec   skip_gram     no graph: the baseline; its vocabulary and weights grow day by day

Day by day: `take` the day in, let one of the strategies learn from it, `embed` its hosts. Where there are several
processes, a rank's graphs hold its hosts and all ports (shard.py). Imports graph, models, darkvec and shard.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch.optim.adam import adam

import graph as graphs
import models
import shard
from baselines import darkvec

MODELS = ("gcn", "i-gcn", "gcn-gru", "i-gcn-gru")
PATIENCE = 3  # epochs without a better accuracy that end a static training


class Snapshot(NamedTuple):
    graph: graphs.BipartiteGraph
    A_hat: scipy.sparse.csr_matrix  # (N, N)
    twin: np.ndarray                # (N,) int64 the first node whose GCN output is each node's too, see graph.twins
    Ax: torch.Tensor | None         # (N + 1, 37) float32: A_hat x, and the zero row of absent nodes; None: no features
    row: np.ndarray | None          # (N,) int64 row of each node in the NodeTable; None: with features


class Window(NamedTuple):
    days: list                 # H + 1 tuples, oldest first, as models.TemporalEmbedder takes them
    mean: Callable             # (N, E) -> (E,): the mean over day t's nodes, for the normalization
    who: torch.Tensor | None   # (N,) int64 row of day t's that each node has; None: its own
    edge_host: torch.Tensor    # (E,) int64 edges of day t, the last
    edge_port: torch.Tensor    # (E,) int64
    n_hosts: int
    n_ports: int


class NodeTable(NamedTuple):
    """The nodes known and their rows of the first layer's W (of V and U), for models without node features."""
    key: np.ndarray            # (nodes,) uint64 ascending: a host's address, or 2^32 + a port's number
    row: np.ndarray            # (nodes,) int64, a permutation of 0..nodes-1
    seen: np.ndarray           # (nodes,) int64 number of the last day on which the node was active


NO_NODES = NodeTable(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))


class Adam:
    """Adam with the weight decay added to the gradient, by the function behind torch.optim.Adam(fused=True).

    That class, to whose bits and saved states this keeps, imports PyTorch's compiler when it is made: two seconds of
    every run. state: {parameter: {"step", "exp_avg", "exp_avg_sq"}} of those that ever had a gradient.
    """

    def __init__(self, parameters, learning_rate, weight_decay):
        self.parameters, self.state = list(parameters), {}
        self.betas = 0.9, 0.999
        self.settings = {"lr": learning_rate, "eps": 1e-8, "weight_decay": weight_decay,
                         "fused": True}                     # one pass: 7 times faster for many rows

    def zero_grad(self):
        for W in self.parameters:
            W.grad = None

    @torch.no_grad()
    def step(self):
        """One step of every parameter that has a gradient, by that gradient."""
        moved = [W for W in self.parameters if W.grad is not None]
        for W in moved:
            if W not in self.state:
                self.state[W] = {"step": torch.zeros((), device=W.device),
                                 "exp_avg": torch.zeros_like(W), "exp_avg_sq": torch.zeros_like(W)}
        step, m, v = ([self.state[W][name] for W in moved] for name in ("step", "exp_avg", "exp_avg_sq"))
        adam(moved, [W.grad for W in moved], m, v, [], step, beta1=self.betas[0], beta2=self.betas[1],
             amsgrad=False, maximize=False, **self.settings)

    def state_dict(self):
        return {"state": {i: self.state[W] for i, W in enumerate(self.parameters) if W in self.state},
                "param_groups": [{**self.settings, "betas": self.betas, "params": list(range(len(self.parameters)))}]}

    def load_state_dict(self, saved):
        """The saved moments and numbers of steps; settings stay its own."""
        self.state = {W: {name: value.to(W.device, copy=True) for name, value in saved["state"][i].items()}
                      for i, W in enumerate(self.parameters) if i in saved["state"]}


@dataclass
class Learner:
    embedder: torch.nn.Module
    head: models.LinkPredictor | None
    optimizer: Adam | None
    generator: torch.Generator


@dataclass
class Progress:
    learner: Learner | None    # None: gcn before its first test day
    history: int               # H
    past: list = field(default_factory=list)        # Snapshots, the last of them today's
    nodes: NodeTable = NO_NODES
    trained: bool = False      # whether there is anything to embed with
    window: Window | None = None                    # today's, once it was made


def make_snapshot(graph, x, device):
    """The day as windows keep it. x (N, 37) float32 scaled features; None: without, its rows come when `take`n."""
    A_hat = graphs.normalized_adjacency(graph, shard.rank() == 0, shard.all_sum)
    Ax = None
    if x is not None:
        Ax = np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]), np.float32)])
        ports = slice(len(graph.hosts), len(Ax) - 1)
        Ax[ports] = shard.all_sum(Ax[ports])
        Ax = torch.from_numpy(Ax)
    return snapshot_of(graph, A_hat, Ax, None, device)


def snapshot_of(graph, A_hat, Ax, row, device):
    """The Snapshot of a day whose A_hat x is known: Ax (N + 1, 37) on the CPU, or None and row (N,) int64."""
    twin = np.arange(A_hat.shape[0])
    if Ax is not None:
        n_alike = len(twin) if shard.size() == 1 else len(graph.hosts)  # a rank knows a part of a port's edges only
        twin[:n_alike] = graphs.twins(graph, Ax[:-1].numpy())[:n_alike]
        Ax = Ax.to(device)
    return Snapshot(graph, A_hat, twin, Ax, row)


def make_window(snapshots, device):
    """The Window that ends on the last of `snapshots`, oldest first.

    Day s enters through the rows of A_hat^s that belong to the nodes of day t; nodes absent on s share one constant
    (see GCN.linear_of) or, without node features, have their own rows of W. An exact identity: with features, hosts,
    or ports, that were absent or twins on every day up to s have the same GRU state then: one row of h for them.
    """
    today, days = snapshots[-1], []
    g, n_hosts = today.graph, len(today.graph.hosts)
    state = np.arange(n_hosts + len(g.ports))               # (N_t,) row of each node of day t in h, hosts before ports
    if today.Ax is not None:                                # before the first day h = 0: one row for all hosts, one
        state = (state >= n_hosts).astype(np.int64)         # for all ports
    else:                                                   # the window's rows of W
        nodes = np.unique(np.concatenate([day.row for day in snapshots]))
        nodes_there = torch.from_numpy(nodes).to(device)
    for day in snapshots:
        N, node = len(day.twin), graphs.node_positions(day.graph, g)
        absent = node < 0                                   # absent nodes, all alike, are node N; or N, N + 1, ...
        node = np.where(absent, N if day.Ax is not None else N - 1 + absent.cumsum(), day.twin[node])
        total = int(node.max()) + 1
        states, first, state = np.unique(state * total + node, return_index=True, return_inverse=True)
        before, node = np.divmod(states, total)             # (R,)
        wanted, now = np.unique((first >= n_hosts) * total + node, return_inverse=True)
        is_port, wanted = np.divmod(wanted, total)          # (D,)
        position = np.where(wanted < N, wanted, -1)
        loop = np.where(is_port, shard.rank() == 0, 1)      # a port's self-loop is on one rank
        if day.Ax is not None:
            rows = graphs.add_columns(graphs.rows_for(day.A_hat, position, loop=loop), np.append(day.twin, N))
            rows, used = graphs.without_empty_columns(rows)
            x = day.Ax if used is None else day.Ax[torch.from_numpy(used).to(device)]
        else:
            rows = graphs.rows_for(day.A_hat, position, int(absent.sum()))
            which = np.searchsorted(nodes, np.concatenate([day.row, today.row[absent]]))
            x = (graphs.as_torch(day.A_hat, device), nodes_there, torch.from_numpy(which).to(device))
        rows = (*graphs.as_torch(rows, device), partial(shard.sum_ports, n_ports=int(is_port.sum())))
        days.append((rows, x, places(now, device), places(before, device) if days else None))
    mean = partial(shard.mean, n_ports=len(g.ports), n_nodes=shard.all_sum(n_hosts) + len(g.ports))
    return Window(days, mean, places(state, device), torch.from_numpy(g.edge_host).to(device),
                  torch.from_numpy(g.edge_port).to(device), n_hosts, len(g.ports))


def places(who, device):
    """who (n,) as a tensor, or None where it is 0, 1, ..., n - 1 and nothing is to be moved."""
    return None if np.array_equal(who, np.arange(len(who))) else torch.from_numpy(who).to(device)


def node_keys(graph):
    """What a NodeTable knows the graph's nodes by: (N,) uint64."""
    return np.concatenate([graph.hosts.astype(np.uint64), graph.ports.astype(np.uint64) + np.uint64(1 << 32)])


def add_nodes(table, key, today=0):
    """The table with unseen nodes added, in their order, and the rows of all of `key` (n,): (NodeTable, (n,) int64).

    today: the number of the day, by which `forget` will know how long a node has been away.
    """
    fresh = key[~np.isin(key, table.key, assume_unique=True)]
    all_keys = np.concatenate([table.key, fresh])
    all_rows = np.concatenate([table.row, len(table.row) + np.arange(len(fresh))])
    seen = np.concatenate([table.seen, np.full(len(fresh), today)])
    order = np.argsort(all_keys)
    table = NodeTable(all_keys[order], all_rows[order], seen[order])
    at = np.searchsorted(table.key, key)
    table.seen[at] = today
    return table, table.row[at]


def new_learner(model, seed, device, n_features=37, hidden=1024, gcn_out=512, n_out=128, head=64,
                learning_rate=1e-3, weight_decay=5e-3, low_memory=False):
    """A fresh model of the given name in MODELS, its weights and its generator from `seed` alone."""
    kind = partial(models.TemporalEmbedder, low_memory=low_memory) if model.endswith("gru") else models.StaticEmbedder
    with torch.random.fork_rng(devices=[]):                 # leaves torch's global generator as it was
        torch.default_generator.manual_seed(seed)           # torch.manual_seed would seed CUDA's too, for good
        embedder = kind(n_features, hidden, gcn_out, n_out).to(device)
        predictor = models.LinkPredictor(n_out, head, low_memory).to(device)
    optimizer = Adam([*embedder.parameters(), *predictor.parameters()], learning_rate, weight_decay)
    # another stream than that of the weights, and another on each rank
    stream = seed ^ 0x9E3779B9 ^ (shard.rank() * 0x85EBCA6B & 0xFFFFFFFF)
    generator = torch.Generator(device).manual_seed(stream)
    return Learner(embedder, predictor, optimizer, generator)


def grow(learner, n):
    """Without node features: rows of the first W for `n` nodes in all; Adam's moments of the new ones are zero."""
    if isinstance(learner.embedder, darkvec.DarkVec):
        return learner.embedder.grow(n, learner.generator)
    first = learner.embedder.gcn.first
    fresh = n - len(first.W)
    if fresh > 0:
        first.grow(fresh, learner.generator)
        change_moments(learner, lambda moment: torch.cat([moment, moment.new_zeros(fresh, moment.shape[1])]))


def change_moments(learner, change):
    """Adam's two moments of the first W become change(moment) each."""
    W = learner.embedder.gcn.first.W
    W.grad = None
    if W in learner.optimizer.state:
        state = learner.optimizer.state[W]
        state.update({name: change(state[name]) for name in ("exp_avg", "exp_avg_sq")})


def can_train(window):
    """Whether negatives can be drawn: some (host, port) pair is no edge."""
    return shard.all_sum(graphs.count_non_edges(window.n_hosts, window.n_ports, len(window.edge_host))) > 0


def train(learner, windows, epochs, patience=None, negatives=1, log=None):
    """Self-supervised training on the windows, one full-batch Adam step per window and epoch.

    patience: stop after so many epochs without a better training accuracy (mean over the epoch's windows) and go
    back to the weights with which the best epoch ended; None: always `epochs` epochs. `negatives`: non-edges per
    edge, drawn anew each epoch. log(epoch, loss, accuracy) is called after each epoch where early stopping is on.
    Windows without a single non-edge have nothing to learn from and are passed over. Returns (2,) loss and accuracy
    of the last or, with patience, the best epoch; None if no window is left.
    """
    windows = [window for window in windows if can_train(window)]
    if not windows:
        return None
    best, stale, kept = None, 0, None
    for epoch in range(1, epochs + 1):
        steps = [train_step(learner, window, negatives) for window in windows]
        result = torch.stack(steps).mean(0)                 # loss, accuracy
        if patience is None:
            best = result
            continue
        if log:
            log(epoch, *result.tolist())
        if best is None or result[1] > best[1]:
            best, stale, kept = result, 0, copy_weights(learner)
        else:
            stale += 1
        if stale == patience:
            break
    if kept is not None:
        learner.embedder.load_state_dict(kept[0])
        learner.head.load_state_dict(kept[1])
    return best


def train_step(learner, window, negatives=1):
    """One Adam step on the link prediction of the window's last day -> (2,) loss and accuracy before the step.

    Sharded, a rank draws its negatives among its hosts, as many as they have edges; loss and gradients add up.
    """
    negative = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                       negatives * len(window.edge_host), learner.generator)
    loss, accuracy = pretext(learner, window, *negative)
    learner.optimizer.zero_grad()
    loss.backward()
    shard.sum_gradients([*learner.embedder.parameters(), *learner.head.parameters()])
    learner.optimizer.step()
    return shard.all_sum(torch.stack([loss.detach(), accuracy]))


def pretext(learner, window, host, port):
    """Loss and accuracy of the window's last day with the negatives (host, port); a rank's are its share of both."""
    z = learner.embedder(window.days, window.mean, window.who)  # (N, d)
    log_p = learner.head(z[: window.n_hosts], z[window.n_hosts :],
                         torch.cat([window.edge_host, host]), torch.cat([window.edge_port, port]))
    return models.link_loss(log_p, len(window.edge_host), shard.all_sum(len(log_p)))


def copy_weights(learner):
    return [{name: value.clone() for name, value in module.state_dict().items()}
            for module in (learner.embedder, learner.head)]


@torch.no_grad()
def embed(learner, window):
    """Embeddings of the hosts of the window's last day: (n_hosts, d) float32."""
    return learner.embedder(window.days, window.mean, window.who)[: window.n_hosts]


# -- day by day -------------------------------------------------------------------------------------------------------

def take(progress, day, today=0, keep=None):
    """Make `day`, a Snapshot, today: the last of progress.past, of which the last `keep` (default H + 1) are kept.

    Without node features its nodes get rows, see `add_nodes`; `today` is the number of the day.
    """
    if day.Ax is None:
        progress.nodes, row = add_nodes(progress.nodes, node_keys(day.graph), today)
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
    window = make_window(progress.past[end - progress.history - 1 : end], device_of(progress.learner))
    if ago == 0:
        progress.window = window
    return window


def embed_day(progress, ago=0):
    """Today's weights on the window that ends today or `ago` days before: (n_hosts, d) float32 embeddings of its
    last day's hosts; None while nothing was learned, or where that window is not there."""
    window = window_of(progress, ago) if progress.trained else None
    return embed(progress.learner, window) if window else None


def forget(progress, before):
    """Nodes last active before the day of that number give back their rows, if no day of progress.past needs them."""
    grow(progress.learner, len(progress.nodes.key))
    keep = progress.nodes.seen >= before
    for day in progress.past:
        keep |= np.isin(progress.nodes.row, day.row)
    if keep.all():
        return
    kept = np.sort(progress.nodes.row[keep])                # rows stay in order
    renumber = np.full(len(keep), -1)
    renumber[kept] = np.arange(len(kept))
    key, row, seen = (column[keep] for column in progress.nodes)
    progress.nodes = NodeTable(key, renumber[row], seen)
    progress.past = [day._replace(row=renumber[day.row]) for day in progress.past]
    progress.window = None
    embedder = progress.learner.embedder
    rows = torch.from_numpy(kept).to(device_of(progress.learner))
    if isinstance(embedder, darkvec.DarkVec):
        return embedder.keep(rows)
    embedder.gcn.first.W.data = embedder.gcn.first.W.data[rows]
    change_moments(progress.learner, lambda moment: moment[rows])


def device_of(learner):
    return learner.generator.device


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
    ends = range(len(progress.past) - progress.history)
    result = train(progress.learner, [window_of(progress, ago) for ago in reversed(ends)], epochs, PATIENCE,
                   negatives, log)
    progress.trained = result is not None
    return result


def incremental(progress, epochs, negatives=1):
    """i-gcn (H = 0) and i-gcn-gru: `epochs` Adam steps on the window that ends today, from day H+1 on."""
    window = window_of(progress)
    result = train(progress.learner, [window], epochs, negatives=negatives) if window else None
    progress.trained = progress.trained or result is not None
    return result


def skip_gram(progress, hosts, words, offsets, today=0, epochs=1):
    """i-darkvec: a pass over today's corpus; hosts never seen get rows (paper section 4.2).

    hosts (n_hosts,) addresses; words, offsets as darkvec.corpus gives them, words being positions in `hosts`.
    There is no accuracy: it is nan.
    """
    progress.nodes, row = add_nodes(progress.nodes, hosts.astype(np.uint64), today)
    grow(progress.learner, len(progress.nodes.key))
    loss = darkvec.train_day(progress.learner.embedder, row[words], offsets, progress.learner.generator, epochs)
    progress.trained = True
    return torch.stack([loss, torch.full_like(loss, torch.nan)])


def word_vectors(progress, hosts):
    """i-darkvec's embeddings of hosts (n,), addresses that it knows: (n, d) float32."""
    row = progress.nodes.row[np.searchsorted(progress.nodes.key, hosts.astype(np.uint64))]
    return progress.learner.embedder.V.detach()[torch.from_numpy(row).to(device_of(progress.learner))]
