"""features.node_features of many packets: the same numbers with fewer trips to memory.

A day's packets do not fit into a cache, and the order that sorts them by edge is random access. Here the columns lie
side by side, so that a packet is fetched once and not once a column, and a block of edges is counted while its packets
are in the cache. Imports features and numpy.
"""

import numpy as np

import features

AT_A_TIME = 1 << 16  # packets that are counted at once


def node_features(edge_host, edge_port, weight, n_hosts, n_ports, address, fields, order, packets=None):
    """As features.node_features, which says what the arguments are; order is needed."""
    contacted, per_address, per_edge = counts_of_edges(edge_host, weight, address, fields, order, packets)
    counts = features.count(edge_host, edge_port, weight, n_hosts, n_ports, contacted, per_address, per_edge)
    return features.feature_columns(counts)


def counts_of_edges(edge_host, weight, address, fields, order, packets=None):
    """(contacted, per_address, per_edge) as features.count takes them: packets per (host, address), and the Moments of
    each field by edge."""
    weight = np.asarray(weight, np.int64)
    columns = features.checked_columns(weight, address, fields, order, packets)
    records = as_records(columns)
    entries = weight if packets is None else features.entries_of_edges(weight, packets[order])
    end, edge = np.cumsum(entries), 0
    start, parts, addresses = end - entries, {name: [] for name in fields}, []
    while edge < len(entries) or not addresses:             # as many edges as there are AT_A_TIME entries of, or one
        edges = slice(edge, max(edge + 1, np.searchsorted(end, (start[edge] if len(start) else 0) + AT_A_TIME)))
        edge = edges.stop
        first = start[edges.start] if len(start) else 0
        part = records.take(order[first : end[min(edge, len(end)) - 1] if len(end) else 0])
        addresses.append(part["addresses"])
        for name in fields:
            parts[name].append(features.moments_of_runs(part[name], start[edges] - first,
                                                        None if packets is None else part["packets"]))
    per_edge = {name: features.Moments(*(np.concatenate([part.T for part in column], axis=-1).T
                                         for column in zip(*parts[name]))) for name in fields}
    contacted, _, per_address = features.packets_per_address(
        np.repeat(edge_host, entries), np.concatenate(addresses), None if packets is None else packets[order])
    return contacted, per_address, per_edge


def as_records(columns):
    """Columns {name: (n,)} of whole numbers below 2^32 as one array (n,) of records {name: number}.

    Records fill up 16 bytes, or 32: numpy moves items of these sizes faster than others.
    """
    kinds = [column.dtype if column.itemsize <= 4 else np.dtype(np.uint32) for column in columns.values()]
    ends = np.cumsum([kind.itemsize for kind in kinds])
    records = np.empty(len(columns["addresses"]), {
        "names": list(columns), "formats": kinds, "offsets": [0, *ends[:-1]], "itemsize": -(-ends[-1] // 16) * 16})
    for i in range(0, len(records), AT_A_TIME):
        for name, column in columns.items():
            records[name][i : i + AT_A_TIME] = column[i : i + AT_A_TIME]
    return records
