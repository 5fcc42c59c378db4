"""What the page shows of a day: a row per host, in numbers as small as the page needs them. See page.py.

A page has room for HOSTS hosts a day and ROWS rows in all. Of a day with more, those that are news are kept and then
the hosts that come first by a hash of their address: the same ones day after day, a fair sample.
Imports beyond.layout, numpy, scipy and torch.
"""

import json
from datetime import date
from typing import NamedTuple

import numpy as np
import scipy
import torch

from beyond.layout import layout

HOSTS = 10_000  # of a day
ROWS = 300_000  # of all days
NEWS = 100  # hosts of a day, of each kind, that are shown whatever their hash
PORTS = 3  # the busiest ones of a host
NEAR = 3  # nearest hosts
HEAT_PORTS = 40  # columns of a heat map,
HEAT_ROWS = 40  # and its campaigns
NO_HOST = 0xFFFFFFFF
UNIT = 512  # steps of a place in one unit of the map


class Shown(NamedTuple):
    """m hosts of one day; all that follow `port` are of length 0 on a day without a map. told is a dict for JSON."""
    told: dict              # the day as report.json lists it, `groups` (rows of campaigns.csv) and `heat`, see heat_of
    host: np.ndarray        # (m,) uint32 ascending
    packets: np.ndarray     # (m,) uint8 8 log2(1 + packets)
    port: np.ndarray        # (m, PORTS) int32 numbers, the busiest first; 65536: other, -1: none
    place: np.ndarray       # (m, 2) int16 on the map, in 1 / UNIT
    label: np.ndarray       # (m,) int16 code of the ground truth
    predicted: np.ndarray   # (m,) int16 likewise, by the neighbours' vote
    votes: np.ndarray       # (m,) uint8 its share of the votes, in hundredths
    near: np.ndarray        # (m, NEAR) uint32 addresses of the nearest hosts; NO_HOST: none
    similarity: np.ndarray  # (m, NEAR) uint8 their cosine, in 255ths
    campaign: np.ndarray    # (m,) int32 number, 0: in none
    membership: np.ndarray  # (m,) uint8 in 255ths
    surprise: np.ndarray    # (m,) uint8 32 log2(1 + surprise); 255: not known


COLUMNS = Shown._fields[1:]
ADDRESSES = ("host", "near")


def as_tensors(days):
    """The days as the state keeps them: a dict of texts, lists and tensors of their rows put one after the other."""
    rows = {name: np.concatenate([getattr(day, name) for day in days]) for name in COLUMNS} if days else {}
    return {"told": [json.dumps(day.told) for day in days],
            "lengths": {name: [len(getattr(day, name)) for day in days] for name in rows},
            "rows": {name: torch.from_numpy(column.view(np.int32) if column.dtype == np.uint32 else column)
                     for name, column in rows.items()}}


def from_tensors(saved):
    """The list of Shown that `as_tensors` made the dict of."""
    columns = []
    for name, column in saved["rows"].items():
        column = column.numpy().view(np.uint32) if name in ADDRESSES else column.numpy()
        columns.append(np.split(column, np.cumsum(saved["lengths"][name])[:-1]))
    return [Shown(json.loads(told), *of_day) for told, *of_day in zip(saved["told"], *columns)]


def day_without_map(told, hosts, packets, port, keep=None):
    """The Shown of a day on which nothing was embedded: hosts (n,) ascending, the two others as `of_graph` gives."""
    keep = kept(hosts) if keep is None else keep
    nothing = Shown(told, *(np.empty((0, *shape), kind) for shape, kind in (
        ((), np.uint32), ((), np.uint8), ((PORTS,), np.int32), ((2,), np.int16), ((), np.int16), ((), np.int16),
        ((), np.uint8), ((NEAR,), np.uint32), ((NEAR,), np.uint8), ((), np.int32), ((), np.uint8), ((), np.uint8))))
    return nothing._replace(host=hosts[keep], packets=logarithm(packets[keep], 8), port=port[keep])


def day_with_map(told, hosts, packets, port, found, scored, codes, earlier, seed, nearest, groups=None, news=None):
    """The Shown of a test day.

    found, scored: the day's fast.alone.Found and scores.Scored, whose hosts are all of `hosts`; codes (classes,) int64
    that classes have in all days; earlier: the Shown of days before, from whose map this one's starts; nearest:
    knn.nearest or its equal; groups: the daily.campaigns.Entered; news (n,) bool: hosts to show whatever their hash.
    """
    surprise = np.full(len(hosts), np.nan) if found.surprise is None else found.surprise.cpu().numpy()
    news = np.zeros(len(hosts), bool) if news is None else news
    keep = kept(hosts, news | most(surprise))
    start = torch.from_numpy(places_before(earlier, hosts[keep]))
    x = found.X[torch.from_numpy(keep).to(found.X.device)].float()  # of a map nobody sees more
    place = layout(x, start, seed, nearest=nearest).numpy()
    near = np.full((len(keep), NEAR), NO_HOST, np.uint32)
    similarity = np.zeros((len(keep), NEAR), np.uint8)
    k = min(NEAR, found.neighbours.shape[1])
    near[:, :k] = hosts[found.neighbours.cpu().numpy()[keep, :k]]
    similarity[:, :k] = share(found.similarity.cpu().numpy()[keep, :k], 255)
    number, membership = (np.zeros(len(hosts)),) * 2 if groups is None else (groups.number, groups.membership)
    return day_without_map(told, hosts, packets, port, keep)._replace(
        place=np.clip(np.rint(place * UNIT), -32767, 32767).astype(np.int16),
        label=codes[found.labels.cpu().numpy()[keep]].astype(np.int16),
        predicted=codes[scored.predicted.cpu().numpy()[keep]].astype(np.int16),
        votes=share(scored.share.cpu().numpy()[keep], 100), near=near, similarity=similarity,
        campaign=np.maximum(number[keep], 0).astype(np.int32), membership=share(membership[keep], 255),
        surprise=np.where(np.isnan(surprise[keep]), 255, logarithm(np.nan_to_num(surprise[keep]), 32, 254))
        .astype(np.uint8))


def kept(hosts, news=None):
    """The rows, ascending, of the hosts (n,) that are shown: all, or HOSTS of them."""
    if len(hosts) <= HOSTS:
        return np.arange(len(hosts))
    scattered = hosts * np.uint32(0x9E3779B1)               # Fibonacci hashing, modulo 2^32
    first = np.lexsort([scattered ^ scattered >> np.uint32(15), np.zeros(len(hosts)) if news is None else ~news])
    return np.sort(first[:HOSTS])


def most(values, n=NEWS):
    """Which of the values (n,), nan where there is none, are among the n largest."""
    largest = np.zeros(len(values), bool)
    largest[np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:n]] = True
    return largest & ~np.isnan(values)


def places_before(earlier, hosts):
    """Where each host stood on the last map that had it: (n, 2) float32, nan for one that was on none."""
    place = np.full((len(hosts), 2), np.nan, np.float32)
    for day in earlier:
        if len(day.place):
            _, now, then = np.intersect1d(hosts, day.host, assume_unique=True, return_indices=True)
            place[now] = day.place[then] / np.float32(UNIT)
    return place


def latest(days, first=None):
    """The days that stay on the page: from the day of ordinal `first` on, if given, and no more than ROWS rows."""
    rows, stay = 0, []
    for day in reversed(days):
        rows += len(day.host)
        if stay and (rows > ROWS or (first and date.fromisoformat(day.told["date"]).toordinal() < first)):
            break
        stay.append(day)
    return stay[::-1]


def of_graph(graph):
    """(packets (n_hosts,) int64, port (n_hosts, PORTS) int32 as in Shown) of the hosts of a graph.BipartiteGraph."""
    n = len(graph.hosts)
    packets = np.bincount(graph.edge_host, graph.weight, minlength=n).astype(np.int64)
    order = np.lexsort([-graph.weight, graph.edge_host])    # stable: of equal ones the lower port
    place = np.arange(len(order)) - np.searchsorted(graph.edge_host, graph.edge_host)
    port = np.full((n, PORTS), -1, np.int32)
    first = place < PORTS                                   # edges are sorted by host already, and stay so
    port[graph.edge_host[first], place[first]] = graph.ports[graph.edge_port[order][first]]
    return packets, port


def packets_by_group(graph, group, n_groups):
    """Packets of each group of hosts to each port, and hosts of each: (n_groups, n_ports) CSR and (n_groups,) int64.

    group (n_hosts,) int64 of the graph's hosts, -1: in none.
    """
    of_edge = group[graph.edge_host]
    edges = of_edge >= 0
    packets = scipy.sparse.coo_array((graph.weight[edges], (of_edge[edges], graph.edge_port[edges])),
                                     shape=(n_groups, len(graph.ports))).tocsr()
    return packets, np.bincount(group[group >= 0], minlength=n_groups)


def heat_of(ports, classes, campaigns=()):
    """Which groups send to which ports: {"ports": numbers, "classes" and "campaigns": [[name, hosts, shares]]}.

    classes, campaigns: [(name, hosts, packets (n_ports,))]; shares in thousandths of a group's packets. The ports,
    HEAT_PORTS at most: each group's busiest first, then those with the largest share, hosts weighted alike.
    """
    rows = [*classes, *campaigns]
    if not rows:
        return {"ports": [], "classes": [], "campaigns": []}
    shares = np.stack([packets / max(1, packets.sum()) for _, _, packets in rows])
    weight, busiest = np.array([hosts for _, hosts, _ in rows]) @ shares, np.zeros(len(ports), bool)
    busiest[shares.argmax(1)] = True
    best = np.lexsort([-weight, ~busiest])
    best = np.sort(best[weight[best] > 0][:HEAT_PORTS])
    told = [[name, int(hosts), np.rint(1000 * row[best]).astype(int).tolist()]
            for (name, hosts, _), row in zip(rows, shares)]
    return {"ports": ports[best].tolist(), "classes": told[: len(classes)], "campaigns": told[len(classes) :]}


def logarithm(values, steps, most=255):
    """steps * log2(1 + value), rounded, at most `most`: (n,) uint8."""
    return np.minimum(np.rint(steps * np.log2(1 + values.astype(np.float64))), most).astype(np.uint8)


def share(values, whole):
    """Values of 0 to 1 in parts of the whole: uint8; what lies outside is taken to the nearer end."""
    return np.rint(whole * np.clip(values, 0, 1)).astype(np.uint8)
