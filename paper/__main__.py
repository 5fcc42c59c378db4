"""The paper's tables and figures on any trace, on the synthetic month without one: one command each.

    table2      hosts, ports and packets of every class, in all and a day (paper, Table 2)
    table3      F1 of every class: four graph models with and without node features, two baselines (paper, Table 3)
    figure4a    macro F1 of i-gcn-gru for histories H = 0..8; H = 0 is i-gcn, as in the paper
    figure4b    macro F1 of i-gcn-gru for 1..30 epochs a day
    beyond      macro F1 and subnet agreement of six models with the parts of --steady, which the paper does not have
    figures     pictures: map of a day's embeddings, class x port heat map, activity of hosts, F1 by day
    all         all of these

Usage: python -m paper EXPERIMENT [flags of darkgnn.py]. Tables and figures appear under --out. The runs that they
compare are kept in OUT/cells: the same command again makes only those that lack, or whose input, settings or code have
changed. The paper's figures stand beside ours, labelled: they are of its own data, to which no other compares.
Pictures need matplotlib; without it everything else is written.
"""

import argparse
import os
import signal
import sys

from command import speak
from paper import experiments, figures, pictures, tables
from paper.cells import identity, run_cells
from paper.flags import data_line, plan
from paper.traffic import traffic


def main(argv=None):
    """The command; returns its exit code: 0, 2 with one line of error, 130 when interrupted."""
    with speak.first_only():                                # of several processes, all of which are refused
        names, given = parse_command(argv)
    told = set()

    def say(line):
        print(line, flush=True)

    def warn(line):
        if line not in told:                                # every cell reads the same days
            print(f"paper: note: {line}", file=sys.stderr, flush=True)
        told.add(line)

    try:
        args, planned = plan(names, given)
        identity([*(args.input or []), *(args.labels or [])])
        (args.out / "cells").mkdir(parents=True, exist_ok=True)
        for name in names:
            say(f"{name}: {data_line(args)}")
            say("\n".join(run_experiment(name, args, planned[name], say, warn)))
        if {"figure4a", "figure4b", "figures"} & set(names) and not pictures.available():
            say("numbers only, no pictures: they need matplotlib (pip install matplotlib), then the same command")
    except (ValueError, OSError) as error:
        return fail(" ".join(str(error).splitlines()))      # a file's name may hold anything
    except (MemoryError, RuntimeError) as error:            # PyTorch's lack of memory is a RuntimeError
        if not speak.lacks_memory(error):
            raise
        return fail("not enough memory: expected smaller widths, fewer --runs or less traffic a day; finished cells "
                    "are kept")
    except KeyboardInterrupt:
        print("paper: interrupted; finished cells are kept", file=sys.stderr)
        return 130
    return 0


def parse_command(argv):
    """([experiment], flags for darkgnn.py). Exits with 2 and one line for no experiment, and under torchrun."""
    description = __doc__.split("Usage:")[0]
    parser = argparse.ArgumentParser(
        prog="python -m paper", usage="python -m paper EXPERIMENT [flags of darkgnn.py]", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="All flags of darkgnn.py may follow; see darkgnn.py --help.")
    parser.error = lambda line: parser.exit(2, f"paper: error: {line}\n")
    parser.add_argument("experiment", choices=(*experiments.NAMES, "all"), metavar="EXPERIMENT")
    options, given = parser.parse_known_args(argv)
    if (processes := int(os.environ.get("WORLD_SIZE") or 1)) > 1:
        parser.error(f"the tables and figures are made in one process, got {processes} from torchrun: torchrun goes "
                     "with darkgnn.py")
    return list(experiments.NAMES) if options.experiment == "all" else [options.experiment], given


def run_experiment(name, args, planned, say, warn):
    """Run the cells of an experiment, the args `planned`, and write its files: the text to print, in lines."""
    if name == "table2":
        return tables.table2(args, traffic(args, say, warn))
    if name == "figures":
        found = traffic(args, say, warn)
        [cell] = run_cells(name, planned, say, warn)
        return figures.figures(args, found, cell, warn)
    reports = run_cells(name, planned, say, warn)
    if name == "table3":
        return tables.table3(args, reports)
    if name == "beyond":
        return tables.beyond(args, reports)
    curve = experiments.FIGURE_4A if name == "figure4a" else experiments.FIGURE_4B
    return figures.figure4(args, curve, reports)


def fail(line):
    print(f"paper: error: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")            # class names come from files, the terminal may be ASCII
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    sys.exit(main())
