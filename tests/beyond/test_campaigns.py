"""HDBSCAN on torch and scipy, against scikit-learn's and against dense forms written out here."""

import numpy as np
import pytest
import scipy.sparse.csgraph
import torch
from scipy.spatial.distance import cdist

from beyond import campaigns


def groups(seed, n=200, width=6, n_groups=7, spread=0.3):
    """Rows around n_groups directions, (n, width) float64."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_groups, width))
    return torch.from_numpy(centres[rng.integers(n_groups, size=n)] + spread * rng.normal(size=(n, width)))


KINDS = {
    "random": lambda seed: groups(seed, spread=1.0),
    "grouped": groups,
    "duplicated": lambda seed: groups(seed)[np.random.default_rng(seed).integers(60, size=200)],
    "tied": lambda seed: groups(seed).round(),              # zero rows among them
}


def dense_reach(x, min_samples):
    """Mutual reachability (n, n) of unit rows, dense."""
    d = cdist(x, x)
    core = np.sort(d, 1)[:, min_samples - 1]
    return np.maximum(d, np.maximum(core[:, None], core))


@pytest.mark.parametrize("min_samples", [1, 2, 5, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_is_the_least(kind, min_samples):
    """The edges' weights, sorted, are those of a dense minimum spanning tree; each is its edge's reachability."""
    for seed in range(4):
        x = campaigns.unit(KINDS[kind](seed))
        reach = dense_reach(x.numpy(), min_samples)
        a, b, weight = campaigns.spanning_tree(x, min_samples)
        dense = scipy.sparse.csgraph.minimum_spanning_tree(reach + 1)  # + 1: to scipy a zero is no edge
        np.testing.assert_allclose(weight, np.sort(dense.data - 1), atol=1e-7)
        np.testing.assert_allclose(weight, reach[a, b], atol=1e-7)
        assert scipy.sparse.csgraph.connected_components(
            scipy.sparse.coo_matrix((np.ones(len(a)), (a, b)), (len(x), len(x))))[0] == 1


def test_blocks_do_not_matter(monkeypatch):
    """Small blocks, few near rows and many full searches give the same tree."""
    x = campaigns.unit(groups(1, 150, spread=0.05))
    whole = campaigns.spanning_tree(x, 5)
    for name, value in (("ROWS", 7), ("COLUMNS", 11), ("NEAR", 4)):
        monkeypatch.setattr(campaigns, name, value)
    for part, expected in zip(campaigns.spanning_tree(x, 5), whole):
        np.testing.assert_allclose(part, expected, atol=1e-12)


def rand_index(a, b):
    return pytest.importorskip("sklearn.metrics").adjusted_rand_score(a, b)


def scikit(x, **settings):
    """scikit-learn's HDBSCAN, fitted on unit rows."""
    return pytest.importorskip("sklearn.cluster").HDBSCAN(copy=True, **settings).fit(campaigns.unit(x).numpy())


@pytest.mark.parametrize("selection", ["mass", "leaf"])
@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_without_ties_equal_to_scikit_learn(kind, selection):
    """Labels up to renaming and memberships; with min_samples 1 no two reachabilities are equal."""
    for seed in range(6):
        x = KINDS[kind](seed)
        theirs = scikit(x, min_cluster_size=4, min_samples=1,
                        cluster_selection_method={"mass": "eom", "leaf": "leaf"}[selection])
        label, membership = campaigns.campaigns(x, 4, 1, selection)
        assert rand_index(label, theirs.labels_) == 1 and ((label < 0) == (theirs.labels_ < 0)).all()
        np.testing.assert_allclose(membership, theirs.probabilities_, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_from_the_same_merges_scikit_learn_has_the_same_campaigns(kind):
    """With ties many trees are the least. From ours scikit-learn's own code makes our labels and memberships."""
    trees = pytest.importorskip("sklearn.cluster._hdbscan._tree")
    for seed in range(6):
        x = KINDS[kind](seed)
        child, weight, size = campaigns.single_linkage(*campaigns.spanning_tree(campaigns.unit(x), 5))
        merges = np.zeros(len(child), trees.HIERARCHY_dtype)
        merges["left_node"], merges["right_node"] = np.array(child).T
        merges["value"], merges["cluster_size"] = weight, size[len(x):]
        for selection, method in (("mass", "eom"), ("leaf", "leaf")):
            theirs, probability = trees.tree_to_labels(merges, 5, method)
            label, membership = campaigns.campaigns(x, 5, selection=selection)
            if selection == "leaf" and kind in ("duplicated", "tied"):  # theirs splits equal rows
                continue
            assert rand_index(label, theirs) == 1
            np.testing.assert_allclose(membership, probability, atol=1e-12)


@pytest.mark.parametrize("kind", ["grouped", "duplicated"])
def test_with_ties_near_to_scikit_learn(kind):
    """Core distances tie, and the order of ties is free: the adjusted Rand index stays near 1."""
    near = [rand_index(campaigns.campaigns(x, 5)[0], scikit(x, min_cluster_size=5).labels_)
            for x in (KINDS[kind](seed) for seed in range(8))]
    assert np.mean(near) > 0.9


def test_small_and_degenerate_days():
    """No hosts, too few, equal ones, zero rows only: no campaigns and no error."""
    for x in (torch.zeros(0, 3), torch.ones(1, 3), torch.randn(2, 3), torch.randn(9, 3), torch.ones(40, 3),
              torch.zeros(40, 3)):
        label, membership = campaigns.campaigns(x, 5)
        assert label.shape == membership.shape == (len(x),)
        assert (label == -1).all() and (membership == 0).all()


def test_two_groups_of_equal_rows():
    """Two times five equal rows are two campaigns, the larger or earlier one first, all members whole; a stray none."""
    x = torch.tensor([[0, 1.0]] * 5 + [[1.0, 0]] * 6 + [[-1.0, -1.0]])
    label, membership = campaigns.campaigns(x, 5)
    assert label.tolist() == [1] * 5 + [0] * 6 + [-1]
    assert membership.tolist() == [1] * 11 + [0]


def test_order_and_scale_of_rows_do_not_matter():
    """Rows in another order, or times any positive number, have the same campaigns."""
    x, order = groups(3, spread=0.2), torch.randperm(200, generator=torch.Generator().manual_seed(0))
    label, membership = campaigns.campaigns(x)
    for scale in (1.0, 1e-200, 1e200):
        again, moved = campaigns.campaigns(x[order] * scale)
        assert rand_index(label[order], again) == 1
        np.testing.assert_allclose(membership[order], moved, atol=1e-6)
    assert (campaigns.campaigns(x)[0] == label).all()


@pytest.mark.parametrize("x, settings, expected", [
    (torch.full((9, 2), torch.nan), {}, "expected finite numbers, got nan or inf"),
    (torch.ones(9), {}, r"expected rows x \(n, E\), got \(9,\)"),
    (torch.ones(9, 2), {"min_size": 1}, "min_size of 2 or more and min_samples of 1 or more, got 1, 1"),
    (torch.ones(9, 2), {"min_samples": 0}, "got 5, 0"),
    (torch.ones(9, 2), {"selection": "eom"}, "expected selection mass or leaf, got 'eom'")])
def test_errors(x, settings, expected):
    """What cannot be clustered is one line."""
    with pytest.raises(ValueError, match=expected):
        campaigns.campaigns(x, **settings)
