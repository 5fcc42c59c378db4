"""The stamps of log lines -> UTC seconds: a line's first time of day and the date beside it.

    Dec 12 00:01:07 host   <4>1 2023-05-12T10:00:00.5Z host   kern.log:Dec  2 00:01:07 host   1683885600.123456 host
    [Fri May 12 10:00:00 2023]   Fri 2023-05-12 10:00:00 CEST host   100 6 tap100i0-IN 12/May/2023:10:00:00 +0200

The dress of RFC 3164, RFC 5424, journalctl, `dmesg -T`, OpenWrt's logread, Proxmox, docker, grep: what stands before is
passed over. A stamp without a year (RFC 3164) takes the year that puts it nearest to the line before.

Positions, `good` and Text as in fields.py. Imports the standard library, numpy, fields and times.
"""

from typing import NamedTuple

import numpy as np

from traces.fields import COLON, DASH, DOT, NINE, SPACE, ZERO, eight, numbers
from traces.times import DAY, PLAUSIBLE, days_of, fixed_clock, month_at, zones

LEAP_YEAR = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # days of the months
MAX_COLONS = 16  # of a line that are looked at for the time of day
MAX_TOKEN = 64  # bytes of a line's first word that may be seconds since 1970


class Stamps(NamedTuple):
    """The times of n log lines."""

    time: np.ndarray  # float64, UTC seconds
    good: np.ndarray  # bool: is it a time?
    there: np.ndarray  # bool: does the line have any?
    guessed: np.ndarray  # bool: was the year missing?


def stamps(text, starts, stops, state):
    """The Stamps of log lines and the state for the next block.

    A line's stamp is its first time of day and the date beside it, whatever stands before: `<4>`, a version, a file's
    name, `[`, another stamp's host. Lines without one may begin with seconds since 1970. `state` is the last time
    without a year as (year, second of a leap year); before the first, (None, (near, latest)), see syslog.py.
    """
    new = _new(text, starts)
    found, state = _stamps(text, starts[new], stops[new], state)
    which = np.cumsum(new) - 1
    return Stamps(*(column[which] for column in found)), state


def _new(text, starts):
    """Which lines may have another stamp than the line before: not those that begin `Dec  2 00:01:07 ` as it did.

    Their first 24 bytes are equal, and hold all that a stamp without a fraction is told by.
    """
    head = text.words[starts + np.array([[0], [8], [16]])]
    alike = (head[:, 1:] == head[:, :-1]).all(axis=0)
    alike &= _is_clock(text.words, starts[1:] + 7) & (text.buf[starts[1:] + 15] == SPACE)
    return np.append(np.ones(len(starts[:1]), bool), ~alike)


def _stamps(text, starts, stops, state):
    """As stamps, line by line."""
    buf, words = text
    clock, there = _find_clocks(text, starts, stops)
    time, good = np.zeros(len(starts)), np.zeros(len(starts), bool)
    month = np.where(there & (buf[clock - 4] == SPACE), month_at(text, clock - 7), 0)  # Dec 12 00:01:07
    rows = np.flatnonzero(there & (month == 0))
    if rows.size:
        month[rows] = np.where(buf[clock[rows] - 3] == SPACE, month_at(text, clock[rows] - 6), 0)  # Dec 2 00:01:07
        rows = rows[month[rows] == 0]
    if rows.size:
        time[rows], good[rows] = _dated(text, clock[rows], stops[rows])
    rows = np.flatnonzero(~there)
    if rows.size:
        time[rows], good[rows] = _epochs(text, starts[rows], stops[rows])
        there[rows] = good[rows]
    rows = np.flatnonzero(month > 0)
    month, p = month[rows] - 1, clock[rows] - 3
    padded = buf[p] == SPACE
    day, fine = eight(words, p + padded, 2 - padded)
    second, stop, whole = fixed_clock(text, p + 3, stops[rows])
    fine &= whole & (buf[p + 2] == SPACE) & (buf[stop] != COLON) & (day >= 1) & (day <= LEAP_YEAR[month])
    year = _years_beside(text, clock[rows], stop)
    known = year > 0
    if known.any():
        days, valid = days_of(year, month + 1, day)
        time[rows[known]], good[rows[known]] = (days * DAY + second)[known], (fine & valid)[known]
        fine &= ~known
    guessed = np.zeros(len(starts), bool)
    guessed[rows[fine]] = True
    rows, month, day, second = rows[fine], month[fine], day[fine], second[fine]
    if rows.size:
        when = (np.cumsum(LEAP_YEAR)[month] - LEAP_YEAR[month] + day - 1) * DAY + second
        if state[0] is None:
            state = _first_year(month[0] + 1, day[0], second[0], *state[1]), when[0]
        step = np.diff(when, prepend=state[1])
        year = state[0] + np.cumsum((step < -183 * DAY).astype(int) - (step > 183 * DAY))
        state = int(year[-1]), when[-1]
        days, good[rows] = days_of(year, month + 1, day)
        time[rows] = days * DAY + second
    return Stamps(time, good & (buf[starts] > 0), there, guessed), state  # a 0: what a lost power leaves of lines


def _years_beside(text, clock, stop):
    """The years around month, day and time: `2023 May 12 10:00:00`, `May 12 10:00:00 2023`; 0 where there is none."""
    buf, year = text.buf, np.zeros(len(clock), np.int64)
    behind, before = buf[stop + 1] <= NINE, buf[clock - 8] == SPACE
    for at, rows in ((stop + 1, np.flatnonzero(behind)), (clock - 12, np.flatnonzero(before))):
        if rows.size:
            at = at[rows]
            value, good = eight(text.words, at, 4)
            good &= np.isin(buf[at - 1], list(b"\n >[:")) & ((buf[at + 4] < ZERO) | (buf[at + 4] > NINE))
            good &= (value >= 1970) & (value < 2100)
            year[rows[good]] = value[good]
    return year


def _find_clocks(text, starts, stops):
    """Where each line's first time of day `dd:dd:dd` stands, behind a blank, T, `:` or the like; and which have one."""
    buf, words = text
    clock = starts + 7
    there = _is_clock(words, clock) & (clock + 8 <= stops)
    rows = np.flatnonzero(~there)
    if rows.size:
        clock[rows] = starts[rows] + 11
        there[rows] = _is_clock(words, clock[rows]) & (clock[rows] + 8 <= stops[rows])
        rows = rows[~there[rows]]
    if rows.size:
        colons = np.append(np.flatnonzero(buf == COLON), len(buf) - 16)
        next_one = np.searchsorted(colons, starts[rows])
    for _ in range(MAX_COLONS):
        if not rows.size:
            break
        at = colons[np.minimum(next_one, len(colons) - 1)] - 2
        within = at + 8 <= stops[rows]
        rows, at, next_one = rows[within], at[within], next_one[within] + 1
        found = _is_clock(words, at) & (at > starts[rows])
        found &= np.isin(buf[at - 1], list(b" \tTt_[\"'")) | (buf[at - 1] == COLON) & (buf[at - 10] == ord("/"))
        clock[rows[found]], there[rows[found]] = at[found], True
        rows, next_one = rows[~found], next_one[~found]
    return np.where(there, clock, 13), there


def _is_clock(words, at):
    """Which of these positions have 8 bytes `dd:dd:dd`."""
    word = words[at] ^ np.uint64(0x30303A30303A3030)  # 00:00:00
    return ((word + np.uint64(0x76767F76767F7676)) | word) & np.uint64(0x8080808080808080) == 0


def _dated(text, clock, stops):
    """The dates right before these clocks, with a year: UTC seconds, and which are good."""
    buf = text.buf
    slash = (buf[clock - 10] == ord("/")) & (buf[clock - 6] == ord("/"))  # 12/May/2023:10:00:00 +0200
    month_first = month_at(text, clock - 12)  # May 12 2023 10:00:00
    month_last = np.where(slash, month_at(text, clock - 9), 0)
    iso = (buf[clock - 7] == buf[clock - 4]) & ((buf[clock - 4] == DASH) | (buf[clock - 4] == ord("/")))
    year_first = np.where(iso, clock - 11, clock - 5)
    padded = buf[clock - 8] == SPACE
    day_at = np.where(iso, clock - 3, np.where(month_last > 0, clock - 12, clock - 8 + padded))
    year, good = eight(text.words, year_first, 4)
    day, fine = eight(text.words, day_at, np.where(~iso & (month_last == 0) & padded, 1, 2))
    month, numeric = eight(text.words, clock - 6, 2)
    month = np.where(iso, month, np.where(month_last > 0, month_last, month_first))
    good &= fine & (numeric | ~iso) & ((buf[np.maximum(year_first - 1, 0)] < ZERO) | (buf[year_first - 1] > NINE))
    days, valid = days_of(year, month, day)
    seconds, stop, whole = fixed_clock(text, clock, stops)
    offset, _ = zones(text, stop, stops)
    return days * DAY + seconds - offset, good & valid & whole & (buf[stop] != COLON)


def _epochs(text, starts, stops):
    """Seconds since 1970 that lines begin with, behind `<4>` or a file's name: and which are good."""
    blank = starts.copy()
    for _ in range(MAX_TOKEN):
        on = (text.buf[blank] > SPACE) & (blank < stops)
        if not on.any():
            break
        blank = blank + on
    begin = blank
    for _ in range(20):
        byte = text.buf[begin - 1]
        on = (begin > starts) & (((byte >= ZERO) & (byte <= NINE)) | (byte == DOT))
        if not on.any():
            break
        begin = begin - on
    whole, fraction, good = numbers(text, begin, blank)
    time = whole + fraction
    outside = (begin == starts) | np.isin(text.buf[begin - 1], list(b">:"))
    return time, good & outside & (time >= PLAUSIBLE[0]) & (time < PLAUSIBLE[1])


def _first_year(month, day, second, near, latest):
    """The year that puts month, day and second nearest to the time `near`; 29 February only in leap years.

    Where that is after `latest` and a year before is not, that one.
    """
    year = np.datetime64(int(near), "s").astype("M8[Y]").astype(int) + 1970 + np.arange(-8, 9)
    days, good = days_of(year, np.full(17, month), np.full(17, day))
    time = days * DAY + second
    distance = np.where(good, abs(time - near), np.inf)
    early = np.where(time <= latest, distance, np.inf)      # further off than a year before: `latest` is no help
    return int(year[(early if early.min() < 600 * DAY else distance).argmin()])
