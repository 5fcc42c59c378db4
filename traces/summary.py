"""What was read of the traces, and what of them was left out: the record that `packets.read_days` fills.

Imports the standard library.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

SHOWN = 3  # gaps between days, and files of a kind, that are told one by one
THIN = 0.2  # share of a file's records which, left out, is told


@dataclass
class Summary:
    """What `read_days` has read so far; it fills an empty one while it runs."""

    files: int = 0
    formats: Counter = field(default_factory=Counter)  # "table", "firewall log", "capture" -> files
    tcp: int = 0  # packets of the days given out
    days: int = 0  # given out
    days_seen: int = 0  # those and the days begun
    skipped: Counter = field(default_factory=Counter)  # well-formed records out of scope, by kind
    skipped_first: dict = field(default_factory=dict)  # kind -> "file: place" of the first
    rejected: Counter = field(default_factory=Counter)  # broken records left out, by reason
    rejected_first: dict = field(default_factory=dict)  # reason -> "file: place" of the first
    tunnelled: Counter = field(default_factory=Counter)  # packets taken out of tunnels, by the kind of tunnel
    tunnelled_first: dict = field(default_factory=dict)  # kind -> "file: place" of the first
    thin: dict = field(default_factory=dict)  # name of a file much or all of which was left out -> see count_left_out
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

    def count_tunnelled(self, name, kind, place, count=1):
        """Packets of the file `name` came out of a tunnel."""
        self.tunnelled[kind] += count
        self.tunnelled_first.setdefault(kind, f"{name}: {place}")

    def count_left_out(self, name, kept, left_out):
        """The file `name`, read to its end, gave `kept` packets and left out others, a Counter by kind."""
        total = left_out.total()
        if not kept or total >= THIN * (kept + total):
            self.thin[name] = kept, total, left_out.most_common(1)[0][0] if total else ""

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
            noun = "days" if days > 1 else "day"
            lines.append(f"no packets on {days:,} more {noun}, {more[0][0]} to {more[-1][1]}")
        return lines

    @property
    def notes(self):
        """The warnings; what came through tunnels; files of which little or nothing was read; and for each kind of
        broken and of skipped records how many there are and where the first is."""
        lines = self.warnings
        if self.tunnelled:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in self.tunnelled.most_common())
            first = next(iter(self.tunnelled_first.values()))
            lines.append(f"packets in tunnels count as themselves ({kinds}; the first is {first}): "
                         "--no-tunnels skips them")  # fmt: skip
        lines += self._thin_lines()
        lines += [
            f"{n:,} broken records left out, {reason}; the first is {self.rejected_first[reason]}"
            for reason, n in self.rejected.most_common()
        ]
        return lines + [
            f"{n:,} records skipped, {kind}; the first is {self.skipped_first[kind]}"
            for kind, n in self.skipped.most_common()
            if kind in self.skipped_first
        ]

    def _thin_lines(self):
        """A line for each of the first files of which nothing was read, or of which THIN or more was left out."""
        lines = []
        nothing = {name: told for name, told in self.thin.items() if not told[0]}
        for files in (nothing, {name: told for name, told in self.thin.items() if name not in nothing}):
            for name, (kept, total, most) in list(files.items())[:SHOWN]:
                why = f"{total:,} of its {kept + total:,} records were left out" if total else "it holds no records"
                lines.append((f"{name}: " if kept else f"{name}: nothing was read of it: ")
                             + why + (f", most of them {most}" if total else ""))  # fmt: skip
            if (more := len(files) - SHOWN) > 0:
                what = "nothing was read" if files is nothing else f"{THIN:.0%} or more of the records was left out"
                lines.append(f"{more:,} more files of which {what}")
        return lines

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
        for name in ("formats", "skipped", "rejected", "tunnelled"):
            getattr(whole, name).update(getattr(part, name))
        for name in ("skipped_first", "rejected_first", "tunnelled_first", "thin"):
            setattr(whole, name, {**getattr(part, name), **getattr(whole, name)})
        for what, names in part.remarks.items():
            whole.remarks[what] = list(dict.fromkeys([*whole.remarks.get(what, []), *names]))
        whole.finished |= part.finished
        whole.gaps = part.gaps
        whole.days = max(whole.days, part.days)
    return whole
