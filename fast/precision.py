"""Precision of matrix products: reduced where it pays and the user asks for it, full where the numbers must be exact.

PyTorch's "medium" precision means TF32 on a GPU. On a CPU it hands the products to oneDNN, which rounds their factors
to bfloat16 where the processor has tiles for that (AMX) and else may compute them in full float32, on AMD twice as
fast as PyTorch's own products, whose library (MKL) leaves AVX-512 unused there. Imports torch.
"""

import contextlib
import functools
import statistics
import time

import torch

PAYS = 1.15  # times as fast as exact products: below that the reduced ones are not taken


@contextlib.contextmanager
def matmul_precision(name):
    """How the models multiply: "exact" float32, or "fast", bfloat16 (CPU) and TF32 (GPU). Neighbours are exact."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if name == "fast" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def full_products(device):
    """A context whose float32 products on the device are full ones, by the quicker library where there are two."""
    return matmul_precision("fast" if device.type == "cpu" and medium_is_full() else "exact")


@functools.cache
def medium_is_full():
    """Whether "medium" products on this CPU round no factor: bfloat16 would be off by 1e-4 or more, float32 by 1e-7."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns, width in ((64, 2048, 37), (512, 2048, 128), (37, 16, 3)):
        a, b = (torch.nn.functional.normalize(torch.randn(n, width, generator=generator)) for n in (rows, columns))
        with matmul_precision("fast"):
            product = a @ b.T
        if (product - a.double() @ b.double().T).abs().max() > 5e-6:
            return False
    return True


@functools.cache
def chosen(name, device):
    """What a run multiplies by on a device ("cpu", "cuda", ...): (precision, what to tell the user or None).

    "fast" stays "fast" only where it pays: on a GPU with TF32 (compute capability 8.0 or more), and on a CPU that
    multiplies PAYS times as fast, measured once per process. The decision belongs in a run's settings:
    a run that goes on from a state takes the state's, not a new one.
    """
    if name != "fast":
        return name, None
    kind = torch.device(device).type
    if kind == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "fast", None
        return "exact", "--precision fast: this GPU has no TF32: products stay exact"
    times = times_as_fast() if kind == "cpu" else 1
    if times >= PAYS:
        return "fast", None
    return "exact", (f"--precision fast: reduced products are {times:.2f} times as fast as exact ones here, less than "
                     f"{PAYS}: they stay exact")


def times_as_fast(trials=9):
    """How many times as fast as exact ones "fast" products are on this CPU: the median of paired trials.

    On one thread, in its own processor time: other processes hardly bend that. The shapes are those of a layer and its
    gradients on 128 nodes: z W, g W^T, z^T g.
    """
    z, W, g = torch.ones(128, 1024), torch.ones(1024, 384), torch.ones(128, 384)
    threads, ratios = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(trials + 1):
            seconds = []
            for name in ("exact", "fast"):
                with matmul_precision(name):
                    began = time.thread_time()
                    _ = z @ W, g @ W.T, z.T @ g
                    seconds.append(time.thread_time() - began)
            ratios.append(seconds[0] / max(seconds[1], 1e-9))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(ratios[1:])                    # the first trial loads the libraries
