"""Runs with a state on a log file a day, written here: for the tests of this room."""

import datetime
import os
import shutil

from report import files
from tests.command.running import TINY, firewall_lines, run

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


def daily_run(tmp_path):
    """arguments(name, *days): the command with the state name.state on the log files of those days, into name/."""
    (tmp_path / "labels.csv").write_text("src_ip,label\n9.0.0.0/24,even\n9.1.0.0/24,odd\n")

    def arguments(name, *days, more=()):
        folder = tmp_path / f"in-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        write_days(folder, days or range(1, 9))
        return ["--input", folder, "--labels", tmp_path / "labels.csv", "--train-days", 3, "--history", 2, *TINY,
                "--quiet", "--state", tmp_path / f"{name}.state", "--out", tmp_path / name, *more]
    return arguments


def files_of(folder):
    """{name: bytes} of what must be equal; report.json and report.html tell of the run, changes.csv has its days."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("report.json", "report.html", "changes.csv")}


def changes_of(folder):
    return (folder / "changes.csv").read_text()


def stopped_after_writes(capsys, monkeypatch, tmp_path, daily, more, moments):
    """Stop the command after so many of its writes, for each of `moments`, and run it again: all must be as in one run.

    Ends where the command has no more writes. Returns (whether the last one was stopped, its moment).
    """
    class Stop(BaseException):
        pass

    days = range(1, 7)
    run(capsys, *daily("calm", *days, more=more))
    expected, write, arguments = files_of(tmp_path / "calm"), os.fsync, daily("cut", *days, more=more)
    for moment in moments:
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        (tmp_path / "cut.state").unlink(missing_ok=True)
        left = [moment]

        def counted(file, left=left):
            write(file)
            left[0] -= 1
            if left[0] == 0:
                raise Stop
        monkeypatch.setattr(files.os, "fsync", counted)
        try:
            run(capsys, *arguments)
        except Stop:
            pass
        finally:
            monkeypatch.setattr(files.os, "fsync", write)
        stopped = left[0] <= 0
        code, _, complaint = run(capsys, *arguments)
        assert code == 0, complaint
        assert files_of(tmp_path / "cut") == expected, moment
        if not stopped:
            break
    return stopped, moment
