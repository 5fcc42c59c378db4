"""The day's map: hosts as points in the plane, hosts that act alike near each other, and near where they were yesterday.

t-SNE (van der Maaten and Hinton, JMLR 2008) on the fuzzy neighbour graph of UMAP (McInnes, Healy, Melville 2018). With
p the graph's weights scaled to a mean row sum of 1, and q(d) = 1 / (1 + d^2), the points z minimize

    sum_ij p_ij log(1 + |z_i - z_j|^2) / n + log Z + G |z|^2 / 2n,      Z = sum_ij q(|z_i - z_j|), i not j

    x           (n, E)   one row per host, as neighbours are searched in, by cosine
    neighbours  (n, k)   of each host the most similar others
    z           (n,)     complex64: the points, in units of the width of q; a unit of the map is two of them

All points repel each other, not a sample of them: their density on a grid is convolved with the force by FFT (Linderman
et al., Nature Methods 2019), which costs less than the attraction along the edges and leaves no noise that would make
points wander. Each step divides a point's force by how stiffly its edges hold it. Imports torch only.

The constants are those of the literature, or hold for any map: the unit of length is q's. GRID: half of q's width, the
force is then right to a few percent. G, the pull to the middle: parts that no edge joins would drift apart for ever; it
balances the repulsion of a typical day at the rim of its map. EARLY: exaggerated attraction (Linderman and Steinerberger,
2019) sorts the parts before they spread.
"""

import math
import warnings
from functools import lru_cache

import torch

GRID = 0.5      # spacing of the grid
G = 1e-4        # pull to the middle
EARLY = 12      # attraction is so many times as strong in the first steps of a first day
MOMENTUM = 0.8
STEPS = (50, 150, 40)  # early and late ones of a first day, those of a later day
LONGEST = 5     # no point goes farther in one step
UNIT = 2        # q's widths in a unit of the map
EDGE = 60       # of the map, in its units
FAINT = 0.01    # points that stood in one place would never part: they start so far apart, in widths of q


@torch.no_grad()
def layout(x, start=None, seed=0, neighbors=15, nearest=None):
    """Points of the hosts x (n, E) on the map, (n, 2) float32 on the CPU, each coordinate in [-60, 60].

    start (n, 2): where hosts were on the day before, nan for new ones, which start amid their neighbours; without any
    the first two principal axes are the start. nearest(x, k): knn.nearest or its like. The same bytes for the same
    input and seed on a CPU; never nan. Raises ValueError for an x or start of the wrong shape, or not finite.
    """
    n = len(x)
    if x.ndim != 2 or not torch.isfinite(x).all():
        raise ValueError(f"expected rows x (n, E) of finite numbers, got {tuple(x.shape)}")
    if start is not None and start.shape != (n, 2):
        raise ValueError(f"expected a start ({n}, 2), got {tuple(start.shape)}")
    if n < 2:
        return torch.zeros(n, 2) if start is None else start.float().nan_to_num(0)
    zero = (x == 0).all(1, keepdim=True)                    # hosts without any direction are alike: one more dimension
    similarity, neighbours = nearest(torch.cat([x, zero], 1), neighbors)
    edges = graph(fuzzy(similarity.float().cpu()), neighbours.cpu())
    generator = torch.Generator().manual_seed(seed)
    faint = FAINT * torch.randn(n, dtype=torch.complex64, generator=generator)
    known = torch.zeros(n, dtype=torch.bool) if start is None else torch.isfinite(start).all(1)
    early, late, later = STEPS
    if known.any():
        z = torch.view_as_complex(start.float().contiguous()) * UNIT
        z = descend(placed(z, known, edges, principal(x)) + faint * ~known, edges, [1] * later)
    else:
        z = descend(principal(x) + faint, edges, [EARLY] * early + [1] * late)
    return torch.view_as_real(z / UNIT).clamp(-EDGE, EDGE)


def fuzzy(similarity):
    """How much each neighbour counts, (n, k) of 1 (the nearest) or less: exp(-(d - d_nearest) / s), d the distance.

    s such that the row's sum is log2 k, as UMAP has it.
    """
    d = (similarity[:, :1] - similarity).clamp(min=0)
    wanted = math.log2(max(2, similarity.shape[1]))
    low, high = torch.full_like(d[:, :1], 1e-6), torch.full_like(d[:, :1], 1e3)
    for _ in range(32):                                     # bisection of log s
        s = (low * high).sqrt()
        more = torch.exp(-d / s).sum(1, keepdim=True) > wanted
        low, high = torch.where(more, low, s), torch.where(more, s, high)
    return torch.exp(-d / high)


def graph(weight, neighbours):
    """The symmetric graph (row, CSR matrix) of weights a + b - ab, a and b the two hosts' own, with a mean row sum of 1.

    row: of each entry of the matrix, in its order.
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
    z = torch.where(known, z, 0)
    for _ in range(5):
        sums = P @ torch.stack([z.real, z.imag, known.float()], 1)
        found = ~known & (sums[:, 2] > 0)
        z = torch.where(found, torch.complex(sums[:, 0], sums[:, 1]) / sums[:, 2].clamp(min=1e-30), z)
        known = known | found
    terms = torch.stack([otherwise, otherwise.conj(), torch.ones_like(otherwise)], 1)
    fitted = terms @ (torch.linalg.pinv(terms[known], rtol=1e-3) @ z[known])
    return torch.where(known, z, fitted)


def descend(z, edges, attraction):
    """The points z (n,) after a step for each entry of `attraction`: how many times as strong the edges then are."""
    (row, P), n = edges, len(z)
    column, p, Q = P.col_indices(), P.values().clone(), P.clone()
    v = torch.zeros_like(z)
    for strength in attraction:
        d = z.index_select(0, row) - z.index_select(0, column)
        torch.div(p, 1 + d.real.square() + d.imag.square(), out=Q.values())  # p q(d)
        x, y, stiff = (Q @ torch.stack([z.real, z.imag, torch.ones(n)], 1)).unbind(1)
        repulsion, Z = repel(z)
        force = strength * (torch.complex(x, y) - stiff * z) + repulsion * (n / Z) - G * z
        v = MOMENTUM * v + force / (strength * stiff + 0.02)
        v = v * (LONGEST / v.abs().clamp(min=LONGEST))
        z = z + v
        z = z - z.mean()
    return z


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
    F, q = kernels(size)
    force = torch.fft.ifft2(density * F).flatten().index_select(0, nodes).view(4, -1)
    Z = ((density.real.square() + density.imag.square()) * q).mean() - len(z)
    return (force * share).sum(0), Z.clamp(min=1e-6)


@lru_cache(maxsize=8)
def kernels(size):
    """The transforms of the force d q(d)^2 (complex) and of q (real) between the nodes of a grid of size x size."""
    at = torch.arange(2 * size)
    at = torch.where(at < size, at, at - 2 * size) * GRID
    q = 1 / (1 + at[:, None] ** 2 + at**2)
    return torch.fft.fft2(torch.complex(at * q * q, at[:, None] * q * q)), torch.fft.fft2(q).real.contiguous()
