"""Figure 4 and the four pictures: their numbers, and that they are drawn where there is matplotlib."""

import csv
import json
from collections import defaultdict

import numpy as np
import pytest
import torch

from paper import figures
from tests.paper.tiny import DAY, run, watch, without_labels, write_trace


def test_figure4a_starts_at_i_gcn(capsys, tmp_path, trace, monkeypatch):
    """H = 0 is i-gcn's score, the others i-gcn-gru's; the CSV and the JSON hold the same numbers."""
    seen = watch(monkeypatch, lambda args: (args.model, args.history))
    assert run(capsys, "figure4a", *trace)[0] == 0
    assert seen == [("i-gcn", 0), ("i-gcn-gru", 1)]
    points = json.loads((tmp_path / "out" / "figure4a.json").read_text())["points"]
    rows = list(csv.DictReader((tmp_path / "out" / "figure4a.csv").open()))
    assert [point["history"] for point in points] == [int(row["history"]) for row in rows] == [0, 1]
    assert [point["macro_f1"]["std"] for point in points] == [float(row["std over days"]) for row in rows]
    assert [point["paper_macro_f1"] for point in points] == [0.73, 0.76]


def test_figure4_of_several_seeds(capsys, tmp_path, trace):
    """With --runs the deviation over the seeds stands beside that over the days, in text, CSV and JSON."""
    code, printed, _ = run(capsys, "figure4b", *trace, "--history", 1, "--runs", 2, "--quiet")
    assert code == 0 and "over seeds" in printed
    points = json.loads((tmp_path / "out" / "figure4b.json").read_text())["points"]
    rows = list(csv.DictReader((tmp_path / "out" / "figure4b.csv").open()))
    assert [point["runs"]["std"] for point in points] == [float(row["std over seeds"]) for row in rows]
    assert all(len(point["runs"]["macro_f1"]) == 2 for point in points)


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
    reports = [json.loads(path.read_text()) for path in out.glob("cells/*/report.json")]
    cell, = (report for report in reports if report["settings"]["runs"] == 2)
    assert dict(active) == {row["date"]: row["hosts"] for row in cell["days"]}
    assert len(list(csv.DictReader((out / "map.csv").open()))) == cell["days"][-1]["hosts"]
    f1 = list(csv.DictReader((out / "f1.csv").open()))
    assert [row["class"] for row in f1] == [*cell["classes"], "macro average"]
    day = cell["days"][-1]
    assert float(f1[-1][day["date"]]) == pytest.approx(day["macro_f1"])


def test_pictures_of_many_small_classes(capsys, tmp_path, matplotlib, monkeypatch):
    """More classes than are shown, with long names, none large enough to score: the first ones, and a note."""
    monkeypatch.setattr(figures, "SHOWN", 6)
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
    assert run(capsys, "figures", *without_labels(trace), "--model", "features")[0] == 0
    assert {row["class"] for row in csv.DictReader((tmp_path / "out" / "map.csv").open())} == {"Unknown"}


def test_ports_heat_map_counts_packets(capsys, tmp_path, trace):
    """The heat map's numbers are the packets that hosts with 5 or more a day sent to the port."""
    assert run(capsys, "figures", *trace, "--model", "features")[0] == 0
    by_host = defaultdict(list)
    for row in csv.DictReader((tmp_path / "t.csv").open()):
        by_host[int(row["ts"]) // DAY, row["src_ip"]].append(int(row["dst_port"]))
    count = sum(ports.count(80) for (_, host), ports in by_host.items() if host.startswith("7.0.") and len(ports) >= 5)
    row, = (row for row in csv.DictReader((tmp_path / "out" / "ports.csv").open()) if row["class"] == "Censys")
    assert count > 0 and int(row["80"]) == count


def test_rows_that_stand_for_many_packets_count_as_many(capsys, tmp_path, trace):
    """A table of flows with counts of packets, and the same with a row a packet: Table 2 and the heat map agree."""
    _, *rows = (tmp_path / "t.csv").read_text().splitlines()
    counts = [1 + i % 7 for i in range(len(rows))]
    (tmp_path / "t.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port", *(
        row for row, n in zip(rows, counts) for _ in range(n))]) + "\n")
    (tmp_path / "flows.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port,packets", *(
        f"{row},{n}" for row, n in zip(rows, counts))]) + "\n")
    flows = [tmp_path / "flows.csv", *trace[2:-1], tmp_path / "of flows"]
    for experiment in ("table2", "figures"):
        for flags in (trace, ["--input", *flows]):
            assert run(capsys, experiment, *flags, "--model", "features")[0] == 0
    for name in ("ports.csv", "activity.csv", "table2.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "of flows" / name).read_bytes(), name
    counted = json.loads((tmp_path / "of flows" / "table2.json").read_text())["classes"]["Total"]
    assert counted["total"]["packets"] > 3 * len(rows)


@pytest.mark.parametrize("most", [2, 3, 100])
def test_active_share_is_of_hosts_by_their_first_day(most, monkeypatch):
    """Every host is in one row, in order of its first day, and rows hold as many hosts as others, give or take one."""
    monkeypatch.setattr(figures, "MOST_ROWS", most)
    active = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], bool)
    in_order = active[[3, 1, 0, 4, 2]]
    blocks = {2: (in_order[:3], in_order[3:]), 3: (in_order[:2], in_order[2:4], in_order[4:]), 100: in_order[:, None]}
    np.testing.assert_allclose(figures._active_share(active), [block.mean(0) for block in blocks[most]])


def test_the_map_shows_the_space_that_is_searched(capsys, tmp_path, trace):
    """Embeddings on their two axes: standardized ones, those of steady behaviour as they are."""
    for flags in ([], ["--steady", "rank"], ["--steady"]):
        assert run(capsys, "figures", *trace, "--model", "features", *flags)[0] == 0
        steady = "memory" if flags == ["--steady"] else flags[-1] if flags else None
        cell = next(path.parent for path in (tmp_path / "out").glob("cells/features*/report.json")
                    if json.loads(path.read_text())["settings"]["steady"] == steady)
        with np.load(sorted((cell / "embeddings").iterdir())[-1]) as saved:
            x = saved["embeddings"].astype(float)
        x -= x.mean(0)
        x /= 1 if steady == "memory" else np.where(x.std(0) > 1e-12, x.std(0), 1)
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
    assert run(capsys, "figures", *without_labels(trace), "--model", "features")[0] == 0
    assert {path.name for path in out.iterdir()} == {"cells", "map.csv", "ports.csv", "activity.csv", "other.png"}


@pytest.mark.parametrize("shape", [(40, 6), (5, 1), (1, 3)])
def test_principal_axes_are_those_of_an_svd(shape):
    """PCA: coordinates up to sign, and shares of the variance."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(0)
    xy, share = figures.principal_axes(x)
    x = x.numpy()
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    expected = np.zeros((len(x), 2))
    expected[:, : min(2, len(s))] = (u * s)[:, :2]
    np.testing.assert_allclose(np.abs(xy), np.abs(expected), atol=1e-6)
    assert share[0] == pytest.approx(0 if len(x) == 1 else s[0] ** 2 / (s**2).sum()) and sum(share) <= 1 + 1e-9
