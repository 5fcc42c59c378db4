"""The flags of the command, and which of them go together. Imports beyond.views, scale and traces for their names."""

import argparse
from pathlib import Path

import torch

import scale
from beyond import views
from traces import packets, synthetic

SWITCH = {"action": "store_true", "default": argparse.SUPPRESS}
NOT_GIVEN = {  # the flags of which --help tells no default
    **dict.fromkeys(("input", "labels", "year", "steady", "epochs", "state", "forget_days", "campaigns")),
    **dict.fromkeys(("mirai", "no_tunnels", "strict", "no_node_features", "plain", "low_memory", "no_page", "quiet"),
                    False)}


def argument_parser(models, about):
    """Every flag of the command, by groups; about: its first line. Those not given and in NOT_GIVEN are left out."""
    parser = argparse.ArgumentParser(
        prog="darkgnn.py", description=about,
        formatter_class=lambda prog: argparse.ArgumentDefaultsHelpFormatter(prog, width=100, max_help_position=30))
    group = parser.add_argument_group("input")
    add = group.add_argument
    add("--input", nargs="+", metavar="PATH", help="traces: files, folders or - for standard input; without it the "
        "synthetic month is used", default=argparse.SUPPRESS)
    add("--labels", nargs="+", metavar="FILE", help="ground truth, earlier files win: CSV src_ip,label with addresses "
        "or CIDR blocks, or plain lists named after their class", default=argparse.SUPPRESS)
    add("--mirai", **SWITCH, help="label Mirai-like, or as --labels calls that class, a host "
        "that no list names and that sends packets whose TCP sequence number is the destination address")
    add("--mirai-packets", type=positive, default=1, metavar="N", help="such packets a day that make a host Mirai-like")
    add("--year", type=year, help="year of the first line of a log whose lines carry none", default=argparse.SUPPRESS)
    add("--no-tunnels", **SWITCH, help="skip packets that came through a tunnel (GRE, VXLAN, ...) instead "
        "of reading the packet inside")
    add("--strict", **SWITCH, help="stop at the first broken record instead of counting it")
    add("--synthetic-scale", type=positive_float, default=synthetic.DEFAULT_SCALE, metavar="S",
        help="size of the synthetic month; 1 is the paper's")

    add = parser.add_argument_group("graph").add_argument
    add("--top-ports", type=positive, default=2500, metavar="N", help="busiest ports that are nodes of their own")
    add("--min-packets", type=positive, default=5, metavar="N", help="packets a day below which a host is dropped")

    add = parser.add_argument_group("model").add_argument
    add("--model", choices=tuple(models), default="i-gcn-gru", help="what embeds the hosts; i-darkvec: the paper's "
        "baseline; features: no model, the 37 features themselves; fixed-gcn: beyond the paper, a GCN that is never "
        "trained, implies --steady")
    add("--no-node-features", **SWITCH, help="graph only: identity instead of the 37 features")
    add("--steady", nargs="?", const="memory", choices=tuple(views.PARTS), metavar="PARTS", help="beyond the paper: "
        "each host as the mean of its own days, along the axes in which hosts differ from each other more than from "
        "themselves; without PARTS all of it, else up to one of " + ", ".join(views.PARTS), default=argparse.SUPPRESS)
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

    add = parser.add_argument_group("campaigns").add_argument
    add("--campaigns", **SWITCH, help="beyond the paper: each day's hosts in groups that act alike, by density, "
        "with numbers that they keep from day to day")
    add("--campaign-size", type=group_size, default=5, metavar="N", help="hosts of the smallest campaign")
    add("--campaign-memory", type=positive, default=7, metavar="N", help="days after which a campaign that is gone is "
        "forgotten")

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
    add("--plain", **SWITCH, help="compute as the flat files do, equation by equation, instead of the same "
        "with less work")
    add("--low-memory", **SWITCH, help="compute a day's activations twice instead of keeping them")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for embeddings, predictions, report")
    add("--no-page", **SWITCH, help="do not write report.html, the page to look at")
    add("--quiet", **SWITCH, help="print the report only")

    return parser


def parse(argv, models, about):
    """The command line as a namespace, with the defaults that depend on other flags; exits with 2 and one line.

    models: {name: Model} of darkgnn.py.
    """
    parser = argument_parser(models, about)
    parser.error = lambda line: parser.exit(2, f"darkgnn: error: {line}\n")
    args = parser.parse_args(argv, argparse.Namespace(**NOT_GIVEN))
    check_flags(args, models, parser.error)
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models[args.model]
    if args.epochs is None:
        args.epochs = model.epochs[args.no_node_features]
    if model.network != "recurrent":
        args.history = 0
    if model.reads == "sequence":                           # skip-gram: knows neither features nor a graph
        args.no_node_features = True
    if model.steady_only:
        args.steady = args.steady or "memory"
    args.forget_days = args.forget_days or 31
    if not args.campaigns:
        args.campaign_size = args.campaign_memory = None
    if args.state and args.state.is_symlink():              # the file itself is locked and replaced
        args.state = args.state.resolve()
    return args


def check_flags(args, models, error):
    """Call `error` with one line for flags that do not go together."""
    model = models[args.model]
    of_input = args.labels, args.year is not None, args.mirai, args.strict, args.no_tunnels
    if args.input is None and any(of_input):
        error("--labels, --mirai, --year, --strict and --no-tunnels go with --input: the synthetic month has its own "
              "labels")
    if args.mirai_packets > 1 and not args.mirai:
        error("--mirai-packets goes with --mirai")
    for folder in args.input or ():
        for flag, path in (("--out", args.out), ("--state", args.state)):
            if folder != "-" and path and path.resolve().is_relative_to(Path(folder).resolve()):
                error(f"{flag} {path} lies inside --input {folder}: expected a place elsewhere")
    if args.seed + args.runs > 1 << 32:                     # PyTorch's CPU generator takes no more bits of a seed
        error(f"--seed and --runs: expected seeds below 2^32, got {args.runs} from {args.seed} on")
    if model.trained == "once" and args.train_days <= args.history:
        error(f"{args.model} trains on windows of --history + 1 days within --train-days: expected --train-days > "
              f"{args.history}, got {args.train_days}")
    if model.trained is None and args.no_node_features:
        error(f"--model {args.model} is made of the node features: it does not go with --no-node-features")
    if model.trained == "anew" and args.no_node_features and args.steady:
        error(f"--steady embeds yesterday once more: without node features {args.model} has rows for today's nodes "
              "only")
    if args.state and args.runs > 1:
        error(f"--state keeps one model: expected --runs 1, got {args.runs}")
    if args.forget_days and not args.state:
        error("--forget-days goes with --state")
    if args.device == "cuda" and not torch.cuda.is_available():
        error("--device cuda: no CUDA device is available to this PyTorch")
    for flag, given in ((f"--model {args.model}", model.reads == "sequence"),
                        ("--no-node-features", args.no_node_features), ("--plain", args.plain),
                        ("--campaigns", args.campaigns)):
        if given and scale.started() > 1:
            error(f"{flag} runs in one process, got {scale.started()} from torchrun")


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
group_size = number(int, lambda n: n > 1, "a whole number, 2 or more")
positive_float = number(float, lambda x: x > 0, "a positive number")
non_negative_float = number(float, lambda x: x >= 0, "a number, 0 or more")
