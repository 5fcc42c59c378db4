import numpy as np
import pytest
import torch

from beyond import fixed_gcn

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def day(seed, n_hosts=50, n_ports=20):
    """A_hat (N, N) dense and x (N, 37) of a random bipartite day."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (n_hosts, n_ports)) * (rng.random((n_hosts, n_ports)) < 0.2)
    A = np.block([[np.zeros((n_hosts, n_hosts)), counts], [counts.T, np.zeros((n_ports, n_ports))]])
    A = A + np.eye(n_hosts + n_ports)
    x = torch.from_numpy(rng.normal(size=(n_hosts + n_ports, 37))).float()
    return torch.from_numpy(A / A.sum(1, keepdims=True)).float(), x


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 7, 1 << 15])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_it_is_two_graph_convolutions(device, rows, monkeypatch):
    """Z = A_hat ReLU(A_hat x W1 + b1) W2, dense in float64, with any number of hidden rows at a time."""
    monkeypatch.setattr(fixed_gcn, "ROWS", rows)
    A_hat, x = day(0)
    weights = fixed_gcn.draw_weights(3, device)
    W1, b1, W2 = (part.double().cpu() for part in weights)
    expected = A_hat.double() @ torch.relu(A_hat.double() @ x.double() @ W1 + b1) @ W2
    Z = fixed_gcn.embed(weights, A_hat.to_sparse_csr().to(device), x.to(device))
    assert Z.shape == (70, 128) and Z.dtype == torch.float32 and Z.device.type == device
    np.testing.assert_allclose(Z.cpu(), expected, atol=1e-5)


def test_the_seed_tells_the_weights():
    """The same seed, the same bytes, whatever else draws numbers; means and deviations are as the header says."""
    weights = fixed_gcn.draw_weights(0)
    torch.randn(5)
    assert all(torch.equal(a, b) for a, b in zip(weights, fixed_gcn.draw_weights(0)))
    assert not any(torch.equal(a, b) for a, b in zip(weights, fixed_gcn.draw_weights(1)))
    for part, deviation in zip(weights, (37**-0.5, 0.3, 1024**-0.5)):
        assert abs(part.mean()) < 4 * deviation / part.numel() ** 0.5
        assert part.std().item() == pytest.approx(deviation, rel=4 / (2 * part.numel()) ** 0.5)


def test_days_in_any_order_have_the_same_bytes():
    """A day's Z does not depend on the days computed before it."""
    days = [day(seed) for seed in range(3)]
    weights = fixed_gcn.draw_weights(0)
    forwards = [fixed_gcn.embed(weights, *one).numpy().tobytes() for one in days]
    backwards = [fixed_gcn.embed(weights, *one).numpy().tobytes() for one in reversed(days)]
    assert forwards == backwards[::-1]


def test_only_products_with_a_hat_are_needed():
    """A process with half of the hosts and all ports, whose A_hat @ z completes the ports' rows, gets its rows of Z."""
    A_hat, x = day(1)
    weights = fixed_gcn.draw_weights(0)
    Ax = A_hat @ x
    whole = fixed_gcn.embed(weights, A_hat, x)
    ports_of_all = iter([Ax[50:], whole[50:]])              # what a sum over the processes would give
    own = torch.cat([torch.arange(25), torch.arange(50, 70)])

    class Share:
        def __matmul__(self, z):
            return torch.cat([A_hat[:25][:, own] @ z, next(ports_of_all)])

    Z = fixed_gcn.embed(weights, Share(), x[own])
    np.testing.assert_allclose(Z, whole[own], atol=1e-5)
    assert next(ports_of_all, None) is None
