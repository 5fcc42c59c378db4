"""Packet captures, pcap and pcapng, read into the columns of the paper's Table 1: TCP over IPv4 only.

Formats: pcap-savefile(5) of libpcap, draft-ietf-opsawg-pcapng, the link-layer header types of tcpdump.org,
RFC 791 (IPv4), RFC 9293 (TCP), RFC 7323 (TCP timestamps).

`read_capture` yields chunks, dicts of equal-length columns in the order of the capture:

    time       float64  seconds since 1970 UTC
    src, dst   uint32   IPv4 addresses
    port       int32    TCP destination port
    length     uint16   IP total length in bytes, as the IP header states it; where that is 0, captured bytes
    ttl        uint8
    mss        uint16   TCP option MSS, 0 = absent
    window     uint16
    timestamp  uint32   TCP option timestamp value (TSval), 0 = absent
    seq        uint32   TCP sequence number

Decided here:
  - A packet cut by the snap length counts as soon as its ports were captured; seq, window and options beyond
    the cut are 0. Without ports it is rejected ("truncated packet").
  - A malformed TCP option list ends where it breaks. Of a repeated option the last one counts, as in Linux.
  - A corrupt record length ends the reading: where the next record starts would be a guess. What came before
    it counts. The same for a capture that ends inside a packet or its own header. All are rejected with their place.
  - An IP total length of 0 is that of a packet which the sender's network card had yet to cut into segments.
  - A pcapng simple packet block has no time, hence no day: rejected ("packet without a time").
  - A link type that is not supported is an error; in pcapng, where other interfaces may be fine, its packets are
    skipped and counted.

The one Python loop over packets steps from record to record; headers are gathered whole, options are followed
in all packets at once. Imports the standard library and numpy.
"""

import struct

import numpy as np

CHUNK_BYTES = 4 << 20  # read at a time; what is computed from it stays in the processor's cache
MAX_RECORD = 262_144  # bytes of a captured packet, libpcap's own limit
MAX_BLOCK = 16 << 20  # bytes of a pcapng block: those that hold no packet (names, keys) may be long
MAX_INTERFACES = 65_536
MAX_VLAN_TAGS = 64
END_OF_TIME = 253_402_300_800  # the year 10000
PADDING = bytes(128)  # behind the data: a header gathered at its very end stays inside the array

# magic -> (byte order, time units per second, bytes of a record header). The third is the "modified" format
# of Kuznetzov's patched tcpdump and of the FRITZ!Box: eight more bytes per record, of no use here.
PCAP = {
    struct.pack(order + "I", magic): (order, units, header)
    for magic, units, header in ((0xA1B2C3D4, 10**6, 16), (0xA1B23C4D, 10**9, 16), (0xA1B2CD34, 10**6, 24))
    for order in "<>"
}
PCAPNG = b"\n\r\r\n"  # type of the section header block, the same in both byte orders
MAGICS = (*PCAP, PCAPNG)
BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
PACKET_BLOCKS = (ENHANCED_PACKET, OLD_PACKET, SIMPLE_PACKET)
SHORTEST = {SECTION: 28, INTERFACE: 20, OLD_PACKET: 32, SIMPLE_PACKET: 16, ENHANCED_PACKET: 32}  # bytes
OPTION_END, OPTION_RESOLUTION, OPTION_OFFSET = 0, 9, 14  # of an interface

# Link types (LINKTYPE_ values).
ETHERTYPE_AT = {1: (12, 14), 113: (14, 16), 276: (0, 20)}  # Ethernet, Linux cooked v1, v2: ethertype, payload
LOOPBACK = (0, 108)  # BSD: four bytes of address family, in the writer's byte order or the network's
RAW, RAW_IPV4, RAW_IPV6 = (12, 14, 101), 228, 229
SUPPORTED = {*ETHERTYPE_AT, *LOOPBACK, *RAW, RAW_IPV4, RAW_IPV6}
UNSUPPORTED = {
    6: "Token Ring", 9: "PPP", 10: "FDDI", 50: "PPP in HDLC framing", 51: "PPPoE", 100: "ATM",
    104: "Cisco HDLC", 105: "IEEE 802.11", 107: "Frame Relay", 117: "OpenBSD pflog",
    119: "IEEE 802.11 with Prism header", 127: "IEEE 802.11 with radiotap header", 187: "Bluetooth HCI",
    189: "Linux USB", 192: "PPI", 195: "IEEE 802.15.4", 220: "Linux USB", 227: "CAN bus", 239: "Linux NFLOG",
    249: "USBPcap", 253: "Linux netlink",
}  # fmt: skip

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
VLAN = (0x8100, 0x88A8, 0x9100)
PPPOE, PPP = 0x8864, (0x0021, 0x0057)  # a session's frames (RFC 2516), and IPv4 and IPv6 in PPP
FAMILY = np.zeros(256, np.uint16)  # BSD address family -> ethertype; that of IPv6 differs between systems
FAMILY[2] = IPV4
FAMILY[[10, 23, 24, 28, 30]] = IPV6
TCP, UDP, ICMP = 6, 17, 1
NOP, MSS, TIMESTAMP = 1, 2, 8  # TCP options; 0 ends the list

U2, U4 = np.dtype(">u2"), np.dtype(">u4")
IP_HEADER = np.dtype(
    [("version_ihl", "u1"), ("tos", "u1"), ("length", ">u2"), ("id", ">u2"), ("fragment", ">u2"),
     ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4")]
)  # fmt: skip
TCP_HEADER = np.dtype(
    [("sport", ">u2"), ("port", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"),
     ("window", ">u2"), ("checksum", ">u2"), ("urgent", ">u2")]
)  # fmt: skip
BLOCK_HEADER = np.dtype([(f, "<u4") for f in ("kind", "size", "interface", "high", "low", "captured")])


def read_capture(stream, name, skipped, reject, chunk_bytes=CHUNK_BYTES):
    """Yield the TCP/IPv4 packets of a pcap or pcapng ``stream`` (only ``.read(n)`` is used) in chunks.

    ``skipped`` (a Counter) counts well-formed records out of scope: "UDP", "ICMP", "other protocol", "later
    fragment", "IPv6", "ARP", "not IP", "of link type N". ``reject(reason, place, count)`` is called for broken
    records left out; place is "byte N", the first of them. Memory is bounded by a small multiple of
    ``chunk_bytes`` (or of one record where that is longer). Raises ValueError, naming ``name``, when the magic,
    the version or a pcap's link type is not one it reads.
    """
    head = _read(stream, 24)
    if head and len(head) < 24 and any(magic.startswith(head[:4]) for magic in MAGICS):
        reject("capture ends inside its header", f"byte {len(head)}")
    elif head[:4] in PCAP:
        yield from _read_pcap(stream, name, head, skipped, reject, chunk_bytes)
    elif head[:4] == PCAPNG:
        yield from _read_pcapng(stream, name, head, skipped, reject, chunk_bytes)
    else:
        got = f"the bytes {head[:4].hex(' ')}" if head else "an empty file"
        raise ValueError(f"{name}: expected a capture, beginning with the magic of pcap or pcapng, got {got}")


def _read_pcap(stream, name, head, skipped, reject, chunk_bytes):
    """pcap-savefile(5): a file header of 24 bytes, then records of header and packet."""
    order, units, header = PCAP[head[:4]]
    major, minor = struct.unpack_from(order + "2H", head, 4)
    if (major, minor) != (2, 4):
        raise ValueError(f"{name}: expected pcap version 2.4, got {major}.{minor}")
    link_type = struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF  # above: frame check sequence length
    if link_type not in SUPPORTED:
        expected = "expected link type Ethernet, raw IP, Linux cooked or BSD loopback"
        raise ValueError(f"{name}: {expected}, got {_named(link_type)}")

    word = struct.Struct(order + "I").unpack_from
    record = np.dtype([("seconds", order + "u4"), ("fraction", order + "u4"), ("captured", order + "u4")])
    base, data = 24, b""  # data[0] is byte `base` of the file
    while more := _read(stream, chunk_bytes):
        data = b"".join((data, more, PADDING))
        size, at, positions, corrupt = len(data) - len(PADDING), 0, [], False
        while at + header <= size:
            captured = word(data, at + 8)[0]
            if captured > MAX_RECORD or at + header + captured > size:
                corrupt = captured > MAX_RECORD
                break
            positions.append(at)
            at += header + captured

        array, position = np.frombuffer(data, np.uint8), np.array(positions, np.int64)
        fields = _gather(array, position, record)
        wrong = fields["fraction"] > units  # a whole unit comes of rounding
        _reject(reject, "malformed record header", base, position, wrong)
        time = fields["seconds"] + fields["fraction"] / units
        start = position + header
        end = start + fields["captured"]
        records = (a[~wrong] for a in (position, time, start, end))
        yield from _packets(array, base, *records, link_type, skipped, reject)
        if corrupt:
            reject("corrupt record length, reading ended there", f"byte {base + at}")
            return
        base, data = base + at, data[at:size]
    if data:
        reject("capture ends inside a packet", f"byte {base}")


def _read_pcapng(stream, name, head, skipped, reject, chunk_bytes):
    """draft-ietf-opsawg-pcapng: blocks of type, size, body, size again; byte order by section."""
    if head[8:12] not in BYTE_ORDER:
        raise ValueError(f"{name}: expected a pcapng section header, got the bytes {head.hex(' ')}")
    base, data = 0, head  # data[0] is byte `base` of the file
    order, interfaces = BYTE_ORDER[head[8:12]], []  # of the current section
    while more := _read(stream, chunk_bytes):
        data = b"".join((data, more, PADDING))
        size = len(data) - len(PADDING)
        positions, sections, at, corrupt = _walk_blocks(name, data, size, base, order, interfaces)
        array = np.frombuffer(data, np.uint8)
        blocks = _packet_blocks(array, base, positions, sections, interfaces, skipped, reject)
        yield from _packets(array, base, *blocks, skipped, reject)
        if corrupt:
            reject("corrupt block, reading ended there", f"byte {base + at}")
            return
        base, data = base + at, data[at:size]
        _, first, order = sections[-1]
        del interfaces[:first]
    if data:
        reject("capture ends inside a packet", f"byte {base}")


def _walk_blocks(name, data, size, base, order, interfaces):
    """Step through the whole blocks of ``data[:size]``; ``interfaces`` gains the ones they describe.

    Returns the offsets of the packet blocks; the sections, each as the index of its first packet, the index
    of its first interface, its byte order; the offset where the walk stopped; whether a corrupt block did it.
    """
    at, positions, sections = 0, [], [(0, 0, order)]
    block = struct.Struct(order + "2I").unpack_from
    while at + 12 <= size:
        kind, length = block(data, at)
        if kind == ENHANCED_PACKET and 32 <= length <= size - at and not length % 4:
            if block(data, at + length - 8)[1] == length:  # nearly every block: the shortest way through
                positions.append(at)
                at += length
                continue
            return positions, sections, at, True
        if kind == SECTION:
            order = BYTE_ORDER.get(data[at + 8 : at + 12])
            if order is None:
                return positions, sections, at, True
            block = struct.Struct(order + "2I").unpack_from
            length = block(data, at)[1]
        if length % 4 or not SHORTEST.get(kind, 12) <= length <= MAX_BLOCK:
            return positions, sections, at, True
        end = at + length
        if end > size:
            break
        if data[end - 4 : end] != data[at + 4 : at + 8]:
            return positions, sections, at, True
        if kind in PACKET_BLOCKS:
            positions.append(at)
        elif kind == SECTION:
            major, minor = struct.unpack_from(order + "2H", data, at + 12)
            if major != 1:
                raise ValueError(f"{name}: byte {base + at}: expected pcapng version 1, got {major}.{minor}")
            sections.append((len(positions), len(interfaces), order))
        elif kind == INTERFACE:
            interfaces.append(_interface(data[at + 8 : end - 4], order))
            if len(interfaces) > MAX_INTERFACES:
                raise ValueError(f"{name}: expected at most {MAX_INTERFACES} interfaces, got more")
        at = end
    return positions, sections, at, False


def _interface(body, order):
    """Interface description block -> link type, time units per second, offset of its times in seconds."""
    link_type = struct.unpack_from(order + "H", body)[0]
    units, offset, at = 10**6, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "2H", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == OPTION_END:
            break
        if code == OPTION_RESOLUTION and len(value) == 1:
            units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == OPTION_OFFSET and len(value) == 8:
            offset = struct.unpack(order + "q", value)[0]
        at += 4 + length + -length % 4  # values are padded to 32 bits
    return link_type, units, offset


def _packet_blocks(array, base, positions, sections, interfaces, skipped, reject):
    """Packet blocks -> offset of the block, time, start and end of the packet, link type; (packets,) each."""
    position = np.array(positions, np.int64)
    since, first, big = np.array([(p, i, order == ">") for p, i, order in sections]).T
    section = np.repeat(np.arange(since.size), np.diff(since, append=position.size))  # of each packet
    last = np.append(first[1:], len(interfaces))[section]  # its interfaces are first..last-1
    first, big = first[section], big[section] == 1
    fields = _gather(array, position, BLOCK_HEADER)
    fields[big] = fields[big].byteswap()

    interface = fields["interface"].astype(np.int64)
    old = fields["kind"] == OLD_PACKET  # 16 bits of interface, 16 bits of drop count
    interface[old] = np.where(big[old], interface[old] >> 16, interface[old] & 0xFFFF)
    interface += first
    simple = fields["kind"] == SIMPLE_PACKET
    long = ~simple & (fields["captured"] + np.int64(32) > fields["size"])
    unknown = ~simple & ~long & (interface >= last)
    _reject(reject, "packet without a time", base, position, simple)
    _reject(reject, "malformed packet block", base, position, long)
    _reject(reject, "packet of an undescribed interface", base, position, unknown)
    good = ~(simple | long | unknown)
    position, interface = position[good], interface[good]
    captured, high, low = (fields[name][good] for name in ("captured", "high", "low"))

    table = interfaces or [(0, 1, 0)]  # without interfaces no packet is left
    link_type = np.array([link_type for link_type, _, _ in table])[interface]
    whole = np.array([min(units, 2**64 - 1) for _, units, _ in table], np.uint64)[interface]
    scale = np.array([units for _, units, _ in table], np.float64)[interface]
    offset = np.array([offset for _, _, offset in table], np.float64)[interface]
    stamp = high.astype(np.uint64) << np.uint64(32) | low
    seconds = stamp // whole
    time = seconds + offset + (stamp - seconds * whole) / scale  # keeps the fraction of a long stamp
    outside = ~((time >= 0) & (time < END_OF_TIME))
    _reject(reject, "time outside the years 1970 to 9999", base, position, outside)
    known = np.isin(link_type, list(SUPPORTED))
    for other in np.unique(link_type[~outside & ~known]):
        _skip(skipped, f"of link type {_named(int(other))}", ~outside & (link_type == other))
    start, good = position + 28, known & ~outside
    return (a[good] for a in (position, time, start, start + captured, link_type))


def _packets(array, base, position, time, start, end, link_type, skipped, reject):
    """Yield the columns of the TCP packets; three sieves (link layer, IPv4, TCP) count the rest.

    A packet is bytes start..end-1 of ``array``; its record begins at ``position``, which is byte ``base`` +
    ``position`` of the file. ``link_type`` is one number or (packets,).
    """
    ethertype, ip = _network_layer(array, start, end, link_type)
    cut = ip >= end
    good = ~cut & (ethertype == IPV4)
    if not good.all():
        _reject(reject, "truncated packet", base, position, cut)
        ipv6, arp = ~cut & (ethertype == IPV6), ~cut & (ethertype == ARP)
        _skip(skipped, "IPv6", ipv6)
        _skip(skipped, "ARP", arp)
        _skip(skipped, "not IP", ~(cut | good | ipv6 | arp))
    position, time, end, ip = position[good], time[good], end[good], ip[good]

    header = _gather(array, ip, IP_HEADER)
    version, protocol = header["version_ihl"] >> 4, header["protocol"]
    ihl = (header["version_ihl"] & 15).astype(np.int64) * 4
    cut = ip + 20 > end
    length = header["length"].astype(np.int64)
    length = np.where(length == 0, np.minimum(end - ip, 65535), length)
    malformed = ~cut & ((version != 4) | (ihl < 20) | (length < ihl))
    whole = ~(cut | malformed)
    good = whole & (protocol == TCP) & (header["fragment"] & 0x1FFF == 0)
    if not good.all():
        _reject(reject, "truncated packet", base, position, cut)
        _reject(reject, "malformed IPv4 header", base, position, malformed)
        _skip(skipped, "UDP", whole & (protocol == UDP))
        _skip(skipped, "ICMP", whole & (protocol == ICMP))
        _skip(skipped, "other protocol", whole & ~np.isin(protocol, (TCP, UDP, ICMP)))
        _skip(skipped, "later fragment", whole & (protocol == TCP) & ~good)
    position, time = position[good], time[good]
    src, dst, ttl = (header[field][good] for field in ("src", "dst", "ttl"))
    tcp = (ip + ihl)[good]
    end, length = np.minimum(end, ip + length)[good], length[good]  # behind it: padding of the frame

    cut = tcp + 4 > end
    if cut.any():
        _reject(reject, "truncated packet", base, position, cut)
        time, src, dst, length, ttl, tcp, end = (a[~cut] for a in (time, src, dst, length, ttl, tcp, end))
    if not time.size:
        return
    header = _gather(array, tcp, TCP_HEADER)
    mss, timestamp = _tcp_options(array, tcp + 20, np.minimum(end, tcp + 4 * (header["offset"] >> 4)))
    yield {
        "time": time,
        "src": src.astype(np.uint32),
        "dst": dst.astype(np.uint32),
        "port": header["port"].astype(np.int32),
        "length": length.astype(np.uint16),
        "ttl": ttl,
        "mss": mss,
        "window": np.where(tcp + 16 <= end, header["window"], 0).astype(np.uint16),
        "timestamp": timestamp,
        "seq": np.where(tcp + 8 <= end, header["seq"], 0).astype(np.uint32),
    }


def _network_layer(array, start, end, link_type):
    """Ethertype and offset of what the link layer carries, (packets,) each; offset >= end where it is cut."""
    if np.ndim(link_type):
        ethertype, ip = np.empty(start.size, np.uint16), np.empty(start.size, np.int64)
        for one in np.unique(link_type):
            rows = link_type == one
            ethertype[rows], ip[rows] = _network_layer(array, start[rows], end[rows], int(one))
        return ethertype, ip

    if link_type in LOOPBACK:
        family = _gather(array, start, U4).astype(np.uint32)
        return FAMILY[np.minimum(np.minimum(family, family.byteswap()), 255)], start + 4
    if link_type in RAW:
        version = array[start] >> 4
        return np.where(version == 4, IPV4, np.where(version == 6, IPV6, 0)).astype(np.uint16), start
    if link_type in (RAW_IPV4, RAW_IPV6):
        return np.full(start.size, IPV4 if link_type == RAW_IPV4 else IPV6, np.uint16), start
    at, header = ETHERTYPE_AT[link_type]
    ethertype, ip = _gather(array, start + at, U2).astype(np.uint16), start + header
    for _ in range(MAX_VLAN_TAGS):
        vlan = (ethertype == VLAN[0]) | (ethertype == VLAN[1]) | (ethertype == VLAN[2])
        tagged = np.flatnonzero(vlan & (ip < end))
        if not tagged.size:
            break
        ethertype[tagged] = _gather(array, ip[tagged] + 2, U2)
        ip[tagged] += 4
    session = np.flatnonzero((ethertype == PPPOE) & (ip < end))
    if session.size:
        protocol = _gather(array, ip[session] + 6, U2)
        ethertype[session] = np.where(protocol == PPP[0], IPV4, np.where(protocol == PPP[1], IPV6, 0))
        ip[session] += 8
    return ethertype, ip


def _tcp_options(array, at, end):
    """MSS and TSval in the TCP option lists at bytes at..end-1, (packets,) each; 0 where absent."""
    mss, timestamp = np.zeros(at.size, np.uint16), np.zeros(at.size, np.uint32)
    row = np.flatnonzero(at < end)
    at, end = at[row], end[row]
    while row.size:  # at most 40 rounds: each goes on by at least one of at most 40 bytes
        kind, length = array[at], array[at + 1].astype(np.int64)
        length[kind == NOP] = 1
        found = (kind == MSS) & (length == 4) & (at + 4 <= end)
        mss[row[found]] = _gather(array, at[found] + 2, U2)
        found = (kind == TIMESTAMP) & (length == 10) & (at + 10 <= end)
        timestamp[row[found]] = _gather(array, at[found] + 2, U4)
        at = at + length
        more = (at < end) & (kind != 0) & (length > (kind != NOP))
        row, at, end = row[more], at[more], end[more]
    return mss, timestamp


def _named(link_type):
    return f"{link_type} ({UNSUPPORTED[link_type]})" if link_type in UNSUPPORTED else f"{link_type}"


def _gather(array, offsets, dtype):
    """The headers of type ``dtype`` at byte ``offsets``, aligned or not, of the uint8 ``array``."""
    everywhere = np.ndarray(array.size - dtype.itemsize + 1, f"V{dtype.itemsize}", array, strides=(1,))
    return everywhere[offsets].view(dtype)


def _reject(reject, reason, base, position, broken):
    if broken.any():
        reject(reason, f"byte {base + position[broken.argmax()]}", int(broken.sum()))


def _skip(skipped, reason, rows):
    if rows.any():
        skipped[reason] += int(rows.sum())


def _read(stream, size):
    """``size`` bytes of ``stream``, fewer only at its end."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
