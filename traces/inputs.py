"""What a run reads: the days of its traces or of the synthetic month, and their ground truth.

`way` is fast.alone, or its equal of several processes. Imports traces.
"""

import contextlib
import datetime
import resource
from pathlib import Path

import numpy as np

from traces import days, labels, synthetic

NO_LABELS = labels.from_arrays(np.empty(0, np.uint32), np.empty(0, np.int64), ("Unknown",))


def read(args, summary, way, after=None, known=()):
    """(days, truth): the traces of the command's `args` as an iterator of (date, Packets), and labels.Labels.

    summary, a packets.Summary, will say what was read; None: the synthetic month. after, known: as packets.read_days
    takes them, of a run that goes on.
    """
    if summary is None:
        made = way.made_days(args.synthetic_scale, args.seed)
        truth = labels.from_arrays(*synthetic.ground_truth(args.synthetic_scale, args.seed))
        return ((date, day) for date, day in made if after is None or date > after), truth
    with contextlib.suppress(ValueError, OSError):          # as many open files as may be: one a sensor, say
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    truth = labels.read_labels(args.labels) if args.labels else NO_LABELS
    truth = days.with_mirai(truth) if args.mirai else truth
    return way.read_days(args.input, summary, year=args.year, strict=args.strict, after=after, known=known,
                         tunnels=not args.no_tunnels), truth


def over(days, way, warn):
    """The days before today, by this machine's clock: a state takes every day once, so it must be over (UTC)."""
    today = way.earliest(datetime.datetime.now(datetime.timezone.utc).date().toordinal())
    for date, day in days:
        if date.toordinal() >= today:
            warn(f"{date} is not over yet (UTC): left for the next run")
            return
        yield date, day


def may_read_ahead(paths):
    """Whether none of the paths is standard input or a pipe, which may say nothing for a day."""
    return all(Path(path).is_file() or Path(path).is_dir() for path in paths)


def expected_days(summary):
    """How many days will come: known for the synthetic month (None), else from the share of the input read so far."""
    if summary is None:
        return synthetic.DAYS
    return round(summary.days_seen / summary.fraction) if summary.fraction else None
