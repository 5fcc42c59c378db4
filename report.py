"""What a run says and leaves behind: scores per day, the report's table, and files written whole or not at all.

    predictions.csv             one row per host and test day, Unknown hosts too
    changes.csv, hosts.csv      of daily runs, see state.py
    embeddings/YYYY-MM-DD.npz   hosts (n,) text, embeddings (n, E) float32; numpy.load reads it without pickle
    report.json                 settings, timings, scores

Imports knn and shard.
"""

import contextlib
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import knn
import shard

PREDICTION_COLUMNS = "date,host,label,predicted,vote_share,similarity,surprise"
NAMES = ("report.json", "predictions.csv", "changes.csv", "hosts.csv")  # of files in the folder, beside embeddings/
DATED = re.compile(rb"\d{4}-\d\d-\d\d,")
UMASK = os.umask(0)  # there is no way to read it but to set it
os.umask(UMASK)


class Scored(NamedTuple):
    """One test day of one run."""
    report: knn.Report
    predicted: torch.Tensor   # (n_hosts,) int64 class by the vote of the k nearest other hosts
    share: torch.Tensor       # (n_hosts,) share of the k votes for it
    similarity: torch.Tensor  # (n_hosts,) cosine similarity of the nearest neighbour
    distance: torch.Tensor    # (n_hosts,) cosine distance to the centroid of the host's class; nan without one
    agreement: float          # share, of hosts with another of their /24, with one of it among the k nearest
    chance: float             # what random neighbours would give


def score_day(x, addresses, labels, n_classes, k):
    """Leave-one-out k-nearest-neighbour classification of a day's hosts (paper section 4).

    x (n_hosts, E) standardized or whitened embeddings, addresses (n_hosts,) int64, labels (n_hosts,) int64 with 0
    for Unknown, of this rank's hosts, ascending; reports and agreement are of all ranks' (agreement: on rank 0 alone).
    """
    labels = knn.small_to_unknown(labels, n_classes, total=shard.all_sum)
    similarity, neighbours, votes = shard.nearest(x, addresses, labels, k)
    predicted, share = knn.vote(votes.flatten(), torch.arange(votes.numel(), device=votes.device).view_as(votes))
    nearest = similarity[:, 0] if similarity.shape[1] else share
    everyone, neighbours = shard.at_rank_0(addresses, neighbours)
    return Scored(knn.classification_report(labels, predicted, n_classes, shard.all_sum), predicted, share, nearest,
                  knn.centroid_distance(x, labels, n_classes, shard.all_sum),
                  *knn.subnet_agreement(everyone, torch.searchsorted(everyone, neighbours)))


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


def mean_std(values):
    """{mean, std} (population) of the numbers among `values`; None for both if there are none."""
    values = [value for value in values if value is not None and not math.isnan(value)]
    return {"mean": float(np.mean(values)), "std": float(np.std(values))} if values else {"mean": None, "std": None}


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


def plus_minus(value):
    return "-" if value["mean"] is None else f"{value['mean']:.2f} ± {value['std']:.2f}"


HEADER = f"{'day':10} {'hosts':>8} {'new':>7} {'ports':>5} {'edges':>9}   loss   acc    F1   sec    left"


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
    more = len(names) - len(names[:most])
    return ", ".join(names[:most]) + f" and {more:,} more" * (more > 0)


def what_came(summary):
    """What was read instead of packets: the most common kinds of records skipped and broken, as clauses."""
    return "".join([f"; {n:,} {kind}" for kind, n in summary.skipped.most_common(1)]
                   + [f"; {n:,} broken records, {kind}: {summary.rejected_first[kind]}"
                      for kind, n in summary.rejected.most_common(1)])


def prediction_lines(date, hosts, names, labels, predicted, share, similarity, surprise):
    """The day's rows of predictions.csv, as one text. hosts (n,) dotted quads, labels (n,) int64, the next three as in
    Scored; surprise (n,) how much each host changed, nan where that is not known."""
    names, surprise = np.array([quoted(name) for name in names]), surprise.cpu().numpy()
    columns = [np.full(len(hosts), str(date)), hosts, names[labels.cpu().numpy()],
               names[predicted.cpu().numpy()], np.char.mod("%.2f", share.cpu().numpy()),
               np.char.mod("%.4f", similarity.cpu().numpy()),
               np.where(np.isnan(surprise), "", np.char.mod("%.4f", surprise))]
    return "".join(",".join(row) + "\n" for row in zip(*(column.tolist() for column in columns)))


def quoted(name):
    """A CSV field: class names come from the user's files."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def dotted(addresses):
    """IPv4 addresses (n,) uint32 -> (n,) text."""
    octet = np.char.mod("%d", np.arange(256))
    text = octet[addresses >> 24]
    for shift in (16, 8, 0):
        text = np.char.add(np.char.add(text, "."), octet[addresses >> shift & 255])
    return text


@contextlib.contextmanager
def whole_file(path, mode="w"):
    """Open a file that appears under `path` complete, when the block ends without an error, or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)              # its entry for the new name, should the power fail
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_half_written(folder, names):
    """Remove what `whole_file` left in the folder, when it was killed, of files whose names match the pattern."""
    left = re.compile(rf"\.({names})\.\w{{8}}")
    for path in folder.glob(".*"):
        if left.fullmatch(path.name) and path.is_file():
            path.unlink()


@contextlib.contextmanager
def rows_of_days(path, header, last=None):
    """A CSV of dated rows while a run fills it, day by day: yields a function that takes a day's rows as one text.

    last None: a new file, which appears when the block ends. Else the file grows by each day's rows, which are on the
    disk when the function returns; `last` is the date after which this run goes on ("": none), and what a run that
    was killed left of later days is cut off first. Without any rows no file is made.
    """
    with contextlib.ExitStack() as stack:
        file = None

        def write(text):
            nonlocal file
            if file is None and last is None:
                file = stack.enter_context(whole_file(path, "wb"))
            elif file is None:
                file = stack.enter_context(open(path, "a+b", buffering=0))
                file.truncate(end_of_day(file, last))
            end = file.seek(0, os.SEEK_END)
            rest = memoryview((text if end else f"{header}\n{text}").encode())
            try:
                while rest:
                    rest = rest[file.write(rest):]
                if last is not None:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)                          # a full disk: no part of the day stays
                raise
        yield write


def end_of_day(file, last, step=1 << 20):
    """Where the whole lines that are not dated after `last`, a date, end in a file of rows that begin with a date."""
    start, tail = file.seek(0, os.SEEK_END), b""            # tail: the end of a line that begins before `start`
    while start:
        begin = max(0, start - step)
        file.seek(begin)
        block = file.read(start - begin) + tail
        first = (block.find(b"\n") + 1 or len(block)) if begin else 0
        lines = block[first:].split(b"\n")[:-1]             # whole ones; of the file's last line the end may lack
        for i in reversed(range(len(lines))):
            if not DATED.match(lines[i]) or lines[i][:10] <= str(last).encode():
                return begin + first + sum(len(line) + 1 for line in lines[: i + 1])
        start, tail = begin, block[:first]
    return 0


def check_folder(folder):
    """Make the folder that a run writes to. Raises ValueError where files could not be made in it later."""
    try:
        for path in (folder, folder / "embeddings"):
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path):
                pass
        if taken := [name for name in NAMES if (folder / name).is_dir()]:
            raise IsADirectoryError(f"{taken[0]} is a folder")
    except OSError as error:
        raise ValueError(f"--out {folder}: expected a folder to write to: {error}") from None


def remove_earlier(folder, last=None):
    """Remove the files that an earlier run left in the folder, so that they are not taken for this one's.

    last, a date: that run goes on after this day, and only what it left of later ones is removed.
    """
    for path in (folder / "embeddings").glob("*.npz"):
        if re.fullmatch(r"\d{4}-\d\d-\d\d", path.stem) and (last is None or path.stem > str(last)):
            path.unlink()
    for path in (folder / name for name in NAMES if last is None):
        path.unlink(missing_ok=True)
    remove_half_written(folder, "|".join(map(re.escape, NAMES)))
    remove_half_written(folder / "embeddings", r"\d{4}-\d\d-\d\d\.npz")


def save_embeddings(path, hosts, z):
    with whole_file(path, "wb") as file:
        np.savez(file, hosts=hosts, embeddings=z.cpu().numpy().astype(np.float32))


def save_json(path, value):
    with whole_file(path) as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")
