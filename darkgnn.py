#!/usr/bin/env python3
"""Host embeddings for darknet traffic with temporal graph neural networks, from packets to a classification report.

    packets / synthetic -> labels -> graph -> features -> training (models) -> report (knn)

Gioacchini, Cavallo, Mellia, Vassio: Exploring Temporal GNN Embeddings for Darknet Traffic Analysis, GNNet 2023.
Run `python darkgnn.py --help`; this script reads top to bottom as the data flows.
"""

import argparse
import contextlib
import datetime
import functools
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

# Idle OpenMP threads spin for microseconds, not milliseconds: on a busy machine that makes all several times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import scipy
import torch

import darkvec
import features
import graph as graphs
import labels as ground_truth
import packets
import report
import synthetic
import training

MODELS = (*training.MODELS, "i-darkvec", "features")
MIRAI = "Mirai-like"
NO_LABELS = ground_truth.from_arrays(np.empty(0, np.uint32), np.empty(0, np.int64), ("Unknown",))
FIELD_NAMES = {"length": "size", "ttl": "TTL", "mss": "MSS", "window": "window", "timestamp": "TCP timestamp"}


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="darkgnn.py", description=__doc__.split("\n\n")[0],
        formatter_class=lambda prog: argparse.ArgumentDefaultsHelpFormatter(prog, width=100, max_help_position=30))
    group = parser.add_argument_group("input")
    add = group.add_argument
    add("--input", nargs="+", metavar="PATH", help="traces: files, folders or - for standard input; without it the "
        "synthetic month is used", default=argparse.SUPPRESS)
    add("--labels", nargs="+", metavar="FILE", help="ground truth, earlier files win: CSV src_ip,label with addresses "
        "or CIDR blocks, or plain lists named after their class", default=argparse.SUPPRESS)
    add("--mirai", action="store_true", help="label Mirai-like, unless --labels names it, a host that sends packets "
        "whose TCP sequence number is the destination address")
    add("--mirai-packets", type=positive, default=1, metavar="N", help="such packets a day that make a host Mirai-like")
    add("--year", type=int, help="year of the first line of a log whose lines carry none", default=argparse.SUPPRESS)
    add("--strict", action="store_true", help="stop at the first broken record instead of counting it")
    add("--synthetic-scale", type=positive_float, default=synthetic.DEFAULT_SCALE, metavar="S",
        help="size of the synthetic month; 1 is the paper's")

    add = parser.add_argument_group("graph").add_argument
    add("--top-ports", type=positive, default=2500, metavar="N", help="busiest ports that are nodes of their own")
    add("--min-packets", type=positive, default=5, metavar="N", help="packets a day below which a host is dropped")

    add = parser.add_argument_group("model").add_argument
    add("--model", choices=MODELS, default="i-gcn-gru", help="what embeds the hosts; i-darkvec: the paper's "
        "baseline; features: no model, the 37 features themselves")
    add("--no-node-features", action="store_true", help="graph only: identity instead of the 37 features")
    add("--history", type=natural, default=5, metavar="H", help="days before today that the GRU sees; 0 where the "
        "model has none")
    add("--hidden-width", type=width, default=1024, metavar="N", help="first graph convolution")
    add("--gcn-width", type=width, default=512, metavar="N", help="second graph convolution")
    add("--embedding-width", type=width, default=128, metavar="N", help="embeddings")
    add("--head-width", type=width, default=64, metavar="N", help="hidden layer of the link predictor")

    add = parser.add_argument_group("training").add_argument
    add("--train-days", type=natural, default=20, metavar="M", help="days before the first test day")
    add("--epochs", type=positive, metavar="N", default=argparse.SUPPRESS,
        help="epochs a day (i-*: default 1, without node features 5) or at most (others: default 50, patience 3)")
    add("--negatives", type=positive, default=1, metavar="N", help="negative edges per edge; i-darkvec has 5")
    add("--learning-rate", type=positive_float, default=1e-3, metavar="X", help="of Adam; i-darkvec has its own")
    add("--weight-decay", type=non_negative_float, default=5e-3, metavar="X", help="of Adam")
    add("--neighbors", type=positive, default=3, metavar="K", help="nearest neighbours that vote")

    add = parser.add_argument_group("run").add_argument
    add("--seed", type=natural, default=0, help="of the synthetic month, the weights and the negatives")
    add("--runs", type=positive, default=1, metavar="N", help="seeds SEED..SEED+N-1; files are those of the first")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for embeddings, predictions, report")
    add("--quiet", action="store_true", help="print the report only")

    args = parser.parse_args(argv, argparse.Namespace(input=None, labels=None, year=None, epochs=None))
    if args.input is None and (args.labels or args.year is not None or args.mirai or args.strict):
        parser.error("--labels, --mirai, --year and --strict go with --input: the synthetic month has its own labels")
    if args.mirai_packets > 1 and not args.mirai:
        parser.error("--mirai-packets goes with --mirai")
    for folder in args.input or ():
        if folder != "-" and args.out.resolve().is_relative_to(Path(folder).resolve()):
            parser.error(f"--out {args.out} lies inside --input {folder}: expected a folder elsewhere")
    if args.seed + args.runs > 1 << 32:                     # PyTorch's CPU generator takes no more bits of a seed
        parser.error(f"--seed: expected a whole number below 2^32, the seeds of all --runs too, got {args.seed}")
    if args.model == "gcn-gru" and args.train_days <= args.history:
        parser.error(f"gcn-gru trains on windows of --history + 1 days within --train-days: expected --train-days > "
                     f"{args.history}, got {args.train_days}")
    if args.model == "features" and args.no_node_features:
        parser.error("--model features is the node features: it does not go with --no-node-features")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is available to this PyTorch")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.epochs is None:
        args.epochs = 50 if not args.model.startswith("i-") else \
            5 if args.no_node_features and args.model != "i-darkvec" else 1
    if not args.model.endswith("gru"):
        args.history = 0
    if args.model == "i-darkvec":                           # skip-gram: knows neither features nor a graph
        args.no_node_features = True
    return args


def number(convert, check, expected):
    """An argparse type: a finite number for which `check` holds."""
    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not check(value) or value in (float("inf"), float("-inf")):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value
    return parse


positive = number(int, lambda n: n > 0, "a positive whole number")
width = number(int, lambda n: 0 < n <= 65536, "a whole number in 1..65536")
natural = number(int, lambda n: n >= 0, "a whole number, 0 or more")
positive_float = number(float, lambda x: x > 0, "a positive number")
non_negative_float = number(float, lambda x: x >= 0, "a number, 0 or more")


# -- packets -> labels, graph, features -------------------------------------------------------------------------------

class Day(NamedTuple):
    """One day of the trace as the model wants it."""
    date: datetime.date
    graph: graphs.BipartiteGraph
    x: np.ndarray | None         # (N, 37) float32 scaled features, hosts first; None: without node features
    snapshot: training.Snapshot | None  # for the graph models
    corpus: tuple | None         # i-darkvec's (words, offsets), words being positions in graph.hosts
    labels: torch.Tensor         # (n_hosts,) int64 ground truth, 0 = Unknown
    packets: int                 # TCP packets of the day before the host filter


def open_input(args):
    """The trace as an iterator of (date, Packets), its ground truth and its packets.Summary (None: synthetic)."""
    if args.input is None:
        month = synthetic.month(args.synthetic_scale, args.seed)
        days = ((date, packets.Packets(**columns)) for date, columns in month)
        return days, ground_truth.from_arrays(*synthetic.ground_truth(args.synthetic_scale, args.seed)), None
    truth = ground_truth.read_labels(args.labels) if args.labels else NO_LABELS
    if args.mirai and MIRAI not in truth.names:
        truth = truth._replace(names=(*truth.names, MIRAI))
    summary = packets.Summary()
    return packets.read_days(args.input, summary, year=args.year, strict=args.strict), truth, summary


def prepare(days, truth, args, warn):
    """Each day's graph, features and labels, one after the other; a day without any host is left out."""
    lacking, date = set(), None
    for date, day in days:
        graph, order = graphs.build_graph(day.src, day.port, args.min_packets, args.top_ports)
        n_hosts, n_ports = len(graph.hosts), len(graph.ports)
        if not n_hosts:
            warn(f"{date}: no host sends {args.min_packets} TCP packets or more, the day is left out")
            continue
        x = snapshot = corpus = None
        if not args.no_node_features:
            fields = {name: getattr(day, name) for name in features.FIELDS}
            missing = {FIELD_NAMES[name] for name, column in fields.items() if column is None} - lacking
            if missing:
                warn(f"{date}: the trace has no {', '.join(sorted(missing))}: these features are 0")
                lacking |= missing
            raw = features.node_features(
                graph.edge_host, graph.edge_port, graph.weight, n_hosts, n_ports, day.dst[order],
                {name: column[order] for name, column in fields.items() if column is not None})
            x = features.scale_by_maximum(raw, n_hosts)
        if args.model == "i-darkvec":
            corpus = day_corpus(day.time, graph, order)
        elif args.model != "features":
            snapshot = training.make_snapshot(graph, x, args.device)
        codes = ground_truth.lookup(truth, graph.hosts)
        if args.mirai and day.seq is not None:
            mirai = ground_truth.mirai_hosts(day.src, day.dst, day.seq, args.mirai_packets)
            unlisted = ~ground_truth.listed(truth, graph.hosts)
            codes[unlisted & np.isin(graph.hosts, mirai)] = truth.names.index(MIRAI)
        elif args.mirai and "seq" not in lacking:
            warn(f"{date}: the trace has no TCP sequence numbers: --mirai labels nothing")
            lacking.add("seq")
        yield Day(date, graph, x, snapshot, corpus, torch.from_numpy(codes), len(day.src))
    if date is None:
        raise ValueError("no TCP packets over IPv4 in the input: nothing to embed")


def day_corpus(time, graph, order):
    """i-darkvec's (words, offsets) of the kept packets, in order of capture; a word is a host's place in the graph."""
    host, port = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
    host[order] = np.repeat(graph.edge_host, graph.weight)
    port[order] = np.repeat(graph.edge_port, graph.weight)
    kept = np.sort(order)
    other = len(graph.ports) - 1 if graph.ports[-1] == graphs.OTHER else None
    return darkvec.corpus(time[kept], host[kept], port[kept], other)


# -- models -----------------------------------------------------------------------------------------------------------

def fresh_learner(args, seed):
    """The model of `seed` before its first day; None for `features`, which learns nothing."""
    if args.model == "features":
        return None
    if args.model == "i-darkvec":
        generator = torch.Generator(args.device).manual_seed(seed)
        return training.Learner(darkvec.DarkVec(args.embedding_width).to(args.device), None, None, generator)
    return training.new_learner(
        args.model, seed, args.device, None if args.no_node_features else features.N_FEATURES, args.hidden_width,
        args.gcn_width, args.embedding_width, args.head_width, args.learning_rate, args.weight_decay)


def learn(progress, day, t, args, seed, say):
    """Day t, counted from 1, passes the model by: (2,) loss and accuracy if it learned something, else None."""
    def log(epoch, loss, accuracy):
        say(f"{'epoch':>10} {epoch:8}/{args.epochs:<23} {loss:.4f} {accuracy:.3f}")
    today = day.date.toordinal()
    if args.model == "features":
        return None
    if args.model == "i-darkvec":
        return training.skip_gram(progress, day.graph.hosts, *day.corpus, today, args.epochs)
    keep_all = args.model == "gcn-gru" and t <= args.train_days
    training.take(progress, day.snapshot, today, t if keep_all else args.history + 1)
    if args.model == "gcn":
        return training.static(progress, lambda: fresh_learner(args, seed), args.epochs,
                               args.negatives) if t > args.train_days else None
    if args.model == "gcn-gru":
        return training.frozen(progress, args.epochs, args.negatives, log) if t == args.train_days else None
    return training.incremental(progress, args.epochs, args.negatives)


def embed(progress, day, args):
    """The embeddings (n_hosts, E) of the day that `learn` was given last; None if nothing was learned so far."""
    if args.model == "features":
        return torch.from_numpy(day.x[: len(day.graph.hosts)])
    if args.model == "i-darkvec":
        return training.word_vectors(progress, day.graph.hosts)
    return training.embed_day(progress)


# -- the days, one after the other ------------------------------------------------------------------------------------

def follow(days, truth, args, say, days_expected):
    """Train, embed and score day by day; embeddings and predictions are written under args.out as they come.

    days: an iterator of Day. days_expected(): how many there will be, as far as is known, or None.
    Returns (rows, runs, n_hosts): a dict per day, per run the knn.Report of every test day, and all days' hosts.
    """
    seeds = range(args.seed, args.seed + args.runs)
    models = [training.Progress(None if args.model == "gcn" else fresh_learner(args, seed), args.history)
              for seed in seeds]
    rows, runs, seen = [], [[] for _ in seeds], np.empty(0, np.uint32)
    say(report.HEADER)
    with contextlib.ExitStack() as files:
        predictions = None
        start = time.perf_counter()
        for t, day in enumerate(days, 1):
            hosts = day.graph.hosts
            new = len(hosts) - np.isin(hosts, seen, assume_unique=True).sum()
            seen = np.union1d(seen, hosts)
            results = [learn(progress, day, t, args, seed, say) for progress, seed in zip(models, seeds)]
            row = {"date": str(day.date), "hosts": len(hosts), "new_hosts": int(new), "ports": len(day.graph.ports),
                   "edges": len(day.graph.weight), "packets": day.packets, **mean_result(results),
                   "macro_f1": None, "embedded": False}

            if t >= first_test(args):
                embeddings = [embed(progress, day, args) for progress in models]
                row["embedded"] = embeddings[0] is not None
                if not row["embedded"]:
                    warn(f"{day.date}: every host contacts every port, nothing to learn from: not embedded")
            if row["embedded"]:
                if not all(torch.isfinite(z).all() for z in embeddings):
                    raise ValueError(f"{day.date}: training diverged, the embeddings are not finite (loss "
                                     f"{row['loss']}): expected a --learning-rate below {args.learning_rate:g}")
                if not any(earlier["embedded"] for earlier in rows):
                    report.remove_earlier(args.out)
                names = report.dotted(hosts)
                report.save_embeddings(args.out / "embeddings" / f"{day.date}.npz", names, embeddings[0])
            if row["embedded"] and len(truth.names) > 1:
                codes = day.labels.to(args.device)
                scored = [report.score_day(z.to(args.device), codes, len(truth.names), args.neighbors)
                          for z in embeddings]
                for reports, score in zip(runs, scored):
                    reports.append(score.report)
                row["macro_f1"] = report.mean_std([score.report.macro_f1 for score in scored])["mean"]
                if predictions is None:
                    predictions = files.enter_context(report.whole_file(args.out / "predictions.csv"))
                    predictions.write(report.PREDICTION_COLUMNS + "\n")
                predictions.write(report.prediction_lines(day.date, names, codes, scored[0], truth.names))

            now = time.perf_counter()
            row["seconds"], start = round(now - start, 3), now
            rows.append(row)
            say(report.day_line(row, report.time_left(rows, days_expected())))
        check_days(rows, args)
    return rows, runs, len(seen)


def first_test(args):
    """The number of the first test day, counted from 1."""
    return max(args.train_days, args.history) + 1


def mean_result(results):
    """Loss and accuracy of the day, mean over the runs; None where there is none."""
    results = [result for result in results if result is not None]
    loss, accuracy = torch.stack(results).mean(0).tolist() if results else (None, None)
    return {"loss": loss, "accuracy": None if accuracy != accuracy else accuracy}


def check_days(rows, args):
    """Raise ValueError, one line, if the days that came do not suffice for a single embedding."""
    if not rows:
        raise ValueError(f"no host sends {args.min_packets} TCP packets or more on any day: nothing to embed")
    if len(rows) < first_test(args):
        raise ValueError(
            f"{len(rows)} days of traffic, expected at least {first_test(args)}: --train-days {args.train_days}"
            f"{f' (windows of --history + 1 = {args.history + 1} days)' * bool(args.history)} and a day to test")
    if not any(row["embedded"] for row in rows):
        few = [name for name, n in (("one host", max(row["hosts"] for row in rows)),
                                    ("one port", max(row["ports"] for row in rows))) if n == 1]
        few = f"{' and '.join(few)} only, " if few else ""
        raise ValueError(f"no negative edges can be drawn on any day: {few}every host contacts every port")


# -- output -----------------------------------------------------------------------------------------------------------

def settings_line(args):
    seeds = f"seed {args.seed}" if args.runs == 1 else f"seeds {args.seed}..{args.seed + args.runs - 1}"
    history = f", H = {args.history}" if args.history else ""
    return (f"model {args.model}, {'without' if args.no_node_features else 'with'} node features{history}, "
            f"{args.train_days} training days, {seeds}, {args.device}")


def days_expected(summary):
    """How many days will come: known for the synthetic month, else from the share of the input read so far."""
    if summary is None:
        return synthetic.DAYS
    return round(summary.days_seen / summary.fraction) if summary.fraction else None


def finish(args, truth, rows, runs, summary, seconds):
    """The report in words and, with everything that made it, in report.json."""
    scores = report.summarize(runs, truth.names)
    tested = [row["date"] for row in rows if row["embedded"]]
    settings = {name: [str(path) for path in value] if name in ("input", "labels") and value else
                str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    report.save_json(args.out / "report.json", {
        "settings": settings, "seed": args.seed, "device": args.device,
        "data": "synthetic" if summary is None else "input",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "scipy": scipy.__version__},
        "input": summary and {name: getattr(summary, name) for name in
                              ("files", "formats", "packets", "tcp", "days", "skipped", "rejected", "rejected_first",
                               "warnings")},
        "labels": {"blocks": len(truth.code), "classes": len(truth.names) - 1, **truth.counts},
        "timings": {"total_seconds": round(seconds, 3), "threads": torch.get_num_threads()},
        **scores, "days": rows})
    if len(truth.names) == 1:
        print("the labels name no class but Unknown: embeddings only, nothing to score" if args.labels else
              "no labels were given: embeddings only, nothing to score")
    elif not scores["classes"]:
        print("no class has more than 10 active hosts on a test day: nothing to score")
    else:
        print(f"{args.neighbors} nearest neighbours (leave one out) on {len(tested)} test days, "
              f"{tested[0]} to {tested[-1]}")
        print("\n".join(report.table(scores)))
    written = ["report.json", f"{len(tested)} days of embeddings", *["predictions.csv"] * (len(truth.names) > 1)]
    print(f"wrote {', '.join(written)} to {args.out}/ in {seconds:.1f} s")


def main(argv=None):
    args = parse_arguments(argv)
    began = time.perf_counter()
    summary = None

    def say(line):
        if not args.quiet:
            print(line, flush=True)

    try:
        report.check_folder(args.out)
        days, truth, summary = open_input(args)
        say(f"input {', '.join(args.input)}" if args.input else
            f"input: the synthetic month, scale {args.synthetic_scale:g}, seed {args.seed} (no --input given)")
        if args.labels:
            say(f"labels: {len(truth.code):,} blocks, {len(truth.names) - 1} classes"
                + "".join(f", {n:,} {what}" for what, n in truth.counts.most_common()))
        say(settings_line(args))
        rows, runs, n_hosts = follow(prepare(days, truth, args, warn), truth, args, say,
                                     functools.partial(days_expected, summary))
        say(report.read_line(summary, n_hosts) if summary else
            f"made {sum(row['packets'] for row in rows):,} packets, {len(rows)} days, {n_hosts:,} hosts")
        for line in summary.warnings if summary else ():
            warn(line)
        finish(args, truth, rows, runs, summary, time.perf_counter() - began)
    except (ValueError, OSError) as error:
        if summary and summary.files:
            say(report.read_line(summary))
        print(f"darkgnn: error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:            # PyTorch's lack of memory is a RuntimeError
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print("darkgnn: error: not enough memory: expected smaller widths, fewer --runs or less traffic a day",
              file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("darkgnn: interrupted", file=sys.stderr)
        return 130
    return 0


def warn(line):
    print(f"darkgnn: note: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")                # class names come from files, the terminal may be ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    sys.exit(main())
