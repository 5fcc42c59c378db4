"""What the tests of paper/ share: the command run in this process, and a trace small enough for it."""

import numpy as np

import darkgnn
from paper import __main__ as command

RUN = (darkgnn, "run")  # what makes a cell, for monkeypatch.setattr
TINY = ["--hidden-width", 16, "--gcn-width", 8, "--embedding-width", 6, "--head-width", 4, "--top-ports", 40,
        "--device", "cpu"]
DAY = 86_400
START = 1_638_316_800  # 2021-12-01


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command, run in this process."""
    code = command.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def write_trace(folder, classes, hosts=16, days=4, seed=0):
    """A trace of `classes` (names) with `hosts` hosts each and as many unlisted ones; returns the packets as rows."""
    rng = np.random.default_rng(seed)
    packets, labels = [], []
    for c, name in enumerate([*classes, None]):
        for h in range(hosts):
            host = f"7.{c}.0.{h}"
            if name is not None:
                labels.append((host, name))
            for day in range(days):
                for _ in range(int(rng.integers(3, 12))):
                    port = int(rng.choice([22, 80 + c, 443, int(rng.integers(1, 65536))]))
                    packets.append((START + day * DAY + int(rng.integers(DAY)), host, f"9.9.9.{rng.integers(9)}", port))
    packets.sort()
    for path, header, rows in (("t.csv", "ts,src_ip,dst_ip,dst_port", packets), ("l.csv", "src_ip,label", labels)):
        (folder / path).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return packets


def without_labels(trace):
    """The fixture's flags but for --labels and its file."""
    at = trace.index("--labels")
    return trace[:at] + trace[at + 2:]


def forbid(monkeypatch, module, name):
    """Make a function of the module's fail."""
    def refuse(*args, **kwargs):
        raise ValueError(f"{name} was called")
    monkeypatch.setattr(module, name, refuse)


def watch(monkeypatch, seen=lambda args: args):
    """Let the cells be made as always; returns a list of seen(args) of each, in order."""
    module, name = RUN
    run_one, calls = getattr(module, name), []

    def watched(args, say, warn):
        calls.append(seen(args))
        return run_one(args, say, warn)
    monkeypatch.setattr(module, name, watched)
    return calls
