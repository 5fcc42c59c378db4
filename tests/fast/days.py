"""Small days, and the plain and the fast network of equal weights with their windows of these days."""

import numpy as np
import pytest
import torch

import graph as graphs
import training
from fast import Network, layout
from tests.test_graph import random_packets

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-10}


def some_days(n_days, n_features=37, alike=True):
    """(graph, x) of random small days whose hosts and ports come and go.

    alike: with ports that one host alone contacts, by an equal number of packets, and all ports of equal features.
    """
    days = []
    for seed in range(n_days):
        src, port = random_packets(seed, n=200)
        hosts = 10 + (src % 23 + 3 * seed) % 29            # a few hosts shared from day to day
        if alike:
            hosts = np.concatenate([hosts, np.repeat([hosts.max(), hosts.min()], 20)])
            port = np.concatenate([port, np.repeat(np.arange(20) + 50000 + seed, 2)]).astype("int32")
        graph, _ = graphs.build_graph(hosts.astype("uint32"), port, top_ports=26 if alike else 6)
        x = np.random.default_rng(seed).random((len(graph.hosts) + len(graph.ports), n_features), np.float32)
        if alike:
            x[len(graph.hosts) :] = x[-1]
        days.append((graph, x))
    return days


def empty_day(n_features=37):
    """(graph, x) of a day without a host."""
    graph, _ = graphs.build_graph(np.empty(0, np.uint32), np.empty(0, np.int32))
    return graph, np.empty((0, n_features), np.float32)


def float64(day):
    """A snapshot in float64."""
    A_hat, x = day.A_hat.astype(np.float64), None if day.x is None else day.x.astype(np.float64)
    day = day._replace(A_hat=A_hat, x=x)
    if isinstance(day, layout.Snapshot) and x is not None:
        Ax = np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]))])
        day = day._replace(Ax=torch.from_numpy(Ax).to(day.Ax.device))
    return day


def networks(recurrent, days, dtype, with_features=True, device="cpu", widths=(37, 40, 24, 16, 8)):
    """The plain and the fast network of equal weights, and the window of all days as either takes it."""
    torch.manual_seed(0)
    n_features, *others = widths
    plain = training.Network(recurrent, n_features if with_features else None, *others)
    fast = Network(recurrent, n_features if with_features else None, *others)
    table, rows = training.NO_NODES, []
    for graph, _ in days:
        table, row = training.add_nodes(table, training.node_keys(graph))
        rows.append(row)
    if not with_features:
        for network in (plain, fast):
            network.grow(len(table.key), torch.Generator().manual_seed(0))
    for parameter in plain.parameters():                    # biases start at zero: let every parameter show
        parameter.data.uniform_(-0.5, 0.5)
    fast.load_state_dict(plain.state_dict())
    windows = []
    for network in (plain, fast):
        network.to(dtype).to(device)
        snapshots = []
        for (graph, x), row in zip(days, rows):
            day = network.snapshot(graph, x if with_features else None)
            day = float64(day) if dtype == torch.float64 else day
            snapshots.append(day if with_features else day._replace(row=row))
        windows.append(network.window(snapshots))
    return plain, fast, *windows


def agree(found, expected, dtype):
    """No number differs by more than the type's tolerance, of the largest or of 1."""
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    assert found.shape == expected.shape and found.dtype == expected.dtype == dtype
    assert not found.numel() or (found - expected).abs().max().item() <= TOLERANCE[dtype] * scale
