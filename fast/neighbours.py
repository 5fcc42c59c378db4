"""knn.nearest with less to look at: the same neighbours from the same products.

Where rows are searched among themselves, two blocks are multiplied once, for the rows of both. Of the products only the
maxima of groups are looked at, then the few groups that matter. Imports knn and torch.
"""

from typing import NamedTuple

import torch

import knn

GROUP = 16  # consecutive rows whose similarities are reduced to their maximum before anything is selected


class Blocks(NamedTuple):
    """How much is worked on at once on a device."""
    queries: int     # rows of a block of queries
    candidates: int  # rows of a block of x
    itself: int      # rows of either, where x is searched among itself
    product: int     # similarities of one matrix product: what a cache holds


BLOCKS = {"cpu": Blocks(512, 16384, 2048, 1 << 20), "cuda": Blocks(8192, 65536, 16384, 1 << 29)}


def sizes_on(device):
    """The Blocks of a device; of another kind than these two, those of a GPU."""
    return BLOCKS["cpu" if device.type == "cpu" else "cuda"]


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
    similarity = queries.new_full((len(queries), k), torch.finfo(queries.dtype).min)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    buffer = queries.new_empty(whole_groups(min(block, len(x))) * whole_groups(min(query_block, len(queries))))
    for c in range(0, len(x) if k else 0, block):
        candidates = queries[c : c + block] if itself else knn.unit(x[c : c + block])
        for q in range(0, c + 1 if itself else len(queries), query_block):
            query, below, diagonal = queries[q : q + query_block], itself and q < c, itself and q == c
            s, of_queries, of_candidates = similarities(candidates, query, diagonal, below, buffer)
            merge(s, of_queries, c, similarity[q : q + query_block], neighbours[q : q + query_block])
            if below:                                       # s[i, j] is s[j, i]: candidates find queries as well
                merge(s.permute(3, 2, 1, 0), of_candidates, q, similarity[c : c + block], neighbours[c : c + block])
    return similarity, neighbours


def whole_groups(n):
    """n rounded up to a multiple of GROUP."""
    return -(-n // GROUP) * GROUP


def by_groups(x):
    """Rows of x (n, d) by their place in their group, then by group: (GROUP * groups, d); what fills them up is 0."""
    x = torch.nn.functional.pad(x, (0, 0, 0, whole_groups(len(x)) - len(x)))
    return x.reshape(-1, GROUP, x.shape[1]).transpose(0, 1).reshape(x.shape)


def similarities(x, query, diagonal, both, buffer):
    """Similarities of candidates x (n, E), G groups, and queries (m, E), H groups: (s, of_queries, of_candidates).

    s (G, GROUP, GROUP, H), in `buffer`: s[i, a, b, j] is that of candidate i * GROUP + a and query j * GROUP + b.
    of_queries (G, GROUP, H): for each query, its maximum over each group of candidates. of_candidates (H, GROUP, G),
    None without `both`: for each candidate, its maximum over each group of queries.
    What is no pair gets the lowest float: places that fill up a group and, with `diagonal`, a row and itself.
    """
    lowest, n, m = torch.finfo(x.dtype).min, len(x), len(query)
    columns, H = by_groups(query), whole_groups(m) // GROUP
    s = buffer[: whole_groups(n) * H * GROUP].view(-1, GROUP, GROUP, H)
    of_queries, of_candidates = s.new_empty(len(s), GROUP, H), s.new_empty(len(s), GROUP, H) if both else None
    tile = max(1, sizes_on(x.device).product // (GROUP * GROUP * H))  # groups of a product
    for i in range(0, len(s), tile):                        # each tile's maxima while it is in the cache
        rows, groups = slice(i * GROUP, (i + tile) * GROUP), slice(i, i + tile)
        part = s[groups]
        product = part.view(-1, GROUP * H)[: len(x[rows])]
        torch.mm(x[rows], columns.T, out=product)
        if i + tile >= len(s) and n % GROUP:
            part[-1, n % GROUP :] = lowest
        if m % GROUP:
            part[:, :, m % GROUP :, -1] = lowest
        if diagonal:
            part[..., groups].diagonal(dim1=0, dim2=3).diagonal(dim1=0, dim2=1).fill_(lowest)
        torch.amax(part, 1, out=of_queries[groups])
        if both:
            torch.amax(part, 2, out=of_candidates[groups])
    return s, of_queries, of_candidates.permute(2, 1, 0) if both else None


def merge(s, maxima, first, similarity, neighbours):
    """Bring a block's similarities, candidates numbered from `first`, into the running top k, in place.

    s (G, GROUP, GROUP, H) and its maxima (G, GROUP, H) over groups of candidates, see `similarities`; similarity,
    neighbours (queries, k): the top k so far. Candidates and queries may change roles: s and maxima are then
    (H, GROUP, GROUP, G) and (H, GROUP, G).
    """
    n, k = similarity.shape
    bar = torch.nn.functional.pad(similarity[:, -1], (0, whole_groups(n) - n), value=torch.inf)
    b, j = (maxima.amax(0) > bar.view(-1, GROUP).T).nonzero().T  # queries with something better: ever fewer
    gain = j * GROUP + b
    value, at = largest(s, maxima, b, j, k)
    # of equal similarities those of earlier blocks come first
    similarity[gain], column = knn.top(torch.cat([similarity[gain], value], 1), k)
    neighbours[gain] = torch.cat([neighbours[gain], at + first], 1).gather(1, column)


def largest(s, maxima, b, j, k):
    """The k largest of s[:, :, b, j], for each of b, j (queries,), ordered as by knn.top: (values, rows) (queries, k).

    They lie in the query's k groups of largest maximum (ties: the upper group): each of those holds an entry that
    comes before all entries of any other group.
    """
    group = knn.top(maxima[:, b, j].T, k)[1].sort(dim=1)[0]     # (queries, k or all groups) ascending
    value, at = knn.top(s[group, :, b[:, None], j[:, None]].flatten(1), k)
    return value, group.gather(1, at // GROUP) * GROUP + at % GROUP
