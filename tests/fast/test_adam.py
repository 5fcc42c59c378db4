"""fast.Adam is torch.optim.Adam, without the compiler that it imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fast
from tests.fast.days import DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_adam_is_that_of_pytorch(device):
    """Step by step the weights of torch.optim.Adam with weight decay; each goes on from what the other saved."""
    ours, theirs = ([torch.nn.Parameter(torch.ones(n, 3, device=device)) for n in (40, 1, 2)] for _ in range(2))
    optimizer = fast.Adam(ours, lr=1e-2, weight_decay=5e-3, fused=True)
    reference = torch.optim.Adam(theirs, lr=1e-2, weight_decay=5e-3, fused=True)
    for step in range(6):
        if step == 3:
            saved = optimizer.state_dict(), reference.state_dict()
            optimizer = fast.Adam(ours, lr=1e-2, weight_decay=5e-3)
            optimizer.load_state_dict(saved[1])
            reference.load_state_dict(saved[0])
        for a, b in zip(ours[:2], theirs):                  # the third never has a gradient
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step)).to(device)
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    assert optimizer.state_dict()["state"].keys() == reference.state_dict()["state"].keys() == {0, 1}
    optimizer.zero_grad()
    assert ours[0].grad is None


def test_loaded_moments_are_copies():
    """Steps after loading leave the saved state as it was."""
    W = torch.nn.Parameter(torch.ones(3))
    optimizer = fast.Adam([W])
    W.grad = torch.ones(3)
    optimizer.step()
    saved = optimizer.state_dict()
    before = {name: value.clone() for name, value in saved["state"][0].items()}
    other = fast.Adam([W])
    other.load_state_dict(saved)
    other.step()
    assert all(torch.equal(saved["state"][0][name], value) for name, value in before.items())


def test_a_step_does_not_import_the_compiler():
    """torch._dynamo, most of a second of importing, stays out of a process that trains."""
    code = """
import sys
import numpy as np
import fast, graph, training
day, _ = graph.build_graph(np.repeat(np.arange(6), 5), np.arange(30) % 7)
learner = training.new_learner(0, "cpu", lambda: fast.Network(True, 37, 16, 8, 6, 4), fast.Adam)
network = learner.network
training.train(learner, [network.window([network.snapshot(day, np.ones((13, 37), np.float32))])], 1)
assert learner.optimizer.state and "torch._dynamo" not in sys.modules"""
    root = str(Path(fast.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
