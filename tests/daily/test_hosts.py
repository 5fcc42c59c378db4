"""The host table."""

import csv

import numpy as np

from daily import hosts

HOSTS = np.array([5, 7, 9, 11], np.uint32)


def test_hosts_that_the_table_lacks_are_told_apart():
    """`lookup` gives the table's rows and, of hosts before, between and behind its own, NOT_SEEN."""
    two = np.array([5, 9], np.uint32)
    table = hosts.update(hosts.NO_HOSTS, hosts.today(hosts.lookup(hosts.NO_HOSTS, two), two, 7))
    for held, address in ((False, 0), (False, 4), (True, 5), (False, 6), (True, 9), (False, 2**32 - 1)):
        row = hosts.lookup(table, np.array([address], np.uint32))
        assert (row.first.item(), row.days.item()) == ((7, 1) if held else (-1, 0))
        assert hosts.lookup(hosts.NO_HOSTS, np.array([address], np.uint32)).first.item() == -1


def test_the_host_table_by_hand(tmp_path):
    """First and last day, days, last prediction; a host without prediction has empty fields."""
    table = hosts.update(hosts.NO_HOSTS, hosts.today(hosts.lookup(hosts.NO_HOSTS, HOSTS), HOSTS, 738000))
    seen = hosts.today(hosts.lookup(table, HOSTS[1:2]), HOSTS[1:2], 738002, np.array([1]), np.array([2 / 3]))
    table = hosts.update(table, seen)
    assert table.address.tolist() == [5, 7, 9, 11] and table.days.tolist() == [1, 2, 1, 1]
    hosts.write_hosts(tmp_path / "hosts.csv", table, ["Unknown", 'a "b", c'])
    with (tmp_path / "hosts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"host": "0.0.0.7", "first_seen": "2021-07-29", "last_seen": "2021-07-31", "days": "2",
                       "predicted": 'a "b", c', "vote_share": "0.67"}
    assert rows[0]["predicted"] == rows[0]["vote_share"] == ""


def test_class_names_keep_their_codes_when_the_lists_change():
    """Codes stand for names of the state's list, to which new names are appended."""
    names = ["Unknown", "a", "b"]
    assert hosts.codes(names, ("Unknown", "b", "c")).tolist() == [0, 2, 3] and names == ["Unknown", "a", "b", "c"]


def test_days_as_text():
    """Numbers of days become dates, -1 nothing."""
    assert hosts.dates(np.array([738001, -1, 738000])).tolist() == ["2021-07-30", "", "2021-07-29"]
