"""What the columns of tables and the names of JSON lines mean, and their fields -> packets.

A row is one packet, or as many as its column of counts says: such a row is never taken apart, its count comes out
beside it, and its length is bytes / packets. Columns of a chunk, numpy arrays of equal length, in the file's order; a
column the file lacks is absent:

    time       float64  seconds since 1970 UTC
    src, dst   uint32   IPv4 addresses; a sensor's NAME as destination is numbered 0, 1, ... by first appearance
    port       int32    TCP destination port; 65536 = "other", a port that the trace itself already folded ("oth")
    length     uint16   IP total length in bytes          ttl     uint8
    mss        uint16   TCP option MSS, 0 = absent        window  uint16
    timestamp  uint32   TCP option timestamp (TSval)      seq     uint32   TCP sequence number
    packets    int64    packets that the row stands for; absent where each is one

Only TCP over IPv4 comes out. Well-formed records of other kinds are told to `skip(kind, place, count)`, broken ones to
`reject(kind, place, count)`; the place shows the text at fault. What is decided here:
  - `window` and `length` above 65535 (scaled windows, offloaded segments) count as 65535; any other value beyond its
    field's width on the wire breaks the record.
  - the time is the first of the usual names whose column holds times; a date and a time of day in two columns are
    joined, unless a time stamp beside them agrees with them to two days.
  - a column `timestamp` (or `ts`) is the time, unless another column is; then it is the TCP timestamp, and is ignored
    where it repeats the time or holds no integers.
  - counts are of the packets to the destination where both directions are counted; a flow has no sequence number.

Imports the standard library, numpy, fields and times.
"""

from dataclasses import dataclass

import numpy as np

from traces.fields import (
    Check,
    addresses,
    among,
    codes,
    destinations,
    integers,
    ports,
    protocol_checks,
    protocols,
    sift,
    words_of,
)
from traces.times import DAY, EXPECTED, PLAUSIBLE, ZONES, Dating, dates_and_clocks, times

# what a column holds -> its names in order of preference, in lower case with "_" for blanks and "-"
NAMES = {
    "time": "frame.time_epoch datetime date_time @timestamp timestamp_utc time ts epoch unix_secs stime starttime "
            "start_time first_seen firstseen date_first_seen flow.start event.start frame.time start first "
            "flow_start flowstartmilliseconds __realtime_timestamp _source_realtime_timestamp timegenerated date "
            "timestamp",
    "src": "src_ip ip.src srcip source_ip saddr src_addr src_address source_address id.orig_h srcaddr sourceip "
           "client_ip sa source.ip source.address ipv4_src_addr sourceipv4address srcipaddr c_ip remote_ip peer_ip "
           "attacker_ip connection.src_ip srcip4 src4_addr src source ip_ip_src ip_src",
    "dst": "dst_ip ip.dst dstip dest_ip destination_ip daddr dst_addr dst_address destination_address id.resp_h "
           "dstaddr destip targetip target_ip destinationip server_ip da destination.ip destination.address "
           "ipv4_dst_addr destinationipv4address dstipaddr s_ip local_ip connection.dest_ip dst4_addr "
           "dst dest destination host ip_ip_dst ip_dst sensor",
    "port": "dst_port tcp.dstport dport dpt dest_port dstport destination_port id.resp_p targetport target_port "
            "destport destinationport server_port dp dsport destination.port l4_dst_port destinationtransportport "
            "dst_p s_port local_port connection.dest_port tcp_tcp_dstport tcp_dstport port",
    "length": "pck_len ip.len ip_len length len size pkt_len packet_length packet_size",
    "ttl": "ttl ip.ttl ip_ttl sttl",
    "mss": "t_mss mss tcp_mss tcp.options.mss_val",
    "window": "t_win window win tcp_win tcp_window tcp.window_size_value window_size tcp.window_size tcpwin swin",
    "timestamp": "t_ts tcp_ts tsval ts_val t_tsval tcp_timestamp tcp.options.timestamp.tsval timestamp ts",
    "seq": "tcp_seq seq tcp.seq_raw tcpsyn tcp.seq",
    "proto": "proto protocol ip.proto ip_proto ip_protocol protocol_name ip_protocol_name protocol_number proto_name "
             "l4_proto transport transport_protocol network.transport ipproto protocolidentifier prot pr "
             "network.iana_number connection.protocol _ws.col.protocol",
    "ethtype": "ethtype eth.type ethertype eth_type",
    "direction": "path direction flow_direction network.direction pkt_direction",
}  # fmt: skip
DAYS, CLOCKS = "date day log_date start_date", "time time_of_day log_time start_time"  # names of a time in two columns
# a column of packet counts -> that of the same packets' bytes
COUNTS = {
    "flow.pkts_toserver": "flow.bytes_toserver", "orig_pkts": "orig_ip_bytes", "source.packets": "source.bytes",
    "srcpkts": "srcbytes", "src_pkts": "src_bytes", "spkts": "sbytes", "tot_fwd_pkts": "", "total_fwd_packets": "",
    "total_fwd_packet": "", "ipkt": "ibyt", "in_pkts": "in_bytes", "inpkts": "inbytes", "packets": "bytes",
    "pkts": "bytes", "totpkts": "totbytes", "tot_pkts": "tot_bytes", "total_packets": "total_bytes",
    "num_packets": "num_bytes", "n_packets": "n_bytes", "num_pkts": "num_bytes", "packet_count": "byte_count",
    "pkt_count": "byte_count", "packets_sent": "bytes_sent", "network.packets": "network.bytes",
    "dpkts": "doctets", "packetdeltacount": "octetdeltacount", "packettotalcount": "octettotalcount",
    "npackets": "nbytes", "count": "", "cnt": "", "hits": "", "repeat": "",
    "repeats": "", "repetitions": "", "occurrences": "",
}  # fmt: skip
REQUIRED = ("src", "dst", "port")
OPTIONAL = {"length": np.uint16, "ttl": np.uint8, "mss": np.uint16, "window": np.uint16,
            "timestamp": np.uint32, "seq": np.uint32}  # fmt: skip
SATURATING = ("length", "window")
AGREE = 2 * DAY  # seconds by which a time stamp may differ from the date and the time of day beside it
MAX_COUNT = (1 << 32) - 1
IPV6 = codes("34525 0x86dd 86dd ipv6")
ARP = codes("2054 0x0806 0x806 0806 806 arp")
OUT = codes("send out outbound outgoing egress")


@dataclass
class Columns:
    """Which of a file's columns are read as what, and what their first values told of the others.

    Each column is given as a list of names: the first of them that a row has counts.
    """

    roles: dict  # role -> names
    times: list  # of names that each may be the time
    pair: tuple | None  # the names of the date and of the time of day
    counts: list | None  # the names of the packet counts
    bytes: list | None  # and of the bytes of these packets
    dating: Dating
    doubt: bool  # may the column of TCP timestamps be the time once more?
    time: list | tuple | None = None  # one of `times`, or `pair`: settled by the first rows

    def missing(self):
        """What packets cannot be without and no column is called: a list of words."""
        lacking = [role for role in REQUIRED if role not in self.roles]
        return lacking if self.times or self.pair else ["time", *lacking]


def normal(name):
    """A column's name as NAMES has it."""
    return "_".join(name.strip().lower().replace("-", " ").split())


def find_columns(names, file, by_row=False):
    """What columns of these (normal) names hold, as Columns; where `by_row`, rows may have any of a role's names."""
    present, roles, taken = set(names), {}, set()
    times = [name for name in NAMES["time"].split() if name in present]
    for role, aliases in NAMES.items():
        found = [name for name in aliases.split() if name in present - taken]
        if found:
            found = found if by_row else found[:1]
            taken.update(found)
            roles[role] = found
    day, clock = ([name for name in names_of.split() if name in present][:1] for names_of in (DAYS, CLOCKS))
    counts = [name for name in COUNTS if name in present and (name != "dpkts" or COUNTS[name] in present)]
    counts = counts if by_row else counts[:1]
    amounts = [COUNTS[name] for name in counts if COUNTS[name] in present]
    if counts:
        roles.pop("seq", None)
    return Columns(
        roles, [times] if by_row and times else [[name] for name in times], (day, clock) if day and clock else None,
        counts or None, amounts or None, Dating(file), roles.get("timestamp") in (["timestamp"], ["ts"]),
    )  # fmt: skip


def notes(columns):
    """What the user should know of these columns: lines."""
    if "proto" not in columns.roles:
        yield "no column for the protocol: every line is taken as TCP"
    if columns.counts:
        length = f", its length is {columns.bytes[0]} / {columns.counts[0]}" if columns.bytes else ""
        yield f"each row counts as the packets of its column {columns.counts[0]}{length}"


def packets_of(text, field, lines, columns, skip, reject, sensors, warn):
    """The packets among rows: a chunk, and which rows they are.

    `field(names)` gives the positions (start, end) of a column's fields, 0 and 0 where a row has none; `lines` (n,)
    are the rows' line numbers.
    """
    roles, checks = columns.roles, []
    if "ethtype" in roles:
        ethtype = words_of(text, *field(roles["ethtype"]))
        checks += [Check(~among(ethtype, ARP), "not IP"), Check(~among(ethtype, IPV6), "IPv6")]
    if "proto" in roles:
        checks += protocol_checks(protocols(text, *field(roles["proto"])), field(roles["proto"]))
    if "direction" in roles:
        checks.append(Check(~among(words_of(text, *field(roles["direction"])), OUT), "outgoing"))
    kept = sift(checks, lines, text, skip, reject)
    rows = np.flatnonzero(kept)

    def at(names):
        start, end = field(names)
        return (start, end) if kept.all() else (start[rows], end[rows])

    time, good_time = _time(text, at, columns, warn)
    places = {role: at(roles[role]) for role in REQUIRED}
    src, good_src, src6 = addresses(text, *places["src"])
    dst, good_dst, dst6 = destinations(text, *places["dst"], sensors)
    port, good_port = ports(text, *places["port"])
    chunk = {"time": time, "src": src, "dst": dst, "port": port}
    stamp = at(columns.time[-1] if isinstance(columns.time, tuple) else columns.time) if len(rows) else None
    checks = [
        Check(~(src6 | dst6), "IPv6"),
        Check(good_time, "bad time", stamp, EXPECTED),
        Check(good_src, "bad source address", places["src"], "an IPv4 address"),
        Check(good_dst, "bad destination", places["dst"], "an IPv4 address or a sensor's name"),
        Check(good_port, "bad port", places["port"], "a number of 0 to 65535"),
        *_options(text, at, columns, chunk),
    ]
    if columns.counts:
        checks += _counts(text, at, columns, chunk)
    kept = sift(checks, lines[rows], text, skip, reject)
    return (chunk, rows) if kept.all() else ({name: part[kept] for name, part in chunk.items()}, rows[kept])


def in_order(parts):
    """One chunk of several, each given with its rows, none of them twice: in the order of rows; 0 where one lacks a
    column, and 1 packet."""
    parts = [(chunk, rows) for chunk, rows in parts if len(rows)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([rows for _, rows in parts])
    order, merged = np.argsort(rows, kind="stable"), {}
    for name in dict.fromkeys(name for chunk, _ in parts for name in chunk):
        dtype = next(chunk[name].dtype for chunk, _ in parts if name in chunk)
        lacking = 1 if name == "packets" else 0
        merged[name] = np.concatenate([chunk.get(name, np.full(len(rows), lacking, dtype)) for chunk, rows in parts])
        merged[name] = merged[name][order]
    return merged, rows[order]


def _options(text, at, columns, chunk):
    """Put the optional columns into the chunk; gives their checks."""
    for role, dtype in OPTIONAL.items():
        if role not in columns.roles or (role == "length" and columns.bytes):
            continue
        place = at(columns.roles[role])
        value, good, _ = integers(text, *place)
        most = np.iinfo(dtype).max
        if role in SATURATING:
            value = np.minimum(value, most)
        good &= value <= most
        if role == "timestamp" and columns.doubt and len(value):
            columns.doubt = False
            if good.mean() < 0.5 or abs(np.median(value - chunk["time"])) < DAY:
                del columns.roles["timestamp"]
                continue
        chunk[role] = value.astype(dtype)
        yield Check(good, f"bad {role}", place, f"a number of 0 to {most}, or none")


def _counts(text, at, columns, chunk):
    """Put the packets that rows stand for, and from them the length, into the chunk; gives their checks."""
    place = at(columns.counts)
    packets, good, missing = integers(text, *place)
    packets[missing] = 1
    chunk["packets"] = packets
    yield Check(good & (packets <= MAX_COUNT), "bad number of packets", place, "a number of packets")
    yield Check(~good | (packets > 0), "row of 0 packets")
    if columns.bytes:
        place = at(columns.bytes)
        total, good, _ = integers(text, *place)
        length = np.rint(total / np.maximum(packets, 1)).clip(0, 65535)
        chunk["length"] = length.astype(np.uint16)
        yield Check(good, "bad number of bytes", place, "a number of bytes, or none")


def _time(text, at, columns, warn):
    """The rows' times in UTC seconds, and which are good; the first rows settle which column that is."""
    if columns.time is None and len(at(columns.roles["src"])[0]):
        columns.time = _settle(text, at, columns)
        first = at(columns.time[-1] if isinstance(columns.time, tuple) else columns.time)
        zone = ZONES.search(text.buf[first[0][0] : first[1][0]].tobytes())
        if zone:
            warn(f"the time zone {zone[1].decode()} is not applied: times are taken as they stand")
    if columns.time is None:
        return np.zeros(0), np.zeros(0, bool)
    if isinstance(columns.time, tuple):
        return dates_and_clocks(text, *map(at, columns.time), columns.dating)
    return times(text, *at(columns.time), columns.dating, warn)


def _settle(text, at, columns):
    """The first column whose fields are times of people's days, and agree with the date and the clock if there are."""
    if len(columns.times) == 1 and not columns.pair:
        return columns.times[0]
    joined, fine = 0.0, False
    if columns.pair:
        joined, good = dates_and_clocks(text, *map(at, columns.pair), Dating("", order="day"))
        fine = good.mean() >= 0.5
    for names in columns.times:
        time, good = times(text, *at(names), Dating("", order="day"), lambda _: None)
        typical = np.median(time[good]) if good.mean() >= 0.5 else 0.0
        agrees = not fine or abs(np.median(time - joined)) < AGREE
        if PLAUSIBLE[0] <= typical < PLAUSIBLE[1] and agrees:
            return names
    return columns.pair if columns.pair and (fine or not columns.times) else columns.times[0]
