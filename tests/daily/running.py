"""Runs with a state on a log file a day, written here: for the tests of this room."""

import datetime
import os
import shutil

from tests.command.running import TINY, firewall_lines

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
    """{name: bytes} of what must be equal; report.json holds times, changes.csv the run's own days."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("report.json", "changes.csv")}


def changes_of(folder):
    return (folder / "changes.csv").read_text()
