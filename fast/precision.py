"""Reduced precision of matrix products, where the machine has it."""

import contextlib
import functools

import torch


@contextlib.contextmanager
def matmul_precision(name):
    """How the models multiply: "exact" float32, or "fast", bfloat16 (CPU) and TF32 (GPU). Neighbours are exact."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if name == "fast" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def medium_is_full():
    a, b = torch.randn(64, 48), torch.randn(48, 256)
    with matmul_precision("fast"):
        s = a @ b
    return (s - a.double() @ b.double()).abs().max() < 1e-4
