"""fast.Network where several processes share a day's hosts out: the same parameters, state_dict and numbers.

    local graph     own hosts and all ports: a host's row of A_hat is complete; a port's has the rank's own hosts as
                    columns, divided by the port's degree over all ranks, and its self-loop on rank 0 alone
    S @ z           for the S of a day: the ports' rows, which each rank has in part, are summed over the ranks
    norm            over all ranks' hosts and the ports
    loss            each rank's share: of its own edges, and of as many negatives among its own hosts

Hosts never touch each other, so a layer communicates once, a block of (ports, d) numbers. What is computed from ports'
rows every rank computes; the shares' gradients add up in `Adam.step`. Imports graph, models and fast.
"""

from typing import NamedTuple

import numpy as np
import scipy
import torch

import fast.adam
import fast.models
import fast.network
import graph as graphs
import models
from fast import layout
from scale.processes import SumOfParts, SumOfRows, SumOfShares, all_sum, rank


def local_adjacency(graph):
    """This rank's part of A_hat (N, N), scipy CSR float32: see the file's header."""
    A, n_hosts = graphs.with_self_loops(graph), len(graph.hosts)
    if rank() > 0:
        A = (A - scipy.sparse.diags((np.arange(A.shape[0]) >= n_hosts).astype(A.dtype))).tocsr()
    D = np.asarray(A.sum(axis=1)).ravel()                   # (N,) row sums
    D[n_hosts:] = all_sum(D[n_hosts:])
    return graphs.divided_rows(A, D)


class CompletedOperator(NamedTuple):
    """A layout.Operator whose product has rows of ports in part: `operator @ z` sums those over the ranks."""
    S: layout.Operator  # (R, C)
    ports: slice        # rows of ports

    def __matmul__(self, z):
        return SumOfRows.apply(self.S @ z, self.ports)

    @property
    def shape(self):
        return self.S.shape


def normalized(norm, z, n_ports):
    """models.ActiveNorm `norm` over the nodes of all ranks: z (N, E), this rank's hosts and the n_ports ports."""
    n_hosts = len(z) - n_ports
    n_nodes = all_sum(n_hosts) + n_ports

    def mean(z):
        return (SumOfParts.apply(z[:n_hosts].sum(0)) + z[n_hosts:].sum(0)) / n_nodes
    z = z - mean(z)
    return z * (norm.scale * torch.rsqrt(mean(z.square()) + norm.eps)) + norm.shift


class StaticEmbedder(fast.models.StaticEmbedder):
    """As the fast one, on a window of this module's Network."""

    def forward(self, window):
        return normalized(self.norm, self.before_norm(window), window.n_ports)


class TemporalEmbedder(fast.models.TemporalEmbedder):
    """As the fast one, on a window of this module's Network."""

    def forward(self, window):
        return normalized(self.norm, self.before_norm(window), window.n_ports)


class Network(fast.network.Network):
    """As training.Network, of graphs of the rank's own hosts and all ports. `embed` gives the rank's own hosts."""

    static, temporal = StaticEmbedder, TemporalEmbedder

    def snapshot(self, graph, x):
        """As training.Network.snapshot. Raises ValueError without x, for rows of weights would be per node."""
        if x is None:
            raise ValueError("several processes need node features, got none")
        A_hat, n_hosts = local_adjacency(graph), len(graph.hosts)
        Ax = np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]), x.dtype)])
        Ax[n_hosts:-1] = all_sum(Ax[n_hosts:-1])
        twin = layout.twins(graph, Ax[:-1])
        twin[n_hosts:] = np.arange(n_hosts, len(twin))      # a rank knows a part of a port's edges only
        return layout.Snapshot(graph, x, A_hat, twin, torch.from_numpy(Ax).to(self.device))

    def window(self, snapshots):
        """As training.Network.window; non_edges counts those of all ranks, which learn together or not at all."""
        window = super().window(snapshots)
        days = [day._replace(S=CompletedOperator(day.S, rows_of_ports(day.S, snapshot.graph, snapshots[-1].graph)),
                             propagate_first=False)         # the same choice on all ranks: they sum equal blocks
                for day, snapshot in zip(window.days, snapshots)]
        return window._replace(days=days, non_edges=all_sum(window.non_edges))

    def forward(self, window, host, port):
        """Loss and accuracy over all ranks; the loss has the gradient of this rank's share, see SumOfShares."""
        log_p = self.log_probabilities(window, host, port)
        share = len(log_p) / all_sum(len(log_p))
        if len(log_p):
            loss, accuracy = models.link_loss(log_p, len(window.edge_host))
        else:                                               # no own host today: the others' gradients pass through
            loss, accuracy = log_p.sum(), torch.zeros((), device=log_p.device)
        return SumOfShares.apply(loss * share), all_sum(accuracy * share)


def rows_of_ports(S, graph, today):
    """Which rows of S, see layout.days_of, are of ports: a slice. After them comes the one of absent nodes, if any."""
    absent = graphs.node_positions(graph, today) < 0
    end = S.shape[0] - absent.any()
    return slice(end - (~absent[len(today.hosts) :]).sum(), end)


class Adam(fast.adam.Adam):
    """As fast.Adam, by the sum of all ranks' gradients, in one all-reduce: their weights stay equal bit by bit."""

    def step(self):
        gradients = [W.grad for W in self.parameters if W.grad is not None]
        total = all_sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, total.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view_as(gradient))
        super().step()
