#!/usr/bin/env python3
"""Our training step and embedding pass beside the same model written with PyTorch Geometric.

    python benchmarks/bench_pyg.py [--quick] [--threads N]

The model there is written as its users write it: message passing with row-normalized weights over the nodes of each
day, the GCN's output of every day put in its place for the nodes of the last day, torch.nn.GRU, batch normalization
on the batch's statistics, the link predictor on concatenated pairs. Two forms: edge_index with weights (gather and
scatter) and a CSR matrix (torch.sparse, what PyG calls SparseTensor). Ours and theirs get the same weights and graphs;
outputs are compared before anything is timed, and steps are timed in turn. Needs torch_geometric.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from bench import HISTORY, new_learner, paper_day, window_of
from torch import nn
from torch_geometric.nn import MessagePassing

import fast
import graph as graphs
import training


class Convolution(MessagePassing):
    """A_hat x W + b as a PyG layer: GCNConv's form, with the row normalization of the paper in the weights."""

    def __init__(self, n_in, n_out):
        super().__init__(aggr="add")
        self.linear = nn.Linear(n_in, n_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x, edges, weight=None):
        return self.propagate(edges, x=self.linear(x), weight=weight) + self.bias

    def message(self, x_j, weight):
        return weight[:, None] * x_j

    def message_and_aggregate(self, edges, x):              # used where `edges` is a sparse matrix
        return edges @ x


class Embedder(nn.Module):
    def __init__(self, n_features=37, hidden=1024, gcn_out=512, n_out=128):
        super().__init__()
        self.first, self.second = Convolution(n_features, hidden), Convolution(hidden, gcn_out)
        self.gru = nn.GRU(gcn_out, n_out)
        self.norm = nn.BatchNorm1d(n_out, track_running_stats=False)

    def forward(self, days):
        """days: (x, edges, weight, rows): rows (N_t,) of the last day's nodes, absent ones at the isolated last row."""
        steps = [self.second(torch.relu(self.first(x, *edges)), *edges)[rows] for x, edges, rows in days]
        return self.norm(self.gru(torch.stack(steps))[1][0])


def days_of(graphs_and_features, sparse):
    """Each day's inputs: features and edges of its nodes and of one isolated node without features for the absent."""
    days = []
    for graph, x in graphs_and_features:
        A_hat = graphs.normalized_adjacency(graph)
        A = scipy.sparse.block_diag([A_hat, np.ones((1, 1), np.float32)], "csr")
        position = graphs.node_positions(graph, graphs_and_features[-1][0])
        if sparse:
            edges = (graphs.as_torch(A.astype(np.float32)),)
        else:
            A = A.tocoo()
            edges = torch.from_numpy(np.stack([A.col, A.row]).astype(np.int64)), torch.from_numpy(A.data)
        x = torch.from_numpy(np.concatenate([x, np.zeros((1, x.shape[1]), np.float32)]))
        days.append((x, edges, torch.from_numpy(np.where(position < 0, len(x) - 1, position))))
    return days


def copy_weights(ours, theirs):
    with torch.no_grad():
        for convolution, layer in ((ours.gcn.first, theirs.first), (ours.gcn.second, theirs.second)):
            layer.linear.weight.copy_(convolution.W.T)
            layer.bias.copy_(convolution.b)
        for name, parameter in zip("WbUc", ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")):
            getattr(theirs.gru, parameter).copy_(getattr(ours.gru, name).t())


def step_of(embedder, days, window, seed=0):
    """A training step of the PyG model; negatives are drawn by our sampler, so only the models differ."""
    head = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam([*embedder.parameters(), *head.parameters()], lr=1e-3, weight_decay=5e-3)
    generator, n = torch.Generator().manual_seed(seed), len(window.edge_host)

    def step():
        host, port = graphs.sample_negatives(window.edge_host, window.edge_port, window.n_hosts, window.n_ports, n,
                                             generator)
        z = embedder(days)
        pairs = torch.cat([z[torch.cat([window.edge_host, host])],
                           z[window.n_hosts + torch.cat([window.edge_port, port])]], 1)
        truth = torch.cat([torch.ones(n, dtype=torch.int64), torch.zeros(len(host), dtype=torch.int64)])
        loss = F.cross_entropy(head(pairs), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def in_turn(works, repeats):
    """Median seconds of each of the works, run one after the other, `repeats` rounds after a warm-up."""
    seconds = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, times in zip(works, seconds):
            start = time.perf_counter()
            work()
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    graphs_and_features = [paper_day(rng, 0.05 if args.quick else 1) for _ in range(HISTORY + 1)]
    names, steps, passes = [], [], []
    for name, network in (("fast", fast.Network), ("plain", training.Network)):
        learner = new_learner(network)
        window = window_of(learner, graphs_and_features)
        names.append(name)
        steps.append(lambda learner=learner, window=window: training.train_step(learner, window))
        passes.append(lambda learner=learner, window=window: learner.network.embedder(window))
    with torch.no_grad():
        expected = learner.network.embedder(window)
    for name, sparse in (("PyG, edge_index", False), ("PyG, CSR", True)):
        embedder, days = Embedder(), days_of(graphs_and_features, sparse)
        copy_weights(learner.network.embedder, embedder)
        with torch.no_grad():
            difference = (embedder(days) - expected).abs().max().item()
        print(f"{name}: same weights, outputs differ by at most {difference:.1e}")
        assert difference < 1e-3 * expected.abs().max(), "the models are not the same"
        names.append(name)
        steps.append(step_of(embedder, days, window))
        passes.append(lambda embedder=embedder, days=days: embedder(days))
    print(f"{'':18} {'step, s':>8} {'x ours':>7} {'embedding, s':>13} {'x ours':>7}")
    times = in_turn(steps, args.repeats)
    with torch.no_grad():
        embedding = in_turn(passes, args.repeats)
    for name, a, b in zip(names, times, embedding):
        print(f"{name:18} {a:8.3f} {a / times[0]:7.2f} {b:13.3f} {b / embedding[0]:7.2f}")


if __name__ == "__main__":
    main()
