"""beyond.campaigns.spanning_tree of many rows, without the pairs that cannot be edges of it.

Equal rows are one row that counts as many times: the others are joined to it first, by edges that weigh its core
distance. The near rows of each row are found as fast.pruned finds neighbours, but by differences. In Boruvka's rounds a
row and a block are not multiplied where all rows of the block are of the row's component, nor where the least core
distance in the block, or the least distance that its cone allows, is more than the least edge that the component has so
far. What is multiplied is float32; of what comes within its rounding of the least edge the distance is taken by
differences. Where rows are so close that float32 does not tell them apart, they are multiplied as they are.

Dual-tree Boruvka (March, Ram, Gray: Fast Euclidean Minimum Spanning Tree, KDD 2010) bounds a block by a block: here a
row is held to a block, see docs/speed.md.

    x       (n, E)  rows of length 1 in float64               f (n, E) the same in float32, or as they are
    cosine  1 - d^2 / 2 of a distance d, of a core distance or of an edge's weight: what is near is large

Imports beyond.campaigns, fast.neighbours, fast.precision, fast.pruned, numpy and torch.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from beyond import campaigns
from fast import neighbours, precision, pruned

FROM = 10_000  # rows: of fewer, all pairs are multiplied
SIZE = 384  # rows of a block at most
AT_ONCE = 1 << 24  # bounds of rows and blocks
SAMPLE = 8  # a row of so many goes before the others
CLOSE = 0.25  # of the rows, with all near ones so near that float32 does not tell them apart: from there on float64


class Rows(NamedTuple):
    """The rows as a search looks at them: in an order in which near rows follow one another. A place is one in it."""
    x: torch.Tensor      # (n, E) by row number
    core: torch.Tensor   # (n,) core distances, by row number
    order: torch.Tensor  # (n,) the row at each place
    f: torch.Tensor      # (n, E) by place
    dense: torch.Tensor  # (n,) cosines of core distances, by place
    slack: float         # how far a product of f may be from that in exact numbers, twice


class Blocks(NamedTuple):
    """Rows in blocks, each within a cone, and most of one component."""
    place: torch.Tensor      # (blocks, size) ascending; n where a block has fewer
    f: torch.Tensor          # (blocks, size, E)
    dense: torch.Tensor      # (blocks, size) -2 where there is no row
    component: torch.Tensor  # (blocks,) int64 of all its rows; -1: several
    centre: torch.Tensor     # (blocks, E)
    least: torch.Tensor      # (blocks,) cosine of the cone's angle


@torch.no_grad()
def spanning_tree(x, min_samples):
    """As campaigns.spanning_tree, of rows x (n, E) that campaigns.unit made; few rows, and zero rows, are left to it.

    Of edges that weigh the same the shorter one is taken, then the one with the lower rows, among all pairs. Memory: a
    few copies of x, NEAR neighbours a row, and blocks. Where pruning does not pay, or where more than 96 near rows are
    wanted, products find these as in the plain form: they do not tell apart what is nearer than 1e-8.
    """
    if len(x) < FROM or not x.any(1).all():
        return campaigns.spanning_tree(x, min_samples)
    first, of, count = distinct(x)
    y = x[first]
    edges = [x.new_empty(0, dtype=torch.int64)] * 2 + [x.new_empty(0)]
    core = x.new_zeros(len(y))
    if len(y) > 1:
        with precision.matmul_precision("exact", x.device):
            near, d = near_rows(y, min(len(y) - 1, max(campaigns.NEAR, min_samples)))
            core = core_distances(near, d, count, min_samples)
            edges = campaigns.boruvka(y, near, d, core, partial(search, rows_of(y, core, d[:, -1])))
    copies = (first[of] != torch.arange(len(x), device=x.device)).nonzero()[:, 0]
    a, b, weight = (torch.cat(parts) for parts in zip((first[edges[0]], first[edges[1]], edges[2]),
                                                      (first[of[copies]], copies, core[of[copies]])))
    order = campaigns.merging_order(a, b, weight, campaigns.distance(x, a, b))
    return tuple(part.cpu().numpy()[order] for part in (a, b, weight))


def distinct(x):
    """(first (m,) row of each distinct one, ascending; of (n,) which of these each row equals; count (m,) of rows)."""
    rows = np.ascontiguousarray(x.cpu().numpy() + 0.0)      # -0 and 0 are equal
    rows = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, of, count = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
    order = first.argsort()
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return tuple(torch.from_numpy(part).to(x.device) for part in (first[order], place[of.ravel()], count[order]))


# -- near rows ---------------------------------------------------------------------------------------------------------

def near_rows(x, k):
    """As campaigns.near_rows: (rows (n, k) int64, distance (n, k) ascending)."""
    found = pruned.search(x, k, closeness, 1) if k <= pruned.SIZE // 4 else None
    _, near = found or neighbours.nearest(x, k)
    return campaigns.by_distance(x, near)


def closeness(a, b):
    """-|a - b|^2 / 2 of rows a and b (m, E), by differences: the cosine of rows of length 1, less 1."""
    return (a - b).square().sum(1) / -2


def core_distances(near, d, count, min_samples):
    """The core distance (n,) of rows that count as `count` rows each, from their near ones (n, k) and d, ascending."""
    so_far = torch.cat([count[:, None], count[near]], 1).cumsum(1)
    d = torch.nn.functional.pad(d, (1, 0))                  # a row is the first of its own
    return d.gather(1, (so_far < min_samples).sum(1, keepdim=True))[:, 0]


# -- edges to other rows -----------------------------------------------------------------------------------------------

def cosine(d):
    """Of rows of length 1 that are d apart."""
    return 1 - d.square() / 2


def bars(weight, dtype):
    """The cosines of edges that weigh so much; of none yet a number below all cosines, above what is no row."""
    return cosine(weight).to(dtype).clamp(min=-1.5)


def rows_of(x, core, last):
    """The Rows of x (n, E), their core distances and those of their last near rows (n,)."""
    order = pruned.compact(x.float()).ravel()
    order = order[order < len(x)]
    slack = (x.shape[1] + 4) * torch.finfo(torch.float32).eps
    close = (last.square() / 2 < slack).double().mean() > CLOSE
    f = x[order] if close else x[order].float()
    return Rows(x, core, order, f, cosine(core[order]).to(f.dtype), (x.shape[1] + 4) * torch.finfo(f.dtype).eps)


def in_blocks(rows, of):
    """The Blocks of Rows by their component `of` (n,): large ones in blocks of their own, all others together."""
    n, size = len(of), torch.bincount(of)
    of = torch.where(size >= SIZE // 4, torch.arange(len(size), device=of.device), -1)[of]
    of, place = of.sort(stable=True)
    component, count = of.unique_consecutive(return_counts=True)
    n_blocks = (count - 1) // SIZE + 1
    at = torch.arange(n, device=of.device)
    block = (at - (count.cumsum(0) - count).repeat_interleave(count)) * n_blocks.repeat_interleave(count)
    block = block // count.repeat_interleave(count) + (n_blocks.cumsum(0) - n_blocks).repeat_interleave(count)
    places = place.new_full((int(n_blocks.sum()), SIZE), n)
    places[block, at - torch.searchsorted(block, block)] = place
    f = torch.cat([rows.f, rows.f.new_zeros(1, rows.f.shape[1])])[places]
    dense = torch.nn.functional.pad(rows.dense, (0, 1), value=-2)[places]
    return Blocks(places, f, dense, component.repeat_interleave(n_blocks), *pruned.cones(rows.f, places, rows.slack))


def search(rows, component, searching, best, far):
    """As the search of campaigns.boruvka: what it enters in `far` and `best` makes each component's least edge known.

    Each row is first held to the block that may have the nearest one to it, then to all that the least edges leave. A
    sample of the rows goes before, to have least edges that leave few.
    """
    far.reach.masked_fill_(component[far.other] == component, torch.inf)
    of = component[rows.order]
    place = (searching & (far.least <= best[component]))[rows.order].nonzero()[:, 0]
    if not len(place):
        return
    place = place[of[place].argsort(stable=True)]
    blocks = in_blocks(rows, of)
    look = partial(look_into, rows, blocks, of, partial(enter, rows, component, best, far))
    step = AT_ONCE // len(blocks.least) + 1
    for some in place[::SAMPLE].split(step):
        look_around(rows, blocks, of, best, look, some, True)
    place = place[far.least[rows.order[place]] <= best[of[place]]]
    for some in place.split(step):
        look_around(rows, blocks, of, best, look, some, False)
    far.least[rows.order[place]] = best[of[place]]


def look_around(rows, blocks, of, best, look, place, once):
    """Look, for each place (m,), into the block with the highest bound and, unless `once`, into every other one whose
    bound reaches the least edge of the place's component."""
    f, mine = rows.f[place], of[place]
    bound = torch.cat([pruned.at_most(part, blocks.centre, blocks.least, rows.slack)
                       for part in f.split(neighbours.sizes_on(f.device).product // len(blocks.least) + 1)])
    torch.minimum(bound, blocks.dense.amax(1), out=bound)
    bound.masked_fill_(blocks.component == mine[:, None], -torch.inf)
    first = bound.argmax(1)
    bar = bars(best[mine], f.dtype)
    for some in by_value(first):
        look(place, f, bar, some, int(first[some[0]]))
    if once:
        return
    bar = bars(best[mine], f.dtype)
    reach = bound >= bar[:, None] - rows.slack
    reach.scatter_(1, first[:, None], False)
    reach = reach.T.contiguous()
    for block in reach.any(1).nonzero()[:, 0].tolist():
        look(place, f, bar, reach[block].nonzero()[:, 0], block)


def look_into(rows, blocks, of, enter, place, f, bar, those, block):
    """Enter the least edges from those of the places (m,) to rows of a block, all that may weigh the same."""
    columns = blocks.f[block].T
    for some in those.split(neighbours.sizes_on(f.device).product // SIZE):
        s = f[some] @ columns
        torch.minimum(s, blocks.dense[block], out=s)
        if blocks.component[block] < 0:
            there = torch.nn.functional.pad(of, (0, 1), value=-1)[blocks.place[block]]
            s.masked_fill_(of[place[some], None] == there, -torch.inf)
        most = s.amax(1)
        hit = (most >= bar[some] - rows.slack).nonzero()[:, 0]
        if len(hit):
            least = torch.maximum(most[hit], bar[some[hit]])[:, None] - 2 * rows.slack
            i, j = (s[hit] >= least).nonzero().unbind(1)
            enter(rows.order[place[some[hit[i]]]], rows.order[blocks.place[block, j]])


def by_value(value):
    """The places of each value of `value` (n,), ascending, as a list of tensors."""
    order = value.argsort(stable=True)
    return order.split(value[order].unique_consecutive(return_counts=True)[1].tolist())


def enter(rows, component, best, far, row, other):
    """Enter edges from rows to others (m,) where they are less than what the row or its component has so far."""
    before = row.unique()
    before = before[far.reach[before] < torch.inf]
    row, other = torch.cat([row, before]), torch.cat([other, far.other[before]])
    d = campaigns.distance(rows.x, row, other)
    reach = torch.maximum(torch.maximum(rows.core[row], rows.core[other]), d)
    order = np.lexsort([key.cpu().numpy() for key in (other, d, reach, row)])
    order = torch.from_numpy(order).to(row.device)
    row, other, reach = row[order], other[order], reach[order]
    first = torch.nn.functional.pad(row[1:] != row[:-1], (1, 0), value=True)[: len(row)]
    row, other, reach = row[first], other[first], reach[first]
    far.other[row], far.reach[row] = other, reach
    best.scatter_reduce_(0, component[row], reach, "amin")
