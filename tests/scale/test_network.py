"""Loss, gradients, embeddings and training steps of several processes are those of one."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

import fast
import features
import graph as graphs
import scale
import training
from scale import shared
from scale.processes import all_sum
from tests.scale.ranks import (
    LONELY,
    SIZES,
    TOP_PORTS,
    day_of_packets,
    found_by_ranks,
    joined,
    one_process,
    owned,
    part_of,
)

WIDTHS = 37, 12, 8, 6, 4
DTYPES = [torch.float32, torch.float64]
CASES = [(False, (2,)), (True, (3, LONELY)), (True, (LONELY, 2, 3))]  # recurrent, days of the window


def float64(day):
    """A snapshot in float64, its A_hat x anew."""
    A_hat, n_hosts = day.A_hat.astype(np.float64), len(day.graph.hosts)
    Ax = np.concatenate([A_hat @ day.x.astype(np.float64), np.zeros((1, day.x.shape[1]))])
    Ax[n_hosts:-1] = all_sum(Ax[n_hosts:-1])
    return day._replace(A_hat=A_hat, Ax=torch.from_numpy(Ax))


def negatives_of(g):
    """(addresses, ports) of fixed negatives for a day, drawn over all hosts."""
    generator = torch.Generator().manual_seed(5)
    host, port = graphs.sample_negatives(torch.from_numpy(g.edge_host), torch.from_numpy(g.edge_port), len(g.hosts),
                                         len(g.ports), len(g.edge_host), generator)
    return g.hosts[host.numpy()], g.ports[port.numpy()]


def learn(network, optimizer, recurrent, days, dtype, negatives, low_memory=False):
    """What a learner computes with fixed negatives, of days (graph, x): embeddings, loss, gradients, three steps.

    Then, in float32, results and weights after three steps with negatives that it draws.
    """
    make = partial(network, recurrent, *WIDTHS)
    learner = shared.own_stream(training.new_learner(0, "cpu", make, optimizer))
    network = learner.network.to(dtype)
    network.embedder.low_memory = low_memory
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data.uniform_(-0.5, 0.5)                  # so that all gradients show, those of biases too
    snapshots = [network.snapshot(*day) for day in days]
    window = network.window(snapshots if dtype == torch.float32 else [float64(day) for day in snapshots])
    graph = days[-1][0]
    mine = np.isin(negatives[0], graph.hosts)
    host, port = (torch.from_numpy(np.searchsorted(known, wanted[mine])) for known, wanted in
                  zip((graph.hosts, graph.ports), negatives))
    found = {"hosts": graph.hosts, "z": network.embed(window), "non_edges": window.non_edges}
    losses, accuracies = [], []
    for _ in range(3):
        loss, accuracy = network(window, host, port)
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step()
        losses.append(loss.detach())
        accuracies.append(accuracy.item())
        found.setdefault("gradient", torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    found |= {"losses": torch.stack(losses), "accuracies": accuracies, "stepped": weights_of(network)}
    if dtype == torch.float32:
        results = [training.train_step(learner, window) for _ in range(3)]
        found |= {"results": torch.stack(results), "weights": weights_of(network)}
    return found


def weights_of(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def work(rank, size):
    """What a rank finds in every case."""
    days = []
    for t in range(4):
        counted = shared.count_day(part_of(day_of_packets(t), rank, size), 5, TOP_PORTS, features.node_features)
        days.append((counted.graph, shared.by_maximum(counted.raw, len(counted.graph.hosts))))
    return cases(scale.Network, scale.Adam, days)


def cases(network, optimizer, days):
    """What `learn` finds in every case, of days (graph, x); and in one of them with little memory."""
    found = {}
    for recurrent, which in CASES:
        negatives = negatives_of(one_process(which[-1]).graph)
        for dtype in DTYPES:
            found[recurrent, which, dtype] = learn(network, optimizer, recurrent, [days[t] for t in which], dtype,
                                                   negatives)
    found["low memory"] = learn(network, optimizer, recurrent, [days[t] for t in which], dtype, negatives, True)
    return found


@pytest.fixture(scope="module", params=SIZES)
def by_rank(request, tmp_path_factory, alone):
    """What each rank found; after `alone`, whose imports the forked processes then have."""
    return found_by_ranks(request.param, work, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone():
    """What one process finds: days (graph, x), and the cases."""
    counted = [one_process(t) for t in range(4)]
    days = [(day.graph, features.scale_by_maximum(day.raw, len(day.graph.hosts))) for day in counted]
    return {"days": days, **cases(fast.Network, fast.Adam, days)}


def near(found, expected, tolerance):
    """The error of the vector is at most that share of its norm."""
    assert found.dtype == expected.dtype
    assert (found - expected).norm() <= tolerance[expected.dtype] * expected.norm()


@pytest.mark.parametrize("t", [0, 2, 3])
def test_the_days_have_twins(t, alone):
    """What the tests below compare holds nodes that one process computes once, ports and hosts; a rank its hosts."""
    graph, x = alone["days"][t]
    twin, n_hosts = fast.Network(False, *WIDTHS).snapshot(graph, x).twin, len(graph.hosts)
    assert len(np.unique(twin[:n_hosts])) == n_hosts - 8 and len(np.unique(twin[n_hosts:])) == len(twin) - n_hosts - 2
    alike = np.arange(2**31 + 201, 2**31 + 210)
    for size in SIZES:
        assert max(Counter(len(owned(alike, rank, size)) for rank in range(size))) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_gradients_and_embeddings_are_those_of_one_process(case, dtype, by_rank, alone):
    """With the same negatives the error of each vector is 1e-5 of its norm in float32, 1e-10 in float64, at most."""
    ranks, one = [rank[(*case, dtype)] for rank in by_rank], alone[(*case, dtype)]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-10}
    for rank in ranks:
        near(rank["losses"][0], one["losses"][0], tolerance)
        assert rank["accuracies"] == pytest.approx(one["accuracies"])
        near(rank["gradient"], one["gradient"], tolerance)
        assert rank["non_edges"] == one["non_edges"] > 0
    hosts, z = joined([rank["hosts"] for rank in ranks], [rank["z"] for rank in ranks])
    assert (hosts == one["hosts"]).all()
    near(torch.from_numpy(z), one["z"], tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_three_steps_are_those_of_one_process(case, dtype, by_rank, alone):
    """With the same negatives the weights after three steps, and the losses on the way, are one process's."""
    one, tolerance = alone[(*case, dtype)], {torch.float32: 1e-5, torch.float64: 1e-10}
    for rank in by_rank:
        near(rank[(*case, dtype)]["losses"], one["losses"], tolerance)
        near(rank[(*case, dtype)]["stepped"], one["stepped"], tolerance)


def test_ranks_make_the_same_steps(by_rank):
    """After steps with negatives of their own all ranks' weights and reported figures are equal bit by bit."""
    for case in CASES:
        first, *others = [rank[(*case, torch.float32)] for rank in by_rank]
        assert torch.isfinite(first["weights"]).all() and first["results"].unique(dim=0).shape[0] == 3
        for other in others:
            assert torch.equal(first["weights"], other["weights"])
            assert torch.equal(first["results"], other["results"])


def test_with_little_memory_the_steps_are_the_same(by_rank):
    """Each day computed twice, collectives and all, gives the same weights."""
    for rank in by_rank:
        near(rank["low memory"]["stepped"], rank[(*CASES[-1], torch.float64)]["stepped"], {torch.float64: 1e-12})


def test_the_state_dict_is_the_plain_one():
    """Networks of one and of several processes load each other's weights: the same names and shapes."""
    for recurrent in (False, True):
        shapes = [{name: value.shape for name, value in network(recurrent).state_dict().items()}
                  for network in (training.Network, scale.Network)]
        assert shapes[0] == shapes[1]


def test_node_features_are_needed(alone):
    """One line: without them each node has a row of weights of its own."""
    with pytest.raises(ValueError, match="several processes need node features, got none"):
        scale.Network(False, *WIDTHS).snapshot(alone["days"][0][0], None)
