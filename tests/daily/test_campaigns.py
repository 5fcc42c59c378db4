"""Campaigns over days: identities by hand, the files, and runs that go on."""

import csv
import datetime
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import graph as graphs
from beyond.campaigns import spanning_tree
from daily import campaigns, memory, state
from tests.command.running import error_of, firewall_run, run
from tests.daily.running import daily_run, files_of, stopped_after_writes

FIXED = ["--model", "fixed-gcn", "--campaigns"]


@pytest.fixture
def daily(tmp_path):
    return daily_run(tmp_path)


# -- identity, by hand -------------------------------------------------------------------------------------------------

def follow(*days, keep=7):
    """(number, event, origin, hosts, gained, lost) of each campaign, by days: each a list of sets of hosts, or None."""
    known, told = campaigns.NOTHING, []
    for today, groups in enumerate(days, 1):
        if groups is None:
            continue
        hosts = np.unique(np.concatenate([*map(list, groups), [999]])).astype(np.uint32)  # 999 is in none
        label = np.full(len(hosts), -1)
        for i, group in enumerate(groups):
            label[np.isin(hosts, list(group))] = i
        news, known = campaigns.identify(campaigns.remembered(known, today - keep), hosts, label, today)
        told.append([(int(row[0]), *row[1:3], *map(int, row[3:6])) for row in zip(*news)])
    return told


A, B = set(range(10)), set(range(100, 110))


def test_a_new_campaign_goes_on_grows_shrinks_and_ends():
    """Hosts that stay keep the number; more than a fifth more or less is said; who is gone is told once."""
    larger, other = A | set(range(20, 25)), B
    days = follow([A], [A - {0} | {50}], [larger, other], [A, other], [other], [other])
    assert days == [[(1, "new", "", 10, 10, 0)],
                    [(1, "continues", "", 10, 1, 1)],
                    [(1, "grows", "", 15, 6, 1), (2, "new", "", 10, 10, 0)],
                    [(1, "shrinks", "", 10, 0, 5), (2, "continues", "", 10, 0, 0)],
                    [(2, "continues", "", 10, 0, 0), (1, "ends", "", 0, 0, 10)],
                    [(2, "continues", "", 10, 0, 0)]]


def test_a_campaign_splits_and_merges():
    """The larger part keeps the number and the other says where it was; who joins a larger one is named by it."""
    a, b = set(range(6)), set(range(6, 10))
    days = follow([A], [a, b], [A])
    assert days[1] == [(1, "shrinks", "", 6, 0, 4), (2, "splits from", "1", 4, 4, 0)]
    assert days[2] == [(1, "merges", "2", 10, 4, 0), (2, "ends", "", 0, 0, 4)]


def test_a_campaign_returns_until_it_is_forgotten():
    """Within the memory it has its number back; after that it is new, and its number is never given again."""
    assert follow([A], [B], [A], keep=2)[2][0] == (1, "returns", "", 10, 0, 0)
    days = follow([A], [B], None, [A], keep=2)
    assert days[2] == [(3, "new", "", 10, 10, 0), (2, "ends", "", 0, 0, 10)]


def test_the_matching_is_the_best_of_all():
    """One campaign takes its second best where all together then share more hosts; no number is given twice."""
    first, second = set(range(10)), set(range(10, 16))
    mixed = set(range(4, 10)) | set(range(10, 15))          # 6 of the first, 5 of the second
    rest = set(range(4))                                    # 4 of the first
    days = follow([first, second], [mixed, rest])
    assert [(row[0], row[3]) for row in days[1]] == [(2, 11), (1, 4)]


def test_a_few_hosts_in_common_are_no_identity():
    """Below a fifth of the smaller group's hosts there is no match."""
    other = {9} | set(range(50, 59))
    assert follow([A], [other])[1] == [(2, "new", "", 10, 10, 0), (1, "ends", "", 0, 0, 10)]


def test_nothing_on_a_day():
    """A day without groups ends those of before; days without any before have no news."""
    assert follow([], [A], []) == [[], [(1, "new", "", 10, 10, 0)], [(1, "ends", "", 0, 0, 10)]]


def test_what_is_remembered_is_bounded():
    """Campaigns that come and go leave no more than the days remembered hold."""
    known = campaigns.NOTHING
    for today in range(1, 60):
        hosts = np.arange(10 * today, 10 * today + 10, dtype=np.uint32)
        _, known = campaigns.identify(campaigns.remembered(known, today - 7), hosts, np.zeros(10, np.int64), today)
    assert len(known.number) == 8 and len(known.host) == 80 and known.counters.tolist() == [60, 59]


# -- what a row says ---------------------------------------------------------------------------------------------------

@pytest.fixture
def two_groups():
    """A day of 12 hosts: six of one /24 to port 23, five of another to port 80, one stray; two kinds of directions."""
    hosts = np.r_[np.arange(6) + 0x01020300, np.arange(5) + 0x05060700, 0x09090909].astype(np.uint32)
    src, port = np.repeat(hosts, 5), np.repeat(np.r_[np.full(6, 23), np.full(5, 80), 443], 5)
    port[0] = 80
    graph, _ = graphs.build_graph(src, port)
    x = torch.tensor([[1.0, 0, 0]] * 6 + [[0, 1.0, 0]] * 5 + [[0, 0, 1.0]])
    labels = torch.tensor([1, 1, 2, 0, 0, 0, 0, 0, 0, 2, 1, 0])
    return (SimpleNamespace(date=datetime.date(2022, 1, 1), graph=graph),
            SimpleNamespace(hosts=hosts, X=x, labels=labels))


def test_a_day_in_words(two_groups):
    """Ports with shares here and elsewhere, /24s, labels with counts, the label of most, and the hosts' lines."""
    past = memory.Memory()
    entered = campaigns.enter(past, two_groups[0], ("Unknown", "a", 'b, "c"'), two_groups[1], 5, 7, spanning_tree)
    lines = campaigns.csv_lines("2022-01-01", entered.rows).splitlines()
    rows = list(csv.DictReader([campaigns.CAMPAIGN_COLUMNS, *lines]))
    assert rows[0] == {
        "date": "2022-01-01", "campaign": "1", "event": "new", "from": "", "hosts": "6", "hosts_new": "6",
        "hosts_lost": "0", "packets": "30", "ports": "23:0.967 80:0.033", "apart": "23:0.967/0.000", "subnets": "1",
        "labels": 'a 2; b, "c" 1', "predicted": "a", "agreement": "0.67", "cohesion": "1.0000",
        "first_seen": "2022-01-01", "days": "1"}
    assert rows[1]["predicted"] == rows[1]["agreement"] == "" and rows[1]["labels"] == 'a 1; b, "c" 1'
    hosts = entered.host_lines.splitlines()
    assert hosts[0] == "2022-01-01,1.2.3.0,1,1.0000" and hosts[-1] == "2022-01-01,9.9.9.9,,0.0000"
    assert entered.lines[0] == "  campaign 1    new                 6 hosts +6 -0  a  23:0.967  80:0.033"
    quality = entered.quality
    assert quality["count"] == 2 and quality["inside"] == pytest.approx(11 / 12) and quality["day_to_day"] is None
    assert quality["same_subnet"] == 1 and quality["chance"] == pytest.approx(25 / 66)
    again = campaigns.enter(past, SimpleNamespace(date=datetime.date(2022, 1, 2), graph=two_groups[0].graph),
                            ("Unknown", "a", "b"), two_groups[1], 5, 7, spanning_tree)
    assert again.quality["day_to_day"] == 1 and again.rows[0]["event"] == "continues"


def test_the_state_keeps_them(two_groups, tmp_path):
    """Through the file of the state and back: the same arrays."""
    past = memory.Memory(last=datetime.date(2022, 1, 1), models=[SimpleNamespace()], views=[None])
    campaigns.enter(past, two_groups[0], ("Unknown", "a", "b"), two_groups[1], 5, 7, spanning_tree)
    state.save(tmp_path / "s", {"campaigns": memory.tensors(past.campaigns)})
    saved = state.load(tmp_path / "s")["campaigns"]
    back = campaigns.Known(*memory.arrays(saved, campaigns.Known, host=np.uint32, active=np.uint32))
    for name, column in past.campaigns._asdict().items():
        assert (getattr(back, name) == column).all() and getattr(back, name).dtype == column.dtype


# -- the command -------------------------------------------------------------------------------------------------------

def test_the_command_writes_the_campaigns(capsys, tmp_path):
    """Two kinds of hosts are two campaigns, with their files, a line each, and figures in the report."""
    code, printed, _ = run(capsys, *firewall_run(tmp_path), *FIXED)
    assert code == 0
    with (tmp_path / "out" / "campaigns.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["date"], row["event"]) for row in rows][:2] == [("2022-01-01", "new")] * 2
    assert {row["predicted"] for row in rows} == {"even, quoted", "odd"}
    with (tmp_path / "out" / "campaign_hosts.csv").open() as file:
        hosts = list(csv.DictReader(file))
    assert len(hosts) == 56 and {row["campaign"] for row in hosts} <= {"", "1", "2"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["campaigns"]["count"]["mean"] == 2 and report["campaigns"]["labels"]["mean"] > 0.5
    assert report["days"][-1]["campaigns"]["day_to_day"] > 0.5 and "campaigns" not in report["days"][0]
    assert "\ncampaigns: 2.0 a day, " in printed and "  campaign 1 " in printed
    assert "predictions.csv, campaigns.csv, campaign_hosts.csv to" in printed
    assert max(map(len, (line for line in printed.splitlines() if "campaign " in line))) <= 80
    run(capsys, *firewall_run(tmp_path))                    # without: those of the run before are gone
    assert not list((tmp_path / "out").glob("campaign*"))


def test_day_by_day_equals_all_at_once(capsys, tmp_path, daily):
    """One run a day leaves the bytes of one run of all days, and those of a run without a state."""
    arguments = daily("whole", more=FIXED)
    assert run(capsys, *arguments)[0] == 0
    for days in ((1,), (2, 3), (4,), (5,), (6, 7), (8,)):
        code, _, complaint = run(capsys, *daily("steps", *days, more=FIXED))
        assert code == 0, complaint
    whole = files_of(tmp_path / "whole")
    assert whole["campaigns.csv"].count(b"\n") > 5 and files_of(tmp_path / "steps") == whole
    at = arguments.index("--state")
    run(capsys, *daily("whole")[:at], *FIXED, "--out", tmp_path / "without")
    assert all(whole[name] == value for name, value in files_of(tmp_path / "without").items())


def test_killed_after_any_write(capsys, tmp_path, daily, monkeypatch):
    """The process stops right after one of its writes: the next run makes it good."""
    stopped, moment = stopped_after_writes(capsys, monkeypatch, tmp_path, daily, FIXED, range(1, 90, 5))
    assert not stopped and moment > 20


def test_settings_of_campaigns_go_with_a_state(capsys, daily):
    """A state goes on with the same campaigns or none; the sizes matter only with --campaigns."""
    run(capsys, *daily("one", 1, 2, 3, 4, more=FIXED))
    assert "with --campaigns, got a run without --campaigns" in error_of(
        capsys, *daily("one", 5, more=["--model", "fixed-gcn"]))
    assert "with --campaign-size 5, got a run with --campaign-size 6" in error_of(
        capsys, *daily("one", 5, more=[*FIXED, "--campaign-size", 6]))
    run(capsys, *daily("two", 1, 2, 3, 4, more=["--model", "fixed-gcn"]))
    assert run(capsys, *daily("two", 5, more=["--model", "fixed-gcn", "--campaign-size", 9]))[0] == 0
