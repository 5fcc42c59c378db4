"""knn.nearest of many rows among themselves, without the pairs that cannot be neighbours.

Rows lie in compact blocks, each within a cone: a centre and an angle around it. By the triangle inequality on the
sphere a row at angle A from the centre of a cone of angle r is similar cos(A - r) at most to any row in it, 1 where
r >= A. Where that is below the row's k-th similarity so far, its bar, the row and the block are not multiplied. What
is multiplied is float32; of what comes within its rounding of the bar the similarity is taken again, in the type of x
and pair by pair: equal rows are equally similar wherever they lie. Exact: the bounds leave room for all rounding.

    u       (n, E)  rows of length 1, in the type of x        f (n, E) the same in float32
    order   (blocks, size) row numbers, each block's ascending; n where a block has a row less
    slack   how far a float32 similarity may be from that in exact numbers, twice

Imports knn, fast.neighbours, fast.precision and torch.
"""

import torch

import knn
from fast import neighbours, precision

FROM = 30_000    # rows: of fewer, all pairs are multiplied
EACH = 1000      # more rows for each neighbour asked for: with many, fewer blocks can be skipped
SIZE = 384       # rows of a block at most, and half of that at least
AT_ONCE = 16     # blocks whose bounds are computed at once, by the bars as they are then
SAMPLE = 128     # rows by which it is told whether pruning pays
WORTH = 0.3      # of the pairs of a row and a block, the share within reach up to which it does
CLOSE = 8        # times k: similarities of a row that are to be taken again, up to which it does


@torch.no_grad()
def nearest(x, k, queries=None, query_block=None, block=None):
    """As knn.nearest. Many rows among themselves are pruned where that pays, unless blocks are named.

    Rows in general position (random ones, say) and those with many copies are not: neighbours.nearest takes them, after
    a few percent of its time. Memory beyond that of x and the result: a few copies of x in float32.
    """
    many = queries is None and query_block is None and block is None and x.ndim == 2 and len(x) >= FROM + EACH * k
    if many and 1 <= k <= SIZE // 4 and x.dtype in (torch.float32, torch.float64):
        knn.check(x, k, None)
        with precision.matmul_precision("exact", x.device):
            found = search(knn.unit(x), k)
        if found:
            return found
    return neighbours.nearest(x, k, queries, query_block, block)


def products(a, b):
    """The similarity of rows a to rows b, (m, E) each: (m,)."""
    return (a * b).sum(1)


def search(u, k, similar=products, less=0):
    """(similarity (n, k), neighbours (n, k)) of rows u (n, E) of length 1, or None where pruning does not pay.

    similar(a, b) returns the cosines of rows a to rows b minus `less`; the k largest are found.
    """
    f, slack = u.float(), (u.shape[1] + 4) * torch.finfo(torch.float32).eps
    order = compact(f)
    centre, least = cones(f, order, slack)
    if not pays(f, k, centre, least, slack):
        return None
    blocks = [rows[rows < len(u)] for rows in order]
    best = u.new_full((len(u), k), -torch.inf), order.new_zeros(len(u), k)
    for rows in blocks:                                     # a first bar: each row's own block
        s = (f[rows] @ f[rows].T).fill_diagonal_(-torch.inf)
        enter(u, rows, rows, s, knn.top(s.clone(), k)[0][:, -1] - 2 * slack, best, similar)
    rows_at_once = neighbours.sizes_on(u.device).product // SIZE
    for first in range(0, len(blocks), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        reach = reached(f, centre[some], least[some], best[0][:, -1] + less, slack)
        for i, block in enumerate(blocks[some]):
            reach[i, block] = False                         # where they have been already
            columns = f[block].T
            for rows in reach[i].nonzero()[:, 0].split(rows_at_once):
                enter(u, rows, block, f[rows] @ columns, best[0][rows, -1] + less - slack, best, similar)
    return best


def compact(f):
    """The order: all rows halved at the median along the direction in which they differ most, and so on."""
    n, E = f.shape
    halvings = (-(-n // SIZE) - 1).bit_length()
    size = -(-n >> halvings)
    order = torch.arange(size << halvings, device=f.device).clamp(max=n)[None]
    f = torch.cat([f, f.new_zeros(1, E)])
    for _ in range(halvings):
        none = order == n
        x = f[order]                                        # (parts, rows, E)
        x -= x.sum(1, keepdim=True) / (~none).sum(1)[:, None, None]
        x[none] = 0
        direction = torch.linalg.eigh(x.mT @ x)[1][..., -1:]  # of the largest eigenvalue
        end = torch.where(none.cumsum(1) % 2 == 0, torch.inf, -torch.inf)  # what is no row goes to either half in turn
        place = torch.where(none, end, (x @ direction)[..., 0]).argsort(dim=1, stable=True)
        order = order.gather(1, place).view(2 * len(order), -1)
    return order.sort(dim=1)[0]


def cones(f, order, slack):
    """(centre (blocks, E), least (blocks,)): of each block, and the cosine of its cone's angle or slightly less."""
    none = order == len(f)
    x = torch.cat([f, f.new_zeros(1, f.shape[1])])[order]
    centre = torch.nn.functional.normalize(x.sum(1))
    cosine = (x @ centre[..., None])[..., 0].masked_fill(none, 1)
    return centre, (cosine.amin(1) - slack).clamp(min=-1)


def at_most(f, centre, least, slack):
    """The largest similarity that each row may have in each block, (rows, blocks); 2 where it may lie in the cone."""
    cosine = f @ centre.T + slack                           # the angle as small, the cone as large as may be
    bound = ((1 - cosine) * (1 + cosine)).clamp_(min=0).sqrt_() * ((1 - least) * (1 + least)).clamp(min=0).sqrt()
    return bound.addcmul_(cosine, least).add_(slack).masked_fill_(cosine >= least, 2)


def pays(f, k, centre, least, slack):
    """Whether a sample of the rows has few blocks within reach, and few rows so near its bar that it must be told."""
    sample, within, close = f[:: -(-len(f) // SAMPLE)], 0, 0
    for rows in sample.split(16):
        s = rows @ f.T
        bar = s.topk(k + 1, dim=1)[0][:, -1:]               # a row is among its own
        within += (at_most(rows, centre, least, slack) >= bar - slack).count_nonzero()
        close += (s >= bar - 2 * slack).count_nonzero()
    return bool(within <= WORTH * len(sample) * len(centre) and close <= CLOSE * (k + 1) * len(sample))


def reached(f, centre, least, bar, slack):
    """Whether each block may hold a neighbour of each row, by its bar (n,): (blocks, n)."""
    reach = torch.empty(len(centre), len(f), dtype=torch.bool, device=f.device)
    step = neighbours.sizes_on(f.device).product // AT_ONCE
    for i in range(0, len(f), step):
        rows = slice(i, i + step)
        reach[:, rows] = (at_most(f[rows], centre, least, slack) >= bar[rows, None]).T
    return reach


def enter(u, rows, block, s, bar, best, similar):
    """Bring what is above the rows' bars (rows,), of s (rows, block) in float32, into their top k, in place."""
    hit = (s.amax(1) >= bar).nonzero()[:, 0]
    i, column = (s[hit] >= bar[hit, None]).nonzero().unbind(1)
    row, number = rows[hit[i]], block[column]
    if len(row):
        gain, values, numbers = neighbours.laid_out(row, number, similar(u[row], u[number]), *best, 1)
        numbers, at = numbers.sort(dim=1)                   # of equals the lower number comes first
        best[0][gain], chosen = neighbours.top(values.gather(1, at), best[0].shape[1])
        best[1][gain] = numbers.gather(1, chosen)
