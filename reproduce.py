#!/usr/bin/env python3
"""The paper's tables and figures on any trace, on the synthetic month without one: one command each.

    table2      hosts, ports and packets of every class, in all and a day (paper, Table 2)
    table3      F1 of every class and column: four GNNs with and without node features, baselines (paper, Table 3)
    figure4a    macro F1 of i-gcn-gru for histories H = 0..8; H = 0 is i-gcn, as in the paper
    figure4b    macro F1 of i-gcn-gru for 1..30 epochs a day
    beyond      macro F1 and subnet agreement with and without normal-score features and whitening, not in the paper
    figures     pictures: map of a day's embeddings, class x port heat map, activity of hosts, F1 by day
    all         all of these

Usage: reproduce.py EXPERIMENT [flags of darkgnn.py]. A *cell* is one run of darkgnn.py's days with given flags; it
has a folder of its own, OUT/cells/NAME-KEY, in which a finished one leaves cell.json. KEY hashes the input files'
names, sizes and modification times, the settings and the code, so that a finished cell is not computed again.
The paper's figures stand beside ours, labelled: they were measured on the paper's data, to which no other compares.
Pictures need matplotlib; without it everything else is written. Imports darkgnn and what it imports.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
import re
import signal
import stat
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import darkgnn
import graph as graphs
import knn
import report
import state
from traces import packets, synthetic

HISTORIES = range(9)
EPOCHS = (1, 5, 10, 15, 20, 25, 30)
PAPER_4A = (0.73, 0.76, 0.78, 0.79, 0.79, 0.80, 0.79, 0.80, 0.80)  # macro F1 for HISTORIES
PAPER_4B = (0.80, 0.79, 0.79, 0.79, 0.78, 0.77, 0.76)              # and for EPOCHS


class Column(NamedTuple):
    """A column of Table 3."""
    group: str
    model: str
    flags: tuple
    paper: dict | None  # the paper's macro F1 {mean, std} over its test days


WITHOUT, WITH = "without node features", "with the 37 node features"
TABLE_3 = (
    Column(WITHOUT, "gcn", ("--no-node-features",), {"mean": 0.26, "std": 0.05}),
    Column(WITHOUT, "i-gcn", ("--no-node-features",), {"mean": 0.41, "std": 0.04}),
    Column(WITHOUT, "gcn-gru", ("--no-node-features",), {"mean": 0.49, "std": 0.04}),
    Column(WITHOUT, "i-gcn-gru", ("--no-node-features",), {"mean": 0.41, "std": 0.04}),
    Column(WITH, "gcn", (), {"mean": 0.74, "std": 0.02}),
    Column(WITH, "i-gcn", (), {"mean": 0.73, "std": 0.03}),
    Column(WITH, "gcn-gru", (), {"mean": 0.75, "std": 0.03}),
    Column(WITH, "i-gcn-gru", (), {"mean": 0.80, "std": 0.02}),
    Column("baselines", "i-darkvec", (), {"mean": 0.77, "std": 0.02}),
    Column("baselines", "features", (), None),
)

BEYOND_MODELS = ("features", "i-gcn", "i-gcn-gru", "i-darkvec")
BEYOND_SETTINGS = {"max": ("--feature-scaling", "max"), "max, whitened": ("--feature-scaling", "max", "--whiten"),
                   "rank": ("--feature-scaling", "rank"), "rank, whitened": ("--feature-scaling", "rank", "--whiten")}
BEYOND = [(model, setting) for model in BEYOND_MODELS for setting in BEYOND_SETTINGS
          if model != "i-darkvec" or setting.startswith("max")]  # it has no features: their scaling is nothing to it


def flags_of(experiment):
    """What the experiment sets, cell by cell: lists of darkgnn.py's flags."""
    if experiment == "table3":
        return [["--model", column.model, *column.flags] for column in TABLE_3]
    if experiment == "figure4a":
        return [["--model", "i-gcn-gru", "--history", str(H)] if H else ["--model", "i-gcn"] for H in HISTORIES]
    if experiment == "figure4b":
        return [["--model", "i-gcn-gru", "--epochs", str(epochs)] for epochs in EPOCHS]
    if experiment == "beyond":
        return [["--model", model, *BEYOND_SETTINGS[setting]] for model, setting in BEYOND]
    return [[]] if experiment == "figures" else []


# -- settings ---------------------------------------------------------------------------------------------------------

def parse(flags):
    """darkgnn.py's arguments; a complaint of its parser as ValueError, one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            return darkgnn.parse_arguments(flags)
    except SystemExit:
        raise ValueError(complaint.getvalue().strip().splitlines()[-1].removeprefix("darkgnn: error: ")) from None


def check_flags(experiments, given):
    """Refuse flags that an experiment sets by itself; raises ValueError."""
    for experiment in experiments:
        own = dict.fromkeys(flag for flags in flags_of(experiment) for flag in flags if flag.startswith("--"))
        for flag, token in itertools.product(own, given):
            if token.startswith("--") and flag.startswith(token.split("=")[0]):
                raise ValueError(f"{experiment} sets {flag} itself: expected none, got {token}")


def identity(paths):
    """Name, size and modification time of every file that darkgnn.py would read, folders walked: a list.

    Raises ValueError for what is neither a file nor a folder: every cell reads its input anew, and a pipe ends.
    """
    files = []
    for path in map(Path, paths):
        found = packets.files_below(path, packets.Summary()) if path.is_dir() else [path]
        for file in map(Path, found):
            if not file.exists() or not stat.S_ISREG(file.stat().st_mode):
                raise ValueError(f"{file}: expected a file or a folder, which every cell reads anew, got neither")
            files.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    return files


@functools.cache
def code_version():
    """Hash of the sources that a result depends on, and the versions of the libraries."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")) if path != Path(__file__)]
    return [hashlib.sha256(b"\0".join(sources)).hexdigest(), torch.__version__, np.__version__]


def cell_folder(args, name, settings):
    """OUT/cells/NAME-KEY for a cell that depends on the input, on the code and on these settings, a dict."""
    inputs = [identity(paths or []) for paths in (args.input, args.labels)]
    settings = {key: value for key, value in settings.items() if key not in ("input", "labels", "out", "quiet")}
    key = json.dumps([inputs, settings, code_version()], sort_keys=True)
    return args.out / "cells" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


# -- cells ------------------------------------------------------------------------------------------------------------

def run_cell(args, say, warn):
    """One run of darkgnn.py's days, kept or computed: the dict of cell.json, `folder` added.

    Scores as in report.json; f1_by_day: {date: {class: F1, mean over the runs}}. Raises what darkgnn.follow raises.
    """
    name = args.model + "-plain" * args.no_node_features + f"-H{args.history}" * args.model.endswith("gru")
    name += f"-{args.feature_scaling}" * (args.feature_scaling != "max") + "-whiten" * args.whiten
    folder = cell_folder(args, f"{name}-{args.epochs}", vars(args))
    with contextlib.suppress(FileNotFoundError):
        cell = json.loads((folder / "cell.json").read_text())
        say(f"       {macro(cell)}, kept from before in {folder}")
        return {**cell, "folder": folder}
    start = time.perf_counter()
    summary = darkgnn.new_summary(args)
    days, truth = darkgnn.open_input(args, summary)
    inner = argparse.Namespace(**{**vars(args), "out": folder})
    with state.locked(folder / "cell.json"):                # nobody else computes it into the same folder
        rows, runs, n_hosts = darkgnn.follow(
            darkgnn.prepare(days, truth, inner, warn), truth, inner, (lambda line: None) if args.quiet else say,
            functools.partial(darkgnn.days_expected, summary))
        say_what_was_read(summary, args, say, warn)
        tested = [row["date"] for row in rows if row["embedded"]]
        cell = {"settings": darkgnn.settings_line(args), "epochs": args.epochs, "data": data_line(args, None),
                "seconds": round(time.perf_counter() - start, 1), "hosts": n_hosts, "test_days": tested,
                **report.summarize(runs, truth.names), "f1_by_day": f1_by_day(runs, tested, truth.names), "days": rows}
        report.save_json(folder / "cell.json", cell)
    say(f"       {macro(cell)} in {cell['seconds']:.1f} s")
    return {**cell, "folder": folder}


def say_what_was_read(summary, args, say, warn):
    if summary and not args.quiet:
        say(f"       {report.read_line(summary)}")
    for line in summary.notes if summary else ():
        warn(line)


def f1_by_day(runs, dates, names):
    """{date: {class: F1}}, each the mean over the runs, of lists of report.Scored: one list per run, one per date."""
    return {date: {names[c]: float(np.mean([one.report.f1[i].item() for one in scored]))
                   for i, c in enumerate(scored[0].report.classes.tolist())}
            for date, scored in zip(dates, zip(*runs))}


def macro(cell):
    return f"macro F1 {report.plus_minus(cell['macro_f1'])}"


def data_line(args, most=3):
    """What was read: the names given, at most so many of them."""
    if args.input:
        return f"input {report.some(args.input, most)}"
    return f"synthetic month, scale {args.synthetic_scale:g}, seed {args.seed}: made-up traffic"


def flags_line(args, names=None):
    """The flags that are not at darkgnn.py's defaults for the model, except those that data_line tells and of files;
    a GPU is told also where it is the default, since it rounds otherwise.

    names: only these flags.
    """
    default = vars(parse(["--model", args.model, "--device", "cpu"]))
    told = {"input", "labels", "out", "quiet", "synthetic_scale"} | ({"seed"} if args.input is None else set())
    return " ".join(f"--{name.replace('_', '-')}" + f" {value}" * (value is not True)
                    for name, value in vars(args).items()
                    if name not in told and value != default[name] and (names is None or name in names))


def made_from(args):
    """What a table or curve was made from, for its JSON file."""
    seeds = [args.seed + i for i in range(args.runs)]
    return {"data": data_line(args, None), "flags": flags_line(args), "seeds": seeds}


def notes_of(args):
    """The same in lines under a table."""
    line = f"{data_line(args)}; {flags_line(args) or 'no other flags'}."
    return textwrap.wrap(line, 80, break_on_hyphens=False, break_long_words=False)


def run_cells(experiment, planned, say, warn):
    """The dicts of an experiment's cells, in the order of `planned`, the list of their arguments.

    Raises ValueError at the first cell without anything to compare; the quickest, if there, comes first.
    """
    results = {}
    for i in sorted(range(len(planned)), key=lambda i: planned[i].model != "features"):
        args = planned[i]
        epochs = f", {args.epochs} epochs" * (args.model != "features")
        say(f"[{experiment} {len(results) + 1}/{len(planned)}] {darkgnn.settings_line(args)}{epochs}")
        results[i] = run_cell(args, say, warn)
        if experiment == "beyond" and not beyond_blocks(results):
            raise ValueError("beyond compares macro F1 and subnet agreement: no class has more than 10 active hosts, "
                             "and no two hosts share their /24, on a test day")
        if not results[i]["classes"] and experiment not in ("figures", "beyond"):
            raise ValueError(f"{experiment} scores labelled hosts: no class has more than 10 active hosts on a test day"
                             f"{'' if args.labels or args.mirai or not args.input else ' (no --labels given)'}")
    return [results[i] for i in range(len(planned))]


# -- counts of the traffic, for table2 and the pictures ---------------------------------------------------------------

TRAFFIC_SETTINGS = ("mirai", "mirai_packets", "year", "strict", "synthetic_scale", "seed", "min_packets")


class Traffic(NamedTuple):
    """What the trace holds after the host filter, class by class; class 0 is Unknown. Arrays, saved as npz."""
    names: np.ndarray    # (C,) class names
    dates: np.ndarray    # (D,) YYYY-MM-DD
    count: np.ndarray    # (D, C + 1, 3) int64 hosts, ports, packets of each day; the last class stands for all
    day: np.ndarray      # (A,) int64, one entry per host and day on which it is active, hosts ascending within a day
    host: np.ndarray     # (A,) uint32
    host_class: np.ndarray    # (A,) int64
    port: np.ndarray     # (P,) int64, one entry per class and port that it contacts in all the days
    port_class: np.ndarray    # (P,) int64
    port_packets: np.ndarray  # (P,) int64


def traffic(args, say, warn):
    """The trace's Traffic, kept or counted, day by day: no more than a day's packets are in memory."""
    folder = cell_folder(args, "traffic", {name: getattr(args, name) for name in TRAFFIC_SETTINGS})
    if (folder / "traffic.npz").exists():
        say(f"       counts kept from before in {folder}")
        with np.load(folder / "traffic.npz", allow_pickle=False) as saved:
            return Traffic(**saved)
    summary = darkgnn.new_summary(args)
    days, truth = darkgnn.open_input(args, summary)
    unfolded = argparse.Namespace(**{**vars(args), "model": "features", "no_node_features": True,
                                     "top_ports": graphs.OTHER})
    dates, active, count = [], [], []
    ports = np.empty((2, 0), np.int64)                      # class * width + port; packets
    n_classes, width = len(truth.names), graphs.OTHER + 1
    for day in darkgnn.prepare(days, truth, unfolded, warn):
        g, code = day.graph, day.labels.numpy()
        contact = code[g.edge_host] * width + g.ports[g.edge_port]
        today = add_up(contact, g.weight)
        count.append(np.transpose([
            np.append(np.bincount(code, minlength=n_classes), len(g.hosts)),
            np.append(np.bincount(today[0] // width, minlength=n_classes), len(g.ports)),
            add_totals(np.bincount(code[g.edge_host], g.weight, n_classes).astype(np.int64))]))
        ports = add_up(*np.concatenate([ports, today], 1))
        active.append((np.full(len(code), len(dates)), g.hosts, code))
        dates.append(str(day.date))
        if not args.quiet:
            say(f"       {day.date} {len(g.hosts):8,} hosts {g.weight.sum():12,} packets")
    say_what_was_read(summary, args, say, warn)
    if not dates:
        raise ValueError(f"no host sends {args.min_packets} TCP packets or more on any day: nothing to count")
    found = Traffic(np.array(truth.names), np.array(dates), np.array(count),
                    *(np.concatenate(column) for column in zip(*active)),
                    ports[0] % width, ports[0] // width, ports[1])
    with report.whole_file(folder / "traffic.npz", "wb") as file:
        np.savez(file, **found._asdict())
    return found


def add_up(key, value):
    """Unique keys, ascending, and the sums of their values: (2, unique) int64."""
    unique, at = np.unique(key, return_inverse=True)
    return np.stack([unique, np.bincount(at, value, len(unique)).astype(np.int64)])


def add_totals(per_class):
    return np.append(per_class, per_class.sum())


# -- tables -----------------------------------------------------------------------------------------------------------

QUANTITIES = ("hosts", "ports", "packets")


def table2(args, cells, say, warn):
    """Table 2: totals of the trace, and averages over the days on which a class is active."""
    found, flags = traffic(args, say, warn), flags_line(args, TRAFFIC_SETTINGS)
    rows = table2_rows(found)
    note = [f"{data_line(args)};", f"{len(found.dates)} days, {found.dates[0]} to {found.dates[-1]}; hosts with at "
            f"least {args.min_packets} packets a day.", "paper: its own data, Table 2, not ours."]
    note += [f"flags: {flags}"] * bool(flags)
    text, markdown = [], []
    for period in ("total", "daily"):
        header = [period, *itertools.chain(*((quantity, "paper") for quantity in QUANTITIES))]
        lines = []
        for name, row in rows.items():
            paper = row["paper"] and row["paper"][period]
            lines.append([name, *itertools.chain(*((f"{row[period][q]:,}", f"{paper[q]:,}" if paper else "-")
                                                   for q in QUANTITIES))])
        text += [*aligned(header, lines), ""]
        markdown += [*markdown_table(header, lines), ""]
    write_table(args.out, "table2", [*text, *note], [*markdown, *note])
    keys = [(period, quantity) for period in ("total", "daily") for quantity in QUANTITIES]
    write_csv(args.out / "table2.csv", ["class", *(f"{p} {q}{who}" for p, q in keys for who in ("", " (paper)"))],
              ([name, *(value for p, q in keys for value in (row[p][q], row["paper"] and row["paper"][p][q]))]
               for name, row in rows.items()))
    report.save_json(args.out / "table2.json", {"data": data_line(args, None), "flags": flags, "days": len(found.dates),
                                                "min_packets": args.min_packets, "classes": rows})


def table2_rows(found):
    """{class: {total, daily, paper}}; known classes by decreasing hosts a day, then Unknown and Total."""
    paper = {plain(row.name): {
        "total": dict(zip(QUANTITIES, (row.hosts, row.ports, row.packets))),
        "daily": dict(zip(QUANTITIES, (row.daily_hosts, row.daily_ports, row.daily_packets)))}
        for row in synthetic.CLASSES}
    paper_total = {"total": dict(zip(QUANTITIES, (60106, 65535, 62030013))),
                   "daily": dict(zip(QUANTITIES, (7566, 53638, 2000968)))}
    width = 1 << 32
    hosts = np.bincount(np.unique(found.host_class * width + found.host) // width, minlength=len(found.names))
    ports = np.bincount(found.port_class, minlength=len(found.names))
    packets = np.bincount(found.port_class, found.port_packets, len(found.names)).astype(np.int64)
    total = np.transpose([np.append(hosts, len(np.unique(found.host))), np.append(ports, len(np.unique(found.port))),
                          add_totals(packets)])             # (C + 1, 3)
    active = (found.count[:, :, 0] > 0).sum(0)              # (C + 1,) days
    daily = found.count.sum(0) / np.maximum(active, 1)[:, None]
    total_name = "Total"
    while total_name in found.names:
        total_name += " of all"
    names = [*found.names.tolist(), total_name]
    order = sorted(np.flatnonzero(active[1:-1]) + 1, key=lambda c: (-daily[c, 0], names[c]))
    order += [c for c in (0, len(names) - 1) if active[c]]
    return {names[c]: {"days": int(active[c]), "total": dict(zip(QUANTITIES, total[c].tolist())),
                       "daily": dict(zip(QUANTITIES, np.rint(daily[c]).astype(int).tolist())),
                       "paper": paper.get(plain(names[c])) if c < len(found.names) else paper_total} for c in order}


def plain(name):
    """A class name as it is compared with the paper's: Brute-forcers, brute_forcer and the authors' unk_bruteforcer
    are one, and so are Mirai-like and their mirai."""
    return re.sub("^unk_|[^a-z0-9]", "", name.lower()).removesuffix("s").removesuffix("like")


def table3(args, cells, say, warn):
    """Table 3: mean and deviation of the F1 over the test days; classes by decreasing support."""
    results = cells("table3")
    rows = table3_rows(results)
    days = results[-1]["test_days"]
    seeds = f"(of the mean over {args.runs} seeds); " * (args.runs > 1)
    scored = sum(bool(f1) for f1 in results[-1]["f1_by_day"].values())
    note = [f"F1, mean ± standard deviation over {scored} of {len(days)} test days, {days[0]} to {days[-1]},",
            "those on which any class has more than 10 active hosts",
            f"{seeds}{args.neighbors} nearest neighbours, {args.train_days} training days, H = {args.history}.",
            *notes_of(args), "paper: its own data, Table 3, not ours."]
    titles = [column.model + ", no features" * (column.group == WITHOUT) for column in TABLE_3]
    write_table(args.out, "table3", [*table3_text(rows), *note], [*table3_markdown(rows, titles), *note])
    write_csv(args.out / "table3.csv", ["class", "support", *(f"{t} {m}" for t in titles for m in ("mean", "std"))],
              ([name, support, *(value and value[m] for value in values for m in ("mean", "std"))]
               for name, support, values, _ in rows))
    report.save_json(args.out / "table3.json", {
        **made_from(args), "test_days": days,
        "columns": [{"model": column.model, "node_features": column.group != WITHOUT, "paper_macro_f1": column.paper,
                     **{key: result[key] for key in ("macro_f1", "classes", "runs", "epochs", "seconds")
                        if key in result}} for column, result in zip(TABLE_3, results)]})


def table3_rows(results):
    """[(name, support, [{mean, std} or None per column], marks)]: classes by decreasing support, macro averages."""
    support = {name: row["support"] for result in results for name, row in result["classes"].items()}
    rows = [(name, support[name], [result["classes"].get(name, {"f1": None})["f1"] for result in results])
            for name in sorted(support, key=lambda name: (-support[name], name))]
    rows.append(("macro average", sum(support.values()), [result["macro_f1"] for result in results]))
    rows = [(*row, marks(row[2])) for row in rows]
    unmarked = [""] * len(results)
    if "runs" in results[0]:
        rows.append((f"macro over {len(results[0]['runs']['macro_f1'])} seeds", None,
                     [result["runs"] for result in results], unmarked))
    return [*rows, ("paper's macro average", None, [column.paper for column in TABLE_3], unmarked)]


def table3_text(rows):
    """One block of at most 80 characters a line for each group of columns."""
    lines = []
    for group in dict.fromkeys(column.group for column in TABLE_3):
        at = [i for i, column in enumerate(TABLE_3) if column.group == group]
        body = [[name, f"{support:,}" if support else "",
                 *(score(values[i]) + {"best": "*", "near": "~"}.get(mark[i], " ") for i in at)]
                for name, support, values, mark in rows]
        lines += [group, *aligned(["class", "support", *(TABLE_3[i].model + " " for i in at)], body), ""]
    return [*lines, "* best of all columns   ~ within one standard deviation of the best"]


def table3_markdown(rows, titles):
    form = {"best": "**{}**", "near": "*{}*", "": "{}"}
    body = [[name, f"{support:,}" if support else "", *(form[m].format(score(v)) for v, m in zip(values, mark))]
            for name, support, values, mark in rows]
    return [*markdown_table(["class", "support", *titles], body), "",
            "**Best of the row**; *within one standard deviation of the best*.", ""]


def marks(values):
    """For each {mean, std} or None: "best", "near" (within the best's standard deviation of it) or ""."""
    best = max((value for value in values if value), key=lambda value: (value["mean"], -value["std"]))
    return ["" if not value or value["mean"] < best["mean"] - best["std"] else
            "best" if value["mean"] == best["mean"] else "near" for value in values]


def score(value):
    return f"{value['mean']:.2f}±{value['std']:.2f}" if value else "-"


def aligned(header, lines):
    """Rows of text as lines: the first column, cut, to the left, the others to the right."""
    lines = [[short(row[0]), *row[1:]] for row in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join([f"{row[0]:{widths[0]}}", *(f"{text:>{width}}" for text, width in zip(row[1:], widths[1:]))])
            for row in lines]


def markdown_table(header, lines):
    def line(row):
        return "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"
    return [line(header), "|---|" + "---:|" * (len(header) - 1), *map(line, lines)]


def write_table(out, name, text, markdown):
    """Print the table; write it as text and Markdown."""
    for ending, lines in (("txt", text), ("md", markdown)):
        with report.whole_file(out / f"{name}.{ending}") as file:
            file.write("\n".join(lines) + "\n")
    print("\n".join(text))


def write_csv(path, header, rows):
    with report.whole_file(path) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


# -- beyond the paper -------------------------------------------------------------------------------------------------

def beyond(args, cells, say, warn):
    """Macro F1, where there are labels, and subnet agreement: models x feature scalings x plain or whitened."""
    results = dict(zip(BEYOND, cells("beyond")))
    blocks = beyond_blocks(results)
    first = results[BEYOND[0]]
    days, scored = first["test_days"], sum(bool(f1) for f1 in first["f1_by_day"].values())
    chance = first["subnet_agreement"]["chance"]
    note = [f"Mean ± standard deviation over test days{', of the mean over the seeds' * (args.runs > 1)}.",
            f"Of {len(days)} test days, {days[0]} to {days[-1]}, {scored} have a class of more than 10 active hosts, "
            "hence an F1 score; subnet agreement is of all.",
            "No two hosts of a test day share their /24." if chance is None else
            "Subnet agreement: of the hosts that share their /24 with another, the share with one of it among their "
            f"neighbours; by chance {chance:.2f}.",
            "i-darkvec knows no features, so there is nothing to scale.",
            f"{args.neighbors} nearest neighbours, {args.train_days} training days, H = {args.history}."]
    note = [*textwrap.wrap(" ".join(note), 80), *notes_of(args)]
    text, markdown = [], []
    for title, values in blocks.items():
        rows = [(model, [values.get((model, setting)) for setting in BEYOND_SETTINGS]) for model in BEYOND_MODELS]
        text += [*aligned([title, *BEYOND_SETTINGS], [[model, *map(score, row)] for model, row in rows]), ""]
        markdown += [*markdown_table([title, *BEYOND_SETTINGS], [[model, *map(score, row)] for model, row in rows]), ""]
    write_table(args.out, "beyond", [*text, *note], [*markdown, *note])
    write_csv(args.out / "beyond.csv", ["model", "features", *(f"{t} {m}" for t in blocks for m in ("mean", "std")),
                                        "chance"],
              ([*key, *(values[key][m] for values in blocks.values() for m in ("mean", "std")), chance]
               for key in BEYOND))
    report.save_json(args.out / "beyond.json", {
        **made_from(args), "test_days": days,
        "cells": [{"model": model, "feature_scaling": setting.split(",")[0], "whiten": setting.endswith("whitened"),
                   **{key: cell[key] for key in ("macro_f1", "subnet_agreement", "classes", "runs", "epochs", "seconds")
                      if key in cell}} for (model, setting), cell in results.items()]})


def beyond_blocks(results):
    """{title: {(model, setting): {mean, std}}} of what was measured, over the test days and then over the seeds."""
    blocks = {}
    for measure, title in (("macro_f1", "macro F1"), ("subnet_agreement", "subnet agreement")):
        if all(cell[measure]["mean"] is None for cell in results.values()):
            continue
        blocks[title] = {key: cell[measure] for key, cell in results.items()}
        if all("runs" in cell for cell in results.values()):
            blocks[f"{title.split()[-1]} over seeds"] = {key: report.mean_std(cell["runs"][measure])
                                                         for key, cell in results.items()}
    return blocks


# -- figure 4 ---------------------------------------------------------------------------------------------------------

def figure4(name, label, xs, paper, args, cells, say, warn):
    """Macro F1 against `label` at xs: CSV, JSON, and the curve with a band of one standard deviation over the days."""
    results = cells(name)
    points = [{label: x, "macro_f1": result["macro_f1"], "paper_macro_f1": value}
              | ({"runs": result["runs"]} if "runs" in result else {})
              for x, value, result in zip(xs, paper, results)]
    report.save_json(args.out / f"{name}.json", {
        **made_from(args), "test_days": results[0]["test_days"], "points": points})
    seeds = ["std over seeds"] * (args.runs > 1)
    write_csv(args.out / f"{name}.csv", [label, "macro_f1 mean", "std over days", *seeds, "the paper's mean"],
              ([p[label], p["macro_f1"]["mean"], p["macro_f1"]["std"], *(p["runs"]["std"] for _ in seeds),
                p["paper_macro_f1"]] for p in points))
    lines = [[str(p[label]), score(p["macro_f1"]), *(f"{p['runs']['std']:.2f}" for _ in seeds),
              f"{p['paper_macro_f1']:.2f}"] for p in points]
    print("\n".join([*aligned([label, "macro F1", *("over seeds" for _ in seeds), "paper"], lines), *notes_of(args),
                     f"paper: its own data, Figure {name[-2:]}, not ours."]))

    def paint(figure):
        axes = figure.add_subplot()
        mean, std = (np.array([p["macro_f1"][key] for p in points]) for key in ("mean", "std"))
        axes.fill_between(xs, mean - std, mean + std, color=PALETTE[0], alpha=0.2, linewidth=0,
                          label="± one standard deviation over the test days")
        axes.plot(xs, mean, "o-", color=PALETTE[0], label="this data")
        axes.plot(xs, [p["paper_macro_f1"] for p in points], "s--", color="0.4", markersize=4, linewidth=1,
                  label="the paper's, on its own data")
        axes.set(xticks=list(xs), ylabel="macro F1", xlabel={
            "history": "history H, days before today (0: i-gcn)", "epochs": "epochs a day"}[label])
        axes.grid(alpha=0.3)
        axes.set_title(data_title(args), fontsize=9, loc="left")
        figure.legend(loc="outside lower center", fontsize=8)
    draw(args.out / name, paint, 6, 4.5)


# -- pictures ---------------------------------------------------------------------------------------------------------

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito
MARKERS = (*"osD^vPX<>*hpd", (4, 1, 0))
SHOWN = len(MARKERS)  # classes with a marker of their own


def figures(args, cells, say, warn):
    """The pictures, each with its numbers as CSV; classes by decreasing hosts a day, the first SHOWN of them."""
    found = traffic(args, say, warn)
    order = [name for name in table2_rows(found) if name in found.names[1:]]
    if len(order) > SHOWN:
        warn(f"pictures show {SHOWN} of {len(order)} classes, those with the most hosts a day")
    codes = [found.names.tolist().index(name) for name in order[:SHOWN]]
    [cell] = cells("figures")
    embedding_map(args, cell, found, codes)
    port_map(args, found, codes)
    activity(args, found, codes)
    if cell["classes"]:
        f1_map(args, cell)
    else:
        warn("no labelled class to score: no picture of F1 by day")
        remove_earlier(args.out / "f1", "csv", "png", "svg")
    print(f"wrote map, ports, activity{', f1' * bool(cell['classes'])} to {args.out}/")


def embedding_map(args, cell, found, codes):
    """The last test day's host embeddings on their two principal axes."""
    date = cell["test_days"][-1]
    with np.load(cell["folder"] / "embeddings" / f"{date}.npz", allow_pickle=False) as saved:
        hosts, z = saved["hosts"], saved["embeddings"]
    z = torch.from_numpy(z).double()
    xy, share = principal_axes(z - z.mean(0) if args.whiten else knn.standardize(z))
    code = found.host_class[found.day == found.dates.tolist().index(date)]
    write_csv(args.out / "map.csv", ["host", "class", "x", "y"],
              zip(hosts.tolist(), found.names[code].tolist(), *xy.T.tolist()))

    def paint(figure):
        axes = figure.add_subplot()
        axes.scatter(*xy[code == 0].T, s=6, color="0.75", linewidth=0, rasterized=True,
                     label=f"Unknown ({(code == 0).sum():,})")
        for i, c in enumerate(codes):
            if (code == c).any():
                axes.scatter(*xy[code == c].T, s=34, color=PALETTE[i % len(PALETTE)], marker=MARKERS[i], alpha=0.75,
                             edgecolor="white", linewidth=0.4, rasterized=True,
                             label=f"{short(found.names[c])} ({(code == c).sum():,})")
        low, high = np.quantile(xy, (0.01, 0.99), axis=0)
        low, high = low - 0.05 * (high - low) - 1e-6, high + 0.05 * (high - low) + 1e-6
        outside = ((xy < low) | (xy > high)).any(1).sum()
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]),
                 xlabel=f"first principal axis ({share[0]:.0%} of the variance)",
                 ylabel=f"second principal axis ({share[1]:.0%})")
        axes.set_title(f"{cell['settings'].split(', ')[0]}, embeddings of {date}; {outside:,} of {len(xy):,} hosts lie "
                       f"outside\n{data_title(args)}", fontsize=9, loc="left")
        figure.legend(loc="outside right upper", fontsize=8, title="hosts")
    draw(args.out / "map", paint, 8, 5.5)


def principal_axes(x):
    """PCA of x (n, E), columns of mean 0: coordinates (n, 2) on the two axes of largest variance, its shares (2,)."""
    x = F.pad(x, (0, max(0, 2 - x.shape[1])))
    value, vector = torch.linalg.eigh(x.T @ x)              # ascending
    axes = vector[:, -2:].flip(1)                           # (E, 2)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # the same way up every time
    return (x @ axes).numpy(), (value[-2:].flip(0) / value.sum().clamp(min=1e-30)).tolist()


def port_map(args, found, codes, most=40):
    """Packets of the ports that the classes prefer, class by class, on a log scale."""
    codes = np.array([*codes, 0])
    row = np.full(len(found.names), -1)
    row[codes] = np.arange(len(codes))
    packets = np.zeros((len(codes), graphs.OTHER + 1), np.int64)
    shown = row[found.port_class] >= 0
    packets[row[found.port_class[shown]], found.port[shown]] = found.port_packets[shown]
    share = packets / np.maximum(packets.sum(1, keepdims=True), 1)  # (classes, ports)
    ports = np.argsort(-share.sum(0), kind="stable")[:most]
    ports = np.sort(ports[packets.sum(0)[ports] > 0])
    packets = packets[:, ports]
    port_names = ["other" if port == graphs.OTHER else str(port) for port in ports]
    write_csv(args.out / "ports.csv", ["class", *port_names], zip(found.names[codes], *packets.T.tolist()))

    def paint(figure):
        axes = figure.add_subplot()
        image = axes.imshow(np.where(packets > 0, packets, np.nan), norm="log", cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(ports)), port_names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(codes)), map(short, found.names[codes]), fontsize=9)
        axes.set_xlabel(f"destination port: the {len(ports)} with the largest shares of the classes' packets")
        axes.set_title(data_title(args), fontsize=9, loc="left")
        figure.colorbar(image, label=f"packets in {len(found.dates)} days (white: none)")
    draw(args.out / "ports", paint, 10, 2 + 0.25 * len(codes))


def activity(args, found, codes, columns=5, resolution=300):
    """Which hosts of a class are active on which day: one panel a class, hosts by their first day."""
    panels, rows = [], []
    for c in [*codes, 0]:
        of_class = found.host_class == c
        host, at = np.unique(found.host[of_class], return_inverse=True)
        active = np.zeros((len(host), len(found.dates)), bool)  # (hosts of the class, D)
        active[at, found.day[of_class]] = True
        order = np.lexsort((-active.sum(1), active.argmax(1)))
        block = np.arange(len(host)) * min(resolution, len(host)) // max(1, len(host))
        if len(host):
            block_of = np.empty(len(host), np.int64)
            block_of[order] = block
            shape = block[-1] + 1, len(found.dates)         # active hosts by block and day
            cell = block_of[at] * shape[1] + found.day[of_class]
            in_block = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
            panels.append((found.names[c], len(host), in_block / np.bincount(block)[:, None]))
            rows += [[found.names[c], date, n] for date, n in zip(found.dates, active.sum(0).tolist())]
    write_csv(args.out / "activity.csv", ["class", "date", "active hosts"], rows)

    def paint(figure):
        grid = figure.subplots(-(-len(panels) // columns), min(columns, len(panels)), squeeze=False, sharex=True)
        for axes in grid.flat[len(panels):]:
            axes.remove()
        grid = grid.flat[: len(panels)]
        ticks = spread(len(found.dates), 4)
        for i, (axes, (name, n_hosts, share)) in enumerate(zip(grid, panels)):
            image = axes.imshow(share, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
                                extent=(-0.5, len(found.dates) - 0.5, n_hosts, 0))
            axes.set_title(short(name), fontsize=9)
            axes.locator_params(axis="y", integer=True, nbins=6)
            axes.set_xticks(ticks, [found.dates[i][5:] for i in ticks])
            axes.tick_params(labelsize=7, labelbottom=i + columns >= len(panels))
        figure.supxlabel("day", fontsize=9)
        figure.supylabel("hosts of the class, by first day", fontsize=9)
        figure.suptitle(data_title(args), fontsize=9, x=0.01, ha="left")
        figure.colorbar(image, ax=list(grid), label="share of a row's hosts that are active", shrink=0.6)
    draw(args.out / "activity", paint, 11, 1 + 2 * -(-len(panels) // columns))


def f1_map(args, cell, longest=16):
    """F1 of every class on every test day, and the macro average."""
    dates = list(cell["f1_by_day"])
    names = list(cell["classes"])[:SHOWN]
    f1 = np.array([[day.get(name, np.nan) for day in cell["f1_by_day"].values()] for name in names]
                  + [[np.mean(list(day.values())) if day else np.nan for day in cell["f1_by_day"].values()]])
    names = [*names, "macro average"]
    write_csv(args.out / "f1.csv", ["class", *dates], ([name, *("" if np.isnan(x) else x for x in row)]
                                                       for name, row in zip(names, f1.tolist())))

    def paint(figure):
        axes = figure.add_subplot()
        image = axes.imshow(f1, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        if len(dates) <= longest:
            for (i, j), value in np.ndenumerate(f1):
                if not np.isnan(value):
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                              color="black" if value > 0.5 else "white")
        ticks = range(len(dates)) if len(dates) <= longest else spread(len(dates), 12)
        axes.set_xticks(ticks, [dates[i][5:] for i in ticks], fontsize=8)
        axes.set_yticks(range(len(names)), map(short, names), fontsize=9)
        axes.axhline(len(names) - 1.5, color="white", linewidth=3)
        axes.set_xlabel("test day (white: not scored)")
        axes.set_title(f"{cell['settings'].split(', ')[0]}\n{data_title(args)}", fontsize=9, loc="left")
        figure.colorbar(image, label="F1")
    draw(args.out / "f1", paint, 9, 1.6 + 0.27 * len(names))


def short(name, longest=22):
    """A class name that fits, cut in its middle: names often differ at an end only."""
    return str(name) if len(name) <= longest else f"{name[: longest // 2]}…{name[longest // 2 + 1 - longest :]}"


def spread(n, most):
    """At most `most` indices, evenly spread over 0..n-1."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def data_title(args):
    """Where a picture's numbers come from, in lines of at most 80 characters; a long input is cut."""
    line = data_line(args)
    line = line if len(line) <= 80 else f"{line[:79]}…"
    return "\n".join([line, *textwrap.wrap(flags_line(args), 80, break_on_hyphens=False)])


def remove_earlier(stem, *endings):
    """Remove an earlier run's picture, or its numbers, which would stand beside what this run writes."""
    for ending in endings:
        Path(f"{stem}.{ending}").unlink(missing_ok=True)


def draw(stem, paint, width, height):
    """paint(figure) as stem.png and stem.svg, inches wide and high; without matplotlib (see main) neither is left."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        remove_earlier(stem, "png", "svg")
        return
    with matplotlib.rc_context({"svg.hashsalt": "darkgnn", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((width, height), layout="constrained")
        paint(figure)
        for ending, metadata in (("png", {}), ("svg", {"Date": None})):
            with report.whole_file(f"{stem}.{ending}", "wb") as file:
                figure.savefig(file, format=ending, dpi=150, metadata=metadata)
            figure.set_layout_engine("none")                # the layout takes most of the time: once is enough


# -- the command ------------------------------------------------------------------------------------------------------

EXPERIMENTS = {
    "table2": table2, "table3": table3,
    "figure4a": lambda *given: figure4("figure4a", "history", HISTORIES, PAPER_4A, *given),
    "figure4b": lambda *given: figure4("figure4b", "epochs", EPOCHS, PAPER_4B, *given),
    "beyond": beyond, "figures": figures}


def main(argv=None):
    """The command; returns its exit code: 0, 2 with one line of error, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="reproduce.py", usage="reproduce.py EXPERIMENT [darkgnn.py's flags]",
        description=__doc__.split("Usage:")[0], formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, epilog="All flags of darkgnn.py may follow; see darkgnn.py --help.")
    parser.error = lambda line: parser.exit(2, f"reproduce: error: {line}\n")
    parser.add_argument("experiment", choices=(*EXPERIMENTS, "all"), metavar="EXPERIMENT")
    options, given = parser.parse_known_args(argv)
    experiments = EXPERIMENTS if options.experiment == "all" else [options.experiment]
    noted = set()

    def say(line):
        print(line, flush=True)

    def warn(line):
        if line not in noted:                               # every cell reads the same days
            print(f"reproduce: note: {line}", file=sys.stderr, flush=True)
        noted.add(line)

    try:
        args = parse(given)
        if args.state:
            raise ValueError("--state goes with darkgnn.py: every cell starts anew")
        check_flags(experiments, given)
        planned = {experiment: [parse([*given, *flags]) for flags in flags_of(experiment)]
                   for experiment in experiments}
        if "figure4a" in experiments and args.train_days < HISTORIES[-1]:
            raise ValueError(f"figure4a compares histories up to {HISTORIES[-1]} on the same test days: expected "
                             f"--train-days {HISTORIES[-1]} or more, got {args.train_days}")
        identity([*(args.input or []), *(args.labels or [])])
        (args.out / "cells").mkdir(parents=True, exist_ok=True)
        for experiment in experiments:
            say(f"{experiment}: {data_line(args)}")
            EXPERIMENTS[experiment](args, lambda name: run_cells(name, planned[name], say, warn), say, warn)
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            if {"figure4a", "figure4b", "figures"} & set(experiments):
                say("numbers only, no pictures: they need matplotlib (pip install matplotlib), then the same command")
    except (ValueError, OSError) as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:            # PyTorch's lack of memory is a RuntimeError
        if not darkgnn.lacks_memory(error):
            raise
        print("reproduce: error: not enough memory: expected smaller widths, fewer --runs or less traffic a day; "
              "finished cells are kept", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reproduce: interrupted; finished cells are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")            # class names come from files, the terminal may be ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    sys.exit(main())
