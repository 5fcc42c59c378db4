"""How the command speaks and ends: the first of several processes for all, errors in one line, exit code 2.

Imports scale and report.words.
"""

import contextlib
import io
import re
import sys
import time

import scale
from report import words

FIRST_SPEAKS = 5  # seconds by which other processes end after the first, which says for all what ended the run
OUT_OF_MEMORY = r"not enough memory|out of memory|\ballocate\b|ALLOC_FAILED|bad_alloc"  # as PyTorch's errors say it


@contextlib.contextmanager
def first_only():
    """Where all processes say the same, the first one does; one that ends here ends after it."""
    try:
        with contextlib.ExitStack() as stack:
            if scale.rank():
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                    stack.enter_context(redirect(io.StringIO()))
            yield
    except SystemExit:
        wait_for_the_first()
        raise


def say(line):
    """A line of output."""
    if not scale.rank():
        print(line, flush=True)


def say_nothing(line):
    """Instead of `say`, with --quiet."""


def warn(line):
    """A note: something that the user should know."""
    if not scale.rank():
        print(f"darkgnn: note: {line}", file=sys.stderr, flush=True)


def what_was_read(summary, say):
    """Say it of a run that fails, if it read anything."""
    if summary.files:
        with contextlib.suppress(OSError):                  # which may have ended the run: nobody listens any more
            say(words.read_line(summary))
        for line in summary.notes:
            warn(line)


def fail(error):
    """Say in one line what ended the run; the exit code."""
    wait_for_the_first()
    line = " ".join(str(error).splitlines())                # a file's name may hold anything
    who = f"rank {scale.rank()}: " if scale.started() > 1 else ""
    print(f"darkgnn: {who}error: {line}", file=sys.stderr, flush=True)
    return 2


def wait_for_the_first():
    """Other processes than the first wait, so that its line is the one that is shown."""
    if scale.rank():
        time.sleep(FIRST_SPEAKS)


def meaning(error):
    """The line for a MemoryError or a RuntimeError that a user can act on; None for one that is a fault of ours."""
    if lacks_memory(error):
        return "not enough memory: expected smaller widths, fewer --runs or less traffic a day"
    if scale.started() > 1 and scale.lost(error):
        return "another process of this run has ended"
    return None


def lacks_memory(error):
    """Whether a MemoryError or a RuntimeError of PyTorch says that memory does not suffice."""
    return isinstance(error, MemoryError) or bool(re.search(OUT_OF_MEMORY, str(error)))
