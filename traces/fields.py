"""Field parsers that all text readers share: a block of bytes in; numbers, ports, addresses, protocols out.

The lines of a block are parsed together. A field is a pair of (n,) positions, `start` and `end`, one per line, in the
block's bytes; numbers are read eight digits at a time. Every parser gives its values and which of them are good, and
refuses what it does not fully understand: half a number is no number. What it decides:

  - "-", "nan" and "" are absent; ".0" behind an integer is nothing (pandas writes columns with gaps so);
    `1.5e+09` is a number, and so is `44,300` where the comma stands before each three digits (`_`, what the tables'
    reader makes of a quoted comma, is a comma).
  - IPv4 addresses are dotted quads, integers, or mapped into IPv6 (RFC 4291 2.5.5.2: `::ffff:192.0.2.7`).
  - a destination may be a sensor's NAME: it holds a letter and only letters, digits, and " _.:/@-"; what starts with
    a digit and holds a dot is a broken address.
  - `TCP (6)`, `tcp4`, `0x06`, `IPPROTO_TCP` are TCP: a protocol's name counts wherever it stands in the field.

Imports the standard library and numpy.
"""

import codecs
import re
from itertools import combinations
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 20  # bytes parsed together: its columns stay in the processor's cache
PADDING = 128  # zero bytes behind a block: looks ahead at its very end stay inside the array
SHOWN = 60  # bytes of a broken field that a note shows
OTHER_PORT = 65_536
MAX_NAME = 255  # bytes of a sensor's name, as of a host's in DNS
MAX_SENSORS = 1 << 24  # their numbers stay within 0.0.0.0/8
MAX_NUMBER = 32  # bytes of a number with an exponent or thousands separators
NEWLINE, SPACE, QUOTE, DASH, DOT, COMMA, ZERO, NINE, COLON, UNDERSCORE = b'\n "-.,09:_'
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SENSOR = re.compile(r"(?!\d.*\.)(?=.*[^\W\d])[\w.:/@ -]+")
MAPPED = b"::ffff:", b"0:0:0:0:0:ffff:", b"0000:0000:0000:0000:0000:ffff:"
TCP, UDP, ICMP, OTHER, NOT_GIVEN = range(5)
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, 6: TCP, 17: UDP, 1: ICMP}
KINDS = {UDP: "UDP", ICMP: "ICMP", OTHER: "other protocol", NOT_GIVEN: "no protocol given"}
DOTS = np.zeros(1 << 16, np.int16)  # three bits of 16 -> which, the first in the lowest four bits; else 0
for a, b, c in combinations(range(16), 3):
    DOTS[1 << a | 1 << b | 1 << c] = a | b << 4 | c << 8
POWERS = 10.0 ** np.arange(20)
PAIRS = (10, 8, 0x00FF00FF00FF00FF), (100, 16, 0x0000FFFF0000FFFF), (10_000, 32, 0xFFFFFFFF)  # see `eight`


def codes(text):
    """Words of up to 8 bytes as `words_of` reads them."""
    return np.array([int.from_bytes(bytes(c | 32 for c in w), "little") for w in text.encode().split()], np.uint64)


MISSING = np.append(codes("- nan na n/a none null (empty) \\n"), np.uint64(0))  # 0: nothing at all
OTHERS = codes("oth other")
TCP_WORDS, UDP_WORDS, ICMP_WORDS = codes("6 tcp 6.0"), codes("17 udp 17.0"), codes("1 icmp 1.0")


class Text(NamedTuple):
    """The bytes of a block, behind a newline and before some zeros."""

    buf: np.ndarray  # uint8
    words: np.ndarray  # uint64, the 8 bytes from each position on, the first in the lowest byte


class Check(NamedTuple):
    """What lines must hold to be packets; a line that does not is told to `skip` or `reject` as of this `kind`."""

    good: np.ndarray  # (n,) bool
    kind: str
    field: tuple | None = None  # (start, end) of the text to show
    expected: str | None = None  # what was, for broken lines; None: a well-formed line, but no packet to count


# --------------------------------------------------------------------------------------------------------- blocks


def blocks(stream, reject, end_mark=b""):
    """Yield blocks of whole lines, each with its first line's number; a line longer than BLOCK is rejected.

    The last line needs no newline, unless the stream is `cut`: then it is a part of a line and left out. Where it has
    none `end_mark` is put behind it.
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
        yield _unix(rest + end_mark + b"\n"), line


def _unix(block):
    """The block without carriage returns, and without byte-order marks where lines begin: files joined by `cat`."""
    if BYTE_ORDER_MARK[:1] in block:  # one byte is found a hundred times faster than three
        block = block.removeprefix(BYTE_ORDER_MARK).replace(b"\n" + BYTE_ORDER_MARK, b"\n")
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def utf8(pieces):
    """The pieces of a file (bytes), turned into UTF-8 if they begin with the byte-order mark of UTF-16."""
    first = b""
    while len(first) < 2:
        try:
            first += next(pieces)
        except StopIteration as end:
            yield first
            return end.value
    if first[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        yield first
        return (yield from pieces)
    decode = codecs.getincrementaldecoder("utf-16")("replace").decode
    yield decode(first).encode("utf-8", "replace")
    while True:
        try:
            yield decode(next(pieces)).encode("utf-8", "replace")
        except StopIteration as end:
            yield decode(b"", True).encode("utf-8", "replace")
            return end.value


def cut(block, separators):
    """The block as Text, and the positions of its newlines and separators."""
    buf = np.frombuffer(b"".join((b"\n", block, bytes(PADDING))), np.uint8)
    at = buf == NEWLINE
    for separator in separators:
        at |= buf == ord(separator)
    return Text(buf, np.ndarray((len(buf) - 7,), "<u8", buffer=buf, strides=(1,))), np.flatnonzero(at)


def shown(text, start, end):
    """A field for a message: in quotes, printable, at most SHOWN bytes of it."""
    field = text.buf[start : min(end, start + SHOWN)].tobytes().decode("utf-8", "replace")
    return f"'{ascii(field)[1:-1]}{'...' if end - start > SHOWN else ''}'"


def sift(checks, lines, text, skip, reject):
    """Which lines pass all checks; the first one failed tells the line's kind, its number and the text at fault."""
    kept = np.ones(len(lines), bool)
    for good, kind, field, expected in checks:
        out = np.flatnonzero(kept & ~good)
        if out.size:
            place = f"line {lines[out[0]]}"
            got = shown(text, field[0][out[0]], field[1][out[0]]) if field else ""
            if expected:
                reject(kind, f"{place}: expected {expected}{', got ' + got if got else ''}", int(out.size))
            else:
                skip(kind, f"{place}: {got}" if got else place, int(out.size))
        kept &= good
    return kept


# -------------------------------------------------------------------------------------------------------- numbers


def eight(words, at, width):
    """The decimal numbers of `width` (0..8) digits from `at`: int64, and which are all digits and not empty.

    All eight digits of a 64-bit word at once: neighbours are joined to pairs, these to fours, these to eight.
    """
    width = np.asarray(width)
    word = words[at]
    word ^= 0x3030303030303030  # "0" is 0x30
    word <<= (64 - 8 * width).astype(np.uint64)  # the last digit to the highest byte, zeros below the first
    good = ((word + 0x7676767676767676) | word) & 0x8080808080808080 == 0  # each byte below 10
    good &= (width > 0) & (width <= 8)
    widest = width.max(initial=0)
    rounds, empty = (1, 48) if widest <= 2 else (2, 32) if widest <= 4 else (3, 0)  # bits below the number
    for scale, shift, lanes in PAIRS[:rounds]:
        right = word >> shift
        word *= scale
        word += right
        word &= lanes
    word >>= empty
    return word.view(np.int64), good


def wholes(words, start, end):
    """The decimal numbers between positions: int64, and which are 1 to 19 digits and nothing else."""
    width = end - start
    long = width > 8
    if not long.any():
        return eight(words, start, width)
    value, good = eight(words, np.maximum(start, end - 8), np.minimum(width, 8))
    high, fine = wholes(words, start, np.where(long & (width <= 19), end - 8, start))
    value += high * 10**8
    good &= (fine | ~long) & (value >= 0)  # 19 digits may overflow
    return value, good


def numbers(text, start, end):
    """Fields that hold a number without a sign: its integer part and fraction, and which are good."""
    buf, words = text
    point = np.minimum(start + 10, end)  # as in most times
    rest = np.flatnonzero((buf[point] != DOT) | (point == end))
    point[rest] = np.minimum(run(buf, start[rest]), end[rest])
    whole, good = wholes(words, start, point)
    fraction = np.zeros(len(whole))
    if (point < end).any():
        digits = (end - point - 1).clip(0, 18)  # more add nothing
        value, fine = wholes(words, point + 1, point + 1 + digits)
        fraction = value / POWERS[digits]
        good &= (point == end) | (buf[point] == DOT) & (fine | (digits == 0))
    rest = np.flatnonzero(~good)
    if rest.size:
        rest = rest[(buf[start[rest]] >= ZERO) & (buf[start[rest]] <= NINE) & ((end - start)[rest] <= MAX_NUMBER)]
    if rest.size:
        whole[rest], fraction[rest], good[rest] = _odd_numbers(buf, start[rest], end[rest])
    return whole, fraction, good


def _odd_numbers(buf, start, end):
    """Numbers with an exponent, thousands separators or a decimal comma: as `numbers`."""
    width = int((end - start).max())
    at = start[:, None] + np.arange(width + 4)
    letters = np.where(at < end[:, None], buf[np.minimum(at, len(buf) - 1)], 0)
    digit = (letters >= ZERO) & (letters <= NINE)
    point, exponent = letters == DOT, letters | 32 == ord("e")
    comma = (letters == COMMA) | (letters == UNDERSCORE)
    followed = digit[:, np.r_[1 : width + 4, -1]]
    grouped = comma & followed & ~digit[:, np.r_[4 : width + 4, [-1] * 4]]
    grouped &= digit[:, np.r_[2 : width + 4, -1, -1]] & digit[:, np.r_[3 : width + 4, [-1] * 3]]
    thousands = comma.any(1) & (grouped == comma).all(1) & (comma.argmax(1) <= 3)
    mark = point | (comma & ~thousands[:, None])  # of the fraction
    good = (mark.sum(1) <= 1) & (exponent.sum(1) <= 1) & (~comma | followed).all(1)
    where = np.arange(width + 4)
    e = np.where(exponent.any(1), exponent.argmax(1), width + 3)
    sign = ((letters == DASH) | (letters == ord("+"))) & (where == e[:, None] + 1)
    good &= (digit | point | comma | exponent | sign | (letters == 0)).all(1)
    mantissa, power = digit & (where < e[:, None]), digit & (where > e[:, None])
    good &= mantissa.any(1) & (mantissa.sum(1) <= 18) & (power.any(1) == exponent.any(1)) & (power.sum(1) <= 2)
    value, shift = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
    for k in range(width):
        value = np.where(mantissa[:, k], value * 10 + (letters[:, k] - ZERO), value)
        shift = np.where(power[:, k], shift * 10 + (letters[:, k] - ZERO), shift)
    shift = np.where((sign & (letters == DASH)).any(1), -shift, shift)
    shift -= (mantissa & (where > mark.argmax(1)[:, None]) & mark.any(1)[:, None]).sum(1)
    number = np.where(shift < 0, value / 10.0**-shift.clip(-99, 0), value * 10.0 ** shift.clip(0, 99))
    good &= number < 1e18
    whole = np.where(good, number, 0).astype(np.int64)
    return whole, np.where(good, number - whole, 0), good


def integers(text, start, end):
    """Fields that hold an integer: the value (0 where absent), which are good, and which of these are absent."""
    missing = (text.buf[start] == DASH) & (end == start + 1)
    if missing.any():
        value, good, given = np.zeros(len(start), np.int64), missing.copy(), np.flatnonzero(~missing)
        value[given], good[given], missing[given] = integers(text, start[given], end[given])
        return value, good, missing
    value, good = wholes(text.words, start, end)
    rest = np.flatnonzero(~good)
    if rest.size:
        missing[rest] = np.isin(words_of(text, start[rest], end[rest]), MISSING)
        value[rest], fraction, fine = numbers(text, start[rest], end[rest])
        good[rest] = fine & (fraction == 0)
        value[missing] = 0
        good |= missing
    return value, good, missing


def ports(text, start, end):
    """Fields that hold a port: int32, OTHER_PORT for a folded one, and which are good."""
    port, good, missing = integers(text, start, end)
    good &= ~missing & (port <= 65535)
    rest = np.flatnonzero(~good)
    if rest.size:
        rest = rest[np.isin(words_of(text, start[rest], end[rest]), OTHERS)]
        port[rest], good[rest] = OTHER_PORT, True
    return port.astype(np.int32), good


# ------------------------------------------------------------------------------------- addresses, names, protocols


def quads(text, start, end):
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


def addresses(text, start, end, integer=True):
    """Fields that hold an IPv4 address (may it be an `integer`?): uint32, which are good, and which others are IPv6."""
    address, good = quads(text, start, end)
    ipv6 = np.zeros(len(good), bool)
    rest = np.flatnonzero(~good)
    if rest.size:
        start, end = start[rest], end[rest]
        if integer:
            address[rest], whole, missing = integers(text, start, end)
            good[rest] = whole & ~missing & (address[rest] < 1 << 32)
        colons = np.flatnonzero(text.buf == COLON)
        last = np.searchsorted(colons, end)
        ipv6[rest] = last - np.searchsorted(colons, start) > 1
        six = np.flatnonzero(ipv6[rest])
        if six.size:
            address[rest[six]], good[rest[six]] = _mapped(text, start[six], end[six], colons, last[six])
    return address.astype(np.uint32), good, ipv6 & ~good


def _mapped(text, start, end, colons, last):
    """The IPv4 addresses that IPv6 ones map: `::ffff:192.0.2.7` or `::ffff:c000:207`; the last two colons are given."""
    before, behind = colons[last - 2] + 1, colons[last - 1] + 1
    address, dotted = quads(text, behind, end)
    high, fine = hexadecimal(text.buf, before, behind - 1 - before)
    low, whole = hexadecimal(text.buf, behind, end - behind)
    address = np.where(dotted, address, high << 16 | low)
    width = np.where(dotted, behind, before) - start
    mapped = np.zeros(len(start), bool)
    for prefix in MAPPED:
        rows = np.flatnonzero(width == len(prefix))
        letters = text.buf[start[rows, None] + np.arange(len(prefix))] | 32
        mapped[rows] = (letters == list(bytes(c | 32 for c in prefix))).all(axis=1)
    return address, mapped & (dotted | fine & whole)


def hexadecimal(buf, at, digits):
    """The numbers in `digits` (1 to 8, one for all or one each) hexadecimal digits from `at`, and which are whole."""
    digits = np.broadcast_to(digits, len(at))
    value, good = np.zeros(len(at), np.int64), (digits > 0) & (digits <= 8)
    for k in range(min(int(digits.max(initial=0)), 8)):
        digit = HEX_DIGIT[buf[at + k]]
        value = np.where(k < digits, value << 4 | digit, value)
        good &= (digit < 16) | (k >= digits)
    return value, good


HEX_DIGIT = np.full(256, 16, np.int64)
for digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    HEX_DIGIT[np.frombuffer(digits, np.uint8)] = np.arange(16)


def destinations(text, start, end, sensors):
    """Fields that hold an address or a sensor's name, which becomes its number: as `addresses`."""
    dst, good, ipv6 = addresses(text, start, end)
    rest = np.flatnonzero(~good & ~ipv6 & (end - start <= MAX_NAME))
    if rest.size:
        rest = rest[~np.isin(words_of(text, start[rest], end[rest]), MISSING)]
    if rest.size:
        names, first, which = _distinct(text, start[rest], end[rest])
        number = np.full(len(names), -1)
        for k in np.argsort(first):  # the distinct names of a block
            name = names[k].decode("utf-8", "replace")
            if name in sensors or (SENSOR.fullmatch(name) and len(sensors) < MAX_SENSORS):
                number[k] = sensors.setdefault(name, len(sensors))
        dst[rest], good[rest] = number[which].clip(0), number[which] >= 0
    return dst, good, ipv6


def protocols(text, start, end):
    """Fields that hold a protocol's name or number: TCP, UDP, ICMP, OTHER or NOT_GIVEN, (n,) int64."""
    word = words_of(text, start, end)
    found = np.where(among(word, TCP_WORDS), TCP, OTHER)
    rest = np.flatnonzero(found)
    if rest.size:
        word = word[rest]
        for kind, known in ((UDP, UDP_WORDS), (ICMP, ICMP_WORDS), (NOT_GIVEN, MISSING)):
            found[rest[np.isin(word, known)]] = kind
        rest = rest[(found[rest] == OTHER) & ((end - start)[rest] <= SHOWN)]
    if rest.size:
        names, _, which = _distinct(text, start[rest], end[rest])
        found[rest] = np.array([_protocol(name.decode("utf-8", "replace").lower()) for name in names])[which]
    return found


def _protocol(name):
    """What a protocol's name or number in lower case stands for: `tcp (6)`, `0x06`, `6.0`, `ipproto_tcp`."""
    for word in re.findall("[a-z]+", name):
        if word in PROTOCOLS or word.startswith("icmp"):
            return PROTOCOLS[word[:4]]
    number = re.fullmatch(r"\W*(?:0x([\da-f]{1,4})|(\d{1,5})(?:\.0*)?)\W*", name)
    return PROTOCOLS.get(int(number[1], 16) if number[1] else int(number[2]), OTHER) if number else OTHER


def protocol_checks(found, field):
    """The checks that leave TCP of what `protocols` found."""
    return [Check(found != kind, name, field) for kind, name in KINDS.items()] if found.any() else []


def _distinct(text, start, end):
    """The distinct fields (bytes), the first line of each, and which of them is each line's."""
    width = int((end - start).max())
    at = start[:, None] + np.arange(width)
    letters = np.where(at < end[:, None], text.buf[np.minimum(at, len(text.buf) - 1)], 0)
    names, first, which = np.unique(letters.view(f"S{width}")[:, 0], return_index=True, return_inverse=True)
    return names, first, which


# ---------------------------------------------------------------------------------------------------------- bytes


def run(buf, at):
    """Where the digits from `at` on end, at most 32 of them."""
    for _ in range(32):
        on = (buf[at] >= ZERO) & (buf[at] <= NINE)
        if not on.any():
            break
        at = at + on
    return at


def among(words, known):
    """Which of the words (n,) are among a few known ones, (n,): as np.isin, with one look where all are alike."""
    if len(words) and (words == words[0]).all():
        return np.full(len(words), words[0] in known)
    return np.isin(words, known)


def words_of(text, start, end):
    """Fields of up to 8 bytes in lower case, the first in the lowest byte of a uint64; longer ones are all ones."""
    width = end - start
    mask = ~np.uint64(0) >> (64 - 8 * np.minimum(width, 8)).astype(np.uint64)
    word = (text.words[start] | np.uint64(0x2020202020202020)) & mask
    return np.where(width > 8, ~np.uint64(0), word)
