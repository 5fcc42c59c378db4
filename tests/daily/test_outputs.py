"""report.html of daily runs: the same day by day as all at once, bounded by --forget-days, left out by --no-page."""

import json

import pytest

from tests.command.running import TINY, run
from tests.daily.running import daily_run
from tests.report.test_page import data_of


@pytest.fixture
def daily(tmp_path):
    """See daily_run."""
    return daily_run(tmp_path)


def page_of(folder):
    """(header, columns) of a run's page; its header without what tells of the run alone."""
    header, columns = data_of((folder / "report.html").read_text("utf-8"))
    return {name: value for name, value in header.items() if name not in ("title", "words")}, columns


@pytest.mark.parametrize("more", [["--model", "features", "--steady", "--campaigns"], ["--model", "i-gcn-gru"]],
                         ids=str)
def test_the_page_is_the_same_day_by_day(capsys, tmp_path, daily, more):
    """Runs of one to three days each end with the page that one run on all days writes: maps, news, means."""
    assert run(capsys, *daily("one", more=more))[0] == 0
    for days in ([1, 2, 3], [4, 5], [6], [7, 8]):
        assert run(capsys, *daily("many", *days, more=more))[0] == 0
    (one, columns), (many, same) = page_of(tmp_path / "one"), page_of(tmp_path / "many")
    assert one == many and columns.keys() == same.keys() and one["days"][-1]["embedded"]
    assert all((columns[name] == same[name]).all() for name in columns)
    assert len(one["days"]) == 8 and [day["map"] >= 0 for day in one["days"]] == [False] * 3 + [True] * 5
    assert bool(one["days"][-1]["groups"]) == ("campaign" in columns) == ("--campaigns" in more)


def test_the_page_shows_the_last_days(capsys, tmp_path, daily):
    """--forget-days 3: the last three days, and how many others there were."""
    for days in ([1, 2, 3, 4, 5], [6, 7, 8]):
        assert run(capsys, *daily("some", *days, more=["--model", "features", "--forget-days", 3]))[0] == 0
    header, columns = page_of(tmp_path / "some")
    assert [day["date"] for day in header["days"]] == ["2021-12-31", "2022-01-01", "2022-01-02"]
    assert header["left_out"] == {"days": 5, "hosts": 0}
    assert len(columns["host"]) == sum(day["hosts"] for day in header["days"])


def test_a_run_with_nothing_new_shows_what_is_known(capsys, tmp_path, daily):
    """The page is there again, with the same days, though the run before was killed before it wrote one."""
    assert run(capsys, *daily("again", more=["--model", "features"]))[0] == 0
    before = page_of(tmp_path / "again")
    (tmp_path / "again" / "report.html").unlink()
    assert run(capsys, *daily("again", more=["--model", "features"]))[0] == 0
    after = page_of(tmp_path / "again")
    assert before[0] == after[0] and all((before[1][name] == after[1][name]).all() for name in before[1])


def test_no_page(capsys, tmp_path, daily):
    """Neither the file nor its days in the state; a later run with the page shows its own days."""
    code, out, _ = run(capsys, *daily("none", 1, 2, 3, 4, 5, more=["--model", "features", "--no-page"]))
    assert code == 0 and "report.html" not in out and not (tmp_path / "none" / "report.html").exists()
    code, out, _ = run(capsys, *daily("none", 6, 7, more=["--model", "features"]))
    assert code == 0 and "wrote report.json, report.html," in out
    header, _ = page_of(tmp_path / "none")
    assert [day["date"] for day in header["days"]] == ["2021-12-31", "2022-01-01"] and header["left_out"]["days"] == 5


def test_nothing_new_and_no_day_to_show(capsys, tmp_path, daily):
    """A run that finds nothing new after runs without a page writes none, and ends well."""
    assert run(capsys, *daily("none", more=["--model", "features", "--no-page"]))[0] == 0
    code, out, _ = run(capsys, *daily("none", more=["--model", "features"]))
    assert code == 0 and "nothing new" in out and not (tmp_path / "none" / "report.html").exists()


def test_the_same_bytes_for_the_same_run(capsys, tmp_path):
    """Twice, without a state, of the synthetic month; no trace of the first run's times."""
    for name in "ab":
        code, _, complaint = run(capsys, "--synthetic-scale", "0.005", "--model", "features", *TINY, "--campaigns",
                                 "--quiet", "--out", tmp_path / name)
        assert code == 0, complaint
    a, b = ((tmp_path / name / "report.html").read_bytes() for name in "ab")
    assert a == b and len(a) < 2e6


def test_the_means_are_those_of_the_report(capsys, tmp_path):
    """A run without a state has the same scores over its days on the page as in report.json, of several seeds too."""
    code, _, complaint = run(capsys, "--synthetic-scale", "0.02", "--model", "fixed-gcn", "--runs", 2, "--quiet",
                             "--out", tmp_path)
    assert code == 0, complaint
    report, shown = json.loads((tmp_path / "report.json").read_text()), page_of(tmp_path)[0]["result"]
    assert shown["macro_f1"] == pytest.approx(report["macro_f1"]) and shown["classes"]
    assert shown["subnet_agreement"] == pytest.approx(report["subnet_agreement"])
    for name, of_class in shown["classes"].items():
        assert of_class["days"] == report["classes"][name]["days"]
        assert of_class["f1"] == pytest.approx(report["classes"][name]["f1"])
