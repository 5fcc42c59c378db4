"""knn.py: standardizing, the search by blocks, the vote and its report. tests/fast/test_neighbours.py holds this search
and the fast one to brute force, ties, duplicates and k >= n."""

import numpy as np
import pytest
import torch

import knn


def brute_force(x, k, queries=None):
    """Neighbours by full float64 similarity and a stable sort: equal similarity by increasing number."""
    def unit(v):
        v = v.double().cpu().numpy()
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
    s = np.round(unit(x if queries is None else queries) @ unit(x).T, 9)
    if queries is None:
        np.fill_diagonal(s, -np.inf)
        k = min(k, len(x) - 1)
    order = np.argsort(-s, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(s, order, 1), order


def test_neighbours_by_hand():
    """Four directions in the plane: the nearest by angle, lengths do not matter, no row is its own neighbour."""
    x = torch.tensor([[1.0, 0], [20, 5], [1, 1], [0, 0.1]])
    similarity, at = knn.nearest(x, 2)
    assert at.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_allclose(similarity[0], [20 / 425**0.5, 0.5**0.5], rtol=1e-6)
    assert knn.nearest(x, 1, torch.tensor([[3.0, 3]]))[1].tolist() == [[2]]


def test_the_full_matrix_is_never_formed(monkeypatch):
    """No more than query_block x block similarities are ever looked at together."""
    seen, plain = [], knn.top
    monkeypatch.setattr(knn, "top", lambda s, k: seen.append(s.shape) or plain(s, k))
    knn.nearest(torch.randn(100, 4), 3, query_block=16, block=25)
    assert max(rows for rows, _ in seen) == 16 and max(columns for _, columns in seen) == 25
    assert sum(rows * columns for rows, columns in seen if columns > 6) == 100 * 100


def test_unit_keeps_directions_at_the_ends_of_the_range():
    """Rows whose squares leave the type's range get length 1 like others, in half precision too; zero stays zero."""
    for value in (3e38, 1e-40):
        torch.testing.assert_close(knn.unit(torch.full((1, 4), value)), torch.full((1, 4), 0.5))
    for value in (60_000, 1e-5):                            # half precision: what 1e15 would be there is infinite
        x = torch.full((1, 4), value, dtype=torch.float16)
        torch.testing.assert_close(knn.unit(x), torch.full((1, 4), 0.5, dtype=torch.float16))
    assert knn.unit(torch.zeros(1, 4)).tolist() == [[0] * 4]


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


def test_standardizing_nothing_or_one_row_gives_no_nan():
    """A day with one host, or none, has zeros."""
    assert knn.standardize(torch.empty(0, 3)).shape == (0, 3)
    assert knn.standardize(torch.rand(1, 3)).tolist() == [[0] * 3]


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


@pytest.mark.parametrize("k", [1, 8, 9, 30])
def test_top_is_a_stable_sort(k):
    """Few and many k alike: the first k of a stable descending sort, with ties, infinities apart."""
    s = torch.randint(0, 6, (50, 20), generator=torch.Generator().manual_seed(0)).float()
    expected = [part[:, :k] for part in s.sort(dim=1, descending=True, stable=True)]
    assert all(torch.equal(a, b) for a, b in zip(knn.top(s, k), expected))
