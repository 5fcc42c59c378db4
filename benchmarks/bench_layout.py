#!/usr/bin/env python3
"""beyond.layout beside PCA and umap-learn: speed, quality, movement. `python benchmarks/bench_layout.py RUN ...`

RUN: the --out folder of a run, of whose embeddings/ the last --days are laid out; without any: Gaussian groups of
--hosts hosts. Every method sees every day: PCA, umap-learn (its defaults, n_neighbors=15, metric cosine) and "afresh"
each day by itself, "by day" from the day before, as a run does. Means over the days but the first; seconds are those of
the processor, which other work on the machine bends less, their median.

    trust      scikit-learn's trustworthiness, 15 neighbours, cosine: are neighbours on the map neighbours
    contin.    continuity, the same with the roles exchanged: are neighbours near on the map
    moved      the median way of the hosts of both days, relative to the map's span
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")            # as darkgnn.py sets it

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import fast
import knn
from beyond.layout import layout, principal

K = 15


def groups(n, width, days):
    """Days of (hosts, x (n, width)): hosts around 60 random directions, each day a little elsewhere."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(60, width, generator=generator)[torch.randint(60, (n,), generator=generator)]
    x = centre + torch.randn(n, width, generator=generator) * torch.rand(n, 1, generator=generator)
    return [(np.arange(n), x + 0.1 * torch.randn(n, width, generator=generator)) for _ in range(days)]


def embeddings(folder, days, standardize):
    """The last days of a run as (hosts, x)."""
    for path in sorted((folder / "embeddings").glob("*.npz"))[-days:]:
        with np.load(path) as file:
            x = torch.from_numpy(file["embeddings"])
            yield file["hosts"], knn.standardize(x) if standardize else x


def kept(x, points):
    """(trustworthiness, continuity) of points for the rows x; nan for too few rows."""
    from sklearn.manifold import trustworthiness
    x = knn.unit(x).numpy()
    if len(x) <= 2 * K:
        return np.nan, np.nan
    return trustworthiness(x, points, n_neighbors=K, metric="cosine"), trustworthiness(points, x, n_neighbors=K)


def umap_learn(x, start=None):
    """umap-learn's points of the rows x."""
    import umap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(umap.UMAP(n_neighbors=K, metric="cosine", random_state=0).fit_transform(x.numpy()))


METHODS = {
    "PCA": lambda x, start: torch.view_as_real(principal(x)),
    "umap-learn": umap_learn,
    "afresh": lambda x, start: layout(x, nearest=fast.nearest),
    "by day": lambda x, start: layout(x, start, nearest=fast.nearest),
}


def measure(place, days, threads):
    """(trustworthiness, continuity, movement, seconds) of a method on each of the days but the first."""
    before, before_at = np.array([]), torch.empty(0, 2)
    for day, (hosts, x) in enumerate(days):
        _, now, then = np.intersect1d(hosts, before, return_indices=True)
        start = torch.full((len(x), 2), torch.nan)
        start[now] = before_at[then]
        torch.set_num_threads(threads)                      # umap-learn and scikit-learn set it too
        began = time.process_time()
        points = place(x, start)
        seconds = time.process_time() - began
        if day:
            moved = (points[now] - start[now]).norm(dim=1).median() / (points.amax(0) - points.amin(0)).max()
            yield *kept(x, points), moved.item(), seconds
        before, before_at = hosts, points


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    parser.add_argument("--days", type=int, default=11)
    parser.add_argument("--hosts", type=int, default=7500)
    parser.add_argument("--standardize", action="store_true", help="as a run without --steady searches neighbours")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(f"{'':14} {'hosts':>7} {'':11} {'trust':>7} {'contin.':>7} {'moved':>7} {'seconds':>8}")
    for run in args.runs or [None]:
        days = list(embeddings(run, args.days, args.standardize)) if run else groups(args.hosts, 37, args.days)
        for name, place in METHODS.items():
            place(days[0][1][:100], None)                   # compiles and loads what is to be
            rows = np.array(list(measure(place, days, args.threads)))
            trust, continuity, moved = np.nanmean(rows[:, :3], 0)
            print(f"{run.name if run else 'groups':14} {len(days[-1][1]):7,} {name:11} {trust:7.4f} {continuity:7.4f} "
                  f"{moved:7.3f} {np.median(rows[:, 3]):8.2f}", flush=True)


if __name__ == "__main__":
    main()
