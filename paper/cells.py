"""Cells: runs of darkgnn.py, each in a folder of its own, kept so that a finished one is not made again.

The folder is OUT/cells/NAME-KEY. KEY hashes the names, sizes and modification times of the input files, the settings,
the code and the versions of PyTorch and NumPy. A cell is finished when its folder holds report.json, which the run
writes last and whole; its embeddings/ lie beside it. Imports darkgnn, command, daily, report, traces and paper.
"""

import argparse
import functools
import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import torch

import darkgnn
from command import speak
from daily import state
from paper import experiments, flags
from report import words
from traces.files import files_below
from traces.summary import Summary

# What KEY leaves out: settings that change no result, or that stand for the files; rooms that no run depends on.
UNHASHED_SETTINGS = ("input", "labels", "out", "quiet", "no_page")
UNHASHED_ROOMS = ("paper", "tests", "benchmarks")


def run_cells(experiment, planned, say, warn):
    """The experiment's reports, in the order of `planned`, the args of its cells; report: the dict of report.json.

    Each has `folder` and `test_days` added. The cell of `features`, the quickest, runs first: a trace that cannot be
    run or compared is found out at once. Raises what darkgnn.run raises, and ValueError where there is nothing to
    compare.
    """
    quickest_first = sorted(range(len(planned)), key=lambda i: planned[i].model != "features")
    reports = [None] * len(planned)
    for n, i in enumerate(quickest_first, 1):
        args = planned[i]
        own = flags.flags_line(args, experiments.varied())
        say(f"[{experiment} {n}/{len(planned)}] --model {args.model} {own}".rstrip())
        reports[i] = run_cell(args, say, warn)
        _check_comparable(experiment, args, reports[i])
    return reports


def run_cell(args, say, warn):
    """One run of darkgnn.py with these args, kept or made: its report with `folder` and `test_days` added."""
    own = flags.flags_line(args, experiments.varied()).replace("--", "").split()
    folder = cell_folder(args, "-".join([args.model, *own]), vars(args))
    kept = _load(folder)
    if kept:
        say(f"       macro F1 {words.plus_minus(kept['macro_f1'])}, kept from before in {folder}")
        return kept
    inner = argparse.Namespace(**{**vars(args), "out": folder, "no_page": True})
    with state.locked(folder / "report.json"):              # no other run makes the same cell
        darkgnn.run(inner, speak.say_nothing if args.quiet else say, warn)
    made = _load(folder)
    say(f"       macro F1 {words.plus_minus(made['macro_f1'])} in {made['timings']['total_seconds']:.1f} s")
    return made


def _load(folder):
    """The report of a finished cell; None where there is none."""
    try:
        result = json.loads((folder / "report.json").read_text())
    except FileNotFoundError:
        return None
    return {**result, "folder": folder, "test_days": [row["date"] for row in result["days"] if row["embedded"]]}


def _check_comparable(experiment, args, result):
    """Raise ValueError, one line, for a report that lacks all that the experiment compares."""
    if result["classes"] or experiment == "figures":
        return
    few = "no class has more than 10 active hosts"
    if experiment != "beyond":
        no_labels = args.input and not args.labels and not args.mirai
        hint = " (no --labels given)" if no_labels else ""
        raise ValueError(f"{experiment} scores labelled hosts: {few} on a test day{hint}")
    if result["subnet_agreement"]["mean"] is None:
        raise ValueError(f"beyond compares macro F1 and subnet agreement: {few}, and no two hosts share their /24, on "
                         "a test day")


# -- what a cell depends on -------------------------------------------------------------------------------------------

def cell_folder(args, name, settings):
    """OUT/cells/NAME-KEY for what depends on the input, on the code and on these settings, a dict."""
    inputs = [identity(paths or []) for paths in (args.input, args.labels)]
    hashed = {setting: value for setting, value in settings.items() if setting not in UNHASHED_SETTINGS}
    key = json.dumps([inputs, hashed, code_version()], sort_keys=True, default=str)
    return args.out / "cells" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def identity(paths):
    """[(name, size, modification time in ns)] of every file that darkgnn.py would read there, folders walked.

    Raises ValueError for what is neither a file nor a folder: every cell reads its input anew, and a pipe ends.
    """
    files = []
    for path in map(Path, paths):
        found = files_below(path, Summary()) if path.is_dir() else [path]
        for file in map(Path, found):
            if not file.exists() or not stat.S_ISREG(file.stat().st_mode):
                raise ValueError(f"{file}: expected a file or a folder, which every cell reads anew, got neither")
            files.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    return files


@functools.cache
def code_version():
    """Hash of the flat files and of every room that a result depends on, and the versions of the libraries."""
    root = Path(__file__).parent.parent
    rooms = [path.parent for path in root.glob("*/__init__.py") if path.parent.name not in UNHASHED_ROOMS]
    digest = hashlib.sha256()
    for path in sorted([*root.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return [digest.hexdigest(), torch.__version__, np.__version__]
