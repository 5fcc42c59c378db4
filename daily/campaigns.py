"""Campaigns over days: which of today's groups is which of the days before, what happened to it, and what it does.

    campaigns.csv        a row per campaign and test day, also on the day on which it ends
    campaign_hosts.csv   a row per host and test day

A campaign keeps its number as long as its hosts say so: today's groups and the campaigns of the last days are matched
one to one so that they share as many hosts as possible. A number is never given twice.
Imports beyond.campaigns, beyond.partitions, knn, report, numpy, scipy and torch.
"""

from typing import NamedTuple

import numpy as np
import scipy
import torch

import knn
from beyond import campaigns, partitions
from daily.hosts import date
from report import files, shown

CAMPAIGN_COLUMNS = ("date,campaign,event,from,hosts,hosts_new,hosts_lost,packets,ports,apart,subnets,labels,predicted,"
                    "agreement,cohesion,first_seen,days")
HOST_COLUMNS = "date,host,campaign,membership"
LEAST_SHARED = 0.2  # of the smaller of two groups' hosts: with fewer in common they are not one campaign
CHANGED = 0.2  # of a campaign's hosts: by so much more or less it grows or shrinks
PORTS = 3  # that a row names
OTHER = 65536  # the port node of all ports that have none of their own, see graph.OTHER


class Known(NamedTuple):
    """The campaigns of the last days, and the groups of the last day that had any."""
    number: np.ndarray     # (c,) int64 the newest first
    first: np.ndarray      # (c,) int64 first day
    last: np.ndarray       # (c,) int64 last day
    days: np.ndarray       # (c,) int64 days on which it was there
    of: np.ndarray         # (m,) int64 number of the campaign
    host: np.ndarray       # (m,) uint32 a host that it had on its last day
    active: np.ndarray     # (n,) uint32 hosts of the last day, ascending
    active_in: np.ndarray  # (n,) int64 number of their campaign, -1: in none
    counters: np.ndarray   # (2,) int64 the number that comes next; the last day


NOTHING = Known(*(np.empty(0, np.int64) for _ in range(5)), np.empty(0, np.uint32), np.empty(0, np.uint32),
                np.empty(0, np.int64), np.array([1, -1]))


class News(NamedTuple):
    """What happened to the campaigns on one day; a row is one of today's campaigns or, after those, one that ended."""
    number: np.ndarray   # (c,) int64
    event: tuple         # new, continues, grows, shrinks, splits from, merges, returns, ends
    origin: tuple        # numbers that it split from or that merged into it, as text
    hosts: np.ndarray    # (c,) int64 today, 0 where it ended
    gained: np.ndarray   # (c,) int64 hosts that it had not on its last day
    lost: np.ndarray     # (c,) int64 hosts of its last day that it has no more
    first: np.ndarray    # (c,) int64
    days: np.ndarray     # (c,) int64


class Entered(NamedTuple):
    """A day's campaigns in words and numbers."""
    rows: list              # of campaigns.csv after the date, {column: value}, the biggest news first
    host_lines: str         # of campaign_hosts.csv
    lines: list             # a line of output per row
    quality: dict           # for report.json
    number: np.ndarray      # (n,) int64 campaign of each of the day's hosts, -1: in none
    membership: np.ndarray  # (n,) float64 0..1


def enter(past, day, names, found, size, keep, tree):
    """Find the day's campaigns, give them their numbers and enter them in `past`, a memory.Memory; returns Entered.

    day: a traces.days.Day; names: of the classes; found: its fast.alone.Found, of all hosts; size: hosts of the
    smallest campaign; keep: days for which a campaign is remembered; tree: beyond.campaigns.spanning_tree or its equal.
    """
    today = day.date.toordinal()
    label, membership = campaigns.campaigns(found.X, size, tree=tree)
    before = past.campaigns
    news, past.campaigns = identify(remembered(before, today - keep), found.hosts, label, today)
    number = past.campaigns.active_in
    labels = found.labels.cpu().numpy()
    seen = appearance(day.graph, found, label, news, names)
    order = np.lexsort([news.number, -(news.gained + news.lost)])  # the biggest news first
    host = files.dotted(found.hosts)
    host_lines = zip(host, np.where(number < 0, "", number.astype(str)), np.char.mod("%.4f", membership))
    return Entered([row_of(news, seen, i) for i in order],
                   "".join(f"{day.date},{','.join(row)}\n" for row in host_lines),
                   [line_of(news, seen, i) for i in order],
                   quality(before, found.hosts, number, labels), number, membership)


# -- identity over days ------------------------------------------------------------------------------------------------

def remembered(known, least):
    """The Known without the campaigns last seen before day `least`."""
    stay = known.last >= least
    rows = np.isin(known.of, known.number[stay])
    return known._replace(number=known.number[stay], first=known.first[stay], last=known.last[stay],
                          days=known.days[stay], of=known.of[rows], host=known.host[rows])


def identify(known, hosts, label, today):
    """Match the day's groups with the campaigns of before: (News, Known after the day).

    hosts (n,) uint32 ascending; label (n,) int64 group 0, 1, ... of each, -1: none; today: the day's number.
    The matching shares as many hosts as any; pairs that share too few, see LEAST_SHARED, are no match.
    """
    n_groups, n_known = int(label.max(initial=-1)) + 1, len(known.number)
    size = np.bincount(label[label >= 0], minlength=n_groups)
    order = np.argsort(known.number)
    column = order[np.searchsorted(known.number, known.of, sorter=order)]
    earlier = np.bincount(column, minlength=n_known)
    at = np.searchsorted(hosts, known.host)
    at[np.append(hosts, 0)[at] != known.host] = len(hosts)
    group = np.append(label, -1)[at]                        # today's of each remembered host
    shared = np.zeros((n_groups, n_known), np.int64)
    np.add.at(shared, (group[group >= 0], column[group >= 0]), 1)
    enough = (shared > 0) & (shared >= LEAST_SHARED * np.minimum(size[:, None], earlier))
    match = np.full(n_groups, -1)
    rows, columns = scipy.optimize.linear_sum_assignment(np.where(enough, shared, 0), maximize=True)
    matched = enough[rows, columns]
    match[rows[matched]] = columns[matched]
    news = what_happened(known, shared, match, size, earlier, today)
    return news, known_after(known, news, hosts, label, today)


def what_happened(known, shared, match, size, earlier, today):
    """The News of a day: match (c,) is the place in `known` of each group, -1: none; the rest as in `identify`."""
    was_there = known.last == known.counters[1]             # on the last day
    free = np.setdiff1d(np.arange(len(known.number)), match)
    next_number, rows = int(known.counters[0]), []
    for i, k in enumerate(match.tolist()):
        if k < 0:
            parent = np.flatnonzero(shared[i] * 2 > size[i])  # which had most of its hosts
            event, origin = ("splits from", str(known.number[parent[0]])) if len(parent) else ("new", "")
            rows.append((next_number, event, origin, size[i], size[i], 0, today, 1))
            next_number += 1
            continue
        joined = free[was_there[free] & (shared[i, free] * 2 > earlier[free])].tolist()
        growth = size[i] / earlier[k] - 1
        event = ("returns" if not was_there[k] else "merges" if joined else "grows" if growth > CHANGED else
                 "shrinks" if growth < -CHANGED else "continues")
        rows.append((known.number[k], event, " ".join(str(known.number[j]) for j in joined), size[i],
                     size[i] - shared[i, k], earlier[k] - shared[i, k], known.first[k], known.days[k] + 1))
    for k in free[was_there[free]].tolist():
        rows.append((known.number[k], "ends", "", 0, 0, earlier[k], known.first[k], known.days[k]))
    number, event, origin, *counts = zip(*rows) if rows else [()] * len(News._fields)
    return News(np.array(number, np.int64), event, origin, *(np.array(column, np.int64) for column in counts))


def known_after(known, news, hosts, label, today):
    """The Known after the day: today's campaigns with today's hosts, and those that were not there as they were."""
    n_groups = int(label.max(initial=-1)) + 1
    number = news.number[:n_groups]
    rest, inside = ~np.isin(known.number, number), label >= 0
    rows = ~np.isin(known.of, number)
    active_in = np.append(number, -1)[label]
    return Known(np.concatenate([number, known.number[rest]]),
                 np.concatenate([news.first[:n_groups], known.first[rest]]),
                 np.concatenate([np.full(n_groups, today), known.last[rest]]),
                 np.concatenate([news.days[:n_groups], known.days[rest]]),
                 np.concatenate([active_in[inside], known.of[rows]]),
                 np.concatenate([hosts[inside], known.host[rows]]), hosts, active_in,
                 np.array([max(known.counters[0], number.max(initial=0) + 1), today]))


# -- what a campaign does, in words ------------------------------------------------------------------------------------

class Appearance(NamedTuple):
    """What the campaigns of a News look like, as text; "" of those that ended."""
    packets: list
    ports: list      # the busiest with their share of the campaign's packets
    apart: list      # with a larger share here than elsewhere: share here/share elsewhere
    subnets: list    # how many /24s
    labels: list     # with counts
    predicted: list  # the label of more than half of the labelled hosts
    agreement: list  # of how many of them
    cohesion: list   # mean cosine of its hosts to their centroid, the mean of their unit rows


def appearance(graph, found, label, news, names):
    """The Appearance of the day's campaigns, from its graph, embeddings and labels."""
    columns = []
    per_port, _ = shown.packets_by_group(graph, label, int(label.max(initial=-1)) + 1)
    everywhere = np.bincount(graph.edge_port, graph.weight, minlength=len(graph.ports))
    labels, cohesion = found.labels.cpu().numpy(), cohesions(found.X, label)
    for i in range(len(news.number)):
        if news.event[i] == "ends":
            columns.append([""] * len(Appearance._fields))
            continue
        inside = label == i
        here = per_port[[i]].toarray().ravel()
        columns.append([f"{int(here.sum())}", *ports_of(graph.ports, here, everywhere - here),
                        str(len(np.unique(found.hosts[inside] >> 8))), *labels_of(labels[inside], names),
                        f"{cohesion[i]:.4f}"])
    return Appearance(*map(list, zip(*columns))) if columns else Appearance(*([] for _ in Appearance._fields))


def ports_of(ports, here, elsewhere):
    """(the busiest ports, those that set a campaign apart), from its packets and those of all others to each port."""
    share, others = here / here.sum(), elsewhere / max(1, elsewhere.sum())
    busiest = [i for i in np.argsort(-share, kind="stable")[:PORTS] if here[i]]
    apart = [i for i in np.argsort(others - share, kind="stable")[:PORTS] if share[i] > others[i]]
    name = ["other" if port == OTHER else str(port) for port in ports.tolist()]
    return (" ".join(f"{name[i]}:{share[i]:.3f}" for i in busiest),
            " ".join(f"{name[i]}:{share[i]:.3f}/{others[i]:.3f}" for i in apart))


def labels_of(labels, names):
    """(labels with counts, the one that most labelled hosts carry, the share of them that do) of a campaign's hosts."""
    count = np.bincount(labels[labels != knn.UNKNOWN], minlength=1)
    order = [c for c in np.argsort(-count, kind="stable").tolist() if count[c]]
    text = "; ".join(f"{names[c]} {count[c]}" for c in order)
    if not order or count[order[0]] * 2 <= count.sum():
        return text, "", ""
    return text, names[order[0]], f"{count[order[0]] / count.sum():.2f}"


def cohesions(x, label):
    """Mean cosine of each campaign's rows of x (n, E) to their centroid, (c,)."""
    inside = torch.from_numpy(np.flatnonzero(label >= 0)).to(x.device)
    group = torch.from_numpy(label[label >= 0]).to(x.device)
    rows, n_groups = knn.unit(x[inside].double()), int(label.max(initial=-1)) + 1
    centroid = knn.unit(rows.new_zeros(n_groups, x.shape[1]).index_add_(0, group, rows))
    total = rows.new_zeros(n_groups).index_add_(0, group, (rows * centroid[group]).sum(1))
    return (total / torch.bincount(group, minlength=n_groups)).cpu().numpy()


def row_of(news, seen, i):
    """Row i of the News as {column of campaigns.csv: value}, without the date."""
    values = (int(news.number[i]), news.event[i], news.origin[i], int(news.hosts[i]), int(news.gained[i]),
              int(news.lost[i]), seen.packets[i], seen.ports[i], seen.apart[i], seen.subnets[i], seen.labels[i],
              seen.predicted[i], seen.agreement[i], seen.cohesion[i], date(news.first[i]), int(news.days[i]))
    return dict(zip(CAMPAIGN_COLUMNS.split(",")[1:], values))


def csv_lines(day, rows):
    """Rows of `row_of` as lines of campaigns.csv, one text."""
    return "".join(",".join([str(day), *(files.quoted(str(value)) for value in row.values())]) + "\n" for row in rows)


def line_of(news, seen, i):
    """Row i of the News as a line of output, 80 characters at most: what happened, the label, the busiest ports."""
    event = f"{news.event[i]} {news.origin[i]}".strip()
    line = (f"  campaign {news.number[i]:<4} {event:14} {news.hosts[i]:6,} hosts +{news.gained[i]:,} "
            f"-{news.lost[i]:,}")
    for word in filter(None, (seen.predicted[i], *seen.ports[i].split())):
        line = f"{line:46}  {word}" if len(f"{line:46}  {word}") <= 80 else line
    return line[:80].rstrip()


# -- how good they are -------------------------------------------------------------------------------------------------

def quality(before, hosts, number, labels):
    """The day's figures for report.json; None where there is nothing to measure.

    hosts (n,) ascending, number (n,) of each host's campaign, -1: in none; before: the Known of the day before. To
    adjusted Rand and mutual information the hosts in no campaign are one group.
    """
    _, then, now = np.intersect1d(before.active, hosts, assume_unique=True, return_indices=True)
    labelled = labels != knn.UNKNOWN
    kept, chance = partitions.pairs_kept(number, hosts >> 8)
    pair = before.active_in[then], number[now]
    compared = max(groups.max(initial=-1) for groups in pair) >= 0  # to find none twice is no agreement
    values = {"inside": float((number >= 0).mean()),
              "day_to_day": partitions.adjusted_rand(*pair) if compared else float("nan"),
              "same_subnet": kept, "chance": chance,
              "labels": partitions.adjusted_mutual_information(number[labelled], labels[labelled])}
    return {"count": len(np.unique(number[number >= 0])),
            **{name: None if value != value else value for name, value in values.items()}}
