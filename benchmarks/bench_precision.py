#!/usr/bin/env python3
"""Macro F1 of `--precision fast` beside `exact`, over seeds: python benchmarks/bench_precision.py [--runs N] [FLAG ...]

Further flags are darkgnn.py's own (--input, --labels, --model, ...), of a graph model. Where the processor has no
reduced-precision products, `fast` would be `exact`; their arithmetic is then computed instead, slowly: every factor of
a dense product is rounded to bfloat16 (on a GPU: TF32), and products are summed in float32. --emulate does so in any
case.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import darkgnn
from fast import precision

DROPPED = {"bfloat16": 16, "tf32": 13}  # of float32's 23 bits of mantissa; rounded to nearest, ties to even
PRODUCTS = {torch.ops.aten.mm: 0, torch.ops.aten.addmm: 1, torch.ops.aten.addmm_: 1}  # and their first factor's place


class Rounded(TorchDispatchMode):
    """Dense matrix products with both factors rounded, forward and backward; `count` of them so far."""

    def __init__(self, kind):
        super().__init__()
        self.dropped, self.count = DROPPED[kind], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        first = PRODUCTS.get(function.overloadpacket)
        if first is not None and all(x.layout == torch.strided and x.dtype == torch.float32
                                     for x in args[first : first + 2]):
            self.count += 1
            args = (*args[:first], *(rounded(x, self.dropped) for x in args[first : first + 2]), *args[first + 2 :])
        return function(*args, **(kwargs or {}))


def rounded(x, dropped):
    """Finite x float32 without the last `dropped` bits of its mantissa."""
    bits = x.contiguous().view(torch.int32)
    half = (1 << (dropped - 1)) - 1 + (bits >> dropped & 1)
    return (bits + half >> dropped << dropped).view(torch.float32)


def has_reduced_products():
    """Whether a product at "medium" differs from the exact one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).to(device)
    exact = a @ a
    torch.set_float32_matmul_precision("medium")
    differs = not torch.equal(exact, a @ a)
    torch.set_float32_matmul_precision("highest")
    return differs


def macro_f1(flags, name):
    """Macro F1 of each seed, from the run's report.json."""
    with tempfile.TemporaryDirectory() as out:
        if darkgnn.main([*flags, "--quiet", "--precision", name, "--out", out]):
            sys.exit(2)
        scores = json.loads((Path(out) / "report.json").read_text())["runs"]["macro_f1"]
    if None in scores:
        sys.exit("bench_precision: no test day has a score: expected --labels of hosts that are there")
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="seeds, 2 or more")
    parser.add_argument("--emulate", choices=DROPPED, help="compute this arithmetic, whatever the processor has")
    args, flags = parser.parse_known_args()
    if args.runs < 2:
        parser.error(f"--runs: expected 2 or more, got {args.runs}")
    flags = ["--runs", str(args.runs), *flags]
    exact = macro_f1(flags, "exact")
    emulate = args.emulate or (None if has_reduced_products() else "tf32" if torch.cuda.is_available() else "bfloat16")
    if emulate:
        mode, plain = Rounded(emulate), precision.matmul_precision

        @contextlib.contextmanager
        def with_rounding(name, device="cpu"):
            with plain("exact", device), mode:
                yield
        precision.matmul_precision = with_rounding
    fast = macro_f1(flags, "fast")
    for name, scores in (("exact", exact), (f"fast{f', {emulate} computed' * bool(emulate)}", fast)):
        print(f"{name:24} macro F1 " + " ".join(f"{score:.3f}" for score in scores)
              + f"   mean {statistics.mean(scores):.3f}, deviation over seeds {statistics.stdev(scores):.3f}")
    if emulate:
        print(f"{mode.count:,} products were rounded")


if __name__ == "__main__":
    main()
