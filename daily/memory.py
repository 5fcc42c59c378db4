"""What the next day needs of the days before: Memory, and how it goes into the state and comes back.

Where several processes share the hosts out, the state is the one that a single process writes: each packs its own
hosts, and the parts are put together before the file is written (see the room that shares them out).
Imports daily.campaigns, daily.hosts, report.shown, beyond.views, graph and training.
"""

import datetime
from dataclasses import dataclass, field

import numpy as np
import torch

import graph as graphs
import training
from beyond import views
from daily import hosts as table
from daily.campaigns import NOTHING, Known
from report import shown


@dataclass
class Memory:
    """What the next day needs of the days before; with --state, what the state keeps."""
    day: int = 0                                # days so far
    last: datetime.date | None = None           # the last of them
    models: list = field(default_factory=list)  # training.Progress, one a seed
    views: list = field(default_factory=list)   # views.View, one a seed
    hosts: table.Hosts = table.NO_HOSTS         # of all processes, in the one that writes
    names: list = field(default_factory=lambda: ["Unknown"])  # what the codes of hosts.predicted stand for
    campaigns: Known = NOTHING                    # those of the last days
    shown: list = field(default_factory=list)   # shown.Shown of the last days, oldest first, in the process that writes


def packed(memory, settings, files):
    """The memory of one model as the state's dict of tensors and plain types, with what made it.

    settings: {name: value} that a later run must share; files: {(path, size, mtime): last day} read so far, see
    traces.summary.Summary.finished.
    """
    return {"settings": settings, "days": memory.day, "last_day": str(memory.last),
            "model": pack(memory.models[0]), "view": views.as_dict(memory.views[0]),
            "hosts": tensors(memory.hosts), "names": memory.names, "campaigns": tensors(memory.campaigns),
            "shown": shown.as_tensors(memory.shown),
            "files": [[*identity, last] for identity, last in files.items()]}


def unpacked(state, fresh, history, device):
    """The Memory that `packed` made the state of; fresh: a learner of the same settings, or None."""
    return Memory(state["days"], datetime.date.fromisoformat(state["last_day"]),
                  [unpack(state["model"], fresh, history, state["days"])], [views.from_dict(state["view"], device)],
                  table.Hosts(*arrays(state["hosts"], table.Hosts, address=np.uint32)), state["names"],
                  Known(*arrays(state["campaigns"], Known, host=np.uint32, active=np.uint32)),
                  shown.from_tensors(state["shown"]))


def pack(progress):
    """training.Progress as a dict of tensors and plain types."""
    learner = progress.learner
    saved = {"trained": progress.trained, "nodes": tensors(progress.nodes),
             "past": [{**tensors(day.graph), "x": tensor(day.x), "row": tensor(day.row)} for day in progress.past]}
    if learner:
        saved |= {"network": learner.network.state_dict(), "generator": learner.generator.get_state(),
                  "optimizer": learner.optimizer and learner.optimizer.state_dict()}
    return saved


def unpack(saved, learner, history, days=0):
    """The training.Progress of `pack`; `learner` is a fresh one of the same settings, which takes on the weights.

    A state without a generator's (other processes wrote it, see `packed`) goes on with a new random stream, from the
    fresh learner's seed and from `days`, the number of the state's last day.
    """
    progress = training.Progress(None, history, trained=saved["trained"], nodes=training.NodeTable(
        *arrays(saved["nodes"], training.NodeTable, key=np.uint64)))
    if "network" in saved:
        network = learner.network
        for name, parameter in network.named_parameters():  # rows of nodes: as many as there are by now
            parameter.data = parameter.data.new_zeros(saved["network"][name].shape)
        for name, buffer in network.named_buffers():
            setattr(network, name, buffer.new_zeros(saved["network"][name].shape))
        network.load_state_dict(saved["network"])
        if saved["optimizer"]:
            learner.optimizer.load_state_dict(saved["optimizer"])
        if saved["generator"] is None:
            learner.generator.manual_seed(learner.generator.initial_seed() ^ (days * 0xC2B2AE35 & 0xFFFFFFFF))
        else:
            learner.generator.set_state(saved["generator"])
        progress.learner = learner
    for day in saved["past"]:
        graph = graphs.BipartiteGraph(*arrays(day, graphs.BipartiteGraph, hosts=np.uint32, ports=np.int32))
        x, row = (None if day[name] is None else day[name].numpy() for name in ("x", "row"))
        progress.past.append(learner.network.snapshot(graph, x)._replace(row=row))
    return progress


def forget(memory, before):
    """Hosts last seen before the day of that number leave the memory, and their rows the models."""
    memory.hosts = table.Hosts(*(column[memory.hosts.last >= before] for column in memory.hosts))
    memory.views = [views.forget(view, before) for view in memory.views]
    for progress in memory.models:
        if progress.learner and len(progress.nodes.key):    # gcn has none before its first test day
            forget_nodes(progress, before)


def forget_nodes(progress, before):
    """Nodes last active before the day of that number give back their rows, if no day of progress.past needs them."""
    training.grow(progress.learner, len(progress.nodes.key))
    keep = progress.nodes.seen >= before
    for day in progress.past:
        keep |= np.isin(progress.nodes.row, day.row)
    if keep.all():
        return
    kept = np.sort(progress.nodes.row[keep])                # rows stay in order
    renumber = np.full(len(keep), -1)
    renumber[kept] = np.arange(len(kept))
    key, row, seen = (column[keep] for column in progress.nodes)
    progress.nodes = training.NodeTable(key, renumber[row], seen)
    progress.past = [day._replace(row=renumber[day.row]) for day in progress.past]
    progress.window = None
    training.keep_rows(progress.learner, torch.from_numpy(kept))


def tensor(column):
    """An array as a tensor; unsigned integers as int64, which every PyTorch saves."""
    if column is None:
        return None
    return torch.from_numpy(column.astype(np.int64) if column.dtype.kind in "iu" else column)


def tensors(record):
    """{name: tensor} of a NamedTuple of arrays."""
    return {name: tensor(column) for name, column in record._asdict().items()}


def arrays(saved, kind, **dtypes):
    """The arrays of `tensors`, in the order of the NamedTuple `kind`, as the dtypes given or else as they are."""
    return [saved[name].numpy().astype(dtypes.get(name, saved[name].numpy().dtype)) for name in kind._fields]
