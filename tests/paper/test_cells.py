"""Cells are runs of darkgnn.py, kept and not made again while nothing that they depend on has changed."""

import json
import os

import numpy as np
import pytest

import darkgnn
from paper import cells, experiments, flags
from tests.paper.conftest import set_epochs
from tests.paper.tiny import RUN, forbid, run, watch, write_trace


def test_a_cell_is_a_run_of_darkgnn(capsys, tmp_path, trace):
    """The scores of a column are those that darkgnn.py reports for the same flags; other files come out alike."""
    assert run(capsys, "figures", *trace, "--model", "i-gcn", "--runs", 2)[0] == 0
    assert darkgnn.main([str(a) for a in [*trace, "--model", "i-gcn", "--runs", 2, "--out", tmp_path / "alone"]]) == 0
    folder, = (tmp_path / "out" / "cells").glob("i-gcn-*")
    cell, alone = (json.loads((path / "report.json").read_text()) for path in (folder, tmp_path / "alone"))
    assert {key: cell[key] for key in ("macro_f1", "classes", "runs")} == \
        {key: alone[key] for key in ("macro_f1", "classes", "runs")}
    for name in ("predictions.csv", "embeddings/2021-12-04.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    for name, scores in alone["classes"].items():
        by_day = [row["f1"][name] for row in cell["days"] if name in (row.get("f1") or {})]
        assert np.mean(by_day) == pytest.approx(scores["f1"]["mean"]) and len(by_day) == scores["days"]


def test_finished_cells_are_not_made_again(capsys, tmp_path, trace, monkeypatch):
    """A second run makes nothing; another setting, a touched input or other code makes them anew."""
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    before = (tmp_path / "out" / "figure4b.json").read_bytes()
    forbid(monkeypatch, *RUN)
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 0 and printed.count("kept from before") == len(experiments.FIGURE_4B.points)
    assert (tmp_path / "out" / "figure4b.json").read_bytes() == before
    assert run(capsys, "figure4b", *trace, "--history", 1, "--quiet")[0] == 0
    for change in (["--seed", 1], ["--runs", 2], ["--neighbors", 5], ["--learning-rate", 0.1], ["--min-packets", 4]):
        code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1, *change)
        assert (code, complaint) == (2, "paper: error: run was called\n"), change
    with monkeypatch.context() as patch:
        patch.setattr(cells, "code_version", lambda: "another")
        assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 2
    os.utime(tmp_path / "l.csv", (1, 1))
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 2


def test_two_runs_do_not_meet_in_a_cell(capsys, tmp_path, trace, monkeypatch):
    """While one run makes a cell another one that wants the same ends with one line, and the first goes on."""
    second = []

    def meanwhile(args):
        if not second:
            second.append(None)
            second[0] = run(capsys, "figures", *trace, "--model", "features")
    watch(monkeypatch, meanwhile)
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    code, _, complaint = second[0]
    assert code == 2 and "report.json is in use by another run" in complaint


def test_an_interrupted_run_loses_only_the_cell_in_flight(capsys, tmp_path, trace, monkeypatch):
    """Interrupted in its third cell, the command leaves two; the next one makes the others only."""
    set_epochs(monkeypatch, 1, 2, 3)
    calls = []

    def interrupt(args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
    watch(monkeypatch, interrupt)
    code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 130 and complaint.endswith("paper: interrupted; finished cells are kept\n")
    assert len(list((tmp_path / "out" / "cells").glob("*/report.json"))) == 2
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    assert len(calls) == 3 + 1


def test_experiments_share_cells(capsys, tmp_path, trace, monkeypatch):
    """`all`: of the 19 cells 14 are made; i-gcn, and i-gcn-gru with H = 5 and one epoch, are in several."""
    monkeypatch.setattr(experiments, "BEYOND", {"features": ("max", "rank"), "i-gcn-gru": ("max", "memory")})
    write_trace(tmp_path, ["Censys", "other"], days=8)
    calls = watch(monkeypatch)
    code, printed, complaint = run(capsys, "all", *trace, "--train-days", 6, "--quiet")
    assert code == 0, complaint
    assert len(calls) == 14 and printed.count("kept from before") == 1 + 2 + 3
    tables = {f"{name}.{ending}" for name in ("table2", "table3", "beyond") for ending in ("txt", "md", "csv", "json")}
    assert tables <= {path.name for path in (tmp_path / "out").iterdir()}


def test_code_version_is_of_the_sources(monkeypatch, tmp_path):
    """The version changes with the source of any flat file or room, and not with paper/, tests/ or what is no room."""
    for name in ("knn.py", "traces/__init__.py", "traces/packets.py", "fast/__init__.py", "fast/deep/more.py",
                 "paper/__init__.py", "paper/cells.py", "tests/__init__.py", "benchmarks/__init__.py", "venv/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(cells, "__file__", str(tmp_path / "paper" / "cells.py"))
    version = cells.code_version.__wrapped__
    first = version()
    for name in ("paper/cells.py", "tests/__init__.py", "benchmarks/__init__.py", "venv/a.py"):
        (tmp_path / name).write_text("x = 2\n")
        assert version() == first, name
    for name in ("knn.py", "traces/packets.py", "fast/deep/more.py"):
        (tmp_path / name).write_text("x = 2\n")
        assert version() != first, name
        first = version()
    (tmp_path / "knn.py").rename(tmp_path / "near.py")
    assert version() != first


def test_flags_are_told_with_what_they_made(capsys, tmp_path, trace):
    """Flags that are not at their defaults stand in the table's notes and its JSON, those of files do not."""
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1, "--neighbors", 5)
    told = json.loads((tmp_path / "out" / "figure4b.json").read_text())["flags"]
    assert code == 0 and told in " ".join(printed.split())
    assert told == ("--top-ports 40 --history 1 --hidden-width 16 --gcn-width 8 --embedding-width 6 --head-width 4 "
                    "--train-days 2 --neighbors 5")


def test_many_inputs_and_a_gpu_are_told(tmp_path, trace):
    """Under a table stand the first of many inputs, in the JSON all of them; a GPU, which rounds otherwise, is told."""
    args = flags.parse([str(a) for a in trace])
    assert "--device" not in flags.flags_line(args)
    args.input, args.device = list("abcde"), "cuda"
    assert "--device cuda" in flags.flags_line(args)
    assert " ".join(flags.notes(args)).startswith("input a, b, c and 2 more; ")
    assert flags.made_from(args)["data"] == "input a, b, c, d, e"
