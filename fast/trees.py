"""beyond.campaigns.spanning_tree of many rows, without the pairs that cannot be edges of it.

Equal rows are one row that counts as many times: the others are joined to it first, by edges that weigh its core
distance. The near rows of each row are found as fast.pruned finds neighbours, by differences. In Boruvka's rounds a row
and a block are not looked at where all rows of the block are of the row's own component, or where the largest of the
row's core distance, the least core distance in the block and the least distance that its cone allows is more than
the least edge that the component has so far. What is looked at is multiplied in float32; of what comes within its
rounding of the least edge the distance is taken by differences. Dual-tree Boruvka (March, Ram, Gray: Fast Euclidean
Minimum Spanning Tree, KDD 2010) has the same bounds, between blocks and blocks.

    x       (n, E)  rows of length 1 in float64               f (n, E) the same in float32
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
AT_ONCE = 1 << 22  # bounds of rows and blocks


class Blocks(NamedTuple):
    """The rows in compact blocks, each within a cone."""
    f: torch.Tensor        # (n, E)
    core: torch.Tensor     # (n,) cosines of core distances, float32
    order: torch.Tensor    # (blocks, size) see fast.pruned
    centre: torch.Tensor   # (blocks, E)
    least: torch.Tensor    # (blocks,) cosine of the cone's angle
    largest: torch.Tensor  # (blocks,) cosine of the least core distance
    slack: float


@torch.no_grad()
def spanning_tree(x, min_samples):
    """As campaigns.spanning_tree, of rows x (n, E) that campaigns.unit made; few rows, and zero rows, are left to it.

    Memory: NEAR neighbours a row, and blocks. Of edges that weigh the same the shorter one is taken, then the one with
    the lower rows, among all pairs.
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
            edges = campaigns.boruvka(y, near, d, core, partial(search, y, core, in_blocks(y, core)))
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
    """As campaigns.near_rows."""
    n, found = len(x), None
    if k <= pruned.SIZE // 4:
        found = pruned.search(x, k, closeness, 1)
    near = (found or neighbours.nearest(x, k))[1].sort(dim=1)[0]
    row = torch.arange(n, device=x.device).repeat_interleave(k)
    d, order = campaigns.distance(x, row, near.ravel()).view(n, k).sort(dim=1, stable=True)
    return near.gather(1, order), d


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


def in_blocks(x, core):
    """The Blocks of rows x (n, E), core (n,) their core distances."""
    f, slack = x.float(), (x.shape[1] + 4) * torch.finfo(torch.float32).eps
    order = pruned.compact(f)
    density = cosine(core).float()
    largest = torch.nn.functional.pad(density, (0, 1), value=-1)[order].amax(1)
    return Blocks(f, density, order, *pruned.cones(f, order, slack), largest, slack)


def search(x, core, blocks, component, searching, best, far):
    """As the search of campaigns.boruvka: what it enters in `far` and `best` makes each component's least edge known.

    Each row is first looked for in the block that may hold its nearest one, then in all that the least edges found leave.
    """
    n, mine = len(x), component.int()
    held = torch.nn.functional.pad(component, (0, 1), value=-1)[blocks.order]
    whole = torch.where(held.masked_fill(held < 0, n).amin(1) == held.amax(1), held.amax(1), -1)  # (blocks,) of one

    def look(rows, block):
        """Enter the least edges from rows to rows of a block, all if several weigh the same."""
        block = blocks.order[block]
        block = block[block < n]
        for rows in rows.split(neighbours.sizes_on(x.device).product // pruned.SIZE):
            s = torch.minimum(blocks.f[rows] @ blocks.f[block].T, blocks.core[block])
            s.masked_fill_(mine[rows, None] == mine[block], -torch.inf)
            most = s.amax(1)
            bar = cosine(best[component[rows]]).float()
            hit = (most >= bar - blocks.slack).nonzero()[:, 0]
            i, j = (s[hit] >= torch.maximum(most, bar)[hit, None] - 2 * blocks.slack).nonzero().unbind(1)
            enter(x, core, rows[hit[i]], block[j], component, best, far)

    far.reach.masked_fill_(component[far.other] == component, torch.inf)
    rows = (searching & (far.least <= best[component])).nonzero()[:, 0]
    first = torch.cat([promising(some, blocks, component, whole) for some in rows.split(AT_ONCE // len(whole))]
                      or [rows])
    for some in by_value(first):
        look(rows[some], first[some[0]])
    rows = rows[still := far.least[rows] <= best[component[rows]]]
    first = first[still]
    for i in range(0, len(whole) if len(rows) else 0, pruned.AT_ONCE):
        some = slice(i, i + pruned.AT_ONCE)
        bar = cosine(best[component[rows]]).float()
        reach = pruned.reached(blocks.f[rows], blocks.centre[some], blocks.least[some], bar, blocks.slack)
        reach &= blocks.largest[some, None] >= bar - blocks.slack
        reach &= whole[some, None] != component[rows]
        for block, of_block in enumerate(reach, i):
            look(rows[of_block & (first != block)], block)
    far.least[rows] = best[component[rows]]


def promising(rows, blocks, component, whole):
    """For each of the rows the block that may hold the end of its least edge, by its bound, (rows,) int64."""
    bound = pruned.at_most(blocks.f[rows], blocks.centre, blocks.least, blocks.slack)
    bound = torch.minimum(bound, blocks.largest)
    return bound.masked_fill_(whole == component[rows, None], -torch.inf).argmax(1)


def by_value(value):
    """The places of each value of `value` (n,), ascending, as a list of tensors."""
    order = value.argsort(stable=True)
    return order.split(value[order].unique_consecutive(return_counts=True)[1].tolist())


def enter(x, core, row, other, component, best, far):
    """Enter edges from rows to others (m,) where they are less than what the row or its component has so far."""
    before = row.unique()
    before = before[far.reach[before] < torch.inf]
    row, other = torch.cat([row, before]), torch.cat([other, far.other[before]])
    d = campaigns.distance(x, row, other)
    reach = torch.maximum(torch.maximum(core[row], core[other]), d)
    order = np.lexsort([key.cpu().numpy() for key in (other, d, reach, row)])
    order = torch.from_numpy(order).to(x.device)
    row, other, reach = row[order], other[order], reach[order]
    first = torch.nn.functional.pad(row[1:] != row[:-1], (1, 0), value=True)[: len(row)]
    row, other, reach = row[first], other[first], reach[first]
    far.other[row], far.reach[row] = other, reach
    best.scatter_reduce_(0, component[row], reach, "amin")
