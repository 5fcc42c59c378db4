#!/usr/bin/env python3
"""Host embeddings for darknet traffic with temporal graph neural networks, from packets to a classification report.

    traces -> graph, features, labels -> training (models) -> embeddings -> nearest neighbours (knn) -> report

Gioacchini, Cavallo, Mellia, Vassio: Exploring Temporal GNN Embeddings for Darknet Traffic Analysis, GNNet 2023.
MODELS says what each model is, `follow` is the loop over the days. Run `python darkgnn.py --help`.
"""

import argparse
import contextlib
import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

# Idle OpenMP threads spin for microseconds, not milliseconds: on a busy machine that makes all several times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
gc.disable()  # while modules are imported, all of which stay: to look for garbage among them is an eighth of that time

import torch

import fast
import features
import knn
import scale
import training
from baselines import days as darkvec
from beyond import campaigns, fixed_gcn, views
from command import flags, speak
from daily import hosts as host_table
from daily import memory, outputs, state
from fast import precision
from report import files, result, scores, words
from traces import days as traces
from traces import inputs, packets

gc.freeze()  # nor is it looked for there later
gc.enable()

IN_STATE = (  # the settings that a state goes with
    "model", "no_node_features", "steady", "history", "hidden_width", "gcn_width", "embedding_width", "head_width",
    "train_days", "epochs", "negatives", "learning_rate", "weight_decay", "top_ports", "min_packets", "seed", "device",
    "precision", "campaigns", "campaign_size", "campaign_memory")


class Forms(NamedTuple):
    """How the numbers are computed: as the flat files do (--plain), or the same with less work."""
    network: type           # training.Network
    optimizer: type         # torch.optim.Adam
    nearest: Callable       # knn.nearest
    node_features: Callable  # features.node_features
    spanning_tree: Callable  # campaigns.spanning_tree


PLAIN = Forms(training.Network, torch.optim.Adam, knn.nearest, features.node_features, campaigns.spanning_tree)
FAST = Forms(fast.Network, fast.Adam, fast.nearest, fast.node_features, fast.spanning_tree)


# -- the models: how each learns from a day, how it embeds it ----------------------------------------------------------

class Today(NamedTuple):
    """What a model needs to know of the run on one of its days."""
    day: traces.Day
    number: int       # of the day, counted from 1
    args: argparse.Namespace
    seed: int
    way: object       # fast.alone, or its equal of several processes
    say: Callable     # a line of output


def learn_nothing(progress, today):
    """features: there is nothing to learn. fixed-gcn: the weights stay as they were drawn."""


def learn_static(progress, today):
    """gcn: a fresh model on every test day."""
    take(progress, today)
    if today.number > today.args.train_days:
        fresh = partial(new_learner, today.args, today.seed, today.way)
        return training.static(progress, fresh, today.args.epochs, today.args.negatives)


def learn_frozen(progress, today):
    """gcn-gru: on the last training day from all windows until then."""
    args = today.args
    if today.number > args.train_days:
        return take(progress, today)
    take(progress, today, keep=today.number)
    if today.number == args.train_days:
        learned = training.frozen(progress, args.epochs, args.negatives, partial(say_epoch, today))
        if learned is None:
            raise ValueError(f"{today.day.date}: gcn-gru learned nothing: no negative edges can be drawn on the "
                             "training days, every host contacts every port")
        return learned


def learn_incremental(progress, today):
    """i-gcn, i-gcn-gru: every day goes on from yesterday's weights."""
    take(progress, today)
    return training.incremental(progress, today.args.epochs, today.args.negatives)


def learn_words(progress, today):
    """i-darkvec: a pass over the day's senders, port after port."""
    return darkvec.learn(progress, today.day.graph, today.day.sequence, today.day.date.toordinal(), today.args.epochs)


def take(progress, today, keep=None):
    """The day enters the model's windows; steady behaviour compares with the day before it too."""
    keep = keep or today.args.history + (2 if today.args.steady else 1)
    day = progress.learner.network.snapshot(today.day.graph, today.day.x)
    training.take(progress, day, today.day.date.toordinal(), keep)


def say_epoch(today, epoch, loss, accuracy):
    """A line of output after an epoch of many."""
    today.say(f"{'epoch':>10} {epoch:8}/{today.args.epochs:<23} {loss:.4f} {accuracy:.3f}")


def embed_features(progress, today):
    """features: the hosts' own."""
    return torch.from_numpy(today.day.x[: len(today.day.graph.hosts)]).to(today.args.device)


def embed_trained(progress, today):
    """The graph models: today's window by the weights as they are now; None while nothing was learned."""
    return training.embed_day(progress)


def embed_fixed(progress, today):
    """fixed-gcn: today's graph by weights that never change (beyond the paper)."""
    weights = fixed_gcn.draw_weights(today.seed, today.args.device)
    A_hat = today.way.propagation(today.day.graph, today.args.device)
    z = fixed_gcn.embed(weights, A_hat, torch.from_numpy(today.day.x).to(today.args.device))
    return z[: len(today.day.graph.hosts)]


def embed_words(progress, today):
    """i-darkvec: the words' vectors."""
    return darkvec.embed(progress, today.day.graph.hosts)


def steady_features(view, z, progress, today):
    """features: each host's mean is remembered."""
    return views.of_features(view, today.way.standardize(z), *steady_day(today))


def steady_remembered(view, z, progress, today):
    """fixed-gcn, i-darkvec: embeddings of different days share their axes."""
    return views.of_steady_axes(view, today.way.standardize(z), steady_x(today), *steady_day(today))


def steady_pairs(view, z, progress, today):
    """The trained graph models: earlier days are embedded once more by today's weights."""
    standardize, past = today.way.standardize, progress.past
    if z is None:
        return None, views.only_features(view, steady_x(today), *steady_day(today))
    days = [(standardize(z), past[-1].graph.hosts)]
    for ago in range(1, len(past) - progress.history):      # yesterday; of gcn-gru on day M all days before
        days.append((standardize(training.embed_day(progress, ago)), past[-1 - ago].graph.hosts))
    pairs = [(*later, *earlier) for later, earlier in itertools.pairwise(days)]
    return views.of_moving_axes(view, days[0][0], pairs, steady_x(today), *steady_day(today),
                                keep=MODELS[today.args.model].trained == "once")


def steady_x(today):
    """The day's standardized features (n_hosts, 37), with which a graph model's view is joined; None without."""
    return None if today.day.x is None else today.way.standardize(embed_features(None, today))


def steady_day(today):
    """What all functions of beyond.views want to know of the day."""
    return today.day.graph.hosts, today.day.date.toordinal(), today.args.steady, today.way.total


class Model(NamedTuple):
    """What a model is."""
    learn: Callable       # (progress, today) -> (2,) loss and accuracy of the pretext task, or None
    embed: Callable       # (progress, today) -> (n_hosts, E), or None while nothing was learned
    steady: Callable      # (view, z, progress, today) -> (views.Embedded or None, view), with --steady
    epochs: tuple         # a day by default, or at most: with and without node features
    network: str | None   # what is trained: "static" or "recurrent" GCN, "words", or None
    trained: str | None   # "daily": one model goes on every day; "anew": a model a day; "once": then frozen
    reads: str = "features"  # "features", or "sequence": the order in which packets came
    steady_only: bool = False  # whether it is made for --steady


MODELS = {
    "gcn": Model(learn_static, embed_trained, steady_pairs, (50, 50), "static", "anew"),
    "i-gcn": Model(learn_incremental, embed_trained, steady_pairs, (1, 5), "static", "daily"),
    "gcn-gru": Model(learn_frozen, embed_trained, steady_pairs, (50, 50), "recurrent", "once"),
    "i-gcn-gru": Model(learn_incremental, embed_trained, steady_pairs, (1, 5), "recurrent", "daily"),
    "fixed-gcn": Model(learn_nothing, embed_fixed, steady_remembered, (0, 0), None, None, steady_only=True),
    "i-darkvec": Model(learn_words, embed_words, steady_remembered, (1, 1), "words", "daily", "sequence"),
    "features": Model(learn_nothing, embed_features, steady_features, (0, 0), None, None),
}


# -- the days, one after the other ------------------------------------------------------------------------------------

def follow(days, truth, args, way, past, say, warn, expected, save=None):
    """Learn, embed, score and write day by day, as the days come; past, a memory.Memory, takes them in.

    days: an iterator of traces.Day; expected(): how many there will be, as far as is known, or None; save(past) is
    called after each day of a run with a state. Returns (rows, runs): a dict per day as report.json lists it, and per
    run the scores.Scored of every test day.
    """
    rows, runs, start = [], [[] for _ in past.models], time.perf_counter()
    forms = forms_of(args)
    with outputs.Outputs(args, way, past, truth, forms.nearest, forms.spanning_tree) as files_of_days:
        for day in days:                                    # traces -> graph, features, labels
            if not rows:
                say(words.HEADER)
            past.day, past.last = past.day + 1, day.date
            learned, found = learn_and_embed(day, args, way, past, say)
            scored = [scores.score_day(one.hosts, one.labels, one.similarity, one.neighbours, len(truth.names))
                      for one in found]
            row, lines = files_of_days.take(day, learned, found, scored)
            if past.day >= first_test(args) and not found:
                when = "today" if MODELS[args.model].trained == "anew" else "so far"
                warn(f"{day.date}: nothing learned {when}, every host contacted every port: not embedded")
            if save:
                memory.forget(past, day.date.toordinal() - args.forget_days)
                save(past)
            rows.append(row)
            for of_run, one in zip(runs, scored):           # kept to the end without their columns of all hosts
                of_run.append(one._replace(predicted=None, share=None, nearest=None))
            end = time.perf_counter()
            row["seconds"], start = round(end - start, 3), end
            for line in words.day_line(row, words.time_left(rows, expected())), *lines:
                say(line)
    return rows, runs


def learn_and_embed(day, args, way, past, say):
    """The models of all seeds learn from the day and embed it: (what each learned, the fast.alone.Found of each).

    Nothing is found on days before the first test day, and while nothing was learned.
    """
    model, learned, found = MODELS[args.model], [], []
    for i, progress in enumerate(past.models):
        today = Today(day, past.day, args, args.seed + i, way, say)
        with precision.matmul_precision(args.precision, args.device):
            learned.append(model.learn(progress, today))
            embedded, past.views[i] = embed(model, past.views[i], progress, today)
        if embedded and past.day >= first_test(args):
            found.append(way.search(forms_of(args).nearest, day, embedded, args.neighbors))
    return learned, found


def embed(model, view, progress, today):
    """(views.Embedded, view) of the day; None in its place while nothing was learned, or where nobody needs it."""
    steady = today.args.steady not in (None, "rank")        # which remembers every day
    z = model.embed(progress, today) if steady or today.number >= first_test(today.args) else None
    result.check_finite(today.day.date, z)
    if steady:
        return model.steady(view, z, progress, today)
    return None if z is None else views.standardized(z, today.way.standardize), view


def first_test(args):
    """The number of the first test day, counted from 1."""
    return max(args.train_days, args.history) + 1


def new_learner(args, seed, way):
    """The model of `seed` before its first day; None for one that learns nothing."""
    model, forms = MODELS[args.model], forms_of(args)
    if model.network is None:
        return None
    if model.network == "words":
        return darkvec.new_learner(seed, args.device, args.embedding_width)
    n_features = None if args.no_node_features else features.N_FEATURES
    make = partial(forms.network, model.network == "recurrent", n_features, args.hidden_width, args.gcn_width,
                   args.embedding_width, args.head_width)
    learner = training.new_learner(seed, args.device, make, forms.optimizer, args.learning_rate, args.weight_decay)
    learner.network.embedder.low_memory = args.low_memory
    return way.own_stream(learner)


def forms_of(args):
    """How the numbers are computed."""
    if args.plain:
        return PLAIN
    return FAST if scale.started() == 1 else FAST._replace(network=scale.Network, optimizer=scale.Adam)


@contextlib.contextmanager
def kept(args, way):
    """(the Memory to go on with, files read before) while the state is held for this run; new ones without a state."""
    keeper = args.state if way.writes else None             # one process locks, reads and writes the state
    with state.locked(keeper) if keeper else contextlib.nullcontext():
        saved = state.load(keeper) if keeper else None
        if saved:
            state.check_settings(args.state, saved["settings"], settings_of(args))
        saved = way.handed_out(saved) if args.state else None
        if saved:
            past = memory.unpacked(saved, new_learner(args, args.seed, way), args.history, args.device)
            yield past, {tuple(identity): last for *identity, last in saved["files"]}
        else:
            seeds = range(args.seed, args.seed + args.runs)
            yield memory.Memory(
                models=[training.Progress(new_learner(args, seed, way), args.history) for seed in seeds],
                views=[views.View() for _ in seeds]), {}


def save_state(args, way, summary, past):
    """Replace the state by this memory and the files that all processes have read so far."""
    read = way.merged(summary).finished if summary else {}
    whole = way.gathered(memory.packed(past, settings_of(args), read))
    if way.writes:
        state.save(args.state, whole)


def settings_of(args):
    """The settings that a state goes with."""
    return {name: getattr(args, name) for name in IN_STATE}


def run(args, say, warn, summary=None):
    """The command's days, from packets to report.json; returns the report's lines, in the process that writes.

    say(line) takes what there is to say on the way, warn(line) what the user should know; summary, a packets.Summary,
    will say what was read. Raises ValueError, one line, for what cannot be run.
    """
    began, way = time.perf_counter(), scale.way(args.device)
    args.precision, note = precision.chosen(args.precision, args.device)
    if note:
        warn(note)
    summary = (summary or packets.Summary()) if args.input else None
    if way.writes:
        files.check_folder(args.out, daily=bool(args.state))
    with kept(args, way) as (past, read_before):
        days, truth = inputs.read(args, summary, way, past.last, read_before)
        for line in result.opening(args, truth):
            say(line)
        if past.last:
            say(f"going on after {past.last}, day {past.day}, from {args.state}")
            if way.writes:
                files.remove_earlier(args.out, past.last)
        days = inputs.over(days, way, warn) if args.state else days
        days = traces.prepare(days, truth, counting(args, way), way.by_rank if args.steady else way.by_maximum, warn,
                              args.min_packets, args.mirai)
        if not args.state and inputs.may_read_ahead(args.input or ()) and way.may_read_ahead:
            days = traces.ahead(days, args.device)
        save = partial(save_state, args, way, summary) if args.state else None
        with contextlib.closing(days):                      # ends the thread of `ahead`, however the run ends
            rows, runs = follow(days, truth, args, way, past, say, warn, partial(inputs.expected_days, summary), save)
        if not past.last:
            raise ValueError(result.nothing_came(args, summary))
        if rows:
            result.check_days(rows, args, first_test(args))
        if args.state and way.writes:
            host_table.write_hosts(args.out / "hosts.csv", past.hosts, past.names)
    summary = way.merged(summary) if summary else None
    if way.writes and past.shown and not args.no_page:
        result.write_page(args, summary, past)
    for line in result.closing(args, rows, past, summary):
        say(line)
    for line in summary.notes if summary else ():
        warn(line)
    if not rows:
        return [f"nothing new: no whole day of traffic after {past.last}, the last one in {args.state}"]
    if way.writes:
        timings = {"total_seconds": round(time.perf_counter() - began, 3), "threads": torch.get_num_threads(),
                   "ranks": scale.started()}
        return result.finish(args, truth, rows, runs, summary, timings, first_test(args))
    return []


def counting(args, way):
    """count(packets) -> traces.Counted, of what the model reads."""
    model = MODELS[args.model]
    with_features = model.reads == "features" and not args.no_node_features
    return partial(way.count_day, min_packets=args.min_packets, top_ports=args.top_ports,
                   node_features=forms_of(args).node_features if with_features else None,
                   mirai_packets=args.mirai_packets if args.mirai else 0, sequence=model.reads == "sequence")


def parse_arguments(argv):
    """The command line as a namespace; exits with 2 and one line for flags that make no sense."""
    return flags.parse(argv, MODELS, __doc__.split("\n\n")[0])


def main(argv=None):
    """The command; returns its exit code: 0, 2 with one line of error, 130 when interrupted."""
    with speak.first_only():
        args = parse_arguments(argv)
    say, summary = speak.say_nothing if args.quiet else speak.say, packets.Summary()
    try:
        for line in run(args, say, speak.warn, summary):
            speak.say(line)
        scale.stop()
    except (ValueError, OSError) as error:
        speak.what_was_read(summary, say)
        return speak.fail(error)
    except (MemoryError, RuntimeError) as error:            # PyTorch's lack of memory is a RuntimeError
        line = speak.meaning(error)
        if line is None:
            raise
        return speak.fail(line)
    except KeyboardInterrupt:
        print("darkgnn: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")            # class names come from files, the terminal may be ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    scale.leave(main())
