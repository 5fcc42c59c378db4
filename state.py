"""What is remembered from one daily run to the next: the state file, the host table, what changed since yesterday.

    state       one file of tensors and plain types, replaced whole after every day; `torch.load` reads it with
                weights_only=True. Its keys are those that `pack` and darkgnn.py put there.
    Hosts       every host of the last --forget-days days: first and last day, last prediction
    changes     hosts whose prediction changed, new ones that are told apart at once, those that left their class

A day is a number, that of datetime.date.toordinal. Where several processes share the hosts out (shard.py), the file is
the one that a single process writes, and any number of them goes on from it. Imports graph, report, shard and training.
"""

import contextlib
import datetime
import fcntl
import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import graph as graphs
import report
import shard
import training

VERSION = 1
CHANGE_COLUMNS = "date,host,change,label,before,after,last_seen,surprise"
HOST_COLUMNS = "host,first_seen,last_seen,days,predicted,vote_share"


# -- the file ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def locked(path):
    """Hold the state for this process alone, by a lock on PATH.lock; raises ValueError where another one has it."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(f"{path}.lock", "a+")                   # noqa: SIM115 (closed below)
    except OSError as error:
        raise ValueError(f"{path}: expected a file in a folder to write to: {error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{path} is in use by another run: expected one run at a time") from None
        report.remove_half_written(path.parent, re.escape(path.name))
        yield


def load(path):
    """The state at `path`, a dict on the CPU; None if there is no such file.

    Raises ValueError, one line, for a file that is not a whole state of this version; it stays as it is.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as file:                 # torch.load does not look at the checksums
            damaged = file.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path}: expected a state that can be read: {error.strerror or error}") from None
    except Exception as error:                              # whatever broken bytes make the two readers raise
        raise ValueError(f"{path}: expected a state that --state wrote, got a file that is truncated, damaged or "
                         f"something else ({type(error).__name__})") from None
    if not isinstance(state, dict) or not isinstance(state.get("darkgnn_state"), int):
        raise ValueError(f"{path}: expected a state that --state wrote, got another file of PyTorch's")
    if state["darkgnn_state"] != VERSION:
        age = "a newer" if state["darkgnn_state"] > VERSION else "an older"
        raise ValueError(f"{path}: expected a state of version {VERSION}, got version {state['darkgnn_state']}, of "
                         f"{age} darkgnn")
    return state


def save(path, state):
    """Replace the state at `path`, whole or not at all."""
    try:
        with report.whole_file(path, "wb") as file:
            torch.save({"darkgnn_state": VERSION, **state}, file)
    except RuntimeError as error:                           # torch's writer ends so where the file raised
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def part(state, rank):
    """The state with the hosts that `rank` owns and all ports; None of None."""
    if state is None:
        return None

    def owned(addresses):
        return torch.from_numpy(shard.owner(addresses.numpy()) == rank)

    def rows(columns):
        """Those of the rank's hosts; columns: a dict of tensors, the first of which is addresses."""
        own = owned(next(iter(columns.values())))
        return {name: column if column is None else column[own] for name, column in columns.items()}

    past = []
    for day in state["model"]["past"]:
        own = owned(day["hosts"])
        edges, number = own[day["edge_host"]], own.cumsum(0) - 1
        nodes = torch.cat([own, own.new_ones(len(day["Ax"]) - len(own))])
        past.append({**day, "hosts": day["hosts"][own], "edge_host": number[day["edge_host"][edges]],
                     "edge_port": day["edge_port"][edges], "weight": day["weight"][edges], "Ax": day["Ax"][nodes]})

    def of_change(change):
        return change and {**change, **rows({name: change[name] for name in ("hosts", "X")}),
                           "features": of_change(change["features"])}
    return {**state, "hosts": rows(state["hosts"]), "change": of_change(state["change"]),
            "model": {**state["model"], "past": past}}


def check_settings(path, saved, settings):
    """Raise ValueError naming the first setting, of those that matter to the model, that differs from the state's."""
    for name, value in settings.items():
        if saved.get(name) != value:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{path} was made with {flag} {saved.get(name)}, got {value}: expected the same")


# -- a model and the days it still needs ------------------------------------------------------------------------------

def pack(progress):
    """training.Progress as a dict of tensors and plain types; of several ranks, that of rank 0 holds all hosts.

    Where there are several, "generators" lists the state of each rank's, "generator" is rank 0's.
    """
    learner = progress.learner
    packed = {"trained": progress.trained, "nodes": tensors(progress.nodes), "past": []}
    for day in progress.past:
        graph, Ax = shard.whole_day(day.graph, day.Ax)
        packed["past"].append({**tensors(graph), "Ax": Ax, "row": tensor(day.row)})
    if learner:
        generators = shard.all_objects(learner.generator.get_state())
        packed |= {"embedder": learner.embedder.state_dict(), "generator": generators[0],
                   "head": learner.head and learner.head.state_dict(),
                   "optimizer": learner.optimizer and learner.optimizer.state_dict()}
        if len(generators) > 1:
            packed["generators"] = generators
    return packed


def unpack(packed, learner, history, t=0):
    """The training.Progress of `pack`; `learner` is a fresh one of the same settings, which takes on the weights.

    A rank goes on with its own generator's state. Where another number of ranks wrote it, each has a new stream, from
    the fresh learner's seed, which is the run's and the rank's, and from t, the number of the state's last day.
    """
    progress = training.Progress(None, history, trained=packed["trained"], nodes=training.NodeTable(
        *arrays(packed["nodes"], training.NodeTable, key=np.uint64)))
    if "embedder" in packed:
        for name, parameter in learner.embedder.named_parameters():  # rows of nodes: as many as there are by now
            parameter.data = parameter.data.new_zeros(packed["embedder"][name].shape)
        for name, buffer in learner.embedder.named_buffers():
            setattr(learner.embedder, name, buffer.new_zeros(packed["embedder"][name].shape))
        for part in ("embedder", "head", "optimizer"):
            if packed[part]:
                getattr(learner, part).load_state_dict(packed[part])
        generators = packed.get("generators", [packed["generator"]])
        if len(generators) == shard.size():
            learner.generator.set_state(generators[shard.rank()])
        else:
            learner.generator.manual_seed(learner.generator.initial_seed() ^ (t * 0xC2B2AE35 & 0xFFFFFFFF))
        progress.learner = learner
    device = learner.generator.device if learner else "cpu"
    for day in packed["past"]:
        graph = graphs.BipartiteGraph(*arrays(day, graphs.BipartiteGraph, hosts=np.uint32, ports=np.int32))
        A_hat = graphs.normalized_adjacency(graph, shard.rank() == 0, shard.all_sum)
        row = None if day["row"] is None else day["row"].numpy()
        progress.past.append(training.snapshot_of(graph, A_hat, day["Ax"], row, device))
    return progress


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


# -- the host table ---------------------------------------------------------------------------------------------------

class Hosts(NamedTuple):
    """One row a host; `predicted`, `share` and `distance` are those of its last day, -1 and nan where it had none."""
    address: np.ndarray    # (n,) uint32 ascending
    first: np.ndarray      # (n,) int64 first day
    last: np.ndarray       # (n,) int64 last day
    days: np.ndarray       # (n,) int64 days on which it was active
    predicted: np.ndarray  # (n,) int64 predicted class, a place in the state's list of names
    share: np.ndarray      # (n,) float32 share of the neighbours' votes for it
    distance: np.ndarray   # (n,) float32 cosine distance to the centroid of its own class, of labelled hosts


NOT_SEEN = Hosts(0, -1, -1, 0, -1, np.float32(np.nan), np.float32(np.nan))
NO_HOSTS = Hosts(np.empty(0, np.uint32), *(np.empty(0, np.int64) for _ in range(4)),
                 *(np.empty(0, np.float32) for _ in range(2)))


def lookup(table, addresses):
    """The table's rows of hosts (n,) uint32; NOT_SEEN for those that it does not hold."""
    at = np.searchsorted(table.address, addresses)
    at[np.append(table.address, 0)[at] != addresses] = len(table.address)
    return Hosts(*(np.append(column, column.dtype.type(none))[at] for column, none in zip(table, NOT_SEEN)))


def today(before, addresses, day, predicted=None, share=None, distance=None):
    """The rows of the hosts active on `day`, (n,) uint32 ascending, from `before`, those that `lookup` gave of them.

    predicted (n,) int64, share and distance (n,): None where the day has no predictions.
    """
    n = len(addresses)
    share, distance = (np.full(n, np.nan) if column is None else column for column in (share, distance))
    return Hosts(addresses, np.where(before.last < 0, day, before.first), np.full(n, day), before.days + 1,
                 np.full(n, -1) if predicted is None else predicted, share.astype(np.float32),
                 distance.astype(np.float32))


def update(table, rows):
    """The table with today's rows in the place of the hosts' earlier ones."""
    stay = ~np.isin(table.address, rows.address, assume_unique=True)
    columns = [np.concatenate([old[stay], new]) for old, new in zip(table, rows)]
    order = np.argsort(columns[0])
    return Hosts(*(column[order] for column in columns))


def codes(names, more):
    """Codes (len(more),) int64 of class names in the list `names`, to which those that it lacks are appended."""
    known = {name: code for code, name in enumerate(names)}
    found = [known.setdefault(name, len(known)) for name in more]
    names += list(known)[len(names):]
    return np.array(found)


def date(day):
    return str(datetime.date.fromordinal(int(day)))


def dates(days):
    """Days (n,) as text (n,), empty for -1."""
    unique, at = np.unique(days, return_inverse=True)
    return np.array([date(day) if day > 0 else "" for day in unique], dtype=object)[at]


def write_hosts(path, table, names):
    """hosts.csv: the host table, by address; names: what the codes of predicted classes stand for."""
    names = np.array([*map(report.quoted, names), ""], dtype=object)  # the last for code -1
    share = np.where(table.predicted < 0, "", np.char.mod("%.2f", table.share))
    columns = [report.dotted(table.address), dates(table.first), dates(table.last), np.char.mod("%d", table.days),
               names[table.predicted], share]
    write_lines(path, HOST_COLUMNS, map(",".join, zip(*(column.tolist() for column in columns))))


def write_lines(path, header, lines):
    with report.whole_file(path) as file:
        file.writelines(line + "\n" for line in (header, *lines))


def begin_changes(folder, last):
    """Leave in changes.csv the lines, of days up to `last`, of a run that did not come to its end; "": no such run.

    A run that does writes report.json, in which its days are.
    """
    try:
        finished = str(json.loads((folder / "report.json").read_text("utf-8"))["days"][-1]["date"])
    except (OSError, ValueError, LookupError, TypeError):   # none yet, or another program's
        finished = ""
    try:
        lines = (folder / "changes.csv").read_text("utf-8").split("\n")[1:-1]
    except (OSError, ValueError):
        lines = []
    write_lines(folder / "changes.csv", CHANGE_COLUMNS, [line for line in lines if finished < line[:10] <= last])


# -- what changed -----------------------------------------------------------------------------------------------------

def changes(before, rows, labels, names, similarity, surprise=None):
    """Lines of changes.csv for a day, the most surprising first.

    before, rows: the hosts' earlier rows and today's, see `lookup` and `today`; labels (n,) class names as text;
    names: what the codes of predictions stand for, "Unknown" among them; similarity (n,) of each host's nearest
    neighbour; surprise (n,), nan for a host without an earlier day, or None without whitening. Three kinds:

        class  a prediction other than on the last day seen.   surprise, without whitening: product of the two shares
        moved  a labelled host went away from its class: the cosine distance to the class's centroid grew by more than
               two standard deviations of what it did for labelled hosts today.               ... half of that growth
        new    first seen today, all neighbours vote for one class, not Unknown.      ... its neighbour's similarity
    """
    known, told = before.last >= 0, rows.predicted >= 0
    growth = rows.distance - before.distance                # nan for hosts without label, or without an earlier day
    grown = growth[~np.isnan(growth)]
    least = max(0.0, grown.mean() + 2 * grown.std()) if len(grown) else np.inf
    name = np.array([*map(report.quoted, names), ""], dtype=object)
    was, now = (np.char.mod("%.4f", row.distance).astype(object) for row in (before, rows))
    nothing = np.full(len(known), "", object)
    kinds = (
        ("class", told & (before.predicted >= 0) & (before.predicted != rows.predicted),
         name[before.predicted], name[rows.predicted], before.share * rows.share),
        ("moved", growth > least, was, now, growth / 2),
        ("new", ~known & told & (rows.share == 1) & (rows.predicted != names.index("Unknown")),
         nothing, name[rows.predicted], similarity))
    host, seen = report.dotted(rows.address), dates(before.last)
    lines = []
    for kind, chosen, old, new, plain in kinds:
        value = plain if surprise is None else surprise
        for i in np.flatnonzero(chosen):
            number = "" if np.isnan(value[i]) else f"{value[i]:.4f}"
            line = date(rows.last[i]), host[i], kind, report.quoted(labels[i]), old[i], new[i], seen[i], number
            lines.append((-np.nan_to_num(value[i], nan=-np.inf), -plain[i], rows.address[i], ",".join(line)))
    return [line for *_, line in sorted(lines)]
