"""A state of any number of processes is one, and any number of processes goes on from it."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

import fast
import features
import scale
import training
from beyond import views
from daily import hosts as table
from daily import memory, state
from fast import alone
from report import shown
from scale import parts, shared
from scale.processes import all_objects, owner
from tests.scale.ranks import SIZES, TOP_PORTS, by_ranks, day_of_packets, part_of

MODELS = ["i-gcn-gru", "features"]
WIDTHS = 37, 12, 8, 6, 4


def way_of(size):
    return shared if size > 1 else alone


def counted(rank, size, t):
    """The graph and the scaled features of day t, of the rank's hosts."""
    way, day = way_of(size), part_of(day_of_packets(t), rank, size)
    counted = way.count_day(day, 5, TOP_PORTS, features.node_features)
    return counted.graph, way.by_rank(counted.raw, len(counted.graph.hosts))


def fresh(size):
    kinds = (scale.Network, scale.Adam) if size > 1 else (fast.Network, fast.Adam)
    return way_of(size).own_stream(training.new_learner(0, "cpu", partial(kinds[0], True, *WIDTHS), kinds[1]))


def take(past, rank, size, t):
    """The rank's hosts of day t enter the memory; a model with a window learns from it."""
    way, (graph, x), number = way_of(size), counted(rank, size, t), t + 1
    past.day, past.last = number, table.datetime.date.fromordinal(number)
    for progress in past.models:
        if progress.learner:
            training.take(progress, progress.learner.network.snapshot(graph, x), number, progress.history + 2)
            training.incremental(progress, 1)
    x = torch.from_numpy(x[: len(graph.hosts)])
    past.views = [views.of_features(view, way.standardize(x), graph.hosts, number, "memory", way.total)[1]
                  for view in past.views]
    hosts, *of_hosts = way.everyone(graph.hosts, *shown.of_graph(graph))
    past.hosts = table.update(past.hosts, table.today(table.lookup(past.hosts, hosts), hosts, number))
    if rank == 0:
        past.shown = [*past.shown, shown.day_without_map({"date": str(past.last)}, hosts, *of_hosts)]
    return graph


def write(rank, size, model, path):
    """Three days, and their state."""
    progress = training.Progress(fresh(size) if model == "i-gcn-gru" else None, 1)
    past = memory.Memory(models=[progress], views=[views.View()])
    for t in range(3):
        take(past, rank, size, t)
    whole = way_of(size).gathered(memory.packed(past, {"model": model}, {("a", 1, 2): 3}))
    if rank == 0:
        state.save(path, whole)


def go_on(rank, size, path, folder):
    """What ranks make of the state at `path`: the state of it again, the next day before and after training."""
    way = way_of(size)
    saved = way.handed_out(state.load(path) if rank == 0 else None)
    past = memory.unpacked(saved, fresh(size), 1, "cpu")
    progress, view = past.models[0], past.views[0]
    addresses = view.features.hosts.numpy()
    assert (owner(addresses) == rank).all() and (rank == 0) == (len(past.hosts.address) > 0)
    files = {tuple(identity): last for *identity, last in saved["files"]}
    found = {"again": copy.deepcopy(way.gathered(memory.packed(past, saved["settings"], files)))}
    if progress.learner:                                    # before training changes the weights
        graph, x = counted(rank, size, 3)
        training.take(progress, progress.learner.network.snapshot(graph, x), 4)
        found["hosts"], found["before"] = gather(size, graph.hosts, training.embed_day(progress))
        training.incremental(progress, 1)
        found["after"] = gather(size, graph.hosts, training.embed_day(progress))[1]
        found["draws"] = all_objects(torch.rand(3, generator=progress.learner.generator).tolist())
    if rank == 0:
        torch.save(found, folder / f"{size}.pt")
        state.save(folder / f"{size}.state", found["again"])


def gather(size, hosts, z):
    return parts.at_rank_0(hosts, z) if size > 1 else (hosts, z)


def equal(a, b):
    """Whether two states are equal bit by bit, nan being equal to nan."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a.nan_to_num(7), b.nan_to_num(7)) if isinstance(a, torch.Tensor) else a == b


def streams_of(saved):
    """The random streams of a state, which are taken out of it."""
    return {name: saved["model"].pop(name) for name in ("generator", "generators") if name in saved["model"]}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("writers", [1, 3])
def test_any_number_of_ranks_goes_on_from_a_state(writers, model, tmp_path):
    """Read by 1, 2 and 3 ranks a state is the same hosts, days and weights, bit by bit, and the next day the same."""
    for size in {1, writers}:
        by_ranks(size, write, model, tmp_path / f"by-{size}.state")
    saved, alone = (state.load(tmp_path / f"by-{size}.state") for size in (writers, 1))
    assert saved.keys() == alone.keys() and equal(saved["hosts"], alone["hosts"])
    for day, same in zip(saved["model"]["past"], alone["model"]["past"]):
        assert equal(day, same)                             # graph and features of the whole day
    for name in ("hosts", "n", "last"):
        assert equal(saved["view"]["features"][name], alone["view"]["features"][name])
    version, streams, found = saved.pop("darkgnn_state"), streams_of(saved), {}
    assert version == state.VERSION
    for size in (1, *SIZES):
        by_ranks(size, go_on, tmp_path / f"by-{writers}.state", tmp_path)
        found[size] = torch.load(tmp_path / f"{size}.pt", weights_only=False)
        own = streams_of(found[size]["again"])
        assert equal(found[size]["again"], saved)
        assert model == "features" or equal(own, streams) == (size == writers)
    if model == "features":
        return
    for size in SIZES:
        assert (found[size]["hosts"] == found[1]["hosts"]).all()
        torch.testing.assert_close(found[size]["before"], found[1]["before"], rtol=0, atol=1e-5)
        assert torch.isfinite(found[size]["after"]).all()
        assert not torch.equal(found[size]["after"], found[size]["before"])
    draws = [tuple(draw) for size in found for draw in found[size]["draws"]]
    assert len(set(draws)) == len(draws) == 6               # no two ranks have a common stream


@pytest.mark.parametrize("model", MODELS)
def test_from_one_rank_to_two_to_three_to_one(model, tmp_path):
    """A state that went through the hands of 2 and 3 ranks is, but for its random streams, the one that one wrote."""
    path = tmp_path / "first.state"
    by_ranks(1, write, model, path)
    first = state.load(path)
    for size in (2, 3, 1):
        by_ranks(size, go_on, path, tmp_path)
        path = tmp_path / f"{size}.state"
    last = state.load(path)
    assert streams_of(first).keys() == streams_of(last).keys() == ({"generator"} if model == "i-gcn-gru" else set())
    assert equal(first, last) and np.all(first["hosts"]["address"].numpy() > 0)
