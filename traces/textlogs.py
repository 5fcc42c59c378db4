"""Text traces read into columns: tables with a header, and firewall logs of Linux netfilter through syslog.

Reads the packet fields of the paper's Table 1, and the authors' own files unchanged. Formats: RFC 4180 (quoting),
RFC 3339 (times with a date), RFC 3164 (syslog's time without a year), Linux nf_log_syslog (SRC= DST= ...).

Both readers yield chunks, dicts of equal-length columns in the order of the file; a column the file lacks is absent:

    time       float64  seconds since 1970 UTC
    src, dst   uint32   IPv4 addresses; a sensor's NAME as destination is numbered 0, 1, ... by first appearance
    port       int32    TCP destination port; 65536 = "other", a port that the trace itself already folded ("oth")
    length     uint16   IP total length in bytes          ttl     uint8
    mss        uint16   TCP option MSS, 0 = absent        window  uint16
    timestamp  uint32   TCP option timestamp (TSval)      seq     uint32   TCP sequence number

Only TCP over IPv4 comes out. Well-formed records of other kinds are counted in `skipped` by kind, broken ones are
told to `reject(reason, place, count)`. What it decides:
  - a number followed by ".0" is that integer (pandas writes columns with gaps so); "-", "nan" and "" are absent.
  - `window` and `length` above 65535 (scaled windows, offloaded segments) count as 65535; any other value beyond
    its field's width on the wire breaks the record.
  - a column `timestamp` (or `ts`) is the time, unless another column is; then it is the TCP timestamp, and is
    ignored where it repeats the time or holds no integers.
  - times in milli-, micro- or nanoseconds are told from seconds by the size of the file's first ones (1e11 and more),
    scaled, and said; dates without an offset are UTC.
  - quoted fields may hold the separator but no line break. Lines with another number of fields than the header,
    and lines longer than a block, are broken records. A repeated header and lines that start with "#" are passed over.
  - sensor names hold a letter and only letters, digits, and " _.:/@-"; what starts with a digit and holds a dot
    is a broken address.

The lines of a block are parsed together: `start` and `end` (or `at`) are (n,) positions in its bytes, one per line,
and numbers are read eight digits at a time. Imports only the standard library and numpy.
"""

import re
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 20  # bytes parsed together: its columns stay in the processor's cache
PADDING = 128  # zero bytes behind a block: looks ahead at its very end stay inside the array
PLAUSIBLE = 631_152_000, 4_102_444_800  # the years 1990 to 2099; other numbers probably are no seconds since 1970
END_OF_TIME = 253_402_300_800  # the year 10000
DAY = 86_400
OTHER_PORT = 65_536
MAX_COMMENTS = 100  # lines among which a header is looked for
MAX_NAME = 255  # bytes of a sensor's name, as of a host's in DNS
MAX_SENSORS = 1 << 24  # their numbers stay within 0.0.0.0/8
NEWLINE, SPACE, QUOTE, COMMENT, BRACKET, DASH, DOT, ZERO, NINE, COLON, EQUALS = b'\n "#(-.09:='
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# what a column holds -> its names in order of preference, in lower case with "_" for blanks and "-"
NAMES = {
    "time": "frame.time_epoch datetime date_time time ts epoch date timestamp",
    "src": "src_ip ip.src srcip source_ip saddr src_addr src_address source_address id.orig_h src source",
    "dst": "dst_ip ip.dst dstip dest_ip destination_ip daddr dst_addr dst_address destination_address id.resp_h "
           "dst dest destination host",
    "port": "dst_port tcp.dstport dport dpt dest_port dstport destination_port id.resp_p port",
    "length": "pck_len ip.len ip_len length len size pkt_len packet_length packet_size",
    "ttl": "ttl ip.ttl ip_ttl",
    "mss": "t_mss mss tcp_mss tcp.options.mss_val",
    "window": "t_win window win tcp_win tcp_window tcp.window_size_value window_size tcp.window_size",
    "timestamp": "t_ts tcp_ts tsval ts_val t_tsval tcp_timestamp tcp.options.timestamp.tsval timestamp ts",
    "seq": "tcp_seq seq tcp.seq_raw tcp.seq",
    "proto": "proto protocol ip.proto ip_proto ip_protocol protocol_name ip_protocol_name protocol_number proto_name "
             "l4_proto transport transport_protocol network.transport ipproto protocolidentifier prot pr",
    "ethtype": "ethtype eth.type ethertype eth_type",
}  # fmt: skip
REQUIRED = ("time", "src", "dst", "port")
OPTIONAL = {"length": np.uint16, "ttl": np.uint8, "mss": np.uint16, "window": np.uint16,
            "timestamp": np.uint32, "seq": np.uint32}  # fmt: skip
SATURATING = ("length", "window")
UNITS = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}
SENSOR = re.compile(r"(?!\d.*\.)(?=.*[^\W\d])[\w.:/@ -]+")
MONTH_STARTS = np.arange("1970-01", "10000-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)  # days since 1970
LEAP_YEAR = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # days of the months
MONTH_CODES = np.frombuffer(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec ", "<u4").astype(np.uint64)
DOTS = np.zeros(1 << 16, np.int16)  # three bits of 16 -> which, the first in the lowest four bits; else 0
for a, b, c in combinations(range(16), 3):
    DOTS[1 << a | 1 << b | 1 << c] = a | b << 4 | c << 8
POWERS = 10.0 ** np.arange(20)
HEX_DIGIT = np.full(256, 16, np.int64)
for digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    HEX_DIGIT[np.frombuffer(digits, np.uint8)] = np.arange(16)


def _codes(text):
    """Words of up to 8 bytes as `_words` reads them."""
    return np.array([int.from_bytes(bytes(c | 32 for c in w), "little") for w in text.encode().split()], np.uint64)


MISSING = np.append(_codes("- nan na n/a none null (empty) \\n"), np.uint64(0))  # 0: nothing at all
OTHER = _codes("oth other")
TCP, UDP, ICMP = _codes("6 tcp 6.0"), _codes("17 udp 17.0"), _codes("1 icmp 1.0")
IPV6 = _codes("34525 0x86dd 86dd ipv6")
ARP = _codes("2054 0x0806 0x806 0806 806 arp")


# ---------------------------------------------------------------------------------------------------------- tables


def read_table(stream, name, skipped, reject, sensors, warn=None):
    """Yield the TCP packets of a table with a header: comma, tab, semicolon, bar or spaces between the fields.

    `stream` has `.read(n)` and yields bytes; `name` stands in messages; `skipped` is a Counter, `reject(reason,
    place, count=1)` is called for broken lines; `sensors` is the dict name -> number and grows; `warn(line)`, where
    given, is told of a time unit other than seconds, of times outside PLAUSIBLE, and where there is no protocol column:
    every line is TCP then (the authors' raw files). Raises ValueError where a required column is missing.
    """
    layout = None
    for block, line in _blocks(stream, reject):
        if layout is None:
            layout, start = _find_header(block, name)
            if layout and warn and "proto" not in layout.columns:
                warn("no column for the protocol: every line is taken as TCP")
            line += block.count(b"\n", 0, start)
            block = block[start:]
        if layout and block:
            chunk = _parse_table(block, line, layout, skipped, reject, sensors, warn)
            if len(chunk["time"]):
                yield chunk
    if layout is None:
        raise ValueError(f"{name}: expected a header line, got none")


@dataclass
class _Layout:
    """What the header tells of a table's lines, and what the first of these tell in turn."""

    header: bytes  # the line as `_split` would leave it
    delimiter: str
    names: list  # of all fields
    columns: dict  # role -> index of its field
    doubt: bool  # is the TCP timestamp's column the time once more?
    unit: int | None = None  # of numeric times, per second

    def missing(self):
        return [role for role in REQUIRED if role not in self.columns]


def _find_header(block, name):
    """The layout, None where the block holds only comments and blank lines, and where the data start in it."""
    for number, found in enumerate(re.finditer(rb"^[ \t]*(\S.*)$", block, re.MULTILINE)):
        header = found[1].strip()
        if header.startswith(b"#") and number >= MAX_COMMENTS:
            continue
        if b"\r" in header:
            raise ValueError(f"{name}: expected lines that end in LF or CRLF, got CR alone in the header")
        layouts = [_layout(header, delimiter) for delimiter in ",;|"]
        layouts += [_layout(found[0].strip(b" "), "\t"), _layout(header, " ")]  # tabs may delimit empty names
        layout = max(layouts, key=lambda layout: (len(layout.columns), len(layout.names)))
        if not layout.missing():
            return layout, found.end() + 1
        if not header.startswith(b"#"):  # a comment may be the header, but need not
            break
    else:
        return None, len(block)
    if header[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{name}: expected UTF-8 text, got UTF-16")
    names = ", ".join(ascii(n)[1:-1] for n in layout.names)
    raise ValueError(
        f"{name}: expected a header line with columns for time, src, dst and port, got none for "
        f"{', '.join(layout.missing())} among: {names if len(names) <= 160 else names[:160] + '...'}"
    )


def _layout(header, delimiter):
    """The header read with this delimiter between the fields."""
    header = _unquote(header.replace(b"\t", b" ") if delimiter == " " else header, delimiter)
    text = re.sub(r"^#\s*(fields:?[\s,]+)?", "", header.decode("utf-8", "replace"), flags=re.IGNORECASE)
    fields = text.split() if delimiter == " " else text.split(delimiter)
    names = [re.sub(r"[\s-]+", "_", field.strip().lower()) for field in fields]
    places, columns = {name: k for k, name in reversed(list(enumerate(names)))}, {}
    for role, aliases in NAMES.items():
        free = [places[a] for a in aliases.split() if a in places and places[a] not in columns.values()]
        if free:
            columns[role] = free[0]
    doubt = "timestamp" in columns and names[columns["timestamp"]] in ("timestamp", "ts")
    return _Layout(_squeeze(header, delimiter), delimiter, names, columns, doubt)


def _parse_table(block, line, layout, skipped, reject, sensors, warn):
    """One chunk from a block of whole lines, the first of which has number `line`."""
    columns = layout.columns
    text, edges, lines = _split(block, line, layout, reject)

    def field(role):
        return text, edges[columns[role]] + 1, edges[columns[role] + 1]

    checks = []
    if "ethtype" in columns:
        ethtype = _words(*field("ethtype"))
        checks += [(~np.isin(ethtype, ARP), "not IP", skipped), (~np.isin(ethtype, IPV6), "IPv6", skipped)]
    if "proto" in columns:
        checks += _protocols(_words(*field("proto")), skipped)
    kept = _sift(checks, lines, reject)
    if not kept.all():
        edges, lines = edges[:, kept], lines[kept]

    time, good_time = _times(*field("time"), layout, warn)
    src, good_src, src6 = _addresses(*field("src"))
    dst, good_dst, dst6 = _destinations(*field("dst"), sensors)
    port, good_port = _ports(*field("port"))
    chunk = {"time": time, "src": src, "dst": dst, "port": port}
    checks = [
        (~(src6 | dst6), "IPv6", skipped),
        (good_time, "bad time", None),
        (good_src, "bad source address", None),
        (good_dst, "bad destination", None),
        (good_port, "bad port", None),
    ]
    for role, dtype in OPTIONAL.items():
        if role not in columns:
            continue
        value, good, _ = _integers(*field(role))
        most = np.iinfo(dtype).max
        if role in SATURATING:
            value = np.minimum(value, most)
        good &= value <= most
        if role == "timestamp" and layout.doubt and len(value):
            layout.doubt = False
            if good.mean() < 0.5 or abs(np.median(value - time)) < DAY:
                del columns["timestamp"]
                continue
        chunk[role] = value.astype(dtype)
        checks.append((good, f"bad {role}", None))
    kept = _sift(checks, lines, reject)
    return chunk if kept.all() else {role: column[kept] for role, column in chunk.items()}


def _split(block, line, layout, reject):
    """The text, the edges of its lines' fields (fields + 1, n), and the lines' numbers (n,).

    Field k lies between the separators or newlines at edges[k] and edges[k + 1]. Comments, blank lines and repeated
    headers are passed over.
    """
    delimiter = layout.delimiter
    if delimiter == " " and b"\t" in block:
        block = block.replace(b"\t", b" ")
    if b'"' in block:
        block = _unquote(block, delimiter)
    text, cuts = _cut(block, delimiter)
    breaks = np.flatnonzero(text.buf[cuts] == NEWLINE)
    if _is_padded(text, np.diff(breaks), layout):
        text, cuts = _cut(_squeeze(block, delimiter), delimiter)
        breaks = np.flatnonzero(text.buf[cuts] == NEWLINE)
    starts, stops = cuts[breaks[:-1]] + 1, cuts[breaks[1:]]
    passed = (starts == stops) | (text.buf[starts] == COMMENT) | _repeats(text.buf, starts, stops, layout.header)
    fields, lines = np.diff(breaks), line + np.arange(len(starts))
    checks = [(passed | (fields == len(layout.names)), "wrong number of fields", None)]
    regular = _sift(checks, lines, reject) & ~passed
    ends = cuts[1:]
    if not regular.all():
        ends, starts, lines = ends[np.repeat(regular, fields)], starts[regular], lines[regular]
    return text, np.vstack([starts - 1, ends.reshape(-1, len(layout.names)).T]), lines


def _is_padded(text, fields, layout):
    """May blanks stand beside separators? Where these are blanks, that gives lines another number of fields."""
    if layout.delimiter == " ":
        return (fields != len(layout.names)).any()
    blanks = np.flatnonzero(text.buf == SPACE)
    beside = np.append(text.buf[blanks - 1], text.buf[blanks + 1])
    return ((beside == NEWLINE) | (beside == ord(layout.delimiter))).any()


def _unquote(block, delimiter):
    """The block without quotes; separators behind an odd number of quotes, counted per line, become "_"."""
    buf = np.frombuffer(block, np.uint8).copy()
    quotes = np.flatnonzero(buf == QUOTE)
    starts = np.concatenate([[0], np.flatnonzero(buf == NEWLINE) + 1])
    at = np.flatnonzero(buf == ord(delimiter))
    start = starts[np.searchsorted(starts, at, side="right") - 1]
    buf[at[(np.searchsorted(quotes, at) - np.searchsorted(quotes, start)) % 2 == 1]] = ord("_")
    return buf[buf != QUOTE].tobytes()


def _squeeze(block, delimiter):
    """The block, of as many lines, without blanks around separators and with single ones elsewhere."""
    block = re.sub(rb" +", b" ", b"\n" + block)
    if delimiter != " ":
        separator = delimiter.encode()
        block = block.replace(b" " + separator, separator).replace(separator + b" ", separator)
    return block.replace(b" \n", b"\n").replace(b"\n ", b"\n")[1:]


def _repeats(buf, starts, stops, header):
    """Which lines are the header once more, as in tables put one behind the other."""
    like = (stops - starts >= len(header)) & (buf[starts] == header[0])
    if like.any():
        rows = np.flatnonzero(like)
        like[rows] = (buf[starts[rows, None] + np.arange(len(header))] == list(header)).all(axis=1)
    return like


# -------------------------------------------------------------------------------------------------- firewall logs


def read_netfilter(stream, name, skipped, reject, near, latest=np.inf, warn=None):
    """Yield the TCP packets of netfilter LOG lines: `<time> <host> kernel: ... SRC= DST= ... PROTO=TCP ... DPT= ...`

    The time is RFC 3339's (`2021-12-12T00:01:07.5+01:00`, or with a blank) or syslog's `Dec 12 00:01:07`, in UTC.
    A time without a year takes the year that puts it nearest to the line before it, the file's first one nearest
    to `near` (UTC seconds) and, if one of the years around has such, not after `latest`, when the file was last
    changed; `warn`, where given, is told of lines read as later. `SEQ=` (--log-tcp-sequence) and `OPT (...)`
    (--log-tcp-options) are read where they are. A packet that came in by no interface (`IN= `) is this machine's own,
    "outgoing". Of a repeated key the first counts. `stream`, `skipped`, `reject` as in read_table; `name` is unused.
    """
    state, told = (None, (near, latest)), warn is None
    for block, line in _blocks(stream, reject):
        text, cuts = _cut(block, " =")
        starts, stops = _lines(text, cuts)
        time, good_time, state = _stamps(text, starts, state)
        chunk = _parse_netfilter(text, cuts, starts, stops, time, good_time, line, skipped, reject)
        if len(chunk["time"]):
            if not told and state[0] is not None and chunk["time"].max() > latest:
                told = True
                warn("lines read as of days after the file was last changed: give the year of the first line (--year)")
            yield chunk


def netfilter_span(stream, near):
    """The first and the last time (UTC seconds) among the lines with a year-less time, in file order; or None.

    Years as in read_netfilter. With them the year of one file's first line fixes those of the files after it.
    """
    first, state = None, (None, (near, np.inf))
    for block, _ in _blocks(stream, lambda *_: None):
        text, cuts = _cut(block, "")
        starts, _ = _lines(text, cuts)
        time, good, state = _stamps(text, starts[text.buf[starts] > ord("9")], state)
        if good.any():
            first, last = time[good][0] if first is None else first, time[good][-1]
    return None if first is None else (float(first), float(last))


def _lines(text, cuts):
    """Where the lines start, and the newlines that end them; the text's first cut only begins a line."""
    breaks = cuts[text.buf[cuts] == NEWLINE]
    return breaks[:-1] + 1, breaks[1:]


def _parse_netfilter(text, cuts, starts, stops, time, good_time, line, skipped, reject):
    """One chunk from the lines of a block, the first of which has number `line`; `time` is theirs already."""
    buf, words = text
    equals = np.append(0, np.flatnonzero(buf[cuts] == EQUALS))
    keys = (b" SRC=", b" DST=", b" PROTO=", b" DPT=", b" LEN=", b" TTL=", b" WINDOW=", b" SEQ=", b"IN= OUT=")
    found = equals[_find(words, cuts[equals], stops, *keys)]  # (keys, n) which cuts are the keys' ends, 0 = none
    logged = found[0] > 0
    others = int(np.count_nonzero(~logged & (starts < stops)))
    if others:
        skipped["other log line"] += others
    lines = line + np.flatnonzero(logged)
    if not logged.all():
        found, time, good_time = found[:, logged], time[logged], good_time[logged]

    starts, ends, there = cuts[found] + 1, cuts[found + 1], found > 0
    src, good_src = _quads(text, starts[0], ends[0])
    dst, good_dst = _quads(text, starts[1], ends[1])
    ipv6 = late = np.zeros(len(lines), bool)
    if not good_src.all():
        ipv6 = ~good_src & (_count(buf, COLON, starts[0], starts[0] + 6) > 0)
    protocols = _protocols(_words(text, starts[2], ends[2]), skipped)
    if not (there[3] | ~protocols[-1][0]).all():  # only a packet's first fragment has ports
        colons = np.append(0, np.flatnonzero(buf == COLON))
        late = _find(words, colons, stops, b" FRAG:")[0, logged] > 0
    chunk = {"time": time, "src": src.astype(np.uint32), "dst": dst.astype(np.uint32)}
    checks = [
        (~there[8], "outgoing", skipped),
        (~ipv6, "IPv6", skipped),
        (there[2], "no protocol", None),
        *protocols,
        (~late, "later fragment", skipped),
        (good_time, "bad time", None),
        (good_src, "bad source address", None),
        (good_dst & there[1], "bad destination", None),
    ]
    for role, start, end, given in zip(("port", "length", "ttl", "window", "seq"), starts[3:8], ends[3:8], there[3:8]):
        value, good = _wholes(words, start, end)
        if role == "port":
            checks.append((good & given & (value <= 65535), "bad port", None))
            chunk["port"] = value.astype(np.int32)
        elif given.any():
            checks.append(((good & (value <= np.iinfo(OPTIONAL[role]).max)) | ~given, f"bad {role}", None))
            chunk[role] = np.where(given, value, 0).astype(OPTIONAL[role])
    brackets = np.append(0, np.flatnonzero(buf == BRACKET))
    options = _find(words, brackets, stops, b" OPT (")[0]
    if options.any():
        mss, timestamp = _options(buf, np.where(options > 0, brackets[options] + 1, 0), stops)
        chunk["mss"], chunk["timestamp"] = mss[logged], timestamp[logged]
    kept = _sift(checks, lines, reject)
    return chunk if kept.all() else {role: column[kept] for role, column in chunk.items()}


def _find(words, ends, stops, *keys):
    """Which of the places `ends` is the last byte of each key's first occurrence per line: (keys, n), 0 = none.

    ends[0] stands for none. Lines end at `stops`.
    """
    line = np.repeat(np.arange(len(stops)), np.diff(np.searchsorted(ends, stops), prepend=0))
    word = words[np.maximum(ends - 7, 0)]  # the 8 bytes up to each
    tail = (word >> np.uint64(32)).astype(np.uint32)  # the last 4 of these
    found = np.zeros((len(keys), len(stops)), np.int64)
    for row, key in zip(found, keys):
        hits = np.flatnonzero(tail == int.from_bytes(key[-4:], "little"))[::-1]
        hits = hits[word[hits] >> np.uint64(64 - 8 * len(key)) == int.from_bytes(key, "little")]
        row[line[hits]] = hits  # of repeated indices the last is assigned: the line's first hit
    return found


def _options(buf, at, stops):
    """MSS and timestamp value of TCP options written as hexadecimal digits from `at` (0 = none), at most 40 bytes."""
    mss, timestamp = np.zeros(len(at), np.uint16), np.zeros(len(at), np.uint32)
    stops = np.minimum(stops, at + 80)
    rows = np.flatnonzero(at)
    while rows.size:  # each turn reads one option of every line that has one left
        kind, good = _hexadecimal(buf, at[rows], 2)
        length, whole = _hexadecimal(buf, at[rows] + 2, 2)
        length[kind == 1] = 1
        good &= (kind > 0) & ((kind == 1) | whole & (length > 1)) & (at[rows] + 2 * length <= stops[rows])
        rows, kind, length = rows[good], kind[good], length[good]
        for column, number, size in ((mss, 2, 4), (timestamp, 8, 10)):
            of = rows[(kind == number) & (length == size)]
            value, good = _hexadecimal(buf, at[of] + 4, 4 if number == 2 else 8)
            column[of[good]] = value[good]
        at[rows] += 2 * length
    return mss, timestamp


def _hexadecimal(buf, at, digits):
    """The number in `digits` hexadecimal digits from `at`, and whether they are all there."""
    value, good = np.zeros(len(at), np.int64), np.ones(len(at), bool)
    for k in range(digits):
        digit = HEX_DIGIT[buf[at + k]]
        value, good = value << 4 | digit, good & (digit < 16)
    return value, good


def _stamps(text, at, state):
    """Times (UTC seconds) that lines begin with, which are good, and the state for the next block.

    `state` is the last year-less time as (year, second of a leap year); before the first, (None, (near, latest)), see
    read_netfilter.
    """
    buf, words = text
    month = np.full(len(at), -1)
    name = words[at] & np.uint64(0xFFFFFFFF)
    for k, code in enumerate(MONTH_CODES):
        month[name == code] = k
    time, good = np.zeros(len(at)), np.zeros(len(at), bool)
    rows = np.flatnonzero(month < 0)
    if rows.size:
        time[rows], stop, fine = _dates(text, at[rows])
        good[rows] = fine & (buf[stop] <= SPACE)

    rows = np.flatnonzero(month >= 0)
    month, p = month[rows], at[rows] + 4
    padded = buf[p] == SPACE
    day, fine = _eight(words, p + padded, 2 - padded)
    second, stop, whole = _clock(text, p + 3)
    fine &= whole & (buf[p + 2] == SPACE) & (buf[stop] <= SPACE) & (day >= 1) & (day <= LEAP_YEAR[month])
    rows, month, day, second = rows[fine], month[fine], day[fine], second[fine]
    if rows.size:
        when = (np.cumsum(LEAP_YEAR)[month] - LEAP_YEAR[month] + day - 1) * DAY + second
        if state[0] is None:
            state = _first_year(month[0] + 1, day[0], second[0], *state[1]), when[0]
        step = np.diff(when, prepend=state[1])
        year = state[0] + np.cumsum((step < -183 * DAY).astype(int) - (step > 183 * DAY))
        state = int(year[-1]), when[-1]
        days, good[rows] = _days(year, month + 1, day)
        time[rows] = days * DAY + second
    return time, good, state


def _first_year(month, day, second, near, latest):
    """The year that puts month, day and second nearest to the time `near`; 29 February only in leap years.

    Where that is after `latest` and a year before is not, that one.
    """
    year = np.datetime64(int(near), "s").astype("M8[Y]").astype(int) + 1970 + np.arange(-8, 9)
    days, good = _days(year, np.full(17, month), np.full(17, day))
    time = days * DAY + second
    distance = np.where(good, abs(time - near), np.inf)
    early = np.where(time <= latest, distance, np.inf)      # further off than a year before: `latest` is no help
    return int(year[(early if early.min() < 600 * DAY else distance).argmin()])


# -------------------------------------------------------------------------------------------------- shared parsing


class _Text(NamedTuple):
    """The bytes of a block, behind a newline and before some zeros."""

    buf: np.ndarray  # uint8
    words: np.ndarray  # uint64, the 8 bytes from each position on, the first in the lowest byte


def _cut(block, separators):
    """The block as text, and the positions of its newlines and separators."""
    buf = np.frombuffer(b"".join((b"\n", block, bytes(PADDING))), np.uint8)
    cut = buf == NEWLINE
    for separator in separators:
        cut |= buf == ord(separator)
    return _Text(buf, np.ndarray((len(buf) - 7,), "<u8", buffer=buf, strides=(1,))), np.flatnonzero(cut)


def _blocks(stream, reject):
    """Yield blocks of whole lines, each with its first line's number; a line longer than BLOCK is rejected.

    The last line needs no newline, unless the stream is `cut`: then it is a part of a line and left out.
    """
    np.empty(24 << 20, np.uint8)  # makes glibc keep what columns of one block free for the next (its dynamic
    rest, line = b"", 1  # M_MMAP_THRESHOLD) instead of having it mapped and cleared anew: half of the time
    while data := stream.read(BLOCK):
        data = rest + data
        end = data.rfind(b"\n") + 1
        if end:
            yield _unix(data[:end]), line
            line += np.count_nonzero(np.frombuffer(data, np.uint8) == NEWLINE)  # bytes.count takes 5 times as long
        elif len(data) > BLOCK:
            reject("line too long", f"line {line}")
            while data and not (end := data.find(b"\n") + 1):
                data = stream.read(BLOCK)
            line += 1
        rest = data[end:]
    if rest and not getattr(stream, "cut", False):  # a plain file has no such attribute
        yield _unix(rest + b"\n"), line


def _unix(block):
    """The block without byte-order mark and carriage returns."""
    block = block.removeprefix(BYTE_ORDER_MARK)
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _sift(checks, lines, reject):
    """Which lines pass all checks (good, reason, counter or None): the first one failed counts the line.

    Counted lines are well-formed but out of scope; those of a check without a counter are broken.
    """
    kept = np.ones(len(lines), bool)
    for good, reason, skipped in checks:
        out = np.flatnonzero(kept & ~good)
        if out.size and skipped is None:
            reject(reason, f"line {lines[out[0]]}", int(out.size))
        elif out.size:
            skipped[reason] += int(out.size)
        kept &= good
    return kept


def _protocols(word, skipped):
    """The checks that leave TCP, for a protocol's name or number as `_words` reads it."""
    return [
        (~np.isin(word, UDP), "UDP", skipped),
        (~np.isin(word, ICMP), "ICMP", skipped),
        (np.isin(word, TCP), "other protocol", skipped),
    ]


def _eight(words, at, width):
    """The decimal numbers of `width` (0..8) digits from `at`: int64, and which are all digits and not empty.

    All eight digits of a 64-bit word at once: neighbours are joined to pairs, these to fours, these to eight.
    """
    width = np.asarray(width)
    word = words[at]
    word ^= 0x3030303030303030  # "0" is 0x30
    word <<= (64 - 8 * width).astype(np.uint64)  # the last digit to the highest byte, zeros below the first
    good = ((word + 0x7676767676767676) | word) & 0x8080808080808080 == 0  # each byte below 10
    good &= (width > 0) & (width <= 8)
    for scale, shift, lanes in ((10, 8, 0x00FF00FF00FF00FF), (100, 16, 0x0000FFFF0000FFFF), (10_000, 32, 0xFFFFFFFF)):
        right = word >> shift
        word *= scale
        word += right
        word &= lanes
    return word.view(np.int64), good


def _wholes(words, start, end):
    """The decimal numbers between positions: int64, and which are 1 to 19 digits and nothing else."""
    width = end - start
    long = width > 8
    if not long.any():
        return _eight(words, start, width)
    value, good = _eight(words, np.maximum(start, end - 8), np.minimum(width, 8))
    high, fine = _wholes(words, start, np.where(long & (width <= 19), end - 8, start))
    value += high * 10**8
    good &= (fine | ~long) & (value >= 0)  # 19 digits may overflow
    return value, good


def _numbers(text, start, end):
    """Fields that hold a number without sign or exponent: its integer part and fraction, and which are good."""
    buf, words = text
    point = np.minimum(start + 10, end)  # as in most times
    rest = np.flatnonzero((buf[point] != DOT) | (point == end))
    point[rest] = np.minimum(_run(buf, start[rest]), end[rest])
    whole, good = _wholes(words, start, point)
    fraction = np.zeros(len(whole))
    if (point < end).any():
        digits = (end - point - 1).clip(0, 18)  # more add nothing
        value, fine = _wholes(words, point + 1, point + 1 + digits)
        fraction = value / POWERS[digits]
        good &= (point == end) | (buf[point] == DOT) & (fine | (digits == 0))
    return whole, fraction, good


def _integers(text, start, end):
    """Fields that hold an integer: the value (0 where absent), which are good, and which of these are absent."""
    missing = (text.buf[start] == DASH) & (end == start + 1)
    if missing.any():
        value, good, given = np.zeros(len(start), np.int64), missing.copy(), np.flatnonzero(~missing)
        value[given], good[given], missing[given] = _integers(text, start[given], end[given])
        return value, good, missing
    value, good = _wholes(text.words, start, end)
    rest = np.flatnonzero(~good)
    if rest.size:
        missing[rest] = np.isin(_words(text, start[rest], end[rest]), MISSING)
        value[rest], fraction, fine = _numbers(text, start[rest], end[rest])
        good[rest] = fine & (fraction == 0)
        value[missing] = 0
        good |= missing
    return value, good, missing


def _ports(text, start, end):
    """Fields that hold a port: the value, OTHER_PORT for a folded one, and which are good."""
    port, good, missing = _integers(text, start, end)
    good &= ~missing & (port <= 65535)
    rest = np.flatnonzero(~good)
    if rest.size:
        rest = rest[np.isin(_words(text, start[rest], end[rest]), OTHER)]
        port[rest], good[rest] = OTHER_PORT, True
    return port.astype(np.int32), good


def _quads(text, start, end):
    """Fields that hold a dotted quad: int64, and which are good."""
    dots = (_dots(text.words[start]) | _dots(text.words[start + 8]) << 8).view(np.int64)  # a bit per byte
    dots = DOTS[dots & ((1 << (end - start).clip(0, 16)) - 1)]
    stops = np.stack([start + (dots & 15), start + (dots >> 4 & 15), start + (dots >> 8), end])  # of the octets
    width = (stops - np.stack([start, *stops[:3] + 1])).astype(np.int8)
    ones, tens, hundreds = (text.buf[stops - k] - ZERO for k in (1, 2, 3))  # below "0" wraps around to above 9
    tens *= width > 1
    hundreds *= width > 2
    good = (ones <= 9) & (tens <= 9) & (hundreds <= 9) & (width >= 1) & (width <= 3)
    octets = hundreds * np.uint16(100) + (tens * np.uint8(10) + ones)
    address = np.ascontiguousarray(octets[::-1].astype(np.uint8).T).view("<u4")[:, 0]
    return address.astype(np.int64), (good & (octets <= 255)).all(axis=0) & (dots > 0) & (end - start <= 15)


def _dots(word):
    """The bytes of a word that are dots, if the others are digits, as bits: only a dot lacks the bit 0x10."""
    return ((~word & 0x1010101010101010) >> 4) * 0x0102040810204080 >> 56


def _addresses(text, start, end):
    """Fields that hold an IPv4 address, dotted or an integer: uint32, which are good, and which others are IPv6."""
    address, good = _quads(text, start, end)
    ipv6 = np.zeros(len(good), bool)
    rest = np.flatnonzero(~good)
    if rest.size:
        start, end = start[rest], end[rest]
        address[rest], whole, missing = _integers(text, start, end)
        good[rest] = whole & ~missing & (address[rest] < 1 << 32)
        ipv6[rest] = _count(text.buf, COLON, start, end) > 1
    return address.astype(np.uint32), good, ipv6 & ~good


def _destinations(text, start, end, sensors):
    """Fields that hold an address or a sensor's name, which becomes its number: as _addresses."""
    dst, good, ipv6 = _addresses(text, start, end)
    rest = np.flatnonzero(~good & ~ipv6 & (end - start <= MAX_NAME))
    if rest.size:
        rest = rest[~np.isin(_words(text, start[rest], end[rest]), MISSING)]
    if rest.size:
        start, width = start[rest], (end - start)[rest]
        letters = text.buf[np.minimum(start[:, None] + np.arange(width.max()), len(text.buf) - 1)]
        letters[np.arange(width.max()) >= width[:, None]] = 0
        names = letters.view(f"S{width.max()}")[:, 0]
        names, first, which = np.unique(names, return_index=True, return_inverse=True)
        numbers = np.full(len(names), -1)
        for k in np.argsort(first):  # the distinct names of a block
            name = names[k].decode("utf-8", "replace")
            if name in sensors or (SENSOR.fullmatch(name) and len(sensors) < MAX_SENSORS):
                numbers[k] = sensors.setdefault(name, len(sensors))
        dst[rest], good[rest] = numbers[which].clip(0), numbers[which] >= 0
    return dst, good, ipv6


def _times(text, start, end, layout, warn):
    """Fields that hold a time, a number or a date: UTC seconds, and which are good. Settles the table's unit."""
    whole, fraction, numeric = _numbers(text, start, end)
    time = whole + fraction
    if layout.unit is None and numeric.any():
        typical = np.median(time[numeric])
        layout.unit = next((unit for unit in (10**9, 10**6, 10**3) if typical >= 1e8 * unit), 1)
        odd = not PLAUSIBLE[0] <= typical / layout.unit < PLAUSIBLE[1]
        if warn and (layout.unit > 1 or odd):
            warn(f"times read as {UNITS[layout.unit]} since 1970" + ": days before 1990 or after 2099" * odd)
    time /= layout.unit or 1
    good = numeric & (time < END_OF_TIME)
    rest = np.flatnonzero(~numeric)
    if rest.size:
        time[rest], stop, fine = _dates(text, start[rest])
        good[rest] = fine & (stop == end[rest])
    return time, good


def _dates(text, at):
    """`2021-12-12T00:01:07.5+01:00` and kin (RFC 3339; a blank, or what `_unquote` makes of it, for T; UTC without Z or
    offset, which may lack the minutes) that begin at `at`.

    Gives UTC seconds, the positions behind them, and which are good.
    """
    buf, words = text
    year, good = _eight(words, at, 4)
    month, fine = _eight(words, at + 5, 2)
    good &= fine & (buf[at + 4] == DASH) & (buf[at + 7] == DASH) & np.isin(buf[at + 10], list(b"Tt _"))
    day, fine = _eight(words, at + 8, 2)
    second, stop, whole = _clock(text, at + 11)
    days, valid = _days(year, month, day)
    good &= fine & whole & valid
    time = days * DAY + second
    letter = buf[stop]
    stop = stop + np.isin(letter, list(b"Zz"))
    rest = np.flatnonzero(good & np.isin(letter, list(b"+-")))
    if rest.size:
        hours, good[rest] = _eight(words, stop[rest] + 1, 2)
        colon = buf[stop[rest] + 3] == COLON
        minutes, fine = _eight(words, stop[rest] + 3 + colon, 2)
        none = ~fine & ~colon
        minutes[none] = 0
        good[rest] &= (fine | none) & (hours < 24) & (minutes < 60)
        time[rest] -= np.where(letter[rest] == DASH, -60, 60) * (hours * 60 + minutes)
        stop[rest] += np.where(none, 3, 5 + colon)
    return time, stop, good & (time >= 0) & (time < END_OF_TIME)


def _clock(text, at):
    """`00:01:07` or `00:01:07.123` that begin at `at`: seconds, the positions behind them, which are good."""
    buf, words = text
    (hour, minute, second), good = _eight(words, at + np.array([[0], [3], [6]]), 2)
    good = good.all(axis=0) & (buf[at + 2] == COLON) & (buf[at + 5] == COLON)
    good &= (hour < 24) & (minute < 60) & (second <= 60)  # 60: a leap second
    seconds, stop = hour * 3600.0 + minute * 60 + second, at + 8
    rest = np.flatnonzero(good & (buf[stop] == DOT))
    if rest.size:
        point = stop[rest]
        end = _run(buf, point + 1)
        value, fine = _wholes(words, point + 1, np.minimum(end, point + 19))
        seconds[rest] += value / POWERS[np.minimum(end - point - 1, 18)]
        stop[rest], good[rest] = end, fine
    return seconds, stop, good


def _run(buf, at):
    """Where the digits from `at` on end, at most 32 of them."""
    for _ in range(32):
        on = (buf[at] >= ZERO) & (buf[at] <= NINE)
        if not on.any():
            break
        at = at + on
    return at


def _days(year, month, day):
    """Days since 1970 of a date, and which exist."""
    good = (month >= 1) & (month <= 12) & (year >= 1970) & (year <= 9999)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    return MONTH_STARTS[months] + day - 1, good & (day >= 1) & (day <= MONTH_STARTS[months + 1] - MONTH_STARTS[months])


def _words(text, start, end):
    """Fields of up to 8 bytes in lower case, the first in the lowest byte of a uint64; longer ones are all ones."""
    width = end - start
    mask = ~np.uint64(0) >> (64 - 8 * np.minimum(width, 8)).astype(np.uint64)
    word = (text.words[start] | np.uint64(0x2020202020202020)) & mask
    return np.where(width > 8, ~np.uint64(0), word)


def _count(buf, byte, start, end):
    """How often a byte stands between positions."""
    places = np.flatnonzero(buf == byte)
    return np.searchsorted(places, end) - np.searchsorted(places, start)
