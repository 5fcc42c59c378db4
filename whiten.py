"""Day-to-day whitening: measure embeddings by how much a host changes on its own (beyond the paper).

The same host on two days is of one class, whatever class that is. The directions in which hosts differ from themselves
are noise for telling hosts apart; whitening scales them down, without any label. It is the within-class covariance
normalization of speaker verification, with the host as its class.

    X_t      (n, E)   embeddings of hosts active on day t, each dimension standardized over that day's hosts
    X_s      (n, E)   the same hosts in the same order, on the last day before on which each was active
    d        (n, E)   X_t - X_s: one pair per row
    W        (E, E)   sum of d d^T over all pairs so far / (2 n): the covariance of a host about its own mean; with
                      shrinkage l, (1 - l) W + l tr(W)/E I
    L        (E, E)   L L^T = W^-1
    Y        (n, E)   X L: whitened embeddings, in which a host changes alike in every direction
    surprise (n,)     d^T W^-1 d / E: how much a host changed; its mean over the pairs is 2, with shrinkage less

Over any pairs, sum of d d^T and n are all that is kept: `Scatter`, which adds up over days and over machines.
The arithmetic is float64, on the device of its inputs; CPU and CUDA run the same code. Imports torch only.
"""

from typing import NamedTuple

import torch


class Scatter(NamedTuple):
    """What is kept of pairs; `merge` adds them (a + b would join the two tuples)."""
    total: torch.Tensor  # (E, E) float64  sum of d d^T
    n: int               # pairs


def scatter(d):
    """The Scatter of pairs d (n, E): what hosts, standardized on each of two days (`knn.standardize`), differ by.

    n = 0 gives the Scatter of no pairs. Raises ValueError for another shape.
    """
    if d.ndim != 2:
        raise ValueError(f"expected a row per pair, (n, E), got {tuple(d.shape)}")
    d = d.double()
    return Scatter(d.T @ d, len(d))


def merge(*parts):
    """The Scatter of all pairs of all parts: of earlier days and today, or of each machine's share.

    Raises ValueError without parts, or if they differ in E.
    """
    widths = {len(part.total) for part in parts}
    if len(widths) != 1:
        raise ValueError(f"expected Scatters of one width, got {sorted(widths) or 'none'}")
    return Scatter(sum(part.total for part in parts), sum(part.n for part in parts))


def whitener(scatter, shrinkage=0.03):
    """L (E, E) float64, upper triangular, L L^T = W^-1 with W shrunk by l = `shrinkage` in [0, 1].

    Any L with this product gives the same Y but for a rotation, hence the same cosines. A dimension that never
    changed, a constant one say, has zeros in W; shrinkage bounds what L multiplies it with by sqrt(E / (l tr(W))),
    and where standardizing left X = 0 there Y stays as it is. If no host changed at all, W = 0 and with shrinkage
    L = I: no direction is noisier than another.
    Raises ValueError without pairs (then the plain embeddings are all there is), for a scatter that is not finite,
    for shrinkage outside [0, 1], and for a singular W, which there is without shrinkage only.
    """
    total, n = scatter
    E = len(total)
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    if n < 1:
        raise ValueError(f"expected a host that is active on two days or more, got {n} pairs")
    if not total.isfinite().all():
        raise ValueError("expected finite embeddings, got pairs with values that are nan or infinite")
    identity = torch.eye(E, dtype=total.dtype, device=total.device)
    W = total / (2 * n)
    W = (1 - shrinkage) * W + shrinkage * W.trace() / E * identity
    if shrinkage and W.trace() == 0:
        return identity
    C, failed = torch.linalg.cholesky_ex(W)                 # W = C C^T, hence W^-1 = C^-T C^-1
    free = C.diagonal().square() / W.diagonal()             # of each dimension's variance, not told by those before
    if failed or not (free > 4 * E * torch.finfo(W.dtype).eps).all():
        raise ValueError(f"expected pairs that change in each of {E} dimensions independently, or more shrinkage than "
                         f"{shrinkage}, got a singular W from {n} pairs")
    return torch.linalg.solve_triangular(C.T, identity, upper=True)  # L = C^-T


def whiten(X, L):
    """Y = X L (n, E) in X's dtype, float64 for whole numbers. Cosine neighbours are taken on Y as it is, not
    standardized again."""
    Y = X.double() @ L
    return Y.to(X.dtype) if X.is_floating_point() else Y


def surprise(d, L):
    """d^T W^-1 d / E of each row of d = X_t - X_s (n, E): (n,) float64.

    Without shrinkage its average over the pairs that made W is 2: W is what a host varies about its own mean, and
    two days vary twice that.
    """
    return (d.double() @ L).square().sum(1) / len(L)        # W^-1 = L L^T
