#!/usr/bin/env python3
"""beyond.campaigns beside scikit-learn's HDBSCAN: seconds, memory, agreement. `python benchmarks/bench_campaigns.py`

darkgnn: by fast.spanning_tree, as the command takes it; plain: by beyond.campaigns alone, as with --plain.
--hosts N ... sets the sizes, --threads those of PyTorch (scikit-learn's tree is built by one). Each runs in a process
of its own, on made-up embeddings 165 wide: groups of about 60 hosts around random directions, each host with its own
spread. Memory is the process's peak less what it had before the call. scikit-learn is given the unit rows.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")            # as darkgnn.py sets it

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import fast
from beyond import campaigns, partitions

NAMES = ("darkgnn", "plain", "scikit-learn")


def embeddings(n, width=165):
    """(n, width) float32 rows."""
    generator = torch.Generator().manual_seed(0)
    n_groups = max(8, n // 60)
    centre = torch.randn(n_groups, width, generator=generator)[torch.randint(n_groups, (n,), generator=generator)]
    return centre + torch.randn(n, width, generator=generator) * torch.rand(n, 1, generator=generator)


def peak():
    """MiB of memory, the process's peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name, n):
    """One library's {seconds, mebibytes, labels} on n hosts."""
    x = embeddings(n)
    tree = fast.spanning_tree if name == "darkgnn" else campaigns.spanning_tree
    if name != "scikit-learn":
        def cluster():
            return campaigns.campaigns(x, 5, tree=tree)[0]
    else:
        from sklearn.cluster import HDBSCAN
        rows = campaigns.unit(x).numpy()

        def cluster():
            return HDBSCAN(min_cluster_size=5, copy=True).fit(rows).labels_
    campaigns.campaigns(x[:100], 5, tree=tree)              # loads what is loaded on the first call
    before, start = peak(), time.perf_counter()
    labels = cluster()
    return {"seconds": time.perf_counter() - start, "mebibytes": peak() - before, "labels": labels.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1000, 7566])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=NAMES, help="one of the three")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]))))
        return
    print(f"{'hosts':>8}  {'library':14} {'seconds':>8} {'MiB':>7} {'campaigns':>9}")
    for n in args.hosts:
        found = {}
        for name in (args.only,) if args.only else NAMES:
            command = [sys.executable, __file__, "--threads", str(args.threads), "--one", name, str(n)]
            one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[name] = np.array(one["labels"])
            print(f"{n:8,}  {name:14} {one['seconds']:8.2f} {one['mebibytes']:7.0f} {found[name].max() + 1:9,}",
                  flush=True)
        for name in NAMES[1:] if len(found) == len(NAMES) else ():
            print(f"{n:8,}  adjusted Rand of darkgnn and {name}: "
                  f"{partitions.adjusted_rand(found['darkgnn'], found[name]):.4f}", flush=True)


if __name__ == "__main__":
    main()
