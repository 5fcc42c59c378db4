"""fast.spanning_tree against beyond.campaigns and a dense form: clusters, copies, lattices, zero and random rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fast
from beyond import campaigns
from fast import neighbours, pruned, trees
from tests.fast.days import DEVICES

on_every_device = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks small enough that a few hundred rows have many; all is pruned, whether it pays or not."""
    for module, name, value in ((trees, "FROM", 2), (trees, "SIZE", 24), (trees, "AT_ONCE", 1 << 12),
                                (trees, "SAMPLE", 3), (pruned, "SIZE", 96), (pruned, "AT_ONCE", 3),
                                (campaigns, "NEAR", 4)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(pruned, "pays", lambda *arguments: True)


def clusters(n, width, spread, seed=0):
    """(n, width) float64 rows around n / 40 random directions, each with a spread of its own, in no order."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(max(2, n // 40), width, generator=generator, dtype=torch.float64)
    x = centre[torch.randint(len(centre), (n,), generator=generator)]
    own = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return x + spread * own * torch.randn(n, width, generator=generator, dtype=torch.float64)


def copied(n, width, seed=0):
    """(n, width) rows of which about n / 5 are distinct, some of them many times."""
    generator = torch.Generator().manual_seed(seed)
    of = (torch.rand(n, generator=generator).square() * n / 5).long()
    return clusters(n, width, 0.3, seed)[of]


def dense_tree(x, min_samples):
    """The only least tree by (reach, distance, lower row, higher row), by Prim's algorithm on all pairs: its edges."""
    n = len(x)
    row = torch.arange(n).repeat_interleave(n)
    d = campaigns.distance(x, row, torch.arange(n).repeat(n)).view(n, n).numpy()
    core = np.sort(d, 1)[:, min_samples - 1]
    reach = np.maximum(d, np.maximum(core[:, None], core))
    low, high = np.minimum(*np.indices((n, n))), np.maximum(*np.indices((n, n)))
    rank = np.empty(n * n, np.int64)
    rank[np.lexsort([high.ravel(), low.ravel(), d.ravel(), reach.ravel()])] = np.arange(n * n)
    rank = rank.reshape(n, n)
    least, end, inside, edges = rank[0].copy(), np.zeros(n, int), np.arange(n) == 0, []
    while not inside.all():
        new = np.where(inside, n * n, least).argmin()
        edges.append((end[new], new))
        inside[new] = True
        end = np.where(rank[new] < least, new, end)
        least = np.minimum(least, rank[new])
    a, b = np.sort(edges, 1).T
    order = np.lexsort([b, a, d[a, b], reach[a, b]])
    return a[order], b[order], reach[a, b][order]


def same_tree(found, expected):
    """Whether two trees have the same edges, in the same order, and equal weights to the last bit."""
    return all(np.array_equal(np.sort(pair, 0), np.sort(other, 0)) for pair, other in
               ((found[:2], expected[:2]), (found[2:], expected[2:])))


@on_every_device
@pytest.mark.parametrize("min_samples", [1, 2, 5, 20])
@pytest.mark.parametrize("spread", [1e-9, 1e-5, 0.003, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("n", [47, 49, 300, 961])
def test_the_tree_is_that_of_all_pairs(device, n, spread, min_samples):
    """Of rows in clusters tighter than any product tells, loose ones and none: the edges of the dense form, weights to
    the last bit."""
    x = campaigns.unit(clusters(n, 7, spread).to(device))
    assert same_tree(fast.spanning_tree(x, min_samples), dense_tree(x.cpu(), min_samples))


@pytest.mark.parametrize("min_samples", [1, 3, 8, 30])
@pytest.mark.parametrize("n", [60, 500])
def test_of_copies_as_well(n, min_samples):
    """Many equal rows, more and fewer of one than min_samples: the dense form's edges and weights."""
    for seed in range(3):
        x = campaigns.unit(copied(n, 5, seed))
        assert same_tree(fast.spanning_tree(x, min_samples), dense_tree(x, min_samples))


@given(st.integers(2, 90), st.integers(1, 4), st.integers(1, 12), st.integers(0, 10**6), st.booleans())
@settings(max_examples=150, deadline=None)
def test_of_lattices_as_well(n, width, min_samples, seed, narrow):
    """Rows with few distinct directions, so that distances tie everywhere: the weights of the dense form."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(-2, 3, (n, width)).astype(np.float32 if narrow else np.float64))
    x[(x == 0).all(1)] = 1
    x, min_samples = campaigns.unit(x), min(n, min_samples)
    a, b, weight = fast.spanning_tree(x, min_samples)
    np.testing.assert_allclose(weight, dense_tree(x, min_samples)[2], rtol=0, atol=1e-15)
    assert len(set(zip(np.minimum(a, b), np.maximum(a, b)))) == n - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [lambda seed: clusters(700, 6, 0.2, seed), lambda seed: clusters(700, 37, 1.0, seed),
                                  lambda seed: copied(700, 6, seed)])
def test_campaigns_are_those_of_the_plain_form(kind, dtype):
    """Labels and memberships from the pruned tree are those of campaigns.campaigns alone."""
    for seed in range(4):
        x = kind(seed).to(dtype)
        label, membership = campaigns.campaigns(x, 5, tree=fast.spanning_tree)
        plain, expected = campaigns.campaigns(x, 5)
        assert (label == plain).all() and label.max() > 0
        np.testing.assert_allclose(membership, expected, rtol=0, atol=1e-12)


def test_all_rows_equal_and_zero_rows(monkeypatch):
    """Copies of one row are a star of weight 0; where a row is zero the plain form has the tree."""
    a, b, weight = fast.spanning_tree(campaigns.unit(torch.ones(200, 3)), 5)
    assert (a == 0).all() and (b == np.arange(1, 200)).all() and (weight == 0).all()
    x = campaigns.unit(torch.cat([clusters(100, 3, 0.3), torch.zeros(2, 3)]))
    for part, expected in zip(fast.spanning_tree(x, 5), campaigns.spanning_tree(x, 5)):
        assert np.array_equal(part, expected)


def test_where_pruning_does_not_pay(monkeypatch):
    """Near rows by fast.neighbours, where pruning gives up or so many are wanted, make the same tree."""
    x = campaigns.unit(clusters(400, 5, 0.2))
    asked, plain = [], neighbours.nearest

    def nearest(x, k):
        asked.append(k)
        return plain(x, k)
    monkeypatch.setattr(neighbours, "nearest", nearest)
    assert same_tree(fast.spanning_tree(x, 30), dense_tree(x, 30))
    monkeypatch.setattr(pruned, "pays", lambda *arguments: False)
    assert same_tree(fast.spanning_tree(x, 5), dense_tree(x, 5))
    assert asked == [30, 5]


def test_few_pairs_are_looked_at(monkeypatch):
    """In all rounds together the pairs looked at are a small share of all."""
    seen, plain = [], trees.look_into

    def look_into(rows, blocks, of, enter, place, f, bar, some, block):
        seen.append(len(some) * trees.SIZE)
        plain(rows, blocks, of, enter, place, f, bar, some, block)
    monkeypatch.setattr(trees, "look_into", look_into)
    x = campaigns.unit(clusters(4000, 5, 0.3))
    fast.spanning_tree(x, 5)
    assert 0 < sum(seen) < 0.3 * 4000**2


def test_equal_rows_are_one():
    """-0 and 0 are equal; rows come in the order in which each is first."""
    x = torch.tensor([[3.0, 0], [1, 2], [3, -0.0], [0, 1], [1, 2], [3, 0]], dtype=torch.float64)
    first, of, count = trees.distinct(x)
    assert (first.tolist(), of.tolist(), count.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1, 0], [3, 2, 1])


def test_a_tree_again_gives_the_same_bytes():
    """Two calls give equal edges and weights."""
    x = campaigns.unit(clusters(900, 37, 0.3).float())
    for part, again in zip(fast.spanning_tree(x, 5), fast.spanning_tree(x, 5)):
        assert np.array_equal(part, again)
