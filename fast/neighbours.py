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


BLOCKS = {"cpu": Blocks(1024, 2048, 2048, 1 << 19), "cuda": Blocks(8192, 65536, 16384, 1 << 29)}


def sizes_on(device):
    """The Blocks of a device; of another kind than these two, those of a GPU."""
    return BLOCKS["cpu" if device.type == "cpu" else "cuda"]


FEW = 8   # neighbours; for more, groups are smaller and blocks of candidates longer: fewer are looked into in vain
MANY = 4  # times k groups of a row: more are not looked into before its bar is raised


def group_for(k):
    """Consecutive rows whose similarities are reduced to their maximum: fewer where many groups are looked into."""
    return 16 if k <= FEW else 8


@torch.no_grad()
def nearest(x, k, queries=None, query_block=None, block=None):
    """As knn.nearest; blocks that are None are those of BLOCKS.

    Memory: query_block x block similarities. Where x is searched among itself both blocks are of `block` rows.
    """
    sizes, itself = sizes_on(x.device), queries is None
    query_block = (sizes.queries if k <= FEW else sizes.queries // 2) if query_block is None else query_block
    if block is None:
        block = sizes.itself if itself else sizes.candidates if k <= FEW else sizes.candidates * 2
    knn.check(x, k, queries, query_block, block)
    query_block = block if itself else query_block
    queries = knn.unit(x if itself else queries)
    k = max(0, min(k, len(x) - itself))
    similarity = queries.new_full((len(queries), k), torch.finfo(queries.dtype).min)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    with precision.matmul_precision("exact", x.device):
        search(x, queries, itself, query_block, block, similarity, neighbours)
    return similarity, neighbours


def search(x, queries, itself, query_block, block, similarity, neighbours):
    """Fill similarity, neighbours (queries, k) with each query's k nearest of x, or of the other queries (`itself`).

    x as `nearest` got it; queries of length 1.
    """
    k = similarity.shape[1]
    group = group_for(k)
    buffer = queries.new_empty(whole(min(block, len(x)), group) * whole(min(query_block, len(queries)), group))
    for c in range(0, len(x) if k else 0, block):
        candidates = queries[c : c + block] if itself else knn.unit(x[c : c + block])
        columns = by_groups(candidates, group)
        for q in range(c if itself else 0, len(queries), query_block):
            query, further = queries[q : q + query_block], itself and q > c
            s, of_rows, of_columns = similarities(query, columns, len(candidates), group, itself and q == c, further,
                                                  buffer)
            best = similarity[q : q + query_block], neighbours[q : q + query_block]
            merge(*columns_for_rows(s, of_rows, best[0]), c, *best)
            if further:                                     # s[i, j] is s[j, i]: candidates find queries as well
                best = similarity[c : c + block], neighbours[c : c + block]
                merge(*rows_for_columns(s, of_columns, best[0]), q, *best)


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
    and column j * group + b. of_rows (n, G): for each row, its maximum over each group of columns. of_columns (H,
    group, G), None without `both`: for each column, its maximum over each group of rows.
    What is no pair gets the lowest float: places that fill up a group and, with `diagonal`, a row and itself.
    """
    lowest, n, G = torch.finfo(x.dtype).min, len(x), len(columns) // group
    s = buffer[: whole(n, group) * group * G].view(-1, group, group, G)
    of_rows, of_columns = s.new_empty(len(s), group, G), s.new_empty(len(s), group, G) if both else None
    tile = max(1, sizes_on(x.device).product // (group * group * G))  # groups of a product
    for i in range(0, len(s), tile):                        # each tile's maxima while it is in the cache
        rows, groups = slice(i * group, (i + tile) * group), slice(i, i + tile)
        part = s[groups]
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
    return s, of_rows.view(-1, G)[:n], of_columns


def columns_for_rows(s, of_rows, similarity):
    """The columns that may be among a row's k nearest: (row, column, value) (entries,), by row, then by column."""
    k, (group, _, G) = similarity.shape[1], s.shape[1:]
    bar = above(similarity[:, -1])
    reach = of_rows >= bar[:, None]
    if reach.count_nonzero() > MANY * k * len(bar):
        bar = torch.maximum(bar, kth(folded(of_rows, k, 1), k))
        reach = of_rows >= bar[:, None]
    row, j = places(reach)
    if len(row) > MANY * k * len(bar):
        row, j = first_of_equals(row, j, of_rows[row, j] == bar[row], k)
    return members(s, row, j, row * (group * G) + j, G, bar)


def rows_for_columns(s, of_columns, similarity):
    """The rows that may be among a column's k nearest: (column, row, value) (entries,), by column, then by row."""
    k, (H, group, G) = similarity.shape[1], of_columns.shape
    maxima = of_columns.view(H, group * G)                  # columns by place in their group, then by group
    bar = above(by_groups(similarity[:, -1:], group)[:, 0])
    reach = maxima >= bar
    if reach.count_nonzero() > MANY * k * len(bar):
        bar = torch.maximum(bar, kth(folded(maxima, k, 0).T, k))
        reach = maxima >= bar
    i, column = places(reach)
    if len(i) > MANY * k * len(bar):
        column, order = in_order(column)
        column, i = first_of_equals(column, i[order], maxima[i[order], column] == bar[column], k)
    column, row, value = members(s, column, i, i * (group * group * G) + column, group * G, bar)
    column, order = in_order(column % G * group + column // G)
    return column, row[order], value[order]


def members(s, line, g, base, step, bar):
    """The members at or above the bar of group g of a line (a row or column): (line, member's number, value).

    base: where in s the group's first member is, step: from one member to the next.
    """
    group = s.shape[1]
    value = s.view(-1).take(base[:, None] + step * torch.arange(group, device=s.device))
    hit, member = places(value >= bar[line, None])
    return line[hit], g[hit] * group + member, value[hit, member]


def first_of_equals(line, g, equal, k):
    """Of the groups g of each line, lines ascending, those above its bar and the first k that equal it."""
    so_far, first = equal.cumsum(0), torch.searchsorted(line, line)
    kept = ~equal | (so_far - so_far[first] + equal[first].long() <= k)
    return line[kept], g[kept]


def merge(row, number, value, first, similarity, neighbours):
    """Bring entries (row, number + first, value), by row, into the rows' running top k, in place.

    similarity, neighbours (rows, k): the top k so far. Of equal similarities those of earlier blocks come first.
    """
    if not len(row):
        return
    gain, values, numbers = laid_out(row, number + first, value, similarity, neighbours)
    similarity[gain], chosen = top(values, similarity.shape[1])
    neighbours[gain] = numbers.gather(1, chosen)


def laid_out(row, number, value, similarity, neighbours):
    """The rows that gain entries (row, number, value), by row, each with its top k so far and then its entries.

    Returns (gain (rows,), values (rows, width), numbers (rows, width)); values are -inf where a row has fewer.
    """
    k = similarity.shape[1]
    gain, count = torch.unique_consecutive(row, return_counts=True)
    width = k + int(count.max())
    line = torch.arange(len(gain), device=row.device)
    at = torch.arange(len(row), device=row.device)
    at += (line * width + k - count.cumsum(0) + count).repeat_interleave(count)
    values, numbers = similarity.new_full((len(gain), width), -torch.inf), neighbours.new_zeros(len(gain), width)
    values[:, :k], numbers[:, :k] = similarity[gain], neighbours[gain]
    values.view(-1)[at], numbers.view(-1)[at] = value, number
    return gain, values, numbers


def folded(maxima, k, dim):
    """Maxima over groups, of which 4 k or a few more are left: each stands for every so manieth group of before."""
    width = min(1 << (4 * k - 1).bit_length(), maxima.shape[dim])
    times = maxima.shape[dim] // width
    return maxima.narrow(dim, 0, times * width).unflatten(dim, (times, width)).amax(dim)


def above(similarity):
    """The next larger float: of equal similarities earlier ones stay."""
    return torch.nextafter(similarity, similarity.new_tensor(torch.inf))


def kth(x, k):
    """The k-th largest of each row of x (rows, n), (rows,); the lowest float where there are fewer."""
    if x.shape[1] < k:
        return x.new_full((len(x),), torch.finfo(x.dtype).min)
    return sorted_rows(x)[:, -k]


def in_order(line):
    """Lines (entries,) in ascending order, and the entry that each was, ascending among equals."""
    key = (line << 40) + torch.arange(len(line), device=line.device)
    key = sorted_rows(key[None])[0]
    return key >> 40, key & (1 << 40) - 1


def sorted_rows(x):
    """Each row of x (rows, n) in ascending order."""
    if x.device.type != "cpu" or x.dtype == torch.bfloat16:  # which numpy lacks
        return x.sort(dim=1)[0]
    return torch.from_numpy(np.sort(x.contiguous().numpy(), axis=1))


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
