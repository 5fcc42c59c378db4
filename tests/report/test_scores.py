"""Scores of a day and of a run."""

import numpy as np
import pytest
import torch

import knn
from report import scores, words

NAMES = ("Unknown", "Censys", "Shodan")


def day(f1, agreement=0.5, chance=0.1):
    """scores.Scored of classes {number: (support, F1)}."""
    classes = torch.tensor(list(f1), dtype=torch.int64)
    support, values = (torch.tensor([pair[i] for pair in f1.values()]) for i in (0, 1))
    report = knn.Report(classes, support.long(), values.double(), values.double(), values.double(),
                        values.double().mean().item())
    return scores.Scored(report, None, None, None, agreement, chance)


def test_mean_and_deviation_are_over_the_days_of_a_class():
    """A class counts on the days it is scored; classes by decreasing support; the macro average over scored days."""
    run = [day({1: (20, 0.5), 2: (30, 1.0)}), day({1: (20, 0.7)}), day({})]
    summary = scores.summarize([run], NAMES)
    assert list(summary["classes"]) == ["Censys", "Shodan"]
    assert summary["classes"]["Censys"] == {"support": 40, "days": 2, "f1": {"mean": pytest.approx(0.6),
                                                                             "std": pytest.approx(0.1)}}
    assert summary["classes"]["Shodan"]["f1"] == {"mean": 1.0, "std": 0.0}
    assert summary["macro_f1"] == {"mean": pytest.approx(0.725), "std": pytest.approx(0.025)}


def test_runs_have_a_deviation_of_their_own():
    """Days are averaged over runs first; the deviation over runs is of each run's mean over days."""
    runs = [[day({1: (20, 0.5)}, 0.6), day({1: (20, 0.7)}, 0.8)], [day({1: (20, 0.7)}), day({1: (20, 0.9)})]]
    summary = scores.summarize(runs, NAMES)
    assert summary["macro_f1"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.1)}
    assert summary["runs"] == {"macro_f1": [pytest.approx(0.6), pytest.approx(0.8)], "mean": pytest.approx(0.7),
                               "std": pytest.approx(0.1), "subnet_agreement": [pytest.approx(0.7), 0.5]}


def test_subnet_agreement_counts_every_test_day():
    """Mean and deviation over the days on which hosts share a /24, scored or not; none at all is said."""
    run = [day({1: (20, 0.5)}, 0.6, 0.1), day({}, 0.8, 0.3), day({}, float("nan"), float("nan"))]
    summary = scores.summarize([run], NAMES)
    assert summary["subnet_agreement"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.1),
                                           "chance": pytest.approx(0.2)}
    assert words.agreement_line(summary) == "subnet agreement 0.70 ± 0.10; 0.20 by chance"
    assert "no two hosts" in words.agreement_line(scores.summarize([run[2:]], NAMES))


def test_no_test_day_at_all():
    """Without any day there are no means, and nothing fails."""
    summary = scores.summarize([[]], NAMES)
    assert summary["macro_f1"] == {"mean": None, "std": None} and summary["classes"] == {}


def test_scoring_a_day_by_hand():
    """Two tight groups: everyone's neighbours are their own group's; a class of ten is Unknown, so missed."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(np.r_[rng.normal(0, 0.01, (12, 4)) + 1, rng.normal(0, 0.01, (10, 4)) - 1])
    labels = torch.tensor([1] * 12 + [2] * 10)
    addresses = np.arange(22) + 1000 * 256 * (np.arange(22) % 11)   # two hosts a /24, one in each group
    found = knn.nearest(knn.standardize(z), 3)
    scored = scores.score_day(addresses, labels, *found, 3)
    assert scored.predicted.tolist() == [1] * 12 + [0] * 10
    assert scored.report.classes.tolist() == [1] and scored.report.macro_f1 == 1
    assert (scored.share == 1).all() and (scored.nearest > 0.9).all()
    assert scored.agreement < 0.2 and scored.chance == pytest.approx(3 / 21)


def test_a_single_host_is_scored_too():
    """A day of one host has no neighbours: nothing is predicted for it, and nothing fails."""
    similarity, neighbours = knn.nearest(torch.ones(1, 4), 3)
    scored = scores.score_day(np.array([5]), torch.tensor([1]), similarity, neighbours, 2)
    assert scored.predicted.tolist() == [0] and len(scored.nearest) == 1 and np.isnan(scored.agreement)
