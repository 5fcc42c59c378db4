"""Subnet agreement: how often a host's nearest neighbours are of its /24, which no feature tells (beyond the paper).

A yardstick without labels, since one operator tends to run the hosts of one /24.

    addresses   (n,)     int64 IPv4 address of each host; its first 24 bits are its /24, its subnet
    neighbours  (n, k)   row numbers, without the row itself, as from knn.nearest
    m           (n,)     other hosts among the n in a host's /24

Imports torch only.
"""

import torch


def subnet_agreement(addresses, neighbours):
    """(agreement, chance) over the hosts with m >= 1: who has one of those m hosts among the k neighbours.

    agreement is the share of them; chance is what k distinct neighbours drawn at random from the other n - 1 hosts
    would give, the mean of 1 - C(n-1-m, k) / C(n-1, k). Both are nan if no host shares its /24. addresses (n,)
    integers in [0, 2^32); neighbours (n, k).
    Raises ValueError for shapes that do not fit, or addresses that are no integers in that range.
    """
    n = len(addresses)
    if addresses.ndim != 1 or neighbours.ndim != 2 or len(neighbours) != n:
        raise ValueError("expected addresses (n,) and neighbours (n, k), got "
                         f"{tuple(addresses.shape)} and {tuple(neighbours.shape)}")
    if addresses.is_floating_point() or (n and not (addresses.min() >= 0 and int(addresses.max()) < 1 << 32)):
        span = f", {addresses.min()}..{addresses.max()}" if n else ""
        raise ValueError(f"addresses must be integers in [0, 2^32), got {addresses.dtype}{span}")
    _, subnet, hosts = torch.unique(addresses >> 8, return_inverse=True, return_counts=True)
    m = hosts[subnet] - 1                                   # (n,)
    shared = m > 0
    found = (subnet[neighbours] == subnet[:, None]).any(1)  # (n,)
    k = max(0, min(neighbours.shape[1], n - 1))
    others = n - 1 - torch.arange(k, dtype=torch.float64, device=addresses.device)  # (k,) left before each draw
    missed = (m[shared, None] / others).clamp(max=1)        # C(n-1-m, k) / C(n-1, k) = prod_j (1 - m / (n-1-j)),
    chance = -torch.expm1(torch.log1p(-missed).sum(1))      # in logarithms: no factorial, no cancellation
    return found[shared].double().mean().item(), chance.mean().item()
