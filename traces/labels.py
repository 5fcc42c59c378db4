"""Ground truth: which class a host belongs to, from lists of addresses and from the Mirai fingerprint (paper 3.2).

    names      tuple of str    class names; a class's code is its place, names[0] == "Unknown"
    network    (P,) uint32     first address of each listed block
    length     (P,) int64      its prefix length, 0..32; a single address is a block of length 32
    code       (P,) int64      its class
    addresses  (n,) uint32     IPv4 addresses in host byte order

Files, plain or compressed (unpacking.py), in UTF-8 or, with a byte-order mark, UTF-16, in order of precedence:
  - CSV (comma, tab or semicolon) with a header that names an address column (src_ip, ip, address, host, cidr,
    prefix, network, ...) and a label column (label, class, name, ...); other columns are ignored.
  - plain lists, one address or block per line, comments after # or ;. The class is the file's name up to its
    extension: censys.txt, censys.txt.gz -> censys.

A host's class is that of the longest block that contains it; of equal blocks, that of the earlier file, then of
the earlier line. The label "Unknown" (in any case) or an empty one means Unknown; other names are kept as written, so
"Censys" and "censys" are two classes. Labels are few and precious: a line that cannot be read is an error, never
skipped; but IPv6 lines are out of scope and counted. A block with host bits set (1.2.3.4/24) is masked and counted.

Imports the standard library, numpy, and of this room summary and unpacking.
"""

import codecs
import csv
import io
import ipaddress
import itertools
import os
import re
import socket
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from traces.summary import Summary
from traces.unpacking import unpacked

ADDRESS_COLUMNS = (
    "src_ip", "ip", "address", "ip_address", "source_ip", "src", "saddr", "source", "addr", "host", "cidr", "prefix",
    "network", "subnet",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "name", "category")
COLUMNS = (ADDRESS_COLUMNS, LABEL_COLUMNS)


class Labels(NamedTuple):
    """Class names and listed blocks, the longest first, then by address: see `lookup`.

    ``counts`` is a Counter of what reading left out or decided: "IPv6" lines skipped, blocks with "host bits"
    masked, "duplicate" lines that repeat a block and its class, "conflict" lines that give a block another class
    than a line before them (and lose), "overlap" blocks inside a shorter block of another class (and win there).
    """

    names: tuple
    network: np.ndarray
    length: np.ndarray
    code: np.ndarray
    counts: Counter


def read_labels(paths):
    """Read label files, a path or several, earlier ones first in precedence, into `Labels`.

    Raises ValueError, naming the file and where there is one the line, for a file that cannot be read or holds no
    labels, a header without the two columns, a line with too few or too many columns, what is neither an address
    nor a CIDR block, a label that is not printable text.
    """
    names, blocks, counts = {"Unknown": 0}, [], Counter()
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        empty = True
        for line, address, label in _entries(path):
            empty = False
            block = _block(path, line, address, counts)
            if "\ufffd" in label or not label.isprintable():
                raise ValueError(f"{path}: line {line}: expected a label in printable UTF-8, got {label[:60]!r}")
            if label.lower() in ("", "unknown"):
                label = "Unknown"
            if block:
                blocks.append((*block, names.setdefault(label, len(names))))
        if empty:
            raise ValueError(f"{path}: expected labelled addresses, got none")
    network, length, code = np.array(blocks, np.int64).reshape(-1, 3).T
    return _build(network.astype(np.uint32), length, code, tuple(names), counts)


def from_arrays(addresses, codes, names):
    """`Labels` of single ``addresses`` (n,) uint32 with class ``codes`` (n,), places in ``names``.

    Of a repeated address the first counts. Raises ValueError if ``names`` does not begin with "Unknown", the shapes
    differ, or a code is no integer in [0, len(names)).
    """
    addresses, codes, names = _addresses(addresses), np.asarray(codes), tuple(names)
    if names[:1] != ("Unknown",):
        raise ValueError(f"names must begin with 'Unknown', got {names[:1]}")
    if addresses.shape != codes.shape:
        raise ValueError(f"addresses and codes must be of equal length, got {addresses.shape} and {codes.shape}")
    if codes.size and not (codes.dtype.kind in "iu" and 0 <= codes.min() <= codes.max() < len(names)):
        span = f"{codes.min()}..{codes.max()}"
        raise ValueError(f"codes must be integers in [0, {len(names)}), got {codes.dtype}, {span}")
    return _build(addresses, np.full(addresses.size, 32), codes.astype(np.int64), names, Counter())


def lookup(labels, addresses):
    """Class codes (n,) int64 of ``addresses`` (n,) uint32 by longest prefix; 0 = Unknown, also where none is listed.

    Raises ValueError for addresses that are not integers in [0, 2**32).
    """
    addresses = _addresses(addresses)
    return np.maximum(_longest(labels, addresses, 33), 0)


def listed(labels, addresses):
    """Which of ``addresses`` (n,) uint32 some list names, also those it names Unknown: (n,) bool."""
    return _longest(labels, _addresses(addresses), 33) >= 0


def mirai_hosts(src, dst, seq, min_packets=1):
    """Sources with Mirai's fingerprint (paper 3.2): TCP sequence number = destination address; sorted uint32.

    ``src``, ``dst``, ``seq`` are (packets,) uint32; a host needs ``min_packets`` such packets. Destinations in
    0.0.0.0/8 are numbered sensor names, no addresses, and never match. Raises ValueError for ``min_packets`` < 1,
    columns of unequal length, or what are no integers in [0, 2**32).
    """
    src, dst, seq = _addresses(src), _addresses(dst), _addresses(seq)
    if not src.shape == dst.shape == seq.shape:
        raise ValueError(f"src, dst, seq must be of equal length, got {src.shape}, {dst.shape}, {seq.shape}")
    if min_packets < 1:
        raise ValueError(f"min_packets must be at least 1, got {min_packets}")
    hosts, packets = np.unique(src[mirai_packets(dst, seq)], return_counts=True)
    return hosts[packets >= min_packets]


def mirai_packets(dst, seq):
    """Which packets bear Mirai's fingerprint, see `mirai_hosts`: dst, seq (packets,) uint32 -> (packets,) bool."""
    return (seq == dst) & (dst >= 2**24)


def _longest(labels, addresses, below):
    """Code of the longest block, of those with a prefix length under ``below``, that holds each address; -1: none."""
    code = np.full(addresses.shape, -1, np.int64)
    for length in range(min(below, 33)):  # longer ones overwrite
        begin, end = np.searchsorted(-labels.length, (-length, -length + 1))
        if begin < end:
            network = labels.network[begin:end]
            masked = addresses & np.uint32(_mask(length))
            at = np.minimum(np.searchsorted(network, masked), network.size - 1)
            code = np.where(network[at] == masked, labels.code[begin:end][at], code)
    return code


def _build(network, length, code, names, counts):
    """Sort the blocks, drop those that repeat an earlier one, count repetitions and overlaps."""
    order = np.lexsort((network, -length))  # stable: of equal blocks the earliest comes first
    network, length, code = network[order], length[order], code[order]
    again = np.zeros(network.size, bool)
    again[1:] = (network[1:] == network[:-1]) & (length[1:] == length[:-1])
    winner = np.maximum.accumulate(np.where(again, 0, np.arange(network.size)))
    conflict = again & (code != code[winner])
    labels = Labels(names, network[~again], length[~again], code[~again], counts)
    around = np.full(labels.network.size, -1, np.int64)
    for one in np.unique(labels.length):
        rows = labels.length == one
        around[rows] = _longest(labels, labels.network[rows], one)
    overlap = (around >= 0) & (around != labels.code)
    for reason, rows in (("duplicate", again & ~conflict), ("conflict", conflict), ("overlap", overlap)):
        if rows.any():
            counts[reason] += int(rows.sum())
    return labels


def _mask(length):
    return (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF


def _addresses(addresses):
    addresses = np.asarray(addresses)
    if addresses.dtype == np.uint32:
        return addresses
    if addresses.size and (addresses.dtype.kind not in "ui" or addresses.min() < 0 or addresses.max() >= 2**32):
        raise ValueError(f"addresses must be integers in [0, 2**32), got {addresses.dtype} {addresses.ravel()[:3]}")
    return addresses.astype(np.uint32)


def _entries(path):
    """Yield (line number, address, label) as text: every line of a file that is neither blank nor a comment."""
    def refuse(reason, place):
        raise ValueError(f"{path}: expected a readable file of labels, got: {reason}, {place}")

    try:
        with open(path, "rb") as file:
            text = b"".join(unpacked(file, path, Summary(), refuse))
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file of labels, got: {error}") from None
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    yield from _parse(path, io.StringIO(text.decode(encoding, "replace"), newline=None))


def _parse(path, lines):
    """The entries of a CSV or of a plain list; its first line tells which."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if _content(line))
    above, first = next(numbered, (0, ""))
    for delimiter in ",\t;":
        cells = next(csv.reader([first[:65536].replace("\0", "")], delimiter=delimiter, skipinitialspace=True), [])
        header = [cell.strip().lower().replace(" ", "_") for cell in cells]
        address, label = ([header.index(name) for name in known if name in header] for known in COLUMNS)
        if address and label:
            yield from _parse_csv(path, lines, above, delimiter, header, address[0], label[0])
            return
    if above and not re.fullmatch("[0-9A-Fa-f.:/]+", _content(first)):
        expected = "a CSV header with an address and a label column (src_ip,label), an address or a CIDR block"
        raise ValueError(f"{path}: line {above}: expected {expected}, got {first.strip()[:60]!r}")
    name = Path(re.sub(r"\.(gz|bz2|xz|zst)$", "", Path(path).name)).stem
    for number, line in itertools.chain([(above, first)] if above else [], numbered):
        yield number, _content(line), name


def _parse_csv(path, lines, above, delimiter, header, address, label):
    """The entries in the CSV rows below the header, which is line ``above``."""
    while not header[-1]:
        header.pop()
    lines = ("\n" if line.startswith("#") else line for line in lines)  # quotes in comments mean nothing
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in rows:
            if not any(cell.strip() for cell in row) or row[0].startswith("#"):
                continue
            if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
                expected = f"{len(header)} columns as in the header"
                raise ValueError(f"{path}: line {above + rows.line_num}: expected {expected}, got {len(row)}")
            yield above + rows.line_num, row[address].strip(), row[label].strip()
    except csv.Error as error:
        raise ValueError(f"{path}: line {above + rows.line_num}: expected a CSV row, got: {error}") from None


def _content(line):
    """What a line of a plain list says, without its comment."""
    return re.split("[#;]", line, maxsplit=1)[0].strip()


def _block(path, line, text, counts):
    """First address and prefix length of an address or CIDR block; None where that is IPv6, which is counted."""
    address, slash, bits = text.partition("/")
    try:
        if ":" in address:
            ipaddress.IPv6Interface(text)
            counts["IPv6"] += 1
            return None
        address = int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")  # ten times ipaddress's speed
        if slash and not re.fullmatch("[0-9]|[12][0-9]|3[0-2]", bits):
            raise ValueError
    except (ValueError, OSError):
        expected = "an IPv4 address or a CIDR block such as 192.0.2.0/24"
        raise ValueError(f"{path}: line {line}: expected {expected}, got {text[:60]!r}") from None
    length = int(bits) if slash else 32
    if address & ~_mask(length):
        counts["host bits"] += 1
    return address & _mask(length), length
