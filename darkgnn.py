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
import io
import os
import platform
import re
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# Idle OpenMP threads spin for microseconds, not milliseconds: on a busy machine that makes all several times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import scipy
import torch

import features
import graph as graphs
import knn
import report
import shard
import state
import training
import whiten
from baselines import darkvec
from traces import labels as ground_truth
from traces import packets, synthetic

MODELS = (*training.MODELS, "i-darkvec", "features")
MIRAI = "Mirai-like"
NO_LABELS = ground_truth.from_arrays(np.empty(0, np.uint32), np.empty(0, np.int64), ("Unknown",))
SCALINGS = {"max": functools.partial(features.scale_by_maximum, most=shard.all_max),
            "rank": functools.partial(features.scale_by_rank, ranks=shard.average_ranks, total=shard.all_sum)}
standardize = functools.partial(knn.standardize, mean=shard.mean_of_rows, highest=shard.all_max)
IN_STATE = (  # the settings that a state goes with
    "model", "no_node_features", "feature_scaling", "whiten", "join_features", "history", "hidden_width", "gcn_width",
    "embedding_width", "head_width", "train_days", "epochs", "negatives", "learning_rate", "weight_decay",
    "top_ports", "min_packets", "seed", "device", "precision")
FIRST_SPEAKS = 5  # seconds by which other ranks end after rank 0, which says for all what ended the run
OUT_OF_MEMORY = r"not enough memory|out of memory|\ballocate\b|ALLOC_FAILED|bad_alloc"  # as PyTorch's errors say it
FIELD_NAMES = {"length": "size", "ttl": "TTL", "mss": "MSS", "window": "window", "timestamp": "TCP timestamp"}


def argument_parser():
    """Every flag of the command, by groups; a flag without a default of its own has None."""
    parser = argparse.ArgumentParser(
        prog="darkgnn.py", description=__doc__.split("\n\n")[0],
        formatter_class=lambda prog: argparse.ArgumentDefaultsHelpFormatter(prog, width=100, max_help_position=30))
    group = parser.add_argument_group("input")
    add = group.add_argument
    add("--input", nargs="+", metavar="PATH", help="traces: files, folders or - for standard input; without it the "
        "synthetic month is used", default=argparse.SUPPRESS)
    add("--labels", nargs="+", metavar="FILE", help="ground truth, earlier files win: CSV src_ip,label with addresses "
        "or CIDR blocks, or plain lists named after their class", default=argparse.SUPPRESS)
    add("--mirai", action="store_true", help="label Mirai-like, or as --labels calls that class, a host "
        "that no list names and that sends packets whose TCP sequence number is the destination address")
    add("--mirai-packets", type=positive, default=1, metavar="N", help="such packets a day that make a host Mirai-like")
    add("--year", type=year, help="year of the first line of a log whose lines carry none", default=argparse.SUPPRESS)
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
    add("--feature-scaling", choices=tuple(SCALINGS), default="max", help="of each node feature, per day: by its "
        "maximum, as the paper's code, or the normal scores of its ranks")
    add("--whiten", action="store_true", help="scale down the directions in which hosts differ from themselves from "
        "day to day")
    add("--join-features", action="store_true", help="with --whiten: whitened features beside the whitened embedding, "
        "of equal length each")
    add("--history", type=natural, default=5, metavar="H", help="days before today that the GRU sees; 0 where the "
        "model has none")
    add("--hidden-width", type=width, default=1024, metavar="N", help="first graph convolution")
    add("--gcn-width", type=width, default=512, metavar="N", help="second graph convolution")
    add("--embedding-width", type=width, default=128, metavar="N", help="embeddings")
    add("--head-width", type=width, default=64, metavar="N", help="hidden layer of the link predictor")

    add = parser.add_argument_group("training").add_argument
    add("--train-days", type=natural, default=20, metavar="M", help="days before the first test day; with a GRU at "
        "least as many as --history")
    add("--epochs", type=positive, metavar="N", default=argparse.SUPPRESS,
        help="epochs a day (i-*: default 1, i-gcn and i-gcn-gru without node features 5) or at most (others: default "
        "50, patience 3)")
    add("--negatives", type=positive, default=1, metavar="N", help="negative edges per edge; i-darkvec has 5")
    add("--learning-rate", type=positive_float, default=1e-3, metavar="X", help="of Adam; i-darkvec has its own")
    add("--weight-decay", type=non_negative_float, default=5e-3, metavar="X", help="of Adam")
    add("--neighbors", type=positive, default=3, metavar="K", help="nearest neighbours that vote")

    add = parser.add_argument_group("every day").add_argument
    add("--state", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="go on from this file, and keep in it "
        "what the next day needs")
    add("--forget-days", type=positive, metavar="N", default=argparse.SUPPRESS, help="with --state: hosts not seen for "
        "so many days are forgotten (default: 31)")

    add = parser.add_argument_group("run").add_argument
    add("--seed", type=natural, default=0, help="of the synthetic month, the weights and the negatives")
    add("--runs", type=positive, default=1, metavar="N", help="seeds SEED..SEED+N-1; files are those of the first")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")
    add("--precision", choices=("exact", "fast"), default="exact", help="of matrix products: float32, or bfloat16 and "
        "TF32 where the machine has them")
    add("--low-memory", action="store_true", help="compute a day's activations twice instead of keeping them")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for embeddings, predictions, report")
    add("--quiet", action="store_true", help="print the report only")

    return parser


def parse_arguments(argv):
    """The command line as a namespace, with the defaults that depend on other flags; exits with 2 and one line."""
    parser = argument_parser()
    parser.error = lambda line: parser.exit(2, f"darkgnn: error: {line}\n")
    args = parser.parse_args(argv, argparse.Namespace(input=None, labels=None, year=None, epochs=None, state=None,
                                                      forget_days=None))
    check_arguments(args, parser.error)
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.epochs is None:
        args.epochs = 50 if not args.model.startswith("i-") else \
            5 if args.no_node_features and args.model != "i-darkvec" else 1
    if not args.model.endswith("gru"):
        args.history = 0
    if args.model == "i-darkvec":                           # skip-gram: knows neither features nor a graph
        args.no_node_features = True
    args.forget_days = args.forget_days or 31
    if args.state and args.state.is_symlink():              # the file itself is locked and replaced
        args.state = args.state.resolve()
    return args


def check_arguments(args, error):
    """Call `error` with one line for flags that do not go together."""
    if args.input is None and (args.labels or args.year is not None or args.mirai or args.strict):
        error("--labels, --mirai, --year and --strict go with --input: the synthetic month has its own labels")
    if args.mirai_packets > 1 and not args.mirai:
        error("--mirai-packets goes with --mirai")
    for folder in args.input or ():
        for flag, path in (("--out", args.out), ("--state", args.state)):
            if folder != "-" and path and path.resolve().is_relative_to(Path(folder).resolve()):
                error(f"{flag} {path} lies inside --input {folder}: expected a place elsewhere")
    if args.seed + args.runs > 1 << 32:                     # PyTorch's CPU generator takes no more bits of a seed
        error(f"--seed and --runs: expected seeds below 2^32, got {args.runs} from {args.seed} on")
    if args.model == "gcn-gru" and args.train_days <= args.history:
        error(f"gcn-gru trains on windows of --history + 1 days within --train-days: expected --train-days > "
              f"{args.history}, got {args.train_days}")
    if args.model == "features" and args.no_node_features:
        error("--model features is the node features: it does not go with --no-node-features")
    if args.join_features and (not args.whiten or args.no_node_features or args.model in ("i-darkvec", "features")):
        error("--join-features goes with --whiten and a graph model that has node features")
    if args.model == "gcn" and args.no_node_features and args.whiten:
        error("--whiten embeds yesterday once more: without node features gcn has rows for today's nodes only")
    if args.state and args.runs > 1:
        error(f"--state keeps one model: expected --runs 1, got {args.runs}")
    if args.forget_days and not args.state:
        error("--forget-days goes with --state")
    if args.device == "cuda" and not torch.cuda.is_available():
        error("--device cuda: no CUDA device is available to this PyTorch")
    for flag, given in (("--model i-darkvec", args.model == "i-darkvec"),
                        ("--no-node-features", args.no_node_features)):
        if given and shard.started() > 1:
            error(f"{flag} runs in one process, got {shard.started()} from torchrun")


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
year = number(int, lambda n: n in packets.YEARS, f"a year in {packets.YEARS[0]}..{packets.YEARS[-1]}")
width = number(int, lambda n: 0 < n <= 65536, "a whole number in 1..65536")
natural = number(int, lambda n: n >= 0, "a whole number, 0 or more")
positive_float = number(float, lambda x: x > 0, "a positive number")
non_negative_float = number(float, lambda x: x >= 0, "a number, 0 or more")


# -- packets -> labels, graph, features -------------------------------------------------------------------------------

class NothingNew(ValueError):
    """The input holds no day of traffic, or none after the state's last."""


class Day(NamedTuple):
    """One day of the trace as the model wants it."""
    date: datetime.date
    graph: graphs.BipartiteGraph
    x: np.ndarray | None         # (N, 37) float32 scaled features, hosts first; None: without node features
    snapshot: training.Snapshot | None  # for the graph models
    corpus: tuple | None         # i-darkvec's (words, offsets), words being positions in graph.hosts
    labels: torch.Tensor         # (n_hosts,) int64 ground truth, 0 = Unknown
    packets: int                 # TCP packets of the day before the host filter


def new_summary(args):
    """What will be counted of the input; None for the synthetic month."""
    return packets.Summary() if args.input else None


def open_input(args, summary, after=None, known=()):
    """The trace as an iterator of (date, Packets), and its ground truth; summary will say what was read.

    after, known: as packets.read_days takes them, of a run that goes on. Under torchrun all ranks have the same dates,
    each with the packets that it read, or None.
    """
    if args.input is None:
        month = synthetic.month(args.synthetic_scale, args.seed, share=(shard.rank(), shard.size()))
        days = ((date, packets.Packets(**columns)) for date, columns in month if after is None or date > after)
        truth = ground_truth.from_arrays(*synthetic.ground_truth(args.synthetic_scale, args.seed))
        return shard.days(days), truth
    with contextlib.suppress(ValueError, OSError):          # as many open files as may be: one a sensor, say
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    truth = ground_truth.read_labels(args.labels) if args.labels else NO_LABELS
    if args.mirai and mirai_code(truth) is None:
        truth = truth._replace(names=(*truth.names, MIRAI))
    days = shard.days(packets.read_days(args.input, summary, args.year, args.strict, after, known,
                                        (shard.rank(), shard.size())))
    return packets.counted(days, summary, after) if shard.size() > 1 else days, truth


def mirai_code(truth):
    """The code of the class that is Mirai's, which the labels may spell otherwise than MIRAI; None without one."""
    spelled = [name for name in truth.names if re.fullmatch("mirai([-_ ]?like)?", name, re.I)]
    return truth.names.index(MIRAI if MIRAI in spelled else spelled[0]) if spelled else None


def prepare(days, truth, args, warn):
    """Each day's graph, features and labels, one after the other; a day without any host is left out.

    Under torchrun days are what this rank read, and graph, features and labels those of the hosts that it owns.
    """
    lacking, date = set(), None
    for date, day in days:
        traffic = shard.count_packets(day) if shard.size() > 1 else None
        if traffic:
            graph, _ = graphs.build_graph(traffic.src, traffic.port, args.min_packets, args.top_ports,
                                          traffic.packets, shard.all_sum)
            present = {*traffic.fields, *["seq"] * traffic.has_seq}
        else:
            graph, order = graphs.build_graph(day.src, day.port, args.min_packets, args.top_ports)
            present = {name for name in (*features.FIELDS, "seq") if getattr(day, name) is not None}
        n_hosts, n_ports = len(graph.hosts), len(graph.ports)
        if not shard.all_sum(n_hosts):
            warn(f"{date}: no host sends {args.min_packets} TCP packets or more, the day is left out")
            continue
        x = snapshot = corpus = None
        if not args.no_node_features:
            missing = {FIELD_NAMES[name] for name in features.FIELDS if name not in present} - lacking
            if missing:
                warn(f"{date}: the trace has no {', '.join(sorted(missing))}: these features are 0")
                lacking |= missing
            raw = shard.raw_features(traffic, graph) if traffic else features.node_features(
                graph.edge_host, graph.edge_port, graph.weight, n_hosts, n_ports, day.dst,
                {name: getattr(day, name) for name in features.FIELDS if name in present}, order)
            x = SCALINGS[args.feature_scaling](raw, n_hosts)
        if args.model == "i-darkvec":
            corpus = day_corpus(day.time, graph, order)
        elif args.model != "features":
            snapshot = training.make_snapshot(graph, x, args.device)
        codes = ground_truth.lookup(truth, graph.hosts)
        if args.mirai and "seq" in present:
            mirai = shard.mirai_hosts(traffic, args.mirai_packets) if traffic else \
                ground_truth.mirai_hosts(day.src, day.dst, day.seq, args.mirai_packets)
            unlisted = ~ground_truth.listed(truth, graph.hosts)
            codes[unlisted & np.isin(graph.hosts, mirai)] = mirai_code(truth)
        elif args.mirai and "seq" not in lacking:
            warn(f"{date}: the trace has no TCP sequence numbers: --mirai labels nothing")
            lacking.add("seq")
        yield Day(date, graph, x, snapshot, corpus, torch.from_numpy(codes), traffic.n if traffic else len(day.src))
    if date is None:
        raise NothingNew("no TCP packets over IPv4 in the input: nothing to embed")


def days_over(days):
    """The days before today, by this machine's clock: a state takes every day once, so it must be over (UTC)."""
    today = shard.all_min(datetime.datetime.now(datetime.timezone.utc).date().toordinal())
    over = False
    for date, day in days:
        if date.toordinal() >= today:
            warn(f"{date} is not over yet (UTC): left for the next run")
            if not over:
                raise NothingNew("no day of the input is over yet (UTC): nothing to embed")
            return
        over = True
        yield date, day


def ahead(days, device="cpu"):
    """The same days, each made ready by a thread while the one before is learned from; an error comes in its place.

    On CUDA the thread's copies to the device go through a stream of their own, beside the kernels of the training. A
    copy has ended when its day is yielded, and a day's results are waited for long before its tensors are let go.
    """
    stream = torch.cuda.Stream() if device == "cuda" else None

    def ready():
        with torch.cuda.stream(stream):                     # None: nothing changes
            return next(days, None)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(ready)
        while (day := coming.result()) is not None:
            coming = thread.submit(ready)
            yield day


def may_read_ahead(args):
    """Not standard input or a pipe, which may say nothing for a day; not with a state, which says what was read so far;
    not several ranks, whose collectives keep step."""
    return not args.state and shard.size() == 1 and all(
        Path(path).is_file() or Path(path).is_dir() for path in args.input or ())


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
        args.gcn_width, args.embedding_width, args.head_width, args.learning_rate, args.weight_decay,
        args.low_memory)


@dataclass
class Memory:
    """What the next day needs of the days before: with --state, what the state keeps."""
    t: int = 0                                  # days so far
    last: datetime.date | None = None           # the last of them
    models: list = field(default_factory=list)  # training.Progress, one a seed
    changes: list = field(default_factory=list)  # Change, one a seed
    hosts: state.Hosts = state.NO_HOSTS
    names: list = field(default_factory=lambda: ["Unknown"])  # what the codes of hosts.predicted stand for


@dataclass
class Change:
    """How hosts differ from themselves from day to day, see whiten.py."""
    scatter: whiten.Scatter | None = None
    # of the models `features` and i-darkvec, every host's last day:
    hosts: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))  # (hosts,) ascending
    X: torch.Tensor | None = None               # (hosts, E) its standardized embedding on that day
    features: "Change | None" = None            # with --join-features: that of the features


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
    training.take(progress, day.snapshot, today, t if keep_all else args.history + 1 + args.whiten)
    if args.model == "gcn":
        return training.static(progress, lambda: fresh_learner(args, seed), args.epochs,
                               args.negatives) if t > args.train_days else None
    if args.model == "gcn-gru":
        if t != args.train_days:
            return None
        result = training.frozen(progress, args.epochs, args.negatives, log)
        if result is None:
            raise ValueError(f"{day.date}: gcn-gru learned nothing: no negative edges can be drawn on the training "
                             "days, every host contacts every port")
        return result
    return training.incremental(progress, args.epochs, args.negatives)


def embed(progress, day, args):
    """The embeddings (n_hosts, E) of the day that `learn` was given last; None if nothing was learned so far."""
    if args.model == "features":
        return torch.from_numpy(day.x[: len(day.graph.hosts)])
    if args.model == "i-darkvec":
        return training.word_vectors(progress, day.graph.hosts)
    return training.embed_day(progress)


def compare_days(change, progress, day, X, args):
    """Add to `change` the hosts that were active before today; returns today's part of it, (known, d).

    X (n_hosts, E) today's embeddings, standardized; known (n_hosts,) bool: hosts with an earlier day, and d (known, E)
    what they differ from it. `features` and i-darkvec compare with the host's last day. The graph models embed
    yesterday once more with today's weights, and compare with that alone: embeddings of different weights have no
    common axes.
    """
    hosts = day.graph.hosts
    if args.model in ("features", "i-darkvec"):
        return compare_last_days(change, X, hosts)
    if args.model == "gcn":                                 # a model of its own for every day
        change.scatter = None
    found = np.zeros(len(hosts), bool), X[:0]
    for ago in range(1, len(progress.past) - args.history):  # yesterday; of gcn-gru on day M all days before
        earlier, X_s = progress.past[-1 - ago].graph.hosts, standardize(training.embed_day(progress, ago))
        known, d = differences(X, hosts, X_s, earlier)
        add_pairs(change, d)
        found = found if ago > 1 else (known, d)
        X, hosts = X_s, earlier
    return found


def compare_last_days(change, X, hosts):
    """`compare_days` of X (n_hosts, E), standardized, with the last day of each host, which X becomes."""
    if change.X is None:
        change.X = X[:0]
    stay = torch.from_numpy(~np.isin(change.hosts, hosts)).to(X.device)
    known, d = differences(X, hosts, change.X, change.hosts)
    all_hosts, all_X = np.concatenate([change.hosts[stay.cpu().numpy()], hosts]), torch.cat([change.X[stay], X])
    order = np.argsort(all_hosts)
    change.hosts, change.X = all_hosts[order], all_X[torch.from_numpy(order).to(X.device)]
    add_pairs(change, d)
    return known, d


def differences(X, hosts, X_s, earlier):
    """(known, d): which `hosts` are among `earlier`, both ascending, and X - X_s of those."""
    known, at = np.isin(hosts, earlier), np.searchsorted(earlier, hosts)
    return known, X[torch.from_numpy(known).to(X.device)] - X_s[torch.from_numpy(at[known]).to(X.device)]


def add_pairs(change, d):
    today = whiten.Scatter(*map(shard.all_sum, whiten.scatter(d)))
    change.scatter = whiten.merge(change.scatter, today) if change.scatter else today


# -- the days, one after the other ------------------------------------------------------------------------------------

def follow(days, truth, args, say, days_expected, memory=None, save=None):
    """Train, embed and score day by day; embeddings and predictions are written under args.out as they come.

    days: an iterator of Day. days_expected(): how many there will be, as far as is known, or None. memory: of the days
    before these; save(memory) is called after each day. Returns (rows, runs, n_hosts): a dict per day, per run the
    report.Scored of every test day without its columns, and how many hosts memory.hosts holds.
    """
    memory = memory or first_memory(args)
    last = None if save is None else str(memory.last or "")
    rows, runs = [], [[] for _ in memory.models]
    say(report.HEADER)
    with (report.rows_of_days(args.out / "predictions.csv", report.PREDICTION_COLUMNS, last) as write,
          report.rows_of_days(args.out / "changes.csv", state.CHANGE_COLUMNS, last) as write_changes):
        start = time.perf_counter()
        for day in days:
            memory.t, memory.last = memory.t + 1, day.date
            before = state.lookup(memory.hosts, day.graph.hosts)
            row = row_of(day, before)
            rows.append(row)
            with matmul_precision(args.precision):
                results = [learn(progress, day, memory.t, args, args.seed + i, say)
                           for i, progress in enumerate(memory.models)]
            row |= mean_result(results)
            test, scored = memory.t >= first_test(args), None
            embedded = embed_day(memory, day, test, args, say) if test or args.whiten else None
            if memory.t == 1 and save and shard.rank() == 0:  # a new state: what is here is of another model
                report.remove_earlier(args.out)
            if test and embedded:
                check_finite(embedded, row)
                if save is None and not any(earlier["embedded"] for earlier in rows) and shard.rank() == 0:
                    report.remove_earlier(args.out)
                scored = score_day(day, embedded, truth, args)
                write_day(day, embedded[0], scored[0], truth, write, args)
                for run, one in zip(runs, scored):          # scores; what is one per host would add up
                    run.append(one._replace(predicted=None, share=None, similarity=None, distance=None))
                row |= {"macro_f1": report.mean_std(one.report.macro_f1 for one in scored)["mean"],
                        "subnet_agreement": report.mean_std(one.agreement for one in scored)["mean"], "embedded": True}
            elif test:
                when = "today" if args.model == "gcn" else "so far"
                warn(f"{day.date}: nothing learned {when}, every host contacted every port: not embedded")
            today = update_hosts(memory, before, day, truth, scored and scored[0])
            if save:
                lines = what_changed(before, today, day, truth, memory.names, embedded[0], scored[0]) if scored else []
                if shard.rank() == 0:
                    if len(rows) == 1:
                        state.begin_changes(args.out, last)
                    write_changes("".join(f"{line}\n" for line in lines))
                forget(memory, day.date.toordinal() - args.forget_days)
                save(memory)
            now = time.perf_counter()
            row["seconds"], start = round(now - start, 3), now
            say(report.day_line(row, report.time_left(rows, days_expected())))
    check_days(rows, args)
    return rows, runs, shard.all_sum(len(memory.hosts.address))


def row_of(day, before):
    """The day as report.json lists it, before anything was learned; before: its hosts' rows of the host table."""
    hosts, new_hosts, edges = shard.all_sum(np.array(
        [len(day.graph.hosts), (before.last < 0).sum(), len(day.graph.weight)])).tolist()
    return {"date": str(day.date), "hosts": hosts, "new_hosts": new_hosts, "ports": len(day.graph.ports),
            "edges": edges, "packets": day.packets, "loss": None, "accuracy": None, "macro_f1": None,
            "subnet_agreement": None, "embedded": False}


def check_finite(embedded, row):
    if not shard.all_min(int(all(torch.isfinite(one.saved).all() for one in embedded))):
        raise ValueError(f"{row['date']}: training diverged, the embeddings are not finite (loss {row['loss']}): "
                         "expected a smaller --learning-rate or --weight-decay")


def score_day(day, embedded, truth, args):
    """The report.Scored of the day's hosts, one for each seed's Embedded."""
    labels = day.labels.to(args.device)
    addresses = torch.from_numpy(day.graph.hosts.astype(np.int64)).to(args.device)
    return [report.score_day(one.X.to(args.device), addresses, labels, len(truth.names), args.neighbors)
            for one in embedded]


def write_day(day, embedded, scored, truth, write, args):
    """The day's embeddings and, where there are classes, predictions: those of the first seed, by rank 0."""
    labels = day.labels.to(scored.predicted.device)
    surprise = torch.full_like(scored.share, torch.nan) if embedded.surprise is None else embedded.surprise
    hosts, saved, *columns = shard.at_rank_0(day.graph.hosts, embedded.saved, labels, scored.predicted, scored.share,
                                             scored.similarity, surprise)
    if shard.rank() == 0:
        names = report.dotted(hosts)
        report.save_embeddings(args.out / "embeddings" / f"{day.date}.npz", names, saved)
        if len(truth.names) > 1:
            write(report.prediction_lines(day.date, names, truth.names, *columns))


def update_hosts(memory, before, day, truth, scored):
    """Enter the day in the host table; returns its rows. scored: None on days that are not test days."""
    predictions = ()
    if scored and len(truth.names) > 1:
        predicted, share, distance = (
            column.cpu().numpy() for column in (scored.predicted, scored.share, scored.distance))
        predictions = state.codes(memory.names, truth.names)[predicted], share, distance
    rows = state.today(before, day.graph.hosts, day.date.toordinal(), *predictions)
    memory.hosts = state.update(memory.hosts, rows)
    return rows


def what_changed(before, rows, day, truth, names, embedded, scored):
    """Lines of changes.csv for a test day, of all ranks' hosts at rank 0; before, rows, names: see state.changes."""
    surprise = [] if embedded.surprise is None else [embedded.surprise.cpu().numpy()]
    _, labels, similarity, *columns = shard.at_rank_0(day.graph.hosts, day.labels.numpy(),
                                                      scored.similarity.cpu().numpy(), *before, *rows, *surprise)
    n = len(before)
    return state.changes(state.Hosts(*columns[:n]), state.Hosts(*columns[n : 2 * n]), np.array(truth.names)[labels],
                         names, similarity, *columns[2 * n :])


class Embedded(NamedTuple):
    """A day as one seed's model sees it."""
    saved: torch.Tensor             # (n_hosts, E) as embeddings/ holds them: the model's, whitened, or joined
    X: torch.Tensor                 # (n_hosts, E) as neighbours are searched in: standardized, or as saved
    surprise: torch.Tensor | None   # (n_hosts,) with --whiten: d^T W^-1 d / E, nan without an earlier day


def embed_day(memory, day, test, args, say):
    """The day Embedded by each seed's model; None while nothing was learned."""
    embedded = [embed_and_compare(change, progress, day, test, args, say)
                for change, progress in zip(memory.changes, memory.models)]
    return None if embedded[0] is None else embedded


def embed_and_compare(change, progress, day, test, args, say):
    """The day Embedded by one model, None while nothing was learned; with --whiten `change` takes it in."""
    if args.join_features:
        change.features = change.features or Change()
        x = standardize(torch.from_numpy(day.x[: len(day.graph.hosts)]).to(args.device))
        compare_last_days(change.features, x, day.graph.hosts)
    with matmul_precision(args.precision):
        z = embed(progress, day, args)
        if z is None:
            return None
        X = standardize(z)
        if not args.whiten:
            return Embedded(z, X, None)
        known, d = compare_days(change, progress, day, X, args)
    Y, surprise = X, torch.full((len(z),), torch.nan, dtype=torch.float64, device=z.device)
    L = whitener_of(change)
    if L is not None:
        Y = whiten.whiten(X, L)
        surprise[torch.from_numpy(known).to(z.device)] = whiten.surprise(d, L)
    elif test:
        say(f"{day.date}: no host to compare with an earlier day: the embeddings are standardized, not whitened")
    if args.join_features:                                  # cosine of joined rows = mean of the two cosines
        L = whitener_of(change.features)
        x = x if L is None else whiten.whiten(x, L)
        Y = torch.cat([knn.unit(Y), knn.unit(x)], 1) / 2**0.5  # (n_hosts, E + 37)
    return Embedded(Y, Y, surprise)


def whitener_of(change):
    """L, see whiten.whitener; None while no host was seen twice."""
    return whiten.whitener(change.scatter) if change.scatter and change.scatter.n else None


@contextlib.contextmanager
def matmul_precision(name):
    """How the models multiply: "exact" float32, or "fast", bfloat16 (CPU) and TF32 (GPU). Neighbours are exact."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if name == "fast" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def first_memory(args):
    seeds = range(args.seed, args.seed + args.runs)
    return Memory(models=[training.Progress(None if args.model == "gcn" else fresh_learner(args, seed), args.history)
                          for seed in seeds], changes=[Change() for _ in seeds])


def restore(saved, args):
    """The Memory that `remember` made a state of; args have its settings."""
    change = restore_change(saved["change"], "cpu" if args.model == "features" else args.device)
    progress = state.unpack(saved["model"], fresh_learner(args, args.seed), args.history, saved["days"])
    return Memory(saved["days"], datetime.date.fromisoformat(saved["last_day"]), [progress], [change],
                  state.Hosts(*state.arrays(saved["hosts"], state.Hosts, address=np.uint32)), saved["names"])


def restore_change(saved, device):
    scatter, hosts, X, joined = (saved[name] for name in ("scatter", "hosts", "X", "features"))
    return Change(scatter and whiten.Scatter(scatter["total"].to(device), scatter["n"]),
                  hosts.numpy().astype(np.uint32), X if X is None else X.to(device),
                  joined and restore_change(joined, device))


def remember_change(change):
    hosts, *X = shard.at_rank_0(change.hosts, *[] if change.X is None else [change.X])
    return {"scatter": change.scatter and change.scatter._asdict(), "hosts": state.tensor(hosts),
            "X": X[0] if X else None, "features": change.features and remember_change(change.features)}


def remember(memory, args, files):
    """Memory, and the files read so far (see packets.Summary.finished), as the state's dict; whole at rank 0."""
    return {"settings": settings_of(args), "days": memory.t, "last_day": str(memory.last),
            "model": state.pack(memory.models[0]), "change": remember_change(memory.changes[0]),
            "hosts": state.tensors(all_hosts(memory)), "names": memory.names,
            "files": [[*identity, last] for identity, last in files.items()]}


def all_hosts(memory):
    """The host table: of all ranks at rank 0, of none on the others."""
    return state.Hosts(*shard.at_rank_0(*memory.hosts))


def settings_of(args):
    return {name: getattr(args, name) for name in IN_STATE}


def forget(memory, before):
    """Hosts last seen before the day of that number leave the memory, and their rows the models."""
    memory.hosts = state.Hosts(*(column[memory.hosts.last >= before] for column in memory.hosts))
    for progress, change in zip(memory.models, memory.changes):
        if progress.learner and len(progress.nodes.key):    # gcn has none before its first test day
            training.forget(progress, before)
        for one in filter(None, (change, change.features)):
            stay = np.isin(one.hosts, memory.hosts.address)
            if one.X is not None:
                one.hosts, one.X = one.hosts[stay], one.X[torch.from_numpy(stay).to(one.X.device)]


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
        raise NothingNew(f"no host sends {args.min_packets} TCP packets or more on any day: nothing to embed")
    if args.state:                                          # the days that lack will come
        return
    if len(rows) < first_test(args):
        raise ValueError(
            f"{len(rows)} days of traffic, expected at least {first_test(args)}: --train-days {args.train_days}"
            f"{f' (windows of --history + 1 = {args.history + 1} days)' * bool(args.history)} and a day to test")
    if not any(row["embedded"] for row in rows):
        few = [name for name, n in (("one host", max(row["hosts"] for row in rows)),
                                    ("one port", max(row["ports"] for row in rows))) if n == 1]
        few = f"{' and '.join(few)} only, " if few else ""
        raise ValueError("no negative edges can be drawn on the days to learn from: "
                         f"{few}every host contacts every port")


# -- output -----------------------------------------------------------------------------------------------------------

def settings_line(args):
    seeds = f"seed {args.seed}" if args.runs == 1 else f"seeds {args.seed}..{args.seed + args.runs - 1}"
    history = f", H = {args.history}" if args.history else ""
    ranked = " by rank" * (args.feature_scaling == "rank" and not args.no_node_features) + ", whitened" * args.whiten
    ranked += " and joined with them" * args.join_features
    return (f"model {args.model}, {'without' if args.no_node_features else 'with'} node features{ranked}{history}, "
            f"{args.train_days} training days, {seeds}, {args.device}")


def days_expected(summary):
    """How many days will come: known for the synthetic month, else from the share of the input read so far."""
    if summary is None:
        return synthetic.DAYS
    if shard.size() > 1:                                    # this rank's files tell of its share of the days alone
        return None
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
        "timings": {"total_seconds": round(seconds, 3), "threads": torch.get_num_threads(), "ranks": shard.size()},
        **scores, "days": rows})
    if not tested:
        print(f"nothing embedded yet: test days begin after the state's first {first_test(args) - 1} days")
    elif len(truth.names) == 1:
        print("the labels name no class but Unknown: embeddings only, nothing to score" if args.labels else
              "no labels were given: embeddings only, nothing to score")
    elif not scores["classes"]:
        print("no class has more than 10 active hosts on a test day: nothing to score")
    else:
        print(f"{args.neighbors} nearest neighbours (leave one out) on {len(tested)} test days, "
              f"{tested[0]} to {tested[-1]}")
        print("\n".join(report.table(scores)))
    if tested:
        print(report.agreement_line(scores))
    predicted = bool(tested) and len(truth.names) > 1
    written = ["report.json", f"{len(tested)} days of embeddings", *["predictions.csv"] * predicted,
               *["changes.csv", "hosts.csv"] * bool(args.state)]
    print(f"wrote {', '.join(written)} to {args.out}/ in {seconds:.1f} s")


@contextlib.contextmanager
def kept_memory(args):
    """(Memory to go on with, files read before) while the state is held for this run; fresh ones without a state."""
    keeper = args.state and shard.rank() == 0               # rank 0 alone locks, reads and writes the state
    with state.locked(args.state) if keeper else contextlib.nullcontext():
        saved = state.load(args.state) if keeper else None
        if saved:
            state.check_settings(args.state, saved["settings"], settings_of(args))
        saved = shard.hand_out(saved, state.part) if args.state else None
        yield (restore(saved, args) if saved else first_memory(args),
               {tuple(identity): last for *identity, last in saved["files"]} if saved else {})


def save_state(args, summary, memory):
    """Replace the state by this memory and the files that all ranks have read so far; rank 0 writes."""
    files = packets.merged(shard.all_objects(summary)).finished if summary else {}
    whole = remember(memory, args, files)
    if shard.rank() == 0:
        state.save(args.state, whole)


def write_hosts(args, memory):
    """hosts.csv of all ranks' hosts; rank 0 writes."""
    table = all_hosts(memory)
    if shard.rank() == 0:
        state.write_hosts(args.out / "hosts.csv", table, memory.names)


def run(args, summary, say):
    """The command's days, from packets to report.json. Raises ValueError, one line, for what cannot be run."""
    began = time.perf_counter()
    shard.start(args.device)
    if shard.rank() == 0:
        report.check_folder(args.out)
    with kept_memory(args) as (memory, files):
        days, truth = open_input(args, summary, memory.last, files)
        days = days_over(days) if args.state else days
        say(f"input {report.some(args.input)}" if args.input else
            f"input: the synthetic month, scale {args.synthetic_scale:g}, seed {args.seed} (no --input given)")
        if args.labels:
            say(f"labels: {len(truth.code):,} blocks, {len(truth.names) - 1} classes"
                + "".join(f", {n:,} {what}" for what, n in truth.counts.most_common()))
        say(settings_line(args))
        if memory.last:
            say(f"going on after {memory.last}, day {memory.t}, from {args.state}")
            if shard.rank() == 0:
                report.remove_earlier(args.out, memory.last)
        days = prepare(days, truth, args, warn)
        days = ahead(days, args.device) if may_read_ahead(args) else days
        save = functools.partial(save_state, args, summary) if args.state else None
        try:
            with contextlib.closing(days):                  # ends the thread of `ahead`, however the run ends
                rows, runs, n_hosts = follow(days, truth, args, say, functools.partial(days_expected, summary),
                                             memory, save)
        except NothingNew as error:
            if not memory.last:
                raise ValueError(f"{error}{report.what_came(summary) if summary else ''}") from None
            write_hosts(args, memory)
            raise ValueError(f"nothing new: no whole day of traffic after {memory.last}, the last one in "
                             f"{args.state}") from None
        if args.state:
            write_hosts(args, memory)
    if summary and shard.size() > 1:
        summary = packets.merged(shard.all_objects(summary))
    hosts = f"{n_hosts:,} hosts{' remembered' * bool(args.state)}"
    say(report.read_line(summary, hosts) if summary else
        f"made {sum(row['packets'] for row in rows):,} packets, {len(rows)} days, {hosts}")
    for line in summary.notes if summary else ():
        warn(line)
    if shard.rank() == 0:
        finish(args, truth, rows, runs, summary, time.perf_counter() - began)
    shard.stop()


def main(argv=None):
    """The command; returns its exit code: 0, 2 with one line of error, 130 when interrupted."""
    try:
        with contextlib.ExitStack() as others:              # where all ranks say the same, the first one does
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr) if shard.rank() else ():
                others.enter_context(redirect(io.StringIO()))
            args = parse_arguments(argv)
    except SystemExit:
        time.sleep(FIRST_SPEAKS * (shard.rank() > 0))
        raise
    summary = new_summary(args)                             # said also of a run that fails

    def say(line):
        if not args.quiet and shard.rank() == 0:
            print(line, flush=True)

    try:
        run(args, summary, say)
    except (ValueError, OSError) as error:
        if summary and summary.files:
            with contextlib.suppress(OSError):              # which the error may be: nobody listens any more
                say(report.read_line(summary))
            for line in summary.notes:
                warn(line)
        return fail(error)
    except (MemoryError, RuntimeError) as error:            # PyTorch's lack of memory is a RuntimeError
        if lacks_memory(error):
            return fail("not enough memory: expected smaller widths, fewer --runs or less traffic a day")
        if shard.size() == 1 or not shard.lost(error):
            raise
        return fail("another process of this run has ended")
    except KeyboardInterrupt:
        print("darkgnn: interrupted", file=sys.stderr)
        return 130
    return 0


def lacks_memory(error):
    """Whether a MemoryError or a RuntimeError of PyTorch says that memory does not suffice."""
    return isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, str(error))


def warn(line):
    if shard.rank() == 0:
        print(f"darkgnn: note: {line}", file=sys.stderr, flush=True)


def fail(error):
    """Say in one line what ended the run; the exit code."""
    time.sleep(FIRST_SPEAKS * (shard.rank() > 0))
    line = " ".join(str(error).splitlines())                # a file's name may hold anything
    print(f"darkgnn: {f'rank {shard.rank()}: ' * (shard.size() > 1)}error: {line}", file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")            # class names come from files, the terminal may be ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    sys.exit(main())
