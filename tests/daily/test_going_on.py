"""Daily runs: a run that is interrupted anywhere and goes on gives the bytes of one that never was."""

import csv
import datetime
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from daily import changes, state
from tests.command.running import ROOT, error_of, run
from tests.daily.running import changes_of, daily_run, files_of, stopped_after_writes

KILLS = int(os.environ.get("KILLS", "5"))


@pytest.fixture
def daily(tmp_path):
    return daily_run(tmp_path)


MODELS = {"i-gcn-gru": [], "i-gcn-gru identity": ["--no-node-features"],
          "gcn-gru": ["--model", "gcn-gru", "--epochs", 4], "gcn": ["--model", "gcn", "--epochs", 3],
          "gcn identity": ["--model", "gcn", "--no-node-features", "--epochs", 3],
          "gcn-gru identity": ["--model", "gcn-gru", "--no-node-features", "--epochs", 4],
          "i-gcn identity": ["--model", "i-gcn", "--no-node-features"], "i-darkvec": ["--model", "i-darkvec"],
          "features": ["--model", "features"], "features rank": ["--model", "features", "--steady", "rank"],
          "features steady": ["--model", "features", "--steady"], "fixed-gcn steady": ["--model", "fixed-gcn"],
          "i-gcn-gru steady": ["--steady"], "i-gcn-gru identity steady": ["--no-node-features", "--steady"],
          "gcn-gru steady": ["--model", "gcn-gru", "--steady", "--epochs", 4],
          "gcn steady": ["--model", "gcn", "--epochs", 3, "--steady"],
          "i-darkvec steady": ["--model", "i-darkvec", "--steady"],
          "i-gcn-gru plain steady": ["--plain", "--steady"]}


@pytest.mark.parametrize("model", MODELS)
def test_day_by_day_equals_all_at_once(capsys, tmp_path, daily, model):
    """One run a day leaves the same embeddings, predictions, changes and host table, byte for byte, as one run of all.

    changes.csv holds a run's own days: those of the single runs, one after the other, are those of the whole.
    """
    assert run(capsys, *daily("whole", more=MODELS[model]))[0] == 0
    lines = []
    for days in ((1,), (2, 3), (4,), (5,), (6, 7), (8,)):
        code, _, complaint = run(capsys, *daily("steps", *days, more=MODELS[model]))
        assert code == 0, complaint
        lines += changes_of(tmp_path / "steps").splitlines()[1:]
    whole = files_of(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".npz")]) == 5
    assert files_of(tmp_path / "steps") == whole
    assert changes_of(tmp_path / "whole").splitlines() == [changes.CHANGE_COLUMNS, *lines]
    with (tmp_path / "whole" / "predictions.csv").open() as file:
        assert any(row["surprise"] for row in csv.DictReader(file)) == ("steady" in model)


def test_with_and_without_a_state_are_the_same_model(capsys, tmp_path, daily):
    """--state changes no embedding while no host is forgotten."""
    for name, more in (("trained", []), ("steady", ["--model", "fixed-gcn"])):
        arguments = daily(name, more=more)
        run(capsys, *arguments)
        at = arguments.index("--state")
        run(capsys, *arguments[:at], *more, "--out", tmp_path / "without")
        with_state, without = files_of(tmp_path / name), files_of(tmp_path / "without")
        assert with_state.keys() - without.keys() == {"hosts.csv"}
        assert all(with_state[file] == value for file, value in without.items())


def test_a_run_without_a_state_leaves_the_files_of_daily_runs_alone(capsys, tmp_path, daily):
    """Where daily runs write, a run without --state ends with one line, and every file stays."""
    arguments = daily("days", more=["--model", "features"])
    run(capsys, *arguments)
    before, at = files_of(tmp_path / "days"), arguments.index("--state")
    line = error_of(capsys, *arguments[:at], *arguments[at + 2:])
    assert "hosts.csv of daily runs" in line
    assert files_of(tmp_path / "days") == before


# -- killed and resumed ------------------------------------------------------------------------------------------------

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
    assert done.returncode == 0, done.stderr
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


@pytest.mark.parametrize("model", [[], ["--model", "fixed-gcn"]], ids=["i-gcn-gru", "fixed-gcn"])
def test_killed_after_any_write(capsys, tmp_path, daily, monkeypatch, model):
    """The process stops right after each of its writes in turn (day's files, state): the next run makes it good."""
    moments = range(1, 60, 4 if model else 1)
    stopped, moment = stopped_after_writes(capsys, monkeypatch, tmp_path, daily, model, moments)
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


def test_two_runs_on_one_state(capsys, tmp_path, daily):
    """While one process holds the state a second gets one line and changes nothing."""
    run(capsys, *daily("one", 1, 2, 3, 4))
    before, kept = (tmp_path / "one.state").read_bytes(), files_of(tmp_path / "one")
    command = [sys.executable, ROOT / "darkgnn.py", *map(str, daily("one"))]
    with state.locked(tmp_path / "one.state"):
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is in use by another run" in done.stderr
    assert (tmp_path / "one.state").read_bytes() == before and files_of(tmp_path / "one") == kept


# -- the files beside the state ----------------------------------------------------------------------------------------

def test_a_new_state_clears_its_folder(capsys, tmp_path, daily):
    """What another model left under --out does not stay among the days of a new state, whatever its first test day."""
    arguments = daily("one")
    at = arguments.index("--state")
    run(capsys, *arguments[:at], "--out", tmp_path / "one", "--train-days", 0, "--history", 0)
    (tmp_path / "one" / "notes.txt").write_text("mine")
    assert len(list((tmp_path / "one" / "embeddings").iterdir())) == 8
    code, printed, _ = run(capsys, *daily("one", 1, 2))
    assert code == 0 and printed.startswith("nothing embedded yet: test days begin after the state's first 3 days\n")
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
        changes.begin_changes(tmp_path / "steps", last)
        assert changes_of(tmp_path / "steps").splitlines() == [changes.CHANGE_COLUMNS, *left]


# -- which days, which settings ----------------------------------------------------------------------------------------

def test_nothing_new_is_no_error(capsys, tmp_path, daily):
    """Nothing but done days: exit code 0, one line that says so, state and files as they were; with --quiet too."""
    run(capsys, *daily("one", 1, 2, 3, 4, 5))
    before, kept = (tmp_path / "one.state").read_bytes(), files_of(tmp_path / "one")
    told = (tmp_path / "one" / "report.json").read_bytes(), changes_of(tmp_path / "one")
    said = f"nothing new: no whole day of traffic after 2021-12-30, the last one in {tmp_path / 'one.state'}\n"
    for days in ((2, 3), (5,)):
        code, printed, notes = run(capsys, *daily("one", *days))
        assert code == 0 and printed == said and "error" not in notes
    _, printed, _ = run(capsys, *[a for a in daily("one", 5) if a != "--quiet"])
    assert printed.endswith(said) and "going on after 2021-12-30, day 5" in printed and "edges" not in printed
    assert (tmp_path / "one.state").read_bytes() == before and files_of(tmp_path / "one") == kept
    assert ((tmp_path / "one" / "report.json").read_bytes(), changes_of(tmp_path / "one")) == told


def test_done_days_are_skipped(capsys, tmp_path, daily):
    """Among later days the done ones are skipped, and their files not opened again."""
    run(capsys, *daily("one", 1, 2, 3, 4, 5))
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
    code, printed, notes = run(capsys, *daily("one", 6))
    assert code == 0 and printed.startswith("nothing new: no whole day of traffic after 2021-12-30")
    assert "2021-12-31 is not over yet" in notes
    assert "on any day that is over (UTC): nothing to embed" in error_of(capsys, *daily("two", 6, 7))
    assert not (tmp_path / "two.state").exists()


def test_other_settings_are_named(capsys, daily):
    """A setting that matters and differs is one line that names it; those of reading and voting may differ."""
    run(capsys, *daily("one", 1, 2, 3, 4))
    for more, expected in ((["--history", 1], "made with --history 2, got a run with --history 1: expected the same"),
                           (["--seed", 3], "--seed 0, got a run with --seed 3"),
                           (["--history", 0], "--history 2, got a run with --history 0"),
                           (["--steady"], "made without --steady, got a run with --steady memory"),
                           (["--no-node-features"], "without --no-node-features, got a run with --no-node-features:"),
                           (["--model", "i-gcn"], "--model i-gcn-gru, got a run with --model i-gcn")):
        assert expected in error_of(capsys, *daily("one", 5, more=more))
    assert run(capsys, *daily("one", 5, more=["--neighbors", 5, "--forget-days", 90]))[0] == 0


def test_plain_and_fast_runs_go_on_from_one_another(capsys, tmp_path, daily):
    """A state does not say how its numbers were computed: --plain goes on where the default ended, and back."""
    for name, plain in (("mixed", (1, 3)), ("fast", ())):
        for i, days in enumerate(((1, 2, 3), (4, 5), (6,), (7, 8))):
            code, _, complaint = run(capsys, *daily(name, *days, more=["--plain"] if i in plain else []))
            assert code == 0, complaint
    for day in ("2021-12-29", "2022-01-02"):
        a, b = (np.load(tmp_path / name / "embeddings" / f"{day}.npz")["embeddings"] for name in ("mixed", "fast"))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
