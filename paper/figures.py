"""The numbers of Figure 4 and of four pictures, as CSV under --out; paper/pictures.py draws them.

    figure4   macro F1 by history or by epochs a day (paper, Figure 4)
    map       a day's embeddings on their two principal axes
    ports     packets by class and port
    activity  active hosts by class and day
    f1        F1 by class and test day

Imports graph (OTHER), knn (standardize), beyond.views, report and paper.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import graph as graphs
import knn
from beyond import views
from paper import pictures, rows, tables
from paper.flags import made_from, notes
from report import files

SHOWN = len(pictures.MARKERS)  # classes in the pictures: those that have a marker of their own
MOST_PORTS = 40                # columns of the ports' picture
MOST_ROWS = 300                # rows of a class in the picture of activity


# -- figure 4 ---------------------------------------------------------------------------------------------------------

def figure4(args, curve, reports):
    """Macro F1 at the points of a Curve: CSV, JSON and the picture; returns the text to print."""
    points = []
    for point, result in zip(curve.points, reports):
        points.append({curve.quantity: point.x, "macro_f1": result["macro_f1"], "paper_macro_f1": point.paper})
        if args.runs > 1:
            points[-1]["runs"] = result["runs"]
    files.save_json(args.out / f"{curve.name}.json", {
        **made_from(args), "test_days": reports[0]["test_days"], "points": points})
    lines = _save_curve(args, curve, points)
    if pictures.available():
        pictures.draw_curve(args, curve, points)
    else:
        remove_pictures(args.out / curve.name)
    return [*lines, *notes(args), f"paper: its own data, Figure {curve.name[-2:]}, not ours."]


def _save_curve(args, curve, points):
    """The points as CSV; returns them as text. With several seeds there is a column for the deviation over them."""
    header, titles = [curve.quantity, "macro_f1 mean", "std over days"], [curve.quantity, "macro F1"]
    body = [[p[curve.quantity], p["macro_f1"]["mean"], p["macro_f1"]["std"]] for p in points]
    lines = [[str(p[curve.quantity]), rows.score(p["macro_f1"])] for p in points]
    if args.runs > 1:
        header, titles = [*header, "std over seeds"], [*titles, "over seeds"]
        body = [[*row, p["runs"]["std"]] for row, p in zip(body, points)]
        lines = [[*line, f"{p['runs']['std']:.2f}"] for line, p in zip(lines, points)]
    rows.save_csv(args.out / f"{curve.name}.csv", [*header, "the paper's mean"],
                  ([*row, p["paper_macro_f1"]] for row, p in zip(body, points)))
    return rows.aligned([*titles, "paper"], [[*line, f"{p['paper_macro_f1']:.2f}"] for line, p in zip(lines, points)])


# -- four pictures ----------------------------------------------------------------------------------------------------

def figures(args, found, cell, warn):
    """The four pictures of a Traffic and of a cell's report, and their numbers; returns the text to print.

    Shown are the first SHOWN classes by decreasing hosts a day; the CSV of the map holds every host.
    """
    codes = _shown_classes(found, warn)
    xy, share, code = embedding_map(args, cell, found)
    packets, ports = port_map(args, found, codes)
    panels = activity(args, found, codes)
    written = ["map", "ports", "activity"]
    if cell["classes"]:
        f1, names = f1_map(args, cell)
        written.append("f1")
    else:
        warn("no labelled class to score: no picture of F1 by day")
        (args.out / "f1.csv").unlink(missing_ok=True)
        remove_pictures(args.out / "f1")
    if pictures.available():
        pictures.draw_map(args, cell, found, codes, xy, share, code)
        pictures.draw_ports(args, found, codes, packets, ports)
        pictures.draw_activity(args, found, panels)
        if cell["classes"]:
            pictures.draw_f1(args, cell, f1, names)
    else:
        for name in written:
            remove_pictures(args.out / name)
    return [f"wrote {', '.join(written)} to {args.out}/"]


def _shown_classes(found, warn):
    """The codes of the classes that the pictures show; Unknown is not among them."""
    order = [name for name in tables.table2_classes(found) if name in found.names[1:]]
    if len(order) > SHOWN:
        warn(f"pictures show {SHOWN} of {len(order)} classes, those with the most hosts a day")
    return [found.names.tolist().index(name) for name in order[:SHOWN]]


def remove_pictures(stem):
    """Remove what an earlier run drew under this name: it would stand beside this run's numbers."""
    for ending in ("png", "svg"):
        Path(f"{stem}.{ending}").unlink(missing_ok=True)


def embedding_map(args, cell, found):
    """The hosts of the last test day on the two principal axes of their embeddings, also as map.csv.

    Returns xy (n, 2), the axes' shares of the variance (2,), and the hosts' classes (n,) int64.
    """
    date = cell["test_days"][-1]
    with np.load(cell["folder"] / "embeddings" / f"{date}.npz", allow_pickle=False) as saved:
        hosts, z = saved["hosts"], torch.from_numpy(saved["embeddings"]).double()
    # The space in which neighbours are searched: steady behaviour as it is, other embeddings standardized.
    xy, share = principal_axes(z - z.mean(0) if views.PARTS.get(args.steady) else knn.standardize(z))
    code = found.host_class[found.day == found.dates.tolist().index(date)]
    rows.save_csv(args.out / "map.csv", ["host", "class", "x", "y"],
                  zip(hosts.tolist(), found.names[code].tolist(), *xy.T.tolist()))
    return xy, share, code


def principal_axes(x):
    """PCA of x (n, E), columns of mean 0: coordinates (n, 2) on the two axes of largest variance, its shares (2,)."""
    x = F.pad(x, (0, max(0, 2 - x.shape[1])))
    value, vector = torch.linalg.eigh(x.T @ x)              # ascending
    axes = vector[:, -2:].flip(1)                           # (E, 2)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # the same way up every time
    return (x @ axes).numpy(), (value[-2:].flip(0) / value.sum().clamp(min=1e-30)).tolist()


def port_map(args, found, codes):
    """Packets of the ports that the classes prefer, also as ports.csv; the last row is Unknown.

    Returns packets (classes + 1, ports) int64 and the ports' names. The ports are the MOST_PORTS with the largest
    shares of the classes' packets, in ascending order.
    """
    codes = np.array([*codes, 0])
    packets = np.zeros((len(found.names), graphs.OTHER + 1), np.int64)
    packets[found.port_class, found.port] = found.port_packets
    packets = packets[codes]
    share = packets / np.maximum(packets.sum(1, keepdims=True), 1)
    ports = np.argsort(-share.sum(0), kind="stable")[:MOST_PORTS]
    ports = np.sort(ports[packets.sum(0)[ports] > 0])
    names = ["other" if port == graphs.OTHER else str(port) for port in ports]
    rows.save_csv(args.out / "ports.csv", ["class", *names], zip(found.names[codes], *packets[:, ports].T.tolist()))
    return packets[:, ports], names


def activity(args, found, codes):
    """Which hosts of each class are active on which day, also as activity.csv, which has active hosts by day.

    Returns [(class, n_hosts, share)], share as in `_active_share`; Unknown comes last.
    """
    panels, lines = [], []
    for c in [*codes, 0]:
        mine = found.host_class == c
        if not mine.any():
            continue
        hosts, at = np.unique(found.host[mine], return_inverse=True)
        active = np.zeros((len(hosts), len(found.dates)), bool)
        active[at, found.day[mine]] = True
        panels.append((found.names[c], len(hosts), _active_share(active)))
        lines += [[found.names[c], date, n] for date, n in zip(found.dates, active.sum(0).tolist())]
    rows.save_csv(args.out / "activity.csv", ["class", "date", "active hosts"], lines)
    return panels


def _active_share(active):
    """active (hosts, D) bool -> share (rows, D), hosts by first day, then by decreasing days, at most MOST_ROWS rows.

    Each row stands for as many hosts as the others, give or take one: share is that of its hosts which are active.
    """
    order = np.lexsort((-active.sum(1), active.argmax(1)))
    n_rows = min(MOST_ROWS, len(active))
    row = np.arange(len(active)) * n_rows // len(active)    # of each host, in that order
    first = np.searchsorted(row, np.arange(n_rows))
    return np.add.reduceat(active[order], first, axis=0, dtype=np.int64) / np.bincount(row)[:, None]


def f1_map(args, cell):
    """F1 of every class on every test day and, last, the macro average, also as f1.csv: (classes + 1, days), names.

    Not a number where a class is not scored.
    """
    by_date = {row["date"]: row.get("f1") or {} for row in cell["days"] if row["embedded"]}
    names = list(cell["classes"])[:SHOWN]
    f1 = [[day.get(name, np.nan) for day in by_date.values()] for name in names]
    f1.append([np.mean(list(day.values())) if day else np.nan for day in by_date.values()])
    names.append("macro average")
    rows.save_csv(args.out / "f1.csv", ["class", *by_date],
                  ([name, *("" if np.isnan(value) else float(value) for value in row)] for name, row in zip(names, f1)))
    return np.array(f1), names
