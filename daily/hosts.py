"""The host table: every host that is remembered, its first and last day, its last prediction; hosts.csv.

A day is a number, that of datetime.date.toordinal. Imports report.files and numpy.
"""

import datetime
from typing import NamedTuple

import numpy as np

from report import files

HOST_COLUMNS = "host,first_seen,last_seen,days,predicted,vote_share"


class Hosts(NamedTuple):
    """One row a host; `predicted`, `share` and `distance` are those of its last day, -1 and nan where it had none."""
    address: np.ndarray    # (n,) uint32 ascending
    first: np.ndarray      # (n,) int64 first day
    last: np.ndarray       # (n,) int64 last day
    days: np.ndarray       # (n,) int64 days on which it was active
    predicted: np.ndarray  # (n,) int64 predicted class, a place in the state's list of names
    share: np.ndarray      # (n,) float32 share of the neighbours' votes for it
    distance: np.ndarray   # (n,) float32 cosine distance to the centroid of its own class, of labelled hosts


NOT_SEEN = Hosts(0, -1, -1, 0, -1, np.float32(np.nan), np.float32(np.nan))
NO_HOSTS = Hosts(np.empty(0, np.uint32), *(np.empty(0, np.int64) for _ in range(4)),
                 *(np.empty(0, np.float32) for _ in range(2)))


def lookup(table, addresses):
    """The table's rows of hosts (n,) uint32; NOT_SEEN for those that it does not hold."""
    at = np.searchsorted(table.address, addresses)
    at[np.append(table.address, 0)[at] != addresses] = len(table.address)
    return Hosts(*(np.append(column, column.dtype.type(none))[at] for column, none in zip(table, NOT_SEEN)))


def today(before, addresses, day, predicted=None, share=None, distance=None):
    """The rows of the hosts active on `day`, (n,) uint32 ascending, from `before`, those that `lookup` gave of them.

    predicted (n,) int64, share and distance (n,): None where the day has no predictions.
    """
    n = len(addresses)
    share, distance = (np.full(n, np.nan) if column is None else column for column in (share, distance))
    return Hosts(addresses, np.where(before.last < 0, day, before.first), np.full(n, day), before.days + 1,
                 np.full(n, -1) if predicted is None else predicted, share.astype(np.float32),
                 distance.astype(np.float32))


def update(table, rows):
    """The table with today's rows in the place of the hosts' earlier ones."""
    stay = ~np.isin(table.address, rows.address, assume_unique=True)
    columns = [np.concatenate([old[stay], new]) for old, new in zip(table, rows)]
    order = np.argsort(columns[0])
    return Hosts(*(column[order] for column in columns))


def codes(names, more):
    """Codes (len(more),) int64 of class names in the list `names`, to which those that it lacks are appended."""
    known = {name: code for code, name in enumerate(names)}
    found = [known.setdefault(name, len(known)) for name in more]
    names += list(known)[len(names):]
    return np.array(found)


def date(day):
    return str(datetime.date.fromordinal(int(day)))


def dates(days):
    """Days (n,) as text (n,), empty for -1."""
    unique, at = np.unique(days, return_inverse=True)
    return np.array([date(day) if day > 0 else "" for day in unique], dtype=object)[at]


def write_hosts(path, table, names):
    """hosts.csv: the host table, by address; names: what the codes of predicted classes stand for."""
    names = np.array([*map(files.quoted, names), ""], dtype=object)  # the last for code -1
    share = np.where(table.predicted < 0, "", np.char.mod("%.2f", table.share))
    columns = [files.dotted(table.address), dates(table.first), dates(table.last), np.char.mod("%d", table.days),
               names[table.predicted], share]
    write_lines(path, HOST_COLUMNS, map(",".join, zip(*(column.tolist() for column in columns))))


def write_lines(path, header, lines):
    with files.whole_file(path) as file:
        file.writelines(line + "\n" for line in (header, *lines))
