"""The two searches, knn.nearest and fast.nearest, against brute force and each other."""

import numpy as np
import pytest
import torch

import fast
import knn
from fast import neighbours
from tests.fast.days import DEVICES
from tests.test_knn import brute_force

both = pytest.mark.parametrize("nearest", [knn.nearest, fast.nearest], ids=["plain", "fast"])
on_every_device = pytest.mark.parametrize("device", DEVICES)


@both
@on_every_device
@pytest.mark.parametrize("k", [1, 3, 9, 49, 50, 99])
def test_neighbours_equal_brute_force(nearest, device, k):
    """Blocks of any size give the neighbours and similarities of the full matrix, also for k >= n."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    expected_s, expected = brute_force(x, k)
    assert expected.shape == (50, min(k, 49))
    for query_block, block in ((512, 16384), (512, 50), (50, 11), (11, 50), (7, 17)):
        s, at = nearest(x, k, query_block=query_block, block=block)
        assert (at.cpu().numpy() == expected).all()
        np.testing.assert_allclose(s.cpu().numpy(), expected_s, atol=1e-7)


@both
@pytest.mark.parametrize("k", [1, 5])
def test_blocks_of_one_row(nearest, k):
    """Row against row gives the neighbours of the full matrix."""
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (nearest(x, k, query_block=1, block=1)[1].numpy() == brute_force(x, k)[1]).all()


@both
@on_every_device
@pytest.mark.parametrize("k", [1, 3, 9, 20])
def test_ties_and_duplicates_come_by_number(nearest, device, k):
    """Equally similar rows, exact duplicates among them, come by increasing number, whatever the blocks."""
    generator = torch.Generator().manual_seed(1)
    signs = torch.randint(0, 2, (30, 4), generator=generator) * 2 - 1
    axes = torch.eye(4)[torch.randint(0, 4, (30,), generator=generator)]
    x = torch.cat([signs, axes]).double().to(device)        # norms 2 and 1: every similarity is exact
    for queries in (None, x[10:40].flip(0)):
        _, expected = brute_force(x, k, queries)
        for query_block, block in ((512, 16384), (60, 13), (7, 32)):
            _, at = nearest(x, k, queries, query_block, block)
            assert (at.cpu().numpy() == expected).all()


@both
def test_all_rows_equal(nearest):
    """n copies of one row: everyone's neighbours are the first others."""
    _, at = nearest(torch.ones(6, 2), 2)
    assert at.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]


@both
def test_zero_rows_are_similar_to_nothing(nearest):
    """A zero row has similarity 0 to everything, another zero row included."""
    x = torch.tensor([[1.0, 0], [0, 0], [-1, 0], [0, 0]])
    similarity, at = nearest(x, 3)
    assert at.tolist() == [[1, 3, 2], [0, 2, 3], [1, 3, 0], [0, 1, 2]]
    assert similarity.tolist() == [[0, 0, -1], [0, 0, 0], [0, 0, -1], [0, 0, 0]]


@both
def test_queries_are_searched_among_x(nearest):
    """Other queries than x itself see all of x."""
    x, q = torch.randn(70, 4).double(), torch.randn(25, 4).double()
    for query_block, block in ((512, 16384), (7, 33), (25, 1)):
        _, at = nearest(x, 3, q, query_block, block)
        assert (at.numpy() == brute_force(x, 3, q)[1]).all()
    assert (nearest(x, 70, q)[1].numpy() == brute_force(x, 70, q)[1]).all()
    assert nearest(x, 71, q)[1].shape == (25, 70)


@both
def test_rows_may_lie_in_memory_in_any_way(nearest):
    """A transposed x, as queries too, has the neighbours of its contiguous copy."""
    x = torch.randn(6, 48, generator=torch.Generator().manual_seed(0)).T
    for queries in (None, x[:32]):
        ours, copy = (nearest(x.clone(memory_format=form), 3, queries, block=20)
                      for form in (torch.preserve_format, torch.contiguous_format))
        assert torch.equal(ours[1], copy[1])


@both
def test_one_row_has_no_neighbour(nearest):
    """n = 1: no columns, and the vote is Unknown with share 0."""
    similarity, at = nearest(torch.ones(1, 4), 3)
    assert similarity.shape == at.shape == (1, 0)
    predicted, share = knn.vote(torch.tensor([2]), at)
    assert predicted.tolist() == [0] and share.tolist() == [0]


@both
def test_no_rows_have_no_neighbours(nearest):
    """An empty x gives empty results, an empty x or no queries beside others too."""
    similarity, at = nearest(torch.empty(0, 4), 3)
    assert at.shape == similarity.shape == (0, 0) and similarity.dtype == torch.float32
    assert nearest(torch.empty(0, 4), 3, torch.ones(2, 4))[1].shape == (2, 0)
    assert nearest(torch.ones(5, 4), 3, torch.empty(0, 4))[1].shape == (0, 3)


@both
def test_tiny_and_huge_rows_keep_their_direction(nearest):
    """The cosine of rows whose squares leave the type's range is that of the same rows of ordinary length."""
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    expected = nearest(x, 3)
    f32, f64 = torch.float32, torch.float64
    for scale, dtype in ((1e-30, f32), (1e30, f32), (1e-200, f64), (1e200, f64)):
        similarity, at = nearest(x.to(dtype) * scale, 3)
        assert torch.equal(at, expected[1])
        torch.testing.assert_close(similarity.to(f32), expected[0])


@both
def test_numbers_that_are_none_are_refused(nearest):
    """A row with nan or inf, which would spoil the neighbours of others, is a ValueError; no gradient is kept."""
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.randn(60, 4)
        for arguments in ({"x": x.clone()}, {"x": torch.randn(9, 4), "queries": x.clone()}):
            arguments.get("queries", arguments["x"])[7, 2] = value
            with pytest.raises(ValueError, match="expected finite numbers"):
                nearest(**arguments, k=3)
    assert not nearest(torch.randn(60, 4, requires_grad=True), 3)[0].requires_grad


@both
@pytest.mark.parametrize("arguments", [
    {"k": 0}, {"block": -1}, {"query_block": -1}, {"query_block": 0}, {"block": 0}, {"x": torch.ones(4)},
    {"x": torch.tensor(1.0)}, {"x": torch.ones(4, 0)}, {"queries": torch.ones(2, 3)},
    {"queries": torch.ones(2, 2).double()}])
def test_bad_arguments_are_refused(nearest, arguments):
    """k or a block below 1, rows of another width or type, no rows at all are ValueErrors that say so."""
    with pytest.raises(ValueError, match=r"expected k >= 1 and rows of one width|expected blocks of 1 row or more"):
        nearest(**{"x": torch.ones(4, 2), "k": 1, **arguments})


@both
def test_whole_numbers_are_rows_too(nearest):
    """Rows of integers have the neighbours of the same rows in float64."""
    x = torch.randint(-9, 9, (30, 4), generator=torch.Generator().manual_seed(0))
    for queries in (None, x[3:9]):
        found, expected = (nearest(rows, 3, None if queries is None else queries.to(rows)) for rows in (x, x.double()))
        assert torch.equal(found[1], expected[1]) and found[0].dtype == torch.float64


@on_every_device
@pytest.mark.parametrize("n", [15, 16, 17, 100, 333])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_fast_search_is_the_plain_one(device, n, k):
    """Of float32 rows, near duplicates among them, both give one order and nearly the same similarities."""
    x = torch.randint(-2, 3, (n, 4), generator=torch.Generator().manual_seed(n)).float().to(device)
    x[::3] *= 2                                             # another length of the same direction
    for queries in (None, x[: n // 2]):
        plain, quick = (nearest(x, k, queries, 32, 48) for nearest in (knn.nearest, fast.nearest))
        torch.testing.assert_close(quick[0], plain[0])
        same = quick[1] == plain[1]                         # apart from what the last bit of a product decides
        assert same.float().mean() > 0.8
        unit = knn.unit(x)
        similarity = [(unit if queries is None else unit[: n // 2])[:, None] * unit[at] for at in (quick[1], plain[1])]
        torch.testing.assert_close(similarity[0].sum(2), similarity[1].sum(2))


@on_every_device
@pytest.mark.parametrize("k", [1, 3, 8, 9, 40])
@pytest.mark.parametrize(("group", "tile"), [(16, 2048), (16, 1 << 20), (2, 1)])
def test_groups_and_tiles_lose_no_neighbour(device, k, group, tile, monkeypatch):
    """Over many groups, tiles and blocks, with many equal similarities, it is the full matrix's stable sort."""
    monkeypatch.setattr(neighbours, "group_for", lambda k: group)
    monkeypatch.setattr(neighbours, "BLOCKS", {device: neighbours.Blocks(64, 160, 90, tile)})
    of = torch.randint(0, 9, (500, 2), generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.one_hot(of, 9).sum(1)[:, :8].float().to(device)  # e_i + e_j: few distinct similarities
    for queries in (None, x[:70]):
        s = knn.unit(x if queries is None else queries) @ knn.unit(x).T
        if queries is None:
            s.fill_diagonal_(-2)
        expected = s.sort(dim=1, descending=True, stable=True)[1][:, :k]
        assert torch.equal(fast.nearest(x, k, queries=queries)[1], expected)


def products_seen(monkeypatch):
    """A list that torch.mm adds (rows, columns, storage of the result) to from now on."""
    seen, plain = [], torch.mm

    def mm(a, b, out):
        seen.append((len(a), b.shape[1], out.untyped_storage().data_ptr()))
        return plain(a, b, out=out)
    monkeypatch.setattr(torch, "mm", mm)
    return seen


def test_the_full_matrix_is_never_formed(monkeypatch):
    """Peak: no product of more than query_block x block similarities (block x block), and one buffer for all."""
    seen, x = products_seen(monkeypatch), torch.randn(1000, 4)
    for queries, k, height in ((x[:500], 3, 16), (x[:500], 20, 16), (None, 20, 16), (None, 3, 256)):
        seen.clear()
        fast.nearest(x, k, queries, query_block=16, block=256)
        assert seen and max(rows for rows, _, _ in seen) <= height and max(columns for _, columns, _ in seen) <= 256
        assert len({storage for _, _, storage in seen}) == 1


def test_few_queries_take_little_memory(monkeypatch):
    """The buffer has no more rows than there are queries, up to a whole group, however large a product may be."""
    monkeypatch.setattr(neighbours, "BLOCKS", {"cpu": neighbours.BLOCKS["cuda"]})
    sizes, plain = [], torch.mm

    def mm(a, b, out):
        sizes.append(out.untyped_storage().nbytes() // out.itemsize)
        return plain(a, b, out=out)
    monkeypatch.setattr(torch, "mm", mm)
    fast.nearest(torch.randn(1000, 4), 3, torch.randn(1, 4))
    assert sizes == [16 * 1024]


def test_among_themselves_two_blocks_are_multiplied_once(monkeypatch):
    """Blocks above the diagonal are never multiplied for few neighbours: of 10 x 10 blocks 55 are."""
    seen = products_seen(monkeypatch)
    fast.nearest(torch.randn(2560, 4), 3, block=256)
    assert sum(rows * columns for rows, columns, _ in seen) == 55 * 256 * 256


def test_no_block_is_much_shorter_than_the_others():
    """Rows are split evenly, so that no product is left with a few columns: no more blocks than whole ones make."""
    for n in (0, 1, 2559, 2560, 2561, 5000, 10_001):
        size, blocks = neighbours.evenly(n, 2560), -(-n // 2560)
        assert 1 <= size <= 2560 and size * blocks - n < max(1, blocks)


@on_every_device
@pytest.mark.parametrize("k", [1, 3, 20])
def test_copies_of_few_rows_are_not_all_looked_into(device, k, monkeypatch):
    """Where hundreds are equally near, the first ones are found, and of the others few are ever sorted."""
    monkeypatch.setattr(neighbours, "BLOCKS", {device: neighbours.Blocks(256, 256, 256, 1 << 14)})
    merged, plain = [], neighbours.merge

    def merge(row, *arguments, **named):
        merged.append(len(row))
        plain(row, *arguments, **named)
    monkeypatch.setattr(neighbours, "merge", merge)
    x = torch.eye(4).double()[torch.randint(0, 3, (900,), generator=torch.Generator().manual_seed(0))].to(device)
    for queries in (None, x[:256]):
        merged.clear()
        s = (x if queries is None else queries) @ x.T
        if queries is None:
            s.fill_diagonal_(-2)
        expected = s.sort(dim=1, descending=True, stable=True)[1][:, :k]
        assert torch.equal(fast.nearest(x, k, queries)[1], expected)
        assert 0 < max(merged) <= neighbours.MANY * k * neighbours.group_for(k) * 256 and len(s) > len(merged)


def test_a_search_again_gives_the_same_bytes():
    """Two searches in float32 give equal neighbours and similarities, to the last bit."""
    x = torch.randn(3000, 37, generator=torch.Generator().manual_seed(0))
    for k in (3, 50):
        first, again = fast.nearest(x, k), fast.nearest(x, k)
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_are_searched_too(nearest, dtype):
    """Rows of half precision get neighbours in their own type, many equal similarities among them."""
    x = torch.eye(6)[torch.randint(0, 6, (300,), generator=torch.Generator().manual_seed(0))]
    for k in (3, 20):
        similarity, at = nearest(x.to(dtype), k)
        assert similarity.dtype == dtype and torch.equal(at, nearest(x, k)[1])
