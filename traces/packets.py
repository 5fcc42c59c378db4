"""Traces in, one UTC calendar day of packets out (paper section 3.1).

`read_days` takes files and folders of any mix of tables, firewall logs, JSON lines and captures (tables.py,
syslog.py, jsonlines.py, captures.py say which formats; the first bytes of a file decide), plain or compressed
(streams.py), and yields the days in order, each day's packets sorted by time. Memory: one day's rows, at most 43 bytes
each, and about one chunk per open file. A file is opened when its first packet's day comes, and a day is finished when
no file can add to it any more, so files may overlap and packets may be out of order by SLACK seconds, or within a chunk
by any amount. A few that are early by more than FAR have an unset clock: no day waits for more of them.

Columns of a record, numpy arrays of equal length; the last seven are None where the trace lacks the field:

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
    packets    int64    packets that the row stands for; None where each row is one. Rows are never taken apart

Imports the standard library, numpy, and of this room the parsers captures, jsonlines, syslog and tables, and files,
streams and summary.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import partial

import numpy as np

from traces import captures, jsonlines, syslog, tables
from traces.files import files_below, find_files, ignore, middle_of, not_done, share_of
from traces.streams import HEAD, opened
from traces.summary import Summary, counted, merged

__all__ = ["YEARS", "Packets", "Summary", "counted", "files_below", "merged", "read_days"]

DAY = 86_400
SLACK = 300.0  # seconds by which packets may come late across midnight
YEARS = range(1970, 9999)  # that a log's first line may have
FAR = 365 * DAY  # seconds by which a packet must be early for its clock not to have been set
STRAY = 10, 0.1  # packets of a chunk, and share of them, that may be of days already finished
COLUMNS = {
    "time": np.float64, "src": np.uint32, "dst": np.uint32, "port": np.int32, "length": np.uint16,
    "ttl": np.uint8, "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32, "seq": np.uint32,
    "packets": np.int64,
}  # fmt: skip
REQUIRED = ("time", "src", "dst", "port")


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
    packets: np.ndarray | None = None

    def __post_init__(self):
        for name in COLUMNS:
            column = getattr(self, name)
            if column is None and name in REQUIRED:
                raise ValueError(f"packets need a column {name}, got None")
            if column is not None and np.shape(column) != (len(self),):
                raise ValueError(f"column {name} must have shape ({len(self)},), got {np.shape(column)}")

    def __len__(self):
        """The number of rows: each is `packets` packets, one where that is None."""
        return len(self.time)


def read_days(paths, summary, year=None, strict=False, after=None, known=(), share=(0, 1), tunnels=True):
    """Yield (datetime.date, Packets) per UTC day that has TCP packets, in order; `summary` is filled on the way.

    `paths`: files, folders (all files below them but hidden ones) and "-" for standard input. `year`: that of the
    first line of the first file, for firewall logs that lack it; otherwise a date in a file's name or its
    modification time tells. With `strict` broken records are errors, not counted. `after`, a date: days up to it were
    done in an earlier run; their packets are counted as skipped, and files that `known`, that run's summary.finished,
    tells to hold no later ones are not opened. `share` (i, n): read every n-th file from the i-th on, and standard
    input and pipes if i = 0: n processes together read everything. `tunnels`: packets of captures that are in tunnels
    count as themselves, with a note; without it they are skipped. Raises ValueError, one line that names the file, for
    what cannot be read and for a file that returns to a day already given out, here, with more than a few packets.
    """
    files = find_files(paths, summary)
    for file in files:
        file.skip, file.reject = partial(_skip, file, summary), partial(_reject, file, summary, strict)
    if year is not None:
        _chain_years(files, year)
    before = done = -1 if after is None else _day(after)  # done: the last day given out
    files = share_of(not_done(files, summary, dict(known), before), summary, *share)
    sensors, pending = {}, {}  # pending: day -> chunks
    open_files = [file for file in files if file.once]
    for file in files:
        if file.once:
            file.chunks = _later(file, _chunks(file, summary, sensors, tunnels), summary, before)
            _read_until(file, 0.0, pending, done)
        else:
            _peek(file)
    waiting = sorted((file for file in files if not file.once), key=lambda file: file.first)[::-1]  # earliest last
    while waiting or open_files or pending:
        day = min([*pending, *(np.floor(file.first / DAY) for file in waiting[-1:])], default=np.inf)
        end = (day + 1) * DAY + SLACK
        for file in open_files:
            _read_until(file, end, pending, done)
        while waiting and (waiting[-1].first < end or end == np.inf):
            file = waiting.pop()
            file.chunks = _later(file, _chunks(file, summary, sensors, tunnels), summary, before)
            _read_until(file, end, pending, done)
            open_files.append(file)
        open_files = [file for file in open_files if file.chunks]
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
        summary.tcp += len(packets) if packets.packets is None else int(packets.packets.sum())
        summary.first = float(packets.time[0]) if summary.first is None else summary.first
        summary.last = float(packets.time[-1])
        yield _date(day), packets
    _compare_columns(files, summary)


def _skip(file, summary, kind, place, count=1):
    """Count records of a file that are out of scope."""
    file.left_out[kind] += count
    summary.skipped[kind] += count
    summary.skipped_first.setdefault(kind, f"{file.name}: {place}")


def _reject(file, summary, strict, reason, place, count=1):
    """Count broken records of a file, or raise the error that they are."""
    if strict:
        raise ValueError(f"{file.name}: {place}: {reason}")
    file.left_out[reason] += count
    summary.rejected[reason] += count
    summary.rejected_first.setdefault(reason, f"{file.name}: {place}")


def _date(day):
    return date(1970, 1, 1) + timedelta(int(day))


def _day(when):
    return (when - date(1970, 1, 1)).days


def _later(file, chunks, summary, done):
    """The chunks of a file without the packets of days up to `done`; what it leaves out is counted."""
    last = -1
    for chunk in chunks:
        time = chunk["time"]
        last = max(last, int(time.max() // DAY))
        later = time >= (done + 1) * DAY
        if not later.all():
            count = chunk.get("packets", np.ones(len(time), np.int64))
            summary.skipped[f"of days up to {_date(done)}, the last one done"] += int(count[~later].sum())
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
        time, first = chunk["time"], int(chunk["time"].min() // DAY)
        one_day = first > done and time.max() < (first + 1) * DAY
        days = np.full(len(time), first) if one_day else (time // DAY).astype(np.int64)  # to divide takes a while
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
    """One day's chunks, which are used up, as Packets sorted by time; a column that a chunk lacks is 0 there.

    Where it lacks the column of packets each of its rows is one, and so they are where the whole day lacks it.
    """
    lengths = [len(chunk["time"]) for chunk in chunks]
    day, counted_rows = {}, any("packets" in chunk for chunk in chunks)
    for name, dtype in COLUMNS.items():
        if counted_rows if name == "packets" else name in columns:
            parts = [chunk.pop(name, None) for chunk in chunks]
            lacking = 1 if name == "packets" else 0
            parts = [np.full(n, lacking, dtype) if part is None else part for part, n in zip(parts, lengths)]
            day[name] = np.concatenate(parts, dtype=dtype)
    if (day["time"][1:] < day["time"][:-1]).any():
        order = np.argsort(day["time"], kind="stable")
        for name in day:
            day[name] = day[name][order]
    return Packets(**day)


def _compare_columns(files, summary):
    """Say which fields only some of the files have."""
    files = [file for file in files if file.columns]
    for name in [name for name in COLUMNS if name != "packets"]:  # where it is lacking each row is one packet
        lacking = [file.name for file in files if name not in file.columns]
        if 0 < len(lacking) < len(files):
            some = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            summary.remark(f"no {name} in {len(lacking)} of {len(files)} files, 0 there: {some}")


def _chain_years(files, year):
    """Set near what time each log begins: the first in `year`, the others where the one before ends."""
    if year not in YEARS:
        raise ValueError(f"the year must lie in {YEARS[0]}..{YEARS[-1]}, got {year}")
    near, chained = middle_of(year), False
    for file in files:
        file.near, file.latest = near, np.inf
        if file.once:
            continue
        with opened(file, Summary(), ignore) as (stream, kind):
            span = syslog.log_span(stream, near) if kind in ("firewall log", "filterlog") else None
        if span:
            if not chained and datetime.fromtimestamp(span[0], timezone.utc).year != year:
                raise ValueError(f"{file.name}: expected a leap year for its first line, of 29 February, got {year}")
            near, chained = span[1], True


def _peek(file):
    """Set the time of a file's first packet and its columns, reading as little of it as that takes."""
    limit = HEAD
    while True:
        with opened(file, Summary(), ignore, limit) as (stream, kind):
            try:
                chunk = next(_parse(stream, kind, file, {}), None)
            except ValueError:
                if stream.left or limit > 1 << 23:
                    raise
                chunk = None
            if chunk:
                file.first, file.columns = float(chunk["time"].min()), set(chunk)
            if chunk or stream.left:
                return
        limit *= 16


def _chunks(file, summary, sensors, tunnels):
    """Yield the chunks of a file, and count in `summary` what they leave out."""
    summary.files += 1
    with opened(file, summary, file.reject) as (stream, kind):
        if kind is None:
            summary.remark("empty", file.name)
            return
        summary.formats[kind] += 1
        warn, kept = partial(summary.remark, name=file.name), 0
        tunnelled = partial(summary.count_tunnelled, file.name) if tunnels else None
        for chunk in _parse(stream, kind, file, sensors, file.skip, file.reject, warn, tunnelled):
            kept += int(chunk["packets"].sum()) if "packets" in chunk else len(chunk["time"])
            yield chunk
        summary.count_left_out(file.name, kept, file.left_out)


def _parse(stream, kind, file, sensors, skip=ignore, reject=ignore, warn=ignore, tunnelled=ignore):
    """The chunks of an open input by the parser of its kind. `tunnelled` None: what is in tunnels is skipped."""
    if kind == "capture":
        return captures.read_capture(stream, file.name, skip, reject, warn, tunnelled)
    if kind in ("firewall log", "filterlog"):
        return syslog.read_log(stream, file.name, skip, reject, file.near, file.latest, warn)
    if kind == "JSON lines":
        return jsonlines.read_json(stream, file.name, skip, reject, sensors, file.near, file.latest, warn)
    if kind == "table":
        return tables.read_table(stream, file.name, skip, reject, sensors, warn)
    return iter(())
