"""The state of several processes: put together at rank 0 as one process would write it, and handed out again.

    state["hosts"]              the host table: rank 0 alone has it, of all hosts; likewise "shown", the page's days
    state["model"]["past"]      the days that windows still need: graph and features of the rank's hosts, all ports
    state["view"]               what steady behaviour remembers: of the rank's hosts; its sums are all ranks'
    state["model"]["generator"] the random stream of a single process; None where "generators" has the ranks', by rank
    all else                    the same on every rank

The dict is daily.memory.packed's. Imports numpy and torch.
"""

import numpy as np
import torch

from scale.processes import all_objects, at_rank_0, hand_out, owner, size

OF_HOSTS = ("hosts", "xbar", "n", "last")  # what beyond.steady.Memory has of each host
OF_EDGES = ("edge_host", "edge_port", "weight")  # what graph.BipartiteGraph has of each edge


def gathered(state):
    """The state that every rank packed, whole at rank 0; on the others it is of no use."""
    model = {**state["model"], "past": [whole_day(day) for day in state["model"]["past"]]}
    if "generator" in model:
        model |= {"generator": None, "generators": all_objects(model["generator"])}
    view = {**state["view"], **{name: whole_memory(state["view"][name]) for name in ("features", "graph")}}
    return {**state, "model": model, "view": view}


def whole_day(day):
    """A day of the past at rank 0, of all ranks' hosts, in order of address."""
    n_hosts = len(day["hosts"])
    hosts, x = at_rank_0(day["hosts"], day["x"][:n_hosts])
    address, port, weight = at_rank_0(day["hosts"][day["edge_host"]], day["edge_port"], day["weight"])
    return {**day, "hosts": hosts, "x": torch.cat([x, day["x"][n_hosts:]]),
            "edge_host": torch.searchsorted(hosts, address), "edge_port": port, "weight": weight}


def whole_memory(memory):
    """What steady behaviour remembers of one view, of all ranks' hosts at rank 0; None of None."""
    if memory is None:
        return None
    return {**memory, **dict(zip(OF_HOSTS, at_rank_0(*(memory[name] for name in OF_HOSTS))))}


def handed_out(state):
    """This rank's part of the state that rank 0 loaded, or None where it loaded None.

    A rank goes on with its own random stream where as many ranks wrote the state; else with none: `unpack` of
    daily.memory then begins a new one.
    """
    return hand_out(state, part)


def part(state, rank):
    """The state with the hosts that `rank` owns and all ports; None of None."""
    if state is None:
        return None
    model = {**state["model"], "past": [part_of_day(day, rank) for day in state["model"]["past"]]}
    if "generator" in model:
        streams = model.pop("generators", [])
        model["generator"] = streams[rank] if len(streams) == size() else None
    view = {**state["view"], **{name: part_of_memory(state["view"][name], rank) for name in ("features", "graph")}}
    hosts = state["hosts"] if rank == 0 else {name: column[:0] for name, column in state["hosts"].items()}
    shown = state["shown"] if rank == 0 else {"told": [], "lengths": {}, "rows": {}}
    return {**state, "model": model, "view": view, "hosts": hosts, "shown": shown}


def part_of_day(day, rank):
    """The rank's part of a day of the past."""
    own = owned(day["hosts"], rank)
    edges, number = own[day["edge_host"]], own.cumsum(0) - 1
    nodes = torch.cat([own, own.new_ones(len(day["x"]) - len(own))])
    return {**day, "hosts": day["hosts"][own], "x": day["x"][nodes],
            **{name: day[name][edges] for name in OF_EDGES}, "edge_host": number[day["edge_host"][edges]]}


def part_of_memory(memory, rank):
    """The rank's part of what steady behaviour remembers of one view; None of None."""
    if memory is None:
        return None
    own = owned(memory["hosts"], rank)
    return {**memory, **{name: memory[name][own] for name in OF_HOSTS}}


def owned(hosts, rank):
    """Which of the addresses (n,) the rank owns: (n,) bool."""
    return torch.from_numpy(owner(hosts.numpy().astype(np.uint32)) == rank)
