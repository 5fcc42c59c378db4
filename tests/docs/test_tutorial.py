"""docs/tutorial.md as a program: its blocks run in order in one namespace, and each prints what stands under it.

`python -m tests.docs.test_tutorial` from the repository's root writes the outputs anew; read the difference before you
keep it.
"""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
TUTORIAL = ROOT / "docs/tutorial.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def run(page):
    """Execute the page's blocks in order; yields (line, printed, shown) for each, `line` that of its ```python."""
    namespace = {"__name__": "tutorial"}
    with np.printoptions(), torch.random.fork_rng(devices=[]):
        for block in BLOCK.finditer(page):
            line, out = page.count("\n", 0, block.start()) + 1, io.StringIO()
            with contextlib.redirect_stdout(out):  # blank lines before the code: a traceback has the page's lines
                exec(compile("\n" * line + block[1], TUTORIAL.name, "exec"), namespace)
            yield line, out.getvalue(), block[2] or ""


def test_every_block_prints_what_is_shown():
    """Run from top to bottom, every block's output equals the block under it, character by character."""
    for line, printed, shown in run(TUTORIAL.read_text(encoding="utf-8")):
        assert printed == shown, f"docs/tutorial.md, block at line {line}"


def test_no_block_slips_by():
    """Each fence belongs to a block that is run or to its output: nothing is shown that was not computed."""
    page = TUTORIAL.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(page))
    assert len(blocks) > 30
    assert page.count("```") == sum(2 if block[2] is None else 4 for block in blocks)


@pytest.mark.parametrize("tamper", [
    ("      h1      1.5", "      h1      1.6"),             # a number of a matrix
    ("D = np.asarray", "D = np.array"),                     # a line of our code
    ("as by hand: True", "as by hand: False"),
])
def test_a_wrong_number_or_line_is_found(tamper):
    """A number or a line of code changed in an output block makes that block differ from what is printed."""
    page = TUTORIAL.read_text(encoding="utf-8")
    assert tamper[0] in page
    assert any(printed != shown for _, printed, shown in run(page.replace(*tamper)))


def test_every_section_has_an_exercise_with_its_answer_folded():
    """Sections 1 to 13 hold one exercise and one folded answer each, and blank lines so that the answer renders."""
    sections = re.split(r"^## ", TUTORIAL.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [int(section.split(".")[0]) for section in sections] == list(range(1, 15))
    for section in sections[:-1]:
        assert len(re.findall(r"^\*\*Exercise\.\*\* ", section, re.MULTILINE)) == 1, section[:40]
        assert len(re.findall(r"^<details><summary>Answer</summary>\n\n", section, re.MULTILINE)) == 1, section[:40]
        assert section.count("</details>") == 1, section[:40]


def test_the_tests_it_names_exist():
    """Every tests/file.py::name on the page is a test of this repository."""
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", TUTORIAL.read_text(encoding="utf-8"))
    assert len(named) >= 15
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"


def test_links_within_the_page_lead_somewhere():
    """Every [text](#anchor) is a heading's anchor, formed as GitHub forms it."""
    page = TUTORIAL.read_text(encoding="utf-8")
    headings = re.findall(r"^##? (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]*)\)", page)
    assert links and set(links) <= anchors


if __name__ == "__main__":
    page = TUTORIAL.read_text(encoding="utf-8")
    outputs = iter([printed for _, printed, _ in run(page)])

    def rewrite(block):
        out = next(outputs)
        return f"```python\n{block[1]}```\n" + (f"```text\n{out}```\n" if out else "")

    TUTORIAL.write_text(BLOCK.sub(rewrite, page), encoding="utf-8")
