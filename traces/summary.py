"""What was read of the traces, and what of them was left out: the record that `packets.read_days` fills.

Imports the standard library.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

SHOWN = 3  # gaps between days that are told one by one


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
