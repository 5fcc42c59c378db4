"""JSON lines -> packets: one object a line (RFC 8259), by names as tables have them, nested ones joined by dots.

    {"ts": 1683878400.25, "id.orig_h": "198.51.100.1", "id.resp_h": "192.0.2.7", "id.resp_p": 23, "proto": "tcp"}
    {"@timestamp": "2023-05-12T08:00:00Z", "source": {"ip": "198.51.100.1"}, "destination": {"ip": ..., "port": 23}}

Which names are read stands in records.py; a row may have any of a role's names. What is decided:
  - p0f: an object whose `mod` is `syn` is a packet, with TTL, MSS and window from `raw_sig`; others tell more of it.
  - Suricata's EVE: an object whose `event_type` is `flow` is as many packets as went to the server; others are passed.
  - where a message, not the names, tells the packet (journald's MESSAGE, docker's log), it is a firewall's line
    (syslog.py) at the object's time.
  - what stands around an object is passed over: a logger's prefix, the brackets and commas of an array. Two objects in
    a line, and one over several lines, are broken.

Vectorized: the quotes and brackets of a block are its tokens, brackets within strings are dropped; a name is what two
quotes before a colon hold, its path the hash of its own and its parents' names. Imports the standard library, numpy,
fields, records, stamps, syslog and times.
"""

from functools import cache
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from traces.fields import (
    COLON,
    COMMA,
    NEWLINE,
    PADDING,
    QUOTE,
    SPACE,
    Check,
    Text,
    blocks,
    codes,
    cut,
    eight,
    run,
    shown,
    sift,
    words_of,
)
from traces.records import CLOCKS, COUNTS, DAYS, NAMES, find_columns, in_order, notes, packets_of
from traces.stamps import Stamps, stamps
from traces.syslog import EQUALS, packets_of_lines
from traces.times import times

OPEN, CLOSE, BRACKET = b"{}["
MAX_NAME = 40  # bytes of a name that are looked at
MAX_DEPTH = 8  # of objects within objects
EVENTS = {"event_type": ("flow_id", "flow"), "mod": ("raw_sig", "syn")}  # kind of event -> (told by, the one wanted)
MESSAGES = ["message", "msg", "log", "event.original"]  # a firewall's line
WRAPPERS = ("", "_source.", "layers.", "_source.layers.", "jsonpayload.", "result.", "fields.")  # around all names
PRIME, PARENT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def _hash(text, start, end):
    """A hash of each name, in lower case."""
    found = np.zeros(len(start), np.uint64)
    rows, k = np.arange(len(start)), 0
    while rows.size and k < MAX_NAME:
        left = (end[rows] - start[rows] - k).clip(0, 8)
        word = (text.words[start[rows] + k] | np.uint64(0x2020202020202020)) & ~np.uint64(0) >> (64 - 8 * left).astype(
            np.uint64
        )
        found[rows] = (found[rows] ^ word) * PRIME
        found[rows] ^= found[rows] >> np.uint64(29)
        k += 8
        rows = rows[end[rows] - start[rows] > k]
    return found


@cache
def _known():
    """The hashes of all paths that are read, in order, which name each stands for, and the names; and which first 16
    bits hashes have, (65536,) booleans. Made once, when the first JSON comes."""
    names = " ".join([*NAMES.values(), *COUNTS, *COUNTS.values(), DAYS, CLOCKS, *MESSAGES, *EVENTS, "flow_id raw_sig"])
    paths = {}
    for name in dict.fromkeys(names.split()):
        for written in (name, name.replace("_", "-"), name.replace("_", "")):
            for wrapper in WRAPPERS:
                parts = (wrapper + written).split(".")
                for n in range(len(parts)):
                    for dots in combinations(range(1, len(parts)), n):  # where one object ends and the next begins
                        at = [0, *dots, len(parts)]
                        paths.setdefault(tuple(".".join(parts[a:b]) for a, b in pairwise(at)), name)
    words = sorted({word for path in paths for word in path})
    text, _ = cut("\n".join(words).encode() + b"\n", "")
    stops = 1 + np.cumsum([len(word) + 1 for word in words])
    word_hash = dict(zip(words, _hash(text, np.append(1, stops[:-1]), stops - 1)))
    hashes = {}
    with np.errstate(over="ignore"):
        for path, name in paths.items():
            found = word_hash[path[0]]
            for word in path[1:]:
                found = found * PARENT + word_hash[word]
            hashes.setdefault(int(found), name)
    order, meanings = np.array(sorted(hashes), np.uint64), list(dict.fromkeys(hashes.values()))
    maybe = np.zeros(1 << 16, bool)
    maybe[(order >> np.uint64(48)).astype(np.int64)] = True
    return order, np.array([meanings.index(hashes[key]) for key in order.tolist()]), meanings, maybe


def read_json(stream, name, skip, reject, sensors, near, latest=np.inf, warn=lambda _: None):
    """Yield the TCP packets of JSON lines as chunks of columns, see records.py.

    `stream` has `.read(n)` and gives bytes; `name` stands in messages; `skip` and `reject(kind, place, count)` are told
    of objects that are no packets; `sensors` is the dict name -> number and grows; `near` and `latest` settle years
    that messages lack (syslog.py); `warn(line)` is told of what is odd. Raises ValueError where no object has names for
    time, source, destination and port, nor a message.
    """
    names, columns, log, told = set(), None, (None, (None, (near, latest))), set()

    def tell(line):
        """Warn once."""
        if line not in told:
            told.add(line)
            warn(line)

    for block, line in blocks(stream, reject):
        text, rows, keys = _keys(block, line, reject)
        if columns is None and not len(rows):
            if block.strip():
                raise ValueError(f"{name}: expected one JSON object a line (`jq -c .` puts each into one), got "
                                 f"{shown(text, 1, block.find(NEWLINE) + 1)} in line {line}")
            continue
        places = _places(text, keys, rows)
        if columns is None or not places.keys() <= names:
            names |= places.keys()
            columns = _columns(names, columns, text, keys, name)
            for note in () if columns.missing() else notes(columns):
                tell(note)
        rows, places = _wanted(text, places, rows, line, skip)
        message, packets, others = _sorted_out(places, columns, rows)
        skipped = np.ones(len(rows), bool)
        skipped[others] = False
        sift([Check(skipped, "other object")], line + rows, text, skip, reject)
        parts = []
        if packets.size:
            parts.append(_packets(text, places, packets, line + rows, columns, skip, reject, sensors, tell))
        if message.size:
            found, log = _messages(text, places, message, line + rows, columns, log, name, skip, reject, tell)
            parts += found
        chunk = in_order(parts)[0] if parts else {"time": ()}
        if len(chunk["time"]):
            yield chunk


def _columns(names, before, text, keys, file):
    """The file's Columns by the names met so far; what earlier ones had settled stays so."""
    columns = find_columns(names, file, by_row=True)
    if before:
        columns.dating = before.dating
        columns.time = before.time if before.time == before.pair else before.time and columns.times[0]
    if columns.missing() and not names & set(MESSAGES):
        places = zip(keys.tokens[keys.closing[:40] - 1] + 1, keys.tokens[keys.closing[:40]])
        got = dict.fromkeys(shown(text, *place)[1:-1] for place in places)
        got = ", ".join(got)
        raise ValueError(
            f"{file}: expected JSON lines with names for time, src, dst and port, or a firewall's message, got none "
            f"for {', '.join(columns.missing())} among: {got if len(got) <= 160 else got[:160] + '...'}"
        )
    return columns


def _field(places, names, some):
    """Where the first of these names that each of some objects has, has its value: (start, end), 0 and 0 for none."""
    start, end = np.zeros(len(some), np.int64), np.zeros(len(some), np.int64)
    for name in names:
        if name in places:
            of_name = places[name]
            start, end = np.where(end, start, of_name[0][some]), np.where(end, end, of_name[1][some])
    return start, end


def _wanted(text, places, rows, line, skip):
    """The rows, and their places, without events of another kind than the one that is a packet."""
    kept = np.ones(len(rows), bool)
    for event, (told_by, wanted) in EVENTS.items():
        if event in places and told_by in places:
            start, end = places[event]
            check = Check((end == 0) | (words_of(text, start, end) == codes(wanted)[0]), "other event", (start, end))
            kept &= sift([check], line + rows, text, skip, None)
    if kept.all():
        return rows, places
    return rows[kept], {name: (start[kept], end[kept]) for name, (start, end) in places.items()}


def _sorted_out(places, columns, rows):
    """Which of the rows are told by a message, which by names, and which by neither: indices into `rows`."""
    every = np.arange(len(rows))
    named = _field(places, columns.roles.get("src", ()), every)[1] > 0
    named &= not columns.missing()
    message = ~named & (_field(places, MESSAGES, every)[1] > 0)
    return tuple(map(np.flatnonzero, (message, named, ~message & ~named)))


def _packets(text, places, some, lines, columns, skip, reject, sensors, warn):
    """The chunk of the objects that names tell, and which of all objects they are."""
    chunk, kept = packets_of(
        text, lambda names: _field(places, names, some), lines[some], columns, skip, reject, sensors, warn
    )
    if "raw_sig" in places:
        chunk |= _signatures(text, *_field(places, ["raw_sig"], some[kept]))
    return chunk, some[kept]


def _messages(text, places, some, lines, columns, log, name, skip, reject, warn):
    """The chunks of the objects whose message is a firewall's line, each with the objects that they are."""
    recent, state = log
    begin, end = _field(places, MESSAGES, some)
    if columns.times:
        time, good = times(text, *_field(places, columns.times[0], some), columns.dating, warn)
        stamp = Stamps(time, good, np.ones(len(some), bool), np.zeros(len(some), bool))
    else:
        stamp, state = stamps(text, begin, end, state)
    cuts = np.flatnonzero((text.buf == SPACE) | (text.buf == EQUALS) | (text.buf == NEWLINE) | (text.buf == QUOTE))
    parts, recent = packets_of_lines(
        text, cuts, text.buf[cuts], begin, end, lines[some], stamp, recent, name, skip, reject, warn
    )
    return [(chunk, some[kept]) for chunk, kept in parts], (recent, state)


def _signatures(text, start, end):
    """TTL, MSS and window of p0f's signatures: 57, 1460, 29200 of `4:57+7:0:1460:mss*20,10:mss,sok,ts:df,id+:0`."""
    colons = np.append(np.flatnonzero(text.buf == COLON), [len(text.buf) - PADDING] * 4)
    at = colons[np.searchsorted(colons, start)[:, None] + np.arange(4)] + 1  # behind the first four
    at = np.where(at < end[:, None], at, 0).T
    ttl, mss, number = (eight(text.words, p, run(text.buf, p) - p) for p in (at[0], at[2], at[3]))
    unit = text.words[at[3]] & np.uint64(0xFFFFFFFF)
    factor, times_it = eight(text.words, at[3] + 4, run(text.buf, at[3] + 4) - at[3] - 4)
    of_mss, of_mtu = (unit == int.from_bytes(word, "little") for word in (b"mss*", b"mtu*"))
    mss = np.where(mss[1], mss[0], 0)
    window = np.where(number[1], number[0], 0)
    window = np.where(times_it & of_mss, factor * mss, np.where(times_it & of_mtu, factor * (mss + 40), window))
    return {"ttl": np.where(ttl[1], ttl[0], 0).clip(0, 255).astype(np.uint8),
            "mss": mss.clip(0, 65535).astype(np.uint16), "window": window.clip(0, 65535).astype(np.uint16)}


# ---------------------------------------------------------------------------------------------------------- tokens


class _Keys(NamedTuple):
    """The names of all objects of a block, in order."""

    tokens: np.ndarray  # where the quotes and brackets of the block's objects stand
    types: np.ndarray  # which of these each is
    closing: np.ndarray  # which are the quotes behind names
    line: np.ndarray  # whose it is
    path: np.ndarray  # uint64, the hash of its own and its parents' names


def _keys(block, line, reject):
    """The block's Text, the indices of the lines that are objects, and their _Keys."""
    if b"\\" in block:
        block = block.replace(b"\\\\", b"\x1a\x1a").replace(b'\\"', b"\x1a\x1a")
    buf = np.frombuffer(b"".join((b"\n", block, bytes(PADDING))), np.uint8)
    text = Text(buf, np.ndarray((len(buf) - 7,), "<u8", buffer=buf, strides=(1,)))
    folded = buf | 32  # brackets become braces
    tokens = np.flatnonzero((buf == QUOTE) | (buf == NEWLINE) | (folded == OPEN) | (folded == CLOSE))
    types = folded[tokens]
    types[buf[tokens] == NEWLINE] = NEWLINE
    good, tokens, types, lines = _objects(text, tokens, types, line, reject)
    closing = np.flatnonzero(types == QUOTE)[1::2]
    behind = tokens[closing] + 1
    closing = closing[buf[behind + (buf[behind] == SPACE)] == COLON]
    path = _hash(text, tokens[closing - 1] + 1, tokens[closing])
    depth = np.cumsum((types == OPEN).astype(np.int8) - (types == CLOSE), dtype=np.int32)[closing]
    for level in range(2, min(int(depth.max(initial=0)), MAX_DEPTH) + 1):
        parent = np.maximum.accumulate(np.where(depth < level, np.arange(len(depth)), 0))
        rows = np.flatnonzero(depth == level)
        path[rows] = path[parent[rows]] * PARENT + path[rows]
    return text, good, _Keys(tokens, types, closing, lines[closing], path)


def _objects(text, tokens, types, line, reject):
    """Which lines hold one object, and the tokens of these, their types and lines; others are told to `reject`.

    Tokens within strings, and those around an object, are left out.
    """
    newline = np.flatnonzero(types == NEWLINE)
    n, starts, stops = len(newline) - 1, tokens[newline[:-1]] + 1, tokens[newline[1:]]
    sizes = np.diff(newline)  # each line's tokens begin with the newline before it
    tokens, types, lines = tokens[:-1], types[:-1], np.repeat(np.arange(n, dtype=np.int32), sizes)
    quotes = np.cumsum(types == QUOTE, dtype=np.int32)
    before = quotes[newline[:-1]]
    odd = np.diff(before, append=quotes[-1:]) & 1 == 1
    parity = quotes - np.repeat(before, sizes) if odd.any() else quotes
    within = (parity & 1 == 1) & (types > QUOTE)  # within a string
    if within.any():
        tokens, types, lines = tokens[~within], types[~within], lines[~within]
    opens, closes = np.flatnonzero(types == OPEN), np.flatnonzero(types == CLOSE)
    if BRACKET in text.buf[tokens[opens]]:  # an array is no object
        opens, closes = opens[text.buf[tokens[opens]] == OPEN], closes[text.buf[tokens[closes]] == CLOSE]
    first, final = np.full(n, len(types)), np.full(n, -1)
    first[lines[opens[::-1]]], final[lines[closes]] = opens[::-1], closes
    if (final - first + 1).clip(0).sum() + n < len(types):
        place = np.arange(len(types))
        kept = np.flatnonzero((place >= first[lines]) & (place <= final[lines]))
        tokens, types, lines = tokens[kept], types[kept], lines[kept]
    depth = np.cumsum((types == OPEN).astype(np.int8) - (types == CLOSE), dtype=np.int32)
    level = np.append(0, depth)[np.searchsorted(lines, np.arange(n), side="right")]  # behind each line
    if level.any():
        depth = depth - np.append(0, level)[lines]
    zeros = np.bincount(lines[(depth <= 0) & (types == CLOSE)], minlength=n)  # one brace that closes one whole object
    good = ~odd & (zeros == 1) & (np.diff(level, prepend=0) == 0)
    empty = (stops - starts <= 2) & np.isin(text.buf[starts], list(b"\n[], "))
    sift([Check(good | empty, "no JSON object", (starts, stops), "one whole object in a line")], line + np.arange(n),
         text, reject, reject)
    if not good.all():
        kept = good[lines]
        tokens, types, lines = tokens[kept], types[kept], lines[kept]
    return np.flatnonzero(good), tokens, types, lines


def _places(text, keys, rows):
    """name -> where its value stands in each of the rows (start, end), 0 and 0 where it has none.

    The first of a name that comes twice in an object counts. An object or an array is no value.
    """
    hashes, meaning, names, maybe = _known()
    some = np.flatnonzero(maybe[(keys.path >> np.uint64(48)).astype(np.int64)])
    some = some[keys.types[keys.closing[some] + 1] != OPEN]
    path = keys.path[some]
    which = np.searchsorted(hashes, path).clip(0, len(hashes) - 1)
    hit = hashes[which] == path
    some, which = some[hit][::-1], meaning[which[hit]][::-1]
    value, value_end = _values(text.buf, keys, keys.closing[some])
    row, places = np.searchsorted(rows, keys.line[some]), {}
    for k in np.flatnonzero(np.bincount(which, minlength=len(names))):
        of_name = np.flatnonzero(which == k)
        start, end = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        start[row[of_name]], end[row[of_name]] = value[of_name], value_end[of_name]
        places[names[k]] = start, end
    return places


def _values(buf, keys, closing):
    """Where the values of these names begin and end: within quotes, or between blanks and a comma."""
    start, end = keys.tokens[closing] + 2, keys.tokens[closing + 1].copy()
    for _ in range(3):
        start += (buf[start] == SPACE) | (buf[start] == COLON)
    string = (keys.types[closing + 1] == QUOTE) & (start == end)  # else the quote is of the next name
    rows = np.flatnonzero(string)
    start[rows], end[rows] = start[rows] + 1, keys.tokens[closing[rows] + 2]
    rows = np.flatnonzero(~string)
    for mark in (SPACE, SPACE, COMMA, SPACE):
        end[rows] -= (buf[end[rows] - 1] == mark) & (end[rows] > start[rows])
    return start, end
