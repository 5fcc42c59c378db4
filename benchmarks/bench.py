#!/usr/bin/env python3
"""Time and peak memory of each part, beside a lower bound measured in the same run.

    python benchmarks/bench.py [--quick] [--only NAME ...] [--threads N] [--json FILE] [--compare OLD.json]
    python benchmarks/bench.py --device cuda

    steps        training step and embedding pass, one day of the paper's size, H = 5      bound: its dense products,
                 those that it makes, and those that the plain form of the method would make
    fast         the same with reduced-precision products ("medium")                       bound: these products
    knn          3 nearest of 10,000, 30,000, 100,000, 1,000,000 rows                      bound: similarity product
    packets      graph and features of 2 and 20 million packets                            bound: one lexsort
    negatives    of 65,000 and 6,500,000 edges                                             bound: as many random pairs
    growth       a training step on days of the synthetic month, scale 0.1, 1 and 5        time and memory per edge
    small        a day of 100 hosts and 2,000 edges, from its packets to its neighbours    bound: dense products
    month        synthetic scale 1, i-gcn-gru: where the time goes (minutes, only if named)

Part and bound are run in turn, A B A B ..., and the ratio is the median of the pairs' ratios: on a shared machine the
absolute times drift, the ratios less so. Every part runs in a process of its own, so that its peak memory is its own
(PyTorch and the inputs included). "growth" is per packet or edge, relative to 2 million packets, or to scale 1.
"""
# ruff: noqa: B023  (functions made in a loop here run in the same turn of the loop)

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import features
import graph as graphs
import knn
import models
import training
from traces import synthetic

HOSTS, PORTS, EDGES, HISTORY = 7566, 2501, 65000, 5  # an average day of the paper's month
SECONDS = 3.0  # repeat a pair until it took about so long, at least three times


def paper_day(rng, scale, device="cpu"):
    """Snapshot of a day of the paper's size: heavy-tailed ports, half of the hosts seen on the day before."""
    hosts, edges = int(HOSTS * scale), int(EDGES * scale)
    popularity = np.arange(1, PORTS + 1) ** -0.9
    pair = rng.integers(0, hosts, 3 * edges) * PORTS + rng.choice(PORTS, 3 * edges, p=popularity / popularity.sum())
    pair = np.sort(rng.permutation(np.unique(pair))[:edges])
    addresses = np.sort(rng.choice(2 * hosts, hosts, replace=False)).astype(np.uint32)
    graph = graphs.BipartiteGraph(addresses, np.arange(PORTS, dtype=np.int32), pair // PORTS, pair % PORTS,
                                  rng.integers(1, 60, len(pair)))
    x = rng.random((hosts + PORTS, features.N_FEATURES), dtype=np.float32)
    return training.make_snapshot(graph, x, device)


def dense_products(window, backward):
    """The matrix products that the step makes, alone: no sparse product, no elementwise work, no autograd."""
    shape = torch.randn
    W1, W2, W, U = shape(37, 1024), shape(1024, 512), shape(512, 384), shape(128, 384)
    days = []
    for (A, *_), x, now, _ in window.days:
        rows = A.shape[0]
        second = rows if len(x) > models.MANY * rows else len(x)  # rows of the second product: wanted ones, or all
        states = rows if now is None else len(now)
        days.append((x, shape(len(x), 1024), shape(second, 1024), shape(second, 384), shape(states, 384),
                     shape(states, 128)))

    def run():
        W_in = W2 @ W
        if backward:
            _ = W_in @ W.T, W2.T @ W_in
        for x, z1, z, g, gates, h in days:
            _ = x @ W1
            _ = z @ W_in
            _ = h @ U
            if backward:
                _ = gates @ U.T, h.T @ gates
                _ = g @ W_in.T, z.T @ g, x.T @ z1
    return run


def plain_products(days, backward):
    """Those of the plain form on the same days: each active node's row once a layer."""
    shape, n = torch.randn, days[-1].A_hat.shape[0]
    W1, W2, W, U = shape(37, 1024), shape(1024, 512), shape(512, 384), shape(128, 384)
    z2, h, gates = shape(n, 512), shape(n, 128), shape(n, 384)

    def run():
        for day in days:
            z1 = day.Ax @ W1
            g1 = z1 @ W2
            _ = z2 @ W, h @ U
            if backward:
                _ = gates @ U.T, h.T @ gates, gates @ W.T, z2.T @ gates
                _ = g1 @ W2.T, z1.T @ g1, day.Ax.T @ z1
    return run


def packets_of_a_day(rng, n):
    """(src, dst, port, fields) of n packets: heavy-tailed hosts and ports, one /24 of destinations."""
    addresses = rng.integers(0, 2**32, max(10, n // 250), dtype=np.uint32)
    src = addresses[(rng.pareto(1.0, n) * 20).astype(np.int64) % len(addresses)]
    port = ((rng.pareto(0.7, n) * 5).astype(np.int64) % 65536).astype(np.int32)
    dtypes = {"length": np.uint16, "ttl": np.uint8, "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32}
    fields = {name: rng.integers(0, np.iinfo(t).max, n).astype(t) for name, t in dtypes.items()}
    return src, rng.integers(0, 256, n).astype(np.uint32), port, fields


def graph_with_features(src, dst, port, fields):
    graph, order = graphs.build_graph(src, port)
    x = features.node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
                               dst, fields, order)
    return graph, features.scale_by_maximum(x, len(graph.hosts))


def compare(part, bound):
    """Median seconds of both, run in turn after one warm-up each, and the median of the pairs' ratios."""
    part(), bound()
    pairs, began = [], time.perf_counter()
    while len(pairs) < 3 or (time.perf_counter() - began < SECONDS and len(pairs) < 50):
        start = time.perf_counter()
        part()
        middle = time.perf_counter()
        bound()
        pairs.append((middle - start, time.perf_counter() - middle))
    return {"seconds": statistics.median(a for a, _ in pairs), "bound": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(a / b for a, b in pairs)}


def measured(name, part, bound_name, bound, target=None):
    return {"part": name, **compare(part, bound), "target": target, "against": bound_name, "peak_gb": peak()}


def peak():
    """Peak resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


# -- parts: each yields rows of the table ------------------------------------------------------------------------------

def steps(quick, targets=(1.5, 1.5), what=""):
    rng = np.random.default_rng(0)
    days = [paper_day(rng, 0.05 if quick else 1) for _ in range(HISTORY + 1)]
    window, learner = training.make_window(days, "cpu"), training.new_learner("i-gcn-gru", 0, "cpu")
    for part, work, backward, target in (
            ("training step", lambda: training.train_step(learner, window), True, targets[0]),
            ("embedding pass", lambda: training.embed(learner, window), False, targets[1])):
        yield measured(f"{part}{what}", work, f"its dense products{what}", dense_products(window, backward), target)
        yield measured(f"  {part}{what}", work, f"the plain form's dense products{what}",
                       plain_products(days, backward))


def fast(quick):
    torch.set_float32_matmul_precision("medium")            # bfloat16 products where the CPU has them
    yield from steps(quick, (2, 2), ", fast")


def neighbours(quick, n, n_queries):
    n, n_queries = (n // 20, min(n // 20, n_queries)) if quick else (n, n_queries)
    x = torch.nn.functional.normalize(torch.randn(n, 128))
    queries = None if n_queries == n else x[:n_queries].clone()
    q = x[:n_queries]
    buffer = torch.empty(1024 * 512)

    def product(half=False):                                # by blocks that stay in the cache, into one buffer
        for i in range(0, len(q), 512):
            for c in range(i // 1024 * 1024 if half else 0, len(x), 1024):
                a, b = x[c : c + 1024], q[i : i + 512]
                torch.mm(a, b.T, out=buffer[: len(a) * len(b)].view(len(a), len(b)))

    def ours():
        return knn.nearest(x, 3, queries=queries)
    yield measured(f"3 nearest among {n:,}, {n_queries:,} queries", ours, "the similarity product", product, 1.3)
    if queries is None:                                     # similarities of rows among themselves are symmetric
        yield measured(f"  {n:,} among themselves", ours, "half the product", lambda: product(half=True))
    for library, search in (("scikit-learn, brute force", scikit_search), ("faiss IndexFlatIP", faiss_search)):
        try:
            theirs = search(x.numpy(), q.numpy())
        except ImportError:
            yield {"part": f"  the same against {library}", "note": "not installed, skipped"}
            continue
        yield measured(f"  {n:,} against {library}", ours, library, theirs, 1.0)


def scikit_search(x, queries):
    from sklearn.neighbors import NearestNeighbors
    index = NearestNeighbors(n_neighbors=4, algorithm="brute", metric="cosine", n_jobs=-1).fit(x)
    return lambda: index.kneighbors(queries)


def faiss_search(x, queries):
    import faiss
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return lambda: index.search(queries, 4)


def packets(quick):
    rng, first = np.random.default_rng(0), None
    for n in (2_000_000, 20_000_000):
        day = packets_of_a_day(rng, n // 20 if quick else n)
        row = measured(f"graph + features, {len(day[0]):,} packets", lambda: graph_with_features(*day),
                       "one lexsort by (host, port)", lambda: np.lexsort((day[2], day[0])), 3)
        first = first or row["seconds"] / len(day[0])
        yield {**row, "growth": row["seconds"] / len(day[0]) / first}


def negatives(quick):
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for scale in (1, 5) if quick else (1, 100):
        n_hosts, n = HOSTS * scale, EDGES * scale
        code = torch.from_numpy(np.unique(rng.integers(0, n_hosts * PORTS, n + n // 100))[:n])
        host, port = code // PORTS, code % PORTS
        yield measured(f"{n:,} negatives", lambda: graphs.sample_negatives(host, port, n_hosts, PORTS, n, generator),
                       "as many random pairs", lambda: (torch.randint(n_hosts, (n,), generator=generator),
                                                        torch.randint(PORTS, (n,), generator=generator)), 5)


def synthetic_days(scale):
    """Snapshots of the synthetic month's first days."""
    for _, day in itertools.islice(synthetic.month(scale, 0), HISTORY + 1):
        fields = {name: day[name] for name in features.FIELDS}
        yield training.make_snapshot(*graph_with_features(day["src"], day["dst"], day["port"], fields), "cpu")


def growth(quick, scale):
    """A training step at a scale: seconds, and the memory that the steps add to what the window holds."""
    days = elsewhere(synthetic_days, scale / 20 if quick else scale)  # their packets need more memory than the step
    window = training.make_window(days, "cpu")
    learner = training.new_learner("i-gcn-gru", 0, "cpu")
    tiny = [paper_day(np.random.default_rng(0), 0.001)] * (HISTORY + 1)
    training.train_step(learner, training.make_window(tiny, "cpu"))  # libraries are loaded, Adam's moments are there
    before = peak()
    row = measured(f"training step, scale {scale:g}", lambda: training.train_step(learner, window),
                   "its dense products", dense_products(window, True), 1.5)
    edges = len(window.edge_host)
    yield {**row, "per_edge_us": row["seconds"] / edges * 1e6, "per_edge_kb": (row["peak_gb"] - before) / edges * 1e6}


def small(quick):
    """Days of 100 hosts, half of them seen before, and about 1,300 ports most of which one host contacts.

    As scanners do, a host sends every port the same packet, but for the TCP timestamp that half of the hosts put there.
    """
    rng, days, n = np.random.default_rng(0), [], 4000
    for _ in range(HISTORY + 1):
        host = np.arange(n) % 100
        src = rng.choice(200, 100, replace=False).astype(np.uint32)[host]
        rare = rng.random(n) < 0.33
        port = np.where(rare, rng.integers(1000, 65536, n), rng.integers(0, 8, n)).astype(np.int32)
        _, dst, _, fields = packets_of_a_day(rng, n)
        sent = {name: column[host] for name, column in fields.items()}
        sent["timestamp"] = np.where(host % 2, fields["timestamp"], 0)
        days.append((src, dst, port, sent))
    learner, device = training.new_learner("i-gcn-gru", 0, "cpu"), "cpu"
    past = [training.make_snapshot(*graph_with_features(*day), device) for day in days[:-1]]

    def window_of_today():
        return training.make_window([*past, training.make_snapshot(*graph_with_features(*days[-1]), device)], device)

    def one_day():
        window = window_of_today()
        training.train_step(learner, window)
        return knn.nearest(knn.standardize(training.embed(learner, window)), 3)
    window = window_of_today()
    step, embed = dense_products(window, True), dense_products(window, False)
    row = measured(f"a day of 100 hosts, {window.n_ports:,} ports, {len(window.edge_host):,} edges", one_day,
                   "dense products of step and embedding", lambda: (step(), embed()))
    yield {**row, "note": f"{1 / row['seconds']:.1f} days a second; target 20"}


def month(quick):
    spent, bounds, past = {}, {}, []
    learner = training.new_learner("i-gcn-gru", 0, "cpu")

    def timed(name, work, bound=None):
        start = time.perf_counter()
        result = work()
        spent[name] = spent.get(name, 0) + time.perf_counter() - start
        if bound:
            start = time.perf_counter()
            bound()
            bounds[name] = bounds.get(name, 0) + time.perf_counter() - start
        return result
    for t, (_, day) in enumerate(synthetic.month(0.005 if quick else 1, 0), 1):
        fields = {name: day[name] for name in features.FIELDS}
        graph, x = timed("graph and features", lambda: graph_with_features(day["src"], day["dst"], day["port"], fields),
                         lambda: np.lexsort((day["port"], day["src"])))
        past = [*past, timed("snapshots", lambda: training.make_snapshot(graph, x, "cpu"))][-HISTORY - 1 :]
        if t <= HISTORY:
            continue
        window = timed("windows", lambda: training.make_window(past, "cpu"))
        timed("training steps", lambda: training.train_step(learner, window), dense_products(window, True))
        if t > 20:
            z = timed("embedding passes", lambda: training.embed(learner, window), dense_products(window, False))
            z = knn.standardize(z)
            timed("nearest neighbours", lambda: knn.nearest(z, 3),
                  lambda: [z[i : i + 512] @ z.T for i in range(0, len(z), 512)])
    for name, seconds in (*spent.items(), ("the month, without making its packets", sum(spent.values()))):
        bound = bounds.get(name) if name in spent else sum(bounds.values())
        yield {"part": name, "seconds": seconds, "bound": bound, "ratio": bound and seconds / bound,
               "target": None if name in spent else 2, "peak_gb": peak(), "against": "the parts' bounds" * bool(bound)}


def cuda(quick):
    """26 steps and 26 embedding passes with the snapshots in device memory, and the search among 1,000,000 rows."""
    rng, device = np.random.default_rng(0), "cuda"
    scale, n = (0.05, 50_000) if quick else (1, 1_000_000)
    days = [paper_day(rng, scale, device) for _ in range(HISTORY + 6)]
    windows = [training.make_window(days[i : i + HISTORY + 1], device) for i in range(6)]
    for precision, target in (("highest", 2.0), ("medium", 0.5)):
        torch.set_float32_matmul_precision(precision)       # TF32 off, on
        learner = training.new_learner("i-gcn-gru", 0, device)

        def run():
            for i in range(26):
                training.train_step(learner, windows[i % 6])
                training.embed(learner, windows[i % 6])
        seconds, launched = event_seconds(run)
        yield {"part": f"26 steps, 26 embedding passes, {'exact' if precision == 'highest' else 'fast'}",
               "seconds": seconds, "bound": target, "ratio": seconds / target, "target": 1, "peak_gb": device_peak(),
               "against": "seconds wanted on one H200", "note": f"{launched:.3f} s until all was launched"}
    torch.set_float32_matmul_precision("highest")
    x = torch.nn.functional.normalize(torch.randn(n, 128, device=device))
    queries = x[:65536]

    def product():
        out = torch.empty(65536 * 8192, device=device)
        for i in range(0, len(queries), 8192):
            for c in range(0, n, 65536):
                a, b = x[c : c + 65536], queries[i : i + 8192]
                torch.mm(a, b.T, out=out[: len(a) * len(b)].view(len(a), len(b)))
    bound = event_seconds(product)[0] * n / len(queries)    # its measured rate, for all rows as queries
    seconds, _ = event_seconds(lambda: knn.nearest(x, 3), warm_up=lambda: knn.nearest(queries, 3))
    yield {"part": f"3 nearest among {n:,}, all as queries", "seconds": seconds, "bound": bound,
           "ratio": seconds / bound, "target": 1 / 0.6, "peak_gb": device_peak(),
           "against": "the similarity product at its measured rate (half of it is needed)"}


def event_seconds(work, warm_up=None):
    """Seconds between two device events around the work, after a warm-up, and until the host had launched it all:
    where the two are alike the host, not the device, is what takes the time."""
    (warm_up or work)()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began = time.perf_counter()
    start.record()
    work()
    end.record()
    launched = time.perf_counter() - began
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000, launched


def device_peak():
    return torch.cuda.max_memory_allocated() / 1e9


PARTS = {                                                   # name: (function, its calls' arguments, a process each)
    "steps": (steps, [()]), "fast": (fast, [()]), "packets": (packets, [()]), "negatives": (negatives, [()]),
    "knn": (neighbours, [(10_000, 10_000), (30_000, 30_000), (100_000, 4096), (1_000_000, 1024)]),
    "growth": (growth, [(1.0,), (0.1,), (5.0,)]), "small": (small, [()]), "month": (month, [()])}


# -- the table ---------------------------------------------------------------------------------------------------------

def elsewhere(part, *arguments):
    """All that part(*arguments) yields, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(rows_of, part, torch.get_num_threads(), arguments).result()


def rows_of(part, threads, arguments):
    """A list of what part(*arguments) yields, with that many threads and torch's seed 0."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return list(part(*arguments))


def line(row, old=None):
    def number(key, form):
        return f"{row[key]:{form}}" if row.get(key) is not None else " " * int(form.split(".")[0])
    then = f" {row['seconds'] / old['seconds']:5.2f} x the seconds of before" if old and old.get("seconds") else ""
    return (f"{row['part']:44} {number('seconds', '9.4f')} {number('bound', '9.4f')} {number('ratio', '6.2f')} "
            f"{number('target', '6.2f')} {number('peak_gb', '7.2f')} {number('growth', '6.2f')}  "
            f"{row.get('against', '')}{'; ' * ('against' in row and 'note' in row)}{row.get('note', '')}{then}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="a file of --json: its seconds beside these")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench: PyTorch sees no CUDA device")
    parts = [(cuda, [()])] if args.device == "cuda" else [PARTS[name] for name in args.only or PARTS
                                                          if args.only or name != "month"]
    before = {row["part"]: row for row in json.loads(args.compare.read_text())["parts"]} if args.compare else {}

    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'part':44} {'seconds':>9} {'bound':>9} {'ratio':>6} {'target':>6} {'peak GB':>7} {'growth':>6}  "
          "bound: measured in turn with the part")
    rows = []
    for part, calls in parts:
        base = None                                         # growth: relative to the first scale of the list
        for arguments in calls:
            of_part = elsewhere(part, args.quick, *arguments)
            for row in of_part:
                if part is growth:
                    base = base or row
                    row["growth"] = row["per_edge_us"] / base["per_edge_us"]
                    row["note"] = f"memory per edge {row['per_edge_kb'] / base['per_edge_kb']:.2f}"
                print(line(row, before.get(row["part"])), flush=True)
            rows += of_part
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "threads": args.threads, "parts": rows}, indent=2))


if __name__ == "__main__":
    main()
