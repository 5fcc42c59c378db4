"""The real command, tiny: on synthetic days, on a few firewall lines written here, on real traces where present."""

import csv
import gzip
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import darkgnn
import fast
import knn
import training
from beyond import steady
from fast import precision
from tests.command.running import ROOT, TINY, firewall_lines, firewall_run, run
from traces import synthetic

SHARED = ROOT.parent / "shared" / "data"
GRAPH_MODELS = ["gcn", "i-gcn", "gcn-gru", "i-gcn-gru"]
TEST_DAYS = "2022-01-01", "2022-01-02"


@pytest.fixture
def short_month(monkeypatch):
    """A synthetic month of five small days."""
    monkeypatch.setattr(synthetic, "DAYS", 5)
    month = synthetic.month
    monkeypatch.setattr(synthetic, "month", lambda scale, seed: month(scale, seed, days=5))
    return ["--synthetic-scale", "0.01", "--train-days", "3", "--history", "1", *TINY]


@pytest.fixture
def firewall(tmp_path):
    return firewall_run(tmp_path)


def embeddings(folder, day):
    """(hosts, embeddings) that a run left of a day."""
    with np.load(folder / "embeddings" / f"{day}.npz", allow_pickle=False) as saved:
        return saved["hosts"], saved["embeddings"]


def predictions(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("features", [[], ["--no-node-features"]])
@pytest.mark.parametrize("model", GRAPH_MODELS)
def test_every_model_runs_on_synthetic_days(capsys, tmp_path, short_month, model, features):
    """Embeddings of the test days, predictions and a report come out of every model, with and without features."""
    out = tmp_path / "out"
    code, printed, _ = run(capsys, *short_month, "--model", model, "--epochs", 2, "--out", out, *features)
    assert code == 0
    assert len(re.findall(r"^2021-12-0\d ", printed, re.M)) == 5
    assert len(re.findall(r"^ +epoch +[12]/2 +\d\.\d{4} \d\.\d{3}$", printed, re.M)) == 2 * (model == "gcn-gru")
    result = report(out)
    assert 0 <= result["macro_f1"]["mean"] <= 1 and result["data"] == "synthetic"
    assert [row["date"] for row in result["days"]] == [f"2021-12-0{i}" for i in range(1, 6)]
    assert sorted(p.name for p in (out / "embeddings").iterdir()) == ["2021-12-04.npz", "2021-12-05.npz"]
    rows = predictions(out)
    for row in result["days"][3:]:
        hosts, z = embeddings(out, row["date"])
        assert z.shape == (row["hosts"], 6) and z.dtype == np.float32
        assert hosts.tolist() == [r["host"] for r in rows if r["date"] == row["date"]]


def test_features_baseline(capsys, tmp_path, short_month):
    """--model features scores the 37 scaled features themselves."""
    code, printed, _ = run(capsys, *short_month, "--model", "features", "--out", tmp_path)
    _, x = embeddings(tmp_path, "2021-12-05")
    assert code == 0 and x.shape[1] == 37 and x.max() == 1
    assert "synthetic month, scale 0.01, seed 0 (no --input given)" in printed and "made " in printed


def test_firewall_log_end_to_end(capsys, tmp_path, firewall):
    """Lines without a year, across New Year: days, report, predictions of Unknown hosts too, and what was skipped."""
    code, printed, _ = run(capsys, *firewall, "--model", "i-gcn-gru")
    assert code == 0
    assert "read 1 files, 676 packets, 672 TCP, 4 days, 28 hosts; skipped 4 UDP" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith(("input", "wrote")))
    result = report(tmp_path / "out")
    assert [row["date"] for row in result["days"]] == ["2021-12-30", "2021-12-31", *TEST_DAYS]
    assert {name: row["support"] for name, row in result["classes"].items()} == {"even, quoted": 28, "odd": 26}
    assert set(result["classes"]["odd"]["f1"]) == {"mean", "std"}
    rows = predictions(tmp_path / "out")
    assert list(rows[0]) == ["date", "host", "label", "predicted", "vote_share", "similarity", "surprise"]
    assert {row["surprise"] for row in rows} == {""}
    assert len(rows) == 2 * 28
    unknown = [row for row in rows if row["host"] == "9.1.0.1"]
    assert [row["label"] for row in unknown] == ["Unknown"] * 2
    assert {row["predicted"] for row in rows} <= {"even, quoted", "odd", "Unknown"}
    assert all(0.32 <= float(row["vote_share"]) <= 1 and -1 <= float(row["similarity"]) <= 1.0001 for row in rows)


def test_the_report_has_each_days_f1(capsys, tmp_path, firewall):
    """report.json lists every class's F1 of every test day; their mean is the class's own, and the day's macro F1."""
    assert run(capsys, *firewall, "--model", "gcn", "--epochs", 2)[0] == 0
    result = report(tmp_path / "out")
    assert [row["f1"] is None for row in result["days"]] == [True, True, False, False]
    tested = result["days"][2:]
    for row in tested:
        assert set(row["f1"]) == {"even, quoted", "odd"}
        assert row["macro_f1"] == pytest.approx(np.mean(list(row["f1"].values())))
    for name, of_class in result["classes"].items():
        assert of_class["f1"]["mean"] == pytest.approx(np.mean([row["f1"][name] for row in tested]))


def test_same_seed_same_bytes(capsys, tmp_path, firewall):
    """Two runs of one seed write the same bytes; another seed writes others; gzip changes nothing."""
    packed = tmp_path / "packed.log"
    packed.write_bytes(gzip.compress((tmp_path / "ufw.log").read_bytes()))
    for name, extra in (("a", []), ("b", []), ("c", ["--seed", 1]), ("d", ["--input", packed])):
        assert run(capsys, *firewall, "--quiet", *extra, "--out", tmp_path / name)[0] == 0
    for file in ("predictions.csv", *(f"embeddings/{day}.npz" for day in TEST_DAYS)):
        a, b, c, d = ((tmp_path / name / file).read_bytes() for name in "abcd")
        assert a == b == d
        assert a != c


@pytest.mark.parametrize("model", [["i-gcn-gru"], ["fixed-gcn"], ["i-gcn", "--steady"]], ids=" ".join)
def test_tomorrow_changes_nothing_today(capsys, tmp_path, firewall, model):
    """Cutting the last day off the trace leaves the embeddings of the day before bitwise as they were."""
    lines = (tmp_path / "ufw.log").read_text().splitlines(keepends=True)
    (tmp_path / "short.log").write_text("".join(line for line in lines if not line.startswith("Jan  2")))
    run(capsys, *firewall, "--model", *model, "--out", tmp_path / "full")
    run(capsys, *firewall, "--model", *model, "--input", tmp_path / "short.log", "--out", tmp_path / "short")
    day = f"embeddings/{TEST_DAYS[0]}.npz"
    assert (tmp_path / "full" / day).read_bytes() == (tmp_path / "short" / day).read_bytes()
    assert not (tmp_path / "short" / "embeddings" / f"{TEST_DAYS[1]}.npz").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("steadily", [[], ["--steady"]], ids=["", "steady"])
@pytest.mark.parametrize("model", darkgnn.MODELS)
def test_cuda_embeds_as_the_cpu_does(capsys, tmp_path, short_month, model, steadily):
    """With a learning rate of nothing, so that other random numbers do not matter, the embeddings of the command agree.

    i-darkvec and fixed-gcn draw their weights on the device, or may: what is theirs only has to run.
    """
    for device in ("cpu", "cuda"):
        code, _, err = run(capsys, *short_month, "--model", model, "--epochs", 2, "--learning-rate", 1e-12, *steadily,
                           "--device", device, "--out", tmp_path / device)
        assert code == 0, err
    for day in ("2021-12-04", "2021-12-05"):
        a, b = (embeddings(tmp_path / device, day)[1] for device in ("cpu", "cuda"))
        assert np.isfinite(b).all() and (model in ("i-darkvec", "fixed-gcn") or np.abs(a - b).max() < 1e-3)


# -- --plain -----------------------------------------------------------------------------------------------------------

PLAIN = {**{model: [model] for model in darkgnn.MODELS},
         "gcn-gru steady": ["gcn-gru", "--steady"], "gcn identity": ["gcn", "--no-node-features"],
         "i-gcn-gru identity steady": ["i-gcn-gru", "--no-node-features", "--steady"]}


@pytest.mark.parametrize("model", PLAIN)
def test_plain_and_fast_agree(capsys, tmp_path, firewall, model):
    """--plain gives the default's embeddings up to rounding, on the first test day, and the report's classes."""
    for name, extra in (("plain", ["--plain"]), ("fast", [])):
        code, _, complaint = run(capsys, *firewall, "--model", *PLAIN[model], "--epochs", 2, *extra,
                                 "--out", tmp_path / name)
        assert code == 0, complaint
    a, b = (embeddings(tmp_path / name, TEST_DAYS[0])[1] for name in ("plain", "fast"))
    np.testing.assert_allclose(a, b, rtol=0, atol=3e-5)
    a, b = (report(tmp_path / name)["macro_f1"]["mean"] for name in ("plain", "fast"))
    assert a == pytest.approx(b)


def test_plain_takes_the_flat_files_and_the_default_takes_fast(capsys):
    """--plain runs the flat files' forms, torch's Adam and the plain tree of campaigns; the default runs fast's."""
    assert darkgnn.forms_of(darkgnn.parse_arguments(["--plain"])) == (
        training.Network, torch.optim.Adam, knn.nearest, darkgnn.features.node_features,
        darkgnn.campaigns.spanning_tree)
    assert darkgnn.forms_of(darkgnn.parse_arguments([])) == (
        fast.Network, fast.Adam, fast.nearest, fast.node_features, fast.spanning_tree)


def test_low_memory_and_fast_precision_change_little(capsys, tmp_path, firewall):
    """--low-memory gives the same embeddings; --precision fast those of rougher products, still finite, or the same
    with a line that says why."""
    for name, extra in (("a", []), ("b", ["--low-memory"]), ("c", ["--precision", "fast"])):
        code, _, notes = run(capsys, *firewall, *extra, "--out", tmp_path / name)
        assert code == 0 and ("products stay exact" in notes) == (name == "c" and precision.medium_is_full())
    a, b, c = (embeddings(tmp_path / name, TEST_DAYS[1])[1] for name in "abc")
    np.testing.assert_allclose(a, b, atol=3e-5)
    assert np.isfinite(c).all()
    used = json.loads((tmp_path / "c" / "report.json").read_text())["settings"]["precision"]
    assert used == ("exact" if precision.medium_is_full() else "fast") and ((a == c).all() or used == "fast")


# -- --steady ----------------------------------------------------------------------------------------------------------

STEADY = {**{model: (43, [model]) for model in GRAPH_MODELS}, "features": (37, ["features"]),
          "fixed-gcn": (37 + 128, ["fixed-gcn"]), "i-darkvec": (6, ["i-darkvec"]),
          **{f"{model} identity": (6, [model, "--no-node-features"]) for model in GRAPH_MODELS[1:]}}


@pytest.mark.parametrize("model", STEADY)
def test_steady_runs_with_every_model(capsys, tmp_path, firewall, model):
    """--steady: embeddings of the width that the view has, features beside the model's; a surprise for known hosts."""
    width, arguments = STEADY[model]
    lines = (tmp_path / "ufw.log").read_text()              # host 9.0.0.6 comes on the last day only
    (tmp_path / "ufw.log").write_text("".join(
        line for line in lines.splitlines(keepends=True) if "SRC=9.0.0.6 " not in line or line.startswith("Jan  2")))
    code, printed, complaint = run(capsys, *firewall, "--model", *arguments, "--epochs", 2, "--steady")
    assert code == 0, complaint
    assert f"model {arguments[0]}, " in printed and ", steady, " in printed
    for day, n in zip(TEST_DAYS, (27, 28)):
        z = embeddings(tmp_path / "out", day)[1]
        assert z.shape == (n, width) and np.isfinite(z).all()
    for row in predictions(tmp_path / "out"):
        assert (row["surprise"] == "") == (row["host"] == "9.0.0.6")
        assert row["surprise"] == "" or float(row["surprise"]) >= 0


def test_steady_features_are_the_equations(capsys, tmp_path, firewall):
    """features --steady: the rank-scaled features, standardized, through beyond.steady day after day, and no else."""
    for name, extra in (("rank", ["--steady=rank"]), ("whitened", ["--steady", "whitened"]), ("all", ["--steady"])):
        code, printed, _ = run(capsys, *firewall, "--train-days", 0, "--model", "features", *extra,
                               "--out", tmp_path / name)
        assert code == 0 and (", steady, " if name == "all" else f", steady ({name}), ") in printed
    rows = predictions(tmp_path / "all")
    memory, whitened = steady.new_memory(37), steady.new_memory(37)
    for number, day in enumerate(["2021-12-30", "2021-12-31", *TEST_DAYS]):
        hosts, x = embeddings(tmp_path / "rank", day)
        address = np.array([int.from_bytes(map(int, host.split("."))) for host in hosts])
        x = knn.standardize(torch.from_numpy(x))
        z, surprise, memory = steady.step(memory, x, address, number)
        np.testing.assert_allclose(embeddings(tmp_path / "all", day)[1], z, atol=1e-6)
        today = steady.moments(x, *steady.recall(whitened, address))
        z, _, whitened = steady.follow(whitened, today, x, address, number, f=0.0, weighted=False)
        np.testing.assert_allclose(embeddings(tmp_path / "whitened", day)[1], z, atol=1e-6)
        written = [row["surprise"] for row in rows if row["date"] == day]
        assert written == ["" if value.isnan() else f"{value:.4f}" for value in surprise]
    assert {row["surprise"] for row in predictions(tmp_path / "rank")} == {""}


@pytest.mark.parametrize("model", [["i-gcn"], ["gcn-gru", "--epochs", 3], ["fixed-gcn"]], ids=lambda model: model[0])
def test_joined_features_are_the_steady_features(capsys, tmp_path, firewall, model):
    """Rows are the steady features beside the model's view: each part of one length, their squares adding up to 1."""
    for name, arguments in (("joined", model), ("features", ["features"])):
        code, _, complaint = run(capsys, *firewall, "--model", *arguments, "--steady", "--out", tmp_path / name)
        assert code == 0, complaint
    for day in TEST_DAYS:
        joined, own = (embeddings(tmp_path / name, day)[1] for name in ("joined", "features"))
        part, rest = (np.linalg.norm(half, axis=1) for half in (joined[:, :37], joined[:, 37:]))
        np.testing.assert_allclose(part**2 + rest**2, 1, atol=1e-6)
        np.testing.assert_allclose(part, part[0], atol=1e-6)
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        np.testing.assert_allclose(joined[:, :37] / part[:, None], own, atol=1e-6)


@pytest.mark.parametrize(("model", "width"), [
    (["features"], 37), (["i-gcn"], 43), (["i-gcn", "--no-node-features"], 6), (["fixed-gcn"], 165)])
def test_the_first_day_is_saved_as_it_is_searched(capsys, tmp_path, firewall, model, width):
    """A test day before any host was seen twice works too: neighbours in the file are the day's."""
    code, _, complaint = run(capsys, *firewall, "--steady", "--train-days", 0, "--history", 0, "--model", *model)
    assert code == 0, complaint
    rows = predictions(tmp_path / "out")
    for day in ("2021-12-30", "2021-12-31"):
        x = torch.from_numpy(embeddings(tmp_path / "out", day)[1])
        assert x.shape[1] == width
        of_day = [row for row in rows if row["date"] == day]
        similarity = [float(row["similarity"]) for row in of_day]
        np.testing.assert_allclose(knn.nearest(x, 1)[0][:, 0], similarity, atol=1e-4)
        assert all((row["surprise"] == "") == (day == "2021-12-30") for row in of_day)


@pytest.mark.parametrize("model", ["features", "fixed-gcn"])
def test_what_learns_nothing_does_not_depend_on_the_training_days(capsys, tmp_path, firewall, model):
    """Models without training give the same bytes of a day whichever days before it are test days, and any epochs."""
    for name, extra in (("a", ["--train-days", 0]), ("b", ["--train-days", 3])):
        assert run(capsys, *firewall, "--model", model, "--steady", *extra, "--out", tmp_path / name)[0] == 0
    day = f"embeddings/{TEST_DAYS[1]}.npz"
    assert (tmp_path / "a" / day).read_bytes() == (tmp_path / "b" / day).read_bytes()


def test_fixed_gcn_implies_steady_and_its_seed_counts(capsys, tmp_path, firewall):
    """fixed-gcn with and without --steady is one run; another seed has other weights, but the same features."""
    for name, extra in (("a", []), ("b", ["--steady"]), ("c", ["--seed", 1])):
        assert run(capsys, *firewall, "--model", "fixed-gcn", *extra, "--out", tmp_path / name)[0] == 0
    day = f"embeddings/{TEST_DAYS[1]}.npz"
    assert (tmp_path / "a" / day).read_bytes() == (tmp_path / "b" / day).read_bytes()
    a, c = (embeddings(tmp_path / name, TEST_DAYS[1])[1] for name in "ac")
    direction = [x[:, :37] / np.linalg.norm(x[:, :37], axis=1, keepdims=True) for x in (a, c)]
    np.testing.assert_allclose(*direction, atol=1e-6)
    assert np.abs(a[:, 37:] - c[:, 37:]).max() > 0.01


# -- what a run says and leaves ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("steadily", [[], ["--steady"]], ids=["", "steady"])
def test_several_runs_report_their_deviation(capsys, tmp_path, firewall, steadily):
    """--runs 3 scores three seeds: mean and deviation over runs; files are those of the first seed."""
    code, printed, _ = run(capsys, *firewall, "--runs", 3, *steadily)
    assert code == 0 and "over 3 runs the macro average is" in printed and "seeds 0..2" in printed
    result = report(tmp_path / "out")
    assert len(result["runs"]["macro_f1"]) == 3
    assert result["runs"]["mean"] == pytest.approx(np.mean(result["runs"]["macro_f1"]))
    run(capsys, *firewall, *steadily, "--out", tmp_path / "one")
    for file in ("predictions.csv", f"embeddings/{TEST_DAYS[1]}.npz"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


def test_without_labels_there_are_embeddings_only(capsys, tmp_path, firewall):
    """No --labels: said plainly, embeddings written, no predictions."""
    firewall = [a for a in firewall if a not in ("--labels", tmp_path / "labels.csv")]
    code, printed, _ = run(capsys, *firewall)
    assert code == 0 and "no labels were given: embeddings only" in printed
    assert len(list((tmp_path / "out" / "embeddings").iterdir())) == 2
    assert not (tmp_path / "out" / "predictions.csv").exists()
    assert report(tmp_path / "out")["macro_f1"] == {"mean": None, "std": None}


@pytest.mark.parametrize("runs", [1, 2])
def test_labels_that_score_nothing_say_so(capsys, tmp_path, firewall, runs):
    """Labels of a few hosts only: predictions are written, and the report says why there is no F1."""
    (tmp_path / "labels.csv").write_text("src_ip,label\n9.0.0.0,few\n")
    code, printed, _ = run(capsys, *firewall, "--runs", runs)
    assert report(tmp_path / "out")["macro_f1"]["mean"] is None
    assert code == 0 and "no class has more than 10 active hosts on a test day: nothing to score" in printed
    assert (tmp_path / "out" / "predictions.csv").exists()


def test_an_earlier_runs_files_do_not_stay(capsys, tmp_path, firewall):
    """A run removes what an earlier one left in its folder, and nothing else."""
    run(capsys, *firewall)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    unlabelled = [a for a in firewall if a not in ("--labels", tmp_path / "labels.csv")]
    assert run(capsys, *unlabelled, "--train-days", 3)[0] == 0
    left = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"notes.txt", "report.json", "report.html", f"embeddings/{TEST_DAYS[1]}.npz"}


def test_a_test_day_without_embeddings_is_said(capsys, tmp_path, firewall):
    """gcn on a complete graph has no model for that day: a note names the day, the other days go on."""
    lines = [line.replace("DPT=", "DPT=22 OLD=") if line.startswith("Jan  1") else line for line in firewall_lines()]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    for more in ([], ["--steady"]):
        code, _, notes = run(capsys, *firewall, "--model", "gcn", "--epochs", 2, *more)
        assert code == 0 and "2022-01-01: nothing learned today, every host contacted every port" in notes
        assert [path.name for path in (tmp_path / "out" / "embeddings").iterdir()] == ["2022-01-02.npz"]


def test_quiet_prints_the_report_only(capsys, firewall):
    """--quiet leaves out all lines but those of the report; the notes on standard error stay."""
    code, printed, notes = run(capsys, *firewall, "--quiet")
    _, whole, same_notes = run(capsys, *firewall)
    begins = whole.index("3 nearest neighbours")
    without_time = [re.sub(r"in \S+ s$", "", text.rstrip()) for text in (printed, whole[begins:])]
    assert code == 0 and without_time[0] == without_time[1] and notes == same_notes
    assert "macro average" in printed and notes.count("note:") == notes.count("\n")


def test_mirai_labels_hosts_that_no_list_names(capsys, tmp_path):
    """--mirai: sequence number = destination makes a host Mirai-like unless a list names it; the threshold counts."""
    rows = ["ts,src_ip,dst_ip,dst_port,tcp_seq"]
    for day in range(3):
        for host in range(24):
            for i in range(6):
                sequence = 0x08080800 + i if host < 13 and i < 2 else 12345
                port = [23, 2323, 80][(i + host) % 3]
                rows.append(f"{1638316800 + 86400 * day + i},7.0.0.{host},8.8.8.{i},{port},{sequence}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    (tmp_path / "listed.txt").write_text("7.0.0.0\n")
    (tmp_path / "unknown.csv").write_text("src_ip,label\n7.0.0.1,Unknown\n")
    arguments = ["--input", tmp_path / "t.csv", "--labels", tmp_path / "listed.txt", tmp_path / "unknown.csv",
                 "--train-days", 1, "--model", "features", "--out", tmp_path / "out"]

    def labels(*more):
        assert run(capsys, *arguments, *more)[0] == 0
        return {row["host"]: row["label"] for row in predictions(tmp_path / "out") if row["date"] == "2021-12-02"}
    marked = labels("--mirai")
    assert marked["7.0.0.0"] == "listed" and marked["7.0.0.20"] == "Unknown"
    assert [host for host, label in marked.items() if label == "Mirai-like"] == [f"7.0.0.{i}" for i in range(2, 13)]
    assert set(labels().values()) == {"listed", "Unknown"}
    assert set(labels("--mirai", "--mirai-packets", 3).values()) == {"listed", "Unknown"}
    (tmp_path / "mirai.txt").write_text("7.0.0.2\n")        # the labels' own name for the class is kept
    named = labels("--mirai", "--labels", tmp_path / "mirai.txt")
    assert [host for host, label in named.items() if label == "mirai"] == [f"7.0.0.{i}" for i in range(13)]


# -- as a process ------------------------------------------------------------------------------------------------------

def test_the_command_runs_as_a_script(tmp_path, firewall):
    """`python darkgnn.py` as a process of its own, from another folder."""
    done = subprocess.run([sys.executable, ROOT / "darkgnn.py", *map(str, firewall), "--model", "i-gcn"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "macro average" in done.stdout, done.stderr


def test_a_silent_pipe_can_be_interrupted(tmp_path):
    """Ctrl-C while standard input says nothing ends the command with 130 and one line."""
    command = [sys.executable, "darkgnn.py", "--input", "-", "--year", "2021", *TINY, "--out", tmp_path / "out"]
    def listen():
        signal.signal(signal.SIGINT, signal.SIG_DFL)        # which tests that run in the background do not

    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=listen) as process:
        process.stdin.write("\n".join(firewall_lines(days=3)) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()                    # it is at work
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert said.startswith("input -") and process.stderr.read().endswith("darkgnn: interrupted\n")


def test_nobody_listens(tmp_path, firewall):
    """A reader of the output that leaves early, as `head` does, ends the run with one line, no traceback."""
    command = [sys.executable, ROOT / "darkgnn.py", *map(str, firewall), "--model", "features"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    complaint = process.stderr.read()
    assert process.wait() == 2 and "Broken pipe" in complaint and "Traceback" not in complaint
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert closed.returncode == 0 and "Traceback" not in closed.stderr


@pytest.mark.skipif(not SHARED.exists(), reason="the real traces are not here")
def test_real_firewall_logs(capsys, tmp_path):
    """The real logs: every line accounted for, 35 days over New Year, the features scored, better when steady."""
    scores = []
    for extra in ([], ["--steady"]):
        code, printed, _ = run(capsys, "--input", SHARED / "firewall", "--labels", SHARED / "firewall_labels.csv",
                               "--model", "features", "--out", tmp_path, *extra)
        assert code == 0
        assert "read 5 files, 151,520 packets, 144,814 TCP, 35 days" in printed
        result = report(tmp_path)
        assert result["days"][0]["date"] == "2021-12-12" and result["days"][-1]["date"] == "2022-01-15"
        assert set(result["classes"]) == {"recyber", "zmap"}
        scores.append(result["macro_f1"]["mean"])
    assert 0.4 < scores[0] < 0.8 < scores[1]
