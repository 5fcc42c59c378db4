"""How the four models learn from day to day (paper section 2, figure 2; method.md section 4).

    Snapshot    one day as tensors: its graph, A_hat, propagated features
    Window      days t-H..t as the embedder takes them, and day t's edges for the pretext task
    Learner     embedder, link predictor, optimizer, random generator

    gcn         static        a fresh model for every day, up to 50 epochs, early stop after 3 without improvement
    gcn-gru     frozen        one model, trained likewise on the windows of days H+1..M, then frozen
    i-gcn       incremental   one model; each day goes on from yesterday's weights and optimizer, H = 0
    i-gcn-gru   incremental   the same with windows of H + 1 days

A strategy is a generator: it takes the days' snapshots, trains as they come, and yields for each day
(result, z): (2,) loss and accuracy of the pretext task or None, and the hosts' embeddings (n_hosts, d) or None
on days that are not test days. Imports graph and models.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

import graph as graphs
import models

MODELS = ("gcn", "i-gcn", "gcn-gru", "i-gcn-gru")
PATIENCE = 3  # epochs without a better accuracy that end a static training


class Snapshot(NamedTuple):
    graph: graphs.BipartiteGraph
    A_hat: scipy.sparse.csr_matrix  # (N, N)
    Ax: torch.Tensor | None         # (N + 1, 37) float32: A_hat x, and the zero row of absent nodes; None: no features
    row: np.ndarray | None          # (N,) int64 row of each node in the NodeTable; None: with features


class Window(NamedTuple):
    days: list                 # H + 1 pairs (rows, x), oldest first, as models.GCN.linear_of takes them
    edge_host: torch.Tensor    # (E,) int64 edges of day t, the last
    edge_port: torch.Tensor    # (E,) int64
    n_hosts: int
    n_ports: int


class NodeTable(NamedTuple):
    """Every node ever seen and its row of the first layer's W, for models without node features."""
    key: np.ndarray            # (nodes,) uint64 ascending: a host's address, or 2^32 + a port's number
    row: np.ndarray            # (nodes,) int64


@dataclass
class Learner:
    embedder: torch.nn.Module
    head: models.LinkPredictor
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


def make_snapshot(graph, x, row, device):
    """The day as windows keep it. x (N, 37) float32 scaled features, or None and row (N,) int64 of add_nodes."""
    A_hat = graphs.normalized_adjacency(graph)
    Ax = None
    if x is not None:
        Ax = torch.from_numpy(np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]), np.float32)])).to(device)
    return Snapshot(graph, A_hat, Ax, row)


def make_window(snapshots, device):
    """The Window that ends on the last of `snapshots`, oldest first.

    Day s enters through the rows of A_hat^s that belong to the nodes of day t; nodes absent on s share one constant
    (method.md section 4) or, without node features, have their own rows of W.
    """
    today = snapshots[-1]
    days = []
    for day in snapshots:
        position = graphs.node_positions(day.graph, today.graph)
        absent = position < 0
        if day.Ax is not None:
            rows, x = graphs.rows_for(day.A_hat, position), day.Ax
        else:
            rows = graphs.rows_for(day.A_hat, position, int(absent.sum()))
            x = (graphs.as_torch(day.A_hat, device), torch.from_numpy(day.row).to(device),
                 torch.from_numpy(today.row[absent]).to(device))
        days.append((graphs.as_torch(rows, device), x))
    g = today.graph
    return Window(days, torch.from_numpy(g.edge_host).to(device), torch.from_numpy(g.edge_port).to(device),
                  len(g.hosts), len(g.ports))


def node_keys(graph):
    """What a NodeTable knows the graph's nodes by: (N,) uint64."""
    return np.concatenate([graph.hosts.astype(np.uint64), graph.ports.astype(np.uint64) + np.uint64(1 << 32)])


def add_nodes(table, key):
    """The table with unseen nodes added, in their order, and the rows of all of `key` (n,): (NodeTable, (n,) int64)."""
    fresh = key[~np.isin(key, table.key, assume_unique=True)]
    all_keys = np.concatenate([table.key, fresh])
    all_rows = np.concatenate([table.row, len(table.row) + np.arange(len(fresh))])
    order = np.argsort(all_keys)
    table = NodeTable(all_keys[order], all_rows[order])
    return table, table.row[np.searchsorted(table.key, key)]


def empty_table():
    return NodeTable(np.empty(0, np.uint64), np.empty(0, np.int64))


def new_learner(model, seed, device, n_features=37, hidden=1024, gcn_out=512, n_out=128, head=64,
                learning_rate=1e-3, weight_decay=5e-3):
    """A fresh model of the given name in MODELS, its weights and its generator from `seed` alone."""
    kind = models.TemporalEmbedder if model.endswith("gru") else models.StaticEmbedder
    with torch.random.fork_rng(devices=[]):                 # leaves torch's global generator as it was
        torch.manual_seed(seed)
        embedder = kind(n_features, hidden, gcn_out, n_out).to(device)
        predictor = models.LinkPredictor(n_out, head).to(device)
    optimizer = torch.optim.Adam([*embedder.parameters(), *predictor.parameters()], lr=learning_rate,
                                 weight_decay=weight_decay, fused=True)  # one pass: 7 times faster for many rows
    generator = torch.Generator(device).manual_seed(seed ^ 0x9E3779B9)  # not the stream that made the weights
    return Learner(embedder, predictor, optimizer, generator)


def grow(learner, row):
    """Without node features: rows of the first W for all nodes in `row`; Adam's moments of the new ones are zero."""
    first, state = learner.embedder.gcn.first, learner.optimizer.state
    fresh = int(row.max()) + 1 - len(first.W)
    if fresh <= 0:
        return
    first.grow(fresh, learner.generator)
    first.W.grad = None
    for name in state[first.W].keys() & {"exp_avg", "exp_avg_sq"}:
        moment = state[first.W][name]
        state[first.W][name] = torch.cat([moment, moment.new_zeros(fresh, moment.shape[1])])


def can_train(window):
    """Whether negatives can be drawn: some (host, port) pair is no edge."""
    return graphs.count_non_edges(window.n_hosts, window.n_ports, len(window.edge_host)) > 0


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
    """One Adam step on the link prediction of the window's last day -> (2,) loss and accuracy before the step."""
    n_edges = len(window.edge_host)
    host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports,
                                         negatives * n_edges, learner.generator)
    z = learner.embedder(window.days)                       # (N, d)
    log_p = learner.head(z[: window.n_hosts], z[window.n_hosts :],
                         torch.cat([window.edge_host, host]), torch.cat([window.edge_port, port]))
    loss, accuracy = models.link_loss(log_p, n_edges)
    learner.optimizer.zero_grad()
    loss.backward()
    learner.optimizer.step()
    return torch.stack([loss.detach(), accuracy])


def copy_weights(learner):
    return [{name: value.clone() for name, value in module.state_dict().items()}
            for module in (learner.embedder, learner.head)]


@torch.no_grad()
def embed(learner, window):
    """Embeddings of the hosts of the window's last day: (n_hosts, d) float32."""
    return learner.embedder(window.days)[: window.n_hosts]


# -- strategies -------------------------------------------------------------------------------------------------------

def static(snapshots, fresh_learner, train_days, epochs, negatives=1, log=None):
    """gcn: every test day has a model of its own. fresh_learner() makes one; days 1..train_days are passed over."""
    for t, day in enumerate(snapshots, 1):
        if t <= train_days:
            yield None, None
            continue
        learner = fresh_learner()
        if day.row is not None:                             # one row per node of this day alone
            day = day._replace(row=np.arange(len(day.row)))
            grow(learner, day.row)
        window = make_window([day], device_of(learner))
        result = train(learner, [window], epochs, PATIENCE, negatives, log)
        yield result, None if result is None else embed(learner, window)


def frozen(snapshots, fresh_learner, train_days, epochs, history, negatives=1, log=None):
    """gcn-gru: trained once day M = train_days is there, on all windows that end on days H+1..M; then only embeds."""
    learner, past, trained = fresh_learner(), [], False
    for t, day in enumerate(snapshots, 1):
        past.append(day)
        if day.row is not None:
            grow(learner, day.row)
        result, z = None, None
        if t == train_days:
            windows = [make_window(past[i - history : i + 1], device_of(learner)) for i in range(history, t)]
            result = train(learner, windows, epochs, PATIENCE, negatives, log)
            trained = result is not None
        elif t > train_days:
            past = past[-history - 1 :]
            z = embed(learner, make_window(past, device_of(learner))) if trained else None
        yield result, z


def incremental(snapshots, fresh_learner, train_days, epochs, history, negatives=1):
    """i-gcn (history 0) and i-gcn-gru: `epochs` steps on each day's window from day H+1 on, test days then embedded."""
    learner, past, trained = fresh_learner(), [], False
    for t, day in enumerate(snapshots, 1):
        past = [*past, day][-history - 1 :]
        if day.row is not None:
            grow(learner, day.row)
        result, z = None, None
        if t > history:
            window = make_window(past, device_of(learner))
            result = train(learner, [window], epochs, negatives=negatives)
            trained = trained or result is not None
            z = embed(learner, window) if trained and t > train_days else None
        yield result, z


def device_of(learner):
    return learner.generator.device
