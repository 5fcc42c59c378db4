"""Which files to read, in which order, and near what time each one's first line was written.

`find_files` turns paths, folders and "-" into `File` records. A log that lacks the year needs a time near its first
line: a date in the file's name or its modification time gives one (`near`), and one after all its lines (`latest`).

Imports the standard library.
"""

import math
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

DAY = 86_400
DATE = re.compile(r"(?<!\d)(\d{4})([-_.]?)(\d\d)\2(\d\d)(?:\d{4}|\d{6})?(?!\d)")
YEAR = re.compile(r"(?<!\d)(19[7-9]\d|20\d\d)(?!\d)")


def ignore(*_):
    """A `reject` and `warn` for a first look: what it meets is met again."""


@dataclass(eq=False)
class File:
    """One input, and how far it is read."""

    name: str  # for messages
    path: str | None  # None: standard input
    once: bool  # standard input and pipes cannot be opened a second time
    near: float  # a time near the first line's, for logs that lack the year
    latest: float = math.inf  # a day after the file was last changed: no line is later
    first: float = math.inf  # time of the first packet
    skip: Callable = ignore  # (kind, place, count=1): a record out of scope
    reject: Callable = ignore  # (reason, place, count=1): a broken record
    left_out: Counter = field(default_factory=Counter)  # of both, by kind
    chunks: Iterator | None = None  # of columns, while the file is open
    reached: float = -math.inf  # the start of the last chunk, strays apart: no packet of an earlier day is to come
    columns: set = field(default_factory=set)
    identity: tuple | None = None  # path, size, modification time in ns; None where there is no file to come back to


def find_files(paths, summary):
    """The inputs in the order given, folders' files sorted by name, each once."""
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files, seen = [], set()
    for path in map(os.fspath, paths):
        if path == "-":
            found = [path]
        elif os.path.isdir(path):
            found = files_below(path, summary)
        elif os.path.exists(path):
            found = [path]
        else:
            raise ValueError(f"{path}: expected a file or a folder, got neither")
        for name in found:
            about = None if name == "-" else os.stat(name)
            real = about and (about.st_dev, about.st_ino or os.path.realpath(name))  # some file systems number none
            if real in seen:
                summary.remark("given twice and read once", name)
                continue
            seen.add(real)
            if about is None:
                files.append(File("standard input", None, True, _latest(time.time())))
            else:
                once = not stat.S_ISREG(about.st_mode)
                identity = None if once else (os.path.realpath(name), about.st_size, about.st_mtime_ns)
                near, latest = _near(os.path.basename(name), about.st_mtime)
                files.append(File(name, name, once, near, latest, identity=identity))
                summary.bytes_total += 0 if once else about.st_size
    if not files:
        raise ValueError(f"expected files to read, got none in {', '.join(map(str, paths)) or 'an empty list'}")
    if any(file.once for file in files):
        summary.bytes_total = None
    return files


def files_below(path, summary):
    """The files in a folder and in those below it, sorted by name, but hidden ones. Links are followed, no circles."""
    found, entered = [], set()

    def refuse(error):
        raise ValueError(f"{error.filename}: expected a folder that can be read, got: {error.strerror}")

    for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
        entered.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in entered
        )
        for name in sorted(name for name in names if not name.startswith(".")):
            name = os.path.join(folder, name)
            if os.path.isfile(name):
                found.append(name)
            else:
                summary.remark("left out, it is no file", name)
    return found


def not_done(files, summary, known, done):
    """The files without those that are known, unchanged, to hold no packet later than the day `done`."""
    left = []
    for file in files:
        if known.get(file.identity, math.inf) <= done:
            summary.done_files += 1
            summary.finished[file.identity] = known[file.identity]
            if summary.bytes_total is not None:
                summary.bytes_total -= file.identity[1]
        else:
            left.append(file)
    return left


def share_of(files, summary, index, n):
    """Every n-th of the files from the index-th on; what can be read but once is the first share's."""
    kept = [file for i, file in enumerate(files) if (file.once and index == 0) or (not file.once and i % n == index)]
    if summary.bytes_total is not None and len(kept) < len(files):
        summary.bytes_total = sum(os.stat(file.path).st_size for file in kept)
    return kept


def _near(name, modified):
    """A time near that of a log's first line, and one after all of them: from the file's name and modification time."""
    for year, _, month, day in DATE.findall(name):
        try:
            found = datetime(int(year), int(month), int(day), 12, tzinfo=timezone.utc).timestamp()
        except ValueError:  # no date after all
            continue
        if found > 0:
            return found, max(found, modified) + DAY
    years = [int(year) for year in YEAR.findall(name) if int(year) <= time.gmtime().tm_year]
    return middle_of(years[0]) if years else _latest(modified), modified + DAY


def middle_of(year):
    """The middle of a year: every time in it is nearer to this than the same day of another year."""
    start, end = (datetime(y, 1, 1, tzinfo=timezone.utc).timestamp() for y in (year, year + 1))
    return (start + end) / 2


def _latest(limit):
    """The time whose nearest occurrence of a day is the latest one not after `limit`, give or take a day."""
    return limit + DAY - 365.25 / 2 * DAY
