import itertools

import numpy as np
import pytest
import torch

from beyond.subnets import subnet_agreement

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def nearest(x, k):
    """Row numbers of the k rows nearest to each row of x by cosine, the row itself left out; brute force."""
    x = torch.nn.functional.normalize(x)
    return (x @ x.T).fill_diagonal_(-2).topk(min(k, max(len(x) - 1, 0)), dim=1)[1]


def agreement_by_hand(addresses, neighbours):
    """Host by host: (hosts that share their /24, of those the ones with a neighbour in it)."""
    shared = agreed = 0
    for i, address in enumerate(addresses):
        if any(other >> 8 == address >> 8 for j, other in enumerate(addresses) if j != i):
            shared += 1
            agreed += any(addresses[j] >> 8 == address >> 8 for j in neighbours[i])
    return shared, agreed


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 3, 60])
def test_subnet_agreement_equals_a_loop_over_hosts(device, k):
    """The share of hosts with a neighbour of their /24, among those that share it, counted host by host."""
    rng = np.random.default_rng(k)
    addresses = np.unique(rng.integers(0, 20, 40) << 8 | rng.integers(0, 256, 40)) + (223 << 24)
    x = torch.from_numpy(rng.normal(size=(len(addresses), 4)) + 1.5 * rng.normal(size=(20, 4))[addresses >> 8 & 255])
    neighbours = nearest(x, k)
    shared, agreed = agreement_by_hand(addresses.tolist(), neighbours.tolist())
    assert 0 < shared < len(addresses) and (k != 1 or 0 < agreed < shared)
    agreement, _ = subnet_agreement(torch.from_numpy(addresses).to(device), neighbours.to(device))
    assert agreement == pytest.approx(agreed / shared, abs=1e-15)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", range(8))
def test_chance_agreement_is_the_mean_over_all_draws(device, k):
    """chance is the mean agreement over every set of k other hosts, enumerated; 1 with all of them, k = n - 1."""
    subnets = [0, 0, 0, 1, 1, 2, 3, 0]
    addresses = [subnet << 8 | i for i, subnet in enumerate(subnets)]
    per_host = []
    for i, subnet in enumerate(subnets):
        if subnets.count(subnet) > 1:
            draws = list(itertools.combinations([j for j in range(8) if j != i], k))
            per_host.append(np.mean([any(subnets[j] == subnet for j in draw) for draw in draws]))
    neighbours = nearest(torch.randn(8, 3), k) if k else torch.empty(8, 0, dtype=torch.int64)
    agreement, chance = subnet_agreement(torch.tensor(addresses, device=device), neighbours.to(device))
    assert chance == pytest.approx(np.mean(per_host), abs=1e-12)
    if k in (0, 7):
        assert agreement == chance == (k == 7)


def test_random_neighbours_agree_by_chance():
    """k distinct neighbours drawn at random give the agreement that chance foretells, within 4 standard errors."""
    generator = torch.Generator().manual_seed(0)
    addresses = torch.arange(60) % 25 << 8 | torch.arange(60)
    found = []
    for _ in range(300):
        draws = torch.rand(60, 60, generator=generator).fill_diagonal_(2).argsort(1)[:, :4]
        agreement, chance = subnet_agreement(addresses, draws)
        found.append(agreement)
    assert abs(np.mean(found) - chance) < 4 * np.std(found) / np.sqrt(len(found))


def test_chance_agreement_of_many_hosts_keeps_its_digits():
    """A million hosts, pairs of which share a /24: chance is k / (n - 1), with no factorial to overflow."""
    n = 1_000_000
    addresses = (torch.arange(n) // 2 << 8) + torch.arange(n) % 2
    _, chance = subnet_agreement(addresses, torch.zeros(n, 3, dtype=torch.int64))
    assert chance == pytest.approx(3 / (n - 1), rel=1e-12)


def test_no_shared_subnet_no_agreement():
    """Without two hosts of one /24, none or one host included, agreement and chance are not numbers."""
    for n in (0, 1, 5):
        agreement, chance = subnet_agreement(torch.arange(n) << 8, nearest(torch.randn(n, 2), 3))
        assert np.isnan(agreement) and np.isnan(chance)


def test_subnet_agreement_refuses_what_does_not_fit():
    """Shapes of other hosts, and values that are no IPv4 addresses, are ValueErrors that say so."""
    neighbours = torch.tensor([[1], [0]])
    with pytest.raises(ValueError, match=r"addresses \(n,\) and neighbours \(n, k\), got \(3,\) and \(2, 1\)"):
        subnet_agreement(torch.arange(3), neighbours)
    with pytest.raises(ValueError, match=r"integers in \[0, 2\^32\), got torch.int64, -1..5"):
        subnet_agreement(torch.tensor([-1, 5]), neighbours)
    with pytest.raises(ValueError, match=r"integers in \[0, 2\^32\), got torch.float32"):
        subnet_agreement(torch.rand(2), neighbours)
