"""What the page keeps of a day: how fine its numbers are, whom it leaves out, how the map begins, what it forgets."""

import datetime
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import graph as graphs
import knn
from report import shown

GENERATOR = np.random.default_rng(5)


def addresses(n, seed=0):
    return np.unique(np.random.default_rng(seed).integers(0, 1 << 32, 2 * n, dtype=np.uint32))[:n]


def test_day(hosts, date="2022-01-01", earlier=(), surprise=None, groups=None, seed=0):
    """A day with a map, of random embeddings, and the numbers that it was made of."""
    n, generator = len(hosts), torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator)
    similarity, neighbours = knn.nearest(x, 3)
    found = SimpleNamespace(X=x, labels=torch.arange(n) % 3, similarity=similarity, neighbours=neighbours,
                            surprise=surprise)
    scored = SimpleNamespace(predicted=(torch.arange(n) + 1) % 3, share=torch.full((n,), 2 / 3))
    told = {"date": date, "hosts": n}
    packets, port = np.arange(n) + 5, np.full((n, 3), -1, np.int32)
    return shown.day_with_map(told, hosts, packets, port, found, scored, np.array([0, 4, 300]), earlier, seed,
                              knn.nearest, groups), found


test_day.__test__ = False


def test_a_rows_numbers():
    """Codes of all days, votes, cosines, surprise and membership within half a step of what they stand for."""
    hosts, surprise = addresses(40), torch.linspace(0, 20, 40, dtype=torch.float64)
    surprise[3] = torch.nan
    groups = SimpleNamespace(number=np.arange(40) - 1, membership=np.linspace(0, 1, 40))
    day, found = test_day(hosts, surprise=surprise, groups=groups)
    assert (day.host == hosts).all()
    assert day.label.tolist()[:4] == [0, 4, 300, 0] and day.predicted.tolist()[:3] == [4, 300, 0]
    assert (day.votes == 67).all()
    assert (day.near == hosts[found.neighbours.numpy()]).all()
    np.testing.assert_allclose(day.similarity / 255, found.similarity.clamp(0, 1).numpy(), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(2 ** (day.packets / 8), np.arange(40) + 6, rtol=0.045)
    np.testing.assert_allclose(2 ** (np.delete(day.surprise, 3) / 32), np.delete(surprise.numpy(), 3) + 1, rtol=0.011)
    assert day.surprise[3] == 255
    assert day.campaign.tolist() == [0, 0, *range(1, 39)]
    np.testing.assert_allclose(day.membership / 255, np.linspace(0, 1, 40), atol=0.5 / 255 + 1e-9)


def test_fewer_neighbours_than_columns():
    """Two hosts have one neighbour each; the other columns say that there is none."""
    day, _ = test_day(addresses(2))
    assert (day.near[:, 0] == day.host[::-1]).all() and (day.near[:, 1:] == shown.NO_HOST).all()


def test_extreme_numbers_stay_in_their_bytes():
    """2^40 packets, surprise beyond what a byte holds, a negative cosine."""
    assert shown.logarithm(np.array([0, 1 << 40]), 8).tolist() == [0, 255]
    assert shown.logarithm(np.array([1e9]), 32, 254).tolist() == [254]
    assert shown.share(np.array([-0.5, 0.5, 1.01]), 255).tolist() == [0, 128, 255]


def test_a_day_with_more_hosts_than_the_page_has_room_for(monkeypatch):
    """HOSTS are shown, news among them; the others are the same ones day after day and no matter who else is there."""
    monkeypatch.setattr(shown, "HOSTS", 60)
    hosts = addresses(400)
    news = np.zeros(400, bool)
    news[[7, 300]] = True
    kept = shown.kept(hosts, news)
    assert len(kept) == 60 and (np.diff(kept) > 0).all() and {7, 300} <= set(kept.tolist())
    half = hosts[::2]
    among = shown.kept(half)
    sample = set(hosts[shown.kept(hosts)].tolist())
    assert {host for host in half.tolist() if host in sample} <= set(half[among].tolist())
    assert (shown.kept(hosts[:60]) == np.arange(60)).all()


def test_the_most():
    """Only those that have a value; ties go to the first."""
    assert shown.most(np.array([1.0, np.nan, 3.0, 3.0]), 2).tolist() == [False, False, True, True]
    assert shown.most(np.array([np.nan, np.nan]), 2).tolist() == [False, False]


def test_the_map_begins_where_hosts_were():
    """At the last map that had them, however long ago; nowhere for a new host."""
    first, _ = test_day(np.array([5, 9, 12], np.uint32), "2022-01-01")
    second, _ = test_day(np.array([9, 30], np.uint32), "2022-01-02", seed=1)
    without = shown.day_without_map({"date": "2022-01-03", "hosts": 1}, np.array([5], np.uint32), np.array([9]),
                                    np.array([[80, -1, -1]], np.int32))
    place = shown.places_before([first, second, without], np.array([5, 7, 9], np.uint32))
    np.testing.assert_array_equal(place, [first.place[0] / 512, [np.nan, np.nan], second.place[0] / 512])


def test_what_the_page_forgets(monkeypatch):
    """Days before the one given; the oldest where there are too many rows; never the last day."""
    days = [test_day(addresses(10, seed=i), f"2022-01-0{i}")[0] for i in range(1, 6)]
    since = datetime.date(2022, 1, 3).toordinal()
    assert [day.told["date"][-1] for day in shown.latest(days, since)] == ["3", "4", "5"]
    assert shown.latest(days) == days
    monkeypatch.setattr(shown, "ROWS", 25)
    assert shown.latest(days) == days[3:]
    monkeypatch.setattr(shown, "ROWS", 5)
    assert shown.latest(days, since + 30) == days[4:]


def test_through_the_state_and_back():
    """The same arrays, types and texts; of no day nothing."""
    days = [test_day(addresses(10))[0], shown.day_without_map({"date": "2022-01-02", "hosts": 2, "loss": 1 / 3},
            addresses(2), np.array([9, 9]), np.zeros((2, 3), np.int32))]
    for back, day in zip(shown.from_tensors(shown.as_tensors(days)), days, strict=True):
        assert back.told == day.told
        for name in shown.COLUMNS:
            np.testing.assert_array_equal(getattr(back, name), getattr(day, name))
            assert getattr(back, name).dtype == getattr(day, name).dtype
    assert shown.from_tensors(shown.as_tensors([])) == []


@pytest.fixture
def graph():
    """Three hosts: 40 and 20 packets to two ports, 30 each to four, one of them a port without a node of its own."""
    src = np.repeat(np.array([1, 1, 2, 2, 2, 2, 3], np.uint32), [40, 20, 30, 30, 30, 30, 30])
    port = np.repeat(np.array([23, 80, 80, 22, 443, 9999, 443], np.int32), [40, 20, 30, 30, 30, 30, 30])
    return graphs.build_graph(src, port, 5, 4)[0]


def test_packets_and_busiest_ports(graph):
    """Of each host; among equals the lower port, 65536 for all that are no nodes."""
    packets, port = shown.of_graph(graph)
    assert packets.tolist() == [60, 120, 30]
    assert port.tolist() == [[23, 80, -1], [22, 80, 443], [443, -1, -1]]
    one, _ = graphs.build_graph(np.full(9, 1), np.full(9, 7), 5, 1)
    assert shown.of_graph(one)[1].tolist() == [[7, -1, -1]]


def test_which_groups_send_to_which_ports(graph):
    """Shares in thousandths, in columns by port number; hosts in no group do not count."""
    packets, hosts = shown.packets_by_group(graph, np.array([0, 1, -1]), 2)
    assert hosts.tolist() == [1, 1] and packets.sum(1).tolist() == [60, 120]
    heat = shown.heat_of(graph.ports, [("a", 1, packets.toarray()[0])], [(7, 1, packets.toarray()[1])])
    assert heat == {"ports": [22, 23, 80, 443, 65536], "classes": [["a", 1, [0, 667, 333, 0, 0]]],
                    "campaigns": [[7, 1, [250, 0, 250, 250, 250]]]}
    assert shown.heat_of(graph.ports, []) == {"ports": [], "classes": [], "campaigns": []}


def test_each_group_has_its_busiest_port_in_the_heat_map(monkeypatch):
    """However small the group; what is left goes to the ports of most hosts."""
    monkeypatch.setattr(shown, "HEAT_PORTS", 3)
    packets = np.array([[9, 8, 7, 6, 0], [0, 0, 0, 0, 1]])
    heat = shown.heat_of(np.arange(5), [("large", 1000, packets[0]), ("small", 1, packets[1])])
    assert heat["ports"] == [0, 1, 4]
