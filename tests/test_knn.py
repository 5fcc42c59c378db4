import itertools

import numpy as np
import pytest
import torch

import knn

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def brute_force(x, k, metric, exclude_self, queries=None):
    """Neighbours by full float64 similarity and a stable sort: equal similarity by increasing number."""
    x = x.double().cpu().numpy()
    q = x if queries is None else queries.double().cpu().numpy()
    if metric == "cosine":
        def unit(v):
            return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
        s = unit(q) @ unit(x).T
    else:
        s = -np.sqrt(((q[:, None] - x[None]) ** 2).sum(2))
    s = np.round(s, 9)
    if exclude_self and queries is None:
        np.fill_diagonal(s, -np.inf)
        k = min(k, len(x) - 1)
    order = np.argsort(-s, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(s, order, 1), order


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("k", [1, 3, 50, 99])
def test_neighbours_equal_brute_force(device, metric, exclude_self, k):
    """Blocks of any size give the neighbours and similarities of the full matrix, also for k >= n."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    expected_s, expected = brute_force(x, k, metric, exclude_self)
    for block in (16384, 50, 11, 1):
        s, at = knn.nearest(x, k, metric, exclude_self, block=block)
        assert (at.cpu().numpy() == expected).all()
        np.testing.assert_allclose(s.cpu().numpy(), expected_s, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ties_and_duplicates_come_by_number(device, metric):
    """Equally similar rows, exact duplicates among them, come by increasing number, whatever the blocks."""
    generator = torch.Generator().manual_seed(1)
    signs = torch.randint(0, 2, (30, 4), generator=generator) * 2 - 1
    axes = torch.eye(4)[torch.randint(0, 4, (30,), generator=generator)]
    x = torch.cat([signs, axes]).double().to(device)        # norms 2 and 1: every similarity is exact
    for exclude_self in (True, False):
        for k in (1, 3, 20):
            _, expected = brute_force(x, k, metric, exclude_self)
            for block in (16384, 13):
                _, at = knn.nearest(x, k, metric, exclude_self, block=block)
                assert (at.cpu().numpy() == expected).all()


def test_all_rows_equal():
    """n copies of one row: everyone's neighbours are the first others."""
    _, at = knn.nearest(torch.ones(6, 2), 2)
    assert at.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]


def test_queries_are_searched_among_x():
    """Other queries than x itself see all of x."""
    x, q = torch.randn(70, 4).double(), torch.randn(25, 4).double()
    for metric in ("cosine", "euclidean"):
        for query_block, block in ((None, None), (7, 33), (25, 1)):
            _, at = knn.nearest(x, 3, metric, queries=q, query_block=query_block, block=block)
            assert (at.numpy() == brute_force(x, 3, metric, True, q)[1]).all()


def test_rows_may_lie_in_memory_in_any_way():
    """A transposed x, as queries too, has the neighbours of its contiguous copy."""
    x = torch.randn(6, 48, generator=torch.Generator().manual_seed(0)).T
    for queries in (None, x[:32]):
        ours, copy = (knn.nearest(x.clone(memory_format=form), 3, queries=queries, block=20)
                      for form in (torch.preserve_format, torch.contiguous_format))
        assert torch.equal(ours[1], copy[1])


def test_one_row_has_no_neighbour():
    """n = 1: no columns, and the vote is Unknown with share 0."""
    similarity, at = knn.nearest(torch.ones(1, 4), 3)
    assert similarity.shape == at.shape == (1, 0)
    predicted, share = knn.vote(torch.tensor([2]), at)
    assert predicted.tolist() == [0] and share.tolist() == [0]


def test_euclidean_of_near_duplicates_survives_large_coordinates():
    """Rows far from the origin and close to each other keep their distances: no cancellation."""
    x = torch.tensor([[1000.0, 1000.0], [1000.5, 1000.0], [1000.0, 1000.25]])
    distance, at = knn.nearest(x, 2, "euclidean")
    assert at.tolist() == [[2, 1], [0, 2], [0, 1]]
    np.testing.assert_allclose(-distance[0].numpy(), [0.25, 0.5], rtol=1e-6)
    x = torch.tensor([[1.6e9], [1.6e9 + 1], [1.6e9 + 3], [1.6e9 + 7]], dtype=torch.float64)  # seconds since 1970, say
    distance, at = knn.nearest(x, 1, "euclidean", queries=x - 0.25, exclude_self=False)
    assert at[:, 0].tolist() == [0, 1, 2, 3] and (distance == -0.25).all()


def test_tiny_and_huge_rows_keep_their_direction():
    """The cosine of rows whose squares leave float32's range is that of the same rows of ordinary length."""
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    expected = knn.nearest(x, 3)
    f32, f64 = torch.float32, torch.float64
    for scale, dtype in ((1e-30, f32), (1e30, f32), (1e-200, f64), (1e200, f64)):
        similarity, at = knn.nearest(x.to(dtype) * scale, 3)
        assert torch.equal(at, expected[1])
        torch.testing.assert_close(similarity.to(f32), expected[0])
    for value in (3e38, 1e-40):
        torch.testing.assert_close(knn.unit(torch.full((1, 4), value)), torch.full((1, 4), 0.5))
    for value in (60_000, 1e-5):                            # half precision: what 1e15 would be there is infinite
        x = torch.full((1, 4), value, dtype=torch.float16)
        torch.testing.assert_close(knn.unit(x), torch.full((1, 4), 0.5, dtype=torch.float16))


def test_numbers_that_are_none_are_refused():
    """A row with nan or inf, which would spoil the neighbours of others, is a ValueError; no gradient is kept."""
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.randn(60, 4)
        for arguments in ({"x": x.clone()}, {"x": torch.randn(9, 4), "queries": x.clone()}):
            arguments.get("queries", arguments["x"])[7, 2] = value
            with pytest.raises(ValueError, match="expected finite numbers"):
                knn.nearest(**arguments, k=3)
    assert not knn.nearest(torch.randn(60, 4, requires_grad=True), 3)[0].requires_grad


def test_no_rows_have_no_neighbours():
    """An empty x gives empty results, of the metric's type."""
    for metric, dtype in (("cosine", torch.float32), ("euclidean", torch.float64)):
        similarity, at = knn.nearest(torch.empty(0, 4), 3, metric)
        assert at.shape == similarity.shape == (0, 0) and similarity.dtype == dtype


def test_bad_arguments_are_refused():
    """Another metric, k or a block below 1, rows of another width or type are ValueErrors; whole numbers are not."""
    for arguments in ({"metric": "l1"}, {"k": 0}, {"queries": torch.ones(2, 3)}, {"block": -1}, {"query_block": 0},
                      {"queries": torch.ones(2, 2).double()}):
        with pytest.raises(ValueError, match=r"metric must be|expected k >= 1|expected blocks of 1 row or more"):
            knn.nearest(torch.ones(4, 2), **{"k": 1, **arguments})
    x = torch.randint(-9, 9, (30, 4), generator=torch.Generator().manual_seed(0))
    for metric in ("cosine", "euclidean"):
        assert torch.equal(knn.nearest(x, 3, metric)[1], knn.nearest(x.double(), 3, metric)[1])


def test_standardize():
    """Mean 0 and population deviation 1 per dimension; a constant dimension becomes 0."""
    x = torch.randn(40, 3).double() * 5 + 2
    x[:, 1] = 7
    z = knn.standardize(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(0, correction=0), [1, 0, 1], atol=1e-12)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_a_constant_dimension_becomes_zero_in_float32(value):
    """A column of equal values is 0 after standardizing, also where its float32 mean is not that value."""
    x = torch.randn(7566, 3)
    x[:, 1] = value
    assert not knn.standardize(x)[:, 1].any()


def test_vote_and_its_ties():
    """Majority wins; a tie goes to the label of the nearest neighbour among the tied."""
    labels = torch.tensor([0, 1, 2, 3])
    neighbours = torch.tensor([[1, 2, 2], [1, 2, 3], [3, 1, 1], [0, 0, 1]])
    predicted, share = knn.vote(labels, neighbours)
    assert predicted.tolist() == [2, 1, 1, 0]
    np.testing.assert_allclose(share, [2 / 3, 1 / 3, 2 / 3, 2 / 3], rtol=1e-6)
    assert knn.vote(labels, torch.tensor([[0, 3, 2, 3, 2]]))[0].tolist() == [3]


def test_small_classes_are_unknown():
    """Ten hosts make a class Unknown, eleven keep it."""
    labels = torch.tensor([1] * 10 + [2] * 11 + [0] * 3)
    assert knn.small_to_unknown(labels, 3).tolist() == [0] * 10 + [2] * 11 + [0] * 3


def test_report_by_hand():
    """Precision, recall, F1, support and macro average of a case worked out by hand; Unknown rows do not count."""
    labels = torch.tensor([1, 1, 1, 1, 2, 2, 3, 0, 0])
    predicted = torch.tensor([1, 1, 0, 2, 2, 1, 1, 2, 0])
    report = knn.classification_report(labels, predicted, 5)
    assert report.classes.tolist() == [1, 2, 3] and report.support.tolist() == [4, 2, 1]
    np.testing.assert_allclose(report.precision, [2 / 4, 1 / 2, 0])
    np.testing.assert_allclose(report.recall, [2 / 4, 1 / 2, 0])
    np.testing.assert_allclose(report.f1, [1 / 2, 1 / 2, 0])
    assert report.macro_f1 == pytest.approx(1 / 3)


def test_report_without_labels_is_empty():
    """Nothing but Unknown: no class, macro F1 not a number."""
    report = knn.classification_report(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 0, 1]), 2)
    assert len(report.classes) == 0 and np.isnan(report.macro_f1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 3, 8, 9, 40])
@pytest.mark.parametrize(("group", "tile"), [(16, 2048), (16, 1 << 20), (2, 1)])
def test_groups_and_tiles_lose_no_neighbour(device, k, group, tile, monkeypatch):
    """Over many groups, tiles and blocks, with many equal similarities, it is the full matrix's stable sort."""
    monkeypatch.setattr(knn, "GROUP", group)
    monkeypatch.setattr(knn, "BLOCKS", {device: knn.Blocks(64, 160, 90, tile)})
    of = torch.randint(0, 9, (500, 2), generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.one_hot(of, 9).sum(1)[:, :8].float().to(device)  # e_i + e_j: few distinct similarities
    for queries in (None, x[:70]):
        s = knn.unit(x if queries is None else queries) @ knn.unit(x).T
        if queries is None:
            s.fill_diagonal_(-2)
        expected = s.sort(dim=1, descending=True, stable=True)[1][:, :k]
        assert torch.equal(knn.nearest(x, k, queries=queries)[1], expected)


@pytest.mark.parametrize("k", [1, 8, 9, 30])
def test_top_is_a_stable_sort(k):
    """Few and many k alike: the first k of a stable descending sort, with ties, infinities apart."""
    s = torch.randint(0, 6, (50, 20), generator=torch.Generator().manual_seed(0)).float()
    expected = [part[:, :k] for part in s.sort(dim=1, descending=True, stable=True)]
    assert all(torch.equal(a, b) for a, b in zip(knn.top(s, k), expected))


def test_the_full_matrix_is_never_formed(monkeypatch):
    """Peak: no product of more than query_block x block similarities (block x block), and one buffer for all."""
    seen, plain = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: plain(a, b, out=out) if seen.append(
        (len(a), b.shape[1], out.untyped_storage().data_ptr())) is None else None)
    x = torch.randn(100, 4)
    for queries, width in ((x[:50], 16), (None, 32)):
        seen.clear()
        knn.nearest(x, 3, queries=queries, query_block=16, block=32)
        assert seen and max(c for c, _, _ in seen) <= 32 and max(q for _, q, _ in seen) <= width
        assert len({storage for _, _, storage in seen}) == 1


def test_among_themselves_two_blocks_are_multiplied_once(monkeypatch):
    """Blocks above the diagonal are never multiplied: of 10 x 10 blocks 55 are."""
    seen, plain = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: plain(a, b, out=out) if seen.append(
        len(a) * b.shape[1]) is None else None)
    knn.nearest(torch.randn(320, 4), 3, block=32)
    assert sum(seen) == 55 * 32 * 32


def agreement_by_hand(addresses, neighbours):
    """Host by host: (hosts that share their /24, of those the ones with a neighbour in it)."""
    shared = agreed = 0
    for i, address in enumerate(addresses):
        if any(other >> 8 == address >> 8 for j, other in enumerate(addresses) if j != i):
            shared += 1
            agreed += any(addresses[j] >> 8 == address >> 8 for j in neighbours[i])
    return shared, agreed


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 3, 60])
def test_subnet_agreement_equals_a_loop_over_hosts(device, k):
    """The share of hosts with a neighbour of their /24, among those that share it, counted host by host."""
    rng = np.random.default_rng(k)
    addresses = np.unique(rng.integers(0, 20, 40) << 8 | rng.integers(0, 256, 40)) + (223 << 24)
    x = torch.from_numpy(rng.normal(size=(len(addresses), 4)) + 1.5 * rng.normal(size=(20, 4))[addresses >> 8 & 255])
    neighbours = knn.nearest(x, k)[1]
    shared, agreed = agreement_by_hand(addresses.tolist(), neighbours.tolist())
    assert 0 < shared < len(addresses) and (k != 1 or 0 < agreed < shared)
    agreement, _ = knn.subnet_agreement(torch.from_numpy(addresses).to(device), neighbours.to(device))
    assert agreement == pytest.approx(agreed / shared, abs=1e-15)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", range(8))
def test_chance_agreement_is_the_mean_over_all_draws(device, k):
    """chance is the mean agreement over every set of k other hosts, enumerated; 1 with all of them, k = n - 1."""
    subnets = [0, 0, 0, 1, 1, 2, 3, 0]
    addresses = [subnet << 8 | i for i, subnet in enumerate(subnets)]
    per_host = []
    for i, subnet in enumerate(subnets):
        if subnets.count(subnet) > 1:
            draws = list(itertools.combinations([j for j in range(8) if j != i], k))
            per_host.append(np.mean([any(subnets[j] == subnet for j in draw) for draw in draws]))
    neighbours = knn.nearest(torch.randn(8, 3), k)[1] if k else torch.empty(8, 0, dtype=torch.int64)
    agreement, chance = knn.subnet_agreement(torch.tensor(addresses, device=device), neighbours.to(device))
    assert chance == pytest.approx(np.mean(per_host), abs=1e-12)
    if k in (0, 7):
        assert agreement == chance == (k == 7)


def test_random_neighbours_agree_by_chance():
    """k distinct neighbours drawn at random give the agreement that chance foretells, within 4 standard errors."""
    generator = torch.Generator().manual_seed(0)
    addresses = torch.arange(60) % 25 << 8 | torch.arange(60)
    found = []
    for _ in range(300):
        draws = torch.rand(60, 60, generator=generator).fill_diagonal_(2).argsort(1)[:, :4]
        agreement, chance = knn.subnet_agreement(addresses, draws)
        found.append(agreement)
    assert abs(np.mean(found) - chance) < 4 * np.std(found) / np.sqrt(len(found))


def test_chance_agreement_of_many_hosts_keeps_its_digits():
    """A million hosts, pairs of which share a /24: chance is k / (n - 1), with no factorial to overflow."""
    n = 1_000_000
    addresses = (torch.arange(n) // 2 << 8) + torch.arange(n) % 2
    _, chance = knn.subnet_agreement(addresses, torch.zeros(n, 3, dtype=torch.int64))
    assert chance == pytest.approx(3 / (n - 1), rel=1e-12)


def test_no_shared_subnet_no_agreement():
    """Without two hosts of one /24, none or one host included, agreement and chance are not numbers."""
    for n in (0, 1, 5):
        agreement, chance = knn.subnet_agreement(torch.arange(n) << 8, knn.nearest(torch.randn(n, 2), 3)[1])
        assert np.isnan(agreement) and np.isnan(chance)


def test_subnet_agreement_refuses_what_does_not_fit():
    """Shapes of other hosts, and values that are no IPv4 addresses, are ValueErrors that say so."""
    neighbours = torch.tensor([[1], [0]])
    with pytest.raises(ValueError, match=r"addresses \(n,\) and neighbours \(n, k\), got \(3,\) and \(2, 1\)"):
        knn.subnet_agreement(torch.arange(3), neighbours)
    with pytest.raises(ValueError, match=r"integers in \[0, 2\^32\), got torch.int64, -1..5"):
        knn.subnet_agreement(torch.tensor([-1, 5]), neighbours)
    with pytest.raises(ValueError, match=r"integers in \[0, 2\^32\), got torch.float32"):
        knn.subnet_agreement(torch.rand(2), neighbours)
