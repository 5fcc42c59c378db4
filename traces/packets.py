"""Traces in, one UTC calendar day of packets out (paper section 3.1).

`read_days` takes files and folders of any mix of tables, firewall logs and captures (textlogs.py, captures.py say
which formats; the first bytes of a file decide), plain or gzipped, and yields the days in order, each day's packets
sorted by time. Memory: one day's packets, at most 35 bytes each, and about one chunk per open file. A file is opened
when its first packet's day comes, and a day is finished when no file can add to it any more, so files may overlap
and packets may be out of order by SLACK seconds, or within a chunk by any amount. A few that are early by more than FAR
have an unset clock: no day waits for more of them.

Columns of a record, numpy arrays of equal length; the last six are None where the trace lacks the field:

    time       float64  seconds since 1970 UTC
    src        uint32   source IPv4 address
    dst        uint32   destination IPv4 address; sensor NAMES are numbered 0, 1, ... by first appearance
    port       int32    TCP destination port; 65536 = "other", a port that the trace itself already folded
    length     uint16   IP total length in bytes
    ttl        uint8
    mss        uint16   TCP option MSS, 0 = absent in this packet
    window     uint16
    timestamp  uint32   TCP option timestamp (TSval), 0 = absent in this packet
    seq        uint32   TCP sequence number

Imports the standard library, numpy, and of this project the two parsers textlogs and captures.
"""

import os
import re
import stat
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import partial

import numpy as np

from traces import captures, textlogs

DAY = 86_400
SLACK = 300.0  # seconds by which packets may come late across midnight
YEARS = range(1970, 9999)  # that a log's first line may have
SHOWN = 3  # gaps between days that are told one by one
FAR = 365 * DAY  # seconds by which a packet must be early for its clock not to have been set
STRAY = 10, 0.1  # packets of a chunk, and share of them, that may be of days already finished
PIECE = 1 << 20  # bytes read or unzipped at a time
FEED = 1 << 15  # bytes to unzip at a time: what is lost where they are broken
HEAD = 1 << 16  # bytes that tell a file's format, and in which its first packet is looked for first
COLUMNS = {
    "time": np.float64, "src": np.uint32, "dst": np.uint32, "port": np.int32, "length": np.uint16,
    "ttl": np.uint8, "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32, "seq": np.uint32,
}  # fmt: skip
REQUIRED = ("time", "src", "dst", "port")
PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip", b"7z\xbc\xaf": "7z",
          b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress"}
NETFILTER = re.compile(rb"SRC=\S{1,50} [^\n]{0,500}PROTO=")
SYSLOG = re.compile(  # a time and a host, after an ISO time also a program
    rb"\s*([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* \S+ [^\s:]+:\s)"
)
DATE = re.compile(r"(?<!\d)(\d{4})([-_.]?)(\d\d)\2(\d\d)(?:\d{4}|\d{6})?(?!\d)")
YEAR = re.compile(r"(?<!\d)(19[7-9]\d|20\d\d)(?!\d)")


@dataclass(frozen=True, eq=False)
class Packets:
    """TCP packets as columns, see the file's header. Raises ValueError where their lengths differ."""

    time: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    port: np.ndarray
    length: np.ndarray | None = None
    ttl: np.ndarray | None = None
    mss: np.ndarray | None = None
    window: np.ndarray | None = None
    timestamp: np.ndarray | None = None
    seq: np.ndarray | None = None

    def __post_init__(self):
        for name in COLUMNS:
            column = getattr(self, name)
            if column is None and name in REQUIRED:
                raise ValueError(f"packets need a column {name}, got None")
            if column is not None and np.shape(column) != (len(self),):
                raise ValueError(f"column {name} must have shape ({len(self)},), got {np.shape(column)}")

    def __len__(self):
        return len(self.time)


@dataclass
class Summary:
    """What `read_days` has read so far; it fills an empty one while it runs."""

    files: int = 0
    formats: Counter = field(default_factory=Counter)  # "table", "firewall log", "capture" -> files
    tcp: int = 0  # packets of the days given out
    days: int = 0  # given out
    days_seen: int = 0  # those and the days begun
    skipped: Counter = field(default_factory=Counter)  # well-formed records out of scope, by kind
    rejected: Counter = field(default_factory=Counter)  # broken records left out, by reason
    rejected_first: dict = field(default_factory=dict)  # reason -> "file: place" of the first
    first: float | None = None  # time of the first packet given out, UTC seconds
    last: float | None = None
    bytes_read: int = 0  # of the files as they lie on disk, compressed or not
    bytes_seen: int = 0  # of bytes_read, those when days_seen was counted
    bytes_total: int | None = 0  # None where it cannot be known: standard input and pipes
    gaps: list = field(default_factory=list)  # (first, last) date of days in a row without packets
    remarks: dict = field(default_factory=dict)  # what there is to say -> files of which it is true, if of files
    done_files: int = 0  # left out unread: `read_days` read them in an earlier run
    finished: dict = field(default_factory=dict)  # (path, size, mtime in ns) of a file read to its end -> its last day

    def remark(self, what, name=None):
        """Keep something that the user should know, of a file or in general."""
        self.remarks.setdefault(what, []).extend([] if name is None else [name])

    def count_day(self, day, before):
        """One more day is given out, a date, the next one after `before` or None; days between had no packets."""
        self.days += 1
        one = timedelta(days=1)
        if before and day - before > one:
            self.gaps.append((before + one, day - one))

    @property
    def warnings(self):
        """The remarks as lines: `what`, or `file: what`, or `file and 30 more: what`; and the gaps."""
        lines = []
        for what, names in self.remarks.items():
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            lines.append(f"{names[0]}{more}: {what}" if names else what)
        lines += [f"no packets from {first} to {last}" for first, last in self.gaps[:SHOWN]]
        if more := self.gaps[SHOWN:]:
            days = sum((last - first).days + 1 for first, last in more)
            lines.append(f"no packets on {days:,} more day{'s' * (days > 1)}, {more[0][0]} to {more[-1][1]}")
        return lines

    @property
    def notes(self):
        """The warnings, and for each kind of broken records how many there are and where the first is."""
        return self.warnings + [
            f"{n:,} broken records left out, {reason}; the first is {self.rejected_first[reason]}"
            for reason, n in self.rejected.most_common()
        ]

    @property
    def packets(self):
        """Records seen, of whatever kind."""
        return self.tcp + self.skipped.total() + self.rejected.total()

    @property
    def fraction(self):
        """Share of the input that holds the days_seen, 0..1; None where it cannot be known."""
        return self.bytes_seen / self.bytes_total if self.bytes_total else None


def counted(days, summary, before=None):
    """The days (date, packets) that several readers have together, after the date `before`, counted in `summary`."""
    for today, packets in days:
        summary.count_day(today, before)
        before = today
        yield today, packets


def merged(summaries):
    """The Summary of what several readers, each with its share, have read together; each has counted all days."""
    whole = Summary(bytes_total=None)
    for part in summaries:
        for name in ("files", "tcp", "bytes_read", "done_files"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        for name in ("formats", "skipped", "rejected"):
            getattr(whole, name).update(getattr(part, name))
        whole.rejected_first = {**part.rejected_first, **whole.rejected_first}
        for what, names in part.remarks.items():
            whole.remarks[what] = list(dict.fromkeys([*whole.remarks.get(what, []), *names]))
        whole.finished |= part.finished
        whole.gaps = part.gaps
        whole.days = max(whole.days, part.days)
    return whole


def _ignore(*_):
    """A `reject` and `warn` for a first look: what it meets is met again."""


@dataclass(eq=False)
class _File:
    """One input, and how far it is read."""

    name: str  # for messages
    path: str | None  # None: standard input
    once: bool  # standard input and pipes cannot be opened a second time
    near: float  # a time near the first line's, for logs that lack the year
    latest: float = np.inf  # a day after the file was last changed: no line is later
    first: float = np.inf  # time of the first packet
    reject: Callable = _ignore  # (reason, place, count=1): a broken record
    chunks: Iterator | None = None  # of columns, while the file is open
    reached: float = -np.inf  # the start of the last chunk, strays apart: no packet of an earlier day is to come
    columns: set = field(default_factory=set)
    identity: tuple | None = None  # path, size, modification time in ns; None where there is no file to come back to


def read_days(paths, summary, year=None, strict=False, after=None, known=(), share=(0, 1)):
    """Yield (datetime.date, Packets) per UTC day that has TCP packets, in order; `summary` is filled on the way.

    `paths`: files, folders (all files below them but hidden ones) and "-" for standard input. `year`: that of the
    first line of the first file, for firewall logs that lack it; otherwise a date in a file's name or its
    modification time tells. With `strict` broken records are errors, not counted. `after`, a date: days up to it were
    done in an earlier run; their packets are counted as skipped, and files that `known`, that run's summary.finished,
    tells to hold no later ones are not opened. `share` (i, n): read every n-th file from the i-th on, and standard
    input and pipes if i = 0: n processes together read everything. Raises ValueError, one line that names the file, for
    what cannot be read and for a file that returns to a day already given out, here, with more than a few packets.
    """
    files = _find_files(paths, summary)
    for file in files:
        file.reject = partial(_reject, file.name, summary, strict)
    if year is not None:
        _chain_years(files, year)
    before = done = -1 if after is None else _day(after)  # done: the last day given out
    files = _share_of(_not_done(files, summary, dict(known), before), summary, *share)
    sensors, pending = {}, {}  # pending: day -> chunks
    opened = [file for file in files if file.once]
    for file in files:
        if file.once:
            file.chunks = _later(file, _chunks(file, summary, sensors), summary, before)
            _read_until(file, 0.0, pending, done)
        else:
            _peek(file)
    waiting = sorted((file for file in files if not file.once), key=lambda file: file.first)[::-1]  # earliest last
    while waiting or opened or pending:
        day = min([*pending, *(np.floor(file.first / DAY) for file in waiting[-1:])], default=np.inf)
        end = (day + 1) * DAY + SLACK
        for file in opened:
            _read_until(file, end, pending, done)
        while waiting and (waiting[-1].first < end or end == np.inf):
            file = waiting.pop()
            file.chunks = _later(file, _chunks(file, summary, sensors), summary, before)
            _read_until(file, end, pending, done)
            opened.append(file)
        opened = [file for file in opened if file.chunks]
        summary.days_seen, summary.bytes_seen = summary.days + len(pending), summary.bytes_read
        day = min(pending, default=np.inf)
        if (day + 1) * DAY + SLACK > end or day == np.inf:
            continue  # the file expected on this day had no packet on it
        packets = _join(pending.pop(day), set().union(*(file.columns for file in files)))
        if sensors and share[1] > 1:  # their numbers are this process's own
            raise ValueError(f"several processes read: expected destination addresses, got the name {min(sensors)}")
        if share[1] == 1:  # else others may have packets of a day between
            summary.count_day(_date(day), _date(done) if done >= 0 else None)
        done = day
        summary.tcp += len(packets)
        summary.first = float(packets.time[0]) if summary.first is None else summary.first
        summary.last = float(packets.time[-1])
        yield _date(day), packets
    _compare_columns(files, summary)


def _reject(name, summary, strict, reason, place, count=1):
    """Count broken records of the file `name`, or raise the error that they are."""
    if strict:
        raise ValueError(f"{name}: {place}: {reason}")
    summary.rejected[reason] += count
    summary.rejected_first.setdefault(reason, f"{name}: {place}")


def _date(day):
    return date(1970, 1, 1) + timedelta(int(day))


def _day(when):
    return (when - date(1970, 1, 1)).days


def _not_done(files, summary, known, done):
    """The files without those that are known, unchanged, to hold no packet later than the day `done`."""
    left = []
    for file in files:
        if known.get(file.identity, np.inf) <= done:
            summary.done_files += 1
            summary.finished[file.identity] = known[file.identity]
            if summary.bytes_total is not None:
                summary.bytes_total -= file.identity[1]
        else:
            left.append(file)
    return left


def _later(file, chunks, summary, done):
    """The chunks of a file without the packets of days up to `done`; what it leaves out is counted."""
    last = -1
    for chunk in chunks:
        day = chunk["time"] // DAY
        last = max(last, int(day.max()))
        later = day > done
        if not later.all():
            summary.skipped[f"of days up to {_date(done)}, the last one done"] += int(len(day) - later.sum())
            chunk = {name: column[later] for name, column in chunk.items()}
        if later.any():
            yield chunk
    if file.identity:
        summary.finished[file.identity] = last


def _read_until(file, end, pending, done):
    """Read chunks into `pending`, by day, until one lies wholly behind the time `end` or the file is finished; wholly
    but for a few strays, where the others lie more than FAR behind it.

    A few packets of days up to `done`, which were given out, are rejected; a good part of a chunk is an error.
    """
    while file.chunks and file.reached < end:
        chunk = next(file.chunks, None)
        if chunk is None:
            file.chunks = None
            return
        file.columns |= chunk.keys()
        days = (chunk["time"] // DAY).astype(np.int64)
        late = days <= done
        if late.sum() > max(STRAY[0], STRAY[1] * len(late)):
            raise ValueError(
                f"{file.name}: expected packets in order of time, got {late.sum():,} of {_date(days.min())} after that "
                f"day was finished; sort the file by time"
            )
        if late.any():
            file.reject("of a day already finished", f"a packet of {_date(days.min())}", int(late.sum()))
            chunk, days = {name: column[~late] for name, column in chunk.items()}, days[~late]
            if late.all():
                continue
        few = int(max(STRAY[0], STRAY[1] * len(days)))
        most = np.partition(chunk["time"], few)[few] if few < len(days) else -np.inf
        file.reached = max(chunk["time"].min(), most - FAR)  # else a few from an unset clock would hold up all days
        if days.min() == days.max():
            pending.setdefault(int(days[0]), []).append(chunk)
            continue
        order = np.argsort(days, kind="stable")
        starts = np.flatnonzero(np.diff(days[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            part = {name: column[rows] for name, column in chunk.items()}
            pending.setdefault(int(days[rows[0]]), []).append(part)


def _join(chunks, columns):
    """One day's chunks, which are used up, as Packets sorted by time; a column that a chunk lacks is 0 there."""
    lengths = [len(chunk["time"]) for chunk in chunks]
    day = {}
    for name, dtype in COLUMNS.items():
        if name in columns:
            parts = [chunk.pop(name, None) for chunk in chunks]
            parts = [np.zeros(n, dtype) if part is None else part for part, n in zip(parts, lengths)]
            day[name] = np.concatenate(parts, dtype=dtype)
    if (np.diff(day["time"]) < 0).any():
        order = np.argsort(day["time"], kind="stable")
        for name in day:
            day[name] = day[name][order]
    return Packets(**day)


def _compare_columns(files, summary):
    """Say which fields only some of the files have."""
    files = [file for file in files if file.columns]
    for name in COLUMNS:
        lacking = [file.name for file in files if name not in file.columns]
        if 0 < len(lacking) < len(files):
            some = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            summary.remark(f"no {name} in {len(lacking)} of {len(files)} files, 0 there: {some}")


# ---------------------------------------------------------------------------------------------------------- files


def _find_files(paths, summary):
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
                files.append(_File("standard input", None, True, _latest(time.time())))
            else:
                once = not stat.S_ISREG(about.st_mode)
                identity = None if once else (os.path.realpath(name), about.st_size, about.st_mtime_ns)
                near, latest = _near(os.path.basename(name), about.st_mtime)
                files.append(_File(name, name, once, near, latest, identity=identity))
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


def _share_of(files, summary, index, n):
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
    return _middle(years[0]) if years else _latest(modified), modified + DAY


def _middle(year):
    """The middle of a year: every time in it is nearer to this than the same day of another year."""
    start, end = (datetime(y, 1, 1, tzinfo=timezone.utc).timestamp() for y in (year, year + 1))
    return (start + end) / 2


def _latest(limit):
    """The time whose nearest occurrence of a day is the latest one not after `limit`, give or take a day."""
    return limit + DAY - 365.25 / 2 * DAY


def _chain_years(files, year):
    """Set near what time each log begins: the first in `year`, the others where the one before ends."""
    if year not in YEARS:
        raise ValueError(f"the year must lie in {YEARS[0]}..{YEARS[-1]}, got {year}")
    near, chained = _middle(year), False
    for file in files:
        file.near, file.latest = near, np.inf
        if file.once:
            continue
        with _open(file, Summary(), _ignore) as (stream, kind):
            span = textlogs.netfilter_span(stream, near) if kind == "firewall log" else None
        if span:
            if not chained and datetime.fromtimestamp(span[0], timezone.utc).year != year:
                raise ValueError(f"{file.name}: expected a leap year for its first line, of 29 February, got {year}")
            near, chained = span[1], True


def _peek(file):
    """Set the time of a file's first packet and its columns, reading as little of it as that takes."""
    limit = HEAD
    while True:
        with _open(file, Summary(), _ignore, limit) as (stream, kind):
            try:
                chunk = next(_parse(stream, kind, file, Counter(), _ignore, {}, _ignore), None)
            except ValueError:
                if stream.left or limit > 1 << 23:
                    raise
                chunk = None
            if chunk:
                file.first, file.columns = float(chunk["time"].min()), set(chunk)
            if chunk or stream.left:
                return
        limit *= 16


def _chunks(file, summary, sensors):
    """Yield the chunks of a file, and count in `summary` what they leave out."""
    summary.files += 1
    with _open(file, summary, file.reject) as (stream, kind):
        if kind is None:
            summary.remark("empty", file.name)
        else:
            summary.formats[kind] += 1
        warn = partial(summary.remark, name=file.name)
        yield from _parse(stream, kind, file, summary.skipped, file.reject, sensors, warn)


def _parse(stream, kind, file, skipped, reject, sensors, warn):
    """The chunks of an open input by the parser of its kind."""
    if kind == "capture":
        return captures.read_capture(stream, file.name, skipped, reject)
    if kind == "firewall log":
        return textlogs.read_netfilter(stream, file.name, skipped, reject, file.near, file.latest, warn)
    if kind == "table":
        return textlogs.read_table(stream, file.name, skipped, reject, sensors, warn)
    return iter(())


@contextmanager
def _open(file, summary, reject, limit=sys.maxsize):
    """An input's stream of at most `limit` bytes, unzipped, and its kind; counts the bytes read in `summary`."""
    try:
        if file.path is None and sys.stdin is None:
            raise ValueError("expected an open standard input, got a closed one")
        with nullcontext(sys.stdin.buffer) if file.path is None else open(file.path, "rb") as raw:
            stream = _Stream(_pieces(raw, summary, reject), limit)
            yield stream, _kind(stream.head, file.name)
    except OSError as error:
        raise ValueError(f"{file.name}: {error.strerror or error}") from None


def _kind(head, name):
    """What an input is, by its first bytes: capture, firewall log, table, or None if it is empty."""
    if (len(head) >= 4 or head.strip()) and any(magic.startswith(head[:4]) for magic in captures.MAGICS):
        return "capture"
    packed = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        packed = "tar"
    if packed:
        raise ValueError(f"{name}: expected a trace, plain or gzipped, got a {packed} archive; unpack it first")
    if NETFILTER.search(head) or SYSLOG.match(head):
        return "firewall log"
    if b"\0" in head.split(b"\n", 1)[0] and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{name}: expected a capture or text, got other binary data")
    return "table" if head.strip() else None


class _Stream:
    """Bytes out of pieces: `read(n)` gives n of them, fewer only at the end; `head` shows the first ones.

    cut: whether the end is one of damage, in the midst of a line or record.
    """

    def __init__(self, pieces, limit):
        self.cut = False
        self.pieces, self.piece, self.at, self.left = pieces, b"", 0, limit
        self.head = self.read(HEAD)
        self.piece, self.at, self.left = self.head + self.piece[self.at :], 0, limit

    def read(self, n):
        out, n = [], min(n, self.left)
        while n:
            if self.at == len(self.piece):
                try:
                    self.piece, self.at = next(self.pieces), 0
                except StopIteration as end:
                    self.cut |= bool(end.value)
                    break
            out.append(self.piece[self.at : self.at + n])
            self.at += len(out[-1])
            self.left -= len(out[-1])
            n -= len(out[-1])
        return out[0] if len(out) == 1 else b"".join(out)


def _pieces(raw, summary, reject):
    """Yield the bytes of an open file by pieces, unzipped if gzipped (RFC 1952, of one or several members).

    Returns whether damage ended them in the midst of a member.
    """

    def read(n):
        data = raw.read(n)
        summary.bytes_read += len(data)
        return data

    data, at = read(FEED), 0  # at: its position in the file
    if not data.startswith(b"\x1f\x8b"):
        while data:
            yield data
            data = read(PIECE)
        return False
    unzip, within = zlib.decompressobj(wbits=31), False  # within: whether there are bytes of this member
    while data or (data := read(FEED)):
        if unzip.eof:  # here begins the next member, if not zeros that fill the file up
            rest = data.lstrip(b"\0")
            if rest:
                unzip, within = zlib.decompressobj(wbits=31), False
        else:
            try:
                piece = unzip.decompress(data, PIECE)
            except zlib.error:
                reject("broken gzip data", f"byte {at} or later")
                return within
            rest = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
            if piece:
                within = True
                yield piece
        data, at = rest, at + len(data) - len(rest)
    if not unzip.eof:
        if piece := unzip.flush():
            within = True
            yield piece
        reject("gzip data end too early", f"byte {at}")
    return within and not unzip.eof
