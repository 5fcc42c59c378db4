"""Campaigns: the groups of hosts that act alike, by density, without labels and without a number of groups (HDBSCAN).

Campello, Moulavi, Sander: Density-Based Clustering Based on Hierarchical Density Estimates, PAKDD 2013. The numbers are
those of scikit-learn's HDBSCAN; memory is bounded by one block, never n x n.

    x        (n, E)     one row per host; rows are scaled to length 1, so Euclidean distance orders like cosine
    core     (n,)       distance of a row to the `min_samples`-th row nearest to it, of which it is itself the first
    reach    (n, n)     mutual reachability max(core_i, core_j, |x_i - x_j|): never stored
    tree     (n - 1,)   the minimum spanning tree of reach, as edges (a, b, weight)
    lambda   1 / weight the density at which rows leave their cluster
    label    (n,) int64 campaign 0, 1, ... by decreasing size, then by first row; -1: none

Ties: edges go in order of (reach, distance, lower row, higher row), so equal input gives equal labels. Which of several
rows at the same distance comes first depends on the last bit of a matrix product, as in all such searches.
CPU and CUDA run the same code. Imports torch, numpy and scipy only.
"""

from typing import NamedTuple

import numpy as np
import scipy
import torch

NEAR = 16  # neighbours of each row that are kept: most edges of the tree are found among them
ROWS, COLUMNS = 512, 8192  # a block: 32 MiB
NO_CAMPAIGN = -1


class Condensed(NamedTuple):
    """The tree of clusters of `min_size` rows or more; cluster 0 is the root, a parent comes before its children."""
    parent: np.ndarray   # (c,) int64; of the root -1
    birth: np.ndarray    # (c,) lambda at which the cluster split from its parent
    cluster: np.ndarray  # (n,) int64 the cluster that each row leaves, alone or among fewer than min_size
    leaves: np.ndarray   # (n,) lambda at which it does


def campaigns(x, min_size=5, min_samples=None, selection="mass", tree=None):
    """The campaign of each row of x (n, E), and how much it belongs there: (label (n,) int64, membership (n,) 0..1).

    min_size: rows of the smallest campaign; min_samples: how many rows, itself included, make a row dense (None:
    min_size); selection: "mass", the clusters with the most excess of mass, or "leaf", those that split no further.
    tree: spanning_tree, or its equal of many rows. All rows together are no campaign: fewer than 2 * min_size rows, or
    equal ones, have none. Both are numpy arrays.
    Raises ValueError for sizes below 2, min_samples below 1, an x that is no matrix of finite numbers.
    """
    min_samples = min_size if min_samples is None else min_samples
    if min_size < 2 or min_samples < 1:
        raise ValueError(f"expected min_size of 2 or more and min_samples of 1 or more, got {min_size}, {min_samples}")
    if selection not in ("mass", "leaf"):
        raise ValueError(f"expected selection mass or leaf, got {selection!r}")
    if x.ndim != 2 or x.shape[1] < 1:
        raise ValueError(f"expected rows x (n, E), got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("expected finite numbers, got nan or inf")
    if len(x) < max(2 * min_size, min_samples):
        return np.full(len(x), NO_CAMPAIGN), np.zeros(len(x))
    edges = (tree or spanning_tree)(unit(x), min_samples)
    condensed = condense(*single_linkage(*edges), min_size)
    return label_rows(condensed, select(condensed, selection))


def unit(x):
    """Rows of length 1 in float64; a zero row stays zero: it is at distance 1 from all rows but zero ones."""
    x = x.double()
    x = x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)  # squares stay in range
    return x / x.norm(dim=1, keepdim=True).clamp(min=0.5)   # the largest entry is 1, or all are 0


# -- distances, by blocks ----------------------------------------------------------------------------------------------

def factors(x):
    """(left, right), (n, E + 2) each, with left @ right.T = -|x_i - x_j|^2 / 2: what is nearest is largest."""
    half, one = -x.square().sum(1, keepdim=True) / 2, torch.ones_like(x[:, :1])
    return torch.cat([x, half, one], 1), torch.cat([x, one, half], 1)


def distance(x, a, b):
    """Distance of rows a to rows b, (m,) each, from their differences: 0 for equal rows, which products miss."""
    parts = [(x[i] - x[j]).norm(dim=1) for i, j in zip(a.split(1 << 16), b.split(1 << 16))]
    return torch.cat(parts) if parts else x.new_empty(0)


def near_rows(x, left, right, k):
    """The k nearest other rows of each row: (rows (n, k) int64, distance (n, k) ascending)."""
    n = len(x)
    near = torch.zeros(n, k, dtype=torch.int64, device=x.device)
    for q in range(0, n, ROWS):
        best, at = x.new_empty(min(ROWS, n - q), 0), near.new_empty(min(ROWS, n - q), 0)
        for c in range(0, n, COLUMNS):
            s = left[q : q + ROWS] @ right[c : c + COLUMNS].T
            if -len(s) < q - c < s.shape[1]:                # the blocks meet
                s.diagonal(q - c)[:] = -torch.inf           # no row is a neighbour of its own
            s, columns = s.topk(min(k, s.shape[1]), dim=1)
            best, at = torch.cat([best, s], 1), torch.cat([at, columns + c], 1)
            best, chosen = best.topk(min(k, best.shape[1]), dim=1)
            at = at.gather(1, chosen)
        near[q : q + ROWS] = at
    return by_distance(x, near)


def by_distance(x, near):
    """Rows near to each row (n, k) by their distance, then by their number: (rows (n, k), distance (n, k))."""
    near = near.sort(dim=1)[0]
    row = torch.arange(len(x), device=x.device).repeat_interleave(near.shape[1])
    d, order = distance(x, row, near.ravel()).view(near.shape).sort(dim=1, stable=True)
    return near.gather(1, order), d


def nearest_outside(rows, left, right, core, component):
    """For each of `rows` (m,) the row of another component with the least max(core_j, distance): (m,) int64."""
    best = left.new_full((len(rows),), -torch.inf)
    found = torch.zeros_like(rows)
    density, mine = -core.square() / 2, component[rows][:, None]
    for c in range(0, len(left), COLUMNS):
        s = left[rows] @ right[c : c + COLUMNS].T
        torch.minimum(s, density[c : c + COLUMNS], out=s)
        s.masked_fill_(mine == component[c : c + COLUMNS], -torch.inf)
        s, at = s.max(1)
        better = s > best
        best, found = torch.where(better, s, best), torch.where(better, at + c, found)
    return found


# -- the minimum spanning tree -----------------------------------------------------------------------------------------

class Far(NamedTuple):
    """What is known of each row's edges to rows that are not among its near ones."""
    other: torch.Tensor  # (n,) int64 the end of the edge that its last search found; the row itself: none yet
    reach: torch.Tensor  # (n,) of that edge
    least: torch.Tensor  # (n,) no edge to a row that is not near, then or later, weighs less

    def weight(self, component):
        """The reach of each row's edge, infinite where the other end has joined its component."""
        return self.reach.masked_fill(component[self.other] == component, torch.inf)


def spanning_tree(x, min_samples):
    """The minimum spanning tree of mutual reachability: (a, b, weight), (n - 1,) arrays in order of merging."""
    left, right = factors(x)
    near, d = near_rows(x, left, right, min(len(x) - 1, max(NEAR, min_samples - 1)))
    core = d[:, min_samples - 2] if min_samples > 1 else x.new_zeros(len(x))

    def search(component, searching, best, far):
        """Rows with the least bound first: they settle the others."""
        while len(rows := (searching & (far.least < best[component])).nonzero()[:, 0]):
            rows = rows[far.least[rows].argsort(stable=True)[:ROWS]]
            other = nearest_outside(rows, left, right, core, component)
            found = torch.maximum(torch.maximum(core[rows], core[other]), distance(x, rows, other))
            far.other[rows], far.reach[rows], far.least[rows] = other, found, found
            best.scatter_reduce_(0, component[rows], found, "amin")
            searching[rows] = False
    a, b, weight = boruvka(x, near, d, core, search)
    order = merging_order(a, b, weight, distance(x, a, b))
    return tuple(part.cpu().numpy()[order] for part in (a, b, weight))


def boruvka(x, near, d, core, search):
    """The tree's edges (a, b, weight), in no order, from each row's near ones (n, k), their distance, and core (n,).

    In each round components find their least edges to others: those whose least edge is certain already, and of the
    others the half with the fewest rows still to be searched, those in doubt. Most are among the near rows;
    search(component, searching, best, far) finds the rest, of the rows (n,) `searching`. It changes the Far and each
    component's least weight, best, in place. A row is in doubt only if its edge could be less than what its component
    has: no other row is nearer than its last near one, nor than what an earlier search found, since components only
    grow.
    """
    n, k = near.shape
    component, edges = torch.arange(n, device=x.device), []
    reach = torch.maximum(torch.maximum(d, core[:, None]), core[near])  # (n, k)
    nothing = x.new_full((n,), torch.inf)
    far = Far(component.clone(), nothing, torch.maximum(core, d[:, -1]) if k < n - 1 else nothing.clone())
    while (count := int(component.max()) + 1) > 1:
        by_near, at = reach.masked_fill(component[near] == component[:, None], torch.inf).min(1)
        best = x.new_full((count,), torch.inf)
        best.scatter_reduce_(0, component, torch.minimum(by_near, far.weight(component)), "amin")
        doubts = torch.bincount(component[far.least <= best[component]], minlength=count)
        searching = (doubts <= (doubts[doubts > 0].median() if doubts.any() else 0))[component]
        search(component, searching.clone(), best, far)
        by_far = far.weight(component)
        own = torch.where(by_far < by_near, far.other, near.gather(1, at[:, None])[:, 0])
        weight = torch.minimum(by_near, by_far)
        rows = (searching & (weight == best[component])).nonzero()[:, 0]
        chosen, component = joined(component, rows, own[rows], weight[rows], distance(x, rows, own[rows]))
        edges.append([part[chosen] for part in (rows, own[rows], weight[rows])])
    return [torch.cat(parts) for parts in zip(*edges)]


def merging_order(a, b, weight, d):
    """The order of edges by (weight, distance, lower row, higher row), as an array."""
    return np.lexsort([key.cpu().numpy() for key in (torch.maximum(a, b), torch.minimum(a, b), d, weight)])


def joined(component, a, b, weight, d):
    """Join components by edges from rows a to rows b (m,), all the least of a's: (chosen edges, components after it).

    A component takes one edge, the first in order: with two equal ones it might join what a lesser edge joins later.
    """
    order = merging_order(a, b, weight, d)
    of = component.cpu().numpy()
    u, v = of[a.cpu().numpy()], of[b.cpu().numpy()]
    rank = np.sort(np.unique(u[order], return_index=True)[1])  # in that order, of each component's first edge
    first, count = order[rank], int(of.max()) + 1
    low, high = np.minimum(u, v)[first], np.maximum(u, v)[first]
    rank = np.unique(low * count + high, return_index=True)[1]  # two components may have chosen the same edge
    graph = scipy.sparse.coo_matrix((rank + 1.0, (low[rank], high[rank])), shape=(count, count)).tocsr()
    tree = scipy.sparse.csgraph.minimum_spanning_tree(graph)  # without the last of edges that close a circle
    chosen = torch.from_numpy(first[tree.data.astype(np.int64) - 1]).to(a.device)
    _, merged = scipy.sparse.csgraph.connected_components(tree, directed=False)
    return chosen, torch.from_numpy(merged.astype(np.int64)).to(a.device)[component]


# -- the tree of clusters ----------------------------------------------------------------------------------------------

def single_linkage(a, b, weight):
    """Merges of the tree's edges in their order: (child (n - 1, 2), weight, size (2 n - 1,)); merge t makes n + t.

    A plain loop: each merge needs the one before it. 100,000 rows take a fifth of a second.
    """
    n = len(a) + 1
    above, size, child = list(range(2 * n - 1)), [1] * n, []

    def top(node):
        while above[node] != node:
            above[node] = above[above[node]]                # halves the path
            node = above[node]
        return node
    for t, (i, j) in enumerate(zip(a.tolist(), b.tolist())):
        i, j = top(i), top(j)
        above[i] = above[j] = n + t
        size.append(size[i] + size[j])
        child.append((i, j))
    return child, weight.tolist(), size


def condense(child, weight, size, min_size):
    """The Condensed tree: going down from the root, a cluster splits where both parts have min_size rows or more.

    Otherwise the smaller part leaves it. Equal rows (weight 0) never split: they leave together, at lambda infinity.
    """
    n = len(child) + 1
    cluster, leaves = [0] * (2 * n - 1), [None] * (2 * n - 1)  # leaves: None while a node goes on with its cluster
    parent, birth = [-1], [0.0]
    for t in reversed(range(n - 1)):
        node, density = n + t, 1 / weight[t] if weight[t] > 0 else np.inf
        large = [size[i] >= min_size for i in child[t]]
        for i, is_large in zip(child[t], large):
            cluster[i], leaves[i] = cluster[node], leaves[node]
            if leaves[node] is not None:
                continue
            if not is_large or density == np.inf:
                leaves[i] = density
            elif all(large):
                cluster[i] = len(parent)
                parent.append(cluster[node])
                birth.append(density)
    return Condensed(np.array(parent), np.array(birth), np.array(cluster[:n]), np.array(leaves[:n], dtype=float))


def select(condensed, selection):
    """Which clusters are campaigns, (c,) bool; never the root.

    Excess of mass: a cluster's stability is the sum over its rows of how far lambda rose while they stayed; from the
    leaves upwards a cluster is taken unless those below it, together, are more stable.
    """
    parent, birth, cluster, leaves = condensed
    c = len(parent)
    inside = np.bincount(cluster, minlength=c)
    mass = np.zeros(c)
    np.add.at(mass, cluster, leaves - birth[cluster])
    for i in reversed(range(1, c)):                         # a child leaves with all its rows where it is born
        inside[parent[i]] += inside[i]
        mass[parent[i]] += (birth[i] - birth[parent[i]]) * inside[i]
    below, taken = np.zeros(c), np.zeros(c, bool)
    has_children = np.zeros(c, bool)
    has_children[parent[1:]] = True
    for i in reversed(range(1, c)):
        taken[i] = not has_children[i] if selection == "leaf" else not below[i] > mass[i]
        below[parent[i]] += mass[i] if taken[i] else below[i]
    covered = np.zeros(c, bool)
    for i in range(1, c):                                   # below one that is taken none is
        covered[i] = covered[parent[i]] or taken[parent[i]]
    return taken & ~covered


def label_rows(condensed, chosen):
    """(label, membership) of the rows, from the Condensed tree and the clusters chosen (c,) bool."""
    parent, _, cluster, leaves = condensed
    own = np.full(len(parent), NO_CAMPAIGN)
    for i in range(1, len(parent)):
        own[i] = i if chosen[i] else own[parent[i]]
    label = own[cluster]
    inside = np.flatnonzero(label >= 0)
    last = np.zeros(len(parent))                            # the highest density that a row of the campaign has
    np.maximum.at(last, cluster[inside], leaves[inside])
    for i in range(1, len(parent)):                         # the births of its children, if any, count for the cluster
        last[parent[i]] = max(last[parent[i]], condensed.birth[i])
    membership = np.zeros(len(label))
    most = last[label[inside]]
    with np.errstate(invalid="ignore"):
        share = np.minimum(leaves[inside], most) / most
    membership[inside] = np.where(np.isinf(leaves[inside]), 1, share)
    return renumbered(label), membership


def renumbered(label):
    """Labels 0, 1, ... by decreasing size, then by first row; -1 stays."""
    names, first, code, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    rank = np.lexsort([first, -size, names == NO_CAMPAIGN])
    number = np.empty(len(names), np.int64)
    number[rank] = np.arange(len(names))
    number[names == NO_CAMPAIGN] = NO_CAMPAIGN
    return number[code]
