"""daily.memory.forget_nodes: nodes not seen for long give back their rows (old assertions of test_training)."""

import numpy as np
import pytest
import torch

import fast
import training
from daily import memory
from tests.test_training import progress_without_features, rows_of, snapshots

each_form = pytest.mark.parametrize("kind", [training.Network, fast.Network], ids=["plain", "fast"])


@each_form
def test_forgotten_nodes_give_back_their_rows(kind):
    """`forget_nodes` drops the nodes not seen since the given day; every other node keeps its bits."""
    progress = progress_without_features(snapshots(3, with_features=False, kind=kind), kind)
    before = rows_of(progress)
    gone = set(progress.nodes.key[progress.nodes.seen < 3].tolist())
    z = training.embed_day(progress)
    memory.forget_nodes(progress, 3)
    after = rows_of(progress)
    assert gone and before.keys() - after.keys() == gone
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert sorted(progress.nodes.row.tolist()) == list(range(len(after)))
    assert len(progress.learner.network.embedder.gcn.first.W) == len(after)
    assert torch.equal(training.embed_day(progress), z)
    training.incremental(progress, 1)
    assert torch.isfinite(training.embed_day(progress)).all()


@each_form
def test_nodes_of_the_window_are_not_forgotten(kind):
    """A day that stands in the window keeps its nodes' rows however long ago it was."""
    progress = progress_without_features(snapshots(4, with_features=False, kind=kind), kind, "i-gcn-gru", 1, 2)
    needed = set(np.concatenate([training.node_keys(day.graph) for day in progress.past]).tolist())
    memory.forget_nodes(progress, 1000)
    assert set(progress.nodes.key.tolist()) == needed
    assert torch.isfinite(training.embed_day(progress)).all()
