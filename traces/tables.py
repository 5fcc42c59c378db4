"""Tables with a header -> packets: comma, tab, semicolon, bar or blanks between the fields (RFC 4180, W3C, Zeek).

What is read: the authors' own files, exports of tshark, Zeek, nfdump, Argus, cloud flow logs, spreadsheets; which
names a column may have stands in records.py. What is decided here:
  - a header that comes again, with the same columns or others, is a header: what follows is read by it. So are Zeek's
    and W3C's `#fields` lines. Other lines that begin with "#" are passed over, and so is Excel's `sep=;`.
  - a footer (`Summary` and the like) ends the table until the next header.
  - quoted fields may hold the separator, which becomes "_", but no line break. Lines with another number of fields
    than the header, and lines longer than a block, are broken records.

The lines of a block are parsed together. Imports the standard library, numpy, fields and records.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from traces.fields import NEWLINE, QUOTE, SPACE, Check, blocks, cut, sift
from traces.records import NAMES, Columns, find_columns, normal, notes, packets_of

MAX_COMMENTS = 100  # lines among which a header is looked for
COMMENT = ord("#")
SEPARATOR = re.compile(rb'^"?sep=(.)"?$', re.IGNORECASE)  # as Excel has it in the first line
FIELDS = re.compile(r"^#\s*(fields:?[\s,]+)?", re.IGNORECASE)
FOOTER = re.compile(rb"\s*(summary\b|total flows\b|time window:|no matching flows|\(\d+ rows?\)|\d+ rows? in set)",
                    re.IGNORECASE)
AFTER_HEADER = 1 << 12  # bytes of a block that are read behind another header, twice as many each time after
SOURCES, PORTS = set(NAMES["src"].split()), set(NAMES["port"].split())
ZEEK = re.compile(rb"#\s*fields\b", re.IGNORECASE)
DATA = re.compile(rb"\d[.:]\d|::")  # of an address or a time: no header has it


def read_table(stream, name, skip, reject, sensors, warn=lambda _: None):
    """Yield the TCP packets of a table as chunks of columns, see records.py.

    `stream` has `.read(n)` and gives bytes; `name` stands in messages; `skip` and `reject(kind, place, count)` are told
    of lines that are no packets; `sensors` is the dict name -> number and grows; `warn(line)` is told of what is odd:
    the unit of times, a column of counts, no column for the protocol (every line is TCP then: the authors' raw files).
    Raises ValueError where a required column is missing, or day and month cannot be told apart.
    """
    layout, told = None, set()

    def tell(line):
        """Warn once."""
        if line not in told:
            told.add(line)
            warn(line)

    for block, line in blocks(stream, reject):
        if layout is None:
            layout, start = _find_header(block, name)
            for note in notes(layout.columns) if layout else ():
                tell(note)
            line += block.count(b"\n", 0, start)
            block = block[start:]
        size = len(block)
        while layout and block:
            end = block.rfind(b"\n", 0, size) + 1 or len(block)
            chunk, following, line, rest = _parse_table(block[:end], line, layout, name, skip, reject, sensors, tell)
            size = 2 * size if following is layout else AFTER_HEADER  # lest a header every few lines cost the square
            layout, block = following, rest + block[end:]
            if len(chunk["time"]):
                yield chunk
    if layout is None:
        raise ValueError(f"{name}: expected a header line, got none")


@dataclass
class _Layout:
    """What a header tells of the lines below it."""

    header: bytes  # the line as `_split` would leave it
    delimiter: str
    names: list  # of all fields, normal ones
    columns: Columns
    ended: bool = False  # a footer came: no line is a row until the next header


def _find_header(block, name):
    """The layout, None where the block holds only comments and blank lines, and where the data start in it."""
    for number, found in enumerate(re.finditer(rb"^[ \t]*(\S.*)$", block, re.MULTILINE)):
        header = found[1].strip()
        if (header.startswith(b"#") and number >= MAX_COMMENTS) or SEPARATOR.match(header):
            continue
        if b"\r" in header:
            raise ValueError(f"{name}: expected lines that end in LF or CRLF, got CR alone in the header")
        layout = _layout(found[0], name)
        if not layout.columns.missing():
            return layout, found.end() + 1
        if not header.startswith(b"#"):  # a comment may be the header, but need not
            break
    else:
        return None, len(block)
    names = ", ".join(ascii(n)[1:-1] for n in layout.names)
    raise ValueError(
        f"{name}: expected a header line with columns for time, src, dst and port, got none for "
        f"{', '.join(layout.columns.missing())} among: {names if len(names) <= 160 else names[:160] + '...'}"
    )


def _layout(line, file):
    """A line read as a header, with the delimiter that finds the most columns."""
    header = line.strip()
    layouts = [_delimited(header, delimiter, file) for delimiter in ",;|" if delimiter.encode() in header]
    layouts += [_delimited(line.strip(b" "), "\t", file), _delimited(header, " ", file)]  # tabs: empty names
    return max(layouts, key=lambda found: (len(found.columns.roles), len(found.names)))


def _delimited(header, delimiter, file):
    """The header read with this delimiter between the fields."""
    header = _unquote(header.replace(b"\t", b" ") if delimiter == " " else header, delimiter)
    text = FIELDS.sub("", header.decode("utf-8", "replace"))
    names = [normal(name) for name in (text.split() if delimiter == " " else text.split(delimiter))]
    return _Layout(_squeeze(header, delimiter), delimiter, names, find_columns(names, file))


def _parse_table(block, line, layout, name, skip, reject, sensors, warn):
    """One chunk from the lines of a block up to the next header, and the layout, line and block that follow it.

    The block's first line has number `line`.
    """
    text, cuts, breaks = _split(block, layout)
    starts, stops, counts = cuts[breaks[:-1]] + 1, cuts[breaks[1:]], np.diff(breaks)
    regular = counts == len(layout.names)
    passed, found, at = _between(text, cuts, breaks, starts, stops, regular, layout, name)
    following, rest = layout, b""
    if at < len(starts):  # here begins what another header tells
        passed, regular, starts, stops, counts = (part[:at] for part in (passed, regular, starts, stops, counts))
        following, rest = found, _behind(block, at + 1)
        for note in () if found.ended or found.columns.missing() else notes(found.columns):
            warn(note)
    lines, line = line + np.arange(len(starts)), line + len(starts) + (found is not None)
    if layout.ended:
        checks = [Check(passed, "behind a table's end")]
    elif layout.columns.missing():
        lacking = "no column for " + ", ".join(layout.columns.missing())
        checks = [Check(passed, lacking, (starts, stops), "a header with columns for time, src, dst and port")]
    else:
        checks = [Check(passed | regular, "wrong number of fields", (starts, stops), f"{len(layout.names)} fields")]
    kept = sift(checks, lines, text, skip, reject) & ~passed
    ends = cuts[1 : breaks[len(starts)] + 1]
    if not kept.all():
        ends, starts, lines = ends[np.repeat(kept, counts)], starts[kept], lines[kept]
    if not len(starts):
        return {"time": ()}, following, line, rest
    edges = np.vstack([starts - 1, ends.reshape(-1, len(layout.names)).T])  # of the fields: (fields + 1, n)
    places = {column: k for k, column in reversed(list(enumerate(layout.names)))}

    def field(names):
        k = places[names[0]]
        return edges[k] + 1, edges[k + 1]

    chunk, _ = packets_of(text, field, lines, layout.columns, skip, reject, sensors, warn)
    return chunk, following, line, rest


def _behind(block, n):
    """The block behind its first n lines."""
    newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE)
    return block[newlines[n - 1] + 1 :]


def _split(block, layout):
    """The block as Text, without quotes and padding; where its separators and newlines are, and which are newlines."""
    delimiter = layout.delimiter
    if delimiter == " " and b"\t" in block:
        block = block.replace(b"\t", b" ")
    if b'"' in block:
        block = _unquote(block, delimiter)
    text, cuts = cut(block, delimiter)
    breaks = np.flatnonzero(text.buf[cuts] == NEWLINE)
    if _is_padded(text, np.diff(breaks), layout):
        text, cuts = cut(_squeeze(block, delimiter), delimiter)
        breaks = np.flatnonzero(text.buf[cuts] == NEWLINE)
    return text, cuts, breaks


def _between(text, cuts, breaks, starts, stops, regular, layout, name):
    """Which lines are no rows (comments, blank ones, repeated headers), and the first other header: its layout and row.

    A row of another header is looked for among lines that have not an address and a port where this one has them.
    """
    first = text.buf[starts]
    passed = (starts == stops) | (first == COMMENT)
    suspects = (first > SPACE) & ~((first >= ord("0")) & (first <= ord("9")))
    if not layout.columns.missing() and suspects.any():
        rows = np.flatnonzero(suspects & regular)
        for role in ("src", "port"):
            field = layout.names.index(layout.columns.roles[role][0])
            byte = text.buf[cuts[breaks[rows] + field] + 1]
            rows = rows[(byte < ord("0")) | (byte > ord("9"))]
        suspects &= ~regular
        suspects[rows] = True
    for row in np.flatnonzero(suspects):
        line = text.buf[starts[row] : stops[row]].tobytes()
        if line == layout.header or SEPARATOR.match(line):
            passed[row] = True
        elif not layout.ended and FOOTER.match(line):
            return passed, _Layout(b"", layout.delimiter, layout.names, layout.columns, ended=True), int(row)
        elif not DATA.search(line) and _is_header(line):
            return passed, _layout(line, name), int(row)
    return passed, None, len(starts)


@lru_cache(maxsize=1024)
def _is_header(line):
    """Does a line name a source and a port, by any delimiter, or say that it holds the names of fields?"""
    if ZEEK.match(line):
        return True
    text = line.decode("utf-8", "replace").replace('"', "").strip(" #")
    lists = [set(map(normal, text.split(mark))) for mark in ",;|\t " if mark in text]
    return any(names & SOURCES and names & PORTS for names in lists) and not _layout(line, "").columns.missing()


def _is_padded(text, counts, layout):
    """May blanks stand beside separators? Where these are blanks, that gives lines another number of fields."""
    if layout.delimiter == " ":
        return (counts != len(layout.names)).any()
    blanks = np.flatnonzero(text.buf == SPACE)
    beside = np.append(text.buf[blanks - 1], text.buf[blanks + 1])
    return ((beside == NEWLINE) | (beside == ord(layout.delimiter))).any()


def _unquote(block, delimiter):
    """The block without quotes; separators behind an odd number of quotes, counted per line, become "_"."""
    buf = np.frombuffer(block, np.uint8).copy()
    quotes = np.flatnonzero(buf == QUOTE)
    starts = np.concatenate([[0], np.flatnonzero(buf == NEWLINE) + 1])
    at = np.flatnonzero(buf == ord(delimiter))
    start = starts[np.searchsorted(starts, at, side="right") - 1]
    buf[at[(np.searchsorted(quotes, at) - np.searchsorted(quotes, start)) % 2 == 1]] = ord("_")
    return buf[buf != QUOTE].tobytes()


def _squeeze(block, delimiter):
    """The block, of as many lines, without blanks around separators and with single ones elsewhere."""
    block = re.sub(rb" +", b" ", b"\n" + block)
    if delimiter != " ":
        separator = delimiter.encode()
        block = block.replace(b" " + separator, separator).replace(separator + b" ", separator)
    return block.replace(b" \n", b"\n").replace(b"\n ", b"\n")[1:]
