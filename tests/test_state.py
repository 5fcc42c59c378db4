"""Daily runs: a run that is interrupted anywhere and goes on gives the bytes of one that never was."""

import contextlib
import csv
import datetime
import errno
import io
import os
import re
import resource
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
import graph as graphs
import report
import state
import training
from tests.test_darkgnn import ROOT, TINY, error_of, firewall_lines, run

KILLS = int(os.environ.get("KILLS", "5"))
FIRST = datetime.date(2021, 12, 26)


def write_days(folder, days, n_days=8, **changes):
    """A log file for each of `days` (1, 2, ...) out of a trace of n_days days."""
    folder.mkdir(exist_ok=True)
    lines = list(firewall_lines(n_days, first=FIRST, **changes))
    for day in days:
        date = FIRST + datetime.timedelta(day - 1)
        text = "\n".join(line for line in lines if line.startswith(f"{date:%b} {date.day:2} ")) + "\n"
        path = folder / f"ufw-{date}.log"
        path.write_text(text)
        os.utime(path, (1e9 + day, 1e9 + day))


@pytest.fixture
def daily(tmp_path):
    """arguments(state, out, *days): the command on the log files of those days."""
    (tmp_path / "labels.csv").write_text("src_ip,label\n9.0.0.0/24,even\n9.1.0.0/24,odd\n")

    def arguments(name, *days, more=()):
        folder = tmp_path / f"in-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        write_days(folder, days or range(1, 9))
        return ["--input", folder, "--labels", tmp_path / "labels.csv", "--train-days", 3, "--history", 2, *TINY,
                "--quiet", "--state", tmp_path / f"{name}.state", "--out", tmp_path / name, *more]
    return arguments


def files_of(folder):
    """{name: bytes} of what must be equal; report.json holds times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("report.json", "changes.csv")}


def changes_of(folder):
    return (folder / "changes.csv").read_text()


MODELS = {"i-gcn-gru": [], "i-gcn-gru plain": ["--model", "i-gcn-gru", "--no-node-features"],
          "gcn-gru": ["--model", "gcn-gru", "--epochs", 4], "gcn": ["--model", "gcn", "--epochs", 3],
          "gcn plain": ["--model", "gcn", "--no-node-features", "--epochs", 3],
          "gcn-gru plain": ["--model", "gcn-gru", "--no-node-features", "--epochs", 4],
          "i-gcn plain": ["--model", "i-gcn", "--no-node-features"], "i-darkvec": ["--model", "i-darkvec"],
          "features": ["--model", "features"], "i-gcn-gru whitened": ["--whiten", "--feature-scaling", "rank"],
          "i-darkvec whitened": ["--model", "i-darkvec", "--whiten"],
          "gcn-gru whitened": ["--model", "gcn-gru", "--whiten", "--epochs", 4],
          "features whitened": ["--model", "features", "--whiten"],
          "i-gcn-gru whitened and joined": ["--whiten", "--join-features"],
          "gcn whitened and joined": ["--model", "gcn", "--epochs", 3, "--whiten", "--join-features"]}


@pytest.mark.parametrize("model", MODELS)
def test_day_by_day_equals_all_at_once(capsys, tmp_path, daily, model):
    """One run a day leaves the same embeddings, predictions and host table, byte for byte, as one run of all days."""
    assert run(capsys, *daily("whole", more=MODELS[model]))[0] == 0
    for days in ((1,), (2, 3), (4,), (5,), (6, 7), (8,)):
        code, _, complaint = run(capsys, *daily("steps", *days, more=MODELS[model]))
        assert code == 0, complaint
    whole = files_of(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".npz")]) == 5
    assert files_of(tmp_path / "steps") == whole
    rows = list(csv.DictReader((tmp_path / "whole" / "predictions.csv").open()))
    assert any(row["surprise"] for row in rows) == ("whiten" in model)


def test_with_and_without_a_state_are_the_same_model(capsys, tmp_path, daily):
    """--state changes no embedding while no host is forgotten."""
    arguments = daily("with")
    run(capsys, *arguments)
    at = arguments.index("--state")
    run(capsys, *arguments[:at], "--out", tmp_path / "without")
    with_state, without = files_of(tmp_path / "with"), files_of(tmp_path / "without")
    assert with_state.keys() - without.keys() == {"hosts.csv"}
    assert all(with_state[name] == value for name, value in without.items())


def test_killed_anywhere_and_started_again(tmp_path, daily):
    """kill -9 at random moments, then one more run: the bytes of a run that was never interrupted.

    KILLS=30 kills as often. Where a run comes to its end before its kill, the next one starts anew.
    """
    start = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "darkgnn.py", *map(str, daily("calm"))], check=True)
    seconds, expected = time.perf_counter() - start, files_of(tmp_path / "calm")
    rng, command = np.random.default_rng(0), [sys.executable, ROOT / "darkgnn.py", *map(str, daily("killed"))]
    killed = 0
    for _ in range(4 * KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        time.sleep(rng.uniform(0.3, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            assert files_of(tmp_path / "killed") == expected
            shutil.rmtree(tmp_path / "killed")
            (tmp_path / "killed.state").unlink()
        if killed == KILLS:
            break
    assert killed == KILLS
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 or "nothing new" in done.stderr, done.stderr
    assert files_of(tmp_path / "killed") == expected
    assert changes_of(tmp_path / "killed") == changes_of(tmp_path / "calm")
    assert not list(tmp_path.rglob(".killed.state.*"))


def test_what_a_killed_write_leaves_is_removed(capsys, tmp_path, daily):
    """Half-written files, which kill -9 leaves under temporary names, go with the next run."""
    run(capsys, *daily("one", 1, 2, 3, 4, 5))
    left = [tmp_path / ".one.state.abcdefgh", tmp_path / "one" / ".predictions.csv.abcdefgh",
            tmp_path / "one" / "embeddings" / ".2021-12-31.npz.abcdefgh"]
    mine = tmp_path / "one" / ".notes.abcdefgh"
    for path in (*left, mine):
        path.write_text("half")
    run(capsys, *daily("one", 6))
    assert mine.exists() and not any(path.exists() for path in left)


def test_killed_after_any_write(capsys, tmp_path, daily, monkeypatch):
    """The process stops right after each of its writes in turn (day's files, state): the next run makes it good."""
    class Stop(BaseException):
        pass

    run(capsys, *daily("calm"))
    expected, write, arguments = files_of(tmp_path / "calm"), report.os.fsync, daily("cut")
    for moment in range(1, 60):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        (tmp_path / "cut.state").unlink(missing_ok=True)
        left = [moment]

        def counted(file, left=left):
            write(file)
            left[0] -= 1
            if left[0] == 0:
                raise Stop
        monkeypatch.setattr(report.os, "fsync", counted)
        try:
            run(capsys, *arguments)
        except Stop:
            pass
        finally:
            monkeypatch.setattr(report.os, "fsync", write)
        stopped = left[0] <= 0
        code, _, complaint = run(capsys, *arguments)
        assert code == 0 or "nothing new" in complaint, complaint
        assert files_of(tmp_path / "cut") == expected, moment
        if not stopped:
            break
    assert moment > 20 and not stopped


def test_a_full_disk_loses_nothing(tmp_path, daily):
    """Where no file may grow beyond a few kilobytes the run ends with one line, and goes on when there is room."""
    arguments = [sys.executable, ROOT / "darkgnn.py", *map(str, daily("full"))]

    def limit(size):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    subprocess.run([sys.executable, ROOT / "darkgnn.py", *map(str, daily("calm"))], check=True)
    expected = files_of(tmp_path / "calm")
    sizes = [len(expected["predictions.csv"]) - 500, (tmp_path / "calm.state").stat().st_size - 1]
    for size in sorted(sizes, reverse=True):
        done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit(size))
        lines = [line for line in done.stderr.splitlines() if "note:" not in line]
        assert done.returncode == 2 and len(lines) == 1 and "File too large" in lines[0], done.stderr
        for path in (tmp_path / "full").rglob("*.csv"):
            assert path.read_bytes() == b"" or path.read_bytes().endswith(b"\n")
    assert subprocess.run(arguments, capture_output=True).returncode == 0
    assert files_of(tmp_path / "full") == expected and changes_of(tmp_path / "full") == changes_of(tmp_path / "calm")


def test_a_state_that_finds_no_room_is_an_os_error(tmp_path, monkeypatch):
    """Wherever the disk ends while a state is written, OSError comes out, not what PyTorch's writer makes of it."""
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(report, "whole_file", lambda *_: contextlib.closing(Full()))
    content = {"weights": torch.zeros(10_000), "more": torch.ones(5)}
    for Full.room in range(0, 40_000, 1500):
        with pytest.raises(OSError, match="No space left"):
            state.save(tmp_path / "s", content)
    Full.room = 1 << 20
    state.save(tmp_path / "s", content)


def test_hosts_that_the_table_lacks_are_told_apart():
    """`lookup` gives the table's rows and, of hosts before, between and behind its own, NOT_SEEN."""
    table = state.update(state.NO_HOSTS, state.today(state.lookup(state.NO_HOSTS, np.array([5, 9], np.uint32)),
                                                     np.array([5, 9], np.uint32), 7))
    for held, address in ((False, 0), (False, 4), (True, 5), (False, 6), (True, 9), (False, 2**32 - 1)):
        row = state.lookup(table, np.array([address], np.uint32))
        assert (row.first.item(), row.days.item()) == ((7, 1) if held else (-1, 0))
        assert state.lookup(state.NO_HOSTS, np.array([address], np.uint32)).first.item() == -1


def test_changes_are_those_of_the_run(capsys, tmp_path, daily):
    """changes.csv begins anew with a run, but goes on where the run before did not come to its end."""
    run(capsys, *daily("whole"))
    whole = changes_of(tmp_path / "whole")
    assert len(whole.splitlines()) > 3
    run(capsys, *daily("steps", 1, 2, 3, 4, 5, 6))
    first = changes_of(tmp_path / "steps")
    finished = (tmp_path / "steps" / "report.json").read_text()
    (tmp_path / "steps" / "report.json").unlink()           # as if it had been killed before its report
    run(capsys, *daily("steps", 7))
    assert changes_of(tmp_path / "steps").startswith(first)
    assert "2022-01-01" not in finished                     # day 7 is in the report of the second run
    run(capsys, *daily("steps", 8))
    ends = [line for line in whole.splitlines() if line.startswith("2022-01-02")]
    assert changes_of(tmp_path / "steps").splitlines()[1:] == ends and ends
    (tmp_path / "steps" / "report.json").unlink()
    for report_of, last, left in ((None, "2022-01-02", ends), ('{"days": [{"date": 20211231}]}', "2022-01-02", ends),
                                  (None, "2022-01-01", [])):  # a day that the state has not
        if report_of:
            (tmp_path / "steps" / "report.json").write_text(report_of)
        state.begin_changes(tmp_path / "steps", last)
        assert changes_of(tmp_path / "steps").splitlines() == [state.CHANGE_COLUMNS, *left]


def test_a_new_state_clears_its_folder(capsys, tmp_path, daily):
    """What another model left under --out does not stay among the days of a new state, whatever its first test day."""
    arguments = daily("one")
    at = arguments.index("--state")
    run(capsys, *arguments[:at], "--out", tmp_path / "one", "--train-days", 0, "--history", 0)
    (tmp_path / "one" / "notes.txt").write_text("mine")
    assert len(list((tmp_path / "one" / "embeddings").iterdir())) == 8
    run(capsys, *daily("one", 1, 2))
    assert not list((tmp_path / "one" / "embeddings").iterdir())
    run(capsys, *daily("one", 3, 4, 5))
    assert [path.stem for path in sorted((tmp_path / "one" / "embeddings").iterdir())] == ["2021-12-29", "2021-12-30"]
    dates = {line[:10] for line in (tmp_path / "one" / "predictions.csv").read_text().splitlines()[1:]}
    assert dates == {"2021-12-29", "2021-12-30"} and (tmp_path / "one" / "notes.txt").read_text() == "mine"


def test_others_files_beside_a_state_stay(capsys, tmp_path, daily):
    """Hidden files named after the state that a killed write cannot have left are not removed; its own are."""
    names = [".one.state.bak", ".one.state.2026-11-24", ".one.state.abcdefgh"]
    for name in names:
        (tmp_path / name).write_text("mine")
    run(capsys, *daily("one", 1))
    assert [(tmp_path / name).exists() for name in names] == [True, True, False]


def test_a_link_to_a_state_stays_a_link(capsys, tmp_path, daily):
    """The state behind a symbolic link is the one that is locked, read and replaced."""
    (tmp_path / "there").mkdir()
    (tmp_path / "one.state").symlink_to(tmp_path / "there" / "state")
    run(capsys, *daily("one", 1, 2))
    run(capsys, *daily("one", 3))
    assert (tmp_path / "one.state").is_symlink()
    assert state.load(tmp_path / "there" / "state")["last_day"] == "2021-12-28"


def test_two_runs_on_one_state(capsys, tmp_path, daily):
    """While one process holds the state a second gets one line and changes nothing."""
    run(capsys, *daily("one", 1, 2, 3, 4))
    before, kept = (tmp_path / "one.state").read_bytes(), files_of(tmp_path / "one")
    command = [sys.executable, ROOT / "darkgnn.py", *map(str, daily("one"))]
    with state.locked(tmp_path / "one.state"):
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is in use by another run" in done.stderr
    assert (tmp_path / "one.state").read_bytes() == before and files_of(tmp_path / "one") == kept


def test_a_broken_state_is_one_line_and_stays(capsys, tmp_path, daily):
    """Truncated, bit-flipped, foreign, newer: each is one line naming the file, which is left as it is."""
    run(capsys, *daily("one", 1, 2, 3))
    path = tmp_path / "one.state"
    whole, arguments = path.read_bytes(), daily("one")
    rng = np.random.default_rng(0)
    broken = [whole[:n] for n in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    broken += [b"not a state", whole[:200] + b"\0" * 64 + whole[264:]]
    for _ in range(40):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    harmless = 0
    good = state.load(path)
    for content in broken:
        path.write_bytes(content)
        try:
            loaded = state.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected a state that --state wrote") and "\n" not in str(error)
        else:                                               # padding between the parts, or a date in the directory
            harmless += 1
            assert equal(loaded, good)
        assert path.read_bytes() == content
    assert harmless < 20
    path.write_bytes(broken[3])
    assert "truncated, damaged" in error_of(capsys, *arguments) and path.read_bytes() == broken[3]
    torch.save({"weights": torch.zeros(3)}, path)
    assert "another file of PyTorch's" in error_of(capsys, *arguments)
    state.save(path, {**good, "darkgnn_state": state.VERSION + 1})
    assert f"version {state.VERSION + 1}, of a newer darkgnn" in error_of(capsys, *arguments)


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a.nan_to_num(7), b.nan_to_num(7)) if isinstance(a, torch.Tensor) else a == b


def test_other_settings_are_named(capsys, daily):
    """A setting that matters and differs is one line that names it; those of reading and voting may differ."""
    run(capsys, *daily("one", 1, 2, 3, 4))
    for more, expected in ((["--history", 1], "--history 2, got 1"), (["--seed", 3], "--seed 0, got 3"),
                           (["--whiten"], "--whiten False, got True"),
                           (["--model", "i-gcn"], "--model i-gcn-gru, got i-gcn")):
        assert expected in error_of(capsys, *daily("one", 5, more=more))
    assert run(capsys, *daily("one", 5, more=["--neighbors", 5, "--forget-days", 90]))[0] == 0


def test_done_days_are_refused_or_skipped(capsys, tmp_path, daily):
    """Nothing but done days is one line; among later days they are skipped, and their files not opened again."""
    run(capsys, *daily("one", 1, 2, 3, 4, 5))
    before = (tmp_path / "one.state").read_bytes()
    assert "nothing new: no whole day of traffic after 2021-12-30" in error_of(capsys, *daily("one", 2, 3))
    assert (tmp_path / "one.state").read_bytes() == before
    code, printed, _ = run(capsys, *[a for a in daily("one", *range(1, 7)) if a != "--quiet"])
    assert code == 0 and "going on after 2021-12-30, day 5" in printed
    n = len((tmp_path / "one" / "hosts.csv").read_text().splitlines()) - 1
    assert f"read 1 files, 169 packets, 168 TCP, 1 days, {n} hosts remembered; 5 files were read before" in printed
    arguments = daily("one", 6, 7)                          # a file that was touched is read, its done days skipped
    os.utime(tmp_path / "in-one" / "ufw-2021-12-31.log")
    code, printed, _ = run(capsys, *[a for a in arguments if a != "--quiet"])
    assert code == 0 and "168 of days up to 2021-12-31, the last one done" in printed


def test_a_day_without_capture_is_said_and_the_window_goes_on(capsys, daily):
    """The sensor was down on day 5: a note names it, the window runs over the days that exist."""
    run(capsys, *daily("one", 1, 2, 3, 4))
    code, printed, notes = run(capsys, *daily("one", 6, 7))
    assert code == 0 and "no packets from 2021-12-30 to 2021-12-30" in notes and "2 days of embeddings" in printed


def test_today_is_left_for_tomorrow(capsys, tmp_path, daily, monkeypatch):
    """A day that is not over by the clock, in UTC, is not taken in: its state would lack the evening."""
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2021, 12, 31, 13, tzinfo=tz)
    monkeypatch.setattr(datetime, "datetime", Clock)
    code, printed, notes = run(capsys, *daily("one"))
    assert code == 0 and "2021-12-31 is not over yet" in notes and "2 days of embeddings" in printed
    assert state.load(tmp_path / "one.state")["last_day"] == "2021-12-30"
    assert "no day of the input is over yet (UTC)" in error_of(capsys, *daily("two", 6, 7))


def test_memory_is_bounded_by_the_forget_days(capsys, tmp_path):
    """Over 200 days on which every host is new, rows and host table hold those of the last days only."""
    rng = np.random.default_rng(0)
    rows = ["ts,src_ip,dst_ip,dst_port"]
    for day in range(200):
        for host in range(12):
            for i in range(5):
                rows.append(f"{1609459200 + 86400 * day + 60 * i + host},10.{day}.0.{host},8.8.8.8,"
                            f"{rng.integers(1, 9)}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    common = ["--input", tmp_path / "t.csv", "--train-days", 2, *TINY, "--quiet", "--forget-days", 10,
              "--no-node-features"]
    for model in ("i-gcn-gru", "i-darkvec"):
        path = tmp_path / f"{model}.state"
        assert run(capsys, *common, "--model", model, "--state", path, "--out", tmp_path / model)[0] == 0
        kept = state.load(path)
        assert len(kept["hosts"]["address"]) == 11 * 12     # those last seen on one of the last 10 days, and today's
        table = kept["model"]["embedder"]["V" if model == "i-darkvec" else "gcn.first.W"]
        assert len(table) == len(kept["model"]["nodes"]["key"]) <= 11 * 12 + 8 + 5
        assert path.stat().st_size < 200_000


HOSTS = np.array([5, 7, 9, 11], np.uint32)


def test_changes_of_a_day_by_hand():
    """A changed prediction, a labelled host that left its class, a new host with all votes; most surprising first."""
    names = ["Unknown", "a", "b"]
    yesterday = state.today(state.lookup(state.NO_HOSTS, HOSTS[:3]), HOSTS[:3], 738000, np.array([1, 1, 0]),
                            np.array([1, 0.5, 1]), np.array([0.1, 0.1, np.nan]))
    table = state.update(state.NO_HOSTS, yesterday)
    before = state.lookup(table, HOSTS)
    today = state.today(before, HOSTS, 738001, np.array([2, 1, 0, 2]), np.array([1, 1, 1, 1]),
                        np.array([0.1, 0.9, np.nan, np.nan]))
    labels = ["a", "a", "Unknown", "Unknown"]
    lines = state.changes(before, today, labels, names, np.array([0.9, 0.9, 0.9, 0.7]))
    assert lines == ["2021-07-30,0.0.0.5,class,a,a,b,2021-07-29,1.0000",
                     "2021-07-30,0.0.0.11,new,Unknown,,b,,0.7000"]
    many = np.arange(100, 140, dtype=np.uint32)             # 39 labelled hosts stay, one leaves
    was = state.today(state.lookup(state.NO_HOSTS, many), many, 738000, np.ones(40, int), np.ones(40), np.full(40, 0.1))
    before = state.lookup(state.update(state.NO_HOSTS, was), many)
    now = state.today(before, many, 738001, np.ones(40, int), np.ones(40), np.r_[1.3, np.full(39, 0.1)])
    lines = state.changes(before, now, ["a"] * 40, names, np.ones(40), np.r_[7.5, np.full(39, 2.0)])
    assert lines == ["2021-07-30,0.0.0.100,moved,a,0.1000,1.3000,2021-07-29,7.5000"]


def test_the_host_table_by_hand(tmp_path):
    """First and last day, days, last prediction; a host without prediction has empty fields."""
    table = state.update(state.NO_HOSTS, state.today(state.lookup(state.NO_HOSTS, HOSTS), HOSTS, 738000))
    seen = state.today(state.lookup(table, HOSTS[1:2]), HOSTS[1:2], 738002, np.array([1]), np.array([2 / 3]))
    table = state.update(table, seen)
    assert table.address.tolist() == [5, 7, 9, 11] and table.days.tolist() == [1, 2, 1, 1]
    state.write_hosts(tmp_path / "hosts.csv", table, ["Unknown", 'a "b", c'])
    rows = list(csv.DictReader((tmp_path / "hosts.csv").open()))
    assert rows[1] == {"host": "0.0.0.7", "first_seen": "2021-07-29", "last_seen": "2021-07-31", "days": "2",
                       "predicted": 'a "b", c', "vote_share": "0.67"}
    assert rows[0]["predicted"] == rows[0]["vote_share"] == ""


def test_class_names_keep_their_codes_when_the_lists_change():
    """Codes stand for names of the state's list, to which new names are appended."""
    names = ["Unknown", "a", "b"]
    assert state.codes(names, ("Unknown", "b", "c")).tolist() == [0, 2, 3] and names == ["Unknown", "a", "b", "c"]


def test_progress_survives_packing(tmp_path):
    """pack and unpack, through a file's bytes, give a model that trains on exactly as the first does."""
    from tests.test_training import maker, snapshots
    days = snapshots(5, with_features=False)
    first = training.Progress(maker("i-gcn-gru", with_features=False)(), 1)
    for t, day in enumerate(days[:4], 1):
        training.take(first, day, t)
        training.incremental(first, 2)
    state.save(tmp_path / "s", state.pack(first))
    second = state.unpack(state.load(tmp_path / "s"), maker("i-gcn-gru", seed=9, with_features=False)(), 1)
    assert all(np.array_equal(a, b) for a, b in zip(first.nodes, second.nodes))
    for progress in (first, second):
        training.take(progress, days[4], 5)
        training.incremental(progress, 2)
    assert torch.equal(training.embed_day(first), training.embed_day(second))
    assert isinstance(second.past[0].graph, graphs.BipartiteGraph)


def test_the_readme_example_reads_a_state(capsys, tmp_path, daily):
    """The README's lines load a state, embed its last day and name the neighbours of a host."""
    run(capsys, *daily("darkgnn", 1, 2, 3, 4))
    code = re.search(r"```python\n(from argparse.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert re.match(r"9\.0\.0\.0 behaves like( \('9\.[01]\.0\.\d+', -?[\d.]+\)){3}$", done.stdout), done


def test_flags_of_daily_runs(capsys, tmp_path):
    """--state with several seeds, inside the input, --forget-days alone: refused."""
    for arguments, expected in ((["--state", "x", "--runs", "2"], "expected --runs 1"),
                                (["--forget-days", "3"], "--forget-days goes with --state"),
                                (["--input", ".", "--state", "./x.state", "--out", str(tmp_path)],
                                 "--state x.state lies inside --input .")):
        with pytest.raises(SystemExit):
            darkgnn.main(arguments)
        assert expected in capsys.readouterr().err


def test_a_state_that_is_a_folder(capsys, tmp_path, daily):
    """A folder in the place of the state is one line."""
    arguments = daily("one", 1)
    Path(tmp_path / "one.state").mkdir()
    assert "one.state" in error_of(capsys, *arguments)
