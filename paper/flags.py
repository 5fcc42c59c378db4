"""The flags of a run: read, checked, and told under the table that they made.

`args` is everywhere the namespace of darkgnn.parse_arguments. Imports darkgnn, report and paper.experiments.
"""

import contextlib
import io
import textwrap

import darkgnn
from paper import experiments
from report import words


def parse(flags):
    """The namespace of darkgnn.py's flags, a list of text. Raises ValueError, one line, for what it refuses."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            return darkgnn.parse_arguments(flags)
    except SystemExit:
        raise ValueError(complaint.getvalue().strip().splitlines()[-1].removeprefix("darkgnn: error: ")) from None


def plan(names, given):
    """(args, {experiment: [args of each of its cells]}) for the experiments `names` with the user's flags `given`.

    Raises ValueError, one line, for flags that darkgnn.py refuses, that an experiment sets itself, or with which its
    cells would not have the same test days.
    """
    args = parse(given)
    if args.state:
        raise ValueError("--state goes with darkgnn.py: every cell starts anew")
    for name in names:
        _refuse_own_flags(name, given)
    planned = {name: [parse([*given, *flags]) for flags in experiments.flags_of(name)] for name in names}
    for name, cells in planned.items():
        if len({darkgnn.first_test(cell) for cell in cells}) > 1:
            longest = max(cell.history for cell in cells)
            raise ValueError(f"{name} compares histories up to {longest} on the same test days: expected --train-days "
                             f"{longest} or more, got {args.train_days}")
    return args, planned


def _refuse_own_flags(name, given):
    """Raise ValueError for a flag among `given`, perhaps abbreviated, that the experiment sets itself."""
    own = [flag for flags in experiments.flags_of(name) for flag in flags if flag.startswith("--")]
    for flag in dict.fromkeys(own):
        for token in given:
            if token.startswith("--") and flag.startswith(token.split("=")[0]):
                raise ValueError(f"{name} sets {flag} itself: expected none, got {token}")


def data_line(args, most=3):
    """The input in words; of many files the first `most`, of None all."""
    if args.input:
        return f"input {words.some(args.input, most)}"
    return f"synthetic month, scale {args.synthetic_scale:g}, seed {args.seed}: made-up traffic"


def flags_line(args, only=None):
    """The flags that differ from darkgnn.py's defaults for this model, as one types them; "" for none.

    `data_line` tells the input, and the scale and seed of the synthetic month: they are not told again. Nor are files,
    but a GPU is, even where it is the default: it rounds otherwise. only: the names of the settings to tell.
    """
    default = vars(parse(["--model", args.model, "--device", "cpu"]))
    untold = {"input", "labels", "out", "quiet", "synthetic_scale"}
    if args.input is None:
        untold.add("seed")
    told = []
    for name, value in vars(args).items():
        if name in untold or value == default[name] or (only is not None and name not in only):
            continue
        told.append(f"--{name.replace('_', '-')}")
        if value is not True:
            told.append(str(value))
    return " ".join(told)


def made_from(args):
    """The input, flags and seeds, for the JSON file of a table or of a curve."""
    return {"data": data_line(args, most=None), "flags": flags_line(args),
            "seeds": list(range(args.seed, args.seed + args.runs))}


def notes(args):
    """The same in lines of at most 80 characters under a table; only a file's name may be longer."""
    line = f"{data_line(args)}; {flags_line(args) or 'no other flags'}."
    return textwrap.wrap(line, 80, break_on_hyphens=False, break_long_words=False)
