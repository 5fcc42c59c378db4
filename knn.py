"""Exact k-nearest neighbours, the leave-one-out vote and its report (paper section 4).

    x           (n, E)   one row per host, e.g. its embedding
    similarity  (n, k)   cosine in [-1, 1]; neighbours by decreasing similarity
    neighbours  (n, k)   row numbers; rows of equal computed similarity come by increasing number
    labels      (n,)     int64 class of each host; 0 is Unknown

The search goes through blocks of queries and blocks of candidates with a running top k: memory is bounded by one
block, never n x n. CPU and CUDA run the same code. Imports torch only.
"""

from typing import NamedTuple

import torch

UNKNOWN = 0


def standardize(x):
    """Every dimension of x (n, E) to mean 0 and deviation 1 over the rows (released code), a constant one to 0.

    Returns (n, E): float64 or float32 as x, float32 for narrower floats, float64 for whole numbers.
    """
    if x.dtype not in (torch.float32, torch.float64):
        x = x.float() if x.is_floating_point() else x.double()
    constant = (x == x[:1]).all(0)                          # exactly: its float mean may be off by a rounding
    x = (x - mean_of_rows(x)).masked_fill(constant, 0)
    deviation = mean_of_rows(x.square()).sqrt()
    return x / torch.where(deviation > 0, deviation, 1)


def mean_of_rows(x):
    """Mean over the rows of x (n, E) -> (E,), summed in float64."""
    return (x.sum(0, dtype=torch.float64) / max(1, len(x))).to(x.dtype)


@torch.no_grad()
def nearest(x, k, queries=None, query_block=512, block=16384):
    """The k rows of x (n, E) nearest to each query by cosine: (similarity (q, k), neighbours (q, k) int64).

    The paper has k = 3; the cosine is the released code's.

    queries (q, E), or None for x itself, where no row is among its own neighbours. A zero row is similar 0 to
    everything. Fewer than k candidates: as many columns as there are. No gradients.
    Raises ValueError for k or blocks below 1, shapes or types that do not fit, or numbers that are not finite.
    """
    check(x, k, queries, query_block, block)
    itself = queries is None
    x = unit(x)
    queries = x if itself else unit(queries)
    k = max(0, min(k, len(x) - itself))
    similarity = queries.new_full((len(queries), k), -torch.inf)
    neighbours = torch.zeros(len(queries), k, dtype=torch.int64, device=x.device)
    for q in range(0, len(queries) if k else 0, query_block):
        rows = slice(q, q + query_block)
        for c in range(0, len(x), block):
            s = queries[rows] @ x[c : c + block].T          # (query_block, block)
            if itself:
                number = torch.arange(c, c + s.shape[1], device=x.device)
                s[number == torch.arange(q, q + len(s), device=x.device)[:, None]] = torch.finfo(s.dtype).min
            s, at = top(s, k)
            s, chosen = top(torch.cat([similarity[rows], s], 1), k)  # earlier blocks come first: ties by number
            similarity[rows] = s
            neighbours[rows] = torch.cat([neighbours[rows], at + c], 1).gather(1, chosen)
    return similarity, neighbours


def check(x, k, queries, *blocks):
    """Raise the errors that `nearest` names."""
    others = x if queries is None else queries
    if k < 1 or x.ndim != 2 or x.shape[1] < 1 or others.shape[1:] != x.shape[1:] or others.dtype != x.dtype:
        raise ValueError(f"expected k >= 1 and rows of one width and type, got k = {k}, x {tuple(x.shape)} {x.dtype}, "
                         f"queries {tuple(others.shape)} {others.dtype}")
    if any(block < 1 for block in blocks):
        raise ValueError(f"expected blocks of 1 row or more, got {' and '.join(map(str, blocks))}")
    if not all(torch.isfinite(end) for rows in (x, others) if rows.numel() for end in rows.aminmax()):
        raise ValueError("expected finite numbers, got nan or inf")


def unit(x):
    """Rows of length 1, floating point; a zero row stays zero."""
    x = x if x.is_floating_point() else x.double()
    norm, tiny = x.norm(dim=1, keepdim=True), torch.finfo(x.dtype).tiny
    beyond = (norm < max(1e-15, tiny)) | (norm.double() > 1e15)  # squares may have left the range of the type
    if beyond.any():
        x = torch.where(beyond, x / x.abs().amax(1, keepdim=True).clamp(min=tiny), x)
        norm = x.norm(dim=1, keepdim=True)
    return x / norm.clamp(min=tiny)


def top(s, k):
    """The k largest entries of each row of s (rows, n), descending, ties by increasing column: (values, columns).

    s may be overwritten. torch.topk leaves open which of several equal entries it returns; torch.max returns the
    first, and k rounds of it are faster than topk for a few k.
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
    count = sum((votes == votes[:, i, None]).long() for i in range(votes.shape[1]))  # (q, k) votes for each one's label
    most, at = count.max(dim=1)[0], count.argmax(dim=1)     # argmax: the first, thus the nearest
    return votes.gather(1, at[:, None])[:, 0], most / neighbours.shape[1]


def small_to_unknown(labels, n_classes, min_hosts=11):
    """Labels with every class of fewer than `min_hosts` hosts turned to Unknown (released code: 10 or fewer)."""
    small = torch.bincount(labels, minlength=n_classes) < min_hosts
    return torch.where(small[labels], UNKNOWN, labels)


class Report(NamedTuple):
    """Scores of one day; rows are the classes present that day, Unknown left out."""
    classes: torch.Tensor    # (c,) int64
    support: torch.Tensor    # (c,) int64    hosts of the class
    precision: torch.Tensor  # (c,) float64
    recall: torch.Tensor     # (c,) float64
    f1: torch.Tensor         # (c,) float64
    macro_f1: float          # mean of f1; nan without classes


def classification_report(labels, predicted, n_classes):
    """Per-class precision, recall, F1 and support over the hosts whose label is not Unknown (paper 4).

    A prediction of Unknown is a miss. labels, predicted (n,) int64 in [0, n_classes).
    """
    known = labels != UNKNOWN
    labels, predicted = labels[known], predicted[known]
    support, claimed, hit = (torch.bincount(codes, minlength=n_classes)
                             for codes in (labels, predicted, labels[labels == predicted]))
    hit = hit.double()
    classes = support.nonzero()[:, 0]
    support, claimed, hit = support[classes], claimed[classes], hit[classes]
    precision = hit / claimed.clamp(min=1)
    recall = hit / support
    f1 = 2 * hit / (support + claimed)                      # = 2 P R / (P + R), and 0 without hits
    return Report(classes, support, precision, recall, f1, f1.mean().item())
