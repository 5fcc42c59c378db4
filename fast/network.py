"""The Network of training.py with the fast embedders and layout: same parameters, same state_dict, same numbers."""

import numpy as np
import torch

import graph as graphs
import training
from fast import layout, models


class Network(training.Network):
    """As training.Network."""

    static, temporal, predictor = models.StaticEmbedder, models.TemporalEmbedder, models.LinkPredictor

    def snapshot(self, graph, x):
        A_hat = graphs.normalized_adjacency(graph)
        if x is None:
            return layout.Snapshot(graph, x, A_hat, np.arange(A_hat.shape[0]), None)
        Ax = np.concatenate([A_hat @ x, np.zeros((1, x.shape[1]), x.dtype)])
        return layout.Snapshot(graph, x, A_hat, layout.twins(graph, Ax[:-1]), torch.from_numpy(Ax).to(self.device))

    def window(self, snapshots):
        days, state = layout.days_of(snapshots, self.device)
        return layout.Window(days, state, *training.edges_of(snapshots[-1].graph, self.device))
