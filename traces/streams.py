"""A trace as a stream of bytes, unzipped, and what it is by its first ones: a capture, a log, JSON lines or a table.

Imports the standard library, and of this room captures for the bytes that captures begin with, fields and unpacking.
"""

import re
import sys
from contextlib import contextmanager, nullcontext

from traces import captures
from traces.fields import BYTE_ORDER_MARK, utf8
from traces.unpacking import packing, unpacked

HEAD = 1 << 16  # bytes that tell a file's format, and in which its first packet is looked for first
PACKED = {b"PK\3\4": "zip", b"7z\xbc\xaf": "7z", b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress"}
NETFILTER = re.compile(rb"SRC=\S{1,50} [^\n]{0,500}PROTO=")
FILTERLOG = re.compile(rb"\bfilterlog\b[^\n,]{0,300},[^\n]{0,200},(in|out),[46],")  # of pfSense and OPNsense
OBJECT = re.compile(rb'[^\n{"]{0,300}?(\{\s*"|\{\s*$|\[\s*\{)')  # JSON's, perhaps behind a logger's prefix
SYSLOG = re.compile(  # a time and a host, after an ISO time also a program
    rb"\s*(<\d{1,3}>)?(1 )?"
    rb"([A-Z][a-z]{2} [ \d]\d (\d{4} )?\d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* \S+ [^\s:]+:?\s)"
)


@contextmanager
def opened(file, summary, reject, limit=sys.maxsize):
    """An input's stream of at most `limit` bytes, unzipped, and its kind; counts the bytes read in `summary`."""
    try:
        if file.path is None and sys.stdin is None:
            raise ValueError("expected an open standard input, got a closed one")
        with nullcontext(sys.stdin.buffer) if file.path is None else open(file.path, "rb") as raw:
            stream = Stream(utf8(unpacked(raw, file.name, summary, reject)), limit)
            yield stream, kind_of(stream.head, file.name)
    except OSError as error:
        raise ValueError(f"{file.name}: {error.strerror or error}") from None


def kind_of(head, name):
    """What an input is, by its first bytes: capture, firewall log, filterlog, JSON lines, table, or None: empty."""
    if (len(head) >= 4 or head.strip()) and any(magic.startswith(head[:4]) for magic in captures.MAGICS):
        return "capture"
    packed = packing(head) or next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        packed = "tar"
    if packed:
        expected = "expected a trace, plain or packed by gzip, bzip2, xz or zstd"
        raise ValueError(f"{name}: {expected}, got a {packed} archive; unpack it first")
    if OBJECT.match(head.removeprefix(BYTE_ORDER_MARK).lstrip()):
        return "JSON lines"
    if FILTERLOG.search(head):
        return "filterlog"
    if NETFILTER.search(head) or SYSLOG.match(head):
        return "firewall log"
    if b"\0" in head.split(b"\n", 1)[0]:
        raise ValueError(f"{name}: expected a capture or text, got other binary data")
    return "table" if head.strip() else None


class Stream:
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
