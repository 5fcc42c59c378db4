"""The day's map: hosts as points in the plane, those alike near each other, and each near where it was yesterday.

t-SNE (van der Maaten and Hinton, JMLR 2008) on the fuzzy neighbour graph of UMAP (McInnes, Healy, Melville 2018): with
p the graph's weights, scaled to a mean row sum of 1, and q(d) = 1 / (1 + d^2), the points z minimize

    sum_ij p_ij log(1 + |z_i - z_j|^2) / n + log Z + 2 PULL sum_i |z_i|^2 / n + 2 sum_i hold_i |z_i - z_i before|^2 / n

with Z = sum_ij q(|z_i - z_j|), i not j, and hold_i how strongly a host is held where it was the day before.

    x           (n, E)   one row per host, as neighbours are searched in, by cosine
    neighbours  (n, k)   of each host the most similar others
    z           (n,)     complex64: the points; the unit of length is the width of q

All points repel each other, not a sample of them: their density on a grid is convolved with the force by FFT (Linderman
et al., Nature Methods 2019). That costs less than the attraction along the edges, and without the noise of a sample
points do not wander. Each step divides the force on a point by how stiffly its edges hold it. Imports torch only.
"""

import math
import warnings
from functools import lru_cache

import torch

# None of these belongs to a data set: lengths are measured by the width of q, forces by that of a host's edges.
GRID = 0.5           # spacing of the grid; the repulsion is then right to a few percent
PULL = 1e-3          # to the middle: parts that no edge joins would drift apart for ever; 7,500 hosts span about 40
FIRST = (4, 40), (1, 80)  # (attraction, steps): a stronger one, 4 is about UMAP's, sorts the parts, then they spread;
LATER = (4, 30), (1, 40)  # without it parts that have come together since the day before would stay torn
HOLD = 2e-2          # to where a host was the day before, if its neighbours are there: it moves about half as far
MOMENTUM = 0.8       # the literature's
LOOSE = 0.1          # what holds a point at least: the floor of the divisor
LONGEST = 1          # no point goes farther in one step: about the reach of q, beyond which a force says little
FAINT = 0.01         # points in one place would stay in one place: all are shifted so far at random, which nobody sees
EDGE = 60            # of the map


@torch.no_grad()
def layout(x, start=None, seed=0, neighbors=15, *, nearest):
    """Where to draw the hosts x (n, E): (n, 2) float32 on the CPU, each coordinate in [-60, 60], never nan.

    start (n, 2): where they were on the day before, nan for new ones, which start amid their neighbours; without it
    all start on the first two principal axes. neighbors: at most; of fewer than 46 hosts a third, for where all are
    neighbours there is nothing to show. nearest(x, k): knn.nearest or its like. The same input, seed and machine give
    the same bytes on a CPU. Raises ValueError for an x or start of another shape, and for an x that is not finite.
    """
    n = len(x)
    if x.ndim != 2 or x.shape[1] < 1 or not torch.isfinite(x).all():
        raise ValueError(f"expected rows x (n, E) of finite numbers, got {tuple(x.shape)}")
    if start is not None and start.shape != (n, 2):
        raise ValueError(f"expected a start of shape ({n}, 2), got {tuple(start.shape)}")
    generator = torch.Generator().manual_seed(seed)
    faint = FAINT * torch.randn(n, dtype=torch.complex64, generator=generator)
    start = torch.full((n, 2), torch.nan) if start is None else start.float().cpu()
    known = torch.isfinite(start).all(1)
    before = torch.view_as_complex(torch.where(known[:, None], start, 0).clamp(1 - EDGE, EDGE - 1))
    if n < 3:                                               # two points: any distance is as good as any other
        z = torch.where(known, before, principal(x)) + faint
    else:
        zero = (x == 0).all(1, keepdim=True).to(x.dtype)    # hosts without a direction are alike: they get one
        similarity, neighbours = nearest(torch.cat([x, zero], 1), max(1, min(neighbors, (n - 1) // 3)))
        edges = graph(fuzzy(similarity.float().cpu()), neighbours.cpu())
        z = placed(before, known, edges, principal(x)) if known.any() else principal(x)
        z = descend(z + faint, edges, LATER if known.any() else FIRST, known) + faint
    return torch.view_as_real(z).clamp(-EDGE, EDGE)


def fuzzy(similarity):
    """How much each neighbour counts, (n, k) of 1 (the nearest) or less: exp(-(d - d_nearest) / s), d the distance.

    s such that the row's sum is log2 k, as UMAP has it.
    """
    d = (similarity[:, :1] - similarity).clamp(min=0)
    wanted = math.log2(max(2, similarity.shape[1]))
    low, high = torch.full_like(d[:, :1], 1e-6), torch.full_like(d[:, :1], 1e3)
    for _ in range(16):                                     # bisection of log s
        s = (low * high).sqrt()
        more = torch.exp(-d / s).sum(1, keepdim=True) > wanted
        low, high = torch.where(more, low, s), torch.where(more, s, high)
    return torch.exp(-d / high)


def graph(weight, neighbours):
    """The symmetric graph (row, matrix): weights a + b - ab, a and b the two hosts' own, scaled to a mean row sum of 1.

    matrix: CSR (n, n); row: of each of its entries, in their order.
    """
    n, k = neighbours.shape
    i, j = torch.arange(n).repeat_interleave(k), neighbours.flatten()
    key, order = torch.cat([i * n + j, j * n + i]).sort(stable=True)
    p = weight.flatten().repeat(2)[order]
    twice = key[1:] == key[:-1]                             # at most: once from each end
    p[1:][twice] += p[:-1][twice] * (1 - p[1:][twice])
    last = torch.cat([~twice, twice.new_ones(1)])
    key, p = key[last], p[last]
    row = key // n
    first = torch.searchsorted(row, torch.arange(n + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return row, torch.sparse_csr_tensor(first.int(), (key % n).int(), p * (n / p.sum()), (n, n),
                                            check_invariants=False)


def principal(x):
    """The rows' first two principal axes as complex numbers (n,) of deviation 1 along the first."""
    x = torch.nn.functional.normalize(x.double())
    x = x - x.mean(0)
    axes = torch.linalg.eigh(x.T @ x)[1][:, -2:].flip(1)
    y = torch.nn.functional.pad(x @ axes, (0, 2 - axes.shape[1])).cpu()
    y = y / y[:, 0].square().mean().sqrt().clamp(min=1e-9)
    return torch.view_as_complex(y.float().contiguous())


def placed(z, known, edges, otherwise):
    """z (n,) with the points that are not known at the weighted mean of their neighbours that are, or of theirs.

    What no path joins to a known point gets its place of `otherwise`, by the affine map that suits the known ones best.
    """
    _, P = edges
    terms = torch.stack([otherwise, otherwise.conj(), torch.ones_like(otherwise)], 1)
    fitted = terms @ (torch.linalg.pinv(terms[known], rtol=1e-3) @ z[known])
    z = torch.where(known, z, 0)
    for _ in range(5):
        sums = P @ torch.stack([z.real, z.imag, known.float()], 1)
        found = ~known & (sums[:, 2] > 0)
        z = torch.where(found, torch.complex(sums[:, 0], sums[:, 1]) / sums[:, 2].clamp(min=1e-30), z)
        known = known | found
    return torch.where(known, z, fitted)


def descend(z, edges, stages, known):
    """The points z (n,) after the steps of all stages (attraction, steps): how many times as strong the edges are.

    known (n,) bool: which ones are held where they start, the more the nearer their neighbours start.
    """
    n, buffer = len(z), edges[1].clone()
    home, v = z, torch.zeros_like(z)
    hold = HOLD * known * attract(z, edges, buffer)[1] / (edges[1] @ torch.ones(n, 1))[:, 0]
    for attraction in [strength for strength, steps in stages for _ in range(steps)]:
        force, stiff = attract(z, edges, buffer)
        repulsion, Z = repel(z)
        force = attraction * force + repulsion * (n / Z) - PULL * z + hold * (home - z)
        v = MOMENTUM * v + force / (attraction * stiff + LOOSE)
        v = v * (LONGEST / v.abs().clamp(min=LONGEST))
        z = z + v
    return z


def attract(z, edges, buffer):
    """(force (n,) on each point: the sum of p q(d) d over its edges, the sum of p q(d)); buffer: a matrix like P."""
    row, P = edges
    d = z.index_select(0, row) - z.index_select(0, P.col_indices())
    torch.div(P.values(), 1 + d.real.square() + d.imag.square(), out=buffer.values())
    x, y, stiff = (buffer @ torch.stack([z.real, z.imag, torch.ones(len(z))], 1)).unbind(1)
    return torch.complex(x, y) - stiff * z, stiff


def repel(z):
    """(force (n,) on each point: the sum of d q(d)^2 over all others at distance d, Z), both by a grid."""
    at = torch.view_as_real(z)
    at = (at - at.amin(0)) / GRID
    size = 32 * (int(at.max() + 2) // 32 + 1)               # nodes to a side; the FFT has twice as many
    cell = at.floor()
    right, up = (at - cell).unbind(1)
    corner = cell[:, 1].long() * (2 * size) + cell[:, 0].long()
    nodes = (corner + torch.tensor([[0], [1], [2 * size], [2 * size + 1]])).flatten()
    share = torch.stack([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up])
    density = torch.zeros(4 * size * size).index_add_(0, nodes, share.flatten()).view(2 * size, -1)
    density = torch.fft.fft2(density)
    force, q = kernels(size)
    force = torch.fft.ifft2(density * force).flatten().index_select(0, nodes).view(4, -1)
    Z = ((density.real.square() + density.imag.square()) * q).mean() - len(z)
    return (force * share).sum(0), Z.clamp(min=0.1 * len(z))  # the grid cannot tell less; few points that far apart do


@lru_cache(maxsize=8)
def kernels(size):
    """The transforms of the force d q(d)^2 (complex) and of q (real) between the nodes of a grid of size x size."""
    at = torch.arange(2 * size)
    at = torch.where(at < size, at, at - 2 * size) * GRID
    q = 1 / (1 + at[:, None] ** 2 + at**2)
    window = torch.sinc(torch.fft.fftfreq(2 * size)) ** 4   # sharing out among nodes blurs, there and back: undone here
    window = window[:, None] * window
    force = torch.fft.fft2(torch.complex(at * q * q, at[:, None] * q * q)) / window
    return force, torch.fft.fft2(q).real / window
