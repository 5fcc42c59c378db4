"""changes.csv."""

import numpy as np
import pytest
import torch

from daily import changes, hosts

HOSTS = np.array([5, 7, 9, 11], np.uint32)
NAMES = ["Unknown", "a", "b"]


@pytest.fixture
def two_days():
    """(earlier rows, today's rows): host 5 changes from a to b, 7 drifts from a, 9 stays Unknown, 11 is new and b."""
    yesterday = hosts.today(hosts.lookup(hosts.NO_HOSTS, HOSTS[:3]), HOSTS[:3], 738000, np.array([1, 1, 0]),
                            np.array([1, 0.5, 1]), np.array([0.1, 0.1, np.nan]))
    before = hosts.lookup(hosts.update(hosts.NO_HOSTS, yesterday), HOSTS)
    today = hosts.today(before, HOSTS, 738001, np.array([2, 1, 0, 2]), np.array([1, 1, 1, 1]),
                        np.array([0.1, 0.9, np.nan, np.nan]))
    return before, today


def test_changes_of_a_day_by_hand(two_days):
    """A changed prediction, a labelled host that left its class, a new host with all votes; most surprising first."""
    labels = ["a", "a", "Unknown", "Unknown"]
    lines = changes.changes(*two_days, labels, NAMES, np.array([0.9, 0.9, 0.9, 0.7]))
    assert lines == ["2021-07-30,0.0.0.5,class,a,a,b,2021-07-29,1.0000",
                     "2021-07-30,0.0.0.11,new,Unknown,,b,,0.7000"]
    many = np.arange(100, 140, dtype=np.uint32)             # 39 labelled hosts stay, one leaves
    was = hosts.today(hosts.lookup(hosts.NO_HOSTS, many), many, 738000, np.ones(40, int), np.ones(40), np.full(40, 0.1))
    before = hosts.lookup(hosts.update(hosts.NO_HOSTS, was), many)
    now = hosts.today(before, many, 738001, np.ones(40, int), np.ones(40), np.r_[1.3, np.full(39, 0.1)])
    lines = changes.changes(before, now, ["a"] * 40, NAMES, np.ones(40), np.r_[7.5, np.full(39, 2.0)])
    assert lines == ["2021-07-30,0.0.0.100,moved,a,0.1000,1.3000,2021-07-29,7.5000"]


def test_steady_surprise_orders_the_changes(two_days):
    """With --steady all kinds are ordered by the one surprise; a host without an earlier day has none, and is last."""
    labels = ["a", "a", "Unknown", "Unknown"]
    lines = changes.changes(*two_days, labels, NAMES, np.array([0.9, 0.9, 0.9, 0.7]), np.array([3.25, 1, 1, np.nan]))
    assert lines == ["2021-07-30,0.0.0.5,class,a,a,b,2021-07-29,3.2500",
                     "2021-07-30,0.0.0.11,new,Unknown,,b,,"]


def test_class_names_are_quoted(two_days):
    """Names with commas and quotes, which come from the user's files, stay one field."""
    lines = changes.changes(*two_days, ['x,"y"'] * 4, ["Unknown", "a", "b, c"], np.ones(4))
    assert lines[0] == '2021-07-30,0.0.0.5,class,"x,""y""",a,"b, c",2021-07-29,1.0000'


def test_the_distance_to_the_own_class():
    """Cosine distance to the mean of the class's unit vectors: 0 for one alone, nan for Unknown."""
    x = torch.tensor([[2.0, 0], [0, 3], [5, 0], [0, -1]], dtype=torch.float64)
    distance = changes.centroid_distance(x, torch.tensor([1, 1, 2, 0]), 3)
    assert distance[:3].tolist() == pytest.approx([1 - 0.5**0.5, 1 - 0.5**0.5, 0]) and distance[3].isnan()


def test_where_nothing_was_scored_nothing_is_written(two_days):
    """A day without predictions has no lines."""
    assert changes.lines(*two_days, NAMES, NAMES, [], None) == ""
