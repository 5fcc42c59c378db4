"""fast/layout.py: rows, twins and columns of A_hat, against dense forms; how little of an earlier day is left."""

import numpy as np
import pytest
import scipy.sparse
import torch

import graph as graphs
from fast import Network, layout
from tests.fast.days import networks, some_days
from tests.test_graph import dense_A, random_packets


def test_rows_for_select_and_fill():
    """The rows wanted of A_hat, in their order; an absent node's has weight 1 in a column of its own."""
    graph, _ = graphs.build_graph(*random_packets(1))
    A_hat = graphs.normalized_adjacency(graph)
    N, A = A_hat.shape[0], A_hat.toarray()
    wanted = np.array([3, 0, N, N - 1, N + 1])
    rows = layout.rows_for(A_hat, wanted, 2)
    assert rows.dtype == np.float32 and rows.shape == (5, N + 2)
    rows = rows.toarray()
    for i, node in enumerate(wanted):
        if node < N:
            assert (rows[i, :N] == A[node]).all() and not rows[i, N:].any()
        else:
            assert rows[i, node] == 1 == rows[i].sum()
    assert (layout.rows_for(A_hat, wanted[:2], 0).toarray() == A[wanted[:2]]).all()


def test_rows_of_an_earlier_day_without_nodes():
    """Where the earlier day is empty every node has its own self-loop alone."""
    empty, _ = graphs.build_graph(np.empty(0, np.uint32), np.empty(0, np.int32))
    A_hat = graphs.normalized_adjacency(empty)
    assert (layout.rows_for(A_hat, np.zeros(7, int), 1).toarray() == np.ones((7, 1))).all()
    assert (layout.rows_for(A_hat, np.arange(7), 7).toarray() == np.eye(7)).all()


def test_twins_are_leaves_alike():
    """Twins are exactly the pairs of nodes with one neighbour, the same, equal weights and equal features."""
    rng = np.random.default_rng(0)
    src = np.concatenate([rng.choice([3, 5, 8], 60), np.repeat([3, 5], 30), np.repeat([20, 21, 22, 23], 6)])
    port = np.concatenate([rng.choice([22, 80, 443], 60), 1000 + np.arange(60) // 2, np.full(24, 22)])
    port[60 + 50 :] = np.concatenate([[2000] * 6, port[60 + 56 :]])  # one with a weight of its own
    graph, _ = graphs.build_graph(src.astype(np.uint32), port)
    n_hosts, A = len(graph.hosts), dense_A(graph)
    x = rng.integers(0, 2, (len(A), 1)).repeat(3, 1).astype(np.float32)
    twin = layout.twins(graph, x)

    def alike(i, j):
        return ((A[i] > 0).sum() == 1 == (A[j] > 0).sum() and (A[i] == A[j]).all() and (x[i] == x[j]).all()
                and (i < n_hosts) == (j < n_hosts))
    expected = [next(j for j in range(i + 1) if j == i or alike(i, j)) for i in range(len(A))]
    assert twin.tolist() == expected
    for part in (twin[:n_hosts], twin[n_hosts:]):
        assert len(np.unique(part)) < len(part), "both among hosts and among ports there are some"


def test_twins_are_told_bit_by_bit():
    """Leaves of one node, by edges of one weight and with equal features, are twins; all others are like themselves."""
    src = np.repeat([1, 2, 3], [7, 9, 5]).astype(np.uint32)
    port = np.repeat([10, 11, 12, 20, 21, 22, 12], [2, 2, 3, 3, 3, 3, 5]).astype(np.int32)
    graph, _ = graphs.build_graph(src, port)
    n_hosts = len(graph.hosts)
    x = np.zeros((n_hosts + len(graph.ports), 2), np.float32)
    names = [*graph.hosts.tolist(), *graph.ports.tolist()]
    twin = {names[i]: names[j] for i, j in enumerate(layout.twins(graph, x))}
    assert twin == {1: 1, 2: 2, 3: 3, 10: 10, 11: 10, 12: 12, 20: 20, 21: 20, 22: 20}
    x[names.index(21), 1] = -0.0                            # another bit is another row
    assert names[layout.twins(graph, x)[names.index(21)]] == 21


def test_columns_of_twins_add_up():
    """A matrix with twins' columns added has only the first ones' filled and makes the same product, if z agrees."""
    matrix = scipy.sparse.random(9, 6, 0.6, format="csr", rng=np.random.default_rng(0))
    before, twin = matrix.toarray(), np.array([0, 1, 0, 3, 1, 0])
    added = layout.add_columns(matrix, twin)
    z = np.random.default_rng(1).random((6, 4))[twin]
    np.testing.assert_allclose(added @ z, matrix @ z, rtol=1e-12)
    assert not added.toarray()[:, [2, 4, 5]].any() and added.nnz < matrix.nnz
    assert (matrix.toarray() == before).all(), "the matrix itself stays"


@pytest.mark.parametrize("worth", [0.8, 0.5])
def test_empty_columns_go_and_the_product_stays(worth):
    """Without its empty columns the matrix makes the same product of the rows that are left; few of them stay."""
    dense = np.zeros((4, 5), np.float32)
    dense[[0, 0, 2], [1, 4, 3]] = [0.5, 0.25, 2]            # 3 of 5 columns are used
    matrix, used = layout.without_empty_columns(scipy.sparse.csr_matrix(dense), worth)
    if worth == 0.5:
        assert used is None and (matrix.toarray() == dense).all()
    else:
        assert used.tolist() == [1, 3, 4] and (matrix.toarray() == dense[:, used]).all()


@pytest.mark.parametrize("alike", [False, True])
def test_nodes_alike_share_rows_and_states(alike):
    """Absent nodes share one row of a day, twins one row, column and state: fewer than day t has nodes."""
    *_, plain_window, window = networks(True, some_days(4, alike=alike), torch.float32)
    n_nodes = window.n_hosts + window.n_ports
    sizes = [len(node.unique()) for *_, node in plain_window.days]
    for day, size in zip(window.days[:-1], sizes):
        assert size < n_nodes and day.S.shape[0] <= size
    last = window.days[-1]
    assert (last.S.shape[0] < n_nodes, last.S.shape[1] < n_nodes) == (alike, alike)
    states = len(last.now) if last.now is not None else last.S.shape[0]
    assert (states < n_nodes) == alike and states == (n_nodes if window.state is None else window.state.max() + 1)


def test_columns_that_no_wanted_row_touches_go():
    """Of an earlier day on which few of today's nodes were active only their neighbourhood is left."""
    network, days = Network(True, 37, 8, 6, 4, 3), []
    for hosts in (np.arange(50), np.array([0, 100, 101])):  # a port per host: the two days share one of each
        graph, _ = graphs.build_graph(np.repeat(hosts, 5).astype(np.uint32), np.repeat(hosts, 5))
        days.append(network.snapshot(graph, np.random.default_rng(0).random((2 * len(hosts), 37), np.float32)))
    first, last = network.window(days).days
    assert first.S.shape == (3, 3) and first.Ax.shape == (3, 37)  # host 0, port 0, and what all absent nodes share
    assert last.S.shape[0] == 6


def test_a_gradient_reaches_the_input_of_a_propagation():
    """An Operator's gradient with respect to z is A^T g (checked numerically)."""
    graph, _ = some_days(1)[0]
    operator = layout.operator_of(graphs.normalized_adjacency(graph).astype(np.float64), "cpu")
    assert (operator.A_T.to_dense() == operator.A.to_dense().T).all() and operator.shape == operator.A.shape
    z = torch.randn(operator.shape[1], 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: operator @ z, z)
