"""The TCP packets in the frames of a capture: out of link layers and tunnels, through IPv4, with the fields of Table 1.

Formats: RFC 791 (IPv4), RFC 9293 (TCP), RFC 7323 (TCP timestamps); links.py and tunnels.py for what is around them.

Decided here:
  - A packet cut by the snap length counts as soon as its ports were captured; seq, window and options beyond
    the cut are 0. Without ports it is rejected ("truncated packet").
  - A malformed TCP option list ends where it breaks. Of a repeated option the last one counts, as in Linux.
  - An IP total length of 0 is that of a packet which the sender's network card had yet to cut into segments.
  - A packet in a tunnel counts as itself, the packet around it does not.

Headers are gathered whole, options are followed in all packets at once. Imports numpy, and of this room links and
tunnels.
"""

import numpy as np

from traces import tunnels
from traces.links import ARP, IPV4, IPV6, U2, U4, gather, network_layer
from traces.tunnels import IP_HEADER

TCP, UDP, ICMP = 6, 17, 1
NOP, MSS, TIMESTAMP = 1, 2, 8  # TCP options; 0 ends the list

TCP_HEADER = np.dtype(
    [("sport", ">u2"), ("port", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"),
     ("window", ">u2"), ("checksum", ">u2"), ("urgent", ">u2")]
)  # fmt: skip


def tcp_packets(array, base, position, time, start, end, link_type, skip, reject, tunnelled):
    """Yield the columns of the TCP packets; three sieves (link layer, IPv4, TCP) count the rest.

    A packet is bytes start..end-1 of ``array``; its record begins at ``position``, which is byte ``base`` +
    ``position`` of the file. ``link_type`` is one number or (packets,). The rest is read_capture's, see captures.py.
    """
    ethertype, ip = network_layer(array, start, end, link_type)
    header = gather(array, ip, IP_HEADER)  # of no meaning yet where that is not IPv4
    rows = tunnels.suspects(array, ethertype, ip, header)
    if rows.size:
        end = end.copy()
        kept = _out_of_tunnels(array, base, position, ethertype, ip, end, rows, skip, tunnelled)
        header[rows] = gather(array, ip[rows], IP_HEADER)
        if not kept.all():
            columns = position, time, end, ethertype, ip, header
            position, time, end, ethertype, ip, header = (a[kept] for a in columns)
    cut = ip >= end
    good = ~cut & (ethertype == IPV4)
    if not good.all():
        refuse(reject, "truncated packet", base, position, cut)
        ipv6, arp = ~cut & (ethertype == IPV6), ~cut & (ethertype == ARP)
        leave_out(skip, "IPv6", base, position, ipv6)
        leave_out(skip, "ARP", base, position, arp)
        leave_out(skip, "not IP", base, position, ~(cut | good | ipv6 | arp))
        position, time, end, ip, header = position[good], time[good], end[good], ip[good], header[good]

    first, protocol = header["version_ihl"], np.ascontiguousarray(header["protocol"])
    version, ihl = first >> 4, (first & 15).astype(np.int64) * 4
    cut = ip + 20 > end
    length = header["length"].astype(np.int64)
    length = np.where(length == 0, np.minimum(end - ip, 65535), length)
    malformed = ~cut & ((version != 4) | (ihl < 20) | (length < ihl))
    whole = ~(cut | malformed)
    good = whole & (protocol == TCP) & (header["fragment"] & 0x1FFF == 0)
    if not good.all():
        refuse(reject, "truncated packet", base, position, cut)
        refuse(reject, "malformed IPv4 header", base, position, malformed)
        tcp, udp, icmp = (whole & (protocol == number) for number in (TCP, UDP, ICMP))
        leave_out(skip, "UDP", base, position, udp)
        leave_out(skip, "ICMP", base, position, icmp)
        leave_out(skip, "other protocol", base, position, whole & ~(tcp | udp | icmp))
        leave_out(skip, "later fragment", base, position, tcp & ~good)
    position, time = position[good], time[good]
    src, dst, ttl = (header[field][good] for field in ("src", "dst", "ttl"))
    tcp = (ip + ihl)[good]
    end, length = np.minimum(end, ip + length)[good], length[good]  # behind it: padding of the frame

    cut = tcp + 4 > end
    if cut.any():
        refuse(reject, "truncated packet", base, position, cut)
        time, src, dst, length, ttl, tcp, end = (a[~cut] for a in (time, src, dst, length, ttl, tcp, end))
    if not time.size:
        return
    header = gather(array, tcp, TCP_HEADER)
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


def _out_of_tunnels(array, base, position, ethertype, ip, end, rows, skip, tunnelled):
    """Take packets ``rows`` out of the tunnels they are in: ``ethertype``, ``ip`` and ``end`` become those inside, in
    place. Returns which packets to keep: not those that are skipped."""
    kept = np.ones(ip.size, bool)
    for depth in range(tunnels.MAX_DEPTH + 1):
        kind, carried, inner, stop = tunnels.peel(array, ethertype[rows], ip[rows], end[rows])
        inside = kind > 0
        rows, kind = rows[inside], kind[inside]
        deep = depth == tunnels.MAX_DEPTH
        for one in np.unique(kind).tolist():
            place = f"byte {base + position[rows[np.argmax(kind == one)]]}"
            name, count = tunnels.NAMES[one], int(np.sum(kind == one))
            if deep:
                skip(f"in more than {tunnels.MAX_DEPTH} tunnels", place, count)
            elif tunnelled is None:
                skip(f"in a tunnel, {name}", place, count)
            else:
                tunnelled(name, place, count)
        if deep or tunnelled is None:
            kept[rows] = False
            break
        if not rows.size:
            break
        ethertype[rows], ip[rows], end[rows] = carried[inside], inner[inside], stop[inside]
    return kept


def _tcp_options(array, at, end):
    """MSS and TSval in the TCP option lists at bytes at..end-1, (packets,) each; 0 where absent."""
    mss, timestamp = np.zeros(at.size, np.uint16), np.zeros(at.size, np.uint32)
    row = np.flatnonzero(at < end)
    at, end = at[row], end[row]
    while row.size:  # at most 40 rounds: each goes on by at least one of at most 40 bytes
        kind, length = array[at], array[at + 1].astype(np.int64)
        length[kind == NOP] = 1
        found = (kind == MSS) & (length == 4) & (at + 4 <= end)
        mss[row[found]] = gather(array, at[found] + 2, U2)
        found = (kind == TIMESTAMP) & (length == 10) & (at + 10 <= end)
        timestamp[row[found]] = gather(array, at[found] + 2, U4)
        at = at + length
        more = (at < end) & (kind != 0) & (length > (kind != NOP))
        row, at, end = row[more], at[more], end[more]
    return mss, timestamp


def refuse(reject, reason, base, position, broken):
    """Tell `reject` of the broken packets, how many they are and where in the file the first is."""
    if broken.any():
        reject(reason, f"byte {base + position[broken.argmax()]}", int(broken.sum()))


def leave_out(skip, kind, base, position, rows):
    """Tell `skip` of the packets out of scope, how many they are and where in the file the first is."""
    if rows.any():
        skip(kind, f"byte {base + position[rows.argmax()]}", int(rows.sum()))
