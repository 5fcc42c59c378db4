import numpy as np
import pytest
import torch

import whiten

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def days(n=200, E=6, seed=0, device="cpu", dtype=torch.float64):
    """X_t, X_s (n, E): hosts that change unevenly, and jointly, in their dimensions."""
    generator = torch.Generator().manual_seed(seed)
    X_s = torch.randn(n, E, generator=generator, dtype=dtype)
    change = torch.randn(n, E, generator=generator, dtype=dtype) @ torch.randn(E, E, generator=generator, dtype=dtype)
    return (X_s + change * torch.linspace(0.1, 2, E, dtype=dtype)).to(device), X_s.to(device)


def cosines(x):
    x = x / x.norm(dim=1, keepdim=True)
    return x @ x.T


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shrinkage", [0, 0.03, 1])
def test_whitening_equals_its_dense_form(device, shrinkage):
    """W, L L^T, Y and surprise equal the sums over hosts written out in float64, from float32 embeddings too."""
    X_t, X_s = days(dtype=torch.float32, device=device)
    L = whiten.whitener(whiten.scatter(X_t - X_s), shrinkage)

    D = (X_t - X_s).double().cpu().numpy()
    W = sum(np.outer(d, d) for d in D) / (2 * len(D))
    W = (1 - shrinkage) * W + shrinkage * np.trace(W) / 6 * np.eye(6)
    inverse = np.linalg.inv(W)
    X = X_t.double().cpu().numpy()

    assert L.dtype == torch.float64 and L.device == X_t.device
    np.testing.assert_allclose((L @ L.T).cpu(), inverse, rtol=1e-9, atol=1e-9 * abs(inverse).max())
    Y = whiten.whiten(X_t, L)
    assert Y.dtype == torch.float32 and Y.device == X_t.device
    expected = X @ inverse @ X.T                            # Y Y^T = X W^-1 X^T
    np.testing.assert_allclose((Y.double() @ Y.double().T).cpu(), expected, atol=1e-5 * abs(expected).max())
    surprise = whiten.surprise(X_t - X_s, L)
    np.testing.assert_allclose(surprise.cpu(), [d @ inverse @ d / 6 for d in D], rtol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_whitened_hosts_change_alike_in_every_direction(device):
    """Without shrinkage the within-host covariance of Y is the identity; before whitening it was far from it."""
    X_t, X_s = days(device=device)
    L = whiten.whitener(whiten.scatter(X_t - X_s), shrinkage=0)
    before, after = whiten.scatter(X_t - X_s), whiten.scatter(whiten.whiten(X_t, L) - whiten.whiten(X_s, L))
    np.testing.assert_allclose((after.total / (2 * after.n)).cpu(), np.eye(6), atol=1e-10)
    assert abs((before.total / (2 * before.n)).cpu() - torch.eye(6)).max() > 0.5


@pytest.mark.parametrize("device", DEVICES)
def test_an_invertible_linear_map_of_the_embeddings_changes_no_cosine(device):
    """Without shrinkage X and X M have the same whitened cosines (a rotation apart); with it they have not."""
    X_t, X_s = days(device=device)
    M = torch.randn(6, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(device)
    assert torch.linalg.cond(M) > 3
    for shrinkage in (0, 0.5):
        plain = cosines(whiten.whiten(X_t, whiten.whitener(whiten.scatter(X_t - X_s), shrinkage)))
        mapped = cosines(whiten.whiten(X_t @ M, whiten.whitener(whiten.scatter(X_t @ M - X_s @ M), shrinkage)))
        assert torch.allclose(plain, mapped, rtol=0, atol=1e-9) == (shrinkage == 0)


@pytest.mark.parametrize("device", DEVICES)
def test_pairs_add_up(device):
    """Pairs added in parts, in any order, a part without pairs among them, give the Scatter of all at once."""
    X_t, X_s = days(device=device)
    whole = whiten.scatter(X_t - X_s)
    parts = [whiten.scatter(X_t[a:b] - X_s[a:b]) for a, b in ((150, 200), (0, 0), (0, 1), (1, 150))]
    merged = whiten.merge(*parts)
    assert merged.n == whole.n == 200 and parts[1].n == 0
    np.testing.assert_allclose(merged.total.cpu(), whole.total.cpu(), rtol=1e-12, atol=1e-12)
    daily = parts[0]
    for part in parts[1:]:
        daily = whiten.merge(daily, part)
    np.testing.assert_allclose(daily.total.cpu(), whole.total.cpu(), rtol=1e-12, atol=1e-12)


def test_surprise_of_an_ordinary_host_is_two():
    """Without shrinkage surprise averages to exactly 2 over the pairs that made W; twice the change is 4 times that."""
    X_t, X_s = days()
    d = X_t - X_s
    L = whiten.whitener(whiten.scatter(X_t - X_s), shrinkage=0)
    assert whiten.surprise(d, L).mean().item() == pytest.approx(2, abs=1e-12)
    assert whiten.surprise(2 * d, L).mean().item() == pytest.approx(8, abs=1e-12)
    assert not whiten.surprise(0 * d, L).any()


@pytest.mark.parametrize("device", DEVICES)
def test_constant_dimensions_stay_zero(device):
    """Dimensions that are 0 on every day, fewer pairs than dimensions: Y is 0 there, finite and right elsewhere."""
    X_t, X_s = days(n=3, device=device, dtype=torch.float32)
    X_t[:, 2:], X_s[:, 2:] = 0, 0
    Y = whiten.whiten(X_t, whiten.whitener(whiten.scatter(X_t - X_s)))
    assert not Y[:, 2:].any() and Y.isfinite().all() and Y[:, :2].all()


@pytest.mark.parametrize("device", DEVICES)
def test_hosts_that_never_change_leave_embeddings_as_they_are(device):
    """All differences 0: L is the identity, Y is X and nothing is a surprise."""
    X, _ = days(device=device)
    L = whiten.whitener(whiten.scatter(X - X))
    assert (whiten.whiten(X, L) == X).all() and not whiten.surprise(X - X, L).any()


def test_a_singular_w_needs_shrinkage():
    """Too few pairs, a constant or a repeated dimension, no change: ValueError at shrinkage 0, a finite L above."""
    X_t, X_s = days()
    constant = torch.tensor([1.0, 1, 0, 1, 1, 1]).double()
    repeated = torch.eye(6)[[0, 1, 2, 3, 4, 0]].double().T
    for a, b in ((X_t[:5], X_s[:5]), (X_t * constant, X_s * constant), (X_t @ repeated, X_s @ repeated), (X_t, X_t)):
        with pytest.raises(ValueError, match=r"in each of 6 dimensions.*more shrinkage than 0, got a singular W from"):
            whiten.whitener(whiten.scatter(a - b), shrinkage=0)
        assert whiten.whitener(whiten.scatter(a - b)).isfinite().all()


def test_scale_does_not_make_w_singular():
    """Dimensions of scales 1e-6 and 1e6 are whitened without shrinkage: only dependence is singular."""
    X_t, X_s = days()
    scale = torch.logspace(-6, 6, 6).double()
    Y = whiten.whiten(X_t * scale, whiten.whitener(whiten.scatter(X_t * scale - X_s * scale), 0))
    plain = whiten.whiten(X_t, whiten.whitener(whiten.scatter(X_t - X_s), 0))
    np.testing.assert_allclose(cosines(Y), cosines(plain), atol=1e-9)


def test_whole_numbers_are_whitened_to_floating_ones():
    """What is whitened keeps its floating type; whole numbers do not lose what comes behind the point."""
    X = torch.arange(12).reshape(4, 3)
    L = torch.eye(3, dtype=torch.float64) / 2
    assert torch.equal(whiten.whiten(X, L), X / 2) and whiten.whiten(X.float(), L).dtype == torch.float32


def test_bad_arguments_are_refused():
    """No pairs, a single row, widths that differ, nan, shrinkage outside [0, 1]: ValueErrors that say so."""
    X_t, X_s = days()
    pairs = whiten.scatter(X_t - X_s)
    with pytest.raises(ValueError, match="active on two days or more, got 0 pairs"):
        whiten.whitener(whiten.scatter(X_t[:0] - X_s[:0]))
    with pytest.raises(ValueError, match=r"row per pair, \(n, E\), got \(6,\)"):
        whiten.scatter(X_t[0])
    with pytest.raises(ValueError, match=r"one width, got \[5, 6\]"):
        whiten.merge(pairs, whiten.scatter(X_t[:, :5]))
    with pytest.raises(ValueError, match="got none"):
        whiten.merge()
    with pytest.raises(ValueError, match="expected finite embeddings"):
        whiten.whitener(whiten.scatter(X_t * torch.nan - X_s))
    for shrinkage in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"shrinkage must lie in \[0, 1\], got"):
            whiten.whitener(pairs, shrinkage)
