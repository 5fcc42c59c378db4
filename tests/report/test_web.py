"""The files of report/web/: what a reader and the page's policy ask of them."""

import re

import pytest

from report import page

FILES = sorted(page.WEB.iterdir())
AS_HTML = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute\(\"(style|on)"
REQUESTS = r"\bfetch\(|XMLHttpRequest|WebSocket|https?://(?!www\.w3\.org/2000/svg\")|\bimport\b|@import|url\("


def test_every_file_is_on_the_page():
    """The folder holds the frame, the style and the scripts that the page puts together, and nothing else."""
    assert {path.name for path in FILES} == {"page.html", "style.css", *page.SCRIPTS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_people_can_read_it(path):
    """No more than 450 lines of 120 characters, and a script says in its first line what it is."""
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 450 and max(map(len, lines)) <= 120
    assert path.suffix != ".js" or lines[0].startswith(f"// {path.name}: ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_becomes_html_or_leaves_the_page(path):
    """No text is made into HTML or code, no attribute holds a style or a script, nothing is asked for."""
    text = path.read_text("utf-8")
    assert not re.findall(AS_HTML, text) and not re.findall(REQUESTS, text)
    assert path.suffix != ".html" or not re.findall(r"<[^>]*\s(style|on\w+)=", text)


def test_the_frame_has_each_part_once():
    """The parts that page.page puts in stand in page.html exactly once."""
    found = re.findall(r"\{\{(\w+)\}\}", (page.WEB / "page.html").read_text("utf-8"))
    assert sorted(found) == ["data", "policy", "script", "style", "title"]
