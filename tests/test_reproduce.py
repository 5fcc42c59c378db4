"""The paper's tables and figures, tiny: counts against direct ones, cells kept and not computed again, pictures."""

import csv
import itertools
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import darkgnn
import reproduce
from traces import synthetic

TINY = ["--hidden-width", 16, "--gcn-width", 8, "--embedding-width", 6, "--head-width", 4, "--top-ports", 40,
        "--device", "cpu"]
DAY = 86_400
START = 1_638_316_800  # 2021-12-01


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command, run in this process."""
    code = reproduce.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def write_trace(folder, classes, hosts=16, days=4, seed=0):
    """A trace of `classes` (names) with `hosts` hosts each and as many unlisted ones; returns the packets as rows."""
    rng = np.random.default_rng(seed)
    packets, labels = [], []
    for c, name in enumerate([*classes, None]):
        for h in range(hosts):
            host = f"7.{c}.0.{h}"
            labels += [(host, name)] * (name is not None)
            for day in range(days):
                for _ in range(int(rng.integers(3, 12))):
                    port = int(rng.choice([22, 80 + c, 443, int(rng.integers(1, 65536))]))
                    packets.append((START + day * DAY + int(rng.integers(DAY)), host, f"9.9.9.{rng.integers(9)}", port))
    packets.sort()
    for path, header, rows in (("t.csv", "ts,src_ip,dst_ip,dst_port", packets), ("l.csv", "src_ip,label", labels)):
        (folder / path).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return packets


@pytest.fixture
def matplotlib():
    """For tests that draw."""
    return pytest.importorskip("matplotlib")


@pytest.fixture
def trace(tmp_path, monkeypatch, request):
    """A small trace of two classes; figures of two points; no matplotlib, which is slow, unless a test asks for it."""
    if "matplotlib" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(reproduce, "HISTORIES", range(2))
    monkeypatch.setattr(reproduce, "EPOCHS", (1, 2))
    write_trace(tmp_path, ["Censys", "odd | one"])
    return ["--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv", "--train-days", 2, *TINY,
            "--out", tmp_path / "out"]


def forbid(monkeypatch, name):
    """Make a computation of darkgnn's fail; returns the list that its calls are counted in."""
    calls = []

    def refuse(*args, **kwargs):
        calls.append(args)
        raise ValueError(f"{name} was called")
    monkeypatch.setattr(darkgnn, name, refuse)
    return calls


# -- table 2 ----------------------------------------------------------------------------------------------------------

def test_table2_counts_what_a_direct_count_finds(capsys, tmp_path):
    """Hosts, ports and packets, in all and averaged over the days a class is active, after the host filter."""
    packets = write_trace(tmp_path, ["censys", "rest"])
    packets = [p for p in packets if not (p[1].startswith("7.1.") and p[0] >= START + 2 * DAY)]  # rest: two days only
    (tmp_path / "t.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port", *(",".join(map(str, p)) for p in packets)]))
    code, printed, _ = run(capsys, "table2", "--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv",
                           "--min-packets", 6, "--top-ports", 3, "--out", tmp_path / "out")
    assert code == 0 and "Intrinsec" not in printed
    result = json.loads((tmp_path / "out" / "table2.json").read_text())["classes"]

    by_host = defaultdict(list)
    for time, host, _, port in packets:
        by_host[(time - START) // DAY, host].append(port)
    kept = {key: ports for key, ports in by_host.items() if len(ports) >= 6}
    assert len(kept) < len(by_host)
    for name, mine in {"censys": ["7.0"], "rest": ["7.1"], "Unknown": ["7.2"], "Total": ["7.0", "7.1", "7.2"]}.items():
        own = {key: ports for key, ports in kept.items() if key[1][:3] in mine}
        days = sorted({day for day, _ in own})
        assert result[name]["days"] == len(days) == (2 if name == "rest" else 4)
        assert result[name]["total"] == {
            "hosts": len({host for _, host in own}), "ports": len({p for ports in own.values() for p in ports}),
            "packets": sum(map(len, own.values()))}
        daily_ports = sum(len({p for (d, _), ports in own.items() if d == day for p in ports}) for day in days)
        daily = {"hosts": len(own), "packets": sum(map(len, own.values())), "ports": daily_ports}
        for quantity, count in daily.items():
            assert abs(result[name]["daily"][quantity] - count / len(days)) <= 0.5, (name, quantity)
    assert sorted(result)[:2] == ["Total", "Unknown"] and list(result)[2:] == ["Unknown", "Total"]
    assert result["censys"]["paper"]["total"]["hosts"] == 329 and result["rest"]["paper"] is None
    rows = list(csv.DictReader((tmp_path / "out" / "table2.csv").open()))
    assert rows[-1]["class"] == "Total" and int(rows[-1]["total packets"]) == sum(map(len, kept.values()))
    assert rows[-1]["daily hosts (paper)"] == "7566"


@pytest.mark.parametrize(("name", "paper"), [
    ("mirai", "Mirai-like"), ("unk_bruteforcer", "Brute-forcers"), ("unk_spammer", "Spammers"), ("rapid7", "Rapid7"),
    ("unk_exploiter", "Exploiters"), ("Securitytrails", "Securitytrails"), ("brute forcers", "Brute-forcers")])
def test_other_spellings_of_a_class(name, paper):
    """The names of the authors' ground truth, and usual spellings, meet the paper's; no two of its names meet."""
    names = [row.name for row in synthetic.CLASSES]
    assert [other for other in names if reproduce.plain(other) == reproduce.plain(name)] == [paper]


def test_a_class_may_be_called_total(capsys, tmp_path):
    """Table 2 keeps a class of that name apart from the sum."""
    write_trace(tmp_path, ["Total", "rest"])
    assert run(capsys, "table2", "--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv",
               "--out", tmp_path / "out")[0] == 0
    result = json.loads((tmp_path / "out" / "table2.json").read_text())["classes"]
    assert list(result)[2:] == ["Unknown", "Total of all"] and result["Total"]["paper"] is None
    assert result["Total of all"]["total"]["hosts"] == sum(result[name]["total"]["hosts"] for name in list(result)[:3])
    assert result["Total of all"]["paper"]["total"]["hosts"] == 60106


def test_paper_totals_are_the_sums_of_its_classes():
    """Table 2's Total row: the classes' hosts and packets add up to it."""
    total = reproduce.table2_rows(reproduce.Traffic(
        np.array(["Unknown"]), np.array(["2021-12-01"]), np.ones((1, 2, 3), np.int64), *np.zeros((6, 1), np.int64)))
    total = total["Total"]["paper"]
    assert total["total"]["hosts"] == sum(row.hosts for row in synthetic.CLASSES)
    assert total["total"]["packets"] == sum(row.packets for row in synthetic.CLASSES)


def test_table2_is_counted_once(capsys, tmp_path, trace, monkeypatch):
    """A second table2 reads no packet, also with other model settings; another host filter counts again."""
    assert run(capsys, "table2", *trace)[0] == 0
    before = (tmp_path / "out" / "table2.json").read_bytes()
    forbid(monkeypatch, "prepare")
    assert run(capsys, "table2", *trace, "--neighbors", 5)[0] == 0
    assert (tmp_path / "out" / "table2.json").read_bytes() == before
    code, _, complaint = run(capsys, "table2", *trace, "--min-packets", 2)
    assert code == 2 and complaint == "reproduce: error: prepare was called\n"


# -- table 3 ----------------------------------------------------------------------------------------------------------

def test_table3_holds_every_column(capsys, tmp_path, trace):
    """Ten columns; best and near marked; the paper's macro row; 80 columns of text; Markdown, CSV and JSON agree."""
    code, printed, _ = run(capsys, "table3", *trace, "--epochs", 2, "--history", 1, "--runs", 2, "--quiet")
    out = tmp_path / "out"
    assert code == 0 and (out / "table3.txt").read_text() in printed
    assert max(map(len, (out / "table3.txt").read_text().splitlines())) <= 80
    result = json.loads((out / "table3.json").read_text())
    gnn = ["gcn", "i-gcn", "gcn-gru", "i-gcn-gru"]
    assert [column["model"] for column in result["columns"]] == [*gnn, *gnn, "i-darkvec", "features"]
    assert [column["node_features"] for column in result["columns"]][:8] == [False] * 4 + [True] * 4
    assert result["seeds"] == [0, 1] and result["test_days"] == ["2021-12-03", "2021-12-04"]
    rows = list(csv.reader((out / "table3.csv").open()))
    macro = next(row for row in rows if row[0] == "macro average")
    means = [column["macro_f1"]["mean"] for column in result["columns"]]
    assert [float(x) for x in macro[2::2]] == means and len({*means}) > 5
    supports = [int(row[1]) for row in rows[1:rows.index(macro)]]
    assert supports == sorted(supports, reverse=True) and int(macro[1]) == sum(supports)
    assert [row[0] for row in rows[-2:]] == ["macro over 2 seeds", "paper's macro average"]
    assert [float(x) for x in rows[-1][2:20:2]] == [.26, .41, .49, .41, .74, .73, .75, .80, .77]
    markdown = (out / "table3.md").read_text().splitlines()
    bold = next(line for line in markdown if line.startswith("| macro average |")).split(" | ")[2:]
    assert bold[int(np.argmax(means))].startswith("**") and sum(cell.startswith("**") for cell in bold) == 1
    assert len({line.count(" | ") for line in markdown if line.startswith("| ")}) == 1


def test_a_cell_is_a_run_of_darkgnn(capsys, tmp_path, trace):
    """The scores of a column are those that darkgnn.py reports for the same flags; other files come out alike."""
    assert run(capsys, "figures", *trace, "--model", "i-gcn", "--runs", 2)[0] == 0
    assert darkgnn.main([str(a) for a in [*trace, "--model", "i-gcn", "--runs", 2, "--out", tmp_path / "alone"]]) == 0
    folder, = (tmp_path / "out" / "cells").glob("i-gcn-*")
    cell, alone = (json.loads(path.read_text()) for path in (folder / "cell.json", tmp_path / "alone" / "report.json"))
    assert {key: cell[key] for key in ("macro_f1", "classes", "runs")} == \
        {key: alone[key] for key in ("macro_f1", "classes", "runs")}
    for name in ("predictions.csv", "embeddings/2021-12-04.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    for name, scores in alone["classes"].items():
        by_day = [day[name] for day in cell["f1_by_day"].values() if name in day]
        assert np.mean(by_day) == pytest.approx(scores["f1"]["mean"]) and len(by_day) == scores["days"]


def test_marks():
    """The best is the largest mean; near is within the best's own deviation; a column without the class has none."""
    def value(mean, std):
        return {"mean": mean, "std": std}
    assert reproduce.marks([value(0.5, 0.9), None, value(0.8, 0.1), value(0.69, 0.5), value(0.71, 0)]) == \
        ["", "", "best", "", "near"]
    assert reproduce.marks([value(0.8, 0), value(0.8, 0)]) == ["best", "best"]


def test_classes_by_support_with_gaps():
    """Classes that only some columns score stand in the table, with nothing where they are missing."""
    def column(**classes):
        return {"classes": {name: {"support": n, "f1": {"mean": 1, "std": 0}} for name, n in classes.items()},
                "macro_f1": {"mean": 1, "std": 0}}
    rows = reproduce.table3_rows([column(b=2, a=2), column(b=2, a=2, c=9)])
    assert [row[:2] for row in rows[:-1]] == [("c", 9), ("a", 2), ("b", 2), ("macro average", 13)]
    assert rows[0][2][0] is None and rows[0][2][1] == {"mean": 1, "std": 0}


def test_markdown_names_cannot_break_the_table(capsys, tmp_path, trace):
    """A class name with a bar is escaped."""
    assert run(capsys, "table2", *trace)[0] == 0
    assert "| odd \\| one | " in (tmp_path / "out" / "table2.md").read_text()


# -- beyond the paper -------------------------------------------------------------------------------------------------

def test_beyond_holds_every_combination(capsys, tmp_path, trace):
    """Fourteen cells in folders of their own; 80 columns of text; Markdown, CSV and JSON agree; a dash for no cell."""
    code, printed, complaint = run(capsys, "beyond", *trace, "--history", 1, "--runs", 2, "--quiet")
    out = tmp_path / "out"
    assert code == 0 and (out / "beyond.txt").read_text() in printed, complaint
    assert max(map(len, (out / "beyond.txt").read_text().splitlines())) <= 80
    cells = json.loads((out / "beyond.json").read_text())["cells"]
    keys = [(cell["model"], cell["feature_scaling"], cell["whiten"]) for cell in cells]
    assert keys == [*itertools.product(["features", "i-gcn", "i-gcn-gru"], ["max", "rank"], [False, True]),
                    ("i-darkvec", "max", False), ("i-darkvec", "max", True)]
    names = {path.name.rpartition("-")[0] for path in (out / "cells").iterdir()}
    assert len(names) == 14 and {"i-gcn-gru-H1-1", "i-gcn-gru-H1-rank-whiten-1", "i-darkvec-plain-whiten-1"} <= names
    rows = list(csv.DictReader((out / "beyond.csv").open()))
    for row, cell in zip(rows, cells, strict=True):
        assert float(row["macro F1 mean"]) == cell["macro_f1"]["mean"]
        assert float(row["subnet agreement std"]) == cell["subnet_agreement"]["std"]
        assert float(row["F1 over seeds std"]) == cell["runs"]["std"]
        assert float(row["agreement over seeds mean"]) == pytest.approx(cell["subnet_agreement"]["mean"])
        assert float(row["chance"]) == cell["subnet_agreement"]["chance"]
    assert len({row["macro F1 mean"] for row in rows}) > 5
    markdown = [line.split(" | ") for line in (out / "beyond.md").read_text().splitlines() if line.startswith("| i-da")]
    assert len(markdown) == 4 and all(line[3:] == ["-", "- |"] for line in markdown)
    assert markdown[0][1] == "{mean:.2f}±{std:.2f}".format(**cells[12]["macro_f1"])


def test_beyond_without_labels_compares_subnets(capsys, tmp_path, trace, monkeypatch):
    """No labels: subnet agreement alone, as darkgnn.py reports it; no two hosts of a /24 either: one line says so."""
    monkeypatch.setattr(reproduce, "BEYOND", [("features", "max"), ("features", "rank, whitened")])
    bare = [a for a in trace if a not in ("--labels", tmp_path / "l.csv")]
    code, printed, _ = run(capsys, "beyond", *bare)
    assert code == 0 and "subnet agreement" in printed and "macro F1  " not in printed
    cells = json.loads((tmp_path / "out" / "beyond.json").read_text())["cells"]
    assert darkgnn.main([str(a) for a in [*bare, "--model", "features", "--feature-scaling", "rank", "--whiten",
                                          "--out", tmp_path / "alone"]]) == 0
    alone = json.loads((tmp_path / "alone" / "report.json").read_text())
    assert cells[1]["subnet_agreement"] == alone["subnet_agreement"] and alone["settings"]["whiten"] is True
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(re.sub(r"7\.(\d+)\.0\.(\d+)", r"7.\1.\2.1", text))
    code, _, complaint = run(capsys, "beyond", *bare)
    assert code == 2 and complaint.endswith("and no two hosts share their /24, on a test day\n")


# -- cells are kept ---------------------------------------------------------------------------------------------------

def test_finished_cells_are_not_computed_again(capsys, tmp_path, trace, monkeypatch):
    """A second run computes nothing; another setting, a touched input or other code computes anew."""
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    before = (tmp_path / "out" / "figure4b.json").read_bytes()
    forbid(monkeypatch, "follow")
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 0 and printed.count("kept from before") == len(reproduce.EPOCHS)
    assert (tmp_path / "out" / "figure4b.json").read_bytes() == before
    assert run(capsys, "figure4b", *trace, "--history", 1, "--quiet")[0] == 0
    for change in (["--seed", 1], ["--runs", 2], ["--neighbors", 5], ["--learning-rate", 0.1], ["--min-packets", 4]):
        code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1, *change)
        assert (code, complaint) == (2, "reproduce: error: follow was called\n"), change
    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "code_version", lambda: "another")
        assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 2
    os.utime(tmp_path / "l.csv", (1, 1))
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 2


def test_flags_are_told_with_what_they_made(capsys, tmp_path, trace):
    """Flags that are not at their defaults stand in the table's notes and its JSON, those of files do not."""
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1, "--feature-scaling", "rank")
    flags = json.loads((tmp_path / "out" / "figure4b.json").read_text())["flags"]
    assert code == 0 and flags in " ".join(printed.split())
    assert flags == ("--top-ports 40 --feature-scaling rank --history 1 --hidden-width 16 --gcn-width 8 "
                     "--embedding-width 6 --head-width 4 --train-days 2")


def test_many_inputs_and_a_gpu_are_told(tmp_path, trace):
    """Under a table stand the first of many inputs, in the JSON all of them; a GPU, which rounds otherwise, is told."""
    args = reproduce.parse([str(a) for a in trace])
    assert "--device" not in reproduce.flags_line(args)
    args.input, args.device = list("abcde"), "cuda"
    assert "--device cuda" in reproduce.flags_line(args)
    assert " ".join(reproduce.notes_of(args)).startswith("input a, b, c and 2 more; ")
    assert reproduce.made_from(args)["data"] == "input a, b, c, d, e"


def test_two_runs_do_not_meet_in_a_cell(capsys, tmp_path, trace, monkeypatch):
    """While one run computes a cell another one that wants the same ends with one line, and the first goes on."""
    follow, second = darkgnn.follow, []

    def meanwhile(*args):
        if not second:
            second.append(None)
            second[0] = run(capsys, "figures", *trace, "--model", "features")
        return follow(*args)
    monkeypatch.setattr(darkgnn, "follow", meanwhile)
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    code, _, complaint = second[0]
    assert code == 2 and "cell.json is in use by another run" in complaint


def test_an_interrupted_run_loses_only_the_cell_in_flight(capsys, tmp_path, trace, monkeypatch):
    """Interrupted in its third cell, the command leaves two; the next one computes the others only."""
    monkeypatch.setattr(reproduce, "EPOCHS", (1, 2, 3))
    follow, calls = darkgnn.follow, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return follow(*args)
    monkeypatch.setattr(darkgnn, "follow", interrupted)
    code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 130 and complaint.endswith("reproduce: interrupted; finished cells are kept\n")
    assert len(list((tmp_path / "out" / "cells").glob("*/cell.json"))) == 2
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    assert len(calls) == 3 + 1


def test_experiments_share_cells(capsys, tmp_path, trace, monkeypatch):
    """`all`: of the 29 cells 22 are computed; i-gcn, and i-gcn-gru with H = 5 and one epoch, are in several."""
    write_trace(tmp_path, ["Censys", "other"], days=8)
    follow, calls = darkgnn.follow, []
    monkeypatch.setattr(darkgnn, "follow", lambda *args: (calls.append(args), follow(*args))[1])
    code, printed, complaint = run(capsys, "all", *trace, "--train-days", 6, "--quiet")
    assert code == 0, complaint
    assert len(calls) == 22 and printed.count("kept from before") == 1 + 4 + 3
    tables = {f"{name}.{ending}" for name in ("table2", "table3", "beyond") for ending in ("txt", "md", "csv", "json")}
    assert tables <= {path.name for path in (tmp_path / "out").iterdir()}


def test_code_version_is_of_the_sources(monkeypatch, tmp_path):
    """The version changes with any module's source, and not with reproduce.py's own."""
    for name in ("a.py", "b.py", "reproduce.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(reproduce, "__file__", str(tmp_path / "reproduce.py"))
    version = reproduce.code_version.__wrapped__
    first = version()
    (tmp_path / "reproduce.py").write_text("x = 2\n")
    assert version() == first
    (tmp_path / "b.py").write_text("x = 2\n")
    assert version() != first


# -- figures ----------------------------------------------------------------------------------------------------------

def test_figure4a_starts_at_i_gcn(capsys, tmp_path, trace, monkeypatch):
    """H = 0 is i-gcn's score, the others i-gcn-gru's; the CSV and the JSON hold the same numbers."""
    seen, follow = [], darkgnn.follow
    monkeypatch.setattr(darkgnn, "follow", lambda *args: (seen.append((args[2].model, args[2].history)),
                                                          follow(*args))[1])
    assert run(capsys, "figure4a", *trace)[0] == 0
    assert seen == [("i-gcn", 0), ("i-gcn-gru", 1)]
    points = json.loads((tmp_path / "out" / "figure4a.json").read_text())["points"]
    rows = list(csv.DictReader((tmp_path / "out" / "figure4a.csv").open()))
    assert [point["history"] for point in points] == [int(row["history"]) for row in rows] == [0, 1]
    assert [point["macro_f1"]["std"] for point in points] == [float(row["std over days"]) for row in rows]
    assert [point["paper_macro_f1"] for point in points] == [0.73, 0.76]


def test_without_matplotlib_the_numbers_are_written(capsys, tmp_path, trace):
    """No matplotlib: CSV and JSON, no picture, one line that says how to get it, exit code 0."""
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 0 and printed.count("they need matplotlib (pip install") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cells", "figure4b.csv", "figure4b.json"]


def check_pictures(folder, names):
    for name in names:
        png, svg = ((folder / f"{name}.{ending}").read_bytes() for ending in ("png", "svg"))
        assert png.startswith(b"\x89PNG") and len(png) > 10_000, name
        assert b"<svg" in svg and svg.rstrip().endswith(b"</svg>"), name


def test_pictures_are_drawn(capsys, tmp_path, matplotlib, trace):
    """Figure 4 (twice the same bytes) and the four pictures as PNG and SVG, with the numbers beside them."""
    out = tmp_path / "out"
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    first = {path: path.read_bytes() for path in out.glob("figure4b.*")}
    assert run(capsys, "figure4b", *trace, "--history", 1)[0] == 0
    assert len(first) == 4 and {path: path.read_bytes() for path in first} == first
    assert run(capsys, "figures", *trace, "--history", 1, "--runs", 2)[0] == 0
    check_pictures(out, ["figure4b", "map", "ports", "activity", "f1"])
    assert b"Censys" in (out / "map.svg").read_bytes()
    active = defaultdict(int)
    for row in csv.DictReader((out / "activity.csv").open()):
        active[row["date"]] += int(row["active hosts"])
    cell, = (json.loads(path.read_text()) for path in out.glob("cells/*/cell.json") if "seeds" in path.read_text())
    assert dict(active) == {row["date"]: row["hosts"] for row in cell["days"]}
    assert len(list(csv.DictReader((out / "map.csv").open()))) == cell["days"][-1]["hosts"]


def test_pictures_of_many_small_classes(capsys, tmp_path, matplotlib, monkeypatch):
    """More classes than are shown, with long names, none large enough to score: the first ones, and a note."""
    monkeypatch.setattr(reproduce, "SHOWN", 6)
    write_trace(tmp_path, [f"an organisation with number {i} and more" for i in range(9)], hosts=3)
    code, _, complaint = run(capsys, "figures", "--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv",
                             "--model", "features", "--train-days", 2, "--out", tmp_path / "out")
    assert code == 0 and "pictures show 6 of 9 classes" in complaint and "no picture of F1" in complaint
    check_pictures(tmp_path / "out", ["map", "ports", "activity"])
    assert not (tmp_path / "out" / "f1.png").exists()
    rows = list(csv.reader((tmp_path / "out" / "ports.csv").open()))
    assert len(rows) == 1 + 6 + 1 and rows[-1][0] == "Unknown"


def test_figures_without_labels(capsys, tmp_path, trace):
    """Without --labels every host is Unknown: map, ports and activity still come out."""
    trace = [a for a in trace if a not in ("--labels", tmp_path / "l.csv")]
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    assert {row["class"] for row in csv.DictReader((tmp_path / "out" / "map.csv").open())} == {"Unknown"}


def test_ports_heat_map_counts_packets(capsys, tmp_path, trace):
    """The heat map's numbers are the packets that hosts with 5 or more a day sent to the port."""
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    count, by_host = 0, defaultdict(list)
    for row in csv.DictReader((tmp_path / "t.csv").open()):
        by_host[int(row["ts"]) // DAY, row["src_ip"]].append(int(row["dst_port"]))
    count = sum(ports.count(80) for (_, host), ports in by_host.items() if host.startswith("7.0.") and len(ports) >= 5)
    row, = (row for row in csv.DictReader((tmp_path / "out" / "ports.csv").open()) if row["class"] == "Censys")
    assert count > 0 and int(row["80"]) == count


def test_the_map_shows_the_space_that_is_searched(capsys, tmp_path, trace):
    """Embeddings on their two axes: standardized ones, whitened ones as they are."""
    for flags in ([], ["--whiten"]):
        assert run(capsys, "figures", *trace, "--model", "features", *flags)[0] == 0
        cell = next(path.parent for path in (tmp_path / "out").glob("cells/features*/cell.json")
                    if ("-whiten" in path.parent.name) == bool(flags))
        with np.load(sorted((cell / "embeddings").iterdir())[-1]) as saved:
            x = saved["embeddings"].astype(float)
        x -= x.mean(0)
        x /= 1 if flags else np.where(x.std(0) > 1e-12, x.std(0), 1)
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        xy = np.array([[float(row["x"]), float(row["y"])]
                       for row in csv.DictReader((tmp_path / "out" / "map.csv").open())])
        np.testing.assert_allclose(np.abs(xy), np.abs((u * s)[:, :2]), atol=1e-4)


def test_no_picture_of_an_earlier_run_stays(capsys, tmp_path, trace):
    """Pictures that this run does not draw, without labels or without matplotlib, are not left beside its numbers."""
    out = tmp_path / "out"
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    for name in ("map.png", "f1.svg", "other.png"):
        (out / name).write_text("old")
    assert (out / "f1.csv").exists()
    trace = [a for a in trace if a not in ("--labels", tmp_path / "l.csv")]
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    assert {path.name for path in out.iterdir()} == {"cells", "map.csv", "ports.csv", "activity.csv", "other.png"}


@pytest.mark.parametrize("shape", [(40, 6), (5, 1), (1, 3)])
def test_principal_axes_are_those_of_an_svd(shape):
    """PCA: coordinates up to sign, and shares of the variance."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(0)
    xy, share = reproduce.principal_axes(x)
    x = x.numpy()
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    expected = np.zeros((len(x), 2))
    expected[:, : min(2, len(s))] = (u * s)[:, :2]
    np.testing.assert_allclose(np.abs(xy), np.abs(expected), atol=1e-6)
    assert share[0] == pytest.approx(0 if len(x) == 1 else s[0] ** 2 / (s**2).sum()) and sum(share) <= 1 + 1e-9


# -- errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, expected", [
    (["table3", "--model", "gcn"], "table3 sets --model itself: expected none, got --model"),
    (["table3", "--no-node"], "table3 sets --no-node-features itself"),
    (["figure4b", "--epochs=3"], "figure4b sets --epochs itself: expected none, got --epochs=3"),
    (["beyond", "--whiten"], "beyond sets --whiten itself: expected none, got --whiten"),
    (["all", "--history", "3"], "figure4a sets --history itself"),
    (["figure4a", "--train-days", "3"], "on the same test days: expected --train-days 8 or more, got 3"),
    (["table3", "--train-days", "4"], "gcn-gru trains on windows of --history + 1 days"),
    (["table2", "--seed", "x"], "argument --seed: expected a whole number, 0 or more, got 'x'"),
    (["table2", "--state", "x.state"], "--state goes with darkgnn.py"),
    (["table2", "--wrong"], "unrecognized arguments: --wrong"),
    (["table2", "--input", "nowhere.log"], "nowhere.log: expected a file or a folder"),
    (["table2", "--input", "-"], "-: expected a file or a folder, which every cell reads anew"),
    (["table3", "--labels", "l.csv"], "go with --input: the synthetic month has its own"),
])
def test_errors_are_one_line(capsys, tmp_path, arguments, expected):
    """Exit code 2 and one line, before anything is read or written."""
    code, printed, complaint = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 2 and printed == "" and complaint.count("\n") == 1
    assert complaint.startswith("reproduce: error: ") and expected in complaint and "darkgnn: error" not in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, expected", [
    ([], "required: EXPERIMENT"), (["table9"], "invalid choice: 'table9' (choose from"), (["table9"], "figure4b"),
])
def test_the_experiment_is_told(capsys, arguments, expected):
    """No experiment, or none of these: exit code 2 and one line."""
    with pytest.raises(SystemExit) as ended:
        reproduce.main(arguments)
    complaint = capsys.readouterr().err
    assert ended.value.code == 2 and complaint.startswith("reproduce: error: ") and complaint.count("\n") == 1
    assert expected in complaint


def test_the_command_runs_as_a_script(tmp_path, trace):
    """`python reproduce.py` as a process of its own, from another folder."""
    script = Path(reproduce.__file__).resolve()
    done = subprocess.run([sys.executable, script, "table2", *map(str, trace)], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0 and done.stdout.endswith("paper: its own data, Table 2, not ours.\n"), done.stderr


def test_nothing_to_score_is_one_line(capsys, tmp_path, trace):
    """table3 and figure 4 compare scores: without labels, or with small classes only, they say so after one cell."""
    trace += ["--history", 1]
    bare = [a for a in trace if a not in ("--labels", tmp_path / "l.csv")]
    code, printed, complaint = run(capsys, "table3", *bare)
    assert code == 2 and "no --labels given" in complaint and printed.count("[table3") == 1
    (tmp_path / "l.csv").write_text("src_ip,label\n7.0.0.1,few\n")
    code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 2 and complaint.endswith("no class has more than 10 active hosts on a test day\n")
    assert not (tmp_path / "out" / "figure4b.csv").exists()


def test_an_output_that_is_a_file(capsys, tmp_path, trace):
    """--out names a file: one line, before anything is computed."""
    (tmp_path / "out").write_text("mine")
    code, printed, complaint = run(capsys, "table2", *trace)
    assert code == 2 and printed == "" and complaint.startswith("reproduce: error: ") and complaint.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_what_was_read_is_said(capsys, tmp_path, trace):
    """Packets read and records skipped are said, and a reader's warnings once, however many cells."""
    with (tmp_path / "t.csv").open("a") as file:
        file.write(f"{START + 9 * DAY},1.2.3.4,9.9.9.9,80\n")
    code, printed, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 0 and "read 1 files, " in printed and complaint.count("no packets from 2021-12-05") == 1


def test_a_trace_without_enough_packets(capsys, tmp_path, trace):
    """A host filter that nobody passes: one line."""
    code, _, complaint = run(capsys, "table2", *trace, "--min-packets", 1000)
    assert code == 2 and complaint.endswith("no host sends 1000 TCP packets or more on any day: nothing to count\n")
