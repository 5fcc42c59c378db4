"""A trace as a stream of bytes, unzipped, and what it is by its first ones: capture, firewall log or table.

Imports the standard library, and of this room captures for the bytes that captures begin with.
"""

import re
import sys
import zlib
from contextlib import contextmanager, nullcontext

from traces import captures

PIECE = 1 << 20  # bytes read or unzipped at a time
FEED = 1 << 15  # bytes to unzip at a time: what is lost where they are broken
HEAD = 1 << 16  # bytes that tell a file's format, and in which its first packet is looked for first
PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip", b"7z\xbc\xaf": "7z",
          b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress"}
NETFILTER = re.compile(rb"SRC=\S{1,50} [^\n]{0,500}PROTO=")
SYSLOG = re.compile(  # a time and a host, after an ISO time also a program
    rb"\s*([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* \S+ [^\s:]+:\s)"
)


@contextmanager
def opened(file, summary, reject, limit=sys.maxsize):
    """An input's stream of at most `limit` bytes, unzipped, and its kind; counts the bytes read in `summary`."""
    try:
        if file.path is None and sys.stdin is None:
            raise ValueError("expected an open standard input, got a closed one")
        with nullcontext(sys.stdin.buffer) if file.path is None else open(file.path, "rb") as raw:
            stream = Stream(_pieces(raw, summary, reject), limit)
            yield stream, kind_of(stream.head, file.name)
    except OSError as error:
        raise ValueError(f"{file.name}: {error.strerror or error}") from None


def kind_of(head, name):
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
