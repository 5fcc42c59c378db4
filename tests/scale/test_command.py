"""The command under torchrun: what it writes is what one process writes, and a trouble of one rank ends them all."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import darkgnn
import scale
from daily import state
from tests.report.test_page import data_of
from tests.scale.ranks import by_ranks, day_of_packets, one_process

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["--hidden-width", "16", "--gcn-width", "8", "--embedding-width", "6", "--head-width", "4", "--device", "cpu",
        "--history", "1", "--train-days", "2", "--top-ports", "12"]
STATEFUL = {"i-gcn-gru": ["--steady"], "gcn-gru": ["--epochs", 2], "gcn": ["--epochs", 2], "features": ["--steady"],
            "fixed-gcn": []}


def torchrun(size, *arguments):
    """The command by torchrun, started."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", size,
               ROOT / "darkgnn.py", *TINY, *arguments]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def command(rank, size, *arguments):
    """The command in this process."""
    assert darkgnn.main([str(part) for part in [*TINY, "--quiet", *arguments]]) == 0


def ends(rank, size, *arguments):
    """The command ends this process, and, where that is an error, the others with it, as torchrun does."""
    scale.leave(darkgnn.main([str(part) for part in [*TINY, *arguments]]))


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Four days of packets in five files and the labels of half of the hosts."""
    folder = tmp_path_factory.mktemp("trace")
    (folder / "trace").mkdir()
    for t in range(4):
        day = day_of_packets(t)
        header = "ts,src_ip,dst_ip,dst_port,pck_len,ttl,t_win,t_ts,tcp_seq"
        rows = [header, *(f"{86400 * t + 86399 * time:.3f},{src},{dst},{port},{length},{ttl},{window},{timestamp},{seq}"
                          for time, src, dst, port, length, ttl, window, timestamp, seq in zip(
                              day.time, map(dotted, day.src), map(dotted, day.dst), day.port, day.length, day.ttl,
                              day.window, day.timestamp, day.seq))]
        for part, lines in enumerate([rows] if t else [rows[:500], [header, *rows[500:]]]):
            (folder / "trace" / f"{t}-{part}.csv").write_text("\n".join(lines) + "\n")
    (folder / "labels.csv").write_text("src_ip,label\n128.0.0.0/27,low\n128.0.0.64/26,high\n")
    return ["--input", folder / "trace", "--labels", folder / "labels.csv"]


def dotted(address):
    return ".".join(str(int(address) >> shift & 255) for shift in (24, 16, 8, 0))


def files_of(folder):
    """{name: bytes} of what must be equal; report.json and report.html tell of the run, changes.csv has the
    days of the last one."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("report.json", "report.html", "changes.csv")}


def test_the_command_gives_the_same_files_by_three_ranks(tmp_path, trace):
    """Scores, predictions, embeddings and what was read are those of one process."""
    arguments = [*trace, "--model", "features", "--steady", "--mirai"]
    job = torchrun(3, *arguments, "--out", tmp_path / "three", "--state", tmp_path / "three.state")
    command(0, 1, *arguments, "--out", tmp_path / "one", "--state", tmp_path / "one.state")
    out, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert out.count("\n1970-01-0") == 4 and out.count("macro average") == 1
    assert errors.count("the trace has no MSS") == 1
    one, three = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "three"))
    assert three["timings"]["ranks"] == 3
    for name in ("macro_f1", "classes", "subnet_agreement", "input", "labels"):
        assert one[name] == three[name], name
    for a, b in zip(one["days"], three["days"]):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for name in ("predictions.csv", "hosts.csv", "changes.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    for path in (tmp_path / "one" / "embeddings").iterdir():
        a, b = (np.load(tmp_path / name / "embeddings" / path.name) for name in ("one", "three"))
        assert (a["hosts"] == b["hosts"]).all()
        np.testing.assert_allclose(a["embeddings"], b["embeddings"], atol=1e-5)
    (header, one), (same, three) = (data_of((tmp_path / name / "report.html").read_text()) for name in ("one", "three"))
    assert header == same
    for name in ("address", "host", "packets", "port", "label", "predicted", "votes"):  # all that is no rounded sum
        assert (one[name] == three[name]).all(), name


def test_a_model_learns_by_two_ranks(tmp_path, trace):
    """i-gcn-gru runs to its report; every host has its row once, and the days count all hosts."""
    job = torchrun(2, *trace, "--model", "i-gcn-gru", "--steady", "--low-memory", "--out", tmp_path)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    result = json.loads((tmp_path / "report.json").read_text())
    assert [row["hosts"] for row in result["days"]] == [one_process(t).n_hosts for t in range(4)]
    for row in result["days"][2:]:
        saved = np.load(tmp_path / "embeddings" / f"{row['date']}.npz")
        assert len(set(saved["hosts"].tolist())) == row["hosts"] == len(saved["embeddings"])
        assert np.isfinite(saved["embeddings"]).all() and 0 < row["accuracy"] < 1


def test_the_model_that_is_not_trained_is_the_same_by_three_ranks(tmp_path, trace):
    """fixed-gcn's predictions and embeddings by three ranks are those of one process."""
    for size in (1, 3):
        by_ranks(size, command, *trace, "--model", "fixed-gcn", "--out", tmp_path / str(size))
    one, three = tmp_path / "1", tmp_path / "3"
    assert (one / "predictions.csv").read_text().count("\n") > 50
    assert [line.split(",")[:4] for line in (one / "predictions.csv").read_text().splitlines()] == \
        [line.split(",")[:4] for line in (three / "predictions.csv").read_text().splitlines()]
    for path in (one / "embeddings").iterdir():
        a, b = (np.load(folder / "embeddings" / path.name) for folder in (one, three))
        np.testing.assert_allclose(a["embeddings"], b["embeddings"], atol=1e-5)


def test_a_rank_that_raises_ends_the_job_with_its_error(tmp_path):
    """A file that one rank alone reads is no trace: its line is shown, and all end within a minute."""
    (tmp_path / "broken").mkdir()
    for i, content in enumerate([b"ts,src_ip,dst_ip,dst_port\n5,1.0.0.1,2.0.0.2,22\n", b"PK\3\4 no trace"]):
        (tmp_path / "broken" / f"{i}.csv").write_bytes(content)
    job = torchrun(2, "--input", tmp_path / "broken", "--out", tmp_path / "none")
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0 and "exitcode  : 2 " in errors
    assert "darkgnn: rank 1: error: " in errors and "got a zip archive; unpack it first" in errors
    assert "darkgnn.py\", line" not in errors                # no traceback of ours


def test_a_rank_that_dies_ends_the_job(tmp_path):
    """Killed in the middle of the month, a rank takes the others with it within a minute."""
    job = torchrun(2, "--synthetic-scale", "0.01", "--out", tmp_path)
    while not job.stdout.readline().startswith("2021-12-02"):
        assert job.poll() is None, job.stderr.read()
    with open(f"/proc/{job.pid}/task/{job.pid}/children") as children:
        ranks = {int(pid): Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children.read().split()}
    victim, = (pid for pid, environment in ranks.items() if b"RANK=1" in environment)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0 and "SIGKILL" in errors and time.monotonic() - killed < 60
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


@pytest.mark.parametrize("model", STATEFUL)
def test_day_by_day_equals_all_at_once_by_two_ranks(model, tmp_path, trace):
    """Two ranks that go on from a state, in a folder that grows, leave the bytes of two that have all days at once."""
    inputs = {"whole": [range(4)], "steps": [[0], [1, 2], [3]]}
    for name, runs in inputs.items():
        (tmp_path / f"in-{name}").mkdir()
        for days in runs:
            copy_days(trace, days, tmp_path / f"in-{name}")
            by_ranks(2, command, "--input", tmp_path / f"in-{name}", *trace[2:], "--model", model, *STATEFUL[model],
                     "--state", tmp_path / f"{name}.state", "--out", tmp_path / name)
    whole = files_of(tmp_path / "whole")
    assert whole.keys() >= {"hosts.csv", "predictions.csv"} and files_of(tmp_path / "steps") == whole
    assert len(state.load(tmp_path / "steps.state")["files"]) == 5  # rank 0 knows what the others read


def copy_days(trace, days, folder):
    for t in days:
        for path in trace[1].glob(f"{t}-*.csv"):
            shutil.copy2(path, folder)


def test_any_number_of_ranks_goes_on_from_what_others_wrote(tmp_path, trace):
    """Days taken by 3, by 1 and by 2 ranks, one state after the other, leave the files of one process."""
    arguments = [*trace[2:], "--model", "features", "--steady", "--mirai"]
    (tmp_path / "in").mkdir()
    for size, days in ((3, [0, 1]), (1, [2]), (2, [3])):
        copy_days(trace, days, tmp_path / "in")
        by_ranks(size, command, "--input", tmp_path / "in", *arguments, "--state", tmp_path / "s.state",
                 "--out", tmp_path / "steps")
    by_ranks(1, command, *trace[:2], *arguments, "--state", tmp_path / "one.state", "--out", tmp_path / "one")
    steps, one = files_of(tmp_path / "steps"), files_of(tmp_path / "one")
    assert steps.keys() == one.keys() and len(one) == 4
    for name in ("predictions.csv", "hosts.csv"):
        assert steps[name] == one[name]


def test_what_changed_is_measured_over_the_hosts_of_all_ranks(tmp_path, trace):
    """changes.csv by three ranks is that of one, with a host that moved more than the others of all ranks did."""
    for size in (1, 3):
        by_ranks(size, command, *trace, "--model", "features", "--mirai", "--state", tmp_path / f"{size}.state",
                 "--out", tmp_path / str(size))
    one, three = (files_of(tmp_path / str(size)) | {"changes": (tmp_path / str(size) / "changes.csv").read_text()}
                  for size in (1, 3))
    assert one["changes"] == three["changes"] and one["hosts.csv"] == three["hosts.csv"]
    assert {line.split(",")[2] for line in one["changes"].splitlines()} == {"change", "class", "moved", "new"}


@pytest.mark.parametrize("trouble", ["in use", "damaged", "--no-node-features, got"])
def test_a_state_that_cannot_be_had_is_one_line_by_two_ranks(trouble, tmp_path, trace, capfd):
    """Held by another run, damaged, of other settings: rank 0 says it, exit code 2, and nothing changes."""
    path, out = tmp_path / "s.state", tmp_path / "out"
    flags = ["--no-node-features"] if "node" in trouble else []
    command(0, 1, *trace, "--state", path, "--out", out, *flags)
    if trouble == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    before, files = path.read_bytes(), files_of(out)
    capfd.readouterr()
    with (state.locked(path) if trouble == "in use" else contextlib.nullcontext(),
          pytest.raises(torch.multiprocessing.ProcessExitedException, match="exit code 2")):
        by_ranks(2, ends, *trace, "--state", path, "--out", out)
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("darkgnn:")]
    assert len(lines) == 1 and "Traceback" not in errors
    assert lines[0].startswith("darkgnn: rank 0: error: ") and trouble in lines[0], errors
    assert path.read_bytes() == before and files_of(out) == files


def test_nothing_new_is_no_error_by_two_ranks(tmp_path, trace, capfd):
    """A second run on the same days ends with exit code 0 by both ranks, and rank 0 says so."""
    for times in (0, 1):
        by_ranks(2, command, *trace, "--model", "features", "--state", tmp_path / "s.state", "--out", tmp_path / "out")
        assert capfd.readouterr().out.count("nothing new") == times


@pytest.mark.parametrize("flags", [["--model", "i-darkvec"], ["--no-node-features"], ["--plain"]], ids=str)
def test_what_one_process_alone_can_do_is_refused(flags, monkeypatch, capsys, tmp_path):
    """One line and exit code 2."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit) as ended:
        darkgnn.main([*flags, "--out", str(tmp_path)])
    assert ended.value.code == 2 and "runs in one process, got 2 from torchrun" in capsys.readouterr().err
