"""Pictures as PNG and SVG, of the numbers that paper/figures.py found. Needs matplotlib, and only this file does.

Each function draws one picture under --out; see there for the arrays. Imports report and paper.
"""

import contextlib
import textwrap

import numpy as np

from paper.flags import data_line, flags_line
from paper.rows import short
from report import files

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito
MARKERS = (*"osD^vPX<>*hpd", (4, 1, 0))
ENDINGS = (("png", {}), ("svg", {"Date": None}))  # and metadata: without a date the same picture has the same bytes
PANELS = 5  # classes side by side in the picture of activity
DATES = 16  # test days up to which the picture of F1 writes every number


def available():
    """Whether there is matplotlib to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def picture(stem, width, height):
    """A figure of so many inches to draw on; when the block ends it is saved as stem.png and stem.svg."""
    import matplotlib
    from matplotlib.figure import Figure
    with matplotlib.rc_context({"svg.hashsalt": "darkgnn", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((width, height), layout="constrained")
        yield figure
        for ending, metadata in ENDINGS:
            with files.whole_file(f"{stem}.{ending}", "wb") as file:
                figure.savefig(file, format=ending, dpi=150, metadata=metadata)
            figure.set_layout_engine("none")                # the layout takes most of the time: once is enough


def draw_curve(args, curve, points):
    """Macro F1 at each point, with a band of one standard deviation over the test days, and the paper's."""
    xs = [point[curve.quantity] for point in points]
    mean, std = (np.array([point["macro_f1"][moment] for point in points]) for moment in ("mean", "std"))
    with picture(args.out / curve.name, 6, 4.5) as figure:
        axes = figure.add_subplot()
        axes.fill_between(xs, mean - std, mean + std, color=PALETTE[0], alpha=0.2, linewidth=0,
                          label="± one standard deviation over the test days")
        axes.plot(xs, mean, "o-", color=PALETTE[0], label="this data")
        axes.plot(xs, [point["paper_macro_f1"] for point in points], "s--", color="0.4", markersize=4, linewidth=1,
                  label="the paper's, on its own data")
        axes.set(xticks=xs, xlabel=curve.axis, ylabel="macro F1")
        axes.grid(alpha=0.3)
        axes.set_title(title(args), fontsize=9, loc="left")
        figure.legend(loc="outside lower center", fontsize=8)


def draw_map(args, cell, found, codes, xy, share, code):
    """The hosts of the last test day, Unknown ones in grey; the axes hold the middle 98 % of either coordinate."""
    low, high = np.quantile(xy, (0.01, 0.99), axis=0)
    low, high = low - 0.05 * (high - low) - 1e-6, high + 0.05 * (high - low) + 1e-6
    outside = ((xy < low) | (xy > high)).any(1).sum()
    with picture(args.out / "map", 8, 5.5) as figure:
        axes = figure.add_subplot()
        axes.scatter(*xy[code == 0].T, s=6, color="0.75", linewidth=0, rasterized=True,
                     label=f"Unknown ({(code == 0).sum():,})")
        for i, c in enumerate(codes):
            if (code == c).any():
                axes.scatter(*xy[code == c].T, s=34, color=PALETTE[i % len(PALETTE)], marker=MARKERS[i], alpha=0.75,
                             edgecolor="white", linewidth=0.4, rasterized=True,
                             label=f"{short(found.names[c])} ({(code == c).sum():,})")
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]),
                 xlabel=f"first principal axis ({share[0]:.0%} of the variance)",
                 ylabel=f"second principal axis ({share[1]:.0%})")
        axes.set_title(f"model {args.model}, embeddings of {cell['test_days'][-1]}; {outside:,} of {len(xy):,} hosts "
                       f"lie outside\n{title(args)}", fontsize=9, loc="left")
        figure.legend(loc="outside right upper", fontsize=8, title="hosts")


def draw_ports(args, found, codes, packets, ports):
    """Heat map of the packets by class and port, on a log scale."""
    names = [short(found.names[c]) for c in (*codes, 0)]
    with picture(args.out / "ports", 10, 2 + 0.25 * len(names)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(np.where(packets > 0, packets, np.nan), norm="log", cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(ports)), ports, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_xlabel(f"destination port: the {len(ports)} with the largest shares of the classes' packets")
        axes.set_title(title(args), fontsize=9, loc="left")
        figure.colorbar(image, label=f"packets in {len(found.dates)} days (white: none)")


def draw_activity(args, found, panels):
    """One panel a class: its hosts, by their first day, against the days."""
    dates = found.dates
    n_rows, n_columns = -(-len(panels) // PANELS), min(PANELS, len(panels))
    with picture(args.out / "activity", 11, 1 + 2 * n_rows) as figure:
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
        for axes in grid.flat[len(panels):]:
            axes.remove()
        grid = list(grid.flat[: len(panels)])
        for i, (axes, (name, n_hosts, share)) in enumerate(zip(grid, panels)):
            image = axes.imshow(share, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
                                extent=(-0.5, len(dates) - 0.5, n_hosts, 0))
            axes.set_title(short(name), fontsize=9)
            axes.locator_params(axis="y", integer=True, nbins=6)
            _date_ticks(axes, dates, 4)
            axes.tick_params(labelsize=7, labelbottom=i + PANELS >= len(panels))
        figure.supxlabel("day", fontsize=9)
        figure.supylabel("hosts of the class, by first day", fontsize=9)
        figure.suptitle(title(args), fontsize=9, x=0.01, ha="left")
        figure.colorbar(image, ax=grid, label="share of a row's hosts that are active", shrink=0.6)


def draw_f1(args, cell, f1, names):
    """Heat map of the F1 by class and test day, the macro average below it."""
    dates = cell["test_days"]
    with picture(args.out / "f1", 9, 1.6 + 0.27 * len(names)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(f1, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        if len(dates) <= DATES:
            for (i, j), value in np.ndenumerate(f1):
                if not np.isnan(value):
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                              color="black" if value > 0.5 else "white")
        _date_ticks(axes, dates, DATES if len(dates) <= DATES else 12, fontsize=8)
        axes.set_yticks(range(len(names)), map(short, names), fontsize=9)
        axes.axhline(len(names) - 1.5, color="white", linewidth=3)
        axes.set_xlabel("test day (white: not scored)")
        axes.set_title(f"model {args.model}\n{title(args)}", fontsize=9, loc="left")
        figure.colorbar(image, label="F1")


def _date_ticks(axes, dates, most, **text):
    """Label at most so many of the dates, evenly spread, with month and day."""
    ticks = np.unique(np.linspace(0, len(dates) - 1, min(len(dates), most)).round().astype(int))
    axes.set_xticks(ticks, [dates[i][5:] for i in ticks], **text)


def title(args):
    """Where a picture's numbers come from, in lines of at most 80 characters; a long input is cut."""
    line = data_line(args)
    line = line if len(line) <= 80 else f"{line[:79]}…"
    return "\n".join([line, *textwrap.wrap(flags_line(args), 80, break_on_hyphens=False)])
