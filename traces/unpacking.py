"""Compressed files as bytes: gzip, bzip2, xz and zstd, each of one or several members one behind the other.

Formats: RFC 1952 (gzip), bzip2's and xz's own, RFC 8878 (zstd). zstd needs Python 3.14 or the package zstandard.
Imports the standard library, and zstandard where it is there and needed.
"""

import bz2
import importlib
import lzma
import re
import zlib

PIECE = 1 << 20  # bytes read or unpacked at a time
FEED = 1 << 15  # bytes to unpack at a time: what is lost where they are broken
SMALL_FEED = 1 << 10  # for zstandard, which unpacks without a limit: at most 32 MB come of so many
XZ_MEMORY = 1 << 28  # bytes that an xz file may ask for; xz -9 needs a quarter
PACKINGS = {"gzip": rb"\x1f\x8b", "bzip2": rb"BZh[1-9]", "xz": rb"\xfd7zXZ\0", "zstd": rb"\x28\xb5\x2f\xfd"}


def packing(head):
    """How a file that begins with the bytes `head` is compressed: a name in PACKINGS, or None."""
    return next((name for name, magic in PACKINGS.items() if re.match(magic, head)), None)


def unpacked(raw, name, summary, reject):
    """Yield the bytes of the open file `raw` by pieces, unpacked if they are compressed.

    Counts the bytes read in `summary`; damage is told to `reject(reason, place)`, and to `summary` how many bytes it
    left unread. Returns whether damage ended the bytes in the midst of a member. Raises ValueError, which begins with
    the file's `name`, for zstd without its library.
    """

    def read(n):
        data = raw.read(n)
        summary.bytes_read += len(data)
        return data

    data, at = read(FEED), 0  # at: its position in the file
    kind = packing(data)
    if kind is None:
        while data:
            yield data
            data = read(PIECE)
        return False
    make, errors, feed = _unpacker(kind, name)
    unpack, within, hungry = make(), False, True  # within: whether there are bytes of this member
    while data or not hungry or (data := read(feed)):
        if unpack.eof:  # here begins the next member, if not zeros that fill the file up
            rest = data.lstrip(b"\0")
            if rest:
                unpack, within = make(), False
        else:
            try:
                piece = unpack.decompress(data, PIECE)
            except errors:
                reject(f"broken {kind} data", f"byte {at} or later")
                left = len(data)
                while data := read(PIECE):
                    left += len(data)
                summary.remark(f"its {kind} data break: about {left:,} bytes from there on were not read", name)
                return within
            rest = unpack.unused_data if unpack.eof else getattr(unpack, "unconsumed_tail", b"")
            hungry = unpack.eof or getattr(unpack, "needs_input", True)
            if piece:
                within = True
                yield piece
        data, at = rest, at + len(data) - len(rest)
    if not unpack.eof:
        if kind == "gzip" and (piece := unpack.flush()):
            within = True
            yield piece
        reject(f"{kind} data end too early", f"byte {at}")
    return within and not unpack.eof


def _unpacker(kind, name):
    """What makes an object to `decompress(data, most)` a member, its errors, and how many bytes to feed it."""
    if kind == "gzip":
        return lambda: zlib.decompressobj(wbits=31), zlib.error, FEED
    if kind == "bzip2":
        return bz2.BZ2Decompressor, OSError, FEED
    if kind == "xz":
        return lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), lzma.LZMAError, FEED
    try:
        library = importlib.import_module("compression.zstd")
        return library.ZstdDecompressor, library.ZstdError, FEED
    except ImportError:
        pass
    try:
        library = importlib.import_module("zstandard")
    except ImportError:
        expected = "expected Python 3.14 or the package zstandard for zstd, got neither"
        raise ValueError(f"{name}: {expected}; unpack the file first") from None
    return lambda: _Unlimited(library.ZstdDecompressor().decompressobj()), library.ZstdError, SMALL_FEED


class _Unlimited:
    """zstandard's unpacker, which takes no limit of what to give."""

    def __init__(self, unpack):
        self.unpack = unpack

    def decompress(self, data, _):
        return self.unpack.decompress(data)

    @property
    def eof(self):
        return self.unpack.eof

    @property
    def unused_data(self):
        return self.unpack.unused_data
