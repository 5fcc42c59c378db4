"""i-DarkVec from day to day: its vocabulary and its weights grow. Imports training and baselines.darkvec."""

import numpy as np
import torch

import graph as graphs
import training
from baselines import darkvec


def new_learner(seed, device, width):
    """A fresh i-DarkVec of that width, its random stream from `seed`."""
    generator = torch.Generator(device).manual_seed(seed)
    return training.Learner(darkvec.DarkVec(width).to(device), None, generator)


def learn(progress, graph, sequence, number=0, epochs=1):
    """A pass over the day's corpus; hosts never seen get rows (paper section 4.2).

    sequence: (time, host, port) of the day's packets in order of capture, as places in the graph's hosts and ports;
    number: that of the day. Returns (2,) loss and accuracy; there is no accuracy: it is nan.
    """
    other = len(graph.ports) - 1 if graph.ports[-1] == graphs.OTHER else None
    words, offsets = darkvec.corpus(*sequence, other)
    progress.nodes, row = training.add_nodes(progress.nodes, graph.hosts.astype(np.uint64), number)
    training.grow(progress.learner, len(progress.nodes.key))
    loss = darkvec.train_day(progress.learner.network, row[words], offsets, progress.learner.generator, epochs)
    progress.trained = True
    return torch.stack([loss, torch.full_like(loss, torch.nan)])


def embed(progress, hosts):
    """Embeddings of hosts (n,), addresses that were seen: (n, E) float32."""
    row = progress.nodes.row[np.searchsorted(progress.nodes.key, hosts.astype(np.uint64))]
    V = progress.learner.network.V.detach()
    return V[torch.from_numpy(row).to(V.device)]
