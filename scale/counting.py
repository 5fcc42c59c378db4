"""Packets that all ranks read -> the day's graph and features of this rank's own hosts, as one process counts them.

Every rank reduces what it read to one record per (host, port) and one per (host, darknet address), and hands each to
the host's owner. All counts are whole numbers that add up exactly: it does not matter who read what, and features are
those of one process bit by bit.
Imports graph, features and traces.
"""

from typing import NamedTuple

import numpy as np

import features
import graph as graphs
from scale.processes import all_max, all_min, all_sum, exchange, owner
from traces import labels as ground_truth
from traces.days import Counted

NOTHING = np.empty(0, np.uint32)


class Traffic(NamedTuple):
    """A day's packets of this rank's hosts, counted: m parts of the packets of pairs (host, port), in any order."""
    src: np.ndarray      # (m,) uint32
    port: np.ndarray     # (m,) int32
    packets: np.ndarray  # (m,) int64
    fields: dict         # {name in features.FIELDS: Moments (m,)}; without the fields that no rank's trace has
    host: np.ndarray     # (pairs,) uint32   host,
    address: np.ndarray  # (pairs,) uint32   darknet address
    count: np.ndarray    # (pairs,) int64    and packets of each distinct pair


def count_day(day, min_packets, top_ports, node_features=None, mirai_packets=0, sequence=False):
    """As traces.days.count_day, of all ranks' packets: the Counted of this rank's hosts and all ports.

    day None: this rank read nothing of it. node_features only says whether features are wanted. Raises ValueError for
    sequence: several readers' packets have no order.
    """
    if sequence:
        raise ValueError("several processes read the packets: their order, which i-darkvec needs, is not known")
    names = (*features.FIELDS, "seq")
    present = all_max(np.array([day is not None and getattr(day, name) is not None for name in names], np.int64))
    missing = {name for name, there in zip(names, present) if not there}
    traffic = exchanged(day, [name for name in features.FIELDS if name not in missing])
    graph, order, host, port = own_graph(traffic, min_packets, top_ports)
    mirai = mirai_hosts(day, mirai_packets) if mirai_packets and "seq" not in missing else NOTHING
    raw = own_features(traffic, graph, order, host, port) if node_features else None
    n_hosts, n_edges, n_packets = all_sum(np.array([len(graph.hosts), len(graph.weight), traffic.packets.sum()]))
    return Counted(graph, raw, missing, mirai, None, int(n_hosts), int(n_edges), int(n_packets))


def exchanged(day, names):
    """The Traffic of this rank's hosts, from what all ranks read of the day; names: the fields that some rank has."""
    n = 0 if day is None else len(day.src)
    zeros = np.zeros(n, np.uint32)

    def column(name):
        found = None if day is None else getattr(day, name)
        return zeros if found is None else found
    packets = None if day is None else day.packets
    graph, order = graphs.build_graph(column("src"), column("port"), 1, graphs.OTHER, packets)
    packets = packets if packets is None else packets[order]
    entries = graph.weight if packets is None else features.entries_of_edges(graph.weight, packets)
    start = np.cumsum(entries) - entries
    parts = {"src": graph.hosts[graph.edge_host], "port": graph.ports[graph.edge_port], "packets": graph.weight}
    parts |= {name: as_columns(features.moments_of_runs(column(name)[order], start, packets)) for name in names}
    parts = exchange(parts, owner(parts["src"]))
    host, address, count = features.packets_per_address(np.repeat(graph.edge_host, entries), column("dst")[order],
                                                        packets)
    pairs = {"host": graph.hosts[host], "address": address.astype(np.uint32), "count": count}
    pairs = exchange(pairs, owner(pairs["host"]))
    host, address, count = features.packets_per_address(*pairs.values())
    return Traffic(parts["src"], parts["port"], parts["packets"],
                   {name: from_columns(parts["packets"], parts[name]) for name in names},
                   host.astype(np.uint32), address.astype(np.uint32), count)


def as_columns(moments):
    """All of features.Moments but n: (sets, 7) int64."""
    return np.column_stack([moments.low, moments.high, moments.total, moments.squares])


def from_columns(n, columns):
    """The Moments of n (sets,) samples that `as_columns` made columns (sets, 7) of."""
    return features.Moments(n, columns[:, 0], columns[:, 1], columns[:, 2:4], columns[:, 4:])


def own_graph(traffic, min_packets, top_ports):
    """As graph.build_graph, the day's busiest ports being those of all ranks: (graph, order, host, port).

    order (kept,) lists the parts of the traffic that are kept; host and port (kept,) are their nodes in the graph.
    """
    hosts, host, order = graphs.active_hosts(traffic.src, min_packets, traffic.packets)
    port, packets = traffic.port[order], traffic.packets[order]
    ports, node = graphs.top_port_nodes(all_sum(graphs.packets_per_port(port, packets)), top_ports)
    edge_host, edge_port, weight, _ = graphs.edges_of(host, node[port], len(ports), packets)
    return graphs.BipartiteGraph(hosts, ports, edge_host, edge_port, weight), order, host, node[port]


def own_features(traffic, graph, order, host, port):
    """The raw features x (N, 37) of the rank's hosts and all ports; order, host, port: see `own_graph`."""
    known = np.isin(traffic.host, graph.hosts)
    contacted = np.searchsorted(graph.hosts, traffic.host[known])
    fields = {name: features.Moments(*(part[order] for part in parts)) for name, parts in traffic.fields.items()}
    counts = features.count(graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
                            contacted, traffic.count[known], fields, host, port)
    ports = summed({"": counts.port_hosts, **counts.port_fields})
    return features.feature_columns(counts._replace(port_hosts=ports.pop(""), port_fields=ports))


def summed(moments):
    """{name: Moments (ports,)}, each rank's over its own hosts -> over all hosts, exactly, in three collectives."""
    rows = [np.column_stack([one.n, one.total, one.squares]) for one in moments.values()]
    sums = all_sum(np.stack(rows))                          # (names, ports, 6)
    low = all_min(np.stack([one.low for one in moments.values()]))
    high = all_max(np.stack([one.high for one in moments.values()]))
    return {name: features.Moments(total[:, 0], low[i], high[i], total[:, 1:3], total[:, 3:])
            for i, (name, total) in enumerate(zip(moments, sums))}


def mirai_hosts(day, min_packets):
    """This rank's hosts with Mirai's fingerprint, see traces.labels.mirai_hosts; (n,) uint32, ascending."""
    bearing = NOTHING
    if day is not None and day.seq is not None:
        bearing = day.src[ground_truth.mirai_packets(day.dst, day.seq)]
    host, count = np.unique(bearing, return_counts=True)
    found = exchange({"host": host, "count": count}, owner(host))
    host, at = np.unique(found["host"], return_inverse=True)
    return host[np.bincount(at, found["count"], len(host)) >= min_packets]
