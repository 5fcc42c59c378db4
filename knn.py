"""Exact k-nearest neighbours, the leave-one-out vote and its report (paper section 4); subnet agreement (our own).

    x           (n, E)   one row per host, e.g. its embedding
    similarity  (n, k)   cosine in [-1, 1], or minus the Euclidean distance; neighbours by decreasing similarity
    neighbours  (n, k)   row numbers; rows of equal computed similarity come by increasing number
    labels      (n,)     int64 class of each host; 0 is Unknown
    addresses   (n,)     int64 IPv4 address of each host; its first 24 bits are its /24, its subnet
    m           (n,)     other hosts among the n in a host's /24

The search goes through blocks of queries and blocks of candidates with a running top k: memory is bounded by one
block, never n x n. Where rows are searched among themselves, two blocks are multiplied once, for the rows of both. Of
the product only the maxima of groups are looked at, then the few groups that matter. CPU and CUDA run the same code.
Imports torch only.
"""

import functools
from typing import NamedTuple

import torch

UNKNOWN = 0
GROUP = 16  # consecutive rows whose similarities are reduced to their maximum before anything is selected


class Blocks(NamedTuple):
    """How much is worked on at once on a device."""
    queries: int     # rows of a block of queries
    candidates: int  # rows of a block of x
    itself: int      # rows of either, where x is searched among itself
    product: int     # similarities of one matrix product: what a cache holds


BLOCKS = {"cpu": Blocks(512, 16384, 2048, 1 << 20), "cuda": Blocks(8192, 65536, 16384, 1 << 29)}


def same(x):
    return x


def mean_of_rows(x):
    return x.mean(0)


def standardize(x, mean=mean_of_rows, highest=same):
    """Every dimension to mean 0 and standard deviation 1 over the rows (released code); a constant one to 0.

    Where x is one process's share of the rows, mean(x) and highest(maxima of x) -> (E,) are those over all of them.
    """
    top = highest(x.amax(0) if len(x) else x.new_full(x.shape[1:], -torch.inf))
    constant = mean((x != top).to(x.dtype)) == 0            # exactly: its float mean may be off by a rounding
    x = (x - mean(x)).masked_fill(constant, 0)
    deviation = mean(x.square()).sqrt()
    return x / torch.where(deviation > 0, deviation, 1)


@torch.no_grad()
def nearest(x, k, metric="cosine", exclude_self=True, queries=None, query_block=None, block=None):
    """The k rows of x (n, E) nearest to each query: (similarity (q, k), neighbours (q, k) int64).

    queries (q, E), or None for x itself; exclude_self then leaves each row out of its own neighbours. Fewer than k
    candidates: as many columns as there are. metric "cosine" (a zero row is similar 0 to everything) or
    "euclidean" (similarity = minus the distance, float64). Memory: query_block x block similarities; of x among itself
    block x block, whatever query_block is (None: BLOCKS). No gradients.
    Raises ValueError for another metric, k or blocks below 1, shapes or types that do not fit, or numbers that are not
    finite.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f'metric must be "cosine" or "euclidean", got {metric!r}')
    itself = queries is None
    queries = x if itself else queries
    if k < 1 or x.ndim != 2 or x.shape[1] < 1 or queries.shape[1:] != x.shape[1:] or queries.dtype != x.dtype:
        raise ValueError(f"expected k >= 1 and rows of one width and type, got k = {k}, x {tuple(x.shape)} {x.dtype}, "
                         f"queries {tuple(queries.shape)} {queries.dtype}")
    if any(rows is not None and rows < 1 for rows in (block, query_block)):
        raise ValueError(f"expected blocks of 1 row or more, got query_block {query_block} and block {block}")
    if not all(torch.isfinite(end) for rows in ([x] if itself else [x, queries]) if rows.numel()
               for end in rows.aminmax()):
        raise ValueError("expected finite numbers, got nan or inf")
    exclude_self = exclude_self and itself
    prepare = unit
    if metric == "euclidean":                               # |q|^2 + |x|^2 - 2 q x cancels: in float64, near the origin
        some = x[:: max(1, len(x) // 1024)].double()
        center = some.median(0)[0] if len(x) else some.new_zeros(x.shape[1])
        prepare = functools.partial(torch.sub, other=center)
    queries = prepare(queries)
    k = max(0, min(k, len(x) - exclude_self))
    similarity = queries.new_full((len(queries), k), torch.finfo(queries.dtype).min)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    sizes = BLOCKS[x.device.type]
    block = block or (sizes.itself if itself else sizes.candidates)
    query_block = block if itself else query_block or sizes.queries
    buffer = queries.new_empty(whole_groups(min(block, len(x))) * whole_groups(min(query_block, len(queries))))
    for c in range(0, len(x) if k else 0, block):
        candidates = queries[c : c + block] if itself else prepare(x[c : c + block])
        for q in range(0, c + 1 if itself else len(queries), query_block):
            query, below, diagonal = queries[q : q + query_block], itself and q < c, exclude_self and q == c
            s, of_queries, of_candidates = similarities(candidates, query, metric, diagonal, below, buffer)
            merge(s, of_queries, c, similarity[q : q + query_block], neighbours[q : q + query_block])
            if below:                                       # s[i, j] is s[j, i]: candidates find queries as well
                merge(s.permute(3, 2, 1, 0), of_candidates, q, similarity[c : c + block], neighbours[c : c + block])
    return (similarity if metric == "cosine" else -(-2 * similarity).clamp(min=0).sqrt()), neighbours


def unit(x):
    """Rows of length 1, floating point; a zero row stays zero."""
    x = x if x.is_floating_point() else x.double()
    norm, tiny = x.norm(dim=1, keepdim=True), torch.finfo(x.dtype).tiny
    beyond = (norm < max(1e-15, tiny)) | (norm.double() > 1e15)  # squares may have left the range of the type
    if beyond.any():
        x = torch.where(beyond, x / x.abs().amax(1, keepdim=True).clamp(min=tiny), x)
        norm = x.norm(dim=1, keepdim=True)
    return x / norm.clamp(min=tiny)


def whole_groups(n):
    """n rounded up to a multiple of GROUP."""
    return -(-n // GROUP) * GROUP


def by_groups(x):
    """Rows of x (n, d) by their place in their group, then by group: (GROUP * groups, d); what fills them up is 0."""
    x = torch.nn.functional.pad(x, (0, 0, 0, whole_groups(len(x)) - len(x)))
    return x.reshape(-1, GROUP, x.shape[1]).transpose(0, 1).reshape(x.shape)


def similarities(x, query, metric, diagonal, both, buffer):
    """Similarities of candidates x (n, E), G groups, and queries (m, E), H groups: (s, of_queries, of_candidates).

    s (G, GROUP, GROUP, H), in `buffer`: s[i, a, b, j] is that of candidate i * GROUP + a and query j * GROUP + b: their
    product, or minus half the squared distance. of_queries (G, GROUP, H): its maxima over each group of candidates, for
    each query; of_candidates (H, GROUP, G): over each group of queries, for each candidate, with `both`, else None.
    What is no pair gets the lowest float: places that fill up a group and, with `diagonal`, a row and itself.
    """
    lowest, n, m = torch.finfo(x.dtype).min, len(x), len(query)
    columns, H = by_groups(query), whole_groups(m) // GROUP
    s = buffer[: whole_groups(n) * H * GROUP].view(-1, GROUP, GROUP, H)
    of_queries, of_candidates = s.new_empty(len(s), GROUP, H), s.new_empty(len(s), GROUP, H) if both else None
    if metric == "euclidean":
        half, half_query = x.square().sum(1, keepdim=True) / 2, columns.square().sum(1) / 2
    tile = max(1, BLOCKS[x.device.type].product // (GROUP * GROUP * H))  # groups of a product
    for i in range(0, len(s), tile):                        # each tile's maxima while it is in the cache
        rows, groups = slice(i * GROUP, (i + tile) * GROUP), slice(i, i + tile)
        part = s[groups]
        product = part.view(-1, GROUP * H)[: len(x[rows])]
        torch.mm(x[rows], columns.T, out=product)
        if metric == "euclidean":
            product -= half[rows] + half_query              # the same bits with the two roles exchanged
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


def merge(s, maxima, first, best, who):
    """Bring a block's similarities, candidates numbered from `first`, into the running top k, in place.

    s (G, GROUP, GROUP, H) and its maxima (G, GROUP, H) over groups of candidates, see `similarities`; best, who
    (queries, k). Candidates and queries may change roles: s and maxima are then (H, GROUP, GROUP, G) and (H, GROUP, G).
    """
    k = best.shape[1]
    bar = torch.nn.functional.pad(best[:, -1], (0, whole_groups(len(best)) - len(best)), value=torch.inf)
    b, j = (maxima.amax(0) > bar.view(-1, GROUP).T).nonzero().T  # queries with something better: ever fewer
    gain = j * GROUP + b
    value, at = largest(s, maxima, b, j, k)
    best[gain], column = top(torch.cat([best[gain], value], 1), k)  # earlier blocks come first: ties by number
    who[gain] = torch.cat([who[gain], at + first], 1).gather(1, column)


def largest(s, maxima, b, j, k):
    """The k largest of s[:, :, b, j], for each of b, j (queries,), as `top` orders them: (values, rows) (queries, k).

    They lie in the query's k groups of largest maximum (ties: the upper group): each of those holds an entry that
    comes before all entries of any other group.
    """
    group = top(maxima[:, b, j].T, k)[1].sort(dim=1)[0]     # (queries, k or all groups) ascending
    value, at = top(s[group, :, b[:, None], j[:, None]].flatten(1), k)
    return value, group.gather(1, at // GROUP) * GROUP + at % GROUP


def top(s, k):
    """The k largest entries of each row of s (rows, n), descending, ties by increasing column: (values, columns).

    Entries are above minus infinity; s may be overwritten. torch.topk leaves open which of several equal entries it
    returns; torch.max returns the first, and k rounds of it are faster than topk for a few k.
    """
    k = min(k, s.shape[1])
    if k <= 8:
        value, at = s.new_empty(k, len(s)), torch.empty(k, len(s), dtype=torch.int64, device=s.device)
        for i in range(k):
            torch.max(s, 1, out=(value[i], at[i]))
            s.scatter_(1, at[i, :, None], -torch.inf)
        return value.T, at.T
    value, at = s.topk(min(k + 1, s.shape[1]), dim=1)
    if value.shape[1] > k:
        tied = (value[:, k - 1] == value[:, k]).nonzero()[:, 0]  # rows whose k-th and (k+1)-th are equal
        if len(tied):
            row, last = s[tied], value[tied, k - 1 : k]
            above, equal = row > last, row == last
            room = k - above.sum(1, keepdim=True)
            chosen = above | (equal & (equal.cumsum(1) <= room))  # exactly k per row
            at[tied, :k] = chosen.nonzero()[:, 1].view(-1, k)
        at = at[:, :k]
    at = at.sort(dim=1)[0]
    value, order = s.gather(1, at).sort(dim=1, descending=True, stable=True)
    return value, at.gather(1, order)


def vote(labels, neighbours):
    """The majority label among each row's neighbours, nearest first: (predicted (q,), share (q,) of the votes).

    Ties go to the label of the nearest neighbour among the tied ones (our rule: the paper is silent). A row without
    neighbours is Unknown with share 0.
    """
    if neighbours.shape[1] == 0:
        return torch.full((len(neighbours),), UNKNOWN, device=labels.device), \
            torch.zeros(len(neighbours), device=labels.device)
    votes = labels[neighbours].contiguous()                 # (q, k)
    ordered = votes.sort(dim=1)[0]                          # equal ones side by side: nothing is as long as the classes
    count = torch.searchsorted(ordered, votes, right=True) - torch.searchsorted(ordered, votes)  # (q, k) for each label
    most, at = count.max(dim=1)[0], count.argmax(dim=1)     # argmax: the first, thus the nearest
    return votes.gather(1, at[:, None])[:, 0], most / neighbours.shape[1]


def small_to_unknown(labels, n_classes, min_hosts=11, total=same):
    """Labels with every class of fewer than `min_hosts` hosts turned to Unknown (released code: 10 or fewer).

    total(counts) sums them over the processes, where each has a share of the hosts.
    """
    small = total(torch.bincount(labels, minlength=n_classes)) < min_hosts
    return torch.where(small[labels], UNKNOWN, labels)


class Report(NamedTuple):
    """Scores of one day; rows are the classes present that day, Unknown left out."""
    classes: torch.Tensor    # (c,) int64
    support: torch.Tensor    # (c,) int64    hosts of the class
    precision: torch.Tensor  # (c,) float64
    recall: torch.Tensor     # (c,) float64
    f1: torch.Tensor         # (c,) float64
    macro_f1: float          # mean of f1; nan without classes


def classification_report(labels, predicted, n_classes, total=same):
    """Per-class precision, recall, F1 and support over the hosts whose label is not Unknown (paper 4).

    A prediction of Unknown is a miss. labels, predicted (n,) int64 in [0, n_classes). total: as in small_to_unknown.
    """
    known = labels != UNKNOWN
    labels, predicted = labels[known], predicted[known]
    support, claimed, hit = (total(torch.bincount(codes, minlength=n_classes))
                             for codes in (labels, predicted, labels[labels == predicted]))
    hit = hit.double()
    classes = support.nonzero()[:, 0]
    support, claimed, hit = support[classes], claimed[classes], hit[classes]
    precision = hit / claimed.clamp(min=1)
    recall = hit / support
    f1 = 2 * hit / (support + claimed)                      # = 2 P R / (P + R), and 0 without hits
    return Report(classes, support, precision, recall, f1, f1.mean().item())


def centroid_distance(x, labels, n_classes, total=same):
    """Cosine distance, 0..2, of each row of x (n, E) to its class's centroid, the mean of the class's unit vectors.

    labels (n,) int64 in [0, n_classes). Returns (n,), nan for Unknown rows. total: as in small_to_unknown.
    """
    x = unit(x)
    centroid = unit(total(x.new_zeros(n_classes, x.shape[1]).index_add_(0, labels, x)))
    return (1 - (x * centroid[labels]).sum(1)).masked_fill(labels == UNKNOWN, torch.nan)


def subnet_agreement(addresses, neighbours):
    """How well neighbours agree with the hosts' /24, which no feature tells: (agreement, chance), beyond the paper.

    A yardstick without labels, since one operator tends to run the hosts of one /24. Over the hosts with m >= 1:
    agreement is the share with one of those m among their k neighbours; chance is what k distinct neighbours drawn
    at random from the other n - 1 hosts would give, the mean of 1 - C(n-1-m, k) / C(n-1, k). Both nan if no host
    shares its /24. addresses (n,) integers in [0, 2^32); neighbours (n, k) without the row itself, as from `nearest`.
    Raises ValueError for shapes that do not fit, or addresses that are no integers in that range.
    """
    n = len(addresses)
    if addresses.ndim != 1 or neighbours.ndim != 2 or len(neighbours) != n:
        raise ValueError("expected addresses (n,) and neighbours (n, k), got "
                         f"{tuple(addresses.shape)} and {tuple(neighbours.shape)}")
    if addresses.is_floating_point() or (n and not (addresses.min() >= 0 and int(addresses.max()) < 1 << 32)):
        span = f", {addresses.min()}..{addresses.max()}" if n else ""
        raise ValueError(f"addresses must be integers in [0, 2^32), got {addresses.dtype}{span}")
    _, subnet, hosts = torch.unique(addresses >> 8, return_inverse=True, return_counts=True)
    m = hosts[subnet] - 1                                   # (n,)
    shared = m > 0
    found = (subnet[neighbours] == subnet[:, None]).any(1)  # (n,)
    k = max(0, min(neighbours.shape[1], n - 1))
    others = n - 1 - torch.arange(k, dtype=torch.float64, device=addresses.device)  # (k,) left before each draw
    missed = (m[shared, None] / others).clamp(max=1)        # C(n-1-m, k) / C(n-1, k) = prod_j (1 - m / (n-1-j)),
    chance = -torch.expm1(torch.log1p(-missed).sum(1))      # in logarithms: no factorial, no cancellation
    return found[shared].double().mean().item(), chance.mean().item()
