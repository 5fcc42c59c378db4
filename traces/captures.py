"""Packet captures, pcap and pcapng, read into the columns of the paper's Table 1: TCP over IPv4 only.

Formats: pcap-savefile(5) of libpcap, draft-ietf-opsawg-pcapng. sieve.py finds the packets in the frames.

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
  - A corrupt record length ends the reading: where the next record starts would be a guess. What came before
    it counts. The same for a capture that ends inside a packet or its own header. All are rejected with their place,
    and how many bytes were not read is told. Reading goes on where another pcap begins behind.
  - A pcapng simple packet block has no time, hence no day: rejected ("packet without a time").
  - A link type that is not supported is an error; in pcapng, where other interfaces may be fine, and in a later one of
    several captures its packets are skipped and counted.
  - Captures may follow one another in a stream, of any kinds, as `cat` joins them, also behind one that is cut.
  - More than a million microseconds in most of the first records are nanoseconds under the wrong magic.

A Python loop steps over records where it takes one. Imports the standard library, numpy, and of this room
links and sieve.
"""

import re
import struct
from functools import partial

import numpy as np

from traces.links import EXPECTED, PADDING, SUPPORTED, gather, named
from traces.sieve import leave_out, refuse, tcp_packets

CHUNK_BYTES = 4 << 20  # read at a time; what is computed from it stays in the processor's cache
FIRST_BYTES = 1 << 16  # read first of a capture behind another one: there may be many small ones
MAX_RECORD = 262_144  # bytes of a captured packet, libpcap's own limit
MOST_SINGLE = 1024  # records that are stepped over one by one, until those that are likely are looked at again
MAX_BLOCK = 16 << 20  # bytes of a pcapng block: those that hold no packet (names, keys) may be long
MAX_INTERFACES = 65_536
END_OF_TIME = 253_402_300_800  # the year 10000

# magic -> (byte order, time units per second, bytes of a record header). The third is the "modified" format
# of Kuznetzov's patched tcpdump and of the FRITZ!Box: eight more bytes per record, of no use here.
PCAP = {
    struct.pack(order + "I", magic): (order, units, header)
    for magic, units, header in ((0xA1B2C3D4, 10**6, 16), (0xA1B23C4D, 10**9, 16), (0xA1B2CD34, 10**6, 24))
    for order in "<>"
}
LOOK_BACK = 8  # records before an odd one in which the header of another capture is looked for
MAX_ODD = 1000  # odd records of a chunk that are looked at for that
PCAPNG = b"\n\r\r\n"  # type of the section header block, the same in both byte orders
MAGICS = (*PCAP, PCAPNG)
STARTS = {magic + struct.pack(order + "2H", 2, 4) for magic, (order, _, _) in PCAP.items()}  # magic and version
PCAP_HEADER = re.compile(b"(?:%s)%s" % (b"|".join(map(re.escape, sorted(STARTS))), bytes(8)))  # and eight zeros
PCAP_HEADER_BYTES = 16
BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
PACKET_BLOCKS = (ENHANCED_PACKET, OLD_PACKET, SIMPLE_PACKET)
SHORTEST = {SECTION: 28, INTERFACE: 20, OLD_PACKET: 32, SIMPLE_PACKET: 16, ENHANCED_PACKET: 32}  # bytes
OPTION_END, OPTION_RESOLUTION, OPTION_OFFSET = 0, 9, 14  # of an interface

BLOCK_HEADER = np.dtype([(f, "<u4") for f in ("kind", "size", "interface", "high", "low", "captured")])


def ignore(*_):
    """A `warn` and `tunnelled` for who does not want to know."""


def read_capture(stream, name, skip, reject, warn=ignore, tunnelled=ignore, chunk_bytes=CHUNK_BYTES):
    """Yield the TCP/IPv4 packets of a pcap or pcapng `stream` (only `.read(n)` is used) in chunks.

    `skip(kind, place, count)` is called for well-formed records out of scope: "UDP", "ICMP", "other protocol", "later
    fragment", "IPv6", "ARP", "not IP", "of link type N"; `reject(reason, place, count)` for broken ones left out. A
    place is "byte N", the first of them. `tunnelled(kind, place, count)` is told of packets taken out of tunnels, once
    for each tunnel that one was in; where it is None, such packets are skipped, "in a tunnel, VXLAN" and so on.
    `warn(what)` is told of nanoseconds under the microseconds' magic and of bytes behind a break. Memory is bounded by
    a small multiple of `chunk_bytes` (or of one record where that is longer). Raises ValueError, naming `name`, when
    the magic, the version or a first pcap's link type is not one it reads.
    """
    source = _Source(stream, chunk_bytes)
    sieve = partial(tcp_packets, skip=skip, reject=reject, tunnelled=tunnelled)
    more = True
    while more:
        head, more = source.read(24), False
        if head and len(head) < 24 and any(magic.startswith(head[:4]) for magic in MAGICS):
            reject("capture ends inside its header", f"byte {source.place}")
        elif head[:4] in PCAP:
            more = yield from _read_pcap(source, name, head, sieve, skip, reject, warn)
        elif head[:4] == PCAPNG:
            more = yield from _read_pcapng(source, name, head, sieve, skip, reject, warn)
        else:
            got = f"the bytes {head[:4].hex(' ')}" if head else "an empty file"
            raise ValueError(f"{name}: expected a capture, beginning with the magic of pcap or pcapng, got {got}")


class _Source:
    """A stream that gives as many bytes as asked for, fewer only at its end, and takes back those just given."""

    def __init__(self, stream, chunk_bytes):
        self.stream, self.most, self.size = stream, chunk_bytes, chunk_bytes
        self.buffer, self.at = b"", 0
        self.place = 0  # in the stream, of the next byte to give

    def read(self, size):
        if size > len(self.buffer) - self.at:
            parts = [self.buffer[self.at :]] if self.at < len(self.buffer) else []
            missing = size - sum(map(len, parts))
            while missing and (part := self.stream.read(missing)):
                parts.append(part)
                missing -= len(part)
            self.buffer, self.at = b"".join(parts), 0
        data = self.buffer[self.at : self.at + size]
        self.at += len(data)
        self.place += len(data)
        return data

    def chunk(self):
        """The next bytes, few behind `give_back` and then more and more: there may be many small captures."""
        data = self.read(self.size)
        self.size = min(4 * self.size, self.most)
        return data

    def give_back(self, data):
        if len(data) <= self.at:
            self.at -= len(data)
        else:
            self.buffer, self.at = b"".join((data, self.buffer[self.at :])), 0
        self.place -= len(data)
        self.size = min(self.most, FIRST_BYTES)


def _read_pcap(source, name, head, sieve, skip, reject, warn):
    """pcap-savefile(5): a file header of 24 bytes, then records of header and packet.

    Returns whether another capture follows; `source` gives that next.
    """
    order, units, header = PCAP[head[:4]]
    major, minor = struct.unpack_from(order + "2H", head, 4)
    if (major, minor) != (2, 4):
        raise ValueError(f"{name}: expected pcap version 2.4, got {major}.{minor}")
    link_type = struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF  # above: frame check sequence length
    if link_type not in SUPPORTED and source.place == len(head):
        raise ValueError(f"{name}: expected link type {EXPECTED}, got {named(link_type)}")

    record = np.dtype([(field, order + "u4") for field in ("seconds", "fraction", "captured", "length")])
    base, data, decided = source.place, b"", False  # data[0] is byte `base` of the file
    while (more := source.chunk()) or data:
        data = b"".join((data, more, PADDING))
        size = len(data) - len(PADDING)
        position, at, corrupt = _walk_records(data, size, order, header)
        broken = corrupt or (at < size and not more)
        wait = int(position[-LOOK_BACK:][0]) if more and position.size and not corrupt else at  # for what follows them
        array = np.frombuffer(data, np.uint8)
        fields = gather(array, position, record)
        wrong = fields["fraction"] > units  # a whole unit comes of rounding
        odd = wrong | (fields["captured"] > fields["length"]) | ((fields["captured"] == 0) & (fields["seconds"] != 0))
        joined = _next_capture(data, position, odd, at, size, broken) if broken or odd.any() else None
        if joined is None:
            whole = np.searchsorted(position, wait)
        else:
            whole = np.searchsorted(position + header + fields["captured"], joined, side="right")
        position, fields, wrong = position[:whole], fields[:whole], wrong[:whole]
        if not decided and position.size:
            decided = True
            if units == 10**6 and np.mean(wrong & (fields["fraction"] < 10**9)) > 0.5:
                units, wrong = 10**9, fields["fraction"] > 10**9
                warn("its fractions of a second are nanoseconds, though its magic says microseconds")
        refuse(reject, "malformed record header", base, position, wrong)
        time = fields["seconds"] + fields["fraction"] / units
        start = position + header
        end = start + fields["captured"]
        if link_type in SUPPORTED:
            records = position, time, start, end
            if wrong.any():
                records = (a[~wrong] for a in records)
            yield from sieve(array, base, *records, link_type)
        else:
            leave_out(skip, f"of link type {named(link_type)}", base, position, ~wrong)
        if joined is not None:
            last = int(end[-1]) if end.size else 0
            if last < joined:
                reject("capture ends inside a packet", f"byte {base + last}")
                _tell_unread(warn, base + last, joined - last)
            source.give_back(memoryview(data)[joined:size])
            return True
        if corrupt:
            return _stop(source, reject, warn, "corrupt record length, reading ended there", base + at, data[at:size])
        if broken:
            reject("capture ends inside a packet", f"byte {base + at}")
            return False
        base, data = base + wait, data[wait:size]
    return False


def _walk_records(data, size, order, header):
    """Step through the whole records of ``data[:size]``: their offsets, (records,) int64, that where the walk stopped,
    and whether the length of the record there is absurd.

    A record most likely begins where the two upper bytes of the first one's seconds come again, which stay for 18
    hours. Where records lead from one such place to the next they are taken at once, elsewhere one by one, and more and
    more before the places are looked at again.
    """
    places, straight = _likely_records(data, size, order, header)
    bends = np.append(np.flatnonzero(~straight), len(places) - 1)
    at, found, word, single = 0, [], struct.Struct(order + "I").unpack_from, 1
    while True:
        i = np.searchsorted(places, at)
        single = min(2 * single, MOST_SINGLE)
        if i < len(places) and places[i] == at:
            last = bends[np.searchsorted(bends, i)]
            found.append(places[i:last])
            at, single = int(places[last]), 1 if last - i > MOST_SINGLE else single
        one_by_one = []
        for _ in range(single):
            captured = word(data, at + 8)[0] if at + header <= size else 0
            if at + header + captured > size or captured > MAX_RECORD:
                return np.concatenate([*found, one_by_one]).astype(np.int64), at, captured > MAX_RECORD
            one_by_one.append(at)
            at += header + captured
        found.append(one_by_one)


def _likely_records(data, size, order, header):
    """Places in ``data[:size]`` that look like records' beginnings, ascending, and from which of them but the last a
    record leads to the next."""
    buf, upper, lower = np.frombuffer(data, np.uint8), *((3, 2) if order == "<" else (0, 1))
    count = max(0, size - header + 1)
    likely = buf[upper:][:count] == buf[upper]
    likely &= buf[lower:][:count] == buf[lower]
    few = np.count_nonzero(likely) <= count // header       # else no records', but zeros of a clock that was not set
    places = np.flatnonzero(likely) if few else np.empty(0, np.int64)
    captured = gather(buf, places + 8, np.dtype(order + "u4")).astype(np.int64)
    return places, (np.diff(places) == (captured + header)[:-1]) & (captured[:-1] <= MAX_RECORD)


def _next_capture(data, position, odd, at, size, broken):
    """Where in ``data[:size]`` another capture begins, or None. Its header looks like an odd record, or it stands where
    the walk stopped at a break; behind a capture that is cut it is within one of the last records before these."""
    for begin in position[odd][:MAX_ODD].tolist() + ([at] if broken else []):
        head = data[begin : begin + 12]
        if head[:8] in STARTS or (head[:4] == PCAPNG and head[8:] in BYTE_ORDER):
            return begin
        since = position[max(np.searchsorted(position, begin) - LOOK_BACK, 0)] if position.size else begin
        if found := PCAP_HEADER.search(data, since, size if begin == at else begin + PCAP_HEADER_BYTES):
            return found.start()
    return None


def _stop(source, reject, warn, what, place, data):
    """End the reading of a capture at a break: say where, and how many bytes, which begin with `data`, were not read.

    Returns whether a pcap follows somewhere; `source` gives that next.
    """
    reject(what, f"byte {place}")
    count, found = 0, None
    while data:
        if (found := PCAP_HEADER.search(data)) is not None:
            source.give_back(memoryview(data)[found.start() :])
            count += found.start()
            break
        rest = data[-PCAP_HEADER_BYTES + 1 :]
        more = source.read(source.most)
        count += len(data) - (len(rest) if more else 0)
        data = rest + more if more else b""
    _tell_unread(warn, place, count)
    return found is not None


def _tell_unread(warn, place, count):
    warn(f"it breaks at byte {place:,}: {count:,} bytes from there on were not read")


def _read_pcapng(source, name, head, sieve, skip, reject, warn):
    """draft-ietf-opsawg-pcapng: blocks of type, size, body, size again; byte order by section.

    Returns whether a pcap follows; `source` gives that next.
    """
    if head[8:12] not in BYTE_ORDER:
        raise ValueError(f"{name}: expected a pcapng section header, got the bytes {head.hex(' ')}")
    base, data = source.place - len(head), head  # data[0] is byte `base` of the file
    order, interfaces = BYTE_ORDER[head[8:12]], []  # of the current section
    while more := source.chunk():
        data = b"".join((data, more, PADDING))
        size = len(data) - len(PADDING)
        positions, sections, at, corrupt = _walk_blocks(name, data, size, base, order, interfaces)
        array = np.frombuffer(data, np.uint8)
        blocks = _packet_blocks(array, base, positions, sections, interfaces, skip, reject)
        yield from sieve(array, base, *blocks)
        if corrupt and data[at : at + 8] in STARTS:
            source.give_back(memoryview(data)[at:size])
            return True
        if corrupt:
            return _stop(source, reject, warn, "corrupt block, reading ended there", base + at, data[at:size])
        _, first, order = sections[-1]
        del interfaces[:first]
        base, data = base + at, data[at:size]
    found = PCAP_HEADER.search(data)
    if found:
        source.give_back(memoryview(data)[found.start() :])
        _tell_unread(warn, base, found.start())
    if data:
        reject("capture ends inside a packet", f"byte {base}")
    return bool(found)


def _walk_blocks(name, data, size, base, order, interfaces):
    """Step through the whole blocks of ``data[:size]``; ``interfaces`` gains the ones they describe.

    Returns the offsets of the packet blocks; the sections, each as the index of its first packet, the index
    of its first interface, its byte order; the offset where the walk stopped; whether that is at no pcapng block.
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
        if length % 4 or not SHORTEST.get(kind, 12) <= length <= MAX_BLOCK or data[at : at + 8] in STARTS:
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


def _packet_blocks(array, base, positions, sections, interfaces, skip, reject):
    """Packet blocks -> offset of the block, time, start and end of the packet, link type; (packets,) each."""
    position = np.array(positions, np.int64)
    since, first, big = np.array([(p, i, order == ">") for p, i, order in sections]).T
    section = np.repeat(np.arange(since.size), np.diff(since, append=position.size))  # of each packet
    last = np.append(first[1:], len(interfaces))[section]  # its interfaces are first..last-1
    first, big = first[section], big[section] == 1
    fields = gather(array, position, BLOCK_HEADER)
    fields[big] = fields[big].byteswap()

    interface = fields["interface"].astype(np.int64)
    old = fields["kind"] == OLD_PACKET  # 16 bits of interface, 16 bits of drop count
    interface[old] = np.where(big[old], interface[old] >> 16, interface[old] & 0xFFFF)
    interface += first
    simple = fields["kind"] == SIMPLE_PACKET
    long = ~simple & (fields["captured"] + np.int64(32) > fields["size"])
    unknown = ~simple & ~long & (interface >= last)
    refuse(reject, "packet without a time", base, position, simple)
    refuse(reject, "malformed packet block", base, position, long)
    refuse(reject, "packet of an undescribed interface", base, position, unknown)
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
    refuse(reject, "time outside the years 1970 to 9999", base, position, outside)
    known = np.isin(link_type, list(SUPPORTED))
    for other in np.unique(link_type[~outside & ~known]):
        leave_out(skip, f"of link type {named(int(other))}", base, position, ~outside & (link_type == other))
    start, good = position + 28, known & ~outside
    return (a[good] for a in (position, time, start, start + captured, link_type))
