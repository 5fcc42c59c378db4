"""Each claim of beyond/steady.py against its equation written out in numpy, host by host."""

import io
import time

import numpy as np
import pytest
import torch

from beyond import steady

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
E = 6


def trace(n_days=12, n_hosts=60, width=E, seed=0, device="cpu"):
    """Days (x, hosts, day): hosts with centres of their own, noise that is uneven and joint, absences, date gaps."""
    rng = np.random.default_rng(seed)
    addresses = np.sort(rng.choice(1 << 32, n_hosts, replace=False)).astype(np.uint32)
    centre = rng.normal(size=(n_hosts, width)) * np.linspace(2, 0.2, width)
    mix = rng.normal(size=(width, width))
    days = []
    for t in range(n_days):
        here = rng.random(n_hosts) < 0.6
        x = centre[here] + rng.normal(size=(here.sum(), width)) @ mix * 0.5
        x = (x - x.mean(0)) / x.std(0)
        days.append((torch.from_numpy(x).to(device), addresses[here], 738000 + t + t // 5))
    return days


def run(days, width=E, memory=None, f=0.9, shrinkage=0.03):
    """z and surprise of each day, and the memory after the last."""
    memory = memory or steady.new_memory(width, days[0][0].device)
    out = []
    for x, hosts, day in days:
        z, moved, memory = steady.step(memory, x, hosts, day, f, shrinkage)
        out.append((z, moved))
    return out, memory


def by_hand(days, f, shrinkage):
    """T, W, and per day (xbar, n) before and after it: from each host's list of all its days, in O(days) per host."""
    past, xx, dd, before, after = {}, [], [], [], []
    for x, hosts, _ in days:
        before.append([])
        after.append([])
        for vector, host in zip(x.cpu().numpy(), hosts.tolist()):
            seen = past.setdefault(host, [])
            for vectors, out in ((list(seen), before[-1]), ([*seen, vector], after[-1])):
                weight = [f**a for a in reversed(range(len(vectors)))]
                out.append((sum(w * v for w, v in zip(weight, vectors)) / sum(weight) if vectors else 0 * vector,
                            sum(weight)))
            xbar, n = before[-1][-1]
            xx.append(np.outer(vector, vector))
            if seen:
                dd.append(np.outer(vector - xbar, vector - xbar) / (1 + 1 / n))
            seen.append(vector)
    T, W = np.mean(xx, axis=0), np.mean(dd, axis=0)
    return T, W, (1 - shrinkage) * W + shrinkage * np.trace(W) / len(W) * np.eye(len(W)), before, after


def cosines(z):
    return torch.nn.functional.normalize(z) @ torch.nn.functional.normalize(z).T


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("f", [0, 0.9, 1])
def test_a_day_equals_its_equations(device, f):
    """z z^T and surprise of the last day equal T, W and each host's weighted mean written out over all its days."""
    days = trace(device=device)
    out, memory = run(days, f=f)
    T, W, shrunk, before, after = by_hand(days, f, 0.03)

    np.testing.assert_allclose((memory.sums.xx / memory.sums.rows).cpu(), T, atol=1e-12)
    np.testing.assert_allclose((memory.sums.dd / memory.sums.pairs).cpu(), W, atol=1e-12)
    axes = steady.find_axes(memory.sums)
    R, psi = axes.R.cpu().numpy(), axes.psi.cpu().numpy()
    z, moved = out[-1]
    expected = np.stack([n * psi / (n * psi + 1) * (R.T @ xbar) for xbar, n in after[-1]])
    np.testing.assert_allclose(z.cpu(), expected, atol=1e-12)
    inverse = np.linalg.inv(shrunk)
    for (x, host_before, one) in zip(days[-1][0].cpu().numpy(), before[-1], moved.tolist()):
        xbar, n = host_before
        d = x - xbar
        if n:
            assert one == pytest.approx(d @ inverse @ d / (np.trace(inverse @ W) * (1 + 1 / n)), rel=1e-9)
        else:
            assert np.isnan(one)


@pytest.mark.parametrize("device", DEVICES)
def test_xbar_of_every_host_equals_a_sum_over_its_days(device):
    """recall gives the mean and the weights' sum of each host, present on the last day or not."""
    days = trace(n_days=30, device=device)
    _, memory = run(days)
    *_, after = by_hand(days, 0.9, 0.03)
    last = {}
    for (_, hosts, day), rows in zip(days, after):
        last.update({host: (*row, day) for host, row in zip(hosts.tolist(), rows)})
    assert memory.hosts.tolist() == sorted(last)
    for host, xbar, n, day in zip(memory.hosts.tolist(), memory.xbar.cpu(), memory.n.tolist(), memory.last.tolist()):
        np.testing.assert_allclose(xbar, last[host][0], atol=1e-13)
        assert n == pytest.approx(last[host][1], rel=1e-13) and day == last[host][2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shrinkage", [0, 0.03, 1])
def test_the_axes_make_noise_white_and_signal_diagonal(device, shrinkage):
    """R^T W R = I and R^T T R = I + diag(psi), to 1e-10; surprise's dimensions are E without shrinkage."""
    days = trace(width=37, n_hosts=200, device=device)
    _, memory = run(days, width=37)
    T, _, W, *_ = by_hand(days, 0.9, shrinkage)
    axes = steady.find_axes(memory.sums, shrinkage, least=-1)  # without a least psi: the diagonal itself
    R, psi = axes.R.cpu().numpy(), axes.psi.cpu().numpy()
    np.testing.assert_allclose(R.T @ W @ R, np.eye(37), atol=1e-10)
    np.testing.assert_allclose(R.T @ T @ R, np.diag(1 + psi), atol=1e-10)
    assert (np.diff(psi) >= 0).all()
    if shrinkage == 0:
        assert axes.noise.item() == pytest.approx(37, abs=1e-9)


def test_psi_has_a_least_value():
    """An axis along which hosts do not differ from each other keeps a small weight, 0.001 / 1.001 after one day."""
    x = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_s = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    axes = steady.find_axes(steady.moments(0.5 * x, 0.5 * x_s - x, torch.ones(500)))  # T is far smaller than W
    assert (axes.psi == 0.001).all()
    z = steady.posterior(axes, x)
    np.testing.assert_allclose(z, 0.001 / 1.001 * (x @ axes.R), rtol=1e-12)
    assert steady.signal(axes) == pytest.approx(0.001 / 1.001)


@pytest.mark.parametrize("device", DEVICES)
def test_an_invertible_linear_map_changes_z_by_a_rotation_only(device):
    """Without shrinkage x and x M have the same products z z^T on every day; with shrinkage they have not."""
    days = trace(device=device)
    M = torch.randn(E, E, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(device)
    assert torch.linalg.cond(M) > 3
    for shrinkage in (0, 0.5):
        plain, _ = run(days[3:], shrinkage=shrinkage, memory=run(days[:3])[1])
        mapped_days = [(x @ M, hosts, day) for x, hosts, day in days]
        mapped, _ = run(mapped_days[3:], shrinkage=shrinkage, memory=run(mapped_days[:3])[1])
        same = [torch.allclose(z @ z.T, y @ y.T, rtol=0, atol=1e-9) for (z, _), (y, _) in zip(plain, mapped)]
        assert all(same) if shrinkage == 0 else not any(same)


def test_without_memory_and_factor_it_is_whitening():
    """With f = 0 the cosines of R^T xbar are those of x whitened by L L^T = W^-1, W from pairs of a host's days."""
    days = trace()
    _, memory = run(days, f=0)
    pairs, last = [], {}
    for x, hosts, _ in days:
        for host, vector in zip(hosts.tolist(), x.numpy()):
            if host in last:
                pairs.append(vector - last[host])
            last[host] = vector
    W = np.transpose(pairs) @ np.array(pairs) / (2 * len(pairs))
    L = np.linalg.cholesky(np.linalg.inv(0.97 * W + 0.03 * np.trace(W) / E * np.eye(E)))
    x = days[-1][0]
    z = x @ steady.find_axes(memory.sums).R
    np.testing.assert_allclose(cosines(z), cosines(x @ torch.from_numpy(L)), atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
def test_shares_of_hosts_add_up(device):
    """Hosts shared out over three processes, one without any: the same z and surprise as in one process."""
    days = trace(device=device)
    whole, memory = run(days)
    shares = [steady.new_memory(E, device) for _ in range(3)]
    for (x, hosts, day), (z, moved) in zip(days, whole):
        own = [hosts % 2 == 0, hosts % 2 == 1, hosts < 0]
        parts = [(x[torch.from_numpy(rows).to(device)], hosts[rows]) for rows in own]
        today = steady.add(*(steady.moments(x, *steady.recall(share, hosts))
                             for share, (x, hosts) in zip(shares, parts)))
        for i, (x, hosts) in enumerate(parts):
            rows = torch.from_numpy(own[i]).to(device)
            part_z, part_moved, shares[i] = steady.follow(shares[i], today, x, hosts, day)
            np.testing.assert_allclose((part_z @ part_z.T).cpu(), (z[rows] @ z[rows].T).cpu(), atol=1e-10)
            np.testing.assert_allclose(part_moved.cpu(), moved[rows].cpu(), rtol=1e-9)
    assert sum(len(share.hosts) for share in shares) == len(memory.hosts)


def test_a_saved_memory_goes_on_to_the_same_bytes():
    """Every day from a file of tensors and plain numbers, and all days at once: the same bytes of z and surprise."""
    days = trace()
    at_once, _ = run(days)
    memory = steady.new_memory(E)
    for day, (z, moved) in zip(days, at_once):
        file = io.BytesIO()
        torch.save(steady.as_dict(memory), file)
        file.seek(0)
        memory = steady.from_dict(torch.load(file, weights_only=True))
        [(again, moved_again)], memory = run([day], memory=memory)
        assert z.numpy().tobytes() == again.numpy().tobytes()
        assert moved.numpy().tobytes() == moved_again.numpy().tobytes()


def test_tomorrow_changes_nothing_today():
    """z and surprise of a day have the same bytes whatever the days after it hold."""
    days, other = trace(), trace(seed=1)
    for (z, moved), (y, moved_too) in zip(run(days)[0][:8], run(days[:8] + other[8:])[0]):
        assert z.numpy().tobytes() == y.numpy().tobytes() and moved.numpy().tobytes() == moved_too.numpy().tobytes()


def test_the_memory_is_one_vector_and_two_numbers_a_host():
    """Per host: E numbers, a count and the last day. What is kept over hosts does not grow with them or with days."""
    for n_days, n_hosts in ((5, 60), (20, 300)):
        saved = steady.as_dict(run(trace(n_days, n_hosts))[1])
        n = len(saved["hosts"])
        assert {name: tuple(value.shape) for name, value in saved.items() if torch.is_tensor(value)} == {
            "xx": (E, E), "dd": (E, E), "hosts": (n,), "xbar": (n, E), "n": (n,), "last": (n,)}


def test_forgotten_hosts_begin_anew():
    """Hosts not seen since a day leave; those that return are new, the others and the sums are as they were."""
    days = trace()
    _, memory = run(days[:-1])
    left = steady.forget(memory, days[-2][2])
    assert left.hosts.tolist() == days[-2][1].tolist() and left.sums is memory.sums
    x, hosts, day = days[-1]
    xbar, n = steady.recall(left, hosts)
    gone = torch.from_numpy(~np.isin(hosts, days[-2][1]))
    assert gone.any() and not n[gone].any() and not xbar[gone].any()
    whole, whole_n = steady.recall(memory, hosts)
    assert torch.equal(xbar[~gone], whole[~gone]) and torch.equal(n[~gone], whole_n[~gone])
    assert torch.isnan(steady.step(left, x, hosts, day)[1][gone]).all()


@pytest.mark.parametrize("shrinkage", [0, 0.03, 0.5])
@pytest.mark.parametrize("width", [6, 8])
def test_surprise_is_one_on_an_ordinary_day(shrinkage, width):
    """Over all pairs of all days surprise averages to 1, with shrinkage and with columns that never vary too."""
    days = trace()
    if width > 6:                                           # a constant column and a copy: W has rank 6
        if shrinkage == 0:
            pytest.skip("a singular W needs shrinkage")
        days = [(torch.cat([x, x[:, :1], 0 * x[:, :1]], 1), *more) for x, *more in days]
    memories = [steady.new_memory(width)]
    for x, hosts, day in days:
        memories.append(steady.step(memories[-1], x, hosts, day, shrinkage=0.03)[2])
    axes = steady.find_axes(memories[-1].sums, shrinkage)
    moved = torch.cat([steady.surprise(axes, x, *steady.recall(memory, hosts))
                       for memory, (x, hosts, _) in zip(memories, days)])
    assert moved.nanmean().item() == pytest.approx(1, abs=1e-10)


def test_one_day_known_gives_its_own_width():
    """A step that is no surprise after many days is less of one after a single day: (1 + 1/n) of 2, 1.1 or 1."""
    x = torch.eye(3, dtype=torch.float64)
    axes = steady.find_axes(steady.moments(x, 0 * x, torch.ones(3)))
    one, ten, endless = steady.surprise(axes, x, 0 * x, torch.tensor([1, 10, torch.inf]).double()).tolist()
    assert one == pytest.approx(endless / 2) and ten == pytest.approx(endless / 1.1)


def test_a_host_that_never_changes_is_no_surprise():
    """0, exactly, after any number of days, among hosts that do change."""
    days = trace(n_hosts=20)
    steady_x = torch.tensor([[0.1, -0.7, 1.3, 1 / 3, 0, 2]], dtype=torch.float64)
    days = [(torch.cat([steady_x, x]), np.append(np.uint32(0), hosts), day) for x, hosts, day in days]
    out, _ = run(days)
    assert torch.isnan(out[0][1][0]) and all(moved[0] == 0 for _, moved in out[1:])


@pytest.mark.parametrize("device", DEVICES)
def test_before_any_pair_the_vectors_stay_as_they_are(device):
    """The first day, or hosts that never come back: z is x, and there is no surprise to speak of."""
    days = trace(device=device)
    memory = steady.new_memory(E, device)
    for i, (x, hosts, day) in enumerate(days[:3]):
        fresh = (np.arange(len(hosts)) + 1000 * i).astype(np.uint32)
        z, moved, memory = steady.step(memory, x, fresh, day)
        assert torch.equal(z, x) and torch.isnan(moved).all()
    assert steady.signal(steady.find_axes(memory.sums)) == 1


def test_hosts_that_never_change_stay_as_they_are():
    """All differences 0: W is unknown, z is x, surprise is 0."""
    x, hosts, _ = trace()[0]
    out, _ = run([(x, hosts, day) for day in range(3)])
    assert all(torch.equal(z, x) for z, _ in out) and not out[-1][1].any()


def test_one_host_only_gives_numbers():
    """A single host, standardized to 0 on every day: z is 0, finite, and no surprise."""
    out, _ = run([(torch.zeros(1, E), np.array([7], np.uint32), day) for day in range(4)])
    assert all(not z.any() for z, _ in out) and out[-1][1].tolist() == [0]


@pytest.mark.parametrize("device", DEVICES)
def test_columns_that_never_vary_add_nothing(device):
    """Constant columns are 0 after standardizing: z is finite, and its cosines are those of the other columns alone.

    The average variance tr(W)/E is smaller with them, so the other columns alone need a smaller shrinkage term.
    """
    days = [(torch.cat([x, x.new_zeros(len(x), 3)], 1), *more) for x, *more in trace(device=device)]
    out, memory = run(days, width=E + 3)
    assert all(z.isfinite().all() and moved[~moved.isnan()].isfinite().all() for z, moved in out)
    xx, rows, dd, pairs = memory.sums.xx[:E, :E], memory.sums.rows, memory.sums.dd[:E, :E], memory.sums.pairs
    dd = 0.97 * dd + 0.03 * dd.trace() / (E + 3) * torch.eye(E).to(dd)
    xbar, n = steady.recall(memory, days[-1][1])
    z = steady.posterior(steady.find_axes(steady.Sums(xx, rows, dd, pairs), 0), xbar[:, :E], n)
    np.testing.assert_allclose(cosines(out[-1][0]).cpu(), cosines(z).cpu(), atol=1e-9)


def test_a_singular_w_needs_shrinkage():
    """Too few pairs, a constant or a repeated column: ValueError at shrinkage 0, finite axes above."""
    generator = torch.Generator().manual_seed(0)
    x, x_s = (torch.randn(200, E, generator=generator, dtype=torch.float64) for _ in range(2))
    constant, repeated = torch.tensor([1.0, 1, 0, 1, 1, 1]).double(), torch.eye(E).double()[:, [0, 1, 2, 3, 4, 0]]
    for a, b in ((x[:5], x_s[:5]), (x * constant, x_s * constant), (x @ repeated, x_s @ repeated)):
        sums = steady.moments(a, b, torch.ones(len(a)))
        with pytest.raises(ValueError, match=r"in each of 6 columns.*more shrinkage than 0, got a singular W from"):
            steady.find_axes(sums, shrinkage=0)
        assert all(part.isfinite().all() for part in steady.find_axes(sums))


def test_scale_does_not_make_w_singular():
    """Columns of scales 1e-6 to 1e6 need no shrinkage: only dependence is singular."""
    days = trace()
    _, memory = run(days)
    scale = torch.logspace(-6, 6, E).double()
    sums = memory.sums
    scaled = steady.Sums(sums.xx * scale * scale[:, None], sums.rows, sums.dd * scale * scale[:, None], sums.pairs)
    plain = steady.posterior(steady.find_axes(sums, 0), days[-1][0])
    np.testing.assert_allclose(cosines(steady.posterior(steady.find_axes(scaled, 0), days[-1][0] * scale)),
                               cosines(plain), atol=1e-8)


def test_joined_cosines_are_the_weighed_mean():
    """Rows joined with weight 3 have 3/4 of one view's cosine and 1/4 of the other's; a zero row stays zero."""
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(9, 4, generator=generator).double(), torch.randn(9, 7, generator=generator).double()
    joined = steady.join(z, 1e-3 * y, 3)
    np.testing.assert_allclose(cosines(joined), 0.75 * cosines(z) + 0.25 * cosines(y), atol=1e-12)
    assert joined.shape == (9, 11) and not steady.join(0 * z, 0 * y, 3).any()


def test_the_view_with_more_signal_weighs_more():
    """The weight is (2 s / s')^2, s and s' being the means of psi / (psi + 1); 4 where nothing is known of either."""
    identity, one = torch.eye(2).double(), torch.tensor(2.0).double()
    strong = steady.Axes(identity, torch.tensor([3.0, 1]).double(), one)      # s = (3/4 + 1/2) / 2
    weak = steady.Axes(identity, torch.tensor([1 / 3, 1]).double(), one)      # s = (1/4 + 1/2) / 2
    assert steady.join_weight(strong, weak) == pytest.approx((2 * 0.625 / 0.375) ** 2)
    assert steady.join_weight(strong, strong) == 4
    unknown = steady.find_axes(steady.new_memory(2).sums)
    assert steady.join_weight(unknown, unknown) == 4


def test_a_million_hosts_take_seconds():
    """A day of a million hosts, half of them known, within 60 s, and in float64 throughout from float32 vectors."""
    n = 1_000_000
    x = torch.randn(n, 37, generator=torch.Generator().manual_seed(0))
    hosts = np.arange(n, dtype=np.uint32)
    _, _, memory = steady.step(steady.new_memory(37), x[: n // 2], hosts[: n // 2] * 2, 1)
    start = time.perf_counter()
    z, moved, memory = steady.step(memory, x, hosts, 2)
    assert time.perf_counter() - start < 60
    assert z.dtype == moved.dtype == memory.xbar.dtype == torch.float64 and (~moved.isnan()).sum() == n // 2


def test_bad_arguments_are_refused():
    """Shapes, hosts out of order, a day twice, nan, shrinkage outside [0, 1]: ValueErrors that say so."""
    x, hosts, day = trace()[0]
    memory = steady.new_memory(E)
    with pytest.raises(ValueError, match=r"x \(n_hosts, E\), xbar \(n_hosts, E\) and n \(n_hosts,\), got \(6,\)"):
        steady.moments(x[0], x[0], x[0])
    with pytest.raises(ValueError, match="expected x"):
        steady.step(memory, x[1:], hosts, day)
    with pytest.raises(ValueError, match="hosts must be addresses, whole numbers of 0 or more, ascending and distinct"):
        steady.recall(memory, hosts[::-1])
    with pytest.raises(ValueError, match=r"ascending and distinct, got torch[.]float64"):
        steady.recall(memory, torch.tensor([1.0, 2.0]).double())
    _, _, memory = steady.step(memory, x, hosts, day)
    with pytest.raises(ValueError, match=f"days must come in order, got day {day} after day {day}"):
        steady.step(memory, x, hosts, day)
    with pytest.raises(ValueError, match="expected finite vectors"):
        steady.step(memory, x * torch.nan, hosts, day + 1)
    for shrinkage in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"shrinkage must lie in \[0, 1\], got"):
            steady.find_axes(memory.sums, shrinkage)
