"""Days and windows as the fast embedders take them: only what day t needs of each earlier day.

    day s of the window    S (R, C) sparse: the rows of A_hat^s that day t's nodes want, without the empty columns
                           Ax (C, 37): the rows of A_hat^s x that S touches
    states                 nodes of day t that were twins, or absent, on each day so far share one state of the GRU
    now, before (R_s,)     row of S and state of the day before that each state goes on from
    state (N_t,)           the state of day t that each node has

Exact identities, each with what it saves where it stands. Imports graph and training.
"""

from typing import NamedTuple

import numpy as np
import scipy
import torch

import graph as graphs

MANY = 1.5  # nodes for each row wanted of them: where there are more, propagating first is the faster order


class Snapshot(NamedTuple):
    """One day as `window_of` wants it, see training.Snapshot."""
    graph: graphs.BipartiteGraph
    x: np.ndarray | None            # (N, 37) float32 node features; None: without
    A_hat: "scipy.sparse.csr_matrix"  # (N, N)
    twin: np.ndarray                # (N,) int64 a node with the same GCN output, see `twins`
    Ax: torch.Tensor | None         # (N + 1, 37): A_hat x, and the zero row of absent nodes; None: no features
    row: np.ndarray | None = None   # (N,) int64 without features: row of each node in the NodeTable


class Window(NamedTuple):
    """As training.Window; its days are those that fast.models takes."""
    days: list
    state: torch.Tensor | None      # (N_t,) int64 the state that each node of day t has; None: its own
    edge_host: torch.Tensor
    edge_port: torch.Tensor
    n_hosts: int
    n_ports: int
    non_edges: int


class Day(NamedTuple):
    """One day of a Window."""
    S: "Operator"                   # (R, C)
    Ax: torch.Tensor | None         # (C, 37); None: without features
    now: torch.Tensor | None        # (states,) int64 row of S; None: state i has row i
    before: torch.Tensor | None     # (states,) int64 state of the day before; None: state i goes on from state i
    propagate_first: bool           # whether A_hat (z W) is computed as (A_hat z) W
    A_hat: "Operator | None"        # without features: the whole day's, (N, N),
    row: torch.Tensor | None        # and the rows of W of its N nodes and of the absent ones


class Operator(NamedTuple):
    """A sparse matrix and its transpose, which the gradient of a product needs: `operator @ z`.

    PyTorch's own gradient of a CSR product transposes the matrix at every step.
    """
    A: torch.Tensor    # CSR
    A_T: torch.Tensor  # CSR

    def __matmul__(self, z):
        return Product.apply(self.A, self.A_T, z)

    @property
    def shape(self):
        return self.A.shape


class Product(torch.autograd.Function):
    """A z with the gradient A_T g."""

    @staticmethod
    def forward(ctx, A, A_T, z):
        ctx.A_T = A_T
        return A @ z

    @staticmethod
    def backward(ctx, g):
        return None, None, ctx.A_T @ g.contiguous()


def operator_of(matrix, device):
    """The Operator of a scipy CSR matrix."""
    return Operator(graphs.as_torch(matrix, device), graphs.as_torch(matrix.T.tocsr(), device))


def days_of(snapshots, device):
    """(days, state) of the Window that ends on the last of `snapshots`, oldest first."""
    today, days = snapshots[-1], []
    state = np.zeros(len(today.graph.hosts) + len(today.graph.ports), np.int64)  # before the first day all h are 0
    for day in snapshots:
        N, node = day.A_hat.shape[0], graphs.node_positions(day.graph, today.graph)
        absent = node < 0                                   # one node N for all; without features N, N + 1, ...
        n_absent, twin = 1 if day.x is not None else int(absent.sum()), np.append(day.twin, N)
        node = np.where(absent, N if day.x is not None else N - 1 + absent.cumsum(), twin[node])
        total = N + n_absent
        states, state = np.unique(state * total + node, return_inverse=True)
        before, node = np.divmod(states, total)             # (states,)
        wanted, now = np.unique(node, return_inverse=True)  # (R,)
        S = rows_for(day.A_hat, wanted, n_absent)
        if day.x is not None:
            S, used = without_empty_columns(add_columns(S, twin))
            Ax = day.Ax if used is None else day.Ax[torch.from_numpy(used).to(device)]
            whole, row = None, None
        else:
            Ax, whole = None, operator_of(day.A_hat, device)
            row = torch.from_numpy(np.concatenate([day.row, today.row[absent]])).to(device)
        days.append(Day(operator_of(S, device), Ax, places(now, device), places(before, device),
                        S.shape[1] > MANY * S.shape[0], whole, row))
    return days, places(state, device)


def places(at, device):
    """at (n,) as a tensor, or None where it is 0, 1, ..., n - 1 and nothing is to be moved."""
    return None if np.array_equal(at, np.arange(len(at))) else torch.from_numpy(at).to(device)


def rows_for(A_hat, wanted, n_absent):
    """The rows `wanted` (R,) of A_hat (N, N), of which N, N + 1, ... are absent nodes: a self-loop of weight 1 in a
    column of their own. Returns scipy CSR (R, N + n_absent) float32."""
    loops = scipy.sparse.csr_matrix((np.ones(n_absent, A_hat.dtype), np.arange(n_absent), np.arange(n_absent + 1)),
                                    (n_absent, n_absent))
    return scipy.sparse.block_diag([A_hat, loops], format="csr")[wanted] if n_absent else A_hat[wanted]


def add_columns(matrix, twin):
    """A CSR matrix with every column added to that of its twin (columns,): M z = add_columns(M) z for z whose rows of
    twins are equal."""
    parts = matrix.data, twin[matrix.indices].astype(np.int32), matrix.indptr
    added = scipy.sparse.csr_matrix(parts, matrix.shape, copy=True)
    added.sum_duplicates()                                  # in place
    return added


def without_empty_columns(matrix, worth=0.8):
    """A CSR matrix without its empty columns, and the numbers of the others: (matrix, used (columns,) int64).

    Nodes of an earlier day that no wanted row touches need no hidden layer: most of them, where few nodes stay from
    day to day. (matrix itself, None) where more than the share `worth` of the columns is used.
    """
    touched = np.zeros(matrix.shape[1], bool)
    touched[matrix.indices] = True
    used = np.flatnonzero(touched)
    if len(used) > worth * len(touched):
        return matrix, None
    number = (np.cumsum(touched) - 1).astype(np.int32)
    parts = matrix.data, number[matrix.indices], matrix.indptr
    return scipy.sparse.csr_matrix(parts, (matrix.shape[0], len(used))), used


def twins(graph, x):
    """For each node its twin of the lowest number, which is itself where it has no other: (N,) int64.

    Twins are nodes with one neighbour, the same, by edges of the same weight, whose rows of x (N, d) float32 are equal.
    With x the node features or A_hat x, every layer of a GCN gives twins the same row: of each set of twins only one
    is computed. Most of the ports that one scanner tries and nobody else are twins.
    """
    n_hosts, twin = len(graph.hosts), np.arange(len(x))
    u, v = graph.edge_host, n_hosts + graph.edge_port
    for node, neighbour in ((u, v), (v, u)):
        leaf = np.bincount(node, minlength=len(x))[node] == 1  # edges at a leaf
        node, neighbour, weight = node[leaf], neighbour[leaf], graph.weight[leaf]
        alike = np.column_stack([neighbour, weight, np.ascontiguousarray(x[node]).view(np.int32)])  # bit by bit
        mixed = alike @ np.random.default_rng(0).integers(-1 << 63, 1 << 63, alike.shape[1])  # a hash of each row
        _, first, of = np.unique(mixed, return_index=True, return_inverse=True)
        equal = (alike == alike[first][of]).all(1)          # rows that share a sum by chance stay alone
        twin[node[equal]] = node[first][of][equal]
    return twin
