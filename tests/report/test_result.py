"""A day's place in report.json, the settings in words, and why a run cannot be."""

import pytest
import torch

import darkgnn
from report import result, scores
from tests.report.test_scores import NAMES, day
from traces import packets


def parsed(*arguments):
    return darkgnn.parse_arguments(["--device", "cpu", *arguments])


def test_a_days_scores_are_the_mean_over_runs():
    """Macro F1, agreement and every class's F1; a day on which nothing is scored has none, and is embedded all the
    same."""
    row = result.scored([day({1: (20, 0.5), 2: (30, 1.0)}, 0.6), day({1: (20, 0.7), 2: (30, 0.8)}, 0.8)], NAMES)
    assert row["f1"] == {"Censys": pytest.approx(0.6), "Shodan": pytest.approx(0.9)} and row["embedded"]
    assert (row["macro_f1"], row["subnet_agreement"]) == (pytest.approx(0.75), pytest.approx(0.7))
    none = result.scored([day({}, float("nan"))], NAMES)
    assert none == {"macro_f1": None, "subnet_agreement": None, "subnet_chance": pytest.approx(0.1), "f1": {},
                    "embedded": True}


def test_loss_and_accuracy_are_the_mean_over_runs():
    """None where nothing was learned; i-darkvec has a loss and no accuracy."""
    assert result.learned([torch.tensor([1.0, 0.5]), torch.tensor([2.0, 1.0])]) == {"loss": 1.5, "accuracy": 0.75}
    assert result.learned([None, None]) == {"loss": None, "accuracy": None}
    assert result.learned([torch.tensor([1.0, torch.nan])]) == {"loss": 1.0, "accuracy": None}


def test_embeddings_that_are_not_finite_are_refused():
    """One line with the day and the flag; none at all is fine."""
    result.check_finite("2021-12-31", None)
    result.check_finite("2021-12-31", torch.ones(2, 2))
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"2021-12-31: training diverged, .* a smaller --learning-rate"):
            result.check_finite("2021-12-31", torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize(("arguments", "line"), [
    ([], "model i-gcn-gru, with node features, H = 5, 20 training days, seed 0, cpu"),
    (["--model", "i-gcn", "--no-node-features", "--runs", "3", "--seed", "4"],
     "model i-gcn, without node features, 20 training days, seeds 4..6, cpu"),
    (["--model", "i-darkvec"], "model i-darkvec, without node features, 20 training days, seed 0, cpu"),
    (["--model", "features", "--steady"], "model features, with node features, steady, 20 training days, seed 0, cpu"),
    (["--model", "fixed-gcn", "--steady", "rank"],
     "model fixed-gcn, with node features, steady (rank), 20 training days, seed 0, cpu")])
def test_the_settings_in_words(arguments, line):
    """What the model is made of, and only that."""
    assert result.settings_line(parsed(*arguments)) == line


def rows(*embedded, hosts=9, ports=9):
    return [{"date": f"2021-12-0{i}", "embedded": value, "hosts": hosts, "ports": ports}
            for i, value in enumerate(embedded, 1)]


@pytest.mark.parametrize(("came", "arguments", "expected"), [
    (rows(False), [], "1 days of traffic, expected at least 21: --train-days 20 "
                      "(windows of --history + 1 = 6 days) and a day to test"),
    (rows(False), ["--model", "i-gcn", "--train-days", "1"],
     "1 days of traffic, expected at least 2: --train-days 1 and a day to test"),
    (rows(False, False, hosts=1, ports=1), ["--model", "i-gcn", "--train-days", "1"],
     "one host and one port only, every host contacts every port"),
    (rows(False, False), ["--model", "i-gcn", "--train-days", "1"], "to learn from: every host contacts every port")])
def test_days_that_do_not_suffice(came, arguments, expected):
    """One line says what was expected; a state waits for more days."""
    args = parsed(*arguments)
    with pytest.raises(ValueError) as error:
        result.check_days(came, args, darkgnn.first_test(args))
    assert expected in str(error.value)
    result.check_days(came, parsed(*arguments, "--state", "x"), 99)


def test_nothing_came():
    """What was read instead of packets; of packets that are too few, or of a day that is not over."""
    summary = packets.Summary()
    assert result.nothing_came(parsed(), summary) == "no TCP packets over IPv4 in the input: nothing to embed"
    summary.tcp = 7
    assert "5 TCP packets or more on any day:" in result.nothing_came(parsed(), summary)
    assert "on any day that is over (UTC):" in result.nothing_came(parsed("--state", "x"), summary)


def test_the_report_in_words():
    """Each outcome has a line of its own, and names the files that were written and no others."""
    args, truth = parsed("--out", "o"), type("Truth", (), {"names": NAMES})
    summary = scores.summarize([[day({1: (20, 0.5)})]], NAMES)
    lines = [*result.tell(args, truth, rows(False, True), summary, 1.25, 21)]
    assert lines[0] == "3 nearest neighbours (leave one out) on 1 test days, 2021-12-02 to 2021-12-02"
    assert lines[-1] == "wrote report.json, report.html, 1 days of embeddings, predictions.csv to o/ in 1.2 s"
    none = scores.summarize([[]], NAMES)
    lines = [*result.tell(parsed("--state", "x"), truth, rows(False), none, 1, 21)]
    assert lines == ["nothing embedded yet: test days begin after the state's first 20 days",
                     "wrote report.json, report.html, 0 days of embeddings, changes.csv, hosts.csv to out/ in 1.0 s"]
    alone = type("Truth", (), {"names": ("Unknown",)})
    unlabelled = [*result.tell(args, alone, rows(True), scores.summarize([[day({})]], alone.names), 1, 1)]
    assert unlabelled[0] == "no labels were given: embeddings only, nothing to score"
    assert unlabelled[-1].startswith("wrote report.json, report.html, 1 days of embeddings to o/")
