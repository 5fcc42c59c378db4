"""The files that a run leaves, each written whole or not at all.

    predictions.csv             one row per host and test day, Unknown hosts too
    changes.csv, hosts.csv      of daily runs, see daily/
    campaigns.csv, campaign_hosts.csv   with --campaigns, see daily/campaigns.py
    embeddings/YYYY-MM-DD.npz   hosts (n,) text, embeddings (n, E) float32; numpy.load reads it without pickle
    report.json                 settings, timings, scores
    report.html                 the run to look at, see page.py

Imports numpy only.
"""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np

PREDICTION_COLUMNS = "date,host,label,predicted,vote_share,similarity,surprise"
NAMES = (  # of files in the folder, beside embeddings/
    "report.json", "report.html", "predictions.csv", "changes.csv", "hosts.csv", "campaigns.csv", "campaign_hosts.csv")
DATED = re.compile(rb"\d{4}-\d\d-\d\d,")
UMASK = os.umask(0)  # there is no way to read it but to set it
os.umask(UMASK)


@contextlib.contextmanager
def whole_file(path, mode="w"):
    """Open a file that appears under `path` complete, when the block ends without an error, or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)              # its entry for the new name, should the power fail
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_half_written(folder, names):
    """Remove what `whole_file` left in the folder, when it was killed, of files whose names match the pattern."""
    left = re.compile(rf"\.({names})\.\w{{8}}")
    for path in folder.glob(".*"):
        if left.fullmatch(path.name) and path.is_file():
            path.unlink()


@contextlib.contextmanager
def rows_of_days(path, header, last=None):
    """A CSV of dated rows while a run fills it, day by day: yields a function that takes a day's rows as one text.

    last None: a new file, which appears when the block ends. Else the file grows by each day's rows, which are on the
    disk when the function returns; `last` is the date after which this run goes on ("": none), and what a run that
    was killed left of later days is cut off first. Without any rows no file is made.
    """
    with contextlib.ExitStack() as stack:
        file = None

        def write(text):
            nonlocal file
            if file is None and last is None:
                file = stack.enter_context(whole_file(path, "wb"))
            elif file is None:
                file = stack.enter_context(open(path, "a+b", buffering=0))
                file.truncate(end_of_day(file, last))
            end = file.seek(0, os.SEEK_END)
            rest = memoryview((text if end else f"{header}\n{text}").encode())
            try:
                while rest:
                    rest = rest[file.write(rest):]
                if last is not None:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)                          # a full disk: no part of the day stays
                raise
        yield write


def end_of_day(file, last, step=1 << 20):
    """Where the whole lines that are not dated after `last`, a date, end in a file of rows that begin with a date."""
    start, tail = file.seek(0, os.SEEK_END), b""            # tail: the end of a line that begins before `start`
    while start:
        begin = max(0, start - step)
        file.seek(begin)
        block = file.read(start - begin) + tail
        first = (block.find(b"\n") + 1 or len(block)) if begin else 0
        lines = block[first:].split(b"\n")[:-1]             # whole ones; of the file's last line the end may lack
        for i in reversed(range(len(lines))):
            if not DATED.match(lines[i]) or lines[i][:10] <= str(last).encode():
                return begin + first + sum(len(line) + 1 for line in lines[: i + 1])
        start, tail = begin, block[:first]
    return 0


def check_folder(folder, daily=True):
    """Make the folder that a run writes to. Raises ValueError where files could not be made in it later, and where it
    holds the files of daily runs, which one that is not `daily` would remove."""
    try:
        for path in (folder, folder / "embeddings"):
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path):
                pass
        if taken := [name for name in NAMES if (folder / name).is_dir()]:
            raise IsADirectoryError(f"{taken[0]} is a folder")
    except OSError as error:
        raise ValueError(f"--out {folder}: expected a folder to write to: {error}") from None
    if not daily and (folder / "hosts.csv").exists():
        raise ValueError(f"--out {folder}: expected another folder, this one holds hosts.csv of daily runs, whose "
                         "files a run without --state would remove")


def remove_earlier(folder, last=None):
    """Remove the files that an earlier run left in the folder, so that they are not taken for this one's.

    last, a date: that run goes on after this day, and only what it left of later ones is removed.
    """
    for path in (folder / "embeddings").glob("*.npz"):
        if re.fullmatch(r"\d{4}-\d\d-\d\d", path.stem) and (last is None or path.stem > str(last)):
            path.unlink()
    for path in (folder / name for name in NAMES if last is None):
        path.unlink(missing_ok=True)
    remove_half_written(folder, "|".join(map(re.escape, NAMES)))
    remove_half_written(folder / "embeddings", r"\d{4}-\d\d-\d\d\.npz")


def save_embeddings(path, hosts, z):
    with whole_file(path, "wb") as file:
        np.savez(file, hosts=hosts, embeddings=z.cpu().numpy().astype(np.float32))


def save_json(path, value):
    with whole_file(path) as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")


def prediction_lines(date, hosts, names, labels, predicted, share, similarity, surprise):
    """The day's rows of predictions.csv, as one text. hosts (n,) dotted quads, labels (n,) int64, the next three as in
    scores.Scored; surprise (n,) how much each host changed, nan where that is not known."""
    names, surprise = np.array([quoted(name) for name in names]), surprise.cpu().numpy()
    columns = [np.full(len(hosts), str(date)), hosts, names[labels.cpu().numpy()],
               names[predicted.cpu().numpy()], np.char.mod("%.2f", share.cpu().numpy()),
               np.char.mod("%.4f", similarity.cpu().numpy()),
               np.where(np.isnan(surprise), "", np.char.mod("%.4f", surprise))]
    return "".join(",".join(row) + "\n" for row in zip(*(column.tolist() for column in columns)))


def quoted(name):
    """A CSV field: class names come from the user's files."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def dotted(addresses):
    """IPv4 addresses (n,) uint32 -> (n,) text."""
    octet = np.char.mod("%d", np.arange(256))
    text = octet[addresses >> 24]
    for shift in (16, 8, 0):
        text = np.char.add(np.char.add(text, "."), octet[addresses >> shift & 255])
    return text
