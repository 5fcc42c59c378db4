import numpy as np
import pytest
import scipy.stats

from beyond import ranks


@pytest.mark.parametrize("n_hosts", [0, 1, 2, 7, 200, 201])
def test_rank_scaling_is_normal_scores(n_hosts):
    """Hosts and ports separately, each column is norm.ppf((rankdata - 0.5) / n): ties, constants and one node too."""
    rng = np.random.default_rng(n_hosts)
    x = np.stack([rng.integers(0, high, 201).astype(np.float64) for high in (1, 2, 5, 1000)]
                 + [rng.lognormal(0, 5, 201), np.arange(201)], axis=1)
    scaled = ranks.scale_by_rank(x, n_hosts)
    assert scaled.dtype == np.float32 and scaled.shape == x.shape
    for rows in (slice(0, n_hosts), slice(n_hosts, None)):
        n = len(x[rows])
        for column in range(x.shape[1] if n else 0):
            expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x[rows, column]) - 0.5) / n)
            np.testing.assert_allclose(scaled[rows, column], expected, rtol=1e-6, atol=1e-7)


def test_rank_scaling_by_hand():
    """Three values, two of them equal: ranks 1.5, 1.5, 3; a constant column is 0, exactly; so is a single node."""
    scaled = ranks.scale_by_rank(np.array([[4, 7.3], [9, 7.3], [4, 7.3], [1, 2]]), 3)
    np.testing.assert_allclose(scaled[:3, 0], scipy.stats.norm.ppf([1 / 3, 5 / 6, 1 / 3]), rtol=1e-6)
    assert not scaled[:, 1].any() and not scaled[3].any()


def test_rank_scaling_knows_only_order():
    """A strictly increasing function of a column changes nothing; a decreasing one changes the sign."""
    x = np.random.default_rng(0).integers(1, 50, (300, 3)).astype(np.float64)
    scaled = ranks.scale_by_rank(x, 100)
    for f in (np.log, np.exp, lambda x: 3 * x - 1e4):
        assert (ranks.scale_by_rank(f(x), 100) == scaled).all()
    np.testing.assert_allclose(ranks.scale_by_rank(-x, 100), -scaled, rtol=1e-6, atol=1e-7)


def test_rank_scaling_keeps_hosts_and_ports_apart():
    """Another port changes no host's scores, and another host no port's."""
    x = np.random.default_rng(1).random((50, 4))
    for changed, kept in ((slice(20, None), slice(0, 20)), (slice(0, 20), slice(20, None))):
        y = x.copy()
        y[changed] = np.random.default_rng(2).random(y[changed].shape) * 9
        assert (ranks.scale_by_rank(y, 20)[kept] == ranks.scale_by_rank(x, 20)[kept]).all()
        assert (ranks.scale_by_rank(y, 20)[changed] != ranks.scale_by_rank(x, 20)[changed]).any()


def test_rank_scaling_ties_what_only_rounding_tells_apart():
    """The same packets split over edges differently have the same deviation but for its last bits: equal scores."""
    x = np.array([[0.1 + 0.2], [0.3], [5.0]])
    assert x[0] != x[1]
    scaled = ranks.scale_by_rank(x, 3)
    assert scaled[0] == scaled[1] < scaled[2]


def test_scores_of_a_share_are_those_of_the_whole():
    """Ranks of some of the nodes among all n give these nodes' rows: what a process with a share of them needs."""
    x = np.random.default_rng(3).integers(0, 9, (100, 4)).astype(np.float64)
    r = ranks.average_ranks(x)
    assert (ranks.normal_scores(r[20:30], 100) == ranks.scale_by_rank(x, 100)[20:30]).all()
