"""knn.nearest with less to look at: the same neighbours from the same products.

A tile of similarities stays in the cache while it is looked at. Of it only the maxima of groups are looked at, then the
members of those groups whose maximum reaches the row's bar, and only those members are sorted that reach it themselves.
Where rows are searched among themselves, two blocks are multiplied once, for the rows of both. Imports knn,
fast.precision, numpy (on a CPU it compares, selects and sorts with the vector unit, 3 to 30 times as fast as torch) and
torch.
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
    itself: int      # rows of each of two blocks of x that are multiplied once, for both
    product: int     # similarities of one matrix product: what a cache holds


BLOCKS = {"cpu": Blocks(1024, 8192, 2560, 1 << 20), "cuda": Blocks(8192, 65536, 16384, 1 << 29)}


def sizes_on(device):
    """The Blocks of a device; of another kind than these two, those of a GPU."""
    return BLOCKS["cpu" if device.type == "cpu" else "cuda"]


FEW = 8   # neighbours: with more, selecting candidates for the columns costs more than a second product
MANY = 4  # times k groups of a row: more are not looked into before its bar is raised
LANES = 16  # groups of a block are a multiple of it: what a vector unit reduces at once


def group_for(k):
    """Consecutive rows whose similarities are reduced to their maximum: 1 where many groups would be looked into."""
    return 16 if k <= FEW else 1


@torch.no_grad()
def nearest(x, k, queries=None, query_block=None, block=None):
    """As knn.nearest; blocks that are None are those of BLOCKS.

    Memory: a tile of similarities, and the candidates selected from it. Where few neighbours are searched among x
    itself, two blocks of `block` rows are multiplied once, for both.
    """
    knn.check(x, k, queries, *(size for size in (query_block, block) if size is not None))
    sizes, itself = sizes_on(x.device), queries is None
    once = itself and k <= FEW
    block = block or evenly(len(x), sizes.itself if once else sizes.candidates if k <= FEW else 2 * sizes.candidates)
    query_block = block if once else query_block or sizes.queries
    queries = knn.unit(x if itself else queries)
    k = max(0, min(k, len(x) - itself))
    similarity = queries.new_full((len(queries), k), torch.finfo(queries.dtype).min)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    if k:
        with precision.matmul_precision("exact", x.device):
            search(x, queries, itself, once, query_block, block, similarity, neighbours)
    return similarity, neighbours


def search(x, queries, itself, once, query_block, block, similarity, neighbours):
    """Fill similarity, neighbours (queries, k) with each query's k nearest of x, or of the other queries (`itself`).

    x as `nearest` got it; queries of length 1. `once`: of two blocks of them s[i, j] is taken for s[j, i] as well.
    """
    k = similarity.shape[1]
    group = group_for(k)
    width = whole(min(block, len(x)), group * LANES)
    tile = whole(max(1, min(query_block, len(queries), sizes_on(x.device).product // width)), group)
    buffer = queries.new_empty(tile, width)                 # one for all products: new memory is slow
    for c in range(0, len(x), block):
        candidates = queries[c : c + block] if itself else knn.unit(x[c : c + block])
        columns, of_columns = by_groups(candidates, group), (similarity[c : c + block], neighbours[c : c + block])
        for q in range(c if once else 0, len(queries), query_block):
            rows, further = slice(q, q + query_block), once and q > c
            of_rows = similarity[rows], neighbours[rows]
            bar = above(of_rows[0][:, -1]) if c else None
            column_bar = by_groups(above(of_columns[0][:, -1:]), group).view(-1) if further else None
            for_rows, for_columns = found(queries[rows], columns, len(candidates), q - c if itself else None, k,
                                          bar, column_bar, buffer)
            merge(*for_rows, c, *of_rows, fresh=not c)
            if further:
                merge(*for_columns, q, *of_columns)


def evenly(n, most):
    """The size of as few blocks of n rows as there can be of `most` rows each, all about as long."""
    return max(1, -(-n // max(1, -(-n // most))))


def whole(n, size):
    """n rounded up to a multiple of size."""
    return -(-n // size) * size


def by_groups(x, group):
    """Rows of x (n, E) by their place in their group, then by group: (group, G, E).

    Rows of zeros are appended, so that G is a multiple of LANES.
    """
    x = torch.nn.functional.pad(x, (0, 0, 0, whole(len(x), group * LANES) - len(x)))
    return x.reshape(-1, group, x.shape[1]).transpose(0, 1).contiguous()


def found(query, columns, m, first, k, bar, column_bar, buffer):
    """What may be among the k nearest, of a block of queries and one of candidates, tile by tile.

    query, columns, m, first: as `similarities` has them. bar, by query: what its neighbours must reach, None if nothing
    is known of them yet; column_bar (group * G,): the same of the columns, None if they do not look for queries.
    Returns [row, column, value], (entries,) each, by row, then by column, and [column, row, value], by column, then by
    row, or nothing.
    """
    group, G, _ = columns.shape
    for_rows, for_columns = [], []
    for i in range(0, len(query), len(buffer)):
        tile = query[i : i + len(buffer)]
        s = similarities(tile, columns, m, None if first is None else first + i, buffer)
        row, column, value = columns_within_reach(s[: len(tile)], None if bar is None else bar[i : i + len(buffer)], k)
        for_rows.append((row + i, column, value))
        if column_bar is not None:
            place, row, value = rows_within_reach(s.view(-1, group, group * G), column_bar, k)
            for_columns.append((place % G * group + place // G, row + i, value))
    for_rows, for_columns = ([torch.cat(part) for part in zip(*tiles)] for tiles in (for_rows, for_columns))
    if for_columns:
        order = for_columns[0].argsort(stable=True)
        for_columns = [part[order] for part in for_columns]
    return for_rows, for_columns


def similarities(x, columns, m, first, buffer):
    """Similarities (whole(n), group, G), in `buffer`, of rows x (n, E) and the m rows that by_groups made columns of.

    s[i, a, g] is that of row i and column g * group + a. Padding, of rows and of columns, gets the lowest float, so
    that a real candidate is always before it; unless `first` is None so does a row beside itself, column first + i.
    """
    (group, G, E), n, lowest = columns.shape, len(x), torch.finfo(x.dtype).min
    s = buffer.view(-1)[: whole(n, group) * group * G].view(-1, group, G)
    torch.mm(x, columns.view(-1, E).T, out=s[:n].view(n, -1))
    fill, = arrays(s)
    fill[n:] = lowest
    fill[:, :, whole(m, group) // group :] = lowest
    if m % group:
        fill[:, m % group :, m // group] = lowest
    if first is not None and -n < first < m:
        own, = arrays(torch.arange(max(first, 0), min(first + n, m), device=x.device))
        fill[own - first, own % group, own // group] = lowest
    return s


def columns_within_reach(s, bar, k):
    """The columns that may be among a row's k nearest: (row, column, value) (entries,), by row, then by column.

    s as `similarities` returns it; bar (n,): what a row's neighbours must reach, None if nothing is known of them yet.
    """
    _, group, G = s.shape
    bar, row, g = groups_within_reach(s.amax(1) if group > 1 else s[:, 0], bar, k)
    return members(s, row, g, row * (group * G) + g, G, bar)


def rows_within_reach(s, bar, k):
    """The rows that may be among a column's k nearest: (column, row, value) (entries,), by column, then by row.

    s (H, group, W): W columns and H groups of rows, the lowest float where there is none; bar (W,): of the columns.
    """
    _, group, W = s.shape
    bar, column, h = groups_within_reach(s.amax(1).T, bar, k)
    return members(s, column, h, h * (group * W) + column, W, bar)


def groups_within_reach(maxima, bar, k):
    """Which groups of each line (a row, or a column) may have one of its k nearest: (bar, line, group).

    maxima (lines, groups); bar (lines,), None if nothing is known yet. It is raised where too many reach it.
    """
    bar = kth(maxima, k) if bar is None else bar
    reach = at_least(maxima, bar)
    if count(reach) > MANY * k * len(maxima):
        bar = torch.maximum(bar, kth(maxima, k))
        reach = above_or_first(maxima, bar, k)
    return bar, *places(reach)


def members(s, line, g, first, step, bar):
    """The members at or above the bar of group g of a line: (line, member's number, value).

    first: where in s the group's first member is; step: from one member to the next.
    """
    group = s.shape[1]
    s, bar, steps = arrays(s, bar, torch.arange(0, group * step, step, device=s.device))
    value = s.ravel().take(first[:, None] + steps)
    hit, member = places(value >= bar[line, None])
    return tuple(map(torch.as_tensor, (line[hit], g[hit] * group + member, value[hit, member])))


def merge(row, number, value, first, similarity, neighbours, fresh=False):
    """Bring entries (row, number + first, value), by row, into the rows' running top k, in place.

    similarity, neighbours (rows, k): the top k so far, nothing yet if `fresh`. Of equal ones the earlier stay first.
    """
    if len(row):
        k = similarity.shape[1]
        so_far = (similarity[:, :0], neighbours[:, :0]) if fresh else (similarity, neighbours)
        gain, values, numbers = laid_out(row, number + first, value, *so_far, k)
        similarity[gain], chosen = top(values, k)
        neighbours[gain] = numbers.gather(1, chosen)


def laid_out(row, number, value, similarity, neighbours, least):
    """The rows that gain entries (row, number, value), by row, each with its similarities so far and then its entries.

    Returns (gain (rows,), values (rows, width), numbers (rows, width)), width `least` at least; values are -inf where
    a row has fewer.
    """
    k = similarity.shape[1]
    gain, count = torch.unique_consecutive(row, return_counts=True)
    width = max(least, k + int(count.max()))
    line = torch.arange(len(gain), device=row.device)
    at = torch.arange(len(row), device=row.device)
    at += (line * width + k - count.cumsum(0) + count).repeat_interleave(count)
    values, numbers = similarity.new_full((len(gain), width), -torch.inf), neighbours.new_zeros(len(gain), width)
    values[:, :k], numbers[:, :k] = similarity[gain], neighbours[gain]
    values.view(-1)[at], numbers.view(-1)[at] = value, number
    return gain, values, numbers


def above(similarity):
    """The next larger float: of equal similarities earlier ones stay."""
    return torch.nextafter(similarity, similarity.new_tensor(torch.inf))


def kth(maxima, k):
    """A bar for each row of maxima (rows, G), (rows,), that at least k of them reach; the lowest float if G < k.

    Many maxima are split into `width` classes, and the largest of each class is used: the bar may then be lower than
    the k-th largest.
    """
    G, width = maxima.shape[1], whole(5 * k, 4 * LANES)
    if k > G:
        return maxima.new_full((len(maxima),), torch.finfo(maxima.dtype).min)
    if G // width > 1:
        maxima = maxima[:, : G // width * width].unflatten(1, (-1, width)).amax(1)
    array, = arrays(maxima)
    if array is maxima:
        return maxima.topk(k, dim=1)[0][:, -1]
    return torch.from_numpy(np.partition(array, -k, axis=1)[:, -k])


def arrays(*tensors):
    """The same memory as numpy arrays: on a CPU, and of types that it knows. Else the tensors."""
    numpy_has_them = all(x.device.type == "cpu" and x.dtype != torch.bfloat16 for x in tensors)
    return tuple(x.numpy() for x in tensors) if numpy_has_them else tensors


def at_least(x, bar):
    """Which entries of x (rows, n) reach their row's bar (rows,)."""
    x, bar = arrays(x, bar)
    return x >= bar[:, None]


def above_or_first(x, bar, k):
    """Which entries of x (rows, n) are above their row's bar (rows,), or among the first k that equal it."""
    x, bar = arrays(x, bar)
    equal = x == bar[:, None]
    return (x > bar[:, None]) | equal & (equal.cumsum(1) <= k)


def count(mask):
    """How many entries of mask are true."""
    return np.count_nonzero(mask) if isinstance(mask, np.ndarray) else mask.count_nonzero()


def places(mask):
    """(rows, columns) of the true entries of mask (rows, n), in reading order."""
    at = np.flatnonzero(mask) if isinstance(mask, np.ndarray) else mask.flatten().nonzero()[:, 0]
    row = at // mask.shape[1]
    return row, at - row * mask.shape[1]


def top(s, k):
    """As knn.top."""
    if s.dtype != torch.float32 or s.device.type != "cpu":
        return knn.top(s, k)
    bits = (s + 0.0).view(torch.int32)                      # -0 and 0 are equal
    bits = bits ^ (bits >> 31 & 0x7FFFFFFF)                 # ordered as s is
    n = s.shape[1]
    key = (bits.long() << 32) + torch.arange(n - 1, -1, -1)
    at = n - 1 - (torch.from_numpy(np.sort(key.numpy(), axis=1))[:, -k:].flip(1) & 0xFFFFFFFF)
    return s.gather(1, at), at
