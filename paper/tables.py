"""Table 2, Table 3, and the table of settings beyond the paper: each as text, Markdown, CSV and JSON under --out.

Each function writes the four files of its table and returns the text to print. Imports report, traces.synthetic
(Table 2's counts) and paper.
"""

import re
import textwrap

import numpy as np

from paper import experiments, rows
from paper.flags import data_line, flags_line, made_from, notes
from paper.traffic import SETTINGS, with_total
from report import files, scores
from traces import synthetic

QUANTITIES = ("hosts", "ports", "packets")
PERIODS = ("total", "daily")
PAPER_TOTAL = {"total": {"hosts": 60106, "ports": 65535, "packets": 62030013},  # Table 2's last row
               "daily": {"hosts": 7566, "ports": 53638, "packets": 2000968}}
KEPT = ("macro_f1", "subnet_agreement", "classes", "runs")  # what the JSON files take over of a cell's report


# -- Table 2 ----------------------------------------------------------------------------------------------------------

def table2(args, found):
    """Table 2 of a Traffic: totals of the trace, and averages over the days on which a class is active."""
    classes = table2_classes(found)
    flags = flags_line(args, SETTINGS)
    note = [f"{data_line(args)};",
            f"{len(found.dates)} days, {found.dates[0]} to {found.dates[-1]}; hosts with at least {args.min_packets} "
            "packets a day.", "paper: its own data, Table 2, not ours."]
    if flags:
        note.append(f"flags: {flags}")
    text, markdown = [], []
    for period in PERIODS:
        header = [period, *_beside(QUANTITIES, ["paper"] * 3)]
        lines = [[name, *_beside(*_counts(row, period))] for name, row in classes.items()]
        text += [*rows.aligned(header, lines), ""]
        markdown += [*rows.markdown(header, lines), ""]
    rows.save_lines(args.out / "table2.txt", [*text, *note])
    rows.save_lines(args.out / "table2.md", [*markdown, *note])
    keys = [(period, quantity) for period in PERIODS for quantity in QUANTITIES]
    rows.save_csv(args.out / "table2.csv",
                  ["class", *_beside([f"{p} {q}" for p, q in keys], [f"{p} {q} (paper)" for p, q in keys])],
                  ([name, *_beside([row[p][q] for p, q in keys],
                                   [row["paper"] and row["paper"][p][q] for p, q in keys])]
                   for name, row in classes.items()))
    files.save_json(args.out / "table2.json", {
        "data": data_line(args, most=None), "flags": flags, "days": len(found.dates), "min_packets": args.min_packets,
        "classes": classes})
    return [*text, *note]


def table2_classes(found):
    """{class: {days, total, daily, paper}}: the classes by decreasing hosts a day, then Unknown, then their total."""
    paper = {plain(row.name): {
        "total": dict(zip(QUANTITIES, (row.hosts, row.ports, row.packets))),
        "daily": dict(zip(QUANTITIES, (row.daily_hosts, row.daily_ports, row.daily_packets)))}
        for row in synthetic.CLASSES}
    total = _totals(found)                                  # (C + 1, 3)
    active = (found.count[:, :, 0] > 0).sum(0)              # (C + 1,) days
    daily = found.count.sum(0) / np.maximum(active, 1)[:, None]
    total_name = "Total"
    while total_name in found.names:
        total_name += " of all"
    names = [*found.names.tolist(), total_name]
    papers = [*(paper.get(plain(name)) for name in found.names), PAPER_TOTAL]
    order = sorted(range(1, len(found.names)), key=lambda c: (-daily[c, 0], names[c]))
    return {names[c]: {"days": int(active[c]), "total": dict(zip(QUANTITIES, total[c].tolist())),
                       "daily": dict(zip(QUANTITIES, np.rint(daily[c]).astype(int).tolist())), "paper": papers[c]}
            for c in (*order, 0, len(found.names)) if active[c]}


def plain(name):
    """A class name as it is compared with the paper's: Brute-forcers, brute_forcer and the authors' unk_bruteforcer
    are one, and so are Mirai-like and their mirai."""
    return re.sub("^unk_|[^a-z0-9]", "", name.lower()).removesuffix("s").removesuffix("like")


def _totals(found):
    """Distinct hosts, distinct ports and the packets of each class in all the days, then of all: (C + 1, 3) int64."""
    n = len(found.names)
    pairs = np.unique(found.host_class << 32 | found.host)  # of a class and a host; with --mirai a host may have two
    hosts = np.append(np.bincount(pairs >> 32, minlength=n), len(np.unique(found.host)))
    ports = np.append(np.bincount(found.port_class, minlength=n), len(np.unique(found.port)))
    packets = with_total(np.bincount(found.port_class, found.port_packets, n).astype(np.int64))
    return np.transpose([hosts, ports, packets])


def _counts(row, period):
    """Text of a class's counts, and of the paper's, dashes where the paper has no such class."""
    paper = row["paper"]
    return ([f"{row[period][quantity]:,}" for quantity in QUANTITIES],
            [f"{paper[period][quantity]:,}" if paper else "-" for quantity in QUANTITIES])


def _beside(ours, theirs):
    """One of ours, one of theirs, and so on."""
    return [value for pair in zip(ours, theirs) for value in pair]


# -- Table 3 ----------------------------------------------------------------------------------------------------------

def table3(args, reports):
    """Table 3 of the reports of its ten cells: mean and deviation of the F1 over the test days."""
    body = table3_rows(reports)
    text = [*_table3_text(body), *_table3_notes(args, reports[-1])]
    titles = [column.model if column.group != experiments.WITHOUT else f"{column.model}, no features"
              for column in experiments.TABLE_3]
    rows.save_lines(args.out / "table3.txt", text)
    rows.save_lines(args.out / "table3.md", [*_table3_markdown(body, titles), *_table3_notes(args, reports[-1])])
    rows.save_csv(args.out / "table3.csv",
                  ["class", "support", *(f"{title} {moment}" for title in titles for moment in ("mean", "std"))],
                  ([name, support, *(value and value[moment] for value in values for moment in ("mean", "std"))]
                   for name, support, values, _ in body))
    files.save_json(args.out / "table3.json", {
        **made_from(args), "test_days": reports[-1]["test_days"],
        "columns": [{"model": column.model, "node_features": column.group != experiments.WITHOUT,
                     "paper_macro_f1": column.paper, **_kept(result)}
                    for column, result in zip(experiments.TABLE_3, reports)]})
    return text


def table3_rows(reports):
    """[(name, support, [{mean, std} or None per column], marks)]: classes by decreasing support, macro averages."""
    support = {name: row["support"] for result in reports for name, row in result["classes"].items()}
    body = [(name, support[name], [result["classes"].get(name, {"f1": None})["f1"] for result in reports])
            for name in sorted(support, key=lambda name: (-support[name], name))]
    body.append(("macro average", sum(support.values()), [result["macro_f1"] for result in reports]))
    body = [(*row, marks(row[2])) for row in body]
    unmarked = [""] * len(reports)
    if "runs" in reports[0]:
        body.append((f"macro over {len(reports[0]['runs']['macro_f1'])} seeds", None,
                     [result["runs"] for result in reports], unmarked))
    return [*body, ("paper's macro average", None, [column.paper for column in experiments.TABLE_3], unmarked)]


def marks(values):
    """For each {mean, std} or None: "best", "near" (within the best's standard deviation of it) or ""."""
    best = max((value for value in values if value), key=lambda value: (value["mean"], -value["std"]))

    def mark(value):
        if not value or value["mean"] < best["mean"] - best["std"]:
            return ""
        return "best" if value["mean"] == best["mean"] else "near"
    return [mark(value) for value in values]


def _table3_text(body):
    """One block of at most 80 characters a line for each group of columns."""
    sign = {"best": "*", "near": "~", "": " "}
    lines = []
    for group in dict.fromkeys(column.group for column in experiments.TABLE_3):
        at = [i for i, column in enumerate(experiments.TABLE_3) if column.group == group]
        header = ["class", "support", *(f"{experiments.TABLE_3[i].model} " for i in at)]
        block = [[name, f"{support:,}" if support else "", *(rows.score(values[i]) + sign[mark[i]] for i in at)]
                 for name, support, values, mark in body]
        lines += [group, *rows.aligned(header, block), ""]
    return [*lines, "* best of all columns   ~ within one standard deviation of the best"]


def _table3_markdown(body, titles):
    form = {"best": "**{}**", "near": "*{}*", "": "{}"}
    block = [[name, f"{support:,}" if support else "",
              *(form[mark].format(rows.score(value)) for value, mark in zip(values, marked))]
             for name, support, values, marked in body]
    return [*rows.markdown(["class", "support", *titles], block), "",
            "**Best of the row**; *within one standard deviation of the best*.", ""]


def _table3_notes(args, result):
    """How the scores were made, in lines; result: the report of any column, whose days are those of all."""
    days = result["test_days"]
    sentences = [f"F1, mean ± standard deviation over {scored_days(result)} of {len(days)} test days, {days[0]} to "
                 f"{days[-1]}: those on which any class has more than 10 active hosts."]
    if args.runs > 1:
        sentences.append(f"Of a day, the mean over {args.runs} seeds.")
    sentences.append(f"{args.neighbors} nearest neighbours, {args.train_days} training days, H = {args.history}.")
    return [*textwrap.wrap(" ".join(sentences), 80), *notes(args), "paper: its own data, Table 3, not ours."]


def scored_days(result):
    """On how many of a report's days any class has an F1."""
    return sum(bool(row.get("f1")) for row in result["days"])


def _kept(result):
    """What the JSON file of a table says of a cell."""
    return {**{name: result[name] for name in KEPT if name in result}, "epochs": result["settings"]["epochs"],
            "seconds": result["timings"]["total_seconds"]}


# -- beyond the paper -------------------------------------------------------------------------------------------------

def beyond(args, reports):
    """The table of settings: macro F1, where there are labels, and subnet agreement, of every model and setting."""
    results = dict(zip(experiments.beyond_cells(), reports))  # {(model, setting): report}
    blocks = beyond_blocks(results)
    header = list(experiments.BEYOND_SETTINGS)
    note = _beyond_notes(args, reports[0])
    text, markdown = [], []
    for title, values in blocks.items():
        lines = [[model, *(rows.score(values.get((model, setting))) for setting in experiments.BEYOND_SETTINGS)]
                 for model in experiments.BEYOND]
        text += [*rows.aligned([title, *header], lines), ""]
        markdown += [*rows.markdown([title, *header], lines), ""]
    rows.save_lines(args.out / "beyond.txt", [*text, *note])
    rows.save_lines(args.out / "beyond.md", [*markdown, *note])
    chance = reports[0]["subnet_agreement"]["chance"]
    moments = [(title, moment) for title in blocks for moment in ("mean", "std")]
    rows.save_csv(args.out / "beyond.csv",
                  ["model", "setting", *(f"{title} {moment}" for title, moment in moments), "chance"],
                  ([*cell, *(blocks[title][cell][moment] for title, moment in moments), chance] for cell in results))
    files.save_json(args.out / "beyond.json", {
        **made_from(args), "test_days": reports[0]["test_days"],
        "cells": [{"model": model, "setting": setting, "flags": experiments.BEYOND_SETTINGS[setting], **_kept(result)}
                  for (model, setting), result in results.items()]})
    return [*text, *note]


def beyond_blocks(results):
    """{title: {cell: {mean, std}}} of what was measured, over the test days and, of several seeds, over the seeds."""
    blocks = {}
    for measure, title in (("macro_f1", "macro F1"), ("subnet_agreement", "subnet agreement")):
        if all(result[measure]["mean"] is None for result in results.values()):
            continue
        blocks[title] = {cell: result[measure] for cell, result in results.items()}
        if all("runs" in result for result in results.values()):
            blocks[f"{title.split()[-1]} over seeds"] = {cell: scores.mean_std(result["runs"][measure])
                                                         for cell, result in results.items()}
    return blocks


def _beyond_notes(args, result):
    """How the scores were made, in lines; result: the report of any cell, whose days are those of all."""
    days, chance = result["test_days"], result["subnet_agreement"]["chance"]
    over = "test days, of the mean over the seeds" if args.runs > 1 else "test days"
    subnets = ("Subnet agreement: of the hosts that share their /24 with another, the share with one of it among their "
               f"neighbours; by chance {chance:.2f}.") if chance is not None else \
        "No two hosts of a test day share their /24."
    sentences = [
        f"Mean ± standard deviation over {over}.",
        f"Of {len(days)} test days, {days[0]} to {days[-1]}, {scored_days(result)} have a class of more than 10 active "
        "hosts, hence an F1 score; subnet agreement is of all.",
        subnets, experiments.BEYOND_NOTE,
        f"{args.neighbors} nearest neighbours, {args.train_days} training days, H = {args.history}."]
    return [*textwrap.wrap(" ".join(sentences), 80), *notes(args)]
