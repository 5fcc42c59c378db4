"""Firewall logs -> packets: lines of Linux netfilter and of pfSense's and OPNsense's `filterlog`, through any logger.

    Dec 12 00:01:07 host kernel: [UFW BLOCK] IN=ens3 OUT= SRC=198.51.100.1 DST=192.0.2.7 LEN=40 ... PROTO=TCP ... DPT=23
    May 12 10:00:00 fw filterlog[351]: 4,,,1000000103,vtnet0,match,block,in,4,0x0,,243,54321,0,none,6,tcp,44,198.51...

A line's time is the first in it, whatever stands before (stamps.py). One without a year takes the year that puts it
nearest to the line before it, the file's first one nearest to `near` (UTC seconds) and, if one of the years around has
such, not after `latest`, when the file was last changed. A file none of whose lines has a time is refused. What is
decided:
  - `message repeated 7 times: [...]` stands for 7 more packets, and so does `last message repeated 7 times` for the
    line before it: the chunk's column `packets`.
  - two lines that tell the same packet (all from SRC= on is the same) within a second under different prefixes, as UFW
    AUDIT and BLOCK, are one packet; under the same prefix they are two.
  - a line that ends inside a value that most lines do not end with is cut short: no packet, lest DPT=44 be 443's.
  - of a repeated key the first counts; `SEQ=` (--log-tcp-sequence) and `OPT (...)` (--log-tcp-options) are read.
  - a packet that came in by no interface (`IN= `), or goes out (filterlog), is this machine's own: "outgoing".

Columns of a chunk, `skip`, `reject` as in records.py. Imports the standard library, numpy, fields, records, stamps and
times.
"""

import re

import numpy as np

from traces.fields import (
    COLON,
    COMMA,
    NEWLINE,
    NINE,
    PADDING,
    TCP,
    ZERO,
    Check,
    addresses,
    blocks,
    codes,
    cut,
    hexadecimal,
    protocol_checks,
    protocols,
    run,
    shown,
    sift,
    wholes,
    words_of,
)
from traces.records import MAX_COUNT, OPTIONAL, in_order
from traces.stamps import stamps
from traces.times import ZONES

KEYS = (b" SRC=", b" DST=", b" PROTO=", b" DPT=", b" LEN=", b" TTL=", b" WINDOW=", b" SEQ=", b"IN= OUT=")
VALUES = {"port": 3, "length": 4, "ttl": 5, "window": 6, "seq": 7}  # role -> which key
FILTERLOG = {"direction": 7, "version": 8, "ttl": 11, "offset": 13, "protocol": 15, "length": 17, "src": 18, "dst": 19,
             "port": 21, "seq": 24, "window": 26}  # field of a TCP line, from 0
FILTERLOG_FIELDS = 28  # that one of TCP over IPv4 has at least
EQUALS, BRACKET, CLOSING, NUL = b"=(]\0"
PRINTK = re.compile(rb" <\d>(?=[A-Z]+=)")  # the kernel's levels, left inside a line by some loggers
FILTERLO = int.from_bytes(b"filterlo", "little")
KERNEL = int.from_bytes(b"kernel", "little")
REPEATS = b"message repeated"
REPEATED = int.from_bytes(b"repeated", "little")
TWICE = 1.0  # seconds within which two lines may be of one packet
RECENT, PARTS = 32, 4  # packets of a block, and blocks, whose packets the next one's lines may tell again
PRIME = np.uint64(0x9E3779B97F4A7C15)
LETTERS = np.random.default_rng(0).integers(1, 1 << 63, 256, np.uint64)  # what each byte adds to a prefix's hash
LETTERS[list(b"0123456789. []<>\0")] = 0


def read_log(stream, name, skip, reject, near, latest=np.inf, warn=lambda _: None):
    """Yield the TCP packets of a firewall's log as chunks of columns, see records.py.

    `stream` has `.read(n)` and gives bytes; `name` stands in messages; `near` and `latest` settle missing years.
    `warn(line)` is told of lines read as later than `latest`, of time zones that are not applied, of lines that stand
    for many packets and of packets logged twice. Raises ValueError where no line has a time.
    """
    state, recent, told = (None, (near, latest)), None, set()

    def tell(line):
        """Warn once."""
        if line not in told:
            told.add(line)
            warn(line)

    for block, line, context in _log_blocks(stream, reject):
        if b"<" in block:
            block = PRINTK.sub(b" ", block)
        text, cuts = cut(block, " =")
        kinds = text.buf[cuts]
        starts, stops = _lines(cuts[kinds == NEWLINE])
        stamp, state = stamps(text, starts, stops, state)
        lines = line + np.arange(len(starts))
        parts, recent = packets_of_lines(
            text, cuts, kinds, starts, stops, lines, stamp, recent, name, skip, reject, tell, context
        )
        chunk, _ = in_order(parts)
        if len(chunk["time"]):
            if state[0] is not None and chunk["time"].max() > latest:
                tell("lines read as of days after the file was last changed: give the year of the first line (--year)")
            yield chunk


def log_span(stream, near):
    """The first and the last time (UTC seconds) among the lines with a year-less time, in file order; or None.

    Years as in read_log. With them the year of one file's first line fixes those of the files after it.
    """
    first, state = None, (None, (near, np.inf))
    for block, _ in blocks(stream, lambda *_: None):
        text, cuts = cut(block, "")
        stamp, state = stamps(text, *_lines(cuts), state)
        time = stamp.time[stamp.good & stamp.guessed]
        if time.size:
            first, last = time[0] if first is None else first, time[-1]
    return None if first is None else (float(first), float(last))


def _log_blocks(stream, reject):
    """Yield a log's blocks, the number of their first lines, and how many of these are there only to be repeated.

    That is the line before, where a block begins with a line that repeats it.
    """
    last = b""
    for block, line in blocks(stream, reject, b"\0"):  # the mark of a last line without an end
        context = int(bool(last) and REPEATS in block[: block.find(b"\n")])
        yield (last + block if context else block), line - context, context
        end = block[block.rfind(b"\n", 0, -1) + 1 :]
        last = last if REPEATS in end else end


def _lines(breaks):
    """Where the lines start, and the newlines that end them; the text's first newline only begins a line."""
    return breaks[:-1] + 1, breaks[1:]


def packets_of_lines(text, cuts, kinds, starts, stops, lines, stamp, recent, name, skip, reject, warn, context=0):
    """The packets among log lines: chunks, each with the rows that its packets are, and what the next block needs.

    `cuts` are the positions of blanks, "=" and newlines, `kinds` which of these each is; `lines` (n,) the lines'
    numbers; `stamp` their Stamps; `recent` what the last call gave as the second value, None before the first. The
    first `context` lines were read already, and are there to be repeated.
    """
    equals = np.append(0, np.flatnonzero(kinds == EQUALS))
    found = equals[_find(text.words, cuts[equals], stops, *KEYS)]  # (keys, n) which cuts are the keys' ends, 0 = none
    logged = found[0] > 0
    source, packets = np.arange(len(starts)), None  # which line tells the packet, how many there are
    every = logged.all()
    if not every or ((text.buf[stops - 1] == CLOSING) | (text.buf[stops - 2] == CLOSING)).any():
        source, packets = _repeated(text, cuts, starts, stops, logged)
        logged = logged[source]
    filtered = np.zeros(len(starts), np.int64)
    if not every:
        filtered = np.where(logged, 0, _find_filterlog(text, cuts, starts, stops)[source])
        filtered[:context] = 0
        others = ~logged & (filtered == 0) & (starts < stops) & (np.arange(len(starts)) >= context)
        sift([Check(~others, "other log line")], lines, text, skip, reject)
    logged[:context] = False
    if recent is None and (logged | (filtered > 0)).any():
        _look_at_times(text, starts, stops, stamp, logged | (filtered > 0), name, warn)
        recent = ()
    parts = []
    rows = np.flatnonzero(logged)
    if rows.size or not filtered.any():
        whole = packets is None and len(rows) == len(starts)  # then no line need be picked
        told, own = (slice(None), slice(None)) if whole else (source[rows], rows)
        chunk, kept = _netfilter(text, cuts, starts, stops, found, told, own, lines, stamp, skip, reject)
        kept = rows[kept]
        told = source[kept] if packets is not None else kept
        once, recent = _once(text, chunk, starts[told], cuts[found[0, told]], stops[told], recent or [])
        if not once.all():
            sift([Check(once, "a packet logged twice")], lines[kept], text, skip, reject)
            warn("lines that log one packet twice, as UFW AUDIT and BLOCK do, are counted once")
            chunk, kept = {column: values[once] for column, values in chunk.items()}, kept[once]
        parts.append((chunk, kept))
    if filtered.any():
        parts.append(_filterlog(text, stops, filtered, source, lines, stamp, skip, reject))
    for chunk, rows in parts if packets is not None else ():
        if (packets[rows] > 1).any():
            warn("lines that say so (message repeated 7 times) count as that many packets")
            chunk["packets"] = packets[rows]
    return parts, recent


def _look_at_times(text, starts, stops, stamp, logged, name, warn):
    """Refuse a log whose first lines have no time at all, and say which time zone is not applied."""
    first = int(np.flatnonzero(logged)[0])
    if not stamp.there[logged].any():
        raise ValueError(f"{name}: expected lines with a date and a time of day, got none, as the kernel's own buffer "
                         f"has them (dmesg -T and journalctl tell them): {shown(text, starts[first], stops[first])}")
    zone = ZONES.search(text.buf[starts[first] : min(stops[first], starts[first] + 40)].tobytes())
    if zone:
        warn(f"the time zone {zone[1].decode()} is not applied: times are taken as they stand")


def _repeated(text, cuts, starts, stops, logged):
    """Which line tells each line's packet, (n,), and how many it stands for, None where each stands for one.

    `message repeated 7 times: [...]` tells it itself; `last message repeated 7 times` has it from the line before.
    """
    source = np.arange(len(starts))
    at, row = _find_word(text, cuts, starts, stops, REPEATED)
    at = at + 9
    stop = run(text.buf, at)
    count, good = wholes(text.words, at, stop)
    good &= count <= MAX_COUNT
    good &= text.words[stop] & np.uint64(0xFFFFFFFFFFFF) == int.from_bytes(b" times", "little")
    row, count = row[good], count[good]
    if not row.size:
        return source, None
    packets = np.ones(len(starts), np.int64)
    packets[row[::-1]] = count[::-1]  # the first of a line counts
    alone = row[~logged[row]]
    source[alone] = 0
    before = np.maximum.accumulate(source)
    source[alone] = before[alone]
    return source, packets


def _netfilter(text, cuts, starts, stops, found, told, own, lines, stamp, skip, reject):
    """The chunk of the lines at the indices `told`, and which of them are its packets; time and number are `own`."""
    buf, words = text
    found = found[:, told]
    begin, end, there = cuts[found] + 1, cuts[found + 1], found > 0
    src, good_src, src6 = addresses(text, begin[0], end[0], integer=False)
    dst, good_dst, dst6 = addresses(text, begin[1], end[1], integer=False)
    protocol = protocols(text, begin[2], end[2])
    late = np.zeros(len(src), bool)
    if not (there[3] | (protocol != TCP)).all():  # only a packet's first fragment has ports
        colons = np.append(0, np.flatnonzero(buf == COLON))
        late = _find(words, colons, stops, b" FRAG:")[0, told] > 0
    brackets = np.append(0, np.flatnonzero(buf == BRACKET))
    options = _find(words, brackets, stops, b" OPT (")[0, told] if brackets.size > 1 else np.zeros(len(src), np.int64)
    starts, stops, lines, time, good_time = starts[told], stops[told], lines[own], stamp.time[own], stamp.good[own]
    short = _cut_short(buf, stops, there[3:8], end[3:8])
    chunk = {"time": time, "src": src, "dst": dst}
    checks = [
        Check(~there[8], "outgoing"),
        Check(~(src6 | dst6), "IPv6"),
        Check(there[2], "no protocol", (begin[0], stops), "PROTO="),
        *protocol_checks(protocol, (begin[2], end[2])),
        Check(~late, "later fragment"),
        Check(~short, "line cut short", (np.maximum(stops - 40, starts), stops), "more behind its last value"),
        Check(good_time, "bad time", (starts, np.minimum(stops, starts + 32)), "a date and a time of day"),
        Check(good_src, "bad source address", (begin[0], end[0]), "an IPv4 address"),
        Check(good_dst & there[1], "bad destination", (begin[1], end[1]), "an IPv4 address"),
    ]
    for role, key in VALUES.items():
        value, good = wholes(words, begin[key], end[key])
        checks += _put(chunk, role, value, good, there[key], (begin[key], end[key]))
    if options.any():
        chunk["mss"], chunk["timestamp"] = _options(buf, np.where(options > 0, brackets[options] + 1, 0), stops)
    kept = sift(checks, lines, text, skip, reject)
    return (chunk if kept.all() else {role: column[kept] for role, column in chunk.items()}), kept


def _cut_short(buf, stops, there, end):
    """Which lines end inside a value, (values, n), if not most do, or the file ends there."""
    final = buf[stops - 1]
    last = ((final >= ZERO) & (final <= NINE)) | (final == NUL)
    if last.any():
        last &= (there & (end == stops)).any(axis=0)
        last &= (final == NUL) | (np.count_nonzero(last) < len(last) / 2)
    return last


def _put(chunk, role, value, good, there, place):
    """Put a value of a line into the chunk, if any line has it; gives its check."""
    if role == "port":
        chunk["port"] = value.astype(np.int32)
        yield Check(good & there & (value <= 65535), "bad port", place, "a number of 0 to 65535")
    elif there.any():
        most = np.iinfo(OPTIONAL[role]).max
        chunk[role] = np.where(there, value, 0).astype(OPTIONAL[role])
        yield Check((good & (value <= most)) | ~there, f"bad {role}", place, f"a number of 0 to {most}")


def _find(words, ends, stops, *keys):
    """Which of the places `ends` is the last byte of each key's first occurrence per line: (keys, n), 0 = none.

    ends[0] stands for none. Lines end at `stops`.
    """
    line = np.repeat(np.arange(len(stops)), np.diff(np.searchsorted(ends, stops), prepend=0))
    word = words[np.maximum(ends - 7, 0)]  # the 8 bytes up to each
    tail = (word >> np.uint64(32)).astype(np.uint32)  # the last 4 of these
    found = np.zeros((len(keys), len(stops)), np.int64)
    for row, key in zip(found, keys):
        hits = np.flatnonzero(tail[: len(line)] == int.from_bytes(key[-4:], "little"))[::-1]
        hits = hits[word[hits] >> np.uint64(64 - 8 * len(key)) == int.from_bytes(key, "little")]
        row[line[hits]] = hits  # of repeated indices the last is assigned: the line's first hit
    return found


def _options(buf, at, stops):
    """MSS and timestamp value of TCP options written as hexadecimal digits from `at` (0 = none), at most 40 bytes."""
    mss, timestamp = np.zeros(len(at), np.uint16), np.zeros(len(at), np.uint32)
    stops = np.minimum(stops, at + 80)
    rows = np.flatnonzero(at)
    while rows.size:  # each turn reads one option of every line that has one left
        kind, good = hexadecimal(buf, at[rows], 2)
        length, whole = hexadecimal(buf, at[rows] + 2, 2)
        length[kind == 1] = 1
        good &= (kind > 0) & ((kind == 1) | whole & (length > 1)) & (at[rows] + 2 * length <= stops[rows])
        rows, kind, length = rows[good], kind[good], length[good]
        for column, number, size in ((mss, 2, 4), (timestamp, 8, 10)):
            of = rows[(kind == number) & (length == size)]
            value, good = hexadecimal(buf, at[of] + 4, 4 if number == 2 else 8)
            column[of[good]] = value[good]
        at[rows] += 2 * length
    return mss, timestamp


# ------------------------------------------------------------------------------------------ one packet in two lines


def _once(text, chunk, starts, src, stops, recent):
    """Which packets are told for the first time, and what the next block's may be told again: see the file's header.

    Lines begin at `starts`; what tells the packet is from `src` to `stops`, what stands before is the prefix.
    """
    pair = chunk["src"].astype(np.uint64) << np.uint64(32) | chunk["dst"]
    pair = (pair * PRIME ^ chunk["port"].astype(np.uint64)) * PRIME
    told = [*recent, (text, pair, chunk["time"], starts, src, stops)]
    once, pairs = np.ones(len(pair), bool), np.concatenate([part[1] for part in told])
    ordered = np.sort(pairs)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if again.size:
        time = np.concatenate([part[2] for part in told])
        rows = _again(pairs, time, again)
        ends = np.cumsum([len(part[1]) for part in told])
        of_parts = np.split(rows, np.searchsorted(rows, ends[:-1]))
        places = [(part[0], *(place[some - end + len(part[1])] for place in part[3:]))
                  for part, some, end in zip(told, of_parts, ends) if len(some)]  # fmt: skip
        prefix = np.concatenate([_prefixes(*place) for place in places]) if places else rows
        if (prefix[1:] != prefix[:-1]).any():
            first = _first_told(np.concatenate([_packets(*place) for place in places]), prefix, time[rows])
            once[of_parts[-1] - len(pairs) + len(pair)] = first[len(rows) - len(of_parts[-1]) :]
    return once, [(part[0], *(column[-RECENT:] for column in part[1:])) for part in told[-PARTS:]]


def _again(pairs, time, again):
    """The rows whose pair of hosts and port, one of `again` in ascending order, comes again within TWICE seconds."""
    rows = np.flatnonzero(again[np.searchsorted(again, pairs).clip(max=len(again) - 1)] == pairs)
    order = rows[np.lexsort((time[rows], pairs[rows]))]
    near = (np.diff(pairs[order]) == 0) & (np.diff(time[order]) <= TWICE)
    return np.sort(order[np.append(near, False) | np.append(False, near)])


def _first_told(packet, prefix, time):
    """Of rows that tell the same packet at the same time, the k-th under one prefix is the k-th under another."""
    order = np.lexsort((time, packet))
    group = np.empty(len(packet), np.int64)
    group[order] = np.cumsum(np.append(True, (np.diff(packet[order]) != 0) | (np.diff(time[order]) > TWICE)))
    order = np.lexsort((prefix, group))  # stable: in the order of lines
    begins = np.append(True, (np.diff(group[order]) != 0) | (np.diff(prefix[order]) != 0))
    turn = np.empty(len(packet), np.int64)
    turn[order] = np.arange(len(packet)) - np.maximum.accumulate(np.where(begins, np.arange(len(packet)), 0))
    _, first = np.unique(np.stack([group, turn]), axis=1, return_index=True)
    return np.isin(np.arange(len(packet)), first)


def _packets(text, starts, src, stops):
    """Of each line, a hash of what stands from `src` on."""
    packet, width = np.zeros(len(src), np.uint64), int((stops - src).max())
    for k in range(0, min(width, 512), 8):
        left = (stops - src - k).clip(0, 8)
        word = text.words[np.minimum(src + k, len(text.words) - 1)] & ~np.uint64(0) >> (64 - 8 * left).astype(np.uint64)
        packet = np.where(left > 0, (packet ^ word) * PRIME, packet)
    return packet


def _prefixes(text, starts, src, stops):
    """Of each line, a hash of the letters that stand before `src`."""
    at = src[:, None] - 1 - np.arange(min(int((src - starts).max()), 256))
    letters = np.where(at >= starts[:, None], text.buf[np.maximum(at, 0)], 0)
    kernel = text.words[np.maximum(at, 0)] & np.uint64(0xFFFFFFFFFFFF) == KERNEL
    letters[np.maximum.accumulate(kernel & (at >= starts[:, None]), axis=1)] = 0  # behind it the prefix begins
    return LETTERS[letters].sum(axis=1, dtype=np.uint64)


# -------------------------------------------------------------------------------------------------------- filterlog


def _find_filterlog(text, cuts, starts, stops):
    """Where each line's word `filterlog` begins, 0 where there is none."""
    at, row = _find_word(text, cuts, starts, stops, FILTERLO)
    at, row = at[text.buf[at + 8] == ord("g")], row[text.buf[at + 8] == ord("g")]
    found = np.zeros(len(stops), np.int64)
    found[row[::-1]] = at[::-1]
    return found


def _find_word(text, cuts, starts, stops, word):
    """Where these 8 letters begin, behind any of `cuts`, and in which lines: those outside of lines are left out."""
    at = cuts[:-1][text.words[cuts[:-1] + 1] == word] + 1
    row = np.searchsorted(stops, at)
    inside = row < len(stops)
    inside[inside] = at[inside] >= starts[row[inside]]
    return at[inside], row[inside]


def _filterlog(text, stops, filtered, source, lines, stamp, skip, reject):
    """The chunk of the lines that hold `filterlog`, and which rows its packets are."""
    rows = np.flatnonzero(filtered)
    stops, at, lines = stops[source[rows]], filtered[rows], lines[rows]
    commas = np.append(np.flatnonzero(text.buf == COMMA), np.full(FILTERLOG_FIELDS + 2, len(text.buf) - PADDING))
    first = np.searchsorted(commas, at)

    def field(name):
        k = FILTERLOG[name]
        return np.minimum(commas[first + k - 1] + 1, stops), np.minimum(commas[first + k], stops)

    src, good_src, _ = addresses(text, *field("src"), integer=False)
    dst, good_dst, _ = addresses(text, *field("dst"), integer=False)
    version = words_of(text, *field("version"))
    chunk = {"time": stamp.time[rows], "src": src, "dst": dst}
    whole_line = at, stops
    checks = [
        Check(words_of(text, *field("direction")) != codes("out")[0], "outgoing"),
        Check(version != codes("6")[0], "IPv6"),
        Check(version == codes("4")[0], "bad version of IP", field("version"), "4 or 6"),
        *protocol_checks(protocols(text, *field("protocol")), field("protocol")),
        Check(words_of(text, *field("offset")) == codes("0")[0], "later fragment"),
        Check(commas[first + FILTERLOG_FIELDS - 1] < stops, "line cut short", whole_line, "28 fields of a TCP packet"),
        Check(stamp.good[rows], "bad time", whole_line, "a date and a time of day before it"),
        Check(good_src, "bad source address", field("src"), "an IPv4 address"),
        Check(good_dst, "bad destination", field("dst"), "an IPv4 address"),
    ]
    for role in ("port", "length", "ttl", "window", "seq"):
        begin, end = field(role)
        if role == "seq":  # first:last of a packet with data
            end = np.minimum(run(text.buf, begin), end)
        value, good = wholes(text.words, begin, end)
        checks += _put(chunk, role, value, good, np.ones(len(rows), bool), (begin, end))
    kept = sift(checks, lines, text, skip, reject)
    return {role: column[kept] for role, column in chunk.items()}, rows[kept]
