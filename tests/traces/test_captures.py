"""captures.py against dpkt, which writes the captures and reads them its own way, and against hand-made blocks."""

import io
import os
import random
import re
import struct
import tracemalloc
from collections import Counter
from pathlib import Path

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import captures
from traces.captures import read_capture

MUTATIONS = int(os.environ.get("MUTATIONS", 2000))  # byte flips per format; a longer run sets it
STORM = Path(__file__).resolve().parents[3] / "shared/data/pcap/spoofed-syn-storm.pcap"
COLUMNS = {
    "time": np.float64, "src": np.uint32, "dst": np.uint32, "port": np.int32, "length": np.uint16, "ttl": np.uint8,
    "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32, "seq": np.uint32,
}  # fmt: skip
LINUX = bytes.fromhex("020405b40402080a1122334455667788 01030307")  # MSS 1460, TSval 0x11223344


def read(data, **keywords):
    """(columns, skipped, [(reason, place, count)]) of a whole capture."""
    skipped, rejected = Counter(), []

    def skip(kind, place, count=1):
        assert re.fullmatch(r"byte \d+", place)
        skipped[kind] += count

    def reject(reason, place, count=1):
        rejected.append((reason, place, count))

    chunks = list(read_capture(io.BytesIO(data), "some.pcap", skip, reject, **keywords))
    for chunk in chunks:
        assert [*chunk] == [*COLUMNS] and all(chunk[name].dtype == dtype for name, dtype in COLUMNS.items())
        assert len({column.size for column in chunk.values()}) == 1 and chunk["time"].size
    empty = {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}
    return {name: np.concatenate([c[name] for c in [empty, *chunks]]) for name in COLUMNS}, skipped, rejected


def ignore(*_):
    """A `skip` for who does not count."""


def rows(columns):
    return list(zip(*(columns[name].tolist() for name in COLUMNS)))


def ipv4(options=b"", *, src=0x01020304, dst=0x0A000001, port=23, window=1024, seq=7, ttl=64, data=b"", **ip):
    """A TCP SYN in an IPv4 packet, as dpkt writes it."""
    tcp = dpkt.tcp.TCP(sport=4321, dport=port, seq=seq, win=window, flags=2, data=data)
    tcp.off, tcp.opts = (20 + len(options)) // 4, options
    header = dict(src=src.to_bytes(4, "big"), dst=dst.to_bytes(4, "big"), p=6, ttl=ttl, data=tcp)
    return bytes(dpkt.ip.IP(hl=5 + len(ip.get("opts", b"")) // 4, **{**header, **ip}))


def ethernet(payload, kind=0x0800, tags=()):
    stack = b"".join(struct.pack(">HH", tag, 5) for tag in tags)
    return bytes(12) + stack + struct.pack(">H", kind) + payload


def pcap(frames, link=1, times=None, nano=False):
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file, snaplen=262144, linktype=link, nano=nano)
    for i, frame in enumerate(frames):
        writer.writepkt(frame, ts=times[i] if times else 1000 + i)
    return file.getvalue()


def by_dpkt(data):
    """The rows of a capture as dpkt's own readers and parsers see them."""
    found = []
    reader = dpkt.pcapng.Reader if data[:1] == b"\n" else dpkt.pcap.Reader
    reader = reader(io.BytesIO(data))
    for time, frame in reader:
        ip = dpkt.ip.IP(frame) if reader.datalink() == 101 else dpkt.ethernet.Ethernet(frame).data
        if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.tcp.TCP):
            tcp = ip.data
            options = dict(dpkt.tcp.parse_opts(tcp.opts))
            mss = int.from_bytes(options.get(dpkt.tcp.TCP_OPT_MSS, b""), "big")
            tsval = int.from_bytes(options.get(dpkt.tcp.TCP_OPT_TIMESTAMP, b"")[:4], "big")
            src, dst = (int.from_bytes(address, "big") for address in (ip.src, ip.dst))
            found.append((float(time), src, dst, tcp.dport, ip.len, ip.ttl, mss, tcp.win, tsval, tcp.seq))
    return found


def random_frames(n, seed=0):
    """Frames with random fields, IP and TCP options, VLAN stacks, payload, padding."""
    rng = random.Random(seed)
    frames = []
    for _ in range(n):
        listed = rng.choice([b"", LINUX, b"\x02\x04\x02\x18", b"\1\1\x08\x0a" + rng.randbytes(8), b"\4\2\0\0"])
        packet = ipv4(
            listed, src=rng.getrandbits(32), dst=rng.getrandbits(32), port=rng.getrandbits(16), seq=rng.getrandbits(32),
            window=rng.getrandbits(16), ttl=rng.getrandbits(8), data=rng.randbytes(rng.choice([0, 0, 3, 700])),
            opts=bytes(4 * rng.choice([0, 0, 1, 10])),
        )  # fmt: skip
        tags = [rng.choice([0x8100, 0x88A8, 0x9100]) for _ in range(rng.choice([0, 0, 1, 2]))]
        frames.append(ethernet(packet, tags=tags).ljust(60, b"\xee"))
    return frames


def block(order, kind, body):
    """A pcapng block: type, size, body padded to 32 bits, size again."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order, major=1):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1))


def interface(order, link=1, resolution=None, offset=None):
    options = struct.pack(order + "HH", 2, 3) + b"eth\0"  # a name, of a length that needs padding
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        options += struct.pack(order + "HHq", 14, 8, offset)
    return block(order, 1, struct.pack(order + "HHI", link, 0, 0) + options + bytes(4))


def enhanced(order, number, stamp, packet):
    head = struct.pack(order + "5I", number, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 6, head + packet + bytes(-len(packet) % 4) + struct.pack(order + "HHI", 2, 4, 0) + bytes(4))


def small_pcap():
    frames = [frame[:110] for frame in random_frames(5)]
    frames[1:1] = [ethernet(bytes(28), 0x0806), ethernet(ipv4(LINUX, p=17)), ethernet(ipv4(LINUX))[:36]]
    return pcap(frames)


def small_pcapng():
    frames = [frame[:110] for frame in random_frames(6)]
    data = section("<") + interface("<", resolution=9) + enhanced("<", 0, 10**18, frames[0])
    data += interface("<", 101) + enhanced("<", 1, 10**15, ipv4(LINUX)) + block("<", 4, bytes(8))
    data += section(">") + interface(">") + block(">", 3, struct.pack(">I", 60) + frames[1])
    data += b"".join(enhanced(">", 0, 10**15 + i, frame) for i, frame in enumerate(frames[2:]))
    return data + block(">", 2, struct.pack(">HHIIII", 0, 0, 1, 1, len(frames[1]), 99) + frames[1])


# -- the formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nano", [False, True])
def test_pcap_equals_dpkt(nano):
    """Every field of 400 varied packets equals what dpkt reads from the pcap it wrote, micro- and nanoseconds."""
    times = [1.7e9 + i * 0.123457 for i in range(400)]
    data = pcap(random_frames(400), times=times, nano=nano)
    columns, skipped, rejected = read(data)
    expected = by_dpkt(data)
    assert len(expected) == 400 and not skipped and not rejected
    assert [row[1:] for row in rows(columns)] == [row[1:] for row in expected]
    np.testing.assert_allclose(columns["time"], [row[0] for row in expected], rtol=0, atol=3e-7)
    np.testing.assert_allclose(columns["time"], times, rtol=0, atol=1.2e-6)
    assert all(len(set(columns[name].tolist())) > 1 for name in COLUMNS)


def test_pcapng_equals_dpkt():
    """Every field of 400 varied packets equals what dpkt reads from the pcapng it wrote."""
    file = io.BytesIO()
    writer = dpkt.pcapng.Writer(file, snaplen=262144)
    for i, frame in enumerate(random_frames(400)):
        writer.writepkt(frame, ts=1.7e9 + i * 0.25)
    columns, skipped, rejected = read(file.getvalue())
    assert rows(columns) == by_dpkt(file.getvalue()) and columns["time"].size == 400
    assert not skipped and not rejected


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, units, extra", [(0xA1B2C3D4, 1e6, 0), (0xA1B23C4D, 1e9, 0), (0xA1B2CD34, 1e6, 8)])
def test_pcap_magics(order, magic, units, extra):
    """All six magics, both byte orders and the modified format's longer records, give the same packets."""
    frames = random_frames(20)
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1 | 0x5000_0000)  # with FCS length bits
    for i, frame in enumerate(frames):
        data += struct.pack(order + "IIII", 4_000_000_000 + i, 5, len(frame), len(frame)) + bytes(extra) + frame
    columns, skipped, rejected = read(data)
    expected = by_dpkt(pcap(frames))
    assert [row[1:] for row in rows(columns)] == [row[1:] for row in expected] and not skipped and not rejected
    np.testing.assert_array_equal(columns["time"], 4_000_000_000 + np.arange(20) + 5 / units)


def test_pcapng_sections_interfaces_and_blocks():
    """Sections of both byte orders, interfaces of their own link type, resolution and offset, all packet blocks."""
    raw, frame = ipv4(LINUX, port=1), ethernet(ipv4(port=2), tags=[0x88A8, 0x8100])
    data = b""
    for order in "<>":
        data += section(order) + block(order, 5, bytes(12)) + interface(order)
        data += interface(order, 101, resolution=9) + interface(order, 228, resolution=0x80 | 10, offset=1000)
        data += interface(order, resolution=0, offset=-50) + block(order, 0xBAD, b"unknown")
        data += interface(order, 187)  # not supported, but without packets
        data += enhanced(order, 0, 1_700_000_000_123_456, frame)
        data += enhanced(order, 1, 1_700_000_000_000_000_512, raw) + enhanced(order, 2, 5 * 1024 + 256, raw)
        data += enhanced(order, 3, 60, frame)
        data += block(order, 2, struct.pack(order + "HHIIII", 3, 9, 0, 61, len(frame), len(frame)) + frame)
        data += block(order, 3, struct.pack(order + "I", len(frame)) + frame)
        data += enhanced(order, 9, 60, frame)
    columns, skipped, rejected = read(data)
    expected = [1_700_000_000.123456, 1_700_000_000.000000512, 1005.25, 10.0, 11.0]
    np.testing.assert_array_equal(columns["time"], 2 * expected)
    assert columns["port"].tolist() == 2 * [2, 1, 1, 2, 2] and columns["mss"].tolist() == 2 * [0, 1460, 1460, 0, 0]
    assert not skipped
    # each section ends with a simple block and a packet of an interface that does not exist
    last = 32 + len(frame) + -len(frame) % 4 + 12
    first = len(data) // 2 - last - (16 + len(frame) + -len(frame) % 4)
    assert rejected == [
        ("packet without a time", f"byte {first}", 2),
        ("packet of an undescribed interface", f"byte {len(data) // 2 - last}", 2),
    ]


def test_pcapng_times_out_of_range():
    """Times before 1970 or after 9999 are rejected, the finest resolutions neither overflow nor divide by zero."""
    data = section("<")
    for resolution, offset in ((6, -1), (6, 2**62), (127, 7), (0xFF, 7), (0x80 | 63, 7), (19, 7)):
        data += interface("<", 101, resolution, offset)
    data += b"".join(enhanced("<", i, 2**64 - 2 if i > 1 else 5, ipv4()) for i in range(6))
    columns, _, rejected = read(data)
    np.testing.assert_allclose(columns["time"], [7, 7, 9, 7 + (2**64 - 1) / 1e19], rtol=1e-9)
    assert [(reason, count) for reason, _, count in rejected] == [("time outside the years 1970 to 9999", 2)]


LINKS = [
    (1, ethernet(b"")), (1, ethernet(b"", tags=[0x8100])), (1, ethernet(b"", tags=[0x9100, 0x88A8, 0x8100, 0x8100])),
    (12, b""), (14, b""), (101, b""), (228, b""),
    (113, bytes(14) + b"\x08\x00"), (113, bytes(14) + b"\x81\x00\x00\x07\x08\x00"), (276, b"\x08\x00" + bytes(18)),
    (0, b"\2\0\0\0"), (0, b"\0\0\0\2"), (108, b"\0\0\0\2"),
]  # fmt: skip


@pytest.mark.parametrize("link, header", LINKS)
@pytest.mark.parametrize("order", "<>")
def test_link_types(link, header, order):
    """Every supported link-layer header is stepped over, in pcap and in pcapng; one cut short is truncated."""
    packet = header + ipv4(LINUX, port=2323)
    ng = section(order) + interface(order, link)
    for data in (pcap([packet], link), ng + enhanced(order, 0, 10**9, packet)):
        columns, skipped, rejected = read(data)
        assert rows(columns) == [(1000.0, 0x01020304, 0x0A000001, 2323, 60, 64, 1460, 1024, 0x11223344, 7)]
        assert not skipped and not rejected
    columns, skipped, rejected = read(pcap([packet[:n] for n in range(len(header) + 20)], link))
    assert not columns["time"].size and not skipped
    assert sum(count for _, _, count in rejected) == len(header) + 20
    assert {reason for reason, _, _ in rejected} == {"truncated packet"} and rejected[0][1] == "byte 24"


@pytest.mark.parametrize("link, header", [
    (1, ethernet(b"", 0x86DD)), (1, ethernet(b"", 0x86DD, tags=[0x8100])), (12, b""), (101, b""), (229, b""),
    (113, bytes(14) + b"\x86\xdd"), (276, b"\x86\xdd" + bytes(18)), (0, b"\x18\0\0\0"), (0, b"\0\0\0\x1e"),
    (108, b"\0\0\0\x1c"),
])  # fmt: skip
def test_ipv6_is_counted(link, header):
    """IPv6 is told apart in every link type and counted as such."""
    packet = header + bytes(dpkt.ip6.IP6(nxt=6, data=dpkt.tcp.TCP()))
    assert packet[len(header)] >> 4 == 6
    columns, skipped, rejected = read(pcap([packet], link))
    assert not columns["time"].size and skipped == {"IPv6": 1} and not rejected


@pytest.mark.parametrize("link, named", [(187, "187 (Bluetooth HCI)"), (147, "147"), (65535, "65535")])
def test_unsupported_link_type(link, named):
    """A pcap of a link type that is not supported is one line naming the file, the number and, if common, the link; in
    pcapng packets of such an interface are counted, and those of others read."""
    with pytest.raises(ValueError) as error:
        read(pcap([ipv4()], link))
    assert str(error.value).startswith("some.pcap: expected link type Ethernet, ")
    assert str(error.value).endswith(f", got {named}") and "\n" not in str(error.value)
    head = section("<") + interface("<", link) + interface("<", 1)
    packets = enhanced("<", 0, 10**9, ipv4()), enhanced("<", 1, 10**9, ethernet(ipv4(port=9)))
    columns, skipped, rejected = read(head + packets[0] + packets[1] + packets[0])
    assert columns["port"].tolist() == [9] and skipped == {f"of link type {named}": 2} and not rejected


def test_pppoe_sessions():
    """IPv4 and IPv6 in a PPPoE session are seen, with VLAN tags too; other PPP protocols are not IP."""
    def session(protocol, payload):
        return struct.pack(">BBHHH", 0x11, 0, 7, len(payload) + 2, protocol) + payload
    frames = [ethernet(session(0x0021, ipv4(port=8)), 0x8864, tags=tags) for tags in ((), (0x8100,))]
    frames += [ethernet(session(0x0057, bytes(40)), 0x8864), ethernet(session(0xC021, bytes(40)), 0x8864),
               ethernet(session(0x0021, b""), 0x8864)]
    columns, skipped, rejected = read(pcap(frames))
    assert columns["port"].tolist() == [8, 8] and skipped == {"IPv6": 1, "not IP": 1}
    assert [(reason, count) for reason, _, count in rejected] == [("truncated packet", 1)]


# -- the packets ------------------------------------------------------------------------------------------------------


def test_other_packets_are_counted_by_kind():
    """UDP, ICMP, other protocols, later fragments, ARP and frames without IP are counted, not dropped silently."""
    frames = [ethernet(ipv4(p=17)), ethernet(ipv4(p=1)), ethernet(ipv4(p=47)), ethernet(ipv4(p=1)),
              ethernet(ipv4(offset=800)), ethernet(ipv4(offset=800, mf=1)), ethernet(ipv4(offset=800, p=17)),
              ethernet(bytes(28), 0x0806), ethernet(bytes(40), 0x88CC), ethernet(bytes(46), 46),
              ethernet(ipv4(mf=1, port=99)), ethernet(ipv4(df=1, port=98))]  # fmt: skip
    columns, skipped, rejected = read(pcap(frames))
    assert columns["port"].tolist() == [99, 98] and not rejected
    assert skipped == {"UDP": 2, "ICMP": 2, "other protocol": 1, "later fragment": 2, "ARP": 1, "not IP": 2}


def test_malformed_ip_headers_are_rejected():
    """A wrong version, a header length below 20 and a total length below the header's are rejected as broken; a total
    length of 0 (segmentation offload) is that of the captured bytes."""
    packets = [bytearray(ipv4(LINUX, port=port)) for port in range(5)]
    packets[4][2:4] = b"\0\0"
    packets[1][0] = 0x65
    packets[2][0] = 0x44
    packets[3][2:4] = b"\0\x13"
    columns, skipped, rejected = read(pcap([ethernet(bytes(p)) for p in packets]))
    assert columns["port"].tolist() == [0, 4] and columns["length"].tolist() == [60, 60] and not skipped
    assert columns["mss"].tolist() == [1460, 1460]
    packets[4] += bytes(70_000)
    assert read(pcap([ethernet(bytes(packets[4]))]))[0]["length"].tolist() == [65535]
    assert rejected == [("malformed IPv4 header", f"byte {24 + 16 + 74}", 3)]


@pytest.mark.parametrize("ip_options", [0, 8, 40])
def test_snap_length(ip_options):
    """A packet cut anywhere behind its ports counts, with 0 for what was cut; before them it is truncated."""
    packet = ethernet(ipv4(LINUX, port=443, window=500, seq=77, opts=bytes(ip_options)), tags=[0x8100])
    tcp = 18 + 20 + ip_options
    for cut in range(len(packet) + 1):
        columns, skipped, rejected = read(pcap([packet[:cut]]))
        assert not skipped
        if cut < tcp + 4:
            assert rejected == [("truncated packet", "byte 24", 1)] and not columns["time"].size
            continue
        seq, window = 77 * (cut >= tcp + 8), 500 * (cut >= tcp + 16)
        mss, tsval = 1460 * (cut >= tcp + 24), 0x11223344 * (cut >= tcp + 36)
        length = 60 + ip_options
        assert rows(columns) == [(1000.0, 0x01020304, 0x0A000001, 443, length, 64, mss, window, tsval, seq)]
        assert not rejected


def test_padding_is_not_the_packet():
    """What stands behind the IP total length is padding, even where it looks like the rest of a TCP header."""
    short = bytearray(ipv4(LINUX, port=80, window=9, seq=8))
    short[2:4] = (20 + 8).to_bytes(2, "big")  # total length: ports and sequence number only
    shorter = short.copy()
    shorter[2:4] = (20 + 3).to_bytes(2, "big")
    columns, _, rejected = read(pcap([ethernet(bytes(short)), ethernet(bytes(shorter))]))
    assert rows(columns) == [(1000.0, 0x01020304, 0x0A000001, 80, 28, 64, 0, 0, 0, 8)]
    assert [reason for reason, _, _ in rejected] == ["truncated packet"]


def options_by_hand(data):
    """(MSS, TSval) of an option list, one byte after the other."""
    mss, tsval, at = 0, 0, 0
    while at < len(data) and data[at] != 0:
        if data[at] == 1:
            at += 1
            continue
        if at + 1 == len(data) or data[at + 1] < 2 or at + data[at + 1] > len(data):
            break
        value = data[at + 2 : at + data[at + 1]]
        if data[at] == 2 and len(value) == 2:
            mss = int.from_bytes(value, "big")
        if data[at] == 8 and len(value) == 8:
            tsval = int.from_bytes(value[:4], "big")
        at += data[at + 1]
    return mss, tsval


@pytest.mark.parametrize("options, mss, tsval", [
    ("02040102", 0x102, 0), ("01020401 02010101", 0x102, 0), ("00020401 02000000", 0, 0),
    ("02040102 02040304", 0x304, 0), ("02050102 0302040a", 0, 0), ("0201ffff 02040102", 0, 0),
    ("0200ffff 02040102", 0, 0), ("0201 02040102 0000", 0, 0),
    ("01010204", 0, 0), ("01020401", 0, 0), ("02040102 080a0000 00010000 0002", 0x102, 1),
    ("02040102 080a0000", 0x102, 0), ("1e0c" + "00" * 10 + "02040506", 0x506, 0), ("fe04aaaa 02040102", 0x102, 0),
])  # fmt: skip
def test_tcp_option_lists(options, mss, tsval):
    """Odd and malformed option lists end where they break, the packet counts, what came before is kept."""
    options = bytes.fromhex(options)
    padded = options + bytes(-len(options) % 4)
    columns, _, rejected = read(pcap([ipv4(padded, port=5)], 101))
    assert columns["mss"].tolist() == [mss] and columns["timestamp"].tolist() == [tsval] and not rejected
    assert options_by_hand(padded) == (mss, tsval)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.lists(st.sampled_from(
    [b"\1", b"\0", b"\2\4\1\2", b"\4\2", b"\3\3\7", b"\x08\x0a12345678", b"\5\x0aABCDEFGH", b"\2", b"\x08\x0a"]
), max_size=8).map(lambda parts: b"".join(parts)[:40]), max_size=20))  # fmt: skip
def test_any_tcp_options_equal_a_direct_loop(lists):
    """MSS and TSval of arbitrary option lists equal those of a loop over single bytes."""
    lists = [options + b"\1" * (-len(options) % 4) for options in lists]
    columns, _, rejected = read(pcap([ipv4(options) for options in lists], 101))
    assert list(zip(columns["mss"].tolist(), columns["timestamp"].tolist())) == [*map(options_by_hand, lists)]
    assert not rejected


def test_data_offset_below_five_means_no_options():
    """A TCP header that claims fewer than 20 bytes has no options; the packet counts."""
    packet = bytearray(ipv4(LINUX))
    packet[32] = 0x40
    columns, _, rejected = read(pcap([bytes(packet)], 101))
    assert columns["mss"].tolist() == [0] and columns["window"].tolist() == [1024] and not rejected


# -- chunks, ends, breaks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [small_pcap(), small_pcapng()], ids=["pcap", "pcapng"])
def test_chunks_do_not_change_the_result(data):
    """The same packets and counts come out whatever the size of a chunk, down to one byte."""
    columns, skipped, rejected = read(data)
    tally = Counter()
    for reason, _, count in rejected:
        tally[reason] += count
    assert columns["time"].size and skipped.total() + tally.total()
    for size in (1, 7, 16, 100, 1000):
        again, skipped_again, rejected_again = read(data, chunk_bytes=size)
        assert rows(again) == rows(columns) and skipped_again == skipped
        tally_again = Counter()
        for reason, _, count in rejected_again:
            tally_again[reason] += count
        assert tally_again == tally and rejected_again[0][1] == rejected[0][1]


def test_short_reads():
    """A stream that gives fewer bytes than asked for, as a pipe does, is read to its end."""

    class Dribble(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 5))

    chunks = list(read_capture(Dribble(small_pcap()), "-", ignore, lambda *_: None))
    assert sum(chunk["time"].size for chunk in chunks) == 5


@pytest.mark.parametrize("data", [small_pcap(), small_pcapng()], ids=["pcap", "pcapng"])
def test_cut_at_every_byte(data):
    """A capture cut anywhere gives the packets before the cut and says where it ends."""
    whole = rows(read(data)[0])
    ends = 0
    for cut in range(1, len(data)):
        columns, _, rejected = read(data[:cut])
        assert (cut < 24) == (rejected == [("capture ends inside its header", f"byte {cut}", 1)])
        if cut < 24:
            continue
        assert rows(columns) == whole[: columns["time"].size]
        if any(reason == "capture ends inside a packet" for reason, _, _ in rejected):
            assert int(rejected[-1][1].removeprefix("byte ")) < cut
        else:
            ends += 1
    assert 5 < ends < 20  # the cuts that fall between two records


@pytest.mark.parametrize("data", [small_pcap(), small_pcapng()], ids=["pcap", "pcapng"])
def test_flipped_bytes(data):
    """Random byte flips give ValueError or rejected records: no other exception, no hang, no large allocation."""
    rng, errors, fewer = random.Random(1), 0, 0
    whole = read(data)[0]["time"].size
    peak = 0
    for i in range(MUTATIONS):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            broken[rng.randrange(len(broken))] = rng.choice([0, 255, rng.randrange(256)])
        if i % 16 == 0:  # tracing memory is slow
            tracemalloc.start()
        try:
            columns, _, _ = read(bytes(broken))
            fewer += columns["time"].size < whole
        except ValueError as error:
            errors += 1
            assert str(error).startswith("some.pcap: ") and "\n" not in str(error)
        if i % 16 == 0:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert errors and fewer and 0 < peak < 16 << 20


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([pcap([]), pcap([], 113), pcap([], 0), section("<") + interface("<"), section(">")]),
       st.binary(max_size=300))  # fmt: skip
def test_noise_after_a_header(head, noise):
    """Arbitrary bytes after a good file header give packets, rejections or ValueError, nothing else."""
    try:
        columns, skipped, rejected = read(head + noise)
    except ValueError as error:
        assert str(error).startswith("some.pcap: ")
    else:
        assert not noise or columns["time"].size + skipped.total() + len(rejected) or head[:4] == b"\n\r\r\n"


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, 262_145])
def test_absurd_record_length(length):
    """A record of gigabytes ends the reading with its offset, without its memory; what came before counts."""
    good = pcap(random_frames(3))
    packets = section("<") + interface("<") + enhanced("<", 0, 10**9, random_frames(1)[0])
    cases = [
        (good, struct.pack("<4I", 1, 1, length, length), 3, "corrupt record length, reading ended there"),
        (packets, struct.pack("<2I", 6, length | 1) + bytes(60), 1, "corrupt block, reading ended there"),
        (packets, struct.pack("<2I", 6, (length | 1 << 25) & ~3) + bytes(60), 1, "corrupt block, reading ended there"),
    ]
    for data, broken, before, reason in cases:
        tracemalloc.start()
        columns, _, rejected = read(data + broken + bytes(300_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rejected == [(reason, f"byte {len(data)}", 1)]
        assert columns["time"].size == before and peak < 16 << 20


def test_unequal_block_lengths():
    """A block whose two lengths differ ends the reading at its offset."""
    data = section("<") + interface("<") + enhanced("<", 0, 10**9, ethernet(ipv4()))
    broken = bytearray(enhanced("<", 0, 10**9, ethernet(ipv4())))
    broken[-4] ^= 4
    columns, _, rejected = read(data + bytes(broken) + data)
    assert columns["time"].size == 1
    assert rejected == [("corrupt block, reading ended there", f"byte {len(data)}", 1)]


def test_packet_longer_than_its_block():
    """A packet block that claims more bytes than it holds is left out, and reading goes on behind it."""
    broken = bytearray(enhanced("<", 0, 10**9, ethernet(ipv4())))
    broken[20:24] = struct.pack("<I", 2**32 - 1)
    head = section("<") + interface("<")
    columns, _, rejected = read(head + bytes(broken) + enhanced("<", 0, 10**9, ethernet(ipv4(port=6))))
    assert columns["port"].tolist() == [6]
    assert rejected == [("malformed packet block", f"byte {len(head)}", 1)]


def test_impossible_fraction_of_a_second():
    """A record header with more than a million microseconds is broken and left out, and reading goes on behind it; a
    million, to which dpkt rounds up, is the next second."""
    data = bytearray(pcap([ethernet(ipv4(port=port)) for port in (1, 2)]))
    for fraction, ports, broken in ((10**6, [1, 2], []), (10**6 + 1, [2], [("malformed record header", "byte 24", 1)])):
        data[28:32] = struct.pack("<I", fraction)
        columns, _, rejected = read(bytes(data))
        assert columns["port"].tolist() == ports and rejected == broken
        assert columns["time"][0] == 1001


@pytest.mark.parametrize("data, got", [
    (b"", "got an empty file"), (b"time,src,dst\n1,2,3\n", "got the bytes 74 69 6d 65"),
    (b"\xd4\xc3\xb3", "got the bytes d4 c3 b3"),
    (pcap([])[:4] + b"\1\0\2\0" + pcap([])[8:], "version 2.4, got 1.2"), (section("<", 2), "version 1, got 2.0"),
    (section("<")[:8] + b"abcd" + section("<")[12:], "expected a pcapng section header"),
])  # fmt: skip
def test_what_is_no_capture(data, got):
    """An empty file, another magic and an unknown version are one line naming the file."""
    with pytest.raises(ValueError) as error:
        read(data)
    assert str(error.value).startswith("some.pcap: ") and got in str(error.value) and "\n" not in str(error.value)


def test_empty_captures():
    """A capture without packets gives none and rejects nothing."""
    for data in (pcap([]), section("<"), section(">") + interface(">")):
        columns, skipped, rejected = read(data)
        assert not columns["time"].size and not skipped and not rejected


def test_reject_may_raise():
    """What `reject` raises, as under --strict, ends the reading."""

    def strict(reason, place, count=1):
        raise ValueError(f"{place}: {reason}")

    with pytest.raises(ValueError, match="byte 94: truncated packet"):
        list(read_capture(io.BytesIO(pcap([ethernet(ipv4()), b"short"])), "x", ignore, strict))


def test_memory_is_bounded():
    """Memory depends on the chunk, not on the length of the capture."""
    record = pcap([ethernet(ipv4(LINUX))] * 1000)
    head, body = record[:24], record[24:]

    class Endless:
        left = 24 * len(body)

        def read(self, size):
            if size == 24:
                return head
            size = min(size, self.left)
            start = -self.left % len(body)
            self.left -= size
            return (body * (size // len(body) + 2))[start : start + size]

    tracemalloc.start()
    packets = sum(c["time"].size for c in read_capture(Endless(), "-", ignore, print, chunk_bytes=1 << 17))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert packets == 24_000 and peak < 12 << 17  # the capture is 16 chunks long


@pytest.mark.skipif(not STORM.exists(), reason="no real capture here")
def test_real_capture_equals_dpkt():
    """All 5,170 packets of a real capture equal what dpkt reads, field by field."""
    data = STORM.read_bytes()
    columns, skipped, rejected = read(data)
    assert rows(columns) == by_dpkt(data) and columns["time"].size == 5170
    assert not skipped and not rejected
    again, _, _ = read(data, chunk_bytes=10_000)
    assert rows(again) == rows(columns)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("times", ["within an hour", "over days"])
@pytest.mark.parametrize("inside", [b"", b"\xaf\x61", b"\x61\xaf"])
def test_records_are_found_as_by_stepping_from_one_to_the_next(order, times, inside):
    """Whatever stands in the packets, and wherever the bytes end: records' offsets are those of the plain loop."""
    rng = np.random.default_rng(0)
    seconds = 0x61AF0000 + np.sort(rng.integers(0, 3600 if times == "within an hour" else 10**6, 5000))
    sizes = rng.integers(0, 90, 5000)
    data = b"".join(struct.pack(order + "4I", second, 5, size, size) + (inside * 45 + rng.bytes(90))[:size]
                    for second, size in zip(seconds.tolist(), sizes.tolist()))
    for cut in (len(data), len(data) - 1, 70_001, 15, 0):
        at, expected = 0, []
        while at + 16 <= cut and at + 16 + (size := struct.unpack_from(order + "I", data, at + 8)[0]) <= cut:
            expected.append(at)
            at += 16 + size
        found, end, corrupt = captures._walk_records(data[:cut] + bytes(128), cut, order, 16)
        assert (found.tolist(), end, corrupt) == (expected, at, False)
    broken = bytearray(data)
    where = 16 * 3000 + int(sizes[:3000].sum())
    struct.pack_into(order + "I", broken, where + 8, captures.MAX_RECORD + 1)
    found, end, corrupt = captures._walk_records(bytes(broken) + bytes(128), len(data), order, 16)
    assert (len(found), end, corrupt) == (3000, where, True)
