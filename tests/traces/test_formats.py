"""docs/formats.md is what the tests read."""

from tests.traces.formats import PAGE, SECTIONS, page


def test_the_page_is_what_the_tests_read():
    """`python -m tests.traces.formats` writes the page anew."""
    assert PAGE.read_text() == page()


def test_no_format_stands_twice():
    """Each format has one example."""
    names = [name for _, formats in SECTIONS for name, _, _ in formats]
    assert len(names) == len(set(names))
