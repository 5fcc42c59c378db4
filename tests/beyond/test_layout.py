"""The map keeps neighbours, stays where it was, and survives every kind of odd day."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fast
import knn
from beyond.layout import EDGE, fuzzy, graph, layout, placed, principal, repel


def blobs(n, parts=8, width=20, seed=0):
    """(x (n, width), part (n,)): Gaussian groups of hosts around random directions."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.randint(parts, (n,), generator=generator)
    centre = torch.randn(parts, width, generator=generator)
    return centre[part] + 0.3 * torch.randn(n, width, generator=generator), part


def kept(x, points, k=10):
    """The mean share of a host's k nearest on the map that are among its 3 k nearest by cosine."""
    near = knn.nearest(x, 3 * k)[1]
    on_map = torch.cdist(points, points).fill_diagonal_(math.inf).topk(k, largest=False)[1]
    return (on_map[:, :, None] == near[:, None]).any(2).float().mean().item()


def test_neighbours_on_the_map_are_neighbours():
    """Of a host's nearest points most are its nearest hosts; on the first two principal axes far fewer are."""
    x, part = blobs(900)
    points = layout(x, nearest=knn.nearest)
    assert points.dtype == torch.float32 and points.shape == (900, 2)
    axes = torch.view_as_real(principal(x))
    assert kept(x, points) > 0.6 > kept(x, axes) + 0.15
    nearest_point = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(1)
    assert (part[nearest_point] == part).float().mean() > 0.98


def test_a_day_like_the_day_before_stays_where_it_was():
    """A host whose embedding changes a little moves little, the map neither turns nor drifts, and keeps neighbours."""
    x, _ = blobs(600)
    before = layout(x, nearest=knn.nearest)
    start, first = before, before
    for day in range(5):
        today = x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(day))
        start, before = layout(today, start, seed=day, nearest=knn.nearest), start
        span = (start.amax(0) - start.amin(0)).max()
        assert (start - before).norm(dim=1).median() < 0.05 * span
    a, b = (torch.view_as_complex(points) for points in (first, start))
    assert abs(torch.angle(a.conj() @ b)) < 0.1 and (a.mean() - b.mean()).abs() < 0.05 * span
    assert kept(today, start) > 0.55


def test_a_new_host_starts_amid_its_neighbours():
    """New hosts stand among those of their group who were there before."""
    x, part = blobs(600)
    start = layout(x, nearest=knn.nearest)
    new = torch.arange(600) % 7 == 0
    start[new] = torch.nan
    points = layout(x, start, nearest=knn.nearest)
    nearest_old = torch.cdist(points[new], points[~new]).argmin(1)
    assert (part[~new][nearest_old] == part[new]).float().mean() > 0.98


def test_placed_by_weighted_mean_and_by_affine_map():
    """A joined new point: the mean of its neighbours by weight. One whom no path joins: the fitted affine map's."""
    x, _ = blobs(30, parts=1)
    edges = graph(torch.tensor([[1.0]] * 30), torch.tensor([[1], [0], *[[i ^ 1] for i in range(2, 30)]]))
    axes = principal(x)
    there = axes * (2 + 1j) - 3 * axes.conj() + 5           # any affine map of the plane
    known = torch.ones(30, dtype=torch.bool)
    known[[0, 4, 5]] = False
    found = placed(there, known, edges, axes)
    assert torch.equal(found[known], there[known]) and torch.allclose(found[0], there[1])
    assert torch.allclose(found[4:6], there[4:6], atol=1e-3)


def test_graph_equals_the_dense_formula():
    """a + b - ab of the two hosts' own weights, scaled to a mean row sum of 1; rows as in the matrix."""
    x, _ = blobs(40)
    similarity, neighbours = knn.nearest(x, 5)
    weight = fuzzy(similarity)
    a = torch.zeros(40, 40, dtype=torch.float64).scatter_(1, neighbours, weight.double())
    a = a + a.T - a * a.T
    row, matrix = graph(weight, neighbours)
    assert torch.allclose(matrix.to_dense().double(), a * 40 / a.sum(), atol=1e-6)
    assert torch.equal(row, matrix.to_sparse_coo().indices()[0])


def test_fuzzy_rows_sum_to_log2_k():
    """The nearest counts 1, a row log2 k together; equal similarities all count 1."""
    weight = fuzzy(knn.nearest(blobs(200)[0], 15)[0])
    assert torch.equal(weight[:, 0], torch.ones(200)) and (weight.sum(1) - math.log2(15)).abs().max() < 0.005
    assert torch.equal(fuzzy(torch.full((2, 4), 0.5)), torch.ones(2, 4))


@pytest.mark.parametrize("spread", [0.5, 2, 10])
def test_repulsion_by_the_grid_is_the_sum_over_all_pairs(spread):
    """Force and Z agree with float64 sums over all pairs, to a few percent."""
    z = spread * torch.randn(400, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    d = (z[:, None] - z).to(torch.complex128)
    q = 1 / (1 + d.abs() ** 2)
    exact, Z = (d * q * q).sum(1), q.sum() - 400
    force, by_grid = repel(z)
    assert (force - exact).abs().square().mean().sqrt() < 0.07 * exact.abs().square().mean().sqrt()
    assert abs(by_grid / Z - 1) < 0.03


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_odd_days_give_finite_points_apart(n, width, kinds, seed):
    """Few hosts, equal rows, zero rows, narrow rows, starts anywhere: finite points, all apart, on the map."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(kinds + 1, width, generator=generator)
    x[0] = 0
    x = x[torch.randint(kinds + 1, (n,), generator=generator)]
    start = 300 * torch.randn(n, 2, generator=generator)
    start[torch.rand(n, generator=generator) < 0.5] = torch.nan
    for points in (layout(x, seed=seed, nearest=knn.nearest), layout(x, start, seed=seed, nearest=fast.nearest)):
        assert points.shape == (n, 2) and (points.abs() <= EDGE).all()
        assert len(points.unique(dim=0)) == n


def test_hosts_without_direction_stand_together():
    """Zero rows are alike: they form a group of their own."""
    x, _ = blobs(400)
    zero = torch.arange(400) % 10 == 0
    x[zero] = 0
    points = layout(x, nearest=knn.nearest)
    nearest_point = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(1)
    assert zero[nearest_point[zero]].all()


def test_no_part_shrinks_the_rest_to_a_dot():
    """Pairs of hosts that no edge joins to the rest stay near it."""
    x = torch.block_diag(blobs(500)[0], *[torch.ones(20, 2)] * 3)
    points = layout(x, nearest=knn.nearest)
    middle, radius = points[:500].mean(0), (points[:500] - points[:500].mean(0)).norm(dim=1)
    assert (points[500:] - middle).norm(dim=1).max() < 1.5 * radius.max()


def test_same_input_same_bytes_whatever_came_before():
    """The layout draws from a generator of its own, and from the seed alone; a silent one."""
    x, _ = blobs(300)
    first = layout(x, seed=3, nearest=fast.nearest)
    torch.rand(7)
    layout(blobs(100)[0], nearest=fast.nearest)
    state = torch.get_rng_state()
    again = layout(x, seed=3, nearest=fast.nearest)
    assert torch.equal(first, again) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, layout(x, seed=4, nearest=fast.nearest))


def test_wrong_input_is_named():
    """Shapes that do not fit and numbers that are not finite raise ValueError."""
    for x, start in ((torch.zeros(3), None), (torch.zeros(3, 2), torch.zeros(2, 2)), (torch.zeros(3, 0), None),
                     (torch.full((3, 2), torch.nan), None)):
        with pytest.raises(ValueError, match="expected"):
            layout(x, start, nearest=knn.nearest)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rows_on_a_gpu():
    """Rows on a GPU give points on the CPU that keep neighbours as well."""
    x, _ = blobs(600)
    points = layout(x.cuda(), nearest=fast.nearest)
    assert points.device.type == "cpu" and kept(x, points) > 0.55
