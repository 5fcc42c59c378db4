"""captures.py where captures follow one another or break: joined by cat, cut, of different kinds; nanoseconds."""

import itertools
import re
import struct

import pytest

from tests.traces.test_captures import (
    block,
    enhanced,
    ethernet,
    interface,
    ipv4,
    pcap,
    random_frames,
    read,
    rows,
    section,
    small_pcap,
    small_pcapng,
)


def classic(magic, order, link, ports, extra=0, zone=0):
    """A pcap of packets to `ports`, of the given magic, byte order and link type."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, zone, 0, 65535, link)
    for port in ports:
        frame = ipv4(port=port) if link == 101 else ethernet(ipv4(port=port))
        out += struct.pack(order + "IIII", 1_700_000_000, 0, len(frame), len(frame)) + bytes(extra) + frame
    return out


def newer(order, link, ports):
    """A pcapng of packets to `ports`."""
    frames = [ipv4(port=port) if link == 101 else ethernet(ipv4(port=port)) for port in ports]
    return section(order) + interface(order, link) + b"".join(enhanced(order, 0, 10**9, frame) for frame in frames)


KINDS = {
    "pcap": classic(0xA1B2C3D4, "<", 1, [1, 2]),
    "big-endian": classic(0xA1B2C3D4, ">", 101, [3, 4]),
    "nanoseconds": classic(0xA1B23C4D, "<", 101, [5]),
    "modified": classic(0xA1B2CD34, ">", 1, [6, 7], extra=8),
    "a time zone": classic(0xA1B2C3D4, "<", 101, [8], zone=-3600),
    "empty": classic(0xA1B2C3D4, "<", 1, []),
    "pcapng": newer("<", 1, [9, 10]),
    "big-endian pcapng": newer(">", 101, [11]),
    "empty pcapng": section("<"),
}


def warned(data, **settings):
    """What `read` gives, and the warnings."""
    warnings = []
    return *read(data, warn=warnings.append, **settings), warnings


@pytest.mark.parametrize("first, second", [*itertools.product(KINDS, KINDS)])
def test_two_captures_joined(first, second):
    """Two captures of any byte orders, formats and link types, joined by cat, are read as each alone, in order."""
    alone = [rows(read(KINDS[name])[0]) for name in (first, second)]
    for chunk_bytes in (1 << 22, 1, 7, 50):
        columns, skipped, rejected, warnings = warned(KINDS[first] + KINDS[second], chunk_bytes=chunk_bytes)
        assert rows(columns) == alone[0] + alone[1] and not skipped and not rejected and not warnings


def test_many_captures_joined():
    """Hundreds of captures of all kinds in a stream are read, each packet once."""
    names = [name for _ in range(60) for name in KINDS]
    columns, skipped, rejected, warnings = warned(b"".join(KINDS[name] for name in names))
    assert columns["port"].tolist() == [port for name in names for port in read(KINDS[name])[0]["port"].tolist()]
    assert not skipped and not rejected and not warnings


@pytest.mark.parametrize("data", [small_pcap(), small_pcapng()], ids=["pcap", "pcapng"])
def test_joined_behind_a_cut_one(data):
    """Whatever the byte at which the first capture is cut: what is whole of it counts, and the pcap behind it is read
    whole; where bytes were left out it is said. Only a cut that lacks the very size of a file header cannot be seen."""
    behind = pcap(random_frames(20, seed=5), times=[1.7e9 + k for k in range(20)])
    whole, after = rows(read(data)[0]), rows(read(behind)[0])
    unseen = 0
    for cut in range(24, len(data)):
        columns, _, rejected, warnings = warned(data[:cut] + behind)
        found = rows(columns)
        if not warnings and found[-20:] == after and found[:-21] == whole[: len(found) - 21] and len(found) > 20:
            clean = all(reason != "capture ends inside a packet" for reason, _, _ in read(data[:cut])[2])
            unseen += found[:-20] != whole[: len(found) - 20] or not clean
            continue
        assert found[-20:] == after and found[:-20] == whole[: len(found) - 20], cut
        said = [reason for reason, _, _ in rejected if "capture ends" in reason or "ended there" in reason]
        breaks = [re.fullmatch(r"it breaks at byte [\d,]+: [\d,]+ bytes from .* not read", line) for line in warnings]
        assert bool(said) == bool(breaks) and all(breaks), cut
    assert unseen <= 8  # one in each record of a pcap


def test_bytes_behind_a_break_are_counted():
    """A break in the middle tells how many bytes of the file were not read, whatever the chunk."""
    good = pcap([ethernet(ipv4(port=1))])
    for data, broken in ((good, struct.pack("<4I", 1, 1, 1 << 30, 9)), (newer("<", 1, [1]), struct.pack("<2I", 6, 33))):
        for size in (1, 100, 1 << 22):
            columns, _, rejected, warnings = warned(data + broken + bytes(50_000), chunk_bytes=size)
            assert columns["port"].tolist() == [1] and len(rejected) == 1
            count = len(broken) + 50_000
            assert warnings == [f"it breaks at byte {len(data)}: {count:,} bytes from there on were not read"]


def test_a_later_capture_of_another_link_type():
    """An unsupported link type of a later capture skips its packets; what comes behind it is read."""
    strange = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 187)
    strange += 2 * (struct.pack("<IIII", 1000, 0, 40, 40) + bytes(40))
    columns, skipped, rejected = read(KINDS["pcap"] + strange + KINDS["big-endian"])
    assert columns["port"].tolist() == [1, 2, 3, 4]
    assert skipped == {"of link type 187 (Bluetooth HCI)": 2} and not rejected


def test_a_capture_within_a_packet_is_no_capture():
    """A packet that carries a pcap, as a download does, does not begin another one."""
    columns, _, rejected, warnings = warned(pcap([ethernet(ipv4(port=1, data=KINDS["pcap"])), ethernet(ipv4(port=2))]))
    assert columns["port"].tolist() == [1, 2] and not rejected and not warnings


def test_the_end_in_a_later_header():
    """A stream that ends in the header of its second capture says so; what came before counts."""
    for name in ("big-endian", "pcapng"):
        for cut in range(16, 24):
            columns, _, rejected = read(KINDS["pcap"] + KINDS[name][:cut])
            assert columns["port"].tolist() == [1, 2]
            assert rejected == [("capture ends inside its header", f"byte {len(KINDS['pcap']) + cut}", 1)]


@pytest.mark.parametrize("order", "<>")
def test_nanoseconds_under_the_microseconds_magic(order):
    """Fractions that mostly lie above a million are nanoseconds, with a note; a few such are broken records."""
    def capture(fractions):
        out, frame = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101), ipv4()
        return out + b"".join(struct.pack(order + "IIII", 1000, f, len(frame), len(frame)) + frame for f in fractions)

    columns, _, rejected, warnings = warned(capture([250_000_000, 999_999_999, 5_000_000, 0]))
    assert columns["time"].tolist() == [1000.25, 1000.999999999, 1000.005, 1000.0] and not rejected
    assert warnings == ["its fractions of a second are nanoseconds, though its magic says microseconds"]
    columns, _, rejected, warnings = warned(capture([250_000, 999_999, 250_000_000]))
    assert columns["time"].tolist() == [1000.25, 1000.999999] and not warnings
    assert [reason for reason, _, _ in rejected] == ["malformed record header"]
    columns, _, rejected, warnings = warned(capture([4_000_000_000] * 3))
    assert not columns["time"].size and not warnings and rejected[0][2] == 3


def test_a_block_of_unknown_type_like_a_pcap():
    """A pcapng may hold blocks of any type of its writer's own."""
    own = block("<", 0xA1B2C3D4, bytes(8))
    columns, _, rejected = read(newer("<", 1, [1]) + own + enhanced("<", 0, 10**9, ethernet(ipv4(port=2))))
    assert columns["port"].tolist() == [1, 2] and not rejected
