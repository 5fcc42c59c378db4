"""Rows as aligned text, as Markdown and as CSV. Imports report."""

import csv

from report import files


def short(name, longest=22):
    """A class name that fits, cut in its middle: names often differ at an end only."""
    return str(name) if len(name) <= longest else f"{name[: longest // 2]}…{name[longest // 2 + 1 - longest :]}"


def score(value):
    """{mean, std} as text; a dash for None."""
    return f"{value['mean']:.2f}±{value['std']:.2f}" if value else "-"


def aligned(header, rows):
    """Rows of text as lines: the first column, cut, to the left, the others to the right."""
    cut = [[short(row[0]), *row[1:]] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cut)]
    return ["  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
            for row in cut]


def markdown(header, rows):
    """Rows of text as the lines of a Markdown table, numbers to the right."""
    ruler = "|---|" + "---:|" * (len(header) - 1)
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (header, *rows)]
    return [lines[0], ruler, *lines[1:]]


def save_lines(path, lines):
    with files.whole_file(path) as file:
        file.write("\n".join(lines) + "\n")


def save_csv(path, header, rows):
    with files.whole_file(path) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
