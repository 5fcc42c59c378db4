#!/usr/bin/env python3
"""Where a day of very many hosts takes its time: `--model features --steady --campaigns`, from packets to files.

    python benchmarks/bench_million.py [--hosts N ...] [--days D] [--threads T] [--all-pairs] [--plain-campaigns]

N hosts, about, are as many synthetic months of other seeds as that takes, up to scale 10 each. A month's day is made
and counted at a time, as each of several processes does its share: 10^8 packets twice are more than memory holds, and a
host's features come from its own packets alone. All else, from the ranks on, sees all hosts. The earlier days enter the
memory of steady behaviour, the last one is timed. --all-pairs: neighbours by fast.neighbours, unpruned, as well;
--plain-campaigns: campaigns by beyond.campaigns alone as well, and whether they are the same. Of several sizes each has
a process of its own, so that its peak memory is its own.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import fast
import knn
from beyond import campaigns, ranks, views
from fast import alone, neighbours
from report import files, scores
from traces import days, packets, synthetic

A_MONTH = 7500  # hosts a day at scale 1


class Timer:
    """The seconds of each part of a day, told as they are known."""

    def __init__(self):
        self.seconds = {}

    def __call__(self, part, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        self.seconds[part] = self.seconds.get(part, 0) + time.perf_counter() - start
        return result

    def tell(self):
        """A line per part, in the order of their first call."""
        total = sum(self.seconds.values())
        for part, seconds in self.seconds.items():
            print(f"  {part:28} {seconds:8.1f} s {seconds / total:6.0%}")
        print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True)


def counted(index, scales, timer):
    """(hosts (n,), their raw features (n, 37), packets) of a day of all months, a month after the other."""
    parts, n_packets = [], 0
    for seed, scale in enumerate(scales):
        day = packets.Packets(**timer("making the packets", synthetic.day, index, scale, seed))
        part = timer("graph and features", days.count_day, day, 5, 2500, fast.node_features)
        parts.append((part.graph.hosts, part.raw[: len(part.graph.hosts)]))
        n_packets += part.n_packets
    hosts, first = np.unique(np.concatenate([hosts for hosts, _ in parts]), return_index=True)
    return hosts, np.concatenate([raw for _, raw in parts])[first], n_packets


def classes(hosts, scales):
    """The class of each host, (n,) int64."""
    labels = np.zeros(len(hosts), np.int64)
    for seed, scale in enumerate(scales):
        addresses, codes, _ = synthetic.ground_truth(scale, seed)
        at = np.searchsorted(addresses, hosts).clip(max=len(addresses) - 1)
        labels[addresses[at] == hosts] = codes[at][addresses[at] == hosts]
    return torch.from_numpy(labels)


def write(folder, hosts, labels, found, scored):
    """embeddings/ and the rows of predictions.csv."""
    dotted = files.dotted(hosts)
    files.save_embeddings(folder / "embeddings.npz", dotted, found.saved)
    with files.whole_file(folder / "predictions.csv") as file:
        file.write(files.prediction_lines("2021-12-02", dotted, synthetic.names(), labels, scored.predicted,
                                          scored.share, scored.nearest, found.surprise))


def measure(n, args):
    """Print the parts of the last of some days of about n hosts."""
    scale = n / A_MONTH
    scales = [synthetic.MAX_SCALE] * int(scale // synthetic.MAX_SCALE)
    scales += [scale % synthetic.MAX_SCALE] if scale % synthetic.MAX_SCALE else []
    view = views.View()
    for index in range(args.days):
        timer = Timer()
        hosts, raw, n_packets = counted(index, scales, timer)
        x = timer("ranks and steady behaviour", ranks.scale_by_rank, raw, len(hosts))
        x = knn.standardize(torch.from_numpy(x))
        found, view = timer("ranks and steady behaviour", views.of_features, view, x, hosts, index + 1, "memory",
                            alone.total)
    print(f"{len(hosts):,} hosts, {n_packets:,} packets", flush=True)
    similarity, near = timer("neighbours", fast.nearest, found.X, 3)
    if args.all_pairs:
        timer("(neighbours, all pairs)", neighbours.nearest, found.X, 3)
    labels = classes(hosts, scales)
    scored = timer("scores", scores.score_day, hosts, labels, similarity, near, len(synthetic.names()))
    with tempfile.TemporaryDirectory() as folder:
        timer("files", write, Path(folder), hosts, labels, found, scored)
    label, _ = timer("campaigns", partial(campaigns.campaigns, tree=fast.spanning_tree), found.X, 5)
    print(f"{label.max() + 1:,} campaigns, {(label >= 0).mean():.0%} of the hosts in one")
    if args.plain_campaigns:
        plain, _ = timer("(campaigns, plain)", campaigns.campaigns, found.X, 5)
        print(f"{(plain != label).sum():,} hosts elsewhere by the plain form")
    timer.tell()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[100_000])
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all-pairs", action="store_true")
    parser.add_argument("--plain-campaigns", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if len(args.hosts) == 1:
        return measure(args.hosts[0], args)
    flags = [flag for flag, on in (("--all-pairs", args.all_pairs), ("--plain-campaigns", args.plain_campaigns)) if on]
    for n in args.hosts:
        subprocess.run([sys.executable, __file__, "--hosts", str(n), "--days", str(args.days), "--threads",
                        str(args.threads), *flags], check=True)


if __name__ == "__main__":
    main()
