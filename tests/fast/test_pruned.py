"""fast.pruned against knn.nearest and the full matrix: clusters, copies, random and zero rows; when it gives up."""

import pytest
import torch

import fast
import knn
from fast import neighbours, pruned
from tests.fast.days import DEVICES

on_every_device = pytest.mark.parametrize("device", DEVICES)
either = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks small enough that a few hundred rows have many, and no search that gives up."""
    monkeypatch.setattr(pruned, "FROM", 100)
    monkeypatch.setattr(pruned, "EACH", 0)
    monkeypatch.setattr(pruned, "SIZE", 24)
    monkeypatch.setattr(pruned, "AT_ONCE", 3)
    monkeypatch.setattr(pruned, "pays", lambda *arguments: True)
    monkeypatch.setattr(neighbours, "nearest", None)        # who falls back on it fails


def clusters(n, width, spread, seed=0):
    """(n, width) float64 rows around n / 40 random directions, of different lengths, in no order."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(n // 40, width, generator=generator, dtype=torch.float64)
    x = centre[torch.randint(len(centre), (n,), generator=generator)]
    x = x + spread * torch.randn(n, width, generator=generator, dtype=torch.float64)
    return x * torch.rand(n, 1, generator=generator, dtype=torch.float64).add(0.1)


def exact(x, k):
    """The neighbours by a stable sort of all similarities, which must be exact numbers."""
    s = (knn.unit(x) @ knn.unit(x).T).fill_diagonal_(-2)
    return s.sort(dim=1, descending=True, stable=True)[1][:, :k]


@on_every_device
@pytest.mark.parametrize("n", [100, 383, 1000, 1025])
@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0, 100.0])
def test_neighbours_are_those_of_the_plain_search(device, n, k, spread):
    """Of rows in tight and loose clusters, and in none, the neighbours and similarities are knn.nearest's."""
    x = clusters(n, 7, spread).to(device)
    (s, at), (expected_s, expected) = fast.nearest(x, k), knn.nearest(x, k)
    assert torch.equal(at, expected)
    torch.testing.assert_close(s, expected_s, rtol=0, atol=1e-14)


@on_every_device
@pytest.mark.parametrize("spread", [0.001, 0.01, 0.1, 1.0])
def test_of_float32_only_the_last_bit_decides_otherwise(device, spread):
    """Float32 rows have similarities within rounding of knn.nearest's in every place, and one row in no place twice."""
    x = clusters(900, 37, spread).float().to(device)
    (s, at), (expected_s, _) = fast.nearest(x, 5), knn.nearest(x, 5)
    torch.testing.assert_close(s, expected_s, rtol=0, atol=1e-6)
    of_found = (knn.unit(x)[:, None] * knn.unit(x)[at]).sum(2)
    torch.testing.assert_close(s, of_found, rtol=0, atol=1e-6)
    assert (at.sort(dim=1)[0].diff(dim=1) > 0).all() and (at != torch.arange(900, device=device)[:, None]).all()


@on_every_device
@either
@pytest.mark.parametrize("k", [1, 3, 6])
def test_of_equal_similarities_the_lower_number_comes_first(device, dtype, k):
    """Rows with few distinct, exact similarities and copies in all blocks: the full matrix's stable sort."""
    generator = torch.Generator().manual_seed(1)
    signs = torch.randint(0, 2, (600, 4), generator=generator) * 2 - 1
    axes = torch.eye(4)[torch.randint(0, 4, (300,), generator=generator)]
    x = torch.cat([signs, axes, -axes])[torch.randperm(1200, generator=generator)].to(dtype).to(device)
    assert torch.equal(fast.nearest(x, k)[1], exact(x, k))


@either
def test_copies_come_by_number_wherever_they_lie(dtype):
    """Of random rows with five copies each in no order, every row's first neighbours are its copies by number."""
    generator = torch.Generator().manual_seed(2)
    of = torch.arange(1000)[torch.randperm(1000, generator=generator)] % 200
    x = torch.randn(200, 37, generator=generator, dtype=dtype)[of]
    at = fast.nearest(x, 4)[1]
    assert torch.equal(of[at], of[:, None].expand(-1, 4)) and (at.diff(dim=1) > 0).all()


@on_every_device
def test_all_rows_equal_and_zero_rows(device):
    """Copies of one row have the first others; a zero row is similar 0 to all, and found where all else is opposite."""
    at = fast.nearest(torch.ones(300, 3, device=device), 2)[1]
    assert at[:3].tolist() == [[1, 2], [0, 2], [0, 1]] and (at[3:] == torch.tensor([0, 1], device=device)).all()
    x = torch.zeros(400, 2, device=device)
    x[:200, 0], x[399, 0] = 1, -1
    s, at = fast.nearest(x, 3)
    assert at[399].tolist() == [200, 201, 202] and at[300].tolist() == [0, 1, 2]
    assert s[399].tolist() == s[300].tolist() == [0, 0, 0]


def test_blocks_that_cannot_matter_are_not_multiplied(monkeypatch):
    """Of tight clusters a small share of all pairs is entered."""
    seen, plain = [], pruned.enter

    def enter(u, rows, block, s, *arguments):
        seen.append(s.numel())
        plain(u, rows, block, s, *arguments)
    monkeypatch.setattr(pruned, "enter", enter)
    fast.nearest(clusters(4000, 7, 0.05), 3)
    assert sum(seen) < 0.1 * 4000**2


@either
def test_no_row_is_nearer_than_its_bound(dtype):
    """The bound of every row and block is at least the largest of their similarities, next to it and opposite."""
    for spread in (1e-6, 1e-3, 0.1, 10):
        x = clusters(800, 5, spread)
        f = knn.unit(torch.cat([x, -x, torch.zeros(5, 5)]).to(dtype)).float()
        slack = (5 + 4) * torch.finfo(torch.float32).eps
        order = pruned.compact(f)
        bound = pruned.at_most(f, *pruned.cones(f, order, slack), slack)
        s = torch.nn.functional.pad(f.double() @ f.double().T, (0, 1), value=-2)[:, order].amax(2)
        assert (bound >= s).all() and (bound < 0.9).any()


@pytest.mark.parametrize("n", [100, 191, 193, 1000])
def test_every_row_is_in_one_block(n):
    """The blocks hold every row once, differ by one row at most, and none is above SIZE."""
    order = pruned.compact(clusters(n, 3, 0.1).float())
    held = order[order < n]
    assert torch.equal(held.sort()[0], torch.arange(n)) and order.shape[1] <= pruned.SIZE
    assert ((order == n).sum(1) <= 1).all()


def test_it_is_told_whether_pruning_pays(monkeypatch):
    """Tight clusters pay; random rows do not, nor do many copies of few: those go to neighbours.nearest."""
    monkeypatch.undo()
    monkeypatch.setattr(pruned, "FROM", 2900)
    monkeypatch.setattr(pruned, "SIZE", 48)
    asked, plain = [], neighbours.nearest

    def nearest(x, *arguments):
        asked.append(len(x))
        return plain(x, *arguments)
    monkeypatch.setattr(neighbours, "nearest", nearest)
    random = torch.randn(6000, 37, generator=torch.Generator().manual_seed(0))
    few = torch.eye(37)[torch.arange(6000) % 37]
    for x, given_up in ((clusters(6000, 37, 0.05), False), (random, True), (few, True)):
        asked.clear()
        assert torch.equal(fast.nearest(x, 3)[1][:50], knn.nearest(x, 3)[1][:50])
        assert bool(asked) == given_up


def test_many_neighbours_are_pruned_among_more_rows_only(monkeypatch):
    """From FROM rows on, and EACH more for each neighbour."""
    monkeypatch.setattr(neighbours, "nearest", lambda *arguments: "all pairs")
    monkeypatch.setattr(pruned, "EACH", 50)
    x = clusters(250, 4, 0.1)
    assert fast.nearest(x[:249], 3) == fast.nearest(x, 4) == "all pairs" and len(fast.nearest(x, 3)[1]) == 250


def test_other_searches_are_not_pruned(monkeypatch):
    """Few rows, queries of their own, named blocks, many neighbours and narrow floats go to neighbours.nearest."""
    monkeypatch.setattr(neighbours, "nearest", lambda *arguments: "all pairs")
    x = torch.randn(200, 4)
    for arguments in ({"x": x[:99], "k": 3}, {"x": x, "k": 3, "queries": x}, {"x": x, "k": 3, "block": 50},
                      {"x": x, "k": 7}, {"x": x.half(), "k": 3}, {"x": x, "k": 0}):
        assert fast.nearest(**arguments) == "all pairs"
    with pytest.raises(ValueError, match="expected finite numbers"):
        fast.nearest(x * torch.inf, 3)


def test_a_search_again_gives_the_same_bytes():
    """Two searches give equal neighbours and similarities, to the last bit."""
    x = clusters(2000, 37, 0.1).float()
    first, again = fast.nearest(x, 3), fast.nearest(x, 3)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
