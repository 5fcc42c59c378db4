"""What neighbours are searched in, with steady behaviour and without; the equations are tested in test_steady.py."""

import numpy as np
import pytest
import torch

import knn
from beyond import steady, views

HOSTS = np.array([3, 5, 8, 11, 20, 21], np.uint32)
NEW = views.View()


def alone(value):
    """`total` where one process has all hosts."""
    return value


def day(seed, width=4, n=6):
    """A day's standardized vectors."""
    return knn.standardize(torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width))))


def test_the_papers_way_standardizes():
    """Saved are the embeddings, searched their standardized form; nobody is surprised."""
    z = torch.arange(12.0).reshape(4, 3)
    embedded = views.standardized(z, knn.standardize)
    assert embedded.saved is z and torch.equal(embedded.X, knn.standardize(z)) and embedded.surprise is None


@pytest.mark.parametrize(("parts", "settings"), [
    ("whitened", {"f": 0.0, "weighted": False}), ("weighted", {"f": 0.0}), ("memory", {})])
def test_features_are_followed_part_by_part(parts, settings):
    """--steady PARTS of the features is steady.follow with these settings; what is saved is what is searched."""
    view, memory = NEW, steady.new_memory(4)
    for t in range(3):
        x = day(t)
        embedded, view = views.of_features(view, x, HOSTS, t, parts, alone)
        today = steady.moments(x, *steady.recall(memory, HOSTS))
        z, surprise, memory = steady.follow(memory, today, x, HOSTS, t, **settings)
        assert torch.equal(embedded.saved, z) and embedded.X is embedded.saved
        assert torch.equal(embedded.surprise.nan_to_num(-1), surprise.nan_to_num(-1))
    assert view.graph is None and view.sums is None


def test_steady_axes_are_remembered_and_joined():
    """An embedding of steady axes has a memory of its own; with features their steady form stands beside it."""
    alone_view, joined_view = NEW, NEW
    mine, own = steady.new_memory(3), steady.new_memory(4)
    for t in range(3):
        X, x = day(10 + t, width=3), day(t)
        plain, alone_view = views.of_steady_axes(alone_view, X, None, HOSTS, t, "memory", alone)
        both, joined_view = views.of_steady_axes(joined_view, X, x, HOSTS, t, "memory", alone)
        z, surprise, mine = steady.step(mine, X, HOSTS, t)
        z_x, _, own = steady.step(own, x, HOSTS, t)
        weight = steady.join_weight(steady.find_axes(own.sums), steady.find_axes(mine.sums))
        assert torch.equal(plain.X, z) and torch.equal(both.X, steady.join(z_x, z, weight))
        assert torch.equal(both.surprise.nan_to_num(-1), surprise.nan_to_num(-1))  # of the model's own view
    assert alone_view.features is None and joined_view.features is not None


@pytest.mark.parametrize("keep", [True, False])
def test_moving_axes_come_from_pairs_of_days(keep):
    """Axes are those of all pairs so far, or of today's pairs alone for a model that is new every day."""
    view, sums = NEW, None
    for t in range(1, 4):
        X, yesterday = day(t), day(10 + t, n=4)             # yesterday's hosts by today's weights: all but 5 and 20
        pair = X, HOSTS, yesterday, HOSTS[[0, 2, 3, 5]]
        embedded, view = views.of_moving_axes(view, X, [pair], None, HOSTS, t, "memory", alone, keep)
        xbar, n = torch.zeros_like(X), torch.tensor([1.0, 0, 1, 1, 0, 1])
        xbar[[0, 2, 3, 5]] = yesterday
        today = steady.moments(X, xbar, n)
        sums = steady.add(sums, today) if sums and keep else today
        axes = steady.find_axes(sums)
        assert torch.equal(embedded.X, steady.posterior(axes, X))
        assert torch.equal(embedded.surprise.nan_to_num(-1), steady.surprise(axes, X, xbar, n).nan_to_num(-1))
        assert embedded.surprise.isnan().tolist() == [False, True, False, False, True, False]
    whitened, _ = views.of_moving_axes(view, X, [pair], None, HOSTS, 4, "whitened", alone, keep)
    axes = steady.find_axes(steady.add(sums, today) if keep else today)
    assert torch.allclose(whitened.X, X @ axes.R)


def test_before_the_first_pair_the_embedding_is_what_is_there():
    """No day before: the standardized embedding itself, joined with the features where there are any."""
    X, x = day(0, width=3), day(1)
    embedded, view = views.of_moving_axes(NEW, X, [], None, HOSTS, 1, "memory", alone)
    assert torch.equal(embedded.X, X) and embedded.surprise.isnan().all() and view == NEW
    embedded, view = views.of_moving_axes(NEW, X, [], x, HOSTS, 1, "memory", alone)
    assert embedded.X.shape == (6, 7) and torch.allclose(embedded.X.norm(dim=1), torch.ones(6).double())
    assert view.features is not None and view.sums is None


def test_later_days_without_a_pair_go_on_with_the_axes_so_far():
    """A day whose day before cannot be embedded uses the axes so far, without surprise."""
    X = day(1)
    _, view = views.of_moving_axes(NEW, X, [(X, HOSTS, day(2), HOSTS)], None, HOSTS, 1, "memory", alone)
    embedded, after = views.of_moving_axes(view, day(3), [], None, HOSTS, 2, "memory", alone)
    assert torch.equal(embedded.X, steady.posterior(steady.find_axes(view.sums), day(3)))
    assert embedded.surprise.isnan().all() and after == view


def test_a_day_without_embedding_counts_for_the_features():
    """The features' memory takes in every day, also one on which the model has nothing."""
    view = views.only_features(NEW, day(0), HOSTS, 0, "memory", alone)
    assert torch.equal(view.features.hosts, torch.from_numpy(HOSTS.astype(np.int64)))
    assert views.only_features(view, None, HOSTS, 1, "memory", alone) is view


def test_rows_in_the_order_of_today():
    """Yesterday's rows beside today's hosts; hosts that were absent have zeros and are not known."""
    out, known = views.laid_out(HOSTS, torch.tensor([[1.0], [2.0], [3.0]]), np.array([1, 8, 21], np.uint32))
    assert out[:, 0].tolist() == [0, 0, 2, 0, 0, 3] and known.tolist() == [0, 0, 1, 0, 0, 1]
    out, known = views.laid_out(HOSTS, torch.empty(0, 1), HOSTS[:0])
    assert not out.any() and not known.any()


def test_shares_of_the_hosts_add_up():
    """Two processes, each with half of the hosts and the sums of both, give the rows of one process with all."""
    halves = np.arange(6) % 2 == 0, np.arange(6) % 2 == 1
    own, whole = [NEW, NEW], NEW
    for t in range(3):
        X, x = day(10 + t, width=3), day(t)
        expected, whole = views.of_steady_axes(whole, X, x, HOSTS, t, "memory", alone)
        sums = [[], []]
        for part, half, of_part in zip(sums, halves, own):  # what each process would send

            def send(value, part=part):
                part.append(value)
                return value
            views.of_steady_axes(of_part, X[half], x[half], HOSTS[half], t, "memory", send)
        for i, half in enumerate(halves):
            received = iter([a + b for a, b in zip(*sums)])
            embedded, own[i] = views.of_steady_axes(own[i], X[half], x[half], HOSTS[half], t, "memory",
                                                    lambda _, received=received: next(received))
            assert torch.allclose(embedded.X.abs(), expected.X[half].abs(), atol=1e-9)
            assert torch.allclose(embedded.surprise, expected.surprise[half], equal_nan=True)


def test_forgotten_hosts_leave_all_memories():
    """Hosts last seen before a day go from features and graph; the sums, which are no host's, stay."""
    view = NEW
    for t, hosts in enumerate((HOSTS, HOSTS[:4])):
        _, view = views.of_steady_axes(view, day(t, 3, len(hosts)), day(t, 4, len(hosts)), hosts, t, "memory", alone)
    after = views.forget(view, 1)
    for memory, before in ((after.features, view.features), (after.graph, view.graph)):
        assert memory.hosts.tolist() == HOSTS[:4].tolist() and memory.sums == before.sums
    assert views.forget(NEW, 1) == NEW


def test_a_view_survives_a_file(tmp_path):
    """as_dict and from_dict, through torch.load with weights_only, give the same next day, bit by bit."""
    steady_view, moving = NEW, NEW
    for t in range(2):
        _, steady_view = views.of_steady_axes(steady_view, day(t, 3), day(9 + t), HOSTS, t, "memory", alone)
        _, moving = views.of_moving_axes(moving, day(t), [(day(t), HOSTS, day(5), HOSTS)], None, HOSTS, t, "memory",
                                         alone)
    for view in (NEW, steady_view, moving):
        torch.save(views.as_dict(view), tmp_path / "v")
        read = views.from_dict(torch.load(tmp_path / "v", weights_only=True), "cpu")
        if view is moving:
            (a, _), (b, _) = (views.of_moving_axes(one, day(7), [], None, HOSTS, 2, "memory", alone)
                              for one in (view, read))
        else:
            (a, _), (b, _) = (views.of_steady_axes(one, day(7, 3), day(8), HOSTS, 2, "memory", alone)
                              for one in (view, read))
        assert torch.equal(a.X, b.X)
