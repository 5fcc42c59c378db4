"""Hosts shared out among processes, ports common to all: the collectives of a run under torchrun.

    rank r of R     owns the hosts with hash(address) mod R = r: all their packets, edges, rows of A_hat
    ports           P nodes, at most 2,501, replicated: every rank holds all of their rows
    local graph     own hosts and all ports; a host's row of A_hat is complete, a port's has the rank's own hosts as
                    columns, normalized by the port's global degree, and its self-loop on rank 0

Hosts never touch each other, so a layer communicates once: A_local z holds the ports' rows in part, and `sum_ports`, an
all-reduce of that (P, d) block, completes them. What is computed from replicated rows every rank computes; losses and
gradients are shares that add up. With one process every function here is the identity, or a copy of its input.

Started by torchrun, one process per share (its environment says so); gloo on CPUs, NCCL between GPUs. `sent` counts
the bytes that this rank hands to collectives, by name. Imports features, graph, knn and labels.
"""

import os
from collections import Counter
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

import features
import graph as graphs
import knn
from traces import labels as ground_truth

PATIENCE = timedelta(minutes=30)  # for a rank that is slow at reading; one that dies closes its connections at once
sent = Counter()  # collective -> bytes of this rank's contributions so far


def start(device="cpu"):
    """Join the other processes if torchrun, by its environment variables, started several; else do nothing."""
    if started() > 1 and not dist.is_initialized():
        if device == "cuda":
            number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
            if number >= gpus:
                raise ValueError(f"--device cuda: expected a GPU for each process on a machine, got {gpus} for process "
                                 f"{number + 1}")
            torch.cuda.set_device(number)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)


def started():
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def stop():
    """Leave the group, after which the process is alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def lost(error):
    """Whether a RuntimeError of a collective says that another process is gone or does not answer."""
    return isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "Gloo", "NCCL"))


def rank():
    """This process's number; before `start`, what torchrun says that it will be."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0)) if started() > 1 else 0


def size():
    return dist.get_world_size() if dist.is_initialized() else 1


def owner(address):
    """The rank that owns each host: addresses (n,) unsigned 32-bit -> (n,) int64.

    Neighbouring addresses are no neighbours here: a /24 full of one scanner's hosts is spread over all ranks.
    """
    mixed = np.asarray(address).astype(np.uint64)
    for factor in (0x7FEB352D, 0x846CA68B):                 # an integer hash of 32 bits: multiply, shift, exclusive or
        mixed = ((mixed ^ mixed >> np.uint64(16)) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return ((mixed ^ mixed >> np.uint64(16)) % np.uint64(size())).astype(np.int64)


# -- sums over ranks ---------------------------------------------------------------------------------------------------

def all_reduce(values, how):
    """A tensor, a numpy array or a number reduced elementwise over the ranks: the same kind, on every rank the same."""
    if size() == 1:
        return values
    if isinstance(values, torch.Tensor):
        out = values.detach().clone(memory_format=torch.contiguous_format)
    else:
        out = torch.from_numpy(np.array(values, order="C"))
    sent["all-reduce"] += out.numel() * out.element_size()
    dist.all_reduce(out, how)
    if isinstance(values, torch.Tensor):
        return out
    return out.numpy() if isinstance(values, np.ndarray) else out.item()


def all_sum(values):
    return all_reduce(values, dist.ReduceOp.SUM)


def all_min(values):
    return all_reduce(values, dist.ReduceOp.MIN)


def all_max(values):
    return all_reduce(values, dist.ReduceOp.MAX)


class AllSum(torch.autograd.Function):
    """y = the sum over ranks of x. Every rank's loss depends on y, so x's gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x):
        return all_sum(x)

    @staticmethod
    def backward(ctx, g):
        return all_sum(g)


class SumPorts(torch.autograd.Function):
    """AllSum of the last n_ports rows of z, in place: the others, most of z, are not copied."""

    @staticmethod
    def forward(ctx, z, n_ports):
        ctx.ports = slice(len(z) - n_ports, None)
        ctx.mark_dirty(z)
        z[ctx.ports] = all_sum(z[ctx.ports])
        return z

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        g[ctx.ports] = all_sum(g[ctx.ports])
        return g, None


def sum_ports(z, n_ports):
    """z (N, d), a product with A_hat_local, with its last n_ports rows, the ports', summed over ranks; in place."""
    return z if size() == 1 else SumPorts.apply(z, n_ports)


def mean(z, n_ports, n_nodes):
    """Mean over all n_nodes nodes: z (N, d), a rank's hosts and the last n_ports rows -> (d,); differentiable."""
    if size() == 1:
        return z.mean(0)
    n_hosts = len(z) - n_ports
    return (AllSum.apply(z[:n_hosts].sum(0)) + z[n_hosts:].sum(0)) / n_nodes


def sum_gradients(parameters):
    """Every parameter's gradient becomes the sum of the ranks', in one all-reduce."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if size() == 1:
        return
    total = all_sum(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, total.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def mean_of_rows(x):
    """Mean over all ranks' rows, x (n, d) -> (d,), summed in float64."""
    total = all_sum(torch.cat([x.sum(0, dtype=torch.float64), x.new_full((1,), len(x), dtype=torch.float64)]))
    return (total[:-1] / total[-1]).to(x.dtype)


def sum_moments(parts):
    """features.Moments of ports, each rank's over its own hosts -> over all hosts, exactly."""
    n, total, high, low = all_sum(np.stack([parts.n, parts.total, parts.squares_high, parts.squares_low]))
    return features.Moments(n, total, all_min(parts.low), all_max(parts.high), high, low)


def average_ranks(x):
    """features.average_ranks of this rank's x (n, columns) among the rows of all ranks: (n, columns) float64."""
    if size() == 1:
        return features.average_ranks(x)
    below, upto = np.zeros(x.shape, np.int64), np.zeros(x.shape, np.int64)
    for block in ring({"x": np.sort(x, axis=0)}):
        for i in range(x.shape[1]):
            below[:, i] += np.searchsorted(block["x"][:, i], x[:, i])
            upto[:, i] += np.searchsorted(block["x"][:, i], x[:, i], side="right")
    return (below + upto + 1) / 2


# -- records to their owners -------------------------------------------------------------------------------------------

def exchange(columns, to):
    """Each record goes to the rank `to` (n,): {name: (n, ...) array} -> the records for this rank, {name: (m, ...)}.

    They come by the rank that sent them, in the order in which it had them. Every rank names the same columns with the
    same types. Around the ring in size() - 1 steps, no rank ever holding more than its own records, those received and
    one message each way.
    """
    if size() == 1:
        return dict(columns)
    order = np.argsort(to, kind="stable")
    bound = np.searchsorted(to[order], np.arange(size() + 1))
    counts = all_gather(np.diff(bound))                     # (R, R) records from row to column
    received = {name: [None] * size() for name in columns}
    for step in range(size()):
        target, source = (rank() + step) % size(), (rank() - step) % size()
        mine = order[bound[target] : bound[target + 1]]
        for name, column in columns.items():
            out = np.ascontiguousarray(column[mine])
            received[name][source] = out if step == 0 else _swap(
                out, np.empty((counts[source, rank()], *out.shape[1:]), out.dtype), target, source, "records")
    return {name: np.concatenate(parts) for name, parts in received.items()}


def _swap(out, into, target, source, what):
    """Send the array `out` to rank `target` while `into`, returned, comes from rank `source`."""
    out, bytes_in = out.reshape(-1).view(np.uint8), into.reshape(-1).view(np.uint8)
    sent[what] += out.nbytes
    work = [dist.isend(torch.from_numpy(out), target)] if out.size else []
    if bytes_in.size:
        dist.recv(torch.from_numpy(bytes_in), source)
    for job in work:
        job.wait()
    return into


def all_gather(values):
    """The ranks' arrays (n,), of one length and type -> (R, n)."""
    if size() == 1:
        return np.asarray(values)[None]
    mine = torch.from_numpy(np.ascontiguousarray(values))
    sent["all-gather"] += mine.nbytes
    parts = [torch.empty_like(mine) for _ in range(size())]
    dist.all_gather(parts, mine)
    return torch.stack(parts).numpy()


def all_objects(value):
    """Every rank's value, by rank. Pickled: for the ranks of one run, which trust each other."""
    if size() == 1:
        return [value]
    values = [None] * size()
    dist.all_gather_object(values, value)
    return values


def hand_out(value, part):
    """part(value, r) of rank 0's value to each rank r, pickled as in `all_objects`; to one process the value itself."""
    if size() == 1:
        return value
    if rank() == 0:
        for r in range(1, size()):
            dist.send_object_list([part(value, r)], r)
        return part(value, 0)
    received = [None]
    dist.recv_object_list(received, 0)
    return received[0]


def gather(columns):
    """At rank 0 the records of all ranks, {name: (n, ...)}, by rank; on the others none of them (n = 0)."""
    n = len(next(iter(columns.values())))
    return exchange(columns, np.zeros(n, np.int64))


def at_rank_0(hosts, *columns):
    """(hosts, *columns) of all ranks by ascending address at rank 0, of none on the others.

    hosts (n,) addresses, ascending; a host's records stay in their order. columns (n, ...). Arrays come back as arrays,
    tensors as tensors on the CPU.
    """
    columns = hosts, *columns
    if size() == 1:
        return columns
    found = gather({i: column.cpu().numpy() if isinstance(column, torch.Tensor) else column
                    for i, column in enumerate(columns)})
    order = np.argsort(found[0], kind="stable")
    return tuple(torch.from_numpy(found[i][order]) if isinstance(column, torch.Tensor) else found[i][order]
                 for i, column in enumerate(columns))


def whole_day(graph, Ax):
    """At rank 0 a day's graph and A_hat x (N + 1, 37), see training.Snapshot, of all ranks' hosts; else of none."""
    if size() == 1:
        return graph, Ax
    n_hosts = len(graph.hosts)
    hosts, rows = at_rank_0(graph.hosts, Ax[:n_hosts])
    address, port, weight = at_rank_0(graph.hosts[graph.edge_host], graph.edge_port, graph.weight)
    return (graphs.BipartiteGraph(hosts, graph.ports, np.searchsorted(hosts, address), port, weight),
            torch.cat([rows, Ax[n_hosts:].cpu()]))


def ring(columns):
    """Yield every rank's {name: (n, ...)} array columns, this one's first, while they travel around the ring."""
    n = len(next(iter(columns.values())))
    counts = all_gather(np.array([n]))[:, 0]
    for step in range(size()):
        yield columns
        if step + 1 < size():
            target, source = (rank() + 1) % size(), (rank() - 1) % size()
            n = counts[(rank() - step - 1) % size()]
            columns = {name: _swap(np.ascontiguousarray(column), np.empty((n, *column.shape[1:]), column.dtype),
                                   target, source, "ring") for name, column in columns.items()}


# -- packets that all ranks read -> a day of this rank's own hosts -----------------------------------------------------

class Traffic(NamedTuple):
    """A day's packets of this rank's hosts, counted: m parts of the packets of pairs (host, port), in any order."""
    src: np.ndarray      # (m,) uint32
    port: np.ndarray     # (m,) int32
    packets: np.ndarray  # (m,) int64
    mirai: np.ndarray    # (m,) int64    packets whose sequence number is the destination address
    fields: dict         # {name in features.FIELDS: Moments (m,)}; without the fields that no rank's trace has
    host: np.ndarray     # (pairs,) uint32   host,
    address: np.ndarray  # (pairs,) uint32   darknet address
    count: np.ndarray    # (pairs,) int64    and packets of each distinct pair
    has_seq: bool        # whether some rank's trace has sequence numbers
    n: int               # packets of the day, all ranks'


def days(own):
    """Yield (date, packets or None) per day that some rank has: own yields this rank's (date, packets), in order."""
    own, none = iter(own), date.max.toordinal()
    ahead = next(own, None)
    while (today := all_min(ahead[0].toordinal() if ahead else none)) < none:
        if ahead and ahead[0].toordinal() == today:
            yield ahead
            ahead = next(own, None)
        else:
            yield date.fromordinal(today), None


def count_packets(day):
    """The day's packets (packets.Packets, or None for no packets) of all ranks -> Traffic of this rank's hosts.

    Every rank reduces what it read to one record per (host, port) and one per (host, address), and hands each to the
    host's owner. All counts are whole numbers: the owner's sums do not depend on who read what.
    """
    present = {name: day is not None and getattr(day, name) is not None for name in (*features.FIELDS, "seq")}
    present = dict(zip(present, all_max(np.array([*present.values()], np.int64)).astype(bool)))
    n = 0 if day is None else len(day.src)
    none = np.zeros(n, np.uint32)

    def column(name):
        found = None if day is None else getattr(day, name)
        return none if found is None else found
    src, dst = column("src"), column("dst")
    graph, order = graphs.build_graph(src, column("port"), 1, graphs.OTHER)
    names = [name for name in features.FIELDS if present[name]]
    match = ground_truth.mirai_packets(dst, column("seq")) & (day is not None and day.seq is not None)
    columns = {"address": dst, "mirai": match.astype(np.uint8), **{name: column(name) for name in names}}
    address, moments = features.moments_of_edges(graph.weight, columns, order)
    mirai = moments.pop("mirai").total
    parts = {"src": graph.hosts[graph.edge_host], "port": graph.ports[graph.edge_port], "packets": graph.weight,
             "mirai": mirai, "fields": np.stack([m for one in moments.values() for m in one[1:]], 1) if names else
             np.empty((len(graph.weight), 0), np.int64)}
    parts = exchange(parts, owner(parts["src"]))
    moments = [features.Moments(parts["packets"], *parts["fields"][:, 5 * i : 5 * i + 5].T) for i in range(len(names))]

    host, address, count = features.packets_per_address(np.repeat(graph.edge_host, graph.weight), address)
    pairs = {"host": graph.hosts[host], "address": address.astype(np.uint32), "count": count}
    pairs = exchange(pairs, owner(pairs["host"]))
    host, address, count = features.packets_per_address(*pairs.values())
    return Traffic(parts["src"], parts["port"], parts["packets"], parts["mirai"], dict(zip(names, moments)),
                   host.astype(np.uint32), address.astype(np.uint32), count, bool(present["seq"]), all_sum(n))


def mirai_hosts(traffic, min_packets):
    """This rank's hosts with Mirai's fingerprint, see labels.mirai_hosts; (n,) uint32, ascending."""
    hosts, at = np.unique(traffic.src, return_inverse=True)
    return hosts[np.bincount(at, traffic.mirai, len(hosts)) >= min_packets]


def raw_features(traffic, graph):
    """The 37 raw features x (N, 37) float64 of the graph of own hosts and all ports, as features.node_features."""
    kept = np.isin(traffic.src, graph.hosts)
    host = np.searchsorted(graph.hosts, traffic.src[kept])
    port = np.searchsorted(graph.ports, traffic.port[kept])
    own_node = np.append(graph.ports, -1)[port] == traffic.port[kept]
    port = np.where(own_node, port, len(graph.ports) - 1)   # the last one stands for all that have no node
    fields = {name: features.Moments(*(part[kept] for part in moments)) for name, moments in traffic.fields.items()}
    known = np.isin(traffic.host, graph.hosts)
    return features.merged_features(
        graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports),
        np.searchsorted(graph.hosts, traffic.host[known]), traffic.count[known], host, port, fields, sum_moments)


# -- nearest neighbours ------------------------------------------------------------------------------------------------

def nearest(x, hosts, labels, k):
    """The k hosts nearest to each of this rank's among all ranks' hosts but itself, by cosine (paper section 4).

    x (n, E) embeddings, hosts (n,) addresses, ascending, labels (n,) int64. Returns (similarity (n, k), neighbours
    (n, k) int64 addresses, labels (n, k) of them), nearest first, the lower address among equals: what knn.nearest
    finds where all hosts are in one process, in order of address. Every rank keeps its queries while the ranks'
    embeddings travel around the ring.
    """
    if size() == 1:
        similarity, at = knn.nearest(x, k)
        return similarity, torch.as_tensor(hosts, dtype=torch.int64, device=x.device)[at], labels[at]
    k = min(k, all_sum(len(x)) - 1)
    best = x.new_empty(len(x), 0)
    who = label = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    hosts = np.asarray(hosts.cpu() if isinstance(hosts, torch.Tensor) else hosts).astype(np.int64)
    blocks = ring({"x": x.cpu().numpy(), "host": hosts, "label": labels.cpu().numpy()}) if k > 0 else ()
    for step, block in enumerate(blocks):
        block = {name: torch.from_numpy(column).to(x.device) for name, column in block.items()}
        s, at = knn.nearest(block["x"], k, queries=x if step else None)
        who, label = torch.cat([who, block["host"][at]], 1), torch.cat([label, block["label"][at]], 1)
        best = torch.cat([best, s], 1)
        order = who.argsort(dim=1)
        order = order.gather(1, best.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :k]
        best, who, label = best.gather(1, order), who.gather(1, order), label.gather(1, order)
    return best, who, label
