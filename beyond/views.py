"""What neighbours are searched in: the paper's standardized embeddings, or steady behaviour (--steady).

    Embedded    a day's hosts as one model sees them
    View        what steady behaviour remembers of the days before, for one model

`total` is a sum over all processes where these share the hosts out, and the identity where there is one. Imports
steady; the standardization (knn.standardize, or that of several processes) is the caller's.
"""

from typing import NamedTuple

import numpy as np
import torch

from beyond import steady

PARTS = {  # --steady and its ablation: what goes into z, see steady.follow; "rank" is the scaling of the features alone
    "rank": None,
    "whitened": {"f": 0.0, "weighted": False},
    "weighted": {"f": 0.0, "weighted": True},
    "memory": {"f": 0.9, "weighted": True},
}


class Embedded(NamedTuple):
    """A day's hosts as one model sees them."""
    saved: torch.Tensor             # (n_hosts, E) as embeddings/ holds them
    X: torch.Tensor                 # (n_hosts, E) as neighbours are searched in, by cosine
    surprise: torch.Tensor | None   # (n_hosts,) float64 how far each host moved, nan without an earlier day


class View(NamedTuple):
    """What steady behaviour remembers; None before the first day, and of what the model does not have."""
    features: steady.Memory | None = None  # of the node features
    graph: steady.Memory | None = None     # of embeddings whose axes stay: fixed-gcn's, i-darkvec's
    sums: steady.Sums | None = None        # of the pairs of days of a graph model that was trained once


def standardized(z, standardize):
    """The paper's way (section 4): neighbours are searched in the standardized embeddings; z is what is saved."""
    return Embedded(z, standardize(z), None)


def of_features(view, x, hosts, day, parts, total):
    """(Embedded, View) of the model `features`: x (n_hosts, 37) scaled by rank and standardized."""
    z, surprise, features = followed(view.features, x, hosts, day, parts, total)
    return Embedded(z, z, surprise), view._replace(features=features)


def of_steady_axes(view, X, x, hosts, day, parts, total):
    """(Embedded, View) of a model whose embeddings of different days share their axes: they are remembered.

    X (n_hosts, E) standardized embeddings; x (n_hosts, 37) standardized features, with which they are joined, or None.
    """
    z, surprise, graph = followed(view.graph, X, hosts, day, parts, total)
    view = view._replace(graph=graph)
    return joined(view, z, surprise, steady.find_axes(graph.sums), x, hosts, day, parts, total)


def of_moving_axes(view, X, pairs, x, hosts, day, parts, total, keep=True):
    """(Embedded, View) of a trained graph model, whose axes move with its weights: no memory, but axes from pairs.

    X (n_hosts, E) standardized embeddings; pairs: a list of (X, hosts, X_s, earlier), the standardized embeddings of a
    day's hosts and those of the day before it by the same weights, today's pair first. keep: whether the pairs of days
    before still count, as those of weights that no longer change do: other weights have other axes.
    """
    sums = view.sums if keep else None
    for X_t, hosts_t, X_s, earlier in pairs:
        today = steady.Sums(*map(total, steady.moments(X_t, *laid_out(hosts_t, X_s, earlier))))
        sums = steady.add(sums, today) if sums else today
    view = view._replace(sums=sums if keep else None)
    unknown = torch.full((len(X),), torch.nan, dtype=torch.float64, device=X.device)
    if sums is None:                                        # no day before: what is there is the embedding itself
        axes = steady.find_axes(steady.moments(X[:0], X[:0], X[:0, 0]))
        return joined(view, X, unknown, axes, x, hosts, day, parts, total)
    axes = steady.find_axes(sums)
    surprise = steady.surprise(axes, X, *laid_out(hosts, *pairs[0][2:])) if pairs else unknown
    shown = axes if PARTS[parts]["weighted"] else axes._replace(psi=torch.full_like(axes.psi, torch.inf))
    return joined(view, steady.posterior(shown, X), surprise, axes, x, hosts, day, parts, total)


def only_features(view, x, hosts, day, parts, total):
    """The View after a day on which the model itself has no embedding; x as in of_moving_axes."""
    return view if x is None else view._replace(features=followed(view.features, x, hosts, day, parts, total)[2])


def followed(memory, x, hosts, day, parts, total):
    """steady.follow with today's sums over all processes: (z, surprise, memory)."""
    memory = memory or steady.new_memory(x.shape[1], x.device)
    today = steady.Sums(*map(total, steady.moments(x, *steady.recall(memory, hosts))))
    return steady.follow(memory, today, x, hosts, day, **PARTS[parts])


def laid_out(hosts, X_s, earlier):
    """Yesterday's rows in the order of today's hosts, 0 for those that were absent, and which were there: (X_s, known).

    hosts (n,) and earlier (m,) addresses, ascending; X_s (m, E).
    """
    known, at = np.isin(hosts, earlier), np.searchsorted(earlier, hosts)
    known_rows = torch.from_numpy(np.flatnonzero(known)).to(X_s.device)
    out = X_s.new_zeros(len(hosts), X_s.shape[1])
    out[known_rows] = X_s[torch.from_numpy(at[known]).to(X_s.device)]
    return out, torch.from_numpy(known).to(X_s.device).double()


def joined(view, z, surprise, axes, x, hosts, day, parts, total):
    """(Embedded, View) with the steady features beside z, weighed by how much signal either view has."""
    if x is None:
        return Embedded(z, z, surprise), view
    own, _, features = followed(view.features, x, hosts, day, parts, total)
    weight = steady.join_weight(steady.find_axes(features.sums), axes)
    both = steady.join(own, z, weight)
    return Embedded(both, both, surprise), view._replace(features=features)


def forget(view, before):
    """The view without the hosts last seen before the day of that number."""
    return view._replace(**{name: memory and steady.forget(memory, before)
                            for name, memory in (("features", view.features), ("graph", view.graph))})


def as_dict(view):
    """The View as dicts of tensors and plain types."""
    return {"features": view.features and steady.as_dict(view.features),
            "graph": view.graph and steady.as_dict(view.graph), "sums": view.sums and view.sums._asdict()}


def from_dict(saved, device):
    """The View that `as_dict` made dicts of, its tensors on the device."""
    features, graph = (saved[name] and steady.from_dict(saved[name], device) for name in ("features", "graph"))
    sums = saved["sums"] and steady.Sums(*(value.to(device) if torch.is_tensor(value) else value
                                           for value in (saved["sums"][name] for name in steady.Sums._fields)))
    return View(features, graph, sums)
