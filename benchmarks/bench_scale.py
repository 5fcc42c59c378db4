#!/usr/bin/env python3
"""Several processes on one day's hosts: bytes they send, memory of each, time beside one process with their threads.

    python benchmarks/bench_scale.py [--hosts N] [--scale S ...] [--quick] [--json FILE]

    bytes    of one training step by collective, at N and at 10 N hosts a day, 2 ranks: counted, not estimated
    memory   of a rank at 4 N hosts, for 1, 2 and 4 ranks: of its days, and the peak of a training step beyond them
    low      the same of one process with and without --low-memory, and the step's seconds
    time     of a whole day, packets to neighbours, on the synthetic month at scale S: one process with two threads
             beside two ranks with one thread each, in turn
    table    COMPUTED from these for 10^5, 10^6, 10^7 hosts a day

i-gcn-gru, H = 5, the paper's widths. Peaks are the kernel's (VmHWM), reset before each step.
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from bench import HISTORY, HOSTS, paper_day

import fast
import training
from beyond import views
from scale import Adam, Network, processes, stop, way
from scale.processes import all_sum, sent
from traces import days as traces

GIB = 2**30
NETWORK = 10e9 / 8  # bytes a second of the computed table


def memory(name):
    """VmRSS or VmHWM of this process in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def new_learner(hands):
    """i-gcn-gru of the paper's widths, of one process or of one of several."""
    network, optimizer = (Network, Adam) if processes.size() > 1 else (fast.Network, fast.Adam)
    return hands.own_stream(training.new_learner(0, "cpu", lambda: network(True), optimizer))


def steps(hands, hosts, low_memory=False, n=3):
    """A rank's window with its share of `hosts` hosts a day: bytes sent by one step, memory, seconds of a step."""
    rng, learner = np.random.default_rng(processes.rank()), new_learner(hands)
    learner.network.embedder.low_memory = low_memory
    start = memory("VmRSS")

    def window_of(days):
        return learner.network.window([learner.network.snapshot(*day) for day in days])
    window = window_of([paper_day(rng, hosts / processes.size() / HOSTS) for _ in range(HISTORY + 1)])
    training.train_step(learner, window_of([paper_day(rng, 0.01)] * (HISTORY + 1)))  # Adam's moments
    kept = memory("VmRSS")
    seconds, peak = [], 0
    for _ in range(n):
        Path("/proc/self/clear_refs").write_text("5")
        sent.clear()
        began = time.perf_counter()
        training.train_step(learner, window)
        seconds.append(time.perf_counter() - began)
        peak = max(peak, memory("VmHWM") - kept)
    return {"sent": dict(sent), "kept": kept - start, "peak": peak, "seconds": statistics.median(seconds)}


def days(hands, scale, n):
    """Seconds of each of n days of the synthetic month, after H days of history, and what was sent, by part."""
    progress = training.Progress(new_learner(hands), HISTORY)
    seconds, bytes_sent, hosts, parts = [], [], [], []
    for t, (date, day) in enumerate(itertools.islice(hands.made_days(scale, 0), HISTORY + n)):
        all_sum(0)                                          # a common start
        sent.clear()
        clock = [time.perf_counter()]
        counted = hands.count_day(day, 5, 2500, fast.node_features)
        graph = counted.graph
        x = hands.by_maximum(counted.raw, len(graph.hosts))
        training.take(progress, progress.learner.network.snapshot(graph, x), t)
        clock.append(time.perf_counter())
        before = dict(sent)
        training.incremental(progress, 1)
        z = training.embed_day(progress)
        clock.append(time.perf_counter())
        if z is not None:
            today = traces.Day(date, graph, x, torch.zeros(len(z), dtype=torch.int64), None, *counted[-3:])
            hands.search(fast.nearest, today, views.standardized(z, hands.standardize), 3)
            all_sum(0)                                      # the last rank's end
            clock.append(time.perf_counter())
            seconds.append(clock[-1] - clock[0])
            parts.append(np.diff(clock).tolist())
            hosts.append(counted.n_hosts)
            bytes_sent.append({"packets": sum(before.values()), "ring": sent["ring"]})
    middle = int(np.argsort(seconds)[len(seconds) // 2])
    return {"seconds": seconds[middle], "parts": parts[middle], "hosts": hosts[middle], "sent": bytes_sent[middle]}


def worker(rank, size, threads, port, folder, job, arguments):
    torch.set_num_threads(threads)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    found = {"steps": steps, "days": days}[job](way("cpu"), *arguments)
    stop()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def run(size, threads, job, *arguments):
    """What each of `size` fresh processes finds."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.multiprocessing.spawn(worker, (size, threads, port, folder, job, arguments), size)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(size)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hosts", type=int, default=7566, metavar="N")
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0], metavar="S")
    parser.add_argument("--days", type=int, default=3, help="timed days at each scale")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.quick:
        args.hosts, args.scale, args.days = 200, [0.02], 1
    found = {"hosts": args.hosts, "torch": torch.__version__}

    print("bytes that a rank hands to collectives in one training step, 2 ranks")
    small, large = (run(2, 1, "steps", hosts, False, 1)[0] for hosts in (args.hosts, 10 * args.hosts))
    for name in small["sent"]:
        print(f"    {name:12} {small['sent'][name]:14,} at {args.hosts:,} hosts {large['sent'][name]:14,} at "
              f"{10 * args.hosts:,}: {large['sent'][name] / small['sent'][name]:.3f} times")
    found["bytes"] = [small["sent"], large["sent"]]

    print(f"memory of a rank at {4 * args.hosts:,} hosts a day, MB")
    found["memory"] = {}
    for size in (1, 2, 4):
        ranks = run(size, 1, "steps", 4 * args.hosts, False, 1)
        kept, peak = (max(rank[name] for rank in ranks) for name in ("kept", "peak"))
        found["memory"][size] = [kept, peak]
        print(f"    {size} ranks: {kept / 1e6:8,.0f} its days and model, {peak / 1e6:8,.0f} more in a training step")

    hosts = 12 * args.hosts
    print(f"one process, one thread, {hosts:,} hosts a day")
    found["low_memory"] = {}
    base, = run(1, 1, "steps", args.hosts, True, 1)         # what does not grow with the hosts: PyTorch, the ports
    for low in (False, True):
        one, = run(1, 1, "steps", hosts, low, 2)
        found["low_memory"][low] = {**one, "per_host": sum(one[name] - base[name] for name in ("kept", "peak")) /
                                    (hosts - args.hosts)}
        print(f"    {'--low-memory' if low else 'as always':12} {one['kept'] / 1e6:8,.0f} MB days and model, "
              f"{one['peak'] / 1e6:8,.0f} MB more in a step of {one['seconds']:.2f} s")

    print("a day of the synthetic month, packets to neighbours: seconds (graph and features, model, neighbours)")
    found["days"] = {}
    for scale in args.scale:
        pairs = [[run(1, 2, "days", scale, args.days)[0], run(2, 1, "days", scale, args.days)[0]] for _ in range(3)]
        ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in pairs)
        one, two = (min(side, key=lambda day: day["seconds"]) for side in zip(*pairs))
        found["days"][scale] = {"one": one, "two": two, "ratio": ratio}
        for name, day in (("1 process x 2 threads", one), ("2 ranks x 1 thread", two)):
            print(f"    scale {scale:g}, {day['hosts']:,} hosts, {name:21} {day['seconds']:7.2f} "
                  f"({', '.join(f'{part:.2f}' for part in day['parts'])})")
        print(f"    ratio {ratio:.2f}, the median of three pairs run in turn")

    computed(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


def computed(found):
    """The table of ranks, network bytes and seconds, from the measured figures alone."""
    day = found["days"][max(found["days"])]["two"]
    per_host = {name: day["parts"][i] * 2 / day["hosts"] for i, name in enumerate(("graph", "model"))}  # thread seconds
    per_pair = day["parts"][2] * 2 / day["hosts"] ** 2
    bytes_per_host = found["low_memory"][True]["per_host"]
    record = day["sent"]["packets"] / (day["hosts"] / 2)    # bytes a rank sends per own host
    step = sum(found["bytes"][0].values())
    print("COMPUTED from these figures: ranks of 24 GiB with --low-memory, 16 threads each, 10 Gbit/s between them;")
    print("one step and one embedding a day, neighbours as hosts squared. Network: what one rank sends in a day.")
    print(f"    {'hosts a day':>12} {'ranks':>5} {'GiB each':>8} {'network MB':>10} {'its seconds':>11} "
          f"{'graph, model':>12} {'neighbours':>10}")
    for hosts in (10**5, 10**6, 10**7):
        ranks = int(-(-hosts * bytes_per_host // (20 * GIB)))  # 4 GiB left for PyTorch and the packets of a file
        own = hosts / ranks
        network = 0 if ranks == 1 else own * record + 2 * step + own * (ranks - 1) * day["sent"]["ring"] / (
            day["hosts"] / 2)
        print(f"    {hosts:12,} {ranks:5} {own * bytes_per_host / GIB:8.1f} {network / 1e6:10,.0f} "
              f"{network / NETWORK:11.1f} {own * sum(per_host.values()) / 16:12,.0f} "
              f"{own * hosts * per_pair / 16:10,.0f}")


if __name__ == "__main__":
    main()
