"""Which runs of darkgnn.py each experiment compares, and what the paper reports for them.

    TABLE_3               four graph models without and with node features, two baselines: F1 (paper, Table 3)
    FIGURE_4A, FIGURE_4B  macro F1 of i-gcn-gru by history and by epochs a day (paper, Figure 4)
    BEYOND                steady behaviour, part by part, for each model that has them

Each run stands here with the flags that the experiment sets; a user's flags come before them. The paper's figures
are of its own data, to which no other compares: they stand beside ours, labelled. Imports the standard library only.
"""

from typing import NamedTuple

WITHOUT, WITH = "without node features", "with the 37 node features"


class Column(NamedTuple):
    """A column of Table 3."""
    group: str
    model: str
    flags: str
    paper: dict | None  # the paper's macro F1 {mean, std} over its test days


def _paper(mean, std):
    return {"mean": mean, "std": std}


TABLE_3 = (
    Column(WITHOUT, "gcn", "--model gcn --no-node-features", _paper(0.26, 0.05)),
    Column(WITHOUT, "i-gcn", "--model i-gcn --no-node-features", _paper(0.41, 0.04)),
    Column(WITHOUT, "gcn-gru", "--model gcn-gru --no-node-features", _paper(0.49, 0.04)),
    Column(WITHOUT, "i-gcn-gru", "--model i-gcn-gru --no-node-features", _paper(0.41, 0.04)),
    Column(WITH, "gcn", "--model gcn", _paper(0.74, 0.02)),
    Column(WITH, "i-gcn", "--model i-gcn", _paper(0.73, 0.03)),
    Column(WITH, "gcn-gru", "--model gcn-gru", _paper(0.75, 0.03)),
    Column(WITH, "i-gcn-gru", "--model i-gcn-gru", _paper(0.80, 0.02)),
    Column("baselines", "i-darkvec", "--model i-darkvec", _paper(0.77, 0.02)),
    Column("baselines", "features", "--model features", None),
)


class Point(NamedTuple):
    """A point of a curve of Figure 4."""
    x: int
    flags: str
    paper: float  # the paper's macro F1


class Curve(NamedTuple):
    """A curve of Figure 4: macro F1 against `quantity`."""
    name: str
    quantity: str
    axis: str     # what the axis says
    points: tuple


FIGURE_4A = Curve("figure4a", "history", "history H, days before today (0: i-gcn)", (
    Point(0, "--model i-gcn", 0.73),
    Point(1, "--model i-gcn-gru --history 1", 0.76),
    Point(2, "--model i-gcn-gru --history 2", 0.78),
    Point(3, "--model i-gcn-gru --history 3", 0.79),
    Point(4, "--model i-gcn-gru --history 4", 0.79),
    Point(5, "--model i-gcn-gru --history 5", 0.80),
    Point(6, "--model i-gcn-gru --history 6", 0.79),
    Point(7, "--model i-gcn-gru --history 7", 0.80),
    Point(8, "--model i-gcn-gru --history 8", 0.80),
))
FIGURE_4B = Curve("figure4b", "epochs", "epochs a day", (
    Point(1, "--model i-gcn-gru --epochs 1", 0.80),
    Point(5, "--model i-gcn-gru --epochs 5", 0.79),
    Point(10, "--model i-gcn-gru --epochs 10", 0.79),
    Point(15, "--model i-gcn-gru --epochs 15", 0.79),
    Point(20, "--model i-gcn-gru --epochs 20", 0.78),
    Point(25, "--model i-gcn-gru --epochs 25", 0.77),
    Point(30, "--model i-gcn-gru --epochs 30", 0.76),
))

# Beyond the paper: the parts of steady behaviour, each column one more than the column before it. A setting is a
# column of the table and the flags that make it; the models are its rows.
BEYOND_SETTINGS = {
    "max": "",
    "rank": "--steady rank",
    "whitened": "--steady whitened",
    "weighted": "--steady weighted",
    "memory": "--steady",
}
BEYOND = {  # model -> the settings that it has; gcn-gru, which takes longest by far, is left to darkgnn.py
    "features": ("max", "rank", "whitened", "weighted", "memory"),
    "gcn": ("max", "rank", "whitened", "weighted", "memory"),
    "i-gcn": ("max", "rank", "whitened", "weighted", "memory"),
    "i-gcn-gru": ("max", "rank", "whitened", "weighted", "memory"),
    "fixed-gcn": ("rank", "whitened", "weighted", "memory"),
    "i-darkvec": ("max", "whitened", "weighted", "memory"),
}
BEYOND_NOTE = (
    "max: features divided by their maximum, as in the paper, no --steady; then the parts of --steady, each with those "
    "before it. rank: features scaled by rank; whitened: axes in which the noise of hosts is one, graph models joined "
    "with the features; weighted: by how much signal an axis has; memory: the mean of a host's days, of trained graph "
    "models that of the features alone. fixed-gcn is made for --steady; i-darkvec knows no features to scale.")

NAMES = ("table2", "table3", "figure4a", "figure4b", "beyond", "figures")


def beyond_cells():
    """The (model, setting) pairs of BEYOND, row by row."""
    return [(model, setting) for model, settings in BEYOND.items() for setting in settings]


def flags_of(name):
    """The flags that the experiment sets, a list for each of its cells, in the order of its table.

    `figures` takes one cell with the user's flags as they are; table2 counts packets and runs no model.
    """
    cells = {
        "table2": [],
        "table3": [column.flags for column in TABLE_3],
        "figure4a": [point.flags for point in FIGURE_4A.points],
        "figure4b": [point.flags for point in FIGURE_4B.points],
        "beyond": [f"--model {model} {BEYOND_SETTINGS[setting]}" for model, setting in beyond_cells()],
        "figures": [""],
    }
    return [flags.split() for flags in cells[name]]


def varied():
    """The names of the settings, beside the model, in which cells of any experiment differ: "history", "epochs", ..."""
    tokens = [token for name in NAMES for flags in flags_of(name) for token in flags if token.startswith("--")]
    return sorted({token[2:].replace("-", "_") for token in tokens} - {"model"})
