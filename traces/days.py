"""A day's packets -> what a model reads of it: graph, features, labels.

`count_day` does what depends on who holds the packets; several processes have a function of their own in its place.
`prepare` does the rest, the same for one and for many. Imports graph, features and traces.labels.
"""

import datetime
import re
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

import features
import graph as graphs
from traces import labels as ground_truth

MIRAI = "Mirai-like"
FIELD_NAMES = {"length": "size", "ttl": "TTL", "mss": "MSS", "window": "window", "timestamp": "TCP timestamp"}


class Counted(NamedTuple):
    """A day's packets, counted."""
    graph: graphs.BipartiteGraph  # of this process's hosts
    raw: np.ndarray | None        # (N, 37) float64 features before they are scaled; None: not wanted
    missing: set                  # names in features.FIELDS, and "seq", that the trace does not have
    mirai: np.ndarray             # (m,) uint32 hosts with Mirai's fingerprint
    sequence: tuple | None        # (time, host, port) of the kept packets in order of capture; None: not wanted
    n_hosts: int                  # of all processes,
    n_edges: int                  # likewise
    n_packets: int                # TCP packets of the day before the host filter, likewise


class Day(NamedTuple):
    """One day of the trace as the models want it."""
    date: datetime.date
    graph: graphs.BipartiteGraph
    x: np.ndarray | None          # (N, 37) float32 scaled features, hosts first; None: without node features
    labels: torch.Tensor          # (n_hosts,) int64 ground truth, 0 = Unknown
    sequence: tuple | None        # see Counted
    n_hosts: int
    n_edges: int
    n_packets: int


def count_day(day, min_packets, top_ports, node_features=None, mirai_packets=0, sequence=False):
    """The Counted of one process's day, a packets.Packets.

    node_features: features.node_features or its equal, or None for a model without node features. mirai_packets:
    packets with the fingerprint that make a host Mirai-like, 0: none does.
    """
    graph, order = graphs.build_graph(day.src, day.port, min_packets, top_ports, day.packets)
    missing = {name for name in (*features.FIELDS, "seq") if getattr(day, name) is None}
    raw, mirai, of_packets = None, np.empty(0, np.uint32), None
    if node_features:
        fields = {name: getattr(day, name) for name in features.FIELDS if name not in missing}
        raw = node_features(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports), day.dst,
                            fields, order, day.packets)
    if mirai_packets and "seq" not in missing:
        mirai = ground_truth.mirai_hosts(day.src, day.dst, day.seq, mirai_packets)
    if sequence:
        of_packets = in_order_of_capture(day.time, graph, order, day.packets)
    n_packets = len(day.src) if day.packets is None else int(day.packets.sum(dtype=np.int64))
    return Counted(graph, raw, missing, mirai, of_packets, len(graph.hosts), len(graph.weight), n_packets)


def in_order_of_capture(time, graph, order, packets=None):
    """(time, host, port) of the entries that `order` keeps, in order of capture; host and port number nodes."""
    entries = graph.weight if packets is None else features.entries_of_edges(graph.weight, packets[order])
    host, port = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
    host[order], port[order] = np.repeat(graph.edge_host, entries), np.repeat(graph.edge_port, entries)
    kept = np.sort(order)
    return time[kept], host[kept], port[kept]


def prepare(days, truth, count, scale, warn, min_packets, mirai=False):
    """Yield the Day of each (date, packets), one after the other; a day without any host is left out, with a note.

    count(packets) -> Counted; scale(raw, n_hosts) -> x; truth: labels.Labels; mirai: whether hosts are labelled by
    Mirai's fingerprint; warn(line) says what there is to know.
    """
    lacking = set()
    for date, packets in days:
        counted = count(packets)
        if not counted.n_hosts:
            warn(f"{date}: no host sends {min_packets} TCP packets or more, the day is left out")
            continue
        missing = counted.missing - lacking
        fields = sorted(FIELD_NAMES[name] for name in missing - {"seq"})
        if counted.raw is not None and fields:
            warn(f"{date}: the trace has no {', '.join(fields)}: these features are 0")
        if mirai and "seq" in missing:
            warn(f"{date}: the trace has no TCP sequence numbers: --mirai labels nothing")
        lacking |= missing
        x = None if counted.raw is None else scale(counted.raw, len(counted.graph.hosts))
        labels = torch.from_numpy(host_classes(truth, counted.graph.hosts, counted.mirai))
        yield Day(date, counted.graph, x, labels, counted.sequence, counted.n_hosts, counted.n_edges,
                  counted.n_packets)


def host_classes(truth, hosts, mirai=()):
    """The class of each host, (n,) int64: by the lists or, of hosts (m,) in `mirai` on no list, Mirai's."""
    codes = ground_truth.lookup(truth, hosts)
    if len(mirai):
        codes[~ground_truth.listed(truth, hosts) & np.isin(hosts, mirai)] = mirai_code(truth)
    return codes


def with_mirai(truth):
    """The labels with a class for Mirai's fingerprint, if they have none."""
    return truth if mirai_code(truth) is not None else truth._replace(names=(*truth.names, MIRAI))


def mirai_code(truth):
    """The code of the class that is Mirai's, which the labels may spell otherwise than MIRAI; None without one."""
    spelled = [name for name in truth.names if re.fullmatch("mirai([-_ ]?like)?", name, re.I)]
    return truth.names.index(MIRAI if MIRAI in spelled else spelled[0]) if spelled else None


def ahead(days, device="cpu"):
    """The same days, each made ready by a thread while the one before is learned from; an error comes in its place.

    On CUDA the thread's copies to the device go through a stream of their own, beside the kernels of the training.
    """
    stream = torch.cuda.Stream() if device == "cuda" else None

    def ready():
        with torch.cuda.stream(stream):                     # None: nothing changes
            return next(days, None)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(ready)
        while (day := coming.result()) is not None:
            coming = thread.submit(ready)
            yield day
