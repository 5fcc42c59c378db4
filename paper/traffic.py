"""How many hosts, ports and packets each class has, for Table 2 and for the pictures: counted once, then kept.

Counted is what remains after the host filter (paper 3), with every port a node of its own. Days are counted one by
one: no more than a day's packets are in memory. A row of a table that stands for many packets counts as so many.
Imports graph, fast.alone, report, traces and paper.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

import graph as graphs
from fast import alone
from paper import cells
from report import files, words
from traces import days as traces
from traces import inputs
from traces.summary import Summary

# Settings that the counts need, beside the files.
SETTINGS = ("mirai", "mirai_packets", "year", "strict", "no_tunnels", "synthetic_scale", "seed", "min_packets")
WIDTH = graphs.OTHER + 1


class Traffic(NamedTuple):
    """The counts of a trace of C classes, of which class 0 is Unknown, and D days. Arrays, saved as npz."""
    names: np.ndarray    # (C,) class names
    dates: np.ndarray    # (D,) YYYY-MM-DD
    count: np.ndarray    # (D, C + 1, 3) int64 hosts, ports, packets of each day; the last class stands for all
    day: np.ndarray      # (A,) int64, one entry per host and day on which it is active, hosts ascending within a day
    host: np.ndarray     # (A,) uint32
    host_class: np.ndarray    # (A,) int64
    port: np.ndarray     # (P,) int64, one entry per class and port that it contacts in all the days
    port_class: np.ndarray    # (P,) int64
    port_packets: np.ndarray  # (P,) int64


def traffic(args, say, warn):
    """The trace's Traffic, kept or counted. Raises ValueError where no host passes the filter on any day."""
    folder = cells.cell_folder(args, "traffic", {name: getattr(args, name) for name in SETTINGS})
    if (folder / "traffic.npz").exists():
        say(f"       counts kept from before in {folder}")
        with np.load(folder / "traffic.npz", allow_pickle=False) as saved:
            return Traffic(**saved)
    summary = Summary() if args.input else None
    days, truth = inputs.read(args, summary, alone)
    found = _count(days, truth, args, say, warn)
    if summary:
        if not args.quiet:
            say(f"       {words.read_line(summary)}")
        for line in summary.notes:
            warn(line)
    with files.whole_file(folder / "traffic.npz", "wb") as file:
        np.savez(file, **found._asdict())
    return found


def _count(days, truth, args, say, warn):
    """The Traffic of all days, an iterator of (date, Packets); truth: labels.Labels."""
    dates, count, active = [], [], []
    contacts = np.empty((2, 0), np.int64)                   # class * WIDTH + port, and the packets sent to it
    of_day = partial(traces.count_day, min_packets=args.min_packets, top_ports=graphs.OTHER,
                     mirai_packets=args.mirai_packets if args.mirai else 0)
    for day in traces.prepare(days, truth, of_day, None, warn, args.min_packets, args.mirai):
        graph, code = day.graph, day.labels.numpy()
        today = _sums(code[graph.edge_host] * WIDTH + graph.ports[graph.edge_port], graph.weight)
        contacts = _sums(*np.concatenate([contacts, today], 1))
        count.append(_count_day(code, graph, today, len(truth.names)))
        active.append((np.full(len(code), len(dates)), graph.hosts, code))
        dates.append(str(day.date))
        if not args.quiet:
            say(f"       {day.date} {len(graph.hosts):8,} hosts {graph.weight.sum():12,} packets")
    if not dates:
        raise ValueError(f"no host sends {args.min_packets} TCP packets or more on any day: nothing to count")
    day, host, host_class = (np.concatenate(column) for column in zip(*active))
    port_class, port = np.divmod(contacts[0], WIDTH)
    return Traffic(np.array(truth.names), np.array(dates), np.array(count), day, host, host_class, port, port_class,
                   contacts[1])


def _count_day(code, graph, contacts, n_classes):
    """Hosts, ports and packets of each class that day, then of all: (C + 1, 3) int64.

    code (n_hosts,) the hosts' classes; contacts (2, n) the day's class * WIDTH + port, and packets.
    """
    contact_class = contacts[0] // WIDTH
    hosts = np.bincount(code, minlength=n_classes)
    ports = np.bincount(contact_class, minlength=n_classes)
    packets = np.bincount(contact_class, contacts[1], n_classes).astype(np.int64)
    return np.transpose([with_total(hosts), [*ports, len(graph.ports)], with_total(packets)])


def with_total(per_class):
    """(C,) counts and their sum: (C + 1,)."""
    return np.append(per_class, per_class.sum())


def _sums(key, value):
    """The distinct keys, ascending, and the sums of their values: (2, distinct) int64."""
    distinct, at = np.unique(key, return_inverse=True)
    return np.stack([distinct, np.bincount(at, value, len(distinct)).astype(np.int64)])
