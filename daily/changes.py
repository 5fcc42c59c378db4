"""changes.csv: whose prediction changed, who is new and told apart at once, who left its class.

Imports daily.hosts, report.files and knn.
"""

import json

import numpy as np
import torch

import knn
from daily import hosts as table
from report import files

CHANGE_COLUMNS = "date,host,change,label,before,after,last_seen,surprise"


def begin_changes(folder, last):
    """Leave in changes.csv the lines, of days up to `last`, of a run that did not come to its end; "": no such run.

    A run that does writes report.json, in which its days are.
    """
    try:
        finished = str(json.loads((folder / "report.json").read_text("utf-8"))["days"][-1]["date"])
    except (OSError, ValueError, LookupError, TypeError):   # none yet, or another program's
        finished = ""
    try:
        lines = (folder / "changes.csv").read_text("utf-8").split("\n")[1:-1]
    except (OSError, ValueError):
        lines = []
    table.write_lines(folder / "changes.csv", CHANGE_COLUMNS, [line for line in lines if finished < line[:10] <= last])


def enter(past, hosts, truth, found, scored):
    """Enter the day in the host table of `past`, a memory.Memory; returns the hosts' rows before and after it.

    hosts (n,) all that are active today, ascending; found, scored: as in `lines`, empty on a day that was not embedded.
    """
    before, predictions = table.lookup(past.hosts, hosts), ()
    if scored and len(truth.names) > 1:
        one, labels = scored[0], knn.small_to_unknown(found[0].labels, len(truth.names))
        distance = centroid_distance(found[0].X, labels, len(truth.names))
        predicted, share, distance = (column.cpu().numpy() for column in (one.predicted, one.share, distance))
        predictions = table.codes(past.names, truth.names)[predicted], share, distance
    now = table.today(before, hosts, past.last.toordinal(), *predictions)
    past.hosts = table.update(past.hosts, now)
    return before, now


def lines(before, rows, names, classes, found, scored):
    """A test day's lines of changes.csv as one text, "" where nothing was scored.

    found, scored: a fast.alone.Found and a scores.Scored, each in a list of which the first counts; classes: what the
    codes of its labels stand for. before, rows, names: as in `changes`.
    """
    if not scored:
        return ""
    surprise = None if found[0].surprise is None else found[0].surprise.cpu().numpy()
    labels = np.array(classes, dtype=object)[found[0].labels.cpu().numpy()]
    of_day = changes(before, rows, labels, names, scored[0].nearest.cpu().numpy(), surprise)
    return "".join(f"{line}\n" for line in of_day)


def changes(before, rows, labels, names, similarity, surprise=None):
    """Lines of changes.csv for a day, the most surprising first.

    before, rows: the hosts' earlier rows and today's, see `lookup` and `today`; labels (n,) class names as text;
    names: what the codes of predictions stand for, "Unknown" among them; similarity (n,) of each host's nearest
    neighbour; surprise (n,), nan for a host without an earlier day; None: each of the three kinds has its own:

        class  a prediction other than on the last day seen.                   surprise: the product of the two shares
        moved  a labelled host went away from its class: the cosine distance to the class's centroid grew by more than
               two standard deviations of what it did for labelled hosts today.               ... half of that growth
        new    first seen today, all neighbours vote for one class, not Unknown.      ... its neighbour's similarity
    """
    known, told, of_class = before.last >= 0, rows.predicted >= 0, changed(before, rows)
    growth = rows.distance - before.distance                # nan for hosts without label, or without an earlier day
    grown = growth[~np.isnan(growth)]
    least = max(0.0, grown.mean() + 2 * grown.std()) if len(grown) else np.inf
    name = np.array([*map(files.quoted, names), ""], dtype=object)
    was, now = (np.char.mod("%.4f", row.distance).astype(object) for row in (before, rows))
    nothing = np.full(len(known), "", object)
    kinds = (
        ("class", ~np.isnan(of_class), name[before.predicted], name[rows.predicted], of_class),
        ("moved", growth > least, was, now, growth / 2),
        ("new", ~known & told & (rows.share == 1) & (rows.predicted != names.index("Unknown")),
         nothing, name[rows.predicted], similarity))
    host, seen = files.dotted(rows.address), table.dates(before.last)
    lines = []
    for kind, chosen, old, new, plain in kinds:
        value = plain if surprise is None else surprise
        for i in np.flatnonzero(chosen):
            number = "" if np.isnan(value[i]) else f"{value[i]:.4f}"
            line = table.date(rows.last[i]), host[i], kind, files.quoted(labels[i]), old[i], new[i], seen[i], number
            lines.append((-np.nan_to_num(value[i], nan=-np.inf), -plain[i], rows.address[i], ",".join(line)))
    return [line for *_, line in sorted(lines)]


def changed(before, rows):
    """How sure it is that a host changed its class, (n,): the product of the two shares; nan where it did not."""
    other = (before.predicted >= 0) & (rows.predicted >= 0) & (before.predicted != rows.predicted)
    return np.where(other, before.share * rows.share, np.nan)


def centroid_distance(x, labels, n_classes):
    """Cosine distance, 0..2, of each row of x (n, E) to its class's centroid, the mean of the class's unit vectors.

    labels (n,) int64 in [0, n_classes). Returns (n,), nan for Unknown rows.
    """
    x = knn.unit(x)
    centroid = knn.unit(x.new_zeros(n_classes, x.shape[1]).index_add_(0, labels, x))
    return (1 - (x * centroid[labels]).sum(1)).masked_fill(labels == knn.UNKNOWN, torch.nan)
