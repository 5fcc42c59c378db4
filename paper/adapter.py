"""FOR NOW: what the new darkgnn.py will offer, made of today's functions. To be deleted.

    run           -> darkgnn.run(args, say, warn)
    host_classes  -> a function of darkgnn.py or of traces/labels.py with this signature
"""

import contextlib
import functools
import io
import json
import time

import numpy as np

import darkgnn
import report
from traces import labels


def run(args, say, warn):
    """One whole run; report.json has `f1` in the rows of `days`, the mean over the runs."""
    start = time.perf_counter()
    summary = darkgnn.new_summary(args)
    days, truth = darkgnn.open_input(args, summary)
    report.check_folder(args.out)
    rows, runs, _ = darkgnn.follow(darkgnn.prepare(days, truth, args, warn), truth, args, say,
                                   functools.partial(darkgnn.days_expected, summary))
    if summary:
        say(report.read_line(summary))
        for line in summary.notes:
            warn(line)
    with contextlib.redirect_stdout(io.StringIO()):
        darkgnn.finish(args, truth, rows, runs, summary, time.perf_counter() - start)
    result = json.loads((args.out / "report.json").read_text())
    embedded = [row for row in result["days"] if row["embedded"]]
    for row, scored in zip(embedded, zip(*runs)):
        row["f1"] = {truth.names[c]: float(np.mean([one.report.f1[i].item() for one in scored]))
                     for i, c in enumerate(scored[0].report.classes.tolist())}
    report.save_json(args.out / "report.json", result)


def host_classes(packets, hosts, truth, args):
    """The class of each host, (n,) int64: by the lists, then by Mirai's fingerprint where --mirai asks for it."""
    codes = labels.lookup(truth, hosts)
    if args.mirai and packets.seq is not None:
        mirai = labels.mirai_hosts(packets.src, packets.dst, packets.seq, args.mirai_packets)
        codes[np.isin(hosts, mirai) & ~labels.listed(truth, hosts)] = darkgnn.mirai_code(truth)
    return codes
