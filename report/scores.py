"""Scores of a day and of a run (paper section 4), and the yardstick that needs no labels.

Imports knn and beyond.subnets.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

import knn
from beyond.subnets import subnet_agreement


class Scored(NamedTuple):
    """One test day of one run."""
    report: knn.Report
    predicted: torch.Tensor   # (n_hosts,) int64 class by the vote of the k nearest other hosts
    share: torch.Tensor       # (n_hosts,) share of the k votes for it
    nearest: torch.Tensor     # (n_hosts,) cosine similarity of the nearest neighbour
    agreement: float          # share, of hosts with another of their /24, with one of it among the k nearest
    chance: float             # what random neighbours would give


def score_day(hosts, labels, similarity, neighbours, n_classes):
    """Leave-one-out classification of a day's hosts by their k nearest neighbours (paper section 4).

    hosts (n_hosts,) addresses, an array; labels (n_hosts,) int64, 0 = Unknown; similarity and neighbours (n_hosts, k)
    as knn.nearest finds them.
    """
    labels = knn.small_to_unknown(labels, n_classes)
    addresses = torch.from_numpy(hosts.astype(np.int64)).to(labels.device)
    predicted, share = knn.vote(labels, neighbours)
    return Scored(knn.classification_report(labels, predicted, n_classes), predicted, share,
                  similarity[:, 0] if similarity.shape[1] else share, *subnet_agreement(addresses, neighbours))


def summarize(runs, names):
    """Scores over the test days: runs is one list of Scored per run, days in the same order.

    Mean and standard deviation (population) are over test days, of each day's mean over the runs; a class counts on
    the days on which it is scored, a day where any class is. Returns a dict for report.json.
    """
    f1, support, days, agreement = {}, {}, [], []
    for scored in zip(*runs):
        agreement.append(np.mean([one.agreement for one in scored]))
        reports = [one.report for one in scored]
        days.append(np.mean([report.macro_f1 for report in reports]))
        for i, c in enumerate(reports[0].classes.tolist()):
            f1.setdefault(c, []).append(np.mean([report.f1[i].item() for report in reports]))
            support[c] = support.get(c, 0) + reports[0].support[i].item()
    classes = sorted(f1, key=lambda c: (-support[c], names[c]))
    summary = {"macro_f1": mean_std(days),
               "classes": {names[c]: {"support": support[c], "days": len(f1[c]), "f1": mean_std(f1[c])}
                           for c in classes},
               "subnet_agreement": {**mean_std(agreement), "chance": mean_std(one.chance for one in runs[0])["mean"]}}
    if len(runs) > 1:
        per_run = [mean_std(one.report.macro_f1 for one in run)["mean"] for run in runs]
        summary["runs"] = {"macro_f1": per_run, **mean_std(per_run),
                           "subnet_agreement": [mean_std(one.agreement for one in run)["mean"] for run in runs]}
    return summary


def over_days(rows):
    """What the page says of all of its test days, each a day's dict as report.json lists it: means as in `summarize`,
    of the days that runs before this one scored too."""
    names = sorted({name for row in rows for name in row["f1"]})
    f1 = {name: [row["f1"][name] for row in rows if name in row["f1"]] for name in names}
    return {"macro_f1": mean_std(row["macro_f1"] for row in rows),
            "classes": {name: {"days": len(values), "f1": mean_std(values)} for name, values in f1.items()},
            "subnet_agreement": {**mean_std(row["subnet_agreement"] for row in rows),
                                 "chance": mean_std(row["subnet_chance"] for row in rows)["mean"]}}


def mean_campaigns(days):
    """{name: {mean, std}} over the test days, each a dict of daily.campaigns.quality."""
    return {name: mean_std(day[name] for day in days)
            for name in ("count", "inside", "day_to_day", "same_subnet", "chance", "labels")}


def mean_std(values):
    """{mean, std} (population) of the numbers among `values`; None for both if there are none."""
    values = [value for value in values if value is not None and not math.isnan(value)]
    return {"mean": float(np.mean(values)), "std": float(np.std(values))} if values else {"mean": None, "std": None}
