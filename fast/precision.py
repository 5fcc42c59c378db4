"""Precision of matrix products, and who computes them: reduced where the machine gains by it and the user asks for it.

    "exact"   full float32, by the quicker of two libraries
    "fast"    TF32 on a GPU; on a CPU what oneDNN makes of PyTorch's "medium": factors rounded to bfloat16

On a CPU oneDNN rounds only where the processor has instructions for such products; elsewhere "medium" products are
full ones. PyTorch's own library, MKL, leaves AVX-512 unused on AMD's processors: there oneDNN's full products take
half the time. Imports torch.
"""

import contextlib
import functools
from pathlib import Path

import torch

PROBES = ((64, 37, 2048), (512, 128, 2048), (1024, 1024, 384), (384, 2048, 37), (37, 3, 16))  # rows, width, columns
FULL = 5e-6  # the largest error of a float32 product of unit rows; bfloat16's is 1e-4 or more


@contextlib.contextmanager
def matmul_precision(name, device="cpu"):
    """Multiply float32 matrices as "exact" or "fast" says, on this device, inside the block."""
    before = torch.get_float32_matmul_precision()
    medium = name == "fast" or (torch.device(device).type == "cpu" and full_by_onednn())
    torch.set_float32_matmul_precision("medium" if medium else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def chosen(name, device):
    """What a run multiplies by on a device: (precision, what to tell the user or None).

    "fast" stays "fast" where the machine has instructions for it: a GPU with TF32 (compute capability 8.0), a CPU whose
    "medium" products are rounded. Known, not timed: a machine decides the same every day.
    """
    if name == "fast" and torch.device(device).type == "cuda":
        if torch.cuda.get_device_capability(device) < (8, 0):
            return "exact", "--precision fast: this GPU has no TF32: products stay exact"
    elif name == "fast" and medium_is_full():
        return "exact", ("--precision fast: this processor multiplies bfloat16 no faster than float32: products stay "
                         "exact")
    return name, None


def full_by_onednn():
    """Whether full float32 products on this CPU go to oneDNN: it is AMD's, has AVX-512 and no instructions for which
    oneDNN would round."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and made_by_amd() and medium_is_full()


@functools.cache
def made_by_amd():
    """Whether this CPU is AMD's, whose AVX-512 MKL leaves unused; no, where nobody says who made it."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False


@functools.cache
def medium_is_full():
    """Whether "medium" products on this CPU round no factor, found out by a few of them; 5 milliseconds, once."""
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    torch.set_float32_matmul_precision("medium")
    try:
        for rows, width, columns in PROBES:
            a, b = (torch.nn.functional.normalize(torch.randn(n, width, generator=generator)) for n in (rows, columns))
            if (a @ b.T - a.double() @ b.double().T).abs().max() > FULL:
                return False
    finally:
        torch.set_float32_matmul_precision(before)
    return True
