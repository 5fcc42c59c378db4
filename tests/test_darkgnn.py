"""The real command, tiny: on synthetic days, on a few firewall lines written here, on real traces where present."""

import csv
import datetime
import gzip
import json
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import darkgnn
import knn
from traces import synthetic

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
TINY = ["--hidden-width", "16", "--gcn-width", "8", "--embedding-width", "6", "--head-width", "4", "--top-ports", "40",
        "--device", "cpu"]


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command, run in this process."""
    code = darkgnn.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.fixture
def short_month(monkeypatch):
    """A synthetic month of five small days."""
    monkeypatch.setattr(synthetic, "DAYS", 5)
    month = synthetic.month
    monkeypatch.setattr(synthetic, "month", lambda scale, seed, share: month(scale, seed, days=5, share=share))
    return ["--synthetic-scale", "0.01", "--train-days", "3", "--history", "1", *TINY]


def firewall_lines(days=4, hosts=14, ports=(22, 23, 80, 443, 3389), first=datetime.date(2021, 12, 30), packets=6):
    """Log lines of two kinds of hosts, most of whose ports differ, across New Year."""
    rng = np.random.default_rng(0)
    for d in range(days):
        date = first + datetime.timedelta(d)
        for second in range(packets):
            for host in range(2 * hosts):
                kind = host % 2
                port = ports[(second * (1 + kind) + host) % max(1, len(ports) - 2 * kind)]
                yield (f"{date:%b} {date.day:2} 00:{second:02}:{host:02} gw kernel: [1.0] [UFW BLOCK] IN=eth0 OUT= "
                       f"SRC=9.{kind}.0.{host} DST=8.8.8.{rng.integers(1, 9)} LEN={40 + 20 * kind} TOS=0x00 "
                       f"TTL={50 + host} ID=1 PROTO=TCP SPT=1 DPT={port} WINDOW={1024 + kind} RES=0x00 SYN URGP=0")
        yield f"{date:%b} {date.day:2} 12:00:00 gw kernel: SRC=9.9.9.9 DST=8.8.8.8 LEN=30 PROTO=UDP SPT=1 DPT=53 LEN=10"


@pytest.fixture
def firewall(tmp_path):
    (tmp_path / "ufw.log").write_text("\n".join(firewall_lines()) + "\n")
    (tmp_path / "labels.csv").write_text("src_ip,label\n9.0.0.0/24,\"even, quoted\"\n9.1.0.0/24,odd\n9.1.0.1,Unknown\n")
    return ["--input", tmp_path / "ufw.log", "--labels", tmp_path / "labels.csv", "--year", "2021", "--train-days", "2",
            "--history", "1", *TINY, "--out", tmp_path / "out"]


@pytest.mark.parametrize("features", [[], ["--no-node-features"]])
@pytest.mark.parametrize("model", ["gcn", "i-gcn", "gcn-gru", "i-gcn-gru"])
def test_every_model_runs_on_synthetic_days(capsys, tmp_path, short_month, model, features):
    """Embeddings of the test days, predictions and a report come out of every model, with and without features."""
    out = tmp_path / "out"
    code, printed, _ = run(capsys, *short_month, "--model", model, "--epochs", 2, "--out", out, *features)
    assert code == 0
    assert len(re.findall(r"^2021-12-0\d ", printed, re.M)) == 5
    result = json.loads((out / "report.json").read_text())
    assert 0 <= result["macro_f1"]["mean"] <= 1 and result["data"] == "synthetic"
    assert [row["date"] for row in result["days"]] == [f"2021-12-0{i}" for i in range(1, 6)]
    assert sorted(p.name for p in (out / "embeddings").iterdir()) == ["2021-12-04.npz", "2021-12-05.npz"]
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    for row in result["days"][3:]:
        saved = np.load(out / "embeddings" / f"{row['date']}.npz", allow_pickle=False)
        assert saved["embeddings"].shape == (row["hosts"], 6) and saved["embeddings"].dtype == np.float32
        assert saved["hosts"].tolist() == [r["host"] for r in rows if r["date"] == row["date"]]


def test_features_baseline(capsys, tmp_path, short_month):
    """--model features scores the 37 scaled features themselves."""
    code, _, _ = run(capsys, *short_month, "--model", "features", "--out", tmp_path)
    saved = np.load(tmp_path / "embeddings" / "2021-12-05.npz", allow_pickle=False)
    assert code == 0 and saved["embeddings"].shape[1] == 37 and saved["embeddings"].max() == 1


def test_firewall_log_end_to_end(capsys, tmp_path, firewall):
    """Lines without a year, across New Year: days, report, predictions of Unknown hosts too, and what was skipped."""
    code, printed, _ = run(capsys, *firewall, "--model", "i-gcn-gru")
    assert code == 0
    assert "read 1 files, 676 packets, 672 TCP, 4 days, 28 hosts; skipped 4 UDP" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith(("input", "wrote")))
    result = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["date"] for row in result["days"]] == ["2021-12-30", "2021-12-31", "2022-01-01", "2022-01-02"]
    assert {name: row["support"] for name, row in result["classes"].items()} == {"even, quoted": 28, "odd": 26}
    assert set(result["classes"]["odd"]["f1"]) == {"mean", "std"}
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert list(rows[0]) == ["date", "host", "label", "predicted", "vote_share", "similarity", "surprise"]
    assert {row["surprise"] for row in rows} == {""}
    assert len(rows) == 2 * 28
    unknown = [row for row in rows if row["host"] == "9.1.0.1"]
    assert [row["label"] for row in unknown] == ["Unknown"] * 2
    assert {row["predicted"] for row in rows} <= {"even, quoted", "odd", "Unknown"}
    assert all(0.32 <= float(row["vote_share"]) <= 1 and -1 <= float(row["similarity"]) <= 1.0001 for row in rows)


def test_same_seed_same_bytes(capsys, tmp_path, firewall):
    """Two runs of one seed write the same bytes; another seed writes others; gzip changes nothing."""
    packed = tmp_path / "packed.log"
    packed.write_bytes(gzip.compress((tmp_path / "ufw.log").read_bytes()))
    for name, extra in (("a", []), ("b", []), ("c", ["--seed", 1]), ("d", ["--input", packed])):
        assert run(capsys, *firewall, "--quiet", *extra, "--out", tmp_path / name)[0] == 0
    for file in ("predictions.csv", "embeddings/2022-01-01.npz", "embeddings/2022-01-02.npz"):
        a, b, c, d = ((tmp_path / name / file).read_bytes() for name in "abcd")
        assert a == b == d
        assert a != c


def test_tomorrow_changes_nothing_today(capsys, tmp_path, firewall):
    """Cutting the last day off the trace leaves the embeddings of the day before bitwise as they were."""
    lines = (tmp_path / "ufw.log").read_text().splitlines(keepends=True)
    (tmp_path / "short.log").write_text("".join(line for line in lines if not line.startswith("Jan  2")))
    run(capsys, *firewall, "--out", tmp_path / "full")
    run(capsys, *firewall, "--input", tmp_path / "short.log", "--out", tmp_path / "short")
    day = "embeddings/2022-01-01.npz"
    assert (tmp_path / "full" / day).read_bytes() == (tmp_path / "short" / day).read_bytes()
    assert not (tmp_path / "short" / "embeddings" / "2022-01-02.npz").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("model", ["gcn", "i-gcn", "gcn-gru", "i-gcn-gru", "i-darkvec", "features"])
def test_cuda_embeds_as_the_cpu_does(capsys, tmp_path, short_month, model):
    """With a learning rate of nothing, so that other random numbers do not matter, the embeddings of the command agree.

    i-darkvec draws its first vectors on the device: it only has to run.
    """
    for device in ("cpu", "cuda"):
        code, _, err = run(capsys, *short_month, "--model", model, "--epochs", 2, "--learning-rate", 1e-12,
                           "--device", device, "--out", tmp_path / device)
        assert code == 0, err
    for file in (tmp_path / "cpu" / "embeddings").iterdir():
        a, b = (np.load(tmp_path / device / "embeddings" / file.name)["embeddings"] for device in ("cpu", "cuda"))
        assert np.isfinite(b).all() and (model == "i-darkvec" or np.abs(a - b).max() < 1e-3)


def test_days_are_made_ready_one_ahead():
    """While a day is worked on the next one is made ready, and no other; they come in order and the thread ends."""
    made, threads = [], threading.active_count()

    def days():
        for day in range(4):
            made.append(day)
            yield day
    seen = []
    for day in darkgnn.ahead(days()):
        seen.append(day)
        for _ in range(1000):
            if len(made) == min(day + 2, 4):
                break
            time.sleep(0.01)
        time.sleep(0.02)
        assert made == list(range(min(day + 2, 4)))
    assert seen == [0, 1, 2, 3]
    first = darkgnn.ahead(days())
    assert next(first) == 0
    first.close()                                           # who stops early leaves no thread behind
    assert threading.active_count() <= threads


def test_an_error_ahead_comes_in_its_place():
    """The days before the one that fails are all handed out; then its error is raised."""
    def days():
        yield from "ab"
        raise ValueError("c is broken")
    came = darkgnn.ahead(days())
    assert [next(came), next(came)] == ["a", "b"]
    with pytest.raises(ValueError, match="c is broken"):
        next(came)


def test_a_silent_pipe_can_be_interrupted(tmp_path):
    """Ctrl-C while standard input says nothing ends the command with 130 and one line."""
    command = [sys.executable, "darkgnn.py", "--input", "-", "--year", "2021", *TINY, "--out", tmp_path / "out"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        process.stdin.write("\n".join(firewall_lines(days=3)) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()                    # it is at work
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert said.startswith("input -") and process.stderr.read().endswith("darkgnn: interrupted\n")


@pytest.mark.parametrize("model", [["i-gcn"], ["gcn-gru", "--epochs", 3]], ids=lambda model: model[0])
def test_joined_features_are_half_of_the_cosine(capsys, tmp_path, firewall, model):
    """--join-features: the whitened embedding's rows and the whitened features', each of length 1, times 2^-1/2."""
    whitened = [*firewall, "--whiten", "--feature-scaling", "rank"]
    for name, extra in (("joined", [*model, "--join-features"]), ("model", model), ("features", ["features"])):
        code, _, complaint = run(capsys, *whitened, "--model", *extra, "--out", tmp_path / name)
        assert code == 0, complaint
    for day in ("2022-01-01", "2022-01-02"):
        joined, *parts = (np.load(tmp_path / name / "embeddings" / f"{day}.npz")["embeddings"]
                          for name in ("joined", "model", "features"))
        parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
        np.testing.assert_allclose(joined, np.concatenate(parts, 1) / 2**0.5, atol=1e-6)


@pytest.mark.parametrize(("model", "width"), [(["features"], 37), (["i-gcn"], 6), (["i-gcn", "--join-features"], 43)])
def test_the_first_day_is_saved_as_it_is_searched(capsys, tmp_path, firewall, model, width):
    """With --whiten a test day before any host was seen twice is standardized: neighbours in the file are the day's."""
    code, printed, _ = run(capsys, *firewall, "--whiten", "--train-days", 0, "--history", 0, "--model", *model)
    assert code == 0 and printed.count("no host to compare with an earlier day") == 1
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for day in ("2021-12-30", "2021-12-31"):
        x = torch.from_numpy(np.load(tmp_path / "out" / "embeddings" / f"{day}.npz")["embeddings"])
        assert x.shape[1] == width
        similarity = [float(row["similarity"]) for row in rows if row["date"] == day]
        np.testing.assert_allclose(knn.nearest(x, 1)[0][:, 0], similarity, atol=1e-4)


def test_several_runs_report_their_deviation(capsys, tmp_path, firewall):
    """--runs 3 scores three seeds: mean and deviation over runs; files are those of the first seed."""
    code, printed, _ = run(capsys, *firewall, "--runs", 3)
    assert code == 0 and "over 3 runs the macro average is" in printed
    result = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(result["runs"]["macro_f1"]) == 3
    assert result["runs"]["mean"] == pytest.approx(np.mean(result["runs"]["macro_f1"]))
    run(capsys, *firewall, "--out", tmp_path / "one")
    day = "embeddings/2022-01-01.npz"
    assert (tmp_path / "out" / day).read_bytes() == (tmp_path / "one" / day).read_bytes()


def test_without_labels_there_are_embeddings_only(capsys, tmp_path, firewall):
    """No --labels: said plainly, embeddings written, no predictions."""
    firewall = [a for a in firewall if a not in ("--labels", tmp_path / "labels.csv")]
    code, printed, _ = run(capsys, *firewall)
    assert code == 0 and "no labels were given: embeddings only" in printed
    assert len(list((tmp_path / "out" / "embeddings").iterdir())) == 2
    assert not (tmp_path / "out" / "predictions.csv").exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["macro_f1"] == {"mean": None, "std": None}


@pytest.mark.parametrize("runs", [1, 2])
def test_labels_that_score_nothing_say_so(capsys, tmp_path, firewall, runs):
    """Labels of a few hosts only: predictions are written, and the report says why there is no F1."""
    (tmp_path / "labels.csv").write_text("src_ip,label\n9.0.0.0,few\n")
    code, printed, _ = run(capsys, *firewall, "--runs", runs)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["macro_f1"]["mean"] is None
    assert code == 0 and "no class has more than 10 active hosts on a test day: nothing to score" in printed


def test_an_earlier_runs_files_do_not_stay(capsys, tmp_path, firewall):
    """A run removes what an earlier one left in its folder, and nothing else."""
    run(capsys, *firewall)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    unlabelled = [a for a in firewall if a not in ("--labels", tmp_path / "labels.csv")]
    assert run(capsys, *unlabelled, "--train-days", 3)[0] == 0
    left = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"notes.txt", "report.json", "embeddings/2022-01-02.npz"}


def test_a_folder_that_cannot_be_written_is_refused_at_once(capsys, tmp_path, firewall):
    """--out that is a file, or holds a folder in the place of a file, ends the run before anything is read."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    for out in ("file", "taken", "file/below"):
        assert "expected a folder to write to" in error_of(capsys, *firewall, "--out", tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_training_that_diverges_is_one_line(capsys, tmp_path, firewall):
    """Embeddings that are no numbers are never written: the line names the day and the flag."""
    line = error_of(capsys, *firewall, "--learning-rate", "1e30", "--epochs", 3)
    assert "training diverged" in line and "--learning-rate" in line
    assert nothing_written(tmp_path / "out")


def test_a_test_day_without_embeddings_is_said(capsys, tmp_path, firewall):
    """gcn on a complete graph has no model for that day: a note names the day, the other days go on."""
    lines = [line.replace("DPT=", "DPT=22 OLD=") if line.startswith("Jan  1") else line for line in firewall_lines()]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    code, _, notes = run(capsys, *firewall, "--model", "gcn", "--epochs", 2)
    assert code == 0 and "2022-01-01: nothing learned today, every host contacted every port" in notes
    assert [path.name for path in (tmp_path / "out" / "embeddings").iterdir()] == ["2022-01-02.npz"]


def test_quiet_prints_the_report_only(capsys, firewall):
    """--quiet leaves out the line per day."""
    code, printed, _ = run(capsys, *firewall, "--quiet")
    assert code == 0 and "macro average" in printed and "2021-12-30  " not in printed


def error_of(capsys, *arguments):
    code, _, complaint = run(capsys, *arguments)
    lines = [line for line in complaint.splitlines() if not line.startswith("darkgnn: note:")]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("darkgnn: error: "), complaint
    assert "Traceback" not in complaint
    return lines[0]


def nothing_written(folder):
    return not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


TROUBLES = {
    "too few days": (dict(days=2), r"2 days of traffic, expected at least 3: --train-days 2"),
    "no host after the filter": (dict(packets=4), r"no host sends 5 TCP packets or more on any day"),
    "one port only": (dict(ports=(22,)), r"no negative edges can be drawn on the days to learn from: one port only"),
    "one host only": (dict(hosts=1), None),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_hopeless_traces_are_one_line(capsys, tmp_path, firewall, trouble):
    """Each trace that cannot be embedded ends with exit code 2 and one line that says why; nothing is written."""
    changes, expected = TROUBLES[trouble]
    lines = list(firewall_lines(**changes))
    if trouble == "one host only":
        lines = [line.replace("SRC=9.1.0.1", "SRC=9.0.0.0") for line in lines]
        expected = "no negative edges can be drawn on the days to learn from: one host only"
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    assert re.search(expected, error_of(capsys, *firewall))
    assert nothing_written(tmp_path / "out")


def test_fewer_days_than_the_window(capsys, tmp_path, firewall):
    """A window longer than the trace is one line naming --history."""
    line = error_of(capsys, *firewall, "--history", 6)
    assert "4 days of traffic, expected at least 7" in line and "--history + 1 = 7 days" in line
    assert nothing_written(tmp_path / "out")


def test_no_tcp_at_all(capsys, tmp_path, firewall):
    """A trace of UDP only says that there is nothing to embed."""
    lines = [line for line in firewall_lines() if "PROTO=UDP" in line]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    line = error_of(capsys, *firewall)
    assert re.search(r"no TCP packets over IPv4 in the input: nothing to embed; \d+ UDP$", line)


def test_gcn_gru_without_negatives_on_its_training_days(capsys, tmp_path, firewall):
    """Complete graphs on the training days alone: one line names the day on which nothing could be learned."""
    lines = [line if line.startswith("Jan") else line.replace("DPT=", "DPT=22 OLD=") for line in firewall_lines()]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    line = error_of(capsys, *firewall, "--model", "gcn-gru", "--epochs", 1)
    assert "2021-12-31: gcn-gru learned nothing" in line and "on the training days" in line


def test_nothing_but_broken_records_is_told_with_their_place(capsys, tmp_path):
    """A table of which no line can be read: the one line says how many were broken, how and where the first is."""
    (tmp_path / "t.csv").write_text("ts,src,dst,dport\n" + "soon,1.2.3.4,5.6.7.8,9\n" * 7)
    line = error_of(capsys, "--input", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert line.endswith(f"nothing to embed; 7 broken records, bad time: {tmp_path / 't.csv'}: line 2")


def test_broken_records_are_noted_even_when_quiet(capsys, tmp_path, firewall):
    """--quiet keeps the note that says what was left out and where the first is."""
    with (tmp_path / "ufw.log").open("a") as file:
        file.write(next(firewall_lines()).replace("SRC=9", "SRC=999") + "\n")
    code, _, notes = run(capsys, *firewall, "--quiet")
    assert code == 0 and "note: 1 broken records left out, bad source address; the first is" in notes


def test_nobody_listens(tmp_path, firewall):
    """A reader of the output that leaves early, as `head` does, ends the run with one line, no traceback."""
    command = [sys.executable, ROOT / "darkgnn.py", *map(str, firewall)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    complaint = process.stderr.read()
    assert process.wait() == 2 and "Broken pipe" in complaint and "Traceback" not in complaint
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert closed.returncode == 0 and "Traceback" not in closed.stderr


def test_a_missing_file_is_named(capsys, tmp_path):
    """An input or a label file that does not exist is one line with its name."""
    assert "nowhere.log" in error_of(capsys, "--input", tmp_path / "nowhere.log", "--out", tmp_path / "out")
    (tmp_path / "a.log").write_text("\n".join(firewall_lines()))
    arguments = ["--input", tmp_path / "a.log", "--labels", tmp_path / "none.csv", "--out", tmp_path / "out"]
    assert "none.csv" in error_of(capsys, *arguments)
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("arguments, expected", [
    (["--train-days", "-1"], "--train-days: expected a whole number, 0 or more, got '-1'"),
    (["--learning-rate", "nan"], "--learning-rate: expected a positive number, got 'nan'"),
    (["--runs", "0"], "--runs: expected a positive whole number"),
    (["--model", "gat"], "--model: invalid choice: 'gat'"),
    (["--model", "gcn-gru", "--train-days", "5"], "expected --train-days > 5, got 5"),
    (["--model", "features", "--no-node-features"], "does not go with --no-node-features"),
    (["--join-features"], "--join-features goes with --whiten and a graph model that has node features"),
    (["--join-features", "--whiten", "--model", "features"], "--join-features goes with --whiten"),
    (["--labels", "x.csv"], "--labels, --mirai, --year and --strict go with --input"),
    (["--mirai-packets", "3"], "--mirai-packets goes with --mirai"),
    (["--hidden-width", "1000000000000"], "--hidden-width: expected a whole number in 1..65536"),
    (["--seed", str(2**64)], "--seed and --runs: expected seeds below 2^32"),
    (["--input", ".", "--out", "./out"], "--out out lies inside --input ."),
])
def test_bad_flags_exit_with_2_and_say_what_was_expected(capsys, arguments, expected):
    """A flag that makes no sense is refused before anything is read."""
    with pytest.raises(SystemExit) as stop:
        darkgnn.main(arguments)
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and expected in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize(("error", "expected"), [
    (MemoryError(), True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"), True),
    (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    (RuntimeError("The tensor has a non-zero number of elements, but its data is not allocated yet."), False)])
def test_a_lack_of_memory_is_told_from_other_errors(error, expected):
    """What PyTorch says when memory does not suffice, and what merely speaks of memory."""
    assert bool(darkgnn.lacks_memory(error)) == expected


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
        with (tmp_path / "out" / "predictions.csv").open() as file:
            return {row["host"]: row["label"] for row in csv.DictReader(file) if row["date"] == "2021-12-02"}
    marked = labels("--mirai")
    assert marked["7.0.0.0"] == "listed" and marked["7.0.0.20"] == "Unknown"
    assert [host for host, label in marked.items() if label == "Mirai-like"] == [f"7.0.0.{i}" for i in range(2, 13)]
    assert set(labels().values()) == {"listed", "Unknown"}
    assert set(labels("--mirai", "--mirai-packets", 3).values()) == {"listed", "Unknown"}
    (tmp_path / "mirai.txt").write_text("7.0.0.2\n")        # the labels' own name for the class is kept
    named = labels("--mirai", "--labels", tmp_path / "mirai.txt")
    assert [host for host, label in named.items() if label == "mirai"] == [f"7.0.0.{i}" for i in range(13)]


def test_as_many_files_may_be_open_as_the_system_lets(firewall):
    """The soft limit of open files, which many sensors' files would meet, becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, before[1]), before[1]))
    try:
        args = darkgnn.parse_arguments([str(a) for a in firewall])
        darkgnn.open_input(args, darkgnn.new_summary(args))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_command_runs_as_a_script(tmp_path, firewall):
    """`python darkgnn.py` as a process of its own, from another folder."""
    done = subprocess.run([sys.executable, ROOT / "darkgnn.py", *map(str, firewall), "--model", "i-gcn"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "macro average" in done.stdout, done.stderr


@pytest.mark.skipif(not SHARED.exists(), reason="the real traces are not here")
def test_real_firewall_logs(capsys, tmp_path):
    """The real logs: every line accounted for, 35 days over New Year, the features scored."""
    code, printed, _ = run(capsys, "--input", SHARED / "firewall", "--labels", SHARED / "firewall_labels.csv",
                           "--model", "features", "--out", tmp_path)
    assert code == 0
    assert "read 5 files, 151,520 packets, 144,814 TCP, 35 days" in printed
    result = json.loads((tmp_path / "report.json").read_text())
    assert result["days"][0]["date"] == "2021-12-12" and result["days"][-1]["date"] == "2022-01-15"
    assert set(result["classes"]) == {"recyber", "zmap"} and 0.4 < result["macro_f1"]["mean"] < 0.8
