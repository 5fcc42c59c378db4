"""The captures of cases/ field by field, under every compression, cut and damaged; and the notes that they give.

FORMATS lists, for docs/formats.md, what captures may be: (format, example, note).
"""

import bz2
import gzip
import io
import lzma
import random
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.traces.test_links import LINKS
from tests.traces.test_tunnels import TUNNELS
from traces.packets import Summary, read_days

CASES = Path(__file__).parent / "cases"
NAMES = [
    "erspan_gre_ipip_vxlan_mpls.pcap",
    "nflog_linktype239.pcap",
    "ns_fraction_under_us_magic.pcap",
    "two_pcaps_by_cat.pcap",
]
START = 1_683_878_400.0  # 2023-05-12 08:00:00
NANOSECONDS = "its fractions of a second are nanoseconds, though its magic says microseconds"
FORMATS = [  # (format, example, note): the first bytes of a file, in hexadecimal, or a command
    ("pcap, microseconds", "d4c3b2a1 0200 0400", "either byte order"),
    ("pcap, nanoseconds", "4d3cb2a1 0200 0400", "either byte order"),
    ("pcap, modified (Kuznetzov, FRITZ!Box)", "34cdb2a1 0200 0400", "either byte order"),
    ("pcapng", "0a0d0d0a 1c000000 4d3c2b1a", "sections, interfaces, all packet blocks; without a time: broken"),
    ("nanoseconds under pcap's magic for microseconds", "d4c3b2a1 ... fbb2e60e", "told by their size, with a note"),
    ("several captures in a row", "cat a.pcap b.pcapng", "of any kinds; a pcap also behind one that is cut"),
    ("gzip, bzip2, xz", "gzip -c a.pcap", "several members are one file; so for text"),
    ("zstd", "zstd -c a.pcap", "with Python 3.14 or the package zstandard"),
    *((f"link layer: {name}", header.hex(" ", 4), f"link type {link}") for name, (link, header) in LINKS.items()),
    *((f"tunnel: {name}", frame.hex(" ", 4)[:100] + "...", "the inner packet counts, with a note")
      for name, (_, frame) in TUNNELS.items()),
]  # fmt: skip


def read(paths, **settings):
    summary = Summary()
    return list(read_days(paths, summary, **settings)), summary


def of_input(monkeypatch, data):
    """The days of these bytes as standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return read("-")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_cases_field_by_field(name, pack, tmp_path):
    """Each packet's time, addresses, port and header fields, plain and compressed."""
    path = tmp_path / name
    path.write_bytes(pack((CASES / name).read_bytes()))
    days, summary = read(path)
    joined = name.startswith("two")
    assert [day for day, _ in days] == [date(2023, 5, 12), date(2023, 5, 13)][: 1 + joined]
    assert summary.tcp == 5 + 5 * joined and not summary.rejected and not summary.skipped
    for k, (_, day) in enumerate(days):
        fraction = 0.25 if joined or name.startswith("ns_") else 0.0
        step = 1e-6 if name.startswith("erspan") else 1.0
        expected = [START + 86400 * k + fraction + step * i for i in range(5)]
        assert day.time.tolist() == pytest.approx(expected, abs=1e-6, rel=0)
        assert day.src.tolist() == [0xC6336401, 0xC6336401, 0xC6336402, 0xC6336403, 0xC6336403]
        assert set(day.dst.tolist()) == {0xC0000207} and day.port.tolist() == [23, 2323, 22, 80, 443]
        assert set(day.length.tolist()) == {40} and set(day.ttl.tolist()) == {64} and set(day.window.tolist()) == {1024}
        assert day.seq.tolist() == [100, 101, 102, 103, 104]
    if name.startswith("ns_"):
        assert summary.notes == [f"{path}: {NANOSECONDS}"]
    elif name.startswith("erspan"):
        (note,) = summary.notes
        assert note.startswith("packets in tunnels count as themselves (1 MPLS, 1 IP in IP, 1 GRE, 1 ERSPAN, 1 VXLAN; ")
    else:
        assert not summary.notes


def test_tunnels_refused():
    """Without tunnels nothing of the mirror's file is read; it is named, and each kind with its first place."""
    path = CASES / NAMES[0]
    days, summary = read(path, tunnels=False)
    kinds = {"ERSPAN": 24, "GRE": 144, "IP in IP": 238, "VXLAN": 328, "MPLS": 448}
    assert not days and summary.skipped == {f"in a tunnel, {kind}": 1 for kind in kinds}
    assert summary.skipped_first == {f"in a tunnel, {kind}": f"{path}: byte {at}" for kind, at in kinds.items()}
    assert summary.notes[0].startswith(f"{path}: nothing was read of it: 5 of its 5 records were left out, most")


@pytest.mark.parametrize("name", NAMES)
def test_cases_cut_at_every_byte(name, monkeypatch):
    """A case cut anywhere gives no more than its packets, in order, or one line."""
    data = (CASES / name).read_bytes()
    ports = [port for _, day in read(CASES / name)[0] for port in day.port.tolist()]
    for cut in range(1, len(data)):
        try:
            days, summary = of_input(monkeypatch, data[:cut])
        except ValueError as error:
            assert str(error).startswith("standard input: ") and "\n" not in str(error)
            continue
        found = [port for _, day in days for port in day.port.tolist()]
        assert found == ports[: len(found)] and (found or summary.rejected or cut < 44)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes(name, monkeypatch):
    """2,000 damaged copies, one in ten gzipped before the damage, end in days or in a ValueError of one line."""
    rng, plain = random.Random(name), (CASES / name).read_bytes()
    for k in range(2000):
        damaged = bytearray(gzip.compress(plain) if k % 10 == 0 else plain)
        for _ in range(rng.choice([1, 1, 3])):
            damaged[rng.randrange(len(damaged))] = rng.choice([0, 255, rng.randrange(256)])
        try:
            of_input(monkeypatch, bytes(damaged))
        except ValueError as error:
            assert str(error).startswith("standard input: ") and "\n" not in str(error), bytes(damaged)
