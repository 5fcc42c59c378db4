"""Times as people write them -> UTC seconds: numbers since 1970, dates and times of day.

What is read, with an offset (`Z`, `UTC`, `+0200`, ` +02:00`, `+02`) or without one (then as UTC):

    1683878400.25   1683878400250 (milli-, micro-, nanoseconds told by their size)   1.6838784e+09   1683878400,25
    2023-05-12T08:00:00.25Z   2023/05/12 8:00   2023-05-12 08:00:00,250   20230512T080000   (RFC 3339 and kin)
    May 12, 2023 08:00:00.25   Fri May 12 08:00:00 2023   12/May/2023:08:00:00 +0200   5/13/2023 8:00:00 AM

A zone's abbreviation (CEST) is passed over: the time counts as written. Where the year stands last, a number above 12
among a block's dates tells the day from the month; without one it is an error. How a log's line begins: stamps.py.

Positions, `good` and Text as in fields.py. Imports the standard library, numpy, and fields.
"""

import re
from dataclasses import dataclass

import numpy as np

from traces.fields import (
    COLON,
    COMMA,
    DASH,
    DOT,
    POWERS,
    SPACE,
    UNDERSCORE,
    eight,
    numbers,
    run,
    shown,
    wholes,
)

DAY = 86_400
PLAUSIBLE = 631_152_000, 4_102_444_800  # the years 1990 to 2099; other numbers probably are no seconds since 1970
END_OF_TIME = 253_402_300_800  # the year 10000
UNITS = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}
EXPECTED = "seconds since 1970 or a date with a time of day"
MONTH_STARTS = np.arange("1970-01", "10000-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)  # days since 1970
MONTHS = np.frombuffer(b"jan feb mar apr may jun jul aug sep oct nov dec ", "<u4").astype(np.uint64) & 0xFFFFFF
WEEKDAYS = np.frombuffer(b"mon tue wed thu fri sat sun ", "<u4").astype(np.uint64) & 0xFFFFFF
ZONES = re.compile(rb"[ \d](A[CEKW][DS]T|BST|CES?T|[CEMP][DS]T|EES?T|HK?ST|IST|JST|KST|MSK|NZ[DS]T|SGT|WES?T|CAT|EAT|"
                   rb"SAST|WAT|WIB)\b")


@dataclass
class Dating:
    """What a file's first times tell of all others."""

    name: str  # of the file, for messages
    unit: int | None = None  # of numeric times, per second
    order: str | None = None  # "day" or "month", what stands first where the year stands last


# ---------------------------------------------------------------------------------------------------------- fields


def times(text, start, end, dating, warn):
    """Fields that hold a time: UTC seconds, and which are good. Settles the unit; `warn(line)` is told what is odd.

    Raises ValueError where day and month cannot be told apart.
    """
    time, good = np.zeros(len(start)), np.zeros(len(start), bool)
    dated = text.buf[start + 4] == DASH  # most likely a date
    if not dated.all():
        rows = slice(None) if not dated.any() else np.flatnonzero(~dated)
        whole, fraction, numeric = numbers(text, start[rows], end[rows])
        value = whole + fraction
        if dating.unit is None and numeric.any():
            dating.unit = _unit(np.median(value[numeric]), warn)
        value /= dating.unit or 1
        time[rows], good[rows] = value, numeric & (value < END_OF_TIME)
        dated[rows] = ~numeric
    rows = np.flatnonzero(dated)
    if rows.size:
        time[rows], stop, fine = dates(text, start[rows], end[rows], dating)
        good[rows] = fine & (stop == end[rows])
    return time, good


def _unit(typical, warn):
    """The unit, per second, of numeric times like this one."""
    unit = next((unit for unit in (10**9, 10**6, 10**3) if typical >= 1e8 * unit), 1)
    odd = not PLAUSIBLE[0] <= typical / unit < PLAUSIBLE[1]
    if unit > 1 or odd:
        warn(f"times read as {UNITS[unit]} since 1970" + (": days before 1990 or after 2099" if odd else ""))
    return unit


def dates_and_clocks(text, date, clock, dating):
    """Two fields, a date and a time of day: as `times`."""
    days, stop, good = calendar(text, *date, dating)
    seconds, behind, fine = clocks(text, *clock)
    offset, behind = zones(text, behind, clock[1])
    time = days * DAY + seconds - offset
    return time, good & fine & (stop == date[1]) & (behind == clock[1]) & (time >= 0) & (time < END_OF_TIME)


def dates(text, at, end, dating):
    """A date and a time of day that begin at `at`: UTC seconds, the positions behind them, and which are good."""
    time, stop, good = _iso(text, at, end)
    rest = np.flatnonzero(~good)
    if rest.size:
        days, place, fine = calendar(text, at[rest], end[rest], dating)
        place += np.isin(text.buf[place], list(b"Tt:_,"))
        place = _blanks(text.buf, place)
        seconds, stop[rest], whole = clocks(text, place, end[rest])
        late = np.flatnonzero(fine & whole & (days < 0))  # the year stands behind the time: Fri May 12 08:00:00 2023
        if late.size:
            year, known = eight(text.words, stop[rest[late]] + 1, 4)
            month, day = -days[late] // 100, -days[late] % 100
            days[late], fine[late] = days_of(year, month, day)
            fine[late] &= known
            stop[rest[late]] += 5
        time[rest], good[rest] = days * DAY + seconds, fine & whole
    offset, stop = zones(text, stop, end)
    time = time - offset
    return time, stop, good & (time >= 0) & (time < END_OF_TIME)


def _iso(text, at, limit):
    """`2021-12-12T00:01:07.5` and with a blank for T: seconds, the positions behind, which are good."""
    buf, words = text
    year, good = eight(words, at, 4)
    month, fine = eight(words, at + 5, 2)
    good &= fine & (buf[at + 4] == DASH) & (buf[at + 7] == DASH) & np.isin(buf[at + 10], list(b"Tt _"))
    day, fine = eight(words, at + 8, 2)
    second, stop, whole = fixed_clock(text, at + 11, limit)
    days, valid = days_of(year, month, day)
    return days * DAY + second, stop, good & fine & whole & valid & (_half(text, stop) == 0)


def calendar(text, at, end, dating):
    """Dates in any order: days since 1970, the positions behind, which are good.

    A date without a year gives -(100 month + day).
    """
    buf, begin = text.buf, at
    weekday = np.isin(_name(text, at), WEEKDAYS)
    at = _blanks(buf, at + 3 * weekday + (weekday & ((buf[at + 3] == COMMA) | (buf[at + 3] == UNDERSCORE))))
    named = month_at(text, at)
    first, p, good = _number(text, at)
    length = p - at
    first, good = np.where(named > 0, named, first), good | (named > 0)
    p = np.where(named > 0, at + 3, p)
    compact = (length == 8) & (named == 0)
    separator = buf[p]
    p = _blanks(buf, p + np.isin(separator, list(b"-/.")))
    middle_name = month_at(text, p)
    second, q, fine = _number(text, p)
    second, q = np.where(middle_name > 0, middle_name, second), np.where(middle_name > 0, p + 3, q)
    good &= (fine & (q - p <= 2)) | (middle_name > 0)
    r = q + ((buf[q] == separator) & (separator > SPACE)) + (named > 0) * np.isin(buf[q], list(b",_"))
    r = _blanks(buf, r)
    third, s, fine = _number(text, r)
    yearless = (named > 0) & (buf[s] == COLON)  # what follows is the time already
    year_last = ~yearless & (length <= 2) & (named == 0)
    stop = np.where(yearless, q, s)
    good &= yearless | fine & np.where(length == 4, s - r <= 2, s - r == 4) & ((separator == buf[q]) | (named > 0))
    good &= (named > 0) | (length <= 2) | (length == 4)
    day_first = _day_first(text, begin, end, first, second, year_last & good & (middle_name == 0), dating)
    year = np.where(length == 4, first, third)
    month = np.where(named > 0, named, np.where(year_last & ~day_first & (middle_name == 0), first, second))
    day = np.where(named > 0, second, np.where(length == 4, third, np.where(month == second, first, second)))
    year, month, day = (np.where(compact, a, b) for a, b in
                        ((first // 10_000, year), (first // 100 % 100, month), (first % 100, day)))
    days, valid = days_of(np.where(yearless, 2000, year), month, day)
    return np.where(yearless, -(100 * month + day), days), np.where(compact, at + 8, stop), (good | compact) & valid


def _day_first(text, at, end, first, second, doubtful, dating):
    """Which dates that end with the year begin with the day: settled for the file by the first number above 12."""
    if dating.order is None and doubtful.any():
        day, month = doubtful & (first > 12), doubtful & (second > 12)
        same = first == second
        if day.any() or month.any():
            dating.order = "day" if day.sum() >= month.sum() else "month"
        elif 2 * (doubtful & ~same).sum() > len(doubtful):
            row = np.flatnonzero(doubtful & ~same)[0]
            raise ValueError(f"{dating.name}: expected dates with the year first, or one whose day above 12 tells day "
                             f"from month, got {shown(text, at[row], end[row])}")
        else:
            first[doubtful & ~same] = 99  # no day, no month
    return np.full(len(at), dating.order != "month")


def clocks(text, at, limit):
    """`8:00`, `08:00:07`, `08:00:07.123`, `8:00:07,123 PM` that begin at `at`: seconds, positions behind, good."""
    seconds, stop, good = fixed_clock(text, at, limit)
    rest = np.flatnonzero(~good)
    if rest.size:
        at = at[rest]
        hour, p, fine = _number(text, at)
        fine &= (p - at <= 2) & (text.buf[p] == COLON)
        minute, whole = eight(text.words, p + 1, 2)
        second, given = eight(text.words, p + 4, 2)
        given &= text.buf[p + 3] == COLON
        q = p + 3 + 3 * given
        fine &= whole & (hour < 24) & (minute < 60) & (~given | (second <= 60)) & (given | (text.buf[q] != COLON))
        fraction, q = _fraction(text, q, limit[rest])
        seconds[rest] = hour * 3600.0 + minute * 60 + np.where(given, second, 0) + fraction
        stop[rest], good[rest] = q, fine
        compact = rest[p - at == 6]  # 080007
        if compact.size:
            hour, minute, second = (eight(text.words, at[p - at == 6] + k, 2)[0] for k in (0, 2, 4))
            seconds[compact], stop[compact] = hour * 3600.0 + minute * 60 + second, at[p - at == 6] + 6
            good[compact] = (hour < 24) & (minute < 60) & (second <= 60)
    half = _half(text, stop)
    rows = np.flatnonzero(half)
    if rows.size:
        hours = seconds[rows] // 3600
        good[rows] &= (hours >= 1) & (hours <= 12)
        seconds[rows] += 3600.0 * (12 * (half[rows] == 2) - 12 * (hours == 12))
        stop[rows] += 2 + (text.buf[stop[rows]] == SPACE)
    return seconds, stop, good


def _half(text, at):
    """Which half of the day, 1 for `AM`, 2 for ` pm`, is told at these positions, or 0."""
    word = text.words[at + (text.buf[at] == SPACE)] & np.uint64(0xFFFF) | np.uint64(0x2020)
    return (word == 0x6D61) + 2 * (word == 0x6D70)


def fixed_clock(text, at, limit):
    """`00:01:07` or `00:01:07.123` that begin at `at`: seconds, the positions behind them, which are good."""
    buf, words = text
    (hour, minute, second), good = eight(words, at + np.array([[0], [3], [6]]), 2)
    good = good.all(axis=0) & (buf[at + 2] == COLON) & (buf[at + 5] == COLON)
    good &= (hour < 24) & (minute < 60) & (second <= 60)  # 60: a leap second
    fraction, stop = _fraction(text, at + 8, limit)
    return hour * 3600.0 + minute * 60 + second + fraction, stop, good


def _fraction(text, at, limit):
    """`.123` or `,123` (`_` for a quoted comma) at these positions before `limit`, if any: its value, and the end."""
    mark = text.buf[at]
    rest = np.flatnonzero(((mark == DOT) | (mark == COMMA) | (mark == UNDERSCORE)) & (at < limit))
    value, stop = np.zeros(len(at)), at.copy()
    if rest.size:
        point = at[rest]
        end = run(text.buf, point + 1)
        digits, fine = wholes(text.words, point + 1, np.minimum(end, point + 19))
        value[rest] = np.where(fine, digits / POWERS[np.minimum(end - point - 1, 18)], 0)
        stop[rest] = np.where(fine, end, point)
    return value, stop


def zones(text, at, end):
    """`Z`, ` UTC`, `+01:00`, ` +0100`, `+01`, ` CEST` or nothing at these positions: seconds east, and the ends.

    What is none of these is not passed over. An abbreviation other than UTC gives 0.
    """
    buf, words = text
    offset, place = np.zeros(len(at), np.int64), at + (buf[at] == SPACE) * (at < end)
    sign, stop = buf[place], at.copy()
    zulu = (sign | 32 == ord("z")) & (place == at)
    stop[zulu] += 1
    rest = np.flatnonzero(((sign == DASH) | (sign == ord("+"))) & (place < end))
    if rest.size:
        p = place[rest]
        hours, good = eight(words, p + 1, 2)
        colon = buf[p + 3] == COLON
        minutes, fine = eight(words, p + 3 + colon, 2)
        none = ~fine & ~colon
        minutes[none] = 0
        good &= (fine | none) & (hours < 24) & (minutes < 60)
        offset[rest] = np.where(good, np.where(sign[rest] == DASH, -60, 60) * (hours * 60 + minutes), 0)
        stop[rest] = np.where(good, p + np.where(none, 3, 5 + colon), at[rest])
    letter = (sign | 32 >= ord("a")) & (sign | 32 <= ord("z"))
    name = np.flatnonzero(letter & ~zulu & (end - place <= 5) & (place < end))
    if name.size:
        letters = buf[place[name, None] + np.arange(5)] | 32
        letter = (letters >= ord("a")) & (letters <= ord("z")) | (np.arange(5) >= (end - place)[name, None])
        stop[name] = np.where(letter.all(axis=1) & (end - place > 1)[name], end[name], at[name])
    return offset, np.where(_half(text, at) > 0, at, stop)  # am and pm are no zones


def _number(text, at):
    """The digits that begin at `at`, at most 8: their value, the positions behind, and whether there are any."""
    stop = np.minimum(run(text.buf, at), at + 9)
    value, good = eight(text.words, at, stop - at)
    return value, stop, good


def _name(text, at):
    """The three letters at `at` in lower case, as numbers."""
    return (text.words[at] | np.uint64(0x202020)) & np.uint64(0xFFFFFF)


def month_at(text, at):
    """The month, 1..12, whose name's first three letters stand at `at`, or 0."""
    name = _name(text, at)
    month = np.zeros(len(at), np.int64)
    for k, code in enumerate(MONTHS):
        month[name == code] = k + 1
    return month


def _blanks(buf, at):
    """Behind up to two blanks at `at`."""
    at = at + (buf[at] == SPACE)
    return at + (buf[at] == SPACE)


def days_of(year, month, day):
    """Days since 1970 of a date, and which exist."""
    good = (month >= 1) & (month <= 12) & (year >= 1970) & (year <= 9999)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    return MONTH_STARTS[months] + day - 1, good & (day >= 1) & (day <= MONTH_STARTS[months + 1] - MONTH_STARTS[months])
