"""The command run in this process on a small firewall log that is written here: for the tests of all rooms."""

import datetime
from pathlib import Path

import numpy as np

import darkgnn

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--hidden-width", "16", "--gcn-width", "8", "--embedding-width", "6", "--head-width", "4", "--top-ports", "40",
        "--device", "cpu"]


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command, run in this process."""
    code = darkgnn.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def error_of(capsys, *arguments):
    """The one line of error of a command that must end with exit code 2."""
    code, _, complaint = run(capsys, *arguments)
    lines = [line for line in complaint.splitlines() if not line.startswith("darkgnn: note:")]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("darkgnn: error: "), complaint
    return lines[0]


def nothing_written(folder):
    return not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


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


def firewall_run(folder):
    """Arguments of a run on four days of such lines, with labels; it writes to folder/out."""
    (folder / "ufw.log").write_text("\n".join(firewall_lines()) + "\n")
    (folder / "labels.csv").write_text("src_ip,label\n9.0.0.0/24,\"even, quoted\"\n9.1.0.0/24,odd\n9.1.0.1,Unknown\n")
    return ["--input", folder / "ufw.log", "--labels", folder / "labels.csv", "--year", "2021", "--train-days", "2",
            "--history", "1", *TINY, "--out", folder / "out"]
