"""What a run says."""

from collections import Counter

import pytest

from report import scores, words
from tests.report.test_scores import day
from traces import packets

ROW = {"date": "2021-12-31", "hosts": 123456, "new_hosts": 78901, "ports": 2501, "edges": 1234567, "loss": 0.25,
       "accuracy": 0.5, "macro_f1": None, "seconds": 12.345}


def test_the_table_fits_a_terminal():
    """No line is wider than 80 characters, however long the class names are."""
    names = ("Unknown", "x" * 200, "Shodan")
    lines = words.table(scores.summarize([[day({1: (2_000_000, 0.5), 2: (30, 1.0)})]], names))
    assert all(len(line) <= 80 for line in lines) and lines[-1].startswith("macro average")
    runs = [[day({1: (20, 0.5)})], [day({1: (20, 0.7)})]]
    assert words.table(scores.summarize(runs, names))[-1] == "over 2 runs the macro average is 0.60 ± 0.10"


def test_a_days_line_stands_under_its_header():
    """Columns end where those of the header end; what is not there is a dash."""
    line = words.day_line(ROW, "1:02:03")
    assert line == "2021-12-31  123,456  78,901 2,501 1,234,567 0.2500 0.500     -  12.3 1:02:03"
    for name, value in (("hosts", "123,456"), ("new", "78,901"), ("ports", "2,501"), ("edges", "1,234,567"),
                        ("F1", "-"), ("sec", "12.3"), ("left", "1:02:03")):
        assert line[: words.HEADER.index(name) + len(name)].endswith(f" {value}")


@pytest.mark.parametrize(("expected", "left"), [(None, "-"), (2, "0:00:00"), (1, "0:00:00"), (1802, "1:00:00")])
def test_the_time_left(expected, left):
    """h:mm:ss at the pace of the days so far; a dash where nobody knows how many come."""
    assert words.time_left([{"seconds": 1}, {"seconds": 3}], expected) == left


def test_what_was_read_and_left_out():
    """One line: files, packets, days, files of earlier runs, and each kind of record left out."""
    plain = packets.Summary(files=2, tcp=1400, days=3)
    assert words.read_line(plain) == "read 2 files, 1,400 packets, 1,400 TCP, 3 days"
    summary = packets.Summary(files=2, tcp=1400, days=3, skipped=Counter({"UDP": 1000, "ICMP": 3}),
                              rejected=Counter({"bad time": 2}), done_files=4)
    assert words.read_line(summary, "7 hosts") == (
        "read 2 files, 2,405 packets, 1,400 TCP, 3 days, 7 hosts; 4 files were read before; "
        "skipped 1,000 UDP, 3 ICMP; rejected as broken 2 bad time")


def test_long_lists_of_names_are_cut():
    """The first three names and how many more there are."""
    assert words.some(["a", "b", "c"]) == "a, b, c" and words.some(list("abcde")) == "a, b, c and 2 more"
    assert words.some(list("abcde"), None) == "a, b, c, d, e"


def test_the_campaigns_of_a_run():
    """The means of the days on which each figure was measured; what was never measured is left out."""
    days = [{"count": 4, "inside": 0.5, "day_to_day": None, "same_subnet": 0.5, "chance": 0.25, "labels": None},
            {"count": 5, "inside": 1.0, "day_to_day": 0.75, "same_subnet": 0.5, "chance": 0.25, "labels": None}]
    assert words.campaigns_line(scores.mean_campaigns(days)) == \
        "campaigns: 4.5 a day, 75% of hosts inside; day to day 0.75; /24 0.50 (0.25)"
    assert words.campaigns_line(scores.mean_campaigns([{**days[0], "same_subnet": None}])) == \
        "campaigns: 4.0 a day, 50% of hosts inside"
