import json

import numpy as np
import pytest
import torch

import knn
import report


def day(f1, agreement=0.5, chance=0.1):
    """report.Scored of classes {number: (support, F1)}."""
    classes = torch.tensor(list(f1), dtype=torch.int64)
    support, scores = (torch.tensor([pair[i] for pair in f1.values()]) for i in (0, 1))
    scores = knn.Report(classes, support.long(), scores.double(), scores.double(), scores.double(),
                        scores.double().mean().item())
    return report.Scored(scores, *[None] * 4, agreement, chance)


NAMES = ("Unknown", "Censys", "Shodan")


def test_mean_and_deviation_are_over_the_days_of_a_class():
    """A class counts on the days it is scored; classes by decreasing support; the macro average over scored days."""
    run = [day({1: (20, 0.5), 2: (30, 1.0)}), day({1: (20, 0.7)}), day({})]
    summary = report.summarize([run], NAMES)
    assert list(summary["classes"]) == ["Censys", "Shodan"]
    assert summary["classes"]["Censys"] == {"support": 40, "days": 2, "f1": {"mean": pytest.approx(0.6),
                                                                             "std": pytest.approx(0.1)}}
    assert summary["classes"]["Shodan"]["f1"] == {"mean": 1.0, "std": 0.0}
    assert summary["macro_f1"] == {"mean": pytest.approx(0.725), "std": pytest.approx(0.025)}


def test_runs_have_a_deviation_of_their_own():
    """Days are averaged over runs first; the deviation over runs is of each run's mean over days."""
    runs = [[day({1: (20, 0.5)}, 0.6), day({1: (20, 0.7)}, 0.8)], [day({1: (20, 0.7)}), day({1: (20, 0.9)})]]
    summary = report.summarize(runs, NAMES)
    assert summary["macro_f1"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.1)}
    assert summary["runs"] == {"macro_f1": [pytest.approx(0.6), pytest.approx(0.8)], "mean": pytest.approx(0.7),
                               "std": pytest.approx(0.1), "subnet_agreement": [pytest.approx(0.7), 0.5]}


def test_subnet_agreement_counts_every_test_day():
    """Mean and deviation over the days on which hosts share a /24, scored or not; none at all is said."""
    run = [day({1: (20, 0.5)}, 0.6, 0.1), day({}, 0.8, 0.3), day({}, float("nan"), float("nan"))]
    summary = report.summarize([run], NAMES)
    assert summary["subnet_agreement"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.1),
                                           "chance": pytest.approx(0.2)}
    assert report.agreement_line(summary) == "subnet agreement 0.70 ± 0.10; 0.20 by chance"
    assert "no two hosts" in report.agreement_line(report.summarize([run[2:]], NAMES))


def test_rows_after_the_last_day_are_cut_off(tmp_path):
    """A file that goes on loses the rows of later days and a broken end, whatever the blocks it is read by."""
    path = tmp_path / "predictions.csv"
    rows = "".join(f"2021-12-{day:02},9.9.9.{i},Unknown\n" for day in (8, 9, 10) for i in range(40))
    for text, last, kept in ((rows, "2021-12-10", 121), (rows + "2021-12-11,1.", "2021-12-10", 121),
                             (rows, "2021-12-09", 81), (rows[:-3], "2021-12-10", 120), (rows, "", 1)):
        path.write_text("date,host,label\n" + text)
        for step in (7, 100, 1 << 20):
            with path.open("rb") as file:
                end = report.end_of_day(file, last, step)
            assert path.read_text()[:end].count("\n") == kept and path.read_text()[end - 1] == "\n"
    path.write_text("date,host,la")
    with path.open("rb") as file:
        assert report.end_of_day(file, "2021-12-10") == 0
    with report.rows_of_days(path, "date,host,label", "2021-12-10") as write:
        write("2021-12-11,a\n")
        assert path.read_text() == "date,host,label\n2021-12-11,a\n"


def test_the_table_fits_a_terminal():
    """No line is wider than 80 characters, however long the class names are."""
    names = ("Unknown", "x" * 200, "Shodan")
    lines = report.table(report.summarize([[day({1: (2_000_000, 0.5), 2: (30, 1.0)})]], names))
    assert all(len(line) <= 80 for line in lines) and lines[-1].startswith("macro average")


def test_dotted_addresses():
    """Integers become dotted quads."""
    addresses = np.array([0, 1, 2**32 - 1, 0x01020304], np.uint32)
    assert report.dotted(addresses).tolist() == ["0.0.0.0", "0.0.0.1", "255.255.255.255", "1.2.3.4"]


def test_scoring_a_day_by_hand():
    """Two tight groups: everyone's neighbours are their own group's; a class of ten is Unknown, so missed."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(np.r_[rng.normal(0, 0.01, (12, 4)) + 1, rng.normal(0, 0.01, (10, 4)) - 1])
    labels = torch.tensor([1] * 12 + [2] * 10)
    addresses = torch.arange(22) + 1000 * 256 * torch.arange(22).remainder(11)   # two hosts a /24, one in each group
    scored = report.score_day(knn.standardize(z), addresses, labels, 3, 3)
    assert scored.predicted.tolist() == [1] * 12 + [0] * 10
    assert scored.report.classes.tolist() == [1] and scored.report.macro_f1 == 1
    assert (scored.share == 1).all() and (scored.similarity > 0.9).all()
    assert scored.agreement < 0.2 and scored.chance == pytest.approx(3 / 21)
    assert scored.distance[:12].max() < 0.1 and torch.isnan(scored.distance[12:]).all()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    """An error while writing leaves the old file as it was and no other behind; success replaces it."""
    path = tmp_path / "sub" / "report.json"
    report.save_json(path, {"a": 1})
    with pytest.raises(RuntimeError), report.whole_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["report.json"]
    with pytest.raises(ValueError):
        report.save_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
