"""A day's files and its place in report.json, and the report at the end of a run. Imports report and torch."""

import platform
from pathlib import Path

import numpy as np
import scipy
import torch

from report import files, page, scores, words


def row_of(day, n_new):
    """The day, a traces.days.Day, as report.json lists it, before anything was learned; n_new: hosts never seen."""
    return {"date": str(day.date), "hosts": day.n_hosts, "new_hosts": n_new, "ports": len(day.graph.ports),
            "edges": day.n_edges, "packets": day.n_packets, "loss": None, "accuracy": None, "macro_f1": None,
            "subnet_agreement": None, "subnet_chance": None, "f1": None, "embedded": False}


def learned(results):
    """Loss and accuracy of the day, mean over the runs' (2,) results; None where there is none."""
    results = [result for result in results if result is not None]
    loss, accuracy = torch.stack(results).mean(0).tolist() if results else (None, None)
    return {"loss": loss, "accuracy": None if accuracy != accuracy else accuracy}


def scored(runs, names):
    """The day's scores, mean over the runs' scores.Scored; nothing on a day that was not scored."""
    if not runs:
        return {}
    f1 = {names[c]: float(np.mean([one.report.f1[i].item() for one in runs]))
          for i, c in enumerate(runs[0].report.classes.tolist())}
    return {"macro_f1": scores.mean_std(one.report.macro_f1 for one in runs)["mean"],
            "subnet_agreement": scores.mean_std(one.agreement for one in runs)["mean"],
            "subnet_chance": scores.mean_std(one.chance for one in runs)["mean"], "f1": f1, "embedded": True}


def check_finite(date, z):
    """Raise ValueError, one line, for a day's embeddings z (n_hosts, E) that are not finite; None: there are none."""
    if z is not None and not z.isfinite().all():
        raise ValueError(f"{date}: training diverged, the embeddings are not finite: expected a smaller "
                         "--learning-rate or --weight-decay")


def write_page(args, summary, past):
    """report.html, of the days that daily.memory.Memory has for it; summary: what was read, None: nothing was."""
    what = words.some([Path(name).name for name in args.input]) if args.input else "the synthetic month"
    page.write(args.out / "report.html", past.shown, {
        "title": f"darkgnn: {what}", "settings": settings_line(args),
        "words": [words.read_line(summary), *summary.notes] if summary else [], "classes": past.names,
        "campaigns": args.campaigns, "neighbors": args.neighbors, "other_days": past.day - len(past.shown),
        "result": scores.over_days([day.told for day in past.shown if day.told["embedded"]])})


def write_report(args, truth, rows, runs, summary, timings):
    """report.json: the scores, and all that made them. Returns the scores' dict."""
    result = scores.summarize(runs, truth.names)
    if args.campaigns:
        result["campaigns"] = scores.mean_campaigns([row["campaigns"] for row in rows if row["embedded"]])
    settings = {name: [str(path) for path in value] if name in ("input", "labels") and value else
                str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    told = ("files", "formats", "packets", "tcp", "days", "skipped", "skipped_first", "rejected", "rejected_first",
            "tunnelled", "warnings")
    files.save_json(args.out / "report.json", {
        "settings": settings, "seed": args.seed, "device": args.device,
        "data": "synthetic" if summary is None else "input",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "scipy": scipy.__version__},
        "input": summary and {name: getattr(summary, name) for name in told},
        "labels": {"blocks": len(truth.code), "classes": len(truth.names) - 1, **truth.counts},
        "timings": timings,
        **result, "days": rows})
    return result


def tell(args, truth, rows, result, seconds, first_test):
    """The report in words, as lines."""
    tested = [row["date"] for row in rows if row["embedded"]]
    if not tested:
        yield f"nothing embedded yet: test days begin after the state's first {first_test - 1} days"
    elif len(truth.names) == 1 and args.labels:
        yield "the labels name no class but Unknown: embeddings only, nothing to score"
    elif len(truth.names) == 1:
        yield "no labels were given: embeddings only, nothing to score"
    elif not result["classes"]:
        yield "no class has more than 10 active hosts on a test day: nothing to score"
    else:
        yield (f"{args.neighbors} nearest neighbours (leave one out) on {len(tested)} test days, "
               f"{tested[0]} to {tested[-1]}")
        yield from words.table(result)
        small = len(truth.names) - 1 - len(result["classes"])
        if small:
            yield (f"{small} of {len(truth.names) - 1} classes have 10 active hosts or fewer on every test day: they "
                   "count as Unknown")
    if tested:
        yield words.agreement_line(result)
        if args.campaigns:
            yield words.campaigns_line(result["campaigns"])
    written = ["report.json", *([] if args.no_page else ["report.html"]), f"{len(tested)} days of embeddings"]
    if tested and len(truth.names) > 1:
        written.append("predictions.csv")
    if tested and args.campaigns:
        written += ["campaigns.csv", "campaign_hosts.csv"]
    if args.state:
        written += ["changes.csv", "hosts.csv"]
    yield f"wrote {', '.join(written)} to {args.out}/ in {seconds:.1f} s"


def check_days(rows, args, first_test):
    """Raise ValueError, one line, if the days that came do not suffice for a single embedding."""
    if args.state:                                          # the other days come in later runs
        return
    if len(rows) < first_test:
        windows = f" (windows of --history + 1 = {args.history + 1} days)" if args.history else ""
        raise ValueError(f"{len(rows)} days of traffic, expected at least {first_test}: --train-days "
                         f"{args.train_days}{windows} and a day to test; for fewer days give a smaller --train-days, "
                         "or a model without a window")
    if not any(row["embedded"] for row in rows):
        few = " and ".join(name for name, column in (("one host", "hosts"), ("one port", "ports"))
                           if max(row[column] for row in rows) == 1)
        only = f"{few} only, " if few else ""
        raise ValueError("no negative edges can be drawn on the days to learn from: "
                         f"{only}every host contacts every port")


def settings_line(args):
    """The settings that matter most, in words."""
    parts = [f"model {args.model}", "without node features" if args.no_node_features else "with node features"]
    if args.steady:
        parts.append("steady" if args.steady == "memory" else f"steady ({args.steady})")
    if args.history:
        parts.append(f"H = {args.history}")
    seeds = f"seed {args.seed}" if args.runs == 1 else f"seeds {args.seed}..{args.seed + args.runs - 1}"
    return ", ".join([*parts, f"{args.train_days} training days", seeds, args.device])


def opening(args, truth):
    """What a run says before its first day."""
    yield f"input {words.some(args.input)}" if args.input else \
        f"input: the synthetic month, scale {args.synthetic_scale:g}, seed {args.seed} (no --input given)"
    if args.labels:
        counts = [f"{n:,} {what}" for what, n in truth.counts.most_common()]
        yield ", ".join([f"labels: {len(truth.code):,} blocks", f"{len(truth.names) - 1} classes", *counts])
    yield settings_line(args)


def closing(args, rows, past, summary):
    """What a run says after its last day: what was read. past: daily.memory.Memory."""
    hosts = f"{len(past.hosts.address):,} hosts{' remembered' if args.state else ''}"
    yield words.read_line(summary, hosts) if summary else \
        f"made {sum(row['packets'] for row in rows):,} packets, {len(rows)} days, {hosts}"


def nothing_came(args, summary):
    """Why a run had no day to begin with, in one line."""
    if summary is None or summary.tcp:
        day = "day that is over (UTC)" if args.state else "day"
        return f"no host sends {args.min_packets} TCP packets or more on any {day}: nothing to embed"
    return f"no TCP packets over IPv4 in the input: nothing to embed{words.what_came(summary)}"


def finish(args, truth, rows, runs, summary, timings, first_test):
    """Write report.json; returns the report in words, as lines."""
    scored = write_report(args, truth, rows, runs, summary, timings)
    return list(tell(args, truth, rows, scored, timings["total_seconds"], first_test))
