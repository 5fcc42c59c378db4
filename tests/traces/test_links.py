"""links.py: every link layer in front of one packet, cut at every byte, and noise under every link type."""

import random
import struct

import dpkt
import pytest

from tests.traces.test_captures import LINUX, enhanced, ethernet, interface, ipv4, pcap, read, rows, section
from traces.links import SUPPORTED

EXPECTED = [(1000.0, 0x01020304, 0x0A000001, 2323, 60, 64, 1460, 1024, 0x11223344, 7)]
SNAP = bytes.fromhex("aaaa03 000000 0800")
DATA = b"\x08\x02" + bytes(22)  # an 802.11 data frame from an access point
QOS = b"\x88\x02" + bytes(24)


def radiotap(frame, flags=0, clock=False, bitmaps=1):
    """An 802.11 frame behind a radiotap header with its flags, and a clock and further bitmaps in front of these."""
    present = [2 | clock | (1 << 31 if bitmaps > 1 else 0)] + [1 << 31] * (bitmaps - 2) + [4] * (bitmaps > 1)
    body = struct.pack(f"<{bitmaps}I", *present)
    body += (bytes(-(4 + len(body)) % 8 + 8) if clock else b"") + bytes([flags])
    return struct.pack("<BBH", 0, 0, 4 + len(body)) + body + frame


def nflog(*fields, order="<"):
    """An NFLOG header with fields (type, value) and that of the packet, whose value is to follow."""
    out = b"\2\0\0\5"
    for kind, value in fields:
        out += struct.pack(order + "HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return out + struct.pack(order + "HH", 4 + 60, 9)


def pflog(length, family=2):
    """OpenBSD's header, whose first byte is its length without what pads it to four."""
    return bytes([length, family]) + bytes((length + 3) // 4 * 4 - 2)


LINKS = {
    "Ethernet, LLC and SNAP": (1, bytes(12) + b"\0\x44" + SNAP),
    "Ethernet, VLAN, LLC and SNAP": (1, bytes(12) + b"\x81\0\0\7\0\x44" + SNAP),
    "Ethernet, LLC and SNAP of bridges": (1, bytes(12) + b"\0\x44" + bytes.fromhex("aaaa03 0000f8 0800")),
    "Ethernet, IP by LLC": (1, bytes(12) + b"\0\x3f" + bytes.fromhex("060603")),
    "Ethernet, VLAN, PPPoE": (1, ethernet(bytes.fromhex("1100 0007 003e 0021"), 0x8864, (0x8100,))),
    "Linux cooked, LLC and SNAP": (113, bytes(14) + b"\0\4" + SNAP),
    "IEEE 1394": (138, bytes(16) + b"\x08\0"),
    "OpenBSD enc": (109, bytes(12)),
    "FDDI": (10, bytes(13) + SNAP),
    "Token Ring": (6, bytes(14) + SNAP),
    "Token Ring, routed": (6, bytes(8) + b"\x80" + bytes(5) + b"\xc6" + bytes(5) + SNAP),
    "ATM": (100, SNAP),
    "PPP": (9, b"\0\x21"),
    "PPP, protocol of one byte": (9, b"\x21"),
    "PPP, HDLC's address in front": (9, bytes.fromhex("ff03 0021")),
    "PPP in HDLC framing": (50, bytes.fromhex("ff03 0021")),
    "Cisco HDLC": (104, bytes.fromhex("0f00 0800")),
    "PPPoE": (51, bytes.fromhex("1100 0007 003e 0021")),
    "PPP of pppd": (166, bytes.fromhex("0003 0021")[:2] + b"\0\x21"),
    "PPP with direction": (204, bytes.fromhex("01 ff03 0021")),
    "pflog of OpenBSD 3.4": (117, pflog(61)),
    "pflog of OpenBSD 4.9": (117, pflog(100)),
    "pflog of FreeBSD 14": (117, pflog(69)),
    "NFLOG": (239, nflog()),
    "NFLOG, big-endian, other fields in front": (239, nflog((1, b"\x08\0\1\0"), (10, b"drop: \0"), order=">")),
    "NFLOG, other fields in front": (239, nflog((1, b"\x08\0\1\0"), (10, b"drop: \0"), (15, b"\0\1"))),
    "802.11": (105, DATA + SNAP),
    "802.11 between access points": (105, b"\x08\3" + bytes(28) + SNAP),
    "802.11 QoS": (105, QOS + SNAP),
    "802.11 QoS, HT control": (105, b"\x88\x82" + bytes(28) + SNAP),
    "radiotap": (127, radiotap(DATA + SNAP)),
    "radiotap, clock": (127, radiotap(QOS + SNAP, clock=True)),
    "radiotap, padded": (127, radiotap(QOS + b"\0\0" + SNAP, flags=0x20)),
    "radiotap, padded, clock, three bitmaps": (127, radiotap(QOS + b"\0\0" + SNAP, 0x20, True, 3)),
    "Prism": (119, struct.pack("<II", 0x44, 144) + bytes(136) + DATA + SNAP),
    "AVS": (163, struct.pack(">II", 0x80211001, 64) + bytes(56) + DATA + SNAP),
    "PPI, 802.11": (192, struct.pack("<BBHI", 0, 0, 12, 105) + bytes(4) + DATA + SNAP),
    "PPI, Ethernet": (192, struct.pack("<BBHI", 0, 0, 8, 1) + ethernet(b"")),
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("order", "<>")
def test_link_layers(name, order):
    """The packet behind the header is read, in pcap and in pcapng; cut anywhere before its ports it is no packet."""
    link, header = LINKS[name]
    frame = header + ipv4(LINUX, port=2323)
    for data in (pcap([frame], link), section(order) + interface(order, link) + enhanced(order, 0, 10**9, frame)):
        columns, skipped, rejected = read(data)
        assert rows(columns) == EXPECTED and not skipped and not rejected
    cuts = range(len(header) + 20)
    columns, skipped, rejected = read(pcap([frame[:n] for n in cuts], link))
    assert not columns["time"].size and {reason for reason, _, _ in rejected} == {"truncated packet"}
    assert skipped.total() + sum(count for _, _, count in rejected) == len(cuts)
    assert skipped.total() <= 8  # where the cut takes what tells that IP follows


@pytest.mark.parametrize("link, frame", [
    (105, b"\x08\x42" + bytes(22) + SNAP), (105, b"\x48\x02" + bytes(22) + SNAP), (105, b"\x80\0" + bytes(40)),
    (105, b"\x88\x02" + bytes(22) + b"\x80\0" + SNAP), (127, radiotap(b"\xb4\0" + bytes(40))), (9, b"\xc0\x21"),
    (1, bytes(12) + b"\0\x30" + bytes.fromhex("424203")),
    (1, bytes(12) + b"\0\x30" + bytes.fromhex("aaaa03 00000c 2000")), (104, bytes.fromhex("8f00 2000")),
    (117, pflog(61, 0)), (192, struct.pack("<BBHI", 0, 0, 8, 192)),
])  # fmt: skip
def test_what_holds_no_packet(link, frame):
    """Encrypted, empty, aggregated and control frames, other protocols over PPP and LLC are "not IP"."""
    columns, skipped, rejected = read(pcap([frame + ipv4(LINUX)], link))
    assert not columns["time"].size and skipped == {"not IP": 1} and not rejected


@pytest.mark.parametrize("link, header", [
    (239, nflog()), (9, b"\0\x57"), (50, bytes.fromhex("ff03 0057")), (104, bytes.fromhex("0f00 86dd")),
    (109, bytes(12)), (117, pflog(61, 24)), (117, pflog(61, 30)), (105, DATA + SNAP[:6] + b"\x86\xdd"),
])  # fmt: skip
def test_ipv6_is_told_apart(link, header):
    """IPv6 is counted as such behind each of these headers."""
    columns, skipped, rejected = read(pcap([header + bytes(dpkt.ip6.IP6(nxt=6, data=dpkt.tcp.TCP()))], link))
    assert not columns["time"].size and skipped == {"IPv6": 1} and not rejected


@pytest.mark.parametrize("link", sorted(SUPPORTED))
def test_noise_under_every_link_type(link):
    """Frames of arbitrary bytes and lengths are counted one by one, whatever the link type; none breaks the reading."""
    rng = random.Random(link)
    frames = [rng.randbytes(rng.choice([0, 1, 2, 5, 9, 14, 18, 30, 60, 200])) for _ in range(300)]
    frames += [bytes([rng.choice([0, 8, 255])]) * rng.randrange(80) for _ in range(50)]
    frames += [b"\xff" * 3000, bytes(3000)]
    columns, skipped, rejected = read(pcap(frames, link))
    assert columns["time"].size + skipped.total() + sum(count for _, _, count in rejected) == len(frames)
