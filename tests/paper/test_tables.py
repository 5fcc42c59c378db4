"""Table 2, Table 3 and the settings beyond the paper: counts against direct ones, and four files that agree."""

import csv
import itertools
import json
import re
from collections import defaultdict

import numpy as np
import pytest

import darkgnn
from paper import experiments, tables
from paper.traffic import Traffic
from tests.paper.tiny import DAY, START, forbid, run, without_labels, write_trace
from traces import inputs, synthetic

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
    assert [other for other in names if tables.plain(other) == tables.plain(name)] == [paper]


def test_a_class_may_be_called_total(capsys, tmp_path):
    """Table 2 keeps a class of that name apart from the sum."""
    write_trace(tmp_path, ["Total", "rest"])
    assert run(capsys, "table2", "--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv",
               "--out", tmp_path / "out")[0] == 0
    result = json.loads((tmp_path / "out" / "table2.json").read_text())["classes"]
    assert list(result)[2:] == ["Unknown", "Total of all"] and result["Total"]["paper"] is None
    assert result["Total of all"]["total"]["hosts"] == sum(result[name]["total"]["hosts"] for name in list(result)[:3])
    assert result["Total of all"]["paper"]["total"]["hosts"] == 60106


def test_a_host_may_change_its_class(capsys, tmp_path):
    """With --mirai a host is of another class on another day: it counts in both, and once in the total."""
    rows = [(START + day * DAY + i, "7.0.0.1", "9.9.9.9", 23, seq)
            for day, seq in ((0, 0x09090909), (1, 5)) for i in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port,tcp_seq",
                                               *(",".join(map(str, row)) for row in rows)]) + "\n")
    code, _, complaint = run(capsys, "table2", "--input", tmp_path / "t.csv", "--mirai", "--out", tmp_path / "out")
    assert code == 0, complaint
    document = json.loads((tmp_path / "out" / "table2.json").read_text())
    assert document["flags"] == "--mirai"
    assert {name: (row["days"], row["total"]["hosts"]) for name, row in document["classes"].items()} == \
        {"Mirai-like": (1, 1), "Unknown": (1, 1), "Total": (2, 1)}
    write_trace(tmp_path, [])
    code, _, complaint = run(capsys, "table2", "--input", tmp_path / "t.csv", "--mirai", "--out", tmp_path / "out")
    assert code == 0 and complaint.count("no TCP sequence numbers") == 1


def test_paper_totals_are_the_sums_of_its_classes():
    """Table 2's Total row: the classes' hosts and packets add up to it."""
    total = tables.table2_classes(Traffic(
        np.array(["Unknown"]), np.array(["2021-12-01"]), np.ones((1, 2, 3), np.int64), *np.zeros((6, 1), np.int64)))
    total = total["Total"]["paper"]
    assert total["total"]["hosts"] == sum(row.hosts for row in synthetic.CLASSES)
    assert total["total"]["packets"] == sum(row.packets for row in synthetic.CLASSES)


def test_table2_is_counted_once(capsys, tmp_path, trace, monkeypatch):
    """A second table2 reads no packet, also with other model settings; another host filter counts again."""
    assert run(capsys, "table2", *trace)[0] == 0
    before = (tmp_path / "out" / "table2.json").read_bytes()
    forbid(monkeypatch, inputs, "read")
    assert run(capsys, "table2", *trace, "--neighbors", 5)[0] == 0
    assert (tmp_path / "out" / "table2.json").read_bytes() == before
    code, _, complaint = run(capsys, "table2", *trace, "--min-packets", 2)
    assert code == 2 and complaint == "paper: error: read was called\n"


def test_days_that_nobody_passes_are_left_out(capsys, tmp_path, trace):
    """A day on which no host passes the filter is no day of Table 2, and is said; none at all is an error."""
    with (tmp_path / "t.csv").open("a") as file:
        file.write(f"{START + 4 * DAY},1.2.3.4,9.9.9.9,80\n")
    code, _, complaint = run(capsys, "table2", *trace)
    assert code == 0 and complaint.count("2021-12-05: no host sends 5 TCP packets or more, the day is left out") == 1
    assert json.loads((tmp_path / "out" / "table2.json").read_text())["days"] == 4
    code, _, complaint = run(capsys, "table2", *trace, "--min-packets", 1000)
    assert code == 2 and complaint.endswith("no host sends 1000 TCP packets or more on any day: nothing to count\n")


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


def test_marks():
    """The best is the largest mean; near is within the best's own deviation; a column without the class has none."""
    def value(mean, std):
        return {"mean": mean, "std": std}
    assert tables.marks([value(0.5, 0.9), None, value(0.8, 0.1), value(0.69, 0.5), value(0.71, 0)]) == \
        ["", "", "best", "", "near"]
    assert tables.marks([value(0.8, 0), value(0.8, 0)]) == ["best", "best"]


def test_classes_by_support_with_gaps():
    """Classes that only some columns score stand in the table, with nothing where they are missing."""
    def column(**classes):
        return {"classes": {name: {"support": n, "f1": {"mean": 1, "std": 0}} for name, n in classes.items()},
                "macro_f1": {"mean": 1, "std": 0}}
    rows = tables.table3_rows([column(b=2, a=2), column(b=2, a=2, c=9)])
    assert [row[:2] for row in rows[:-1]] == [("c", 9), ("a", 2), ("b", 2), ("macro average", 13)]
    assert rows[0][2][0] is None and rows[0][2][1] == {"mean": 1, "std": 0}


def test_markdown_names_cannot_break_the_table(capsys, tmp_path, trace):
    """A class name with a bar is escaped."""
    assert run(capsys, "table2", *trace)[0] == 0
    assert "| odd \\| one | " in (tmp_path / "out" / "table2.md").read_text()


# -- beyond the paper -------------------------------------------------------------------------------------------------

def test_beyond_holds_every_combination(capsys, tmp_path, trace):
    """Each cell in a folder of its own; 80 columns of text; Markdown, CSV and JSON agree; a dash for no cell."""
    code, printed, complaint = run(capsys, "beyond", *trace, "--epochs", 2, "--history", 1, "--runs", 2, "--quiet")
    out = tmp_path / "out"
    assert code == 0 and (out / "beyond.txt").read_text() in printed, complaint
    assert max(map(len, (out / "beyond.txt").read_text().splitlines())) <= 80
    cells = json.loads((out / "beyond.json").read_text())["cells"]
    assert [(cell["model"], cell["setting"]) for cell in cells] == experiments.beyond_cells()
    assert all(cell["flags"] == experiments.BEYOND_SETTINGS[cell["setting"]] for cell in cells)
    names = {path.name.rpartition("-")[0] for path in (out / "cells").iterdir()}
    assert len(names) == len(cells) == 28
    assert {"i-gcn-gru-epochs-2-history-1", "i-gcn-gru-steady-weighted-epochs-2-history-1",
            "features-steady-memory-epochs-2", "fixed-gcn-epochs-2"} <= names
    rows = list(csv.DictReader((out / "beyond.csv").open()))
    for row, cell in zip(rows, cells, strict=True):
        assert float(row["macro F1 mean"]) == cell["macro_f1"]["mean"]
        assert float(row["subnet agreement std"]) == cell["subnet_agreement"]["std"]
        assert float(row["F1 over seeds std"]) == cell["runs"]["std"]
        assert float(row["agreement over seeds mean"]) == pytest.approx(cell["subnet_agreement"]["mean"])
        assert float(row["chance"]) == cell["subnet_agreement"]["chance"]
    assert len({row["macro F1 mean"] for row in rows}) > 5
    markdown = [line.split(" | ") for line in (out / "beyond.md").read_text().splitlines() if line.startswith("| i-da")]
    assert len(markdown) == 4 and all(line[2] == "-" for line in markdown)
    assert markdown[0][1] == "{mean:.2f}±{std:.2f}".format(**cells[-4]["macro_f1"])


def test_every_setting_of_beyond_is_known():
    """Models name settings that have flags, each setting has a model, and each is another one."""
    named = set(itertools.chain(*experiments.BEYOND.values()))
    assert named == set(experiments.BEYOND_SETTINGS)
    assert len(set(experiments.BEYOND_SETTINGS.values())) == len(experiments.BEYOND_SETTINGS)


def test_beyond_without_labels_compares_subnets(capsys, tmp_path, trace, monkeypatch):
    """No labels: subnet agreement alone, as darkgnn.py reports it; no two hosts of a /24 either: one line says so."""
    last = list(experiments.BEYOND_SETTINGS)[-1]
    monkeypatch.setattr(experiments, "BEYOND", {"features": ("max", last)})
    bare = without_labels(trace)
    code, printed, _ = run(capsys, "beyond", *bare)
    assert code == 0 and "subnet agreement" in printed and "macro F1  " not in printed
    cells = json.loads((tmp_path / "out" / "beyond.json").read_text())["cells"]
    assert darkgnn.main([str(a) for a in [*bare, "--model", "features", *experiments.BEYOND_SETTINGS[last].split(),
                                          "--out", tmp_path / "alone"]]) == 0
    alone = json.loads((tmp_path / "alone" / "report.json").read_text())
    assert cells[1]["subnet_agreement"] == alone["subnet_agreement"] != cells[0]["subnet_agreement"]
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(re.sub(r"7\.(\d+)\.0\.(\d+)", r"7.\1.\2.1", text))
    code, _, complaint = run(capsys, "beyond", *bare)
    assert code == 2 and complaint.endswith("and no two hosts share their /24, on a test day\n")
