"""How far two groupings of the same things agree, beyond chance, and which pairs a grouping keeps together.

    a, b   (n,)    the group of each thing, integers; which integers does not matter

Hubert, Arabie: Comparing Partitions, 1985 (adjusted Rand); Vinh, Epps, Bailey: Information Theoretic Measures for
Clusterings Comparison, JMLR 2010 (adjusted mutual information, over the arithmetic mean of the entropies).
1 is agreement, 0 what chance gives. Imports numpy and scipy only.
"""

import numpy as np
import scipy


def contingency(a, b):
    """(count (m,), i (m,), j (m,), sizes of a's groups, sizes of b's groups): the cells that are not empty."""
    _, i, sizes_a = np.unique(a, return_inverse=True, return_counts=True)
    _, j, sizes_b = np.unique(b, return_inverse=True, return_counts=True)
    cell, count = np.unique(i * max(1, len(sizes_b)) + j, return_counts=True)
    return count, cell // max(1, len(sizes_b)), cell % max(1, len(sizes_b)), sizes_a, sizes_b


def pairs(counts):
    """How many pairs there are inside groups of these sizes, a whole number."""
    counts = np.asarray(counts, dtype=np.int64)
    return int((counts * (counts - 1) // 2).sum())


def adjusted_rand(a, b):
    """The adjusted Rand index; 1 where both are one group, or each thing is alone in both; nan for fewer than 2."""
    n = len(a)
    if n < 2:
        return float("nan")
    count, _, _, sizes_a, sizes_b = contingency(a, b)
    both, in_a, in_b = pairs(count), pairs(sizes_a), pairs(sizes_b)
    expected, most = in_a * in_b / pairs([n]), (in_a + in_b) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def entropy(sizes):
    share = sizes / sizes.sum()
    return -(share * np.log(share)).sum()


def adjusted_mutual_information(a, b):
    """(I(a, b) - E) / (mean of both entropies - E), E the mutual information to expect of groups of these sizes.

    1 where both are one group; nan for fewer than 2 things.
    """
    n = len(a)
    if n < 2:
        return float("nan")
    count, i, j, sizes_a, sizes_b = contingency(a, b)
    if len(sizes_a) == len(sizes_b) and len(sizes_a) in (1, n):
        return 1.0
    information = (count / n * np.log(n * count / (sizes_a[i] * sizes_b[j]))).sum()
    expected = expected_information(sizes_a, sizes_b)
    room = (entropy(sizes_a) + entropy(sizes_b)) / 2 - expected
    return float((information - expected) / (room if abs(room) > 1e-15 else np.copysign(1e-15, room)))


def expected_information(sizes_a, sizes_b):
    """The mean mutual information over all ways to fill groups of these sizes by chance (hypergeometric cells)."""
    n, total, gammaln = int(sizes_a.sum()), 0.0, scipy.special.gammaln
    sizes_a, times_a = np.unique(sizes_a, return_counts=True)
    sizes_b, times_b = np.unique(sizes_b, return_counts=True)
    for u, times_u in zip(sizes_a.tolist(), times_a.tolist()):
        for v, times_v in zip(sizes_b.tolist(), times_b.tolist()):
            k = np.arange(max(1, u + v - n), min(u, v) + 1)
            log_p = (gammaln(u + 1) + gammaln(v + 1) + gammaln(n - u + 1) + gammaln(n - v + 1) - gammaln(n + 1)
                     - gammaln(k + 1) - gammaln(u - k + 1) - gammaln(v - k + 1) - gammaln(n - u - v + k + 1))
            total += times_u * times_v * (k / n * np.log(n * k / (u * v)) * np.exp(log_p)).sum()
    return total


def pairs_kept(groups, of):
    """(share, chance): of the pairs of things of equal `of` (n,), how many are in one group; of all pairs, how many.

    groups (n,) integers; below 0 a thing is in no group. nan where there are no such pairs.
    """
    grouped = groups >= 0
    inside = pairs(np.unique(groups[grouped], return_counts=True)[1])
    alike = pairs(np.unique(of, return_counts=True)[1])
    both = pairs(contingency(groups[grouped], of[grouped])[0])
    all_pairs = pairs([len(groups)])
    return (both / alike if alike else float("nan")), (inside / all_pairs if all_pairs else float("nan"))
