"""Tunnels in captures, as mirrors of switches, routers and clouds use them: the packet inside a packet.

    IP in IP   RFC 2003, 4213 (IPv6 inside), 2473 (IPv6 outside)
    GRE        RFC 2784, 2890, 2637 (PPTP), also in UDP (RFC 8086)
    ERSPAN     I, II and III, draft-foschiano-erspan
    EtherIP    RFC 3378
    MPLS       RFC 3032, also in IP and UDP (RFC 4023, 7510), RFC 4448 (Ethernet inside)
    VXLAN      RFC 7348, with GPE (draft-ietf-nvo3-vxlan-gpe)
    GENEVE     RFC 8926
    TZSP       TaZmen Sniffer Protocol (MikroTik)

`peel` takes off the outermost tunnel of many packets at once, (packets,) arrays as in links.py. What is no tunnel of
these kinds, or holds neither IP nor ARP nor MPLS, it leaves as it is: who scans a tunnel's UDP port sends UDP.
Imports numpy, and links of this room.
"""

import numpy as np

from traces import links
from traces.links import ARP, IPV4, IPV6, LONGEST, MPLS, U2, by_version, ethernet, gather, ppp, tagged

MAX_DEPTH = 8  # tunnels inside one another
MAX_LABELS = 16  # of MPLS
MAX_TAGS = 16  # of a TZSP header
MAX_EXTENSIONS = 8  # of an IPv6 header
UDP, MPLS_IN_IP = 17, 137
BRIDGED, ERSPAN_1_2, ERSPAN_3, GRE_PPP = 0x6558, 0x88BE, 0x22EB, 0x880B  # "ethertypes" of GRE, the first of GENEVE too
GPE = np.zeros(256, np.uint16)  # next protocol of VXLAN-GPE -> ethertype
GPE[[1, 2, 5]] = IPV4, IPV6, MPLS
TZSP_FRAMES = {1: 1, 18: 105, 119: 119, 127: 163}  # encapsulated protocol of TZSP -> link type
EXTENSIONS, FRAGMENT = (0, 43, 60, 135), 44  # of IPv6: hop by hop, routing, destination, mobility
INSIDE = (IPV4, IPV6, ARP, MPLS)  # what a tunnel holds, if it is one
NAMES = ("no tunnel", "MPLS", "IP in IP", "GRE", "ERSPAN", "EtherIP", "VXLAN", "GENEVE", "TZSP")
_, IS_MPLS, IS_IP_IN_IP, IS_GRE, IS_ERSPAN, IS_ETHERIP, IS_VXLAN, IS_GENEVE, IS_TZSP = range(len(NAMES))

IP_HEADER = np.dtype(
    [("version_ihl", "u1"), ("tos", "u1"), ("length", ">u2"), ("id", ">u2"), ("fragment", ">u2"),
     ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4")]
)  # fmt: skip


def suspects(array, ethertype, at, header):
    """The packets of `ethertype` at bytes `at` that may be tunnels, (rows,) int64: a first look that is cheap.

    `header` (packets,) is an IP_HEADER at those bytes, of no meaning where the packet is not IPv4.
    """
    protocol = np.ascontiguousarray(header["protocol"])
    held = IS_PROTOCOL[protocol]
    udp = np.flatnonzero(protocol == UDP)
    if udp.size:
        size = (header["version_ihl"][udp] & 15).astype(np.int64) * 4
        held[udp] = IS_PORT[gather(array, at[udp] + size + 2, U2)]
    other = np.flatnonzero(ethertype != IPV4)
    if other.size:
        following = array[at[other] + 6]  # of IPv6, and where that is UDP its port
        named = IS_PROTOCOL[following] | IS_EXTENSION[following]
        named |= (following == UDP) & IS_PORT[gather(array, at[other] + 42, U2)]
        held[other] = (ethertype[other] == MPLS) | ((ethertype[other] == IPV6) & named)
    return np.flatnonzero(held)


def peel(array, ethertype, at, end):
    """Take the outermost tunnel off packets of `ethertype` at bytes at..end-1 of `array`.

    Returns the tunnel's place in NAMES, (packets,) int64, 0 where there is none, and ethertype, offset and end of what
    it carries. The offset is `end` where the capture cut the packet within the tunnel.
    """
    kind, carried, inner = np.zeros(at.size, np.int64), ethertype.copy(), at.copy()
    protocol, payload, stop, cut = _payload(array, ethertype, at, end)
    labelled = ethertype == MPLS
    protocol[labelled] = MPLS_IN_IP
    port = np.where((protocol == UDP) & (payload + 8 <= stop), gather(array, payload + 2, U2), 0)
    for opens, key, skip in ((PROTOCOLS, protocol, 0), (PORTS, port, 8)):
        for number in np.unique(key[np.isin(key, list(opens))]).tolist():
            rows = np.flatnonzero(key == number)
            begin = np.minimum(payload[rows] + skip, stop[rows])
            kind[rows], carried[rows], inner[rows] = opens[number](array, begin, stop[rows])
    inner = np.minimum(inner, stop)
    ip = (carried == IPV4) | (carried == IPV6)
    whole = np.where(ip, by_version(array, inner) == carried, np.isin(carried, INSIDE))
    kind[~np.where(inner < stop, whole, cut)] = 0
    return kind, carried, inner, stop


def _payload(array, ethertype, at, end):
    """Protocol, offset and end of what IP packets carry, and whether the capture cut them; protocol -1: nothing."""
    protocol, payload, stop = np.full(at.size, -1), at.copy(), end.copy()
    rows = np.flatnonzero((ethertype == IPV4) & (at + 20 <= end))
    header = gather(array, at[rows], IP_HEADER)
    size = (header["version_ihl"] & 15).astype(np.int64) * 4
    length = np.where(header["length"] == 0, end[rows] - at[rows], header["length"])
    good = (header["version_ihl"] >> 4 == 4) & (size >= 20) & (length >= size) & (header["fragment"] & 0x1FFF == 0)
    rows, size, length = rows[good], size[good], length[good]
    protocol[rows], payload[rows], stop[rows] = header["protocol"][good], at[rows] + size, at[rows] + length
    rows = np.flatnonzero((ethertype == IPV6) & (at + 40 <= end))
    if rows.size:
        length = gather(array, at[rows] + 4, U2).astype(np.int64)
        stop[rows] = np.where(length == 0, end[rows], at[rows] + 40 + length)
        protocol[rows], payload[rows] = _behind_extensions(array, array[at[rows] + 6].astype(np.int64), at[rows] + 40,
                                                           end[rows])  # fmt: skip
    cut = stop > end
    stop = np.minimum(stop, end)
    return protocol, np.minimum(payload, stop), stop, cut


def _behind_extensions(array, protocol, at, end):
    """Protocol and offset of what follows the extension headers of IPv6 packets."""
    for _ in range(MAX_EXTENSIONS):
        first = (protocol == FRAGMENT) & (gather(array, at + 2, U2) >> 3 == 0)
        rows = np.flatnonzero((np.isin(protocol, EXTENSIONS) | first) & (at + 8 <= end))
        if not rows.size:
            break
        size = np.where(first[rows], 8, array[at[rows] + 1].astype(np.int64) * 8 + 8)
        protocol[rows], at[rows] = array[at[rows]], np.minimum(at[rows] + size, end[rows])
    return protocol, at


# Each of these opens tunnels of one kind, whose headers stand at bytes at..end-1. It returns the tunnels' place in
# NAMES, one for all or (packets,), the ethertype of what is inside, 0 where that is unknown, and its offset.


def _ip(array, at, end):
    """IPv4 or IPv6, told by its first bits."""
    return IS_IP_IN_IP, by_version(array, at), at


def _mpls(array, at, end):
    """Labels of four bytes up to the one marked as the last; then IP, or Ethernet, behind a control word or not."""
    inner, more = at, np.ones(at.size, bool)
    for _ in range(MAX_LABELS):
        last = array[np.minimum(inner + 2, end)] & 1 == 1
        inner, more = np.where(more, np.minimum(inner + 4, end), inner), more & ~last
        if not more.any():
            break
    ethertype = np.where(more, 0, by_version(array, inner)).astype(np.uint16)
    for control_word in (4, 0):
        rows = np.flatnonzero((ethertype == 0) & ~more)
        if rows.size:
            carried, behind = ethernet(array, np.minimum(inner[rows] + control_word, end[rows]), end[rows])
            known = np.isin(carried, INSIDE)
            ethertype[rows[known]], inner[rows[known]] = carried[known], behind[known]
    return IS_MPLS, ethertype, inner


def _gre(array, at, end):
    """GRE: flags tell which optional fields of four bytes are there. Inside ERSPAN, Ethernet, PPP or any ethertype."""
    flags, protocol = gather(array, at, U2).astype(np.uint16), gather(array, at + 2, U2).astype(np.uint16)
    size = np.full(at.size, 4)
    for flag in (0x8000, 0x2000, 0x1000):  # checksum, key, sequence number
        size += 4 * (flags & flag != 0)
    size += 4 * (flags & 0x0087 == 0x0081)  # version 1, PPTP's, acknowledges
    inner = np.minimum(at + size, end)
    protocol[(flags & 7 > 1) | (flags & 0x4000 != 0) | (protocol <= LONGEST)] = 0  # later versions, lists of routes
    mirrored = (protocol == ERSPAN_1_2) | (protocol == ERSPAN_3)
    sequenced = (protocol == ERSPAN_3) | (flags & 0x1000 != 0)
    for rows, opens in ((protocol == BRIDGED, ethernet), (protocol == GRE_PPP, lambda a, at, end: ppp(a, at))):
        if rows.any():
            protocol[rows], inner[rows] = opens(array, inner[rows], end[rows])
    if mirrored.any():
        rows = mirrored
        protocol[rows], inner[rows] = _erspan(array, inner[rows], end[rows], sequenced[rows])
    protocol, inner = tagged(array, protocol, inner, end)
    return np.where(mirrored, IS_ERSPAN, IS_GRE), protocol, inner


def _erspan(array, at, end, sequenced):
    """Ethertype and offset of what ERSPAN mirrors.

    Type I, without sequence numbers, has no header of its own, type II one of 8 bytes, type III one of 12 and, where
    it says so, 8 more of the platform; it may hold IP without Ethernet.
    """
    third = sequenced & (array[at] >> 4 == 2)
    flags = gather(array, np.minimum(at + 10, end), U2).astype(np.int64)
    inner = np.minimum(at + np.where(third, 12 + 8 * (flags & 1), np.where(sequenced, 8, 0)), end)
    ethertype, behind = ethernet(array, inner, end)
    packet = third & (flags >> 10 & 31 == 2)
    return np.where(packet, by_version(array, inner), ethertype), np.where(packet, inner, behind)


def _etherip(array, at, end):
    """Two bytes, version 3, then Ethernet."""
    ethertype, inner = ethernet(array, np.minimum(at + 2, end), end)
    return IS_ETHERIP, np.where(array[at] >> 4 == 3, ethertype, 0), inner


def _vxlan(array, at, end):
    """Eight bytes, then Ethernet; with GPE a byte may name IP or MPLS instead. Without the flag I it is no VXLAN."""
    inner = np.minimum(at + 8, end)
    ethertype, behind = ethernet(array, inner, end)
    named = np.where(array[at] & 4 == 4, array[at + 3], 3)
    ethertype, behind = np.where(named == 3, ethertype, GPE[named]), np.where(named == 3, behind, inner)
    return np.where((array[at] & 8 == 8) & (at + 8 <= end), IS_VXLAN, 0), ethertype, behind


def _geneve(array, at, end):
    """Eight bytes and options, then Ethernet or any ethertype."""
    inner = np.minimum(at + 8 + 4 * (array[at] & 63).astype(np.int64), end)
    ethertype = gather(array, at + 2, U2).astype(np.uint16)
    frame = ethertype == BRIDGED
    ethertype[frame], inner[frame] = ethernet(array, inner[frame], end[frame])
    return np.where((array[at] >> 6 == 0) & (at + 8 <= end), IS_GENEVE, 0), ethertype, inner


def _tzsp(array, at, end):
    """Four bytes and tags up to the one that ends them, then a frame of the link type that the header names."""
    inner, more = np.minimum(at + 4, end), np.ones(at.size, bool)
    for _ in range(MAX_TAGS):
        tag, length = array[inner], array[inner + 1].astype(np.int64)
        step = np.where(tag > 1, length + 2, 1)
        inner, more = np.where(more, np.minimum(inner + step, end), inner), more & (tag != 1)
    frame = gather(array, at + 2, U2)
    link_type = np.select([frame == number for number in TZSP_FRAMES], list(TZSP_FRAMES.values()), -1)
    good = (link_type >= 0) & (array[at] == 1) & ~more & (at + 4 <= end)
    ethertype = np.zeros(at.size, np.uint16)
    ethertype[good], inner[good] = links.network_layer(array, inner[good], end[good], link_type[good])
    return np.where(good, IS_TZSP, 0), ethertype, inner


PROTOCOLS = {4: _ip, 41: _ip, 94: _ip, 47: _gre, 97: _etherip, MPLS_IN_IP: _mpls}
PORTS = {4754: _gre, 4789: _vxlan, 4790: _vxlan, 8472: _vxlan, 6081: _geneve, 6635: _mpls, 37008: _tzsp}  # of UDP
IS_PROTOCOL, IS_PORT = np.zeros(1 << 8, bool), np.zeros(1 << 16, bool)
IS_EXTENSION = np.zeros(1 << 8, bool)
IS_PROTOCOL[list(PROTOCOLS)] = IS_PORT[list(PORTS)] = IS_EXTENSION[[*EXTENSIONS, FRAGMENT]] = True
