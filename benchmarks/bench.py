#!/usr/bin/env python3
"""Time and peak memory of each part at the paper's size, beside a lower bound measured in the same run.

    python benchmarks/bench.py [--quick] [--threads N] [--json FILE]

Part and bound are run in turn, A B A B ..., and the ratio is the median of the pairs' ratios: on a shared machine the
absolute times drift, the ratios less so. Peak memory is the process's so far, PyTorch itself included.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import features
import graph as graphs
import knn
import training

HOSTS, PORTS, EDGES, HISTORY = 7566, 2501, 65000, 5  # an average day of the paper's month (method.md, section 9)


def paper_day(rng, scale):
    """Snapshot of a day of the paper's size: heavy-tailed ports, half of the hosts seen on the day before."""
    hosts, edges = int(HOSTS * scale), int(EDGES * scale)
    popularity = np.arange(1, PORTS + 1) ** -0.9
    pair = rng.integers(0, hosts, 3 * edges) * PORTS + rng.choice(PORTS, 3 * edges, p=popularity / popularity.sum())
    pair = np.sort(rng.permutation(np.unique(pair))[:edges])
    addresses = np.sort(rng.choice(2 * hosts, hosts, replace=False)).astype(np.uint32)
    graph = graphs.BipartiteGraph(addresses, np.arange(PORTS, dtype=np.int32), pair // PORTS, pair % PORTS,
                                  rng.integers(1, 60, edges))
    x = rng.random((hosts + PORTS, features.N_FEATURES), dtype=np.float32)
    return training.make_snapshot(graph, x, "cpu")


def dense_products(snapshots, backward, fused=True):
    """The step's matrix products alone, no sparse product, no elementwise work, no autograd.

    fused: those our code makes (W2 and the GRU's input weights multiplied first); else those of the plain form.
    """
    shape = torch.randn
    n_t = len(snapshots[-1].Ax) - 1
    W1, W2, W, U = shape(37, 1024), shape(1024, 512), shape(512, 384), shape(128, 384)
    out = shape(n_t, 384), shape(n_t, 128)
    days = [(day.Ax, shape(len(day.Ax), 1024), shape(len(day.Ax), 384), shape(len(day.Ax), 512)) for day in snapshots]

    def run():
        W_in = W2 @ W
        for x, z, g, z2 in days:
            _ = x @ W1
            _ = z @ W_in if fused else (z @ W2, z2[:n_t] @ W)
            _ = out[1] @ U
            if backward:
                _ = out[0] @ U.T, out[1].T @ out[0]
                if fused:
                    _ = g @ W_in.T, z.T @ g, x.T @ z
                else:
                    _ = out[0] @ W.T, z2[:n_t].T @ out[0], z2 @ W2.T, z.T @ z2, x.T @ z
    return run


def packets_of_a_day(rng, n):
    """(src, dst, port, fields) of n packets: heavy-tailed hosts and ports, one /24 of destinations."""
    addresses = rng.integers(0, 2**32, max(10, n // 250), dtype=np.uint32)
    src = addresses[(rng.pareto(1.0, n) * 20).astype(np.int64) % len(addresses)]
    port = ((rng.pareto(0.7, n) * 5).astype(np.int64) % 65536).astype(np.int32)
    dtypes = {"length": np.uint16, "ttl": np.uint8, "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32}
    fields = {name: rng.integers(0, np.iinfo(t).max, n).astype(t) for name, t in dtypes.items()}
    return src, rng.integers(0, 256, n).astype(np.uint32), port, fields


def graph_and_features(src, dst, port, fields):
    graph, order = graphs.build_graph(src, port)
    x = features.node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
                               dst[order], {name: column[order] for name, column in fields.items()})
    return features.scale_by_maximum(x, len(graph.hosts))


def compare(part, bound, repeats):
    """Median seconds of both, run in turn after one warm-up each, and the median of the pairs' ratios."""
    part(), bound()
    pairs = []
    for _ in range(repeats):
        seconds = []
        for work in (part, bound):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        pairs.append(seconds)
    return {"seconds": statistics.median(a for a, _ in pairs), "bound": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(a / b for a, b in pairs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng, scale = np.random.default_rng(0), 0.05 if args.quick else 1
    rows = {}

    def measure(name, bound_name, part, bound):
        rows[name] = compare(part, bound, args.repeats)
        rows[name]["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        row = rows[name]
        print(f"{name:36} {row['seconds']:8.3f} {row['bound']:8.3f} {row['ratio']:6.2f} {row['peak_gb']:7.2f}  "
              f"{bound_name}", flush=True)

    print(f"torch {torch.__version__}, {args.threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'part':36} {'seconds':>8} {'bound':>8} {'ratio':>6} {'peak GB':>7}  bound: measured in turn with the part")
    snapshots = [paper_day(rng, scale) for _ in range(HISTORY + 1)]
    window = training.make_window(snapshots, "cpu")
    learner = training.new_learner("i-gcn-gru", 0, "cpu")
    for fused, name in ((True, "its dense products"), (False, "dense products of the plain form")):
        measure("training step, i-gcn-gru", name, lambda: training.train_step(learner, window),
                dense_products(snapshots, True, fused))
        measure("embedding pass, i-gcn-gru", name, lambda: training.embed(learner, window),
                dense_products(snapshots, False, fused))
    measure("window from 6 snapshots", "one training step", lambda: training.make_window(snapshots, "cpu"),
            lambda: training.train_step(learner, window))
    n = len(snapshots[-1].graph.hosts)
    z = torch.randn(n, 128)
    measure(f"3 nearest of {n:,} hosts", "the similarity product", lambda: knn.nearest(z, 3),
            lambda: [z[i : i + 1024] @ z.T for i in range(0, n, 1024)])
    day = packets_of_a_day(rng, int(2_000_000 * scale))
    measure(f"graph + features, {len(day[0]):,} packets", "one lexsort by (host, port)",
            lambda: graph_and_features(*day), lambda: np.lexsort((day[2], day[0])))
    edges, ports = window.edge_host, PORTS
    generator = torch.Generator().manual_seed(0)
    measure(f"{len(edges):,} negatives", "as many random pairs",
            lambda: graphs.sample_negatives(edges, window.edge_port, n, ports, len(edges), generator),
            lambda: (torch.randint(n, (len(edges),)), torch.randint(ports, (len(edges),))))
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "threads": args.threads, "parts": rows}, indent=2))


if __name__ == "__main__":
    main()
