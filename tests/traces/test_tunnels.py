"""tunnels.py: each kind of tunnel in front of one packet, nested ones, what only looks like one, and noise."""

import random
import struct
from collections import Counter

import dpkt
import pytest

from tests.traces.test_captures import LINUX, ethernet, ipv4, pcap, read, rows
from traces.tunnels import MAX_DEPTH, PORTS

INNER = ipv4(LINUX, port=2323)
FRAME = ethernet(INNER)
EXPECTED = [(1000.0, 0x01020304, 0x0A000001, 2323, 60, 64, 1460, 1024, 0x11223344, 7)]


def around(payload, protocol, **ip):
    """An IPv4 packet between the mirror's ends."""
    return bytes(dpkt.ip.IP(src=b"\x0a\0\0\1", dst=b"\x0a\0\0\2", p=protocol, data=payload, **ip))


def around6(payload, protocol, extensions=b""):
    """The same in IPv6; `extensions` begin with the protocol that each is followed by."""
    first = protocol if not extensions else 0
    head = struct.pack(">IHBB", 6 << 28, len(extensions) + len(payload), first, 64)
    return head + bytes(32) + extensions + payload


def udp(payload, port):
    return struct.pack(">HHHH", 4000, port, 8 + len(payload), 0) + payload


def gre(payload, protocol, flags=0, fields=b""):
    return struct.pack(">HH", flags, protocol) + fields + payload


def erspan(payload, version, more=b""):
    head = struct.pack(">HHI", version << 12, 100, 0)
    return gre(head + more + payload, 0x22EB if version == 2 else 0x88BE, 0x1000, bytes(4))


def mpls(payload, labels=1):
    return b"".join(struct.pack(">I", 100 << 12 | (i == labels - 1) << 8 | 64) for i in range(labels)) + payload


def geneve(payload, protocol=0x6558, options=b""):
    return struct.pack(">BBHI", len(options) // 4, 0, protocol, 5 << 8) + options + payload


def vxlan(payload, flags=8, following=0):
    return bytes([flags, 0, 0, following, 0, 0, 5, 0]) + payload


def tzsp(payload, kind=1, tags=b"\1"):
    return struct.pack(">BBH", 1, 0, kind) + tags + payload


TUNNELS = {  # name -> kinds of tunnel, an Ethernet frame
    "IP in IP": (("IP in IP",), ethernet(around(INNER, 4))),
    "IP in IP with options": (("IP in IP",), ethernet(around(INNER, 4, hl=7, opts=bytes(8)))),
    "IP in IPv6": (("IP in IP",), ethernet(around6(INNER, 4), 0x86DD)),
    "IP in IPv6 with extensions": (("IP in IP",), ethernet(around6(INNER, 4, b"\x3c" + bytes(7) + b"\4\1" + bytes(14)),
                                                           0x86DD)),
    "GRE": (("GRE",), ethernet(around(gre(INNER, 0x0800), 47))),
    "GRE, all fields": (("GRE",), ethernet(around(gre(INNER, 0x0800, 0xB000, bytes(12)), 47))),
    "GRE with Ethernet": (("GRE",), ethernet(around(gre(FRAME, 0x6558, 0x2000, bytes(4)), 47))),
    "GRE with Ethernet and VLAN": (("GRE",), ethernet(around(gre(ethernet(INNER, tags=[0x88A8, 0x8100]), 0x6558), 47))),
    "GRE with PPP": (("GRE",), ethernet(around(gre(b"\xff\3\0\x21" + INNER, 0x880B, 0x3081, bytes(12)), 47))),
    "GRE with VLAN": (("GRE",), ethernet(around(gre(b"\0\5\x08\0" + INNER, 0x8100), 47))),
    "GRE in UDP": (("GRE",), ethernet(around(udp(gre(INNER, 0x0800), 4754), 17))),
    "GRE in IPv6": (("GRE",), ethernet(around6(gre(INNER, 0x0800), 47), 0x86DD)),
    "ERSPAN I": (("ERSPAN",), ethernet(around(gre(FRAME, 0x88BE), 47))),
    "ERSPAN II": (("ERSPAN",), ethernet(around(erspan(FRAME, 1), 47))),
    "ERSPAN II with VLAN and PPPoE": (("ERSPAN",), ethernet(around(erspan(ethernet(
        bytes.fromhex("1100 0007 003e 0021") + INNER, 0x8864, (0x8100,)), 1), 47))),
    "ERSPAN III": (("ERSPAN",), ethernet(around(erspan(FRAME, 2, b"\0\0\0\0"), 47))),
    "ERSPAN III, platform": (("ERSPAN",), ethernet(around(erspan(FRAME, 2, b"\0\0\0\1" + bytes(8)), 47))),
    "ERSPAN III, IP": (("ERSPAN",), ethernet(around(erspan(INNER, 2, b"\0\0\x08\0"), 47))),
    "EtherIP": (("EtherIP",), ethernet(around(b"\x30\0" + FRAME, 97))),
    "MPLS": (("MPLS",), ethernet(mpls(INNER), 0x8847)),
    "MPLS, three labels": (("MPLS",), ethernet(mpls(INNER, 3), 0x8848)),
    "MPLS, VLAN": (("MPLS",), ethernet(mpls(INNER), 0x8847, (0x8100,))),
    "MPLS with Ethernet": (("MPLS",), ethernet(mpls(FRAME), 0x8847)),
    "MPLS with Ethernet and control word": (("MPLS",), ethernet(mpls(bytes(4) + FRAME), 0x8847)),
    "MPLS in IP": (("MPLS",), ethernet(around(mpls(INNER), 137))),
    "MPLS in UDP": (("MPLS",), ethernet(around(udp(mpls(INNER), 6635), 17))),
    "VXLAN": (("VXLAN",), ethernet(around(udp(vxlan(FRAME), 4789), 17))),
    "VXLAN, Linux's first port": (("VXLAN",), ethernet(around(udp(vxlan(FRAME), 8472), 17))),
    "VXLAN in IPv6": (("VXLAN",), ethernet(around6(udp(vxlan(FRAME), 4789), 17), 0x86DD)),
    "VXLAN-GPE": (("VXLAN",), ethernet(around(udp(vxlan(INNER, 12, 1), 4790), 17))),
    "VXLAN with VLAN": (("VXLAN",), ethernet(around(udp(vxlan(ethernet(INNER, tags=[0x8100])), 4789), 17))),
    "GENEVE": (("GENEVE",), ethernet(around(udp(geneve(FRAME), 6081), 17))),
    "GENEVE, options, IP": (("GENEVE",), ethernet(around(udp(geneve(INNER, 0x0800, bytes(12)), 6081), 17))),
    "TZSP": (("TZSP",), ethernet(around(udp(tzsp(FRAME), 37008), 17))),
    "TZSP, tags, 802.11": (("TZSP",), ethernet(around(udp(tzsp(
        b"\x08\x02" + bytes(22) + bytes.fromhex("aaaa03 000000 0800") + INNER, 0x12, b"\0\x0a\1\7\1"), 37008), 17))),
    "IP in GRE in VXLAN": (("VXLAN", "GRE"), ethernet(around(udp(vxlan(ethernet(around(gre(INNER, 0x0800), 47))), 4789),
                                                             17))),
    "MPLS in ERSPAN": (("ERSPAN", "MPLS"), ethernet(around(erspan(ethernet(mpls(INNER), 0x8847), 1), 47))),
}  # fmt: skip


def read_tunnels(data, **settings):
    """What `read` gives, and a Counter of the tunnels."""
    counts = Counter()

    def tunnelled(kind, place, count):
        counts[kind] += count

    return *read(data, **{"tunnelled": tunnelled, **settings}), counts


@pytest.mark.parametrize("name", TUNNELS)
def test_tunnels(name):
    """The inner packet counts as if it had come alone, between others; refused, it is skipped by the kind of tunnel."""
    kinds, frame = TUNNELS[name]
    plain = ethernet(ipv4(port=5))
    padded = frame.ljust(200, b"\0")
    columns, skipped, rejected, counts = read_tunnels(pcap([frame, plain, padded], times=[1000, 1000, 1000]))
    found = rows(columns)
    assert [found[0]] == [found[2]] == EXPECTED and found[1][3] == 5
    assert counts == {kind: 2 for kind in kinds} and not skipped and not rejected
    columns, skipped, rejected = read(pcap([frame, plain]), tunnelled=None)
    assert columns["port"].tolist() == [5] and skipped == {f"in a tunnel, {kinds[0]}": 1} and not rejected


@pytest.mark.parametrize("name", TUNNELS)
def test_tunnels_cut(name):
    """Cut by the snap length a packet counts once its ports are there; else it is broken, or what the outer one is."""
    _, frame = TUNNELS[name]
    ports = len(frame) - len(INNER) + 24
    columns, skipped, rejected, _ = read_tunnels(pcap([frame[:n] for n in range(len(frame))]))
    assert columns["port"].tolist() == [2323] * (len(frame) - ports)
    assert {reason for reason, _, _ in rejected} == {"truncated packet"}
    assert skipped.keys() <= {"UDP", "other protocol", "IPv6", "not IP"} and skipped.total() <= 70
    assert skipped.total() + sum(count for _, _, count in rejected) == ports


def test_no_tunnels():
    """Scans of a tunnel's port, keep-alives, later fragments and other payloads are what the outer packet is."""
    junk = b"", b"\0" * 40, b"GET / HTTP/1.0\r\n\r\n"
    frames = [ethernet(around(udp(payload, port), 17)) for port in PORTS for payload in junk]
    columns, skipped, rejected, counts = read_tunnels(pcap(frames))
    assert skipped == {"UDP": len(frames)} and not rejected and not counts and not columns["time"].size
    frames = [gre(b"", 0), gre(INNER, 0x0800, 0x4000, bytes(4)), gre(INNER, 0x0800, 2), gre(b"\x20" * 40, 0x0800),
              gre(ethernet(bytes(40), 0x88CC), 0x6558)]  # fmt: skip
    frames = [ethernet(around(payload, 47)) for payload in frames] + [ethernet(around(b"\0" * 40, 4))]
    frames.append(ethernet(around(gre(INNER, 0x0800), 47, offset=800)))
    columns, skipped, rejected, counts = read_tunnels(pcap(frames))
    assert skipped == {"other protocol": len(frames)} and not rejected and not counts
    frames = [ethernet(mpls(b"\x70" * 60), 0x8847), ethernet(b"\0\0\0\0" * 30, 0x8847)]
    assert read(pcap(frames))[1] == {"not IP": 2}


def test_inner_packets_are_sifted_like_others():
    """UDP, ARP, IPv6 and broken packets in a tunnel are counted by their own kinds."""
    broken = bytearray(INNER)
    broken[0] = 0x43
    frames = [gre(ipv4(p=17), 0x0800), gre(ipv4(p=1), 0x0800), gre(ethernet(bytes(28), 0x0806), 0x6558),
              gre(bytes(dpkt.ip6.IP6(nxt=6, data=dpkt.tcp.TCP())), 0x86DD), gre(bytes(broken), 0x0800)]  # fmt: skip
    _, skipped, rejected, counts = read_tunnels(pcap([ethernet(around(frame, 47)) for frame in frames]))
    assert skipped == {"UDP": 1, "ICMP": 1, "ARP": 1, "IPv6": 1} and counts == {"GRE": 5}
    assert [reason for reason, _, _ in rejected] == ["malformed IPv4 header"]


def test_nesting_is_bounded():
    """Packets in up to MAX_DEPTH tunnels are read, in more they are skipped and counted."""
    frames, packet = [], INNER
    for _ in range(MAX_DEPTH + 2):
        packet = around(packet, 4)
        frames.append(ethernet(packet))
    columns, skipped, rejected, _ = read_tunnels(pcap(frames))
    assert columns["port"].tolist() == [2323] * MAX_DEPTH and not rejected
    assert skipped == {f"in more than {MAX_DEPTH} tunnels": 2}


def test_flipped_bytes_in_tunnels():
    """600 captures of all tunnels with random bytes flipped: each of 22,000 packets is read or counted once."""
    frames = [frame for _, frame in TUNNELS.values()]
    sizes = [len(frame) for frame in frames]
    rng = random.Random(3)
    for _ in range(600):
        broken = bytearray(b"".join(frames))
        for _ in range(rng.choice([1, 10, 300])):
            broken[rng.randrange(len(broken))] = rng.choice([0, 255, rng.randrange(256)])
        broken = bytes(broken)
        parts, at = [], 0
        for size in sizes:
            parts.append(broken[at : at + size])
            at += size
        columns, skipped, rejected, _ = read_tunnels(pcap(parts))
        assert columns["time"].size + skipped.total() + sum(count for _, _, count in rejected) == len(parts)
