"""Real processes over gloo on loopback, forked, and the days on which what they find is compared with one process."""

import os
import socket
from types import SimpleNamespace

import numpy as np
import torch

import features
from scale import processes
from traces import days

SIZES = [2, 3]
LONELY = 1  # the day on which rank 1 owns no host
TOP_PORTS = 15


def day_of_packets(t, n=1500):
    """A day's packets; on day LONELY only hosts of rank 0 of two, rank 0 and 2 of three, send any.

    On the others there are twins: three ports that one host alone contacts, and nine hosts that contact one port alone.
    On day 3 rows of the later two thirds, to the lowest ports, stand for several packets.
    """
    rng = np.random.default_rng(t)
    src = (rng.integers(0, 60, n) * 7919 + 3 * t).astype(np.uint32) % 97 + 2**31
    if t == LONELY:
        src = src[(processes.owner(src, 2) != 1) & (processes.owner(src, 3) != 1)]
    n = len(src)
    day = {"src": src, "dst": rng.integers(2**25, 2**25 + 20, n), "port": rng.zipf(1.3, n) % 40,
           "length": rng.integers(40, 1500, n), "ttl": rng.integers(1, 256, n), "window": rng.integers(0, 65536, n),
           "timestamp": rng.integers(0, 2**32, n), "seq": rng.integers(2**25, 2**25 + 20, n)}
    if t != LONELY:
        day = {name: np.append(column, np.full(234, 2**25)) for name, column in day.items()}
        day["src"][n:] = 2**31 + 200 + np.repeat(np.arange(10), [180, *[6] * 9])
        day["port"][n:] = np.repeat([101, 102, 103, 104], [60, 60, 60, 54])
        day["seq"][n:] = 1
    dtypes = {"port": np.int32, "length": np.uint16, "ttl": np.uint8, "window": np.uint16}
    total = len(day["src"])
    several = np.ones(total, np.int64)
    several[total // 3 : n] = np.where(day["port"][total // 3 : n] < 8, rng.integers(1, 50, n - total // 3), 1)
    return SimpleNamespace(time=np.sort(rng.random(total)), mss=None, packets=several if t == 3 else None, **{
        name: column.astype(dtypes.get(name, np.uint32)) for name, column in day.items()})


def part_of(day, rank, size):
    """What `rank` reads of the day: unequal shares; the last of three ranks reads nothing.

    A rank whose rows are of one packet each does not know that others' are not.
    """
    n = len(day.src)
    cut = [0, n // 3, n, n] if size == 3 else [0, n // 3, n] if size == 2 else [0, n]
    rows = slice(cut[rank], cut[rank + 1])
    if rows.start == rows.stop:
        return None
    part = {name: None if column is None else column[rows] for name, column in vars(day).items()}
    if part["packets"] is not None and (part["packets"] == 1).all():
        part["packets"] = None
    return SimpleNamespace(**part)


def one_process(t):
    """The Counted of day t by one process."""
    return days.count_day(day_of_packets(t), 5, TOP_PORTS, features.node_features, mirai_packets=2)


def owned(hosts, rank, size):
    """The addresses, of those given, that a rank owns."""
    return hosts[processes.owner(hosts, size) == rank]


def spawned(rank, size, port, function, arguments):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    processes.start()
    function(rank, size, *arguments)
    processes.stop()


def by_ranks(size, function, *arguments):
    """function(rank, size, *arguments) in each of `size` processes; forked, they import nothing anew."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(spawned, (size, port, function, arguments), size, start_method="fork")


def save(rank, size, function, folder, arguments):
    torch.save(function(rank, size, *arguments), folder / f"{size}-{rank}.pt")


def found_by_ranks(size, function, folder, *arguments):
    """What function(rank, size, *arguments) returns in each of `size` processes, by rank."""
    by_ranks(size, save, function, folder, arguments)
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]


def joined(hosts, parts):
    """Rows of the ranks put together in order of address."""
    hosts = np.concatenate(hosts)
    return hosts[np.argsort(hosts)], np.concatenate([np.asarray(part) for part in parts])[np.argsort(hosts)]
