#!/usr/bin/env python3
"""Time and peak memory of each part, beside a lower bound measured in the same run.

    python benchmarks/bench.py [--quick] [--only NAME ...] [--threads N] [--json FILE] [--compare OLD.json]
    python benchmarks/bench.py --device cuda

    steps        training step and embedding pass, one day of the paper's size, H = 5      bound: its dense products,
                 those that it makes, and those that the plain form of the method makes
    plain        the same by the flat files alone (--plain), beside fast/                  bound: its dense products
    firewall     both on six days of a firewall's log (--firewall FILE ...)                bound: its dense products
    reduced      a step by --precision fast                                                bound: an exact one
    knn          3 and 50 nearest of 5,000 to 1,000,000 rows, 37, 128 and 165 wide         bound: similarity product
    packets      graph and features of 2 to 20 million packets                             bound: one lexsort
    growth       a training step on days of the synthetic month, scale 0.1, 1 and 5        time and memory per edge
    month        synthetic scale 1, i-gcn-gru: where the time goes (minutes, only if named)

Part and bound are run in turn, A B A B ..., and the ratio is the median of the pairs' ratios: on a shared machine the
absolute times drift, the ratios less so. Every part runs in a process of its own, so that its peak memory is its own
(PyTorch and the inputs included). "growth" is time per packet or edge, relative to 2 million packets, or to scale 1.
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

import fast
import features
import graph as graphs
import knn
import training
from fast.precision import chosen, matmul_precision
from traces import packets as traces
from traces import synthetic

HOSTS, PORTS, EDGES, HISTORY = 7566, 2501, 65000, 5  # an average day of the paper's month
SECONDS = 3.0  # repeat a pair until it took about so long, at least three times


def paper_day(rng, scale):
    """(graph, x) of a day of the paper's size: heavy-tailed ports, half of the hosts seen on the day before."""
    hosts, edges = int(HOSTS * scale), int(EDGES * scale)
    popularity = np.arange(1, PORTS + 1) ** -0.9
    pair = rng.integers(0, hosts, 3 * edges) * PORTS + rng.choice(PORTS, 3 * edges, p=popularity / popularity.sum())
    pair = np.sort(rng.permutation(np.unique(pair))[:edges])
    addresses = np.sort(rng.choice(2 * hosts, hosts, replace=False)).astype(np.uint32)
    graph = graphs.BipartiteGraph(addresses, np.arange(PORTS, dtype=np.int32), pair // PORTS, pair % PORTS,
                                  rng.integers(1, 60, len(pair)))
    return graph, rng.random((hosts + PORTS, features.N_FEATURES), dtype=np.float32)


def new_learner(network=fast.Network, device="cpu"):
    """i-gcn-gru of the paper's widths, fast or plain."""
    optimizer = fast.Adam if network is fast.Network else torch.optim.Adam
    return training.new_learner(0, device, lambda: network(True), optimizer)


def window_of(learner, days):
    """The learner's window of days (graph, x), oldest first."""
    return learner.network.window([learner.network.snapshot(*day) for day in days])


def dense_products(window, backward):
    """The matrix products that the step makes, alone: no sparse product, no elementwise work, no autograd."""
    shape = torch.randn
    W1, W2, W, U = shape(37, 1024), shape(1024, 512), shape(512, 384), shape(128, 384)
    days = []
    for day in window.days:
        x, rows = day.Ax, day.S.shape[0]
        second = rows if day.propagate_first else len(x)    # rows of the second product: wanted ones, or all
        states = rows if day.now is None else len(day.now)
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
    """Those of the plain form on the same days (graph, x): each active node's row once a layer."""
    shape, n = torch.randn, len(days[-1][1])
    W1, W2, W, U = shape(37, 1024), shape(1024, 512), shape(512, 384), shape(128, 384)
    z2, h, gates = shape(n, 512), shape(n, 128), shape(n, 384)
    inputs = [(graph, torch.from_numpy(x)) for graph, x in days]

    def run():
        for _, x in inputs:
            z1 = x @ W1
            g1 = z1 @ W2
            _ = z2 @ W, h @ U
            if backward:
                _ = gates @ U.T, h.T @ gates, gates @ W.T, z2.T @ gates
                _ = g1 @ W2.T, z1.T @ g1, x.T @ z1
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
    x = fast.node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
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
    learner = new_learner()
    window = window_of(learner, days)
    for part, work, backward, target in (
            ("training step", lambda: training.train_step(learner, window), True, targets[0]),
            ("embedding pass", lambda: learner.network.embed(window), False, targets[1])):
        yield measured(f"{part}{what}", work, f"its dense products{what}", dense_products(window, backward), target)
        yield measured(f"  {part}{what}", work, f"the plain form's dense products{what}",
                       plain_products(days, backward))


def plain(quick, days=None, what=""):
    """The flat files as they stand: beside fast/, and beside their own dense products."""
    rng = np.random.default_rng(0)
    days = days or [paper_day(rng, 0.05 if quick else 1) for _ in range(HISTORY + 1)]
    ours, theirs = new_learner(), new_learner(training.Network)
    window, plain_window = window_of(ours, days), window_of(theirs, days)
    for part, work, other, backward in (
            ("training step", lambda: training.train_step(theirs, plain_window),
             lambda: training.train_step(ours, window), True),
            ("embedding pass", lambda: theirs.network.embed(plain_window), lambda: ours.network.embed(window), False)):
        yield measured(f"plain {part}{what}", work, "fast", other, 2)
        yield measured(f"  plain {part}{what}", work, "its dense products", plain_products(days, backward))
        yield measured(f"  fast {part}{what}", other, "its dense products", dense_products(window, backward))


def firewall(quick, paths):
    """The flat files and fast/ on a firewall's log."""
    yield from plain(quick, firewall_days(paths), ", firewall log")


def firewall_days(paths):
    """(graph, x) of days 16 to 21 of the log."""
    days = []
    for _, day in traces.read_days(paths, traces.Summary()):
        given = {name: getattr(day, name) for name in features.FIELDS if getattr(day, name) is not None}
        days.append(graph_with_features(day.src, day.dst, day.port, given))
    return days[15:21]


def reduced(quick):
    """A step by --precision fast beside an exact one: it must not take longer."""
    rng, learner = np.random.default_rng(0), new_learner()
    window = window_of(learner, [paper_day(rng, 0.05 if quick else 1) for _ in range(HISTORY + 1)])
    name, note = chosen("fast", "cpu")

    def fast_step():
        with matmul_precision(name):
            training.train_step(learner, window)

    def exact_step():
        training.train_step(learner, window)
    row = measured("training step, --precision fast", fast_step, "an exact one", exact_step, 1)
    yield {**row, "note": note or "products are rounded"}


def neighbours(quick, n, n_queries, width=128, k=3):
    """n_queries None: among themselves. Bounds: PyTorch's product, and that by the library which the search takes."""
    n, n_queries = (n // 20, n_queries and min(n // 20, n_queries)) if quick else (n, n_queries)
    x = torch.nn.functional.normalize(torch.randn(n, width))
    queries = n_queries and x[:n_queries].clone()
    q = x if queries is None else queries
    buffer, exact = torch.empty(1024 * 512), torch.get_float32_matmul_precision()

    def quicker_product():                                  # by blocks that stay in the cache, into one buffer
        for i in range(0, len(q), 512):
            for c in range(0, len(x), 1024):
                a, b = x[c : c + 1024], q[i : i + 512]
                torch.mm(a, b.T, out=buffer[: len(a) * len(b)].view(len(a), len(b)))

    def product():
        torch.set_float32_matmul_precision("highest")
        quicker_product()
        torch.set_float32_matmul_precision(exact)

    def ours():
        return fast.nearest(x, k, queries=queries)
    name = f"{n:,}, {'themselves' if queries is None else f'{n_queries:,} queries'}, {width} wide, k = {k}"
    yield measured(name, ours, "the similarity product", product, 1.25)
    yield measured("  the same", ours, "the product by the quicker library", quicker_product)
    for library, search in (("scikit-learn, brute force", scikit_search), ("faiss IndexFlatIP", faiss_search)):
        try:
            theirs = search(x.numpy(), q.numpy(), k + (queries is None))
        except ImportError:
            yield {"part": f"  the same against {library}", "note": "not installed, skipped"}
            continue
        yield measured(f"  the same against {library}", ours, library, theirs, 1.0)


def scikit_search(x, queries, k):
    from sklearn.neighbors import NearestNeighbors
    index = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine", n_jobs=-1).fit(x)
    return lambda: index.kneighbors(queries)


def faiss_search(x, queries, k):
    import faiss
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return lambda: index.search(queries, k)


def packets(quick):
    """Graph and features at four sizes; growth: time per packet, in turn with the smallest."""
    rng, smallest = np.random.default_rng(0), None
    for n in (2_000_000, 5_000_000, 10_000_000, 20_000_000):
        day = packets_of_a_day(rng, n // 20 if quick else n)
        smallest = smallest or day
        row = measured(f"graph + features, {len(day[0]):,} packets", lambda: graph_with_features(*day),
                       "one lexsort by (host, port)", lambda: np.lexsort((day[2], day[0])), 3)
        beside = compare(lambda: graph_with_features(*day), lambda: graph_with_features(*smallest))
        yield {**row, "growth": beside["ratio"] * len(smallest[0]) / len(day[0])}


def synthetic_days(scale):
    """(graph, x) of the synthetic month's first days."""
    for _, day in itertools.islice(synthetic.month(scale, 0), HISTORY + 1):
        fields = {name: day[name] for name in features.FIELDS}
        yield graph_with_features(day["src"], day["dst"], day["port"], fields)


def growth(quick, scale):
    """A training step at a scale: seconds, and the memory that the steps add to what the window holds."""
    days = elsewhere(synthetic_days, scale / 20 if quick else scale)  # their packets need more memory than the step
    learner = new_learner()
    window = window_of(learner, days)
    tiny = [paper_day(np.random.default_rng(0), 0.001)] * (HISTORY + 1)
    training.train_step(learner, window_of(learner, tiny))  # libraries are loaded, Adam's moments are there
    before = peak()
    row = measured(f"training step, scale {scale:g}", lambda: training.train_step(learner, window),
                   "its dense products", dense_products(window, True), 1.5)
    edges = len(window.edge_host)
    yield {**row, "per_edge_us": row["seconds"] / edges * 1e6, "per_edge_kb": (row["peak_gb"] - before) / edges * 1e6}


def month(quick):
    spent, bounds, past = {}, {}, []
    learner = new_learner()
    network = learner.network

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
        past = [*past, timed("snapshots", lambda: network.snapshot(graph, x))][-HISTORY - 1 :]
        if t <= HISTORY:
            continue
        window = timed("windows", lambda: network.window(past))
        timed("training steps", lambda: training.train_step(learner, window), dense_products(window, True))
        if t > 20:
            z = timed("embedding passes", lambda: network.embed(window), dense_products(window, False))
            z = knn.standardize(z)
            timed("nearest neighbours", lambda: fast.nearest(z, 3),
                  lambda: [z[i : i + 512] @ z.T for i in range(0, len(z), 512)])
    for name, seconds in (*spent.items(), ("the month, without making its packets", sum(spent.values()))):
        bound = bounds.get(name) if name in spent else sum(bounds.values())
        yield {"part": name, "seconds": seconds, "bound": bound, "ratio": bound and seconds / bound,
               "target": None if name in spent else 2, "peak_gb": peak(), "against": "the parts' bounds" * bool(bound)}


def cuda(quick):
    """26 steps and 26 embedding passes with the snapshots in device memory, and the search among 1,000,000 rows."""
    rng, device = np.random.default_rng(0), "cuda"
    scale, n = (0.05, 50_000) if quick else (1, 1_000_000)
    days = [paper_day(rng, scale) for _ in range(HISTORY + 6)]
    for precision, target in (("highest", 2.0), ("medium", 0.5)):
        torch.set_float32_matmul_precision(precision)       # TF32 off, on
        learner = new_learner(device=device)
        windows = [window_of(learner, days[i : i + HISTORY + 1]) for i in range(6)]

        def run():
            for i in range(26):
                training.train_step(learner, windows[i % 6])
                learner.network.embed(windows[i % 6])
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
    seconds, _ = event_seconds(lambda: fast.nearest(x, 3), warm_up=lambda: fast.nearest(queries, 3))
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
    "steps": (steps, [()]), "plain": (plain, [()]), "reduced": (reduced, [()]),
    "packets": (packets, [()]),
    "knn": (neighbours, [(n, n_queries, width, k) for n, n_queries in (
        (5_000, None), (10_000, None), (10_000, 10_000), (30_000, None), (100_000, 4096), (1_000_000, 1024))
        for width in (37, 128, 165) for k in (3, 50)]),
    "growth": (growth, [(1.0,), (0.1,), (5.0,)]), "month": (month, [()])}


# -- the table ---------------------------------------------------------------------------------------------------------

def elsewhere(part, *arguments):
    """All that part(*arguments) yields, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(rows_of, part, torch.get_num_threads(), arguments).result()


def rows_of(part, threads, arguments):
    """A list of what part(*arguments) yields, with that many threads, torch's seed 0 and the products of a run."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with matmul_precision("exact"):
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
    parser.add_argument("--firewall", nargs="+", metavar="FILE", help="a firewall's log of 21 days or more")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="a file of --json: its seconds beside these")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench: PyTorch sees no CUDA device")
    parts = [(cuda, [()])] if args.device == "cuda" else [PARTS[name] for name in args.only or PARTS
                                                          if args.only or name != "month"]
    if args.firewall and args.device == "cpu":
        parts.append((firewall, [(args.firewall,)]))
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
