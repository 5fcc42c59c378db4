import sys

import pytest

from paper import experiments
from tests.paper.tiny import TINY, write_trace


@pytest.fixture
def matplotlib():
    """For tests that draw."""
    return pytest.importorskip("matplotlib")


@pytest.fixture
def trace(tmp_path, monkeypatch, request):
    """A small trace of two classes; figures of two points; no matplotlib, which is slow, unless a test asks for it."""
    if "matplotlib" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(experiments, "FIGURE_4A", experiments.FIGURE_4A._replace(
        points=experiments.FIGURE_4A.points[:2]))
    set_epochs(monkeypatch, 1, 2)
    write_trace(tmp_path, ["Censys", "odd | one"])
    return ["--input", tmp_path / "t.csv", "--labels", tmp_path / "l.csv", "--train-days", 2, *TINY,
            "--out", tmp_path / "out"]


def set_epochs(monkeypatch, *epochs):
    """Give Figure 4b these points."""
    points = [experiments.Point(n, f"--model i-gcn-gru --epochs {n}", 0.8) for n in epochs]
    monkeypatch.setattr(experiments, "FIGURE_4B", experiments.FIGURE_4B._replace(points=tuple(points)))
