"""knn.nearest with less to look at: the same neighbours from the same products.

Where rows are searched among themselves, two blocks are multiplied once, for the rows of both. Of the products only the
maxima of groups are looked at, then the members of those groups whose maximum reaches the row's bar, and only those
members are sorted that reach it themselves. Imports knn, numpy (on a CPU its sort and its search for places use the
vector unit, 5 to 30 times as fast as torch's) and torch.
"""

from typing import NamedTuple

import numpy as np
import torch

import knn
from fast import precision


class Blocks(NamedTuple):
    """How much is worked on at once on a device."""
    queries: int     # rows of a block of queries
    candidates: int  # rows of a block of x
    itself: int      # rows of either, where x is searched among itself
    product: int     # similarities of one matrix product: what a cache holds


BLOCKS = {"cpu": Blocks(1024, 4096, 2048, 1 << 18), "cuda": Blocks(8192, 65536, 16384, 1 << 29)}


def sizes_on(device):
    """The Blocks of a device; of another kind than these two, those of a GPU."""
    return BLOCKS["cpu" if device.type == "cpu" else "cuda"]


def group_for(k):
    """Consecutive rows whose similarities are reduced to their maximum: fewer where many groups are looked into."""
    return 16 if k <= 8 else 4


@torch.no_grad()
def nearest(x, k, queries=None, query_block=None, block=None):
    """As knn.nearest; blocks that are None are those of BLOCKS.

    Memory: query_block x block similarities. Where x is searched among itself both blocks are of `block` rows.
    """
    sizes, itself = sizes_on(x.device), queries is None
    query_block = sizes.queries if query_block is None else query_block
    block = (sizes.itself if itself else sizes.candidates) if block is None else block
    knn.check(x, k, queries, query_block, block)
    query_block = block if itself else query_block
    queries = knn.unit(x if itself else queries)
    k = max(0, min(k, len(x) - itself))
    group = group_for(k)
    similarity = queries.new_full((len(queries), k), torch.finfo(queries.dtype).min)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    buffer = queries.new_empty(whole(min(block, len(x)), group) * whole(min(query_block, len(queries)), group))
    for c in range(0, len(x) if k else 0, block):
        candidates = queries[c : c + block] if itself else knn.unit(x[c : c + block])
        columns = by_groups(candidates, group)
        for q in range(c if itself else 0, len(queries), query_block):
            query, further = queries[q : q + query_block], itself and q > c
            s, of_rows, of_columns = similarities(query, columns, len(candidates), group, itself and q == c, further,
                                                  buffer)
            merge(s, of_rows, c, similarity[q : q + query_block], neighbours[q : q + query_block])
            if further:                                     # s[i, j] is s[j, i]: candidates find queries as well
                merge(s.permute(3, 2, 1, 0), of_columns, q, similarity[c : c + block], neighbours[c : c + block])
    return similarity, neighbours


def whole(n, group):
    """n rounded up to a multiple of group."""
    return -(-n // group) * group


def by_groups(x, group):
    """Rows of x (n, E) by their place in their group, then by group: (group * groups, E); what fills them up is 0."""
    x = torch.nn.functional.pad(x, (0, 0, 0, whole(len(x), group) - len(x)))
    return x.reshape(-1, group, x.shape[1]).transpose(0, 1).reshape(x.shape)


def similarities(x, columns, m, group, diagonal, both, buffer):
    """Similarities of rows x (n, E), H groups, and the m rows that by_groups made columns of, G groups.

    Returns (s, of_rows, of_columns). s (H, group, group, G), in `buffer`: s[i, a, b, j] is that of row i * group + a
    and column j * group + b. of_rows (n, G): for each row, its maximum over each group of columns. of_columns (m, H),
    None without `both`: for each column, its maximum over each group of rows.
    What is no pair gets the lowest float: places that fill up a group and, with `diagonal`, a row and itself.
    """
    lowest, n, G = torch.finfo(x.dtype).min, len(x), len(columns) // group
    s = buffer[: whole(n, group) * group * G].view(-1, group, group, G)
    of_rows, of_columns = s.new_empty(len(s), group, G), s.new_empty(len(s), group, G) if both else None
    tile = max(1, sizes_on(x.device).product // (group * group * G))  # groups of a product
    for i in range(0, len(s), tile):                        # each tile's maxima while it is in the cache
        rows, groups = slice(i * group, (i + tile) * group), slice(i, i + tile)
        part = s[groups]
        with precision.matmul_precision("fast" if precision.medium_is_full() else "exact"):
            torch.mm(x[rows], columns.T, out=part.view(-1, group * G)[: len(x[rows])])
        if i + tile >= len(s) and n % group:
            part[-1, n % group :] = lowest
        if m % group:
            part[:, :, m % group :, -1] = lowest
        if diagonal:
            part[..., groups].diagonal(dim1=0, dim2=3).diagonal(dim1=0, dim2=1).fill_(lowest)
        torch.amax(part, 2, out=of_rows[groups])
        if both:
            torch.amax(part, 1, out=of_columns[groups])
    if both:
        of_columns = of_columns.flatten(1).T.contiguous().view(group, G, -1).transpose(0, 1).flatten(0, 1)[:m]
    return s, of_rows.view(-1, G)[:n], of_columns


def merge(s, maxima, first, similarity, neighbours):
    """Bring a block's similarities, columns numbered from `first`, into the rows' running top k, in place.

    s (H, group, group, G) and its maxima (rows, G), see `similarities`; similarity, neighbours (rows, k): the top k so
    far. Rows and columns may change roles: s and maxima are then (G, group, group, H) and (columns, H).
    """
    k, group = similarity.shape[1], s.shape[1]
    bar = torch.nextafter(similarity[:, -1], similarity.new_tensor(torch.inf))  # of equals, earlier ones stay
    bar = torch.maximum(bar, kth_of_maxima(maxima, k))
    row, g = places(maxima >= bar[:, None])
    if not len(row):
        return
    i, a, b, j = s.stride()
    member = torch.arange(group, device=s.device)
    start = torch.div(row, group, rounding_mode="floor") * i + row % group * a + g * j
    flat = s.as_strided((s.numel(),), (1,))
    value = flat.take(start[:, None] + member * b)
    hit, member = places(value >= bar[row, None])
    row, number, value = row[hit], g[hit] * group + member, value[hit, member]
    gain, count = torch.unique_consecutive(row, return_counts=True)
    start = (count.cumsum(0) - count).repeat_interleave(count)
    slot = torch.arange(len(row), device=s.device) - start + k
    line = torch.arange(len(gain), device=s.device).repeat_interleave(count)
    width = k + int(count.max())
    values = similarity.new_full((len(gain), width), -torch.inf)
    numbers = neighbours.new_zeros(len(gain), width)
    values[:, :k], numbers[:, :k] = similarity[gain], neighbours[gain]
    values[line, slot], numbers[line, slot] = value, number + first
    similarity[gain], at = top(values, k)                   # of equal similarities those of earlier blocks come first
    neighbours[gain] = numbers.gather(1, at)


def kth_of_maxima(maxima, k):
    """For each row of maxima (rows, groups) a bar that k of its similarities reach."""
    width = min(1 << (4 * k - 1).bit_length(), maxima.shape[1])
    if width < k:
        return maxima.new_tensor(torch.finfo(maxima.dtype).min)
    groups = maxima.shape[1] // width
    return sorted_rows(maxima[:, : groups * width].view(-1, groups, width).amax(1))[:, -k]


def sorted_rows(x):
    """Each row of x (rows, n) in ascending order."""
    return torch.from_numpy(np.sort(x.numpy(), axis=1)) if x.device.type == "cpu" else x.sort(dim=1)[0]


def places(mask):
    """(rows, columns) of the true entries of mask (rows, n), in reading order."""
    if mask.device.type != "cpu":
        return mask.nonzero().unbind(1)
    row, column = np.divmod(np.flatnonzero(mask.numpy()), mask.shape[1])
    return torch.from_numpy(row), torch.from_numpy(column)


def top(s, k):
    """As knn.top."""
    if s.dtype != torch.float32 or s.device.type != "cpu":
        return knn.top(s, k)
    bits = (s + 0.0).view(torch.int32)                      # -0 and 0 are equal
    bits = bits ^ (bits >> 31 & 0x7FFFFFFF)                 # ordered as s is
    n = s.shape[1]
    key = (bits.long() << 32) + torch.arange(n - 1, -1, -1)
    at = n - 1 - (sorted_rows(key)[:, -k:].flip(1) & 0xFFFFFFFF)
    return s.gather(1, at), at
