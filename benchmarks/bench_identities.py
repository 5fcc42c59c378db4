#!/usr/bin/env python3
"""What each identity of fast/ saves of a training step: the step without it over the step with all of them.

    python benchmarks/bench_identities.py [--firewall FILE ...] [--rounds N]

i-gcn-gru, H = 5, on six days of the paper's size and, with --firewall, of a firewall's log. One thread and processor
time, all variants in turn, the median of the rounds' ratios: a busy machine disturbs that little.
"""

import argparse
import contextlib
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from bench import HISTORY, firewall_days, new_learner, paper_day, window_of

import fast
import models
import training
from fast import layout
from fast import models as fast_models


class Whole(fast.Network):
    """The head of the plain form: a product per edge."""

    predictor = models.LinkPredictor


def whole_hidden_layer(gcn, day, W, b):
    """fast.models.hidden_then with the hidden layer kept as a whole for the backward pass."""
    hidden = torch.addmm(gcn.first.b, day.Ax, gcn.first.W).relu_()
    return torch.addmm(b, day.S @ hidden, W) if day.propagate_first else day.S @ (hidden @ W) + b


def two_maps(gcn, day, W, b):
    """fast.models.hidden_then with the GCN's output formed before the linear map after it."""
    W2, b2 = gcn.second.W, gcn.second.b
    if day.propagate_first:
        z = fast_models.PropagatedHidden.apply(day.S, day.Ax, gcn.first.W, gcn.first.b) @ W2 + b2
    else:
        z = day.S @ fast_models.HiddenProduct.apply(day.Ax, gcn.first.W, gcn.first.b, W2) + b2
    return z @ W + b


def transform_first(window):
    """The window with A_hat (z W) in place of (A_hat z) W on every day."""
    return window._replace(days=[day._replace(propagate_first=False) for day in window.days])


def without_transpose(window):
    """The window with operators whose gradient PyTorch itself computes."""
    return window._replace(days=[day._replace(S=day.S.A) for day in window.days])


def alike_to_themselves(graph, x):
    return np.arange(len(x))


def own_rows(node, return_index=False, return_inverse=False):
    """np.unique that tells no two equal: every node of day t has a state, and a row of S, of its own."""
    at = np.arange(len(node))
    return (node, at, at) if return_index else (node, at)


VARIANTS = {  # name: (what is replaced while the window is made, what while it is used, change of the window, network)
    "all": ((), (), None, fast.Network),
    "twins": ([(layout, "twins", alike_to_themselves)], (), None, fast.Network),
    "states and rows shared by nodes alike": ([(layout.np, "unique", own_rows)], (), None, fast.Network),
    "no empty columns": ([(layout, "without_empty_columns", lambda matrix: (matrix, None))], (), None, fast.Network),
    "(A_hat z) W where it is less": ((), (), transform_first, fast.Network),
    "two linear maps as one": ((), [(fast_models, "hidden_then", two_maps),
                                    (fast_models, "followed_by", lambda layer, W, b: (W, b))], None, fast.Network),
    "hidden layer by blocks": ((), [(fast_models, "hidden_then", whole_hidden_layer)], None, fast.Network),
    "that, and transposes kept": ((), [(fast_models, "hidden_then", whole_hidden_layer)], without_transpose,
                                  fast.Network),
    "head by nodes": ((), (), None, Whole),
}


@contextlib.contextmanager
def replaced(places):
    """While the block runs, each (module, name, function) in place of what stands there."""
    with contextlib.ExitStack() as stack:
        for module, name, function in places:
            stack.enter_context(mock.patch.object(module, name, function))
        yield


def measure(days, rounds):
    """{variant: median ratio of its step to the step of "all"}."""
    made = {}
    for name, (making, using, change, network) in VARIANTS.items():
        learner = new_learner(network)
        with replaced(making):
            window = window_of(learner, days)
        made[name] = learner, change(window) if change else window, using
    ratios, whole = {name: [] for name in VARIANTS}, None
    for turn in range(rounds + 1):
        for name, (learner, window, using) in made.items():
            with replaced(using):
                start = time.process_time()
                training.train_step(learner, window)
                seconds = time.process_time() - start
            whole = seconds if name == "all" else whole
            if turn:                                        # the first is a warm-up
                ratios[name].append(seconds / whole)
    return {name: statistics.median(found) for name, found in ratios.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--firewall", nargs="+", metavar="FILE", help="a firewall's log of 21 days or more")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    found = {"paper's size": measure([paper_day(rng, 1) for _ in range(HISTORY + 1)], args.rounds)}
    if args.firewall:
        found["firewall log"] = measure(firewall_days(args.firewall), 4 * args.rounds)
    print(f"{'a step without':40} " + " ".join(f"{name:>14}" for name in found))
    for name in VARIANTS:
        print(f"{name:40} " + " ".join(f"{of_size[name]:14.2f}" for of_size in found.values()))


if __name__ == "__main__":
    main()
