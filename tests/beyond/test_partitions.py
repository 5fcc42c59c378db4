"""Adjusted Rand, adjusted mutual information and pairs kept together."""

import itertools

import numpy as np
import pytest

from beyond import partitions


def test_equal_to_scikit_learn():
    """Both indices on random groupings of many sizes."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(2, 80))
        a, b = rng.integers(-1, rng.integers(1, 20), n), rng.integers(0, rng.integers(1, 20), n)
        b = np.where(rng.random(n) < rng.random(), a, b)
        assert partitions.adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b))
        assert partitions.adjusted_mutual_information(a, b) == pytest.approx(
            metrics.adjusted_mutual_info_score(a, b), abs=1e-9)


def test_agreement_and_nothing_to_compare():
    """Renamed groups agree fully; one thing or none cannot be compared."""
    a = np.array([0, 0, 1, 1, 2])
    for index in (partitions.adjusted_rand, partitions.adjusted_mutual_information):
        assert index(a, 7 - a) == pytest.approx(1) and np.isnan(index(a[:1], a[:1])) and np.isnan(index(a[:0], a[:0]))


def test_pairs_kept_by_hand():
    """Counted pair by pair; things in no group keep no pair together."""
    rng = np.random.default_rng(1)
    groups, of = rng.integers(-1, 4, 30), rng.integers(0, 6, 30)
    every = list(itertools.combinations(range(30), 2))
    together = [groups[i] == groups[j] >= 0 for i, j in every]
    alike = [of[i] == of[j] for i, j in every]
    share, chance = partitions.pairs_kept(groups, of)
    assert chance == pytest.approx(np.mean(together))
    assert share == pytest.approx(np.mean([t for t, same in zip(together, alike) if same]))
    assert all(np.isnan(value) for value in partitions.pairs_kept(groups[:1], of[:1]))
    assert partitions.pairs_kept(np.array([-1, -1]), np.array([3, 3])) == (0, 0)
