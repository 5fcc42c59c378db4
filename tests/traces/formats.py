"""docs/formats.md out of the tests' own inputs: `python -m tests.traces.formats` writes it, a test compares.

Each test module of a family of formats keeps FORMATS, a list of (format, example, note); its tests read the examples.
"""

import sys
from pathlib import Path

from tests.traces import test_capture_cases, test_jsonlines, test_syslog, test_tables
from traces.records import COUNTS, NAMES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
START = """# What is read

The content of a file tells its format, not its name. Text is UTF-8, or UTF-16 with a byte order mark. This page is
written by `python -m tests.traces.formats` from the inputs of the tests.
"""
TABLES = """## Tables

A header names the columns; which names are known stands below. Blanks, tabs, commas, semicolons or bars between the
fields, quoted or not; a header that comes again, with the same columns or others, is a header. Rows that are no TCP
over IPv4 are counted by kind; a broken one is counted with its line and the text at fault.
"""
LOGS = """## Firewall logs

Lines of Linux netfilter (iptables, nftables, UFW) and of pfSense's or OPNsense's `filterlog`, through any logger, mixed
line by line. A time without a year takes it from the file's name or the file's time (`--year` says it); without an
offset it is UTC. `message repeated 7 times: [...]` and `last message repeated 7 times` are 7 packets more; a packet
logged under two prefixes, as UFW AUDIT and BLOCK, is one; a line that ends inside a number is broken. A log without any
time (`dmesg` without `-T`) is refused. In place of `...` stands the rest of the line, as in the first one.
"""
OBJECTS = """## JSON lines

One object a line; names as in tables, nested ones joined by dots. What stands around an object is passed over.
"""
CAPTURES = """## Captures and compression

The first bytes tell the format. Everything may be compressed, and come through a pipe (`-`).
"""
COLUMNS = """## Names of columns

Upper and lower case, blanks, `-` and `_` are the same. The first name counts.

| column | names |
|---|---|
"""
END = """
A row that stands for many packets is that many; its length is bytes / packets. A date and a time of day in two columns
(`date`, `time`) are joined, unless a time stamp beside them agrees. Times are seconds since 1970, or milli-, micro- or
nanoseconds, told by their size; or dates: year first, or with the month's name, or day and month in an order that a day
above 12 tells. Without an offset they are UTC; abbreviations of zones (CEST) are not applied, with a note.
"""
SECTIONS = [(TABLES, test_tables.FORMATS), (LOGS, test_syslog.FORMATS), (OBJECTS, test_jsonlines.FORMATS),
            (CAPTURES, test_capture_cases.FORMATS)]
ROLES = {"time": "time", "src": "source", "dst": "destination", "port": "destination port", "proto": "protocol",
         "length": "IP length", "ttl": "TTL", "mss": "MSS", "window": "window", "timestamp": "TCP timestamp",
         "seq": "sequence number", "ethtype": "Ethernet type", "direction": "direction"}  # fmt: skip


def page():
    """The page's text."""
    parts = [START]
    for about, formats in SECTIONS:
        one_line = not any("\n" in example for _, example, _ in formats)
        parts += [about, as_table(formats) if one_line else as_blocks(formats)]
    names = "".join(f"| {ROLES[role]} | {listed(aliases.split())} |\n" for role, aliases in NAMES.items())
    counts = ", ".join(f"`{name}`" + (f" (`{size}`)" if size else "") for name, size in COUNTS.items())
    return "\n".join(parts) + "\n" + COLUMNS + names + f"| packets of a row (and their bytes) | {counts} |\n" + END


def listed(names):
    """Names as code, between commas."""
    return ", ".join(f"`{name}`" for name in names)


def as_table(formats):
    """A row for each format; of lines that end like the first, only the beginning."""
    end, rows = formats[0][1][-150:], []
    for name, example, note in formats:
        short = example.removesuffix(end) + "..." if rows and example.endswith(end) else example
        rows.append((name, short.replace("|", "\\|"), note))
    return "| format | example | note |\n|---|---|---|\n" + "".join(
        f"| {name} | `{example}` | {note} |\n" for name, example, note in rows
    )


def as_blocks(formats):
    """Each format's lines as they stand."""
    return "\n".join(
        f"**{name}**{f' ({note})' if note else ''}\n\n```text\n{example.strip()}\n```\n"
        for name, example, note in formats
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
