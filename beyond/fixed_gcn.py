"""A graph convolution that is never trained (beyond the paper; relatives: graph echo state networks, SIGN).

Its weights stay as drawn from the seed, so it maps every day by the same function: embeddings of different days share
their axes, and a host's mean can be remembered like its features (steady.py). Nothing is learned, nothing is kept.

    x      (N, 37)       the day's features scaled by rank, hosts first, then ports
    A_hat  (N, N)        D^-1 (A + I), a torch.sparse CSR tensor, or anything for which A_hat @ z is that product
    W1     (37, 1024)    normal, variance 1/37         b1 (1024,)  normal, deviation 0.3
    W2     (1024, 128)   normal, variance 1/1024
    Z      (N, 128)      A_hat ReLU(A_hat x W1 + b1) W2

Imports torch only.
"""

from typing import NamedTuple

import torch

ROWS = 1 << 15  # rows of the hidden layer at a time: 128 MiB of it, however many nodes there are


class Weights(NamedTuple):
    W1: torch.Tensor
    b1: torch.Tensor
    W2: torch.Tensor


def draw_weights(seed, device="cpu", n_features=37, hidden=1024, n_out=128):
    """The Weights of a seed, float32: the same on every device, since they are drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    W1 = torch.randn(n_features, hidden, generator=generator) / n_features**0.5
    b1 = torch.randn(hidden, generator=generator) * 0.3
    W2 = torch.randn(hidden, n_out, generator=generator) / hidden**0.5
    return Weights(W1.to(device), b1.to(device), W2.to(device))


@torch.no_grad()
def embed(weights, A_hat, x):
    """Z (N, 128) of one day's nodes, from its A_hat (N, N) and x (N, 37): no other day has a part in it.

    Propagation comes first where it is 37 wide and last where it is 128 wide; the hidden layer of 1,024 is made and
    used up a block of rows at a time.
    """
    W1, b1, W2 = weights
    Ax = A_hat @ x                                          # (N, 37)
    z = torch.cat([torch.relu(rows @ W1 + b1) @ W2 for rows in Ax.split(ROWS)])  # (N, 128)
    return A_hat @ z
