"""What a run says: the line of a day, the report's table, what was read. Imports numpy only."""

import numpy as np

HEADER = f"{'day':10} {'hosts':>8} {'new':>7} {'ports':>5} {'edges':>9}   loss   acc    F1   sec    left"


def table(summary):
    """The paper's Table 3, one column of it, as lines of at most 80 characters."""
    width = min(48, max([13, *map(len, summary["classes"])]))
    lines = [f"{'class':{width}}  {'support':>8}  {'days':>4}  F1 mean ± std"]
    for name, row in summary["classes"].items():
        lines.append(f"{name[:width]:{width}}  {row['support']:8,}  {row['days']:4}  {plus_minus(row['f1'])}")
    total = sum(row["support"] for row in summary["classes"].values())
    lines.append(f"{'macro average':{width}}  {total:8,}  {'':4}  {plus_minus(summary['macro_f1'])}")
    if "runs" in summary and summary["runs"]["mean"] is not None:
        n = len(summary["runs"]["macro_f1"])
        lines.append(f"over {n} runs the macro average is {plus_minus(summary['runs'])}")
    return lines


def agreement_line(summary):
    """The yardstick that needs no labels, in words."""
    subnets = summary["subnet_agreement"]
    if subnets["mean"] is None:
        return "subnet agreement: no two hosts of a test day share their /24"
    return f"subnet agreement {plus_minus(subnets)}; {subnets['chance']:.2f} by chance"


def campaigns_line(campaigns):
    """The campaigns of all test days, in words, from scores.mean_campaigns: how alike the groups of
    following days are, pairs of one /24 kept together (and all pairs), how much the groups tell of the labels."""
    mean = {name: value["mean"] for name, value in campaigns.items()}
    parts = [f"campaigns: {mean['count']:.1f} a day, {mean['inside']:.0%} of hosts inside"]
    parts += [form.format(**mean) for name, form in (
        ("day_to_day", "day to day {day_to_day:.2f}"), ("same_subnet", "/24 {same_subnet:.2f} ({chance:.2f})"),
        ("labels", "labels {labels:.2f}")) if mean[name] is not None]
    return "; ".join(parts)


def plus_minus(value):
    return "-" if value["mean"] is None else f"{value['mean']:.2f} ± {value['std']:.2f}"


def day_line(row, left):
    """A day's line under HEADER; row is its dict in report.json."""
    def text(value, form):
        return "-" if value is None else format(value, form)
    return (f"{row['date']} {row['hosts']:8,} {row['new_hosts']:7,} {row['ports']:5,} {row['edges']:9,} "
            f"{text(row['loss'], '.4f'):>6} {text(row['accuracy'], '.3f'):>5} {text(row['macro_f1'], '.3f'):>5} "
            f"{row['seconds']:5.1f} {left:>7}")


def time_left(rows, days_expected):
    """h:mm:ss for the days still to come at the pace of the last five."""
    if days_expected is None:
        return "-"
    pace = np.mean([row["seconds"] for row in rows[-5:]])
    left = round(max(0, days_expected - len(rows)) * pace)
    return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"


def read_line(summary, hosts=None):
    """What was read, and what was left out and why; hosts: how many there were, in words."""
    line = (f"read {summary.files:,} files, {summary.packets:,} packets, {summary.tcp:,} TCP, {summary.days:,} days"
            + (f", {hosts}" if hosts else ""))
    if summary.done_files:
        line += f"; {summary.done_files:,} files were read before"
    for verb, counts in (("skipped", summary.skipped), ("rejected as broken", summary.rejected)):
        if counts:
            line += f"; {verb} " + ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())
    return line


def some(names, most=3):
    """The names, or the first of them and how many more there are; most None: all."""
    shown = ", ".join(names[:most])
    more = len(names) - len(names[:most])
    return f"{shown} and {more:,} more" if more else shown


def what_came(summary):
    """What was read instead of packets: the most common kinds of records skipped and broken, as clauses."""
    return "".join([f"; {n:,} {kind}" for kind, n in summary.skipped.most_common(1)]
                   + [f"; {n:,} broken records, {kind}: {summary.rejected_first[kind]}"
                      for kind, n in summary.rejected.most_common(1)])
