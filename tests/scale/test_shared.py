"""What ranks do together with a day's hosts gives what fast.alone gives."""

import inspect
from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fast
import features
import knn
from beyond import fixed_gcn, ranks, views
from fast import alone
from scale import parts, shared
from tests.scale.ranks import (
    LONELY,
    SIZES,
    TOP_PORTS,
    by_ranks,
    day_of_packets,
    found_by_ranks,
    joined,
    one_process,
    owned,
    part_of,
)
from traces import packets

K = [3, 60]


def tied_rows(n=41):
    """Rows with many exact ties and duplicates, a zero row, labels, and addresses.

    Norms are 1 and 2, so that similarities are exact, however a processor's matrix product orders its sums.
    """
    rng = np.random.default_rng(9)
    x = rng.choice([-1, 1], (n, 4)).astype(np.float32)
    x[::3] *= np.eye(4, dtype=np.float32)[rng.integers(0, 4, len(x[::3]))]
    x[7] = 0
    hosts = np.sort(rng.choice(2**32, n, replace=False)).astype(np.uint32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, 3, n)), hosts


def to_standardize():
    """Rows far from 0, one column the same in all of them, one the same in those of a rank."""
    x, _, hosts = tied_rows()
    x = x * 0.1 + 1e3
    x[:, 3] = 0.1
    x[:, 2] = torch.from_numpy(np.isin(hosts, owned(hosts, 1, 2)).astype(np.float32))
    return x, hosts


def day_of(hosts, labels):
    """What `search` looks at of a traces.days.Day."""
    return SimpleNamespace(graph=SimpleNamespace(hosts=hosts), labels=labels)


def embedded_of(x, hosts):
    """An Embedded whose rows tell which host's they are."""
    return views.Embedded(torch.from_numpy(hosts.astype(np.float64))[:, None], x, x[:, 0].double())


def steady(way, days):
    """Embedded of each day (hosts, x) by a memory that goes through all of them, and the memory."""
    view, found = views.View(), []
    for t, (hosts, x) in enumerate(days):
        z, view = views.of_features(view, way.standardize(torch.from_numpy(x)), hosts, t + 1, "memory", way.total)
        found.append((hosts, z.X, z.surprise))
    return found, views.as_dict(view)


def fixed(way, graph, x):
    """fixed-gcn's embeddings of the hosts, by small weights."""
    weights = fixed_gcn.draw_weights(0, hidden=16, n_out=5)
    return fixed_gcn.embed(weights, way.propagation(graph, "cpu"), torch.from_numpy(x))[: len(graph.hosts)]


def work(rank, size):
    """What a rank finds."""
    x, labels, hosts = tied_rows()
    mine = torch.from_numpy(np.isin(hosts, owned(hosts, rank, size)))
    day = day_of(hosts[mine.numpy()], labels[mine])
    found = {("search", k): shared.search(fast.nearest, day, embedded_of(x[mine], day.graph.hosts), k) for k in K}
    found["no surprise"] = shared.search(knn.nearest, day, views.Embedded(x[mine], x[mine], None), 3)
    found["everyone"] = shared.everyone(day.graph.hosts, np.arange(len(day.graph.hosts)), day.graph.hosts[:, None] % 7)
    x, _ = to_standardize()
    found["hosts"], found["standardized"] = day.graph.hosts, shared.standardize(x[mine])
    found["earliest"], found["total"] = shared.earliest(5 - rank), shared.total(torch.tensor([rank, 1.0]))
    days, found["fixed"] = [], []
    for t in range(4):
        counted = shared.count_day(part_of(day_of_packets(t), rank, size), 5, TOP_PORTS, features.node_features)
        x, n_hosts = shared.by_rank(counted.raw, len(counted.graph.hosts)), len(counted.graph.hosts)
        days.append((counted.graph.hosts, x[:n_hosts]))
        found["fixed"].append((counted.graph.hosts, fixed(shared, counted.graph, x)))
    found["steady"], view = steady(shared, days)
    found["memory"] = parts.whole_memory(view["features"])
    found["writes"] = shared.writes
    return found


@pytest.fixture(scope="module", params=SIZES)
def by_rank(request, tmp_path_factory):
    """What each rank found."""
    return found_by_ranks(request.param, work, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def days():
    """The days by one process: (graph, x) with x scaled by rank."""
    counted = [one_process(t) for t in range(4)]
    return [(day.graph, ranks.scale_by_rank(day.raw, len(day.graph.hosts))) for day in counted]


def test_one_process_and_several_have_the_same_functions():
    """fast.alone and scale.shared: the same names, and functions with the same arguments."""
    names = {name for name, value in vars(alone).items() if not name.startswith("_") and not inspect.ismodule(value)}
    for name in names - {"NamedTuple", "Found"}:
        one, many = getattr(alone, name), getattr(shared, name)
        assert callable(one) == callable(many), name
        if callable(one):
            arguments = [[*inspect.signature(function).parameters] for function in (one, many)]
            assert [name for name in arguments[0] if name != "maxima"] == arguments[1], name  # which `shared` finds


@pytest.mark.parametrize("k", K)
def test_neighbours_are_those_of_one_process_ties_included(k, by_rank):
    """At rank 0 are all hosts with what one search over all rows finds, in order of address; elsewhere is none."""
    x, labels, hosts = tied_rows()
    one = alone.search(knn.nearest, day_of(hosts, labels), embedded_of(x, hosts), k)
    first, *others = [rank["search", k] for rank in by_rank]
    assert (first.hosts == one.hosts).all()
    for name in ("labels", "saved", "X", "surprise", "neighbours"):
        found, expected = getattr(first, name), getattr(one, name)
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    torch.testing.assert_close(first.similarity, one.similarity, rtol=0, atol=1e-6)
    for other in others:
        assert all(column.shape == (0, *whole.shape[1:]) for column, whole in zip(other, one))
    assert [rank["writes"] for rank in by_rank] == [True, *[False] * len(others)]


def test_what_is_searched_in_is_what_is_saved(by_rank):
    """With steady behaviour there is one array of embeddings; without it there is no surprise."""
    x, _, hosts = tied_rows()
    for rank, n in zip(by_rank, (len(hosts), 0, 0)):
        found = rank["no surprise"]
        assert found.surprise is None and torch.equal(found.saved, found.X) and torch.equal(found.X, x[:n])


def test_everyone_is_at_rank_0(by_rank):
    """All ranks' hosts, ascending, at rank 0; the smallest of all numbers and sums on every rank."""
    first, *others = [rank["everyone"] for rank in by_rank]
    hosts, number, column = first
    assert (hosts == tied_rows()[2]).all() and (column[:, 0] == hosts % 7).all()
    assert sorted(number.tolist()) == sorted(i for rank in by_rank for i in range(len(rank["hosts"])))
    assert all(len(column) == 0 for other in others for column in other)
    n = len(by_rank)
    assert all(rank["earliest"] == 6 - n and rank["total"].tolist() == [n * (n - 1) / 2, n] for rank in by_rank)


def test_standardization_is_over_all_ranks(by_rank):
    """Mean and deviation are those of all rows; what is the same in all of them is 0, in one rank's is not."""
    x, _ = to_standardize()
    expected = knn.standardize(x)
    found = joined([rank["hosts"] for rank in by_rank], [rank["standardized"] for rank in by_rank])[1]
    np.testing.assert_allclose(found, expected, atol=2e-3)  # 0.1 beside 1000 in float32
    assert (found[:, 3] == 0).all() and found[:, 2].std() > 0.9


def test_steady_behaviour_is_that_of_one_process(by_rank, days):
    """z and surprise of every day, and what is remembered at the end, gathered: 1e-6 of its norm at most."""
    expected, memory = steady(alone, [(graph.hosts, x[: len(graph.hosts)]) for graph, x in days])
    for t, one in enumerate(expected):
        found = [rank["steady"][t] for rank in by_rank]
        for i in (1, 2):
            hosts, column = joined([part[0] for part in found], [part[i] for part in found])
            assert (hosts == one[0]).all()
            torch.testing.assert_close(torch.from_numpy(column), one[i], rtol=1e-5, atol=1e-5, equal_nan=True)
        assert t == 0 or (~one[2].isnan()).sum() > 5
    for name, whole in memory["features"].items():
        found = by_rank[0]["memory"][name]
        if torch.is_tensor(whole) and whole.is_floating_point():
            torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(whole)), name


def test_the_graph_model_that_is_not_trained_is_that_of_one_process(by_rank, days):
    """fixed-gcn's embeddings by a propagation that completes the ports' rows, on a day without own hosts too."""
    for t, (graph, x) in enumerate(days):
        found = [rank["fixed"][t] for rank in by_rank]
        hosts, z = joined([part[0] for part in found], [part[1] for part in found])
        assert (hosts == graph.hosts).all() and (t != LONELY or len(found[1][0]) == 0)
        torch.testing.assert_close(torch.from_numpy(z), fixed(alone, graph, x), rtol=1e-5, atol=1e-5)


def read(rank, size, folder, out):
    """What a rank reads of a folder, and what all say of it together."""
    summary = packets.Summary()
    days = [(day, None if part is None else np.sort(part.src)) for day, part in
            shared.read_days([folder], summary, after=date(1970, 1, 1))]
    made = [(day, 0 if part is None else len(part.src)) for (day, part), _ in zip(shared.made_days(0.01, 0), range(2))]
    torch.save((days, shared.merged(summary), made), out / f"read-{rank}.pt")


def test_ranks_read_together_what_one_process_reads(tmp_path):
    """Days, packets and the summary are those of one process; the synthetic month's packets are shared out."""
    (tmp_path / "in").mkdir()
    for t in range(4):
        lines = [f"{86400 * (t + t // 3) + i},1.0.0.{i},9.9.9.9,{t}" for i in range(1, 4)]
        (tmp_path / "in" / f"{t}.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port", *lines]))
    by_ranks(2, read, tmp_path / "in", tmp_path)
    found = [torch.load(tmp_path / f"read-{rank}.pt", weights_only=False) for rank in range(2)]
    summary = packets.Summary()
    one = list(alone.read_days([tmp_path / "in"], summary, after=date(1970, 1, 1)))
    for (days, whole, _), (_, other, _) in zip(found, found[::-1]):
        assert [day for day, _ in days] == [day for day, _ in one]
        assert whole == other and (whole.files, whole.days, whole.tcp) == (summary.files, summary.days, summary.tcp)
        assert whole.gaps == summary.gaps and len(whole.gaps) == 1 and whole.skipped == summary.skipped
    for (_, whole), *both in zip(one, found[0][0], found[1][0]):
        assert (np.sort(np.concatenate([part for _, part in both if part is not None])) == np.sort(whole.src)).all()
    made = [sum(n) for n in zip(*([n for _, n in made] for *_, made in found))]
    assert made == [len(day.src) for (_, day), _ in zip(alone.made_days(0.01, 0), range(2))]
