"""The collectives of a run under torchrun: sums over ranks, records to the ranks that own them, rows around a ring.

    R       ranks, one process each; gloo between CPUs, NCCL between GPUs
    sent    bytes that this rank has handed to collectives so far, by name

torchrun tells each process by its environment which one it is. With one process every function here gives back its
input, or a copy of it. Imports the standard library, numpy and torch.
"""

import contextlib
import os
import sys
from collections import Counter
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

PATIENCE = timedelta(minutes=30)  # for a rank that is slow at reading; one that dies closes its connections at once
sent = Counter()


def start(device="cpu"):
    """Join the other processes, if torchrun started several. Raises ValueError where GPUs are too few."""
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
    world = os.environ.get("WORLD_SIZE", "")
    return int(world) if world.isdigit() and "RANK" in os.environ else 1


def stop():
    """Leave the group, after which the process is alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave(code):
    """Exit with this code, at once: to take PyTorch apart costs the interpreter half a second, and after an error
    gloo's threads that wait for a process which is gone would abort its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):   # None: closed by the shell
        with contextlib.suppress(OSError):                  # nobody may listen any more
            stream.flush()
    os._exit(code)


def lost(error):
    """Whether a RuntimeError of a collective says that another process is gone or does not answer."""
    return isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "Gloo", "NCCL"))


def rank():
    """This process's number; before `start`, what torchrun says that it will be."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0)) if started() > 1 else 0


def size():
    """How many processes have joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def owner(address, ranks=None):
    """The rank, of so many (None: size()), that owns each host: addresses (n,) unsigned 32-bit -> (n,) int64.

    Neighbouring addresses are no neighbours here: a /24 full of one scanner's hosts is spread over all ranks.
    """
    mixed = np.asarray(address).astype(np.uint64)
    for factor in (0x7FEB352D, 0x846CA68B):                 # an integer hash of 32 bits: multiply, shift, exclusive or
        mixed = ((mixed ^ mixed >> np.uint64(16)) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return ((mixed ^ mixed >> np.uint64(16)) % np.uint64(ranks or size())).astype(np.int64)


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
    """See all_reduce."""
    return all_reduce(values, dist.ReduceOp.SUM)


def all_min(values):
    """See all_reduce."""
    return all_reduce(values, dist.ReduceOp.MIN)


def all_max(values):
    """See all_reduce."""
    return all_reduce(values, dist.ReduceOp.MAX)


class SumOfParts(torch.autograd.Function):
    """y = the sum over ranks of x, of which every rank goes on with y: x's gradient is the sum of their y's."""

    @staticmethod
    def forward(ctx, x):
        return all_sum(x)

    @staticmethod
    def backward(ctx, g):
        return all_sum(g)


class SumOfRows(torch.autograd.Function):
    """SumOfParts of the rows `rows`, a slice, of z (N, d), in place: the others, most of z, are not copied."""

    @staticmethod
    def forward(ctx, z, rows):
        ctx.rows = rows
        ctx.mark_dirty(z)
        z[rows] = all_sum(z[rows])
        return z

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        g[ctx.rows] = all_sum(g[ctx.rows])
        return g, None


class SumOfShares(torch.autograd.Function):
    """The sum over ranks of x, whose gradient is that of this rank's share: the end of a loss, not one of its steps.

    The ranks' gradients of the parameters, added up, are then those of the whole loss.
    """

    @staticmethod
    def forward(ctx, x):
        return all_sum(x)

    @staticmethod
    def backward(ctx, g):
        return g


# -- records from rank to rank -----------------------------------------------------------------------------------------

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
            received[name][source] = out if step == 0 else swap(
                out, np.empty((counts[source, rank()], *out.shape[1:]), out.dtype), target, source, "records")
    return {name: np.concatenate(parts) for name, parts in received.items()}


def ring(columns):
    """Yield every rank's {name: (n, ...)} array columns, this one's first, while they travel around the ring."""
    n = len(next(iter(columns.values())))
    counts = all_gather(np.array([n]))[:, 0]
    for step in range(size()):
        yield columns
        if step + 1 < size():
            target, source = (rank() + 1) % size(), (rank() - 1) % size()
            n = counts[(rank() - step - 1) % size()]
            columns = {name: swap(np.ascontiguousarray(column), np.empty((n, *column.shape[1:]), column.dtype),
                                  target, source, "ring") for name, column in columns.items()}


def swap(out, into, target, source, what):
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
    """part(value, r) of rank 0's value to each rank r, pickled as in `all_objects`."""
    if rank() == 0:
        for r in range(1, size()):
            dist.send_object_list([part(value, r)], r)
        return part(value, 0)
    received = [None]
    dist.recv_object_list(received, 0)
    return received[0]


def at_rank_0(hosts, *columns):
    """(hosts, *columns) of all ranks by ascending address at rank 0, of none on the others.

    hosts (n,) addresses, ascending; a host's records stay in their order. columns (n, ...). Arrays come back as arrays,
    tensors as tensors on the CPU.
    """
    columns = hosts, *columns
    found = exchange({i: column.cpu().numpy() if isinstance(column, torch.Tensor) else column
                      for i, column in enumerate(columns)}, np.zeros(len(hosts), np.int64))
    order = np.argsort(found[0], kind="stable")
    return tuple(torch.from_numpy(found[i][order]) if isinstance(column, torch.Tensor) else found[i][order]
                 for i, column in enumerate(columns))
