"""report.html as a file: what its parts are, that they come back as they went in, and what a trace cannot do to it."""

import base64
import hashlib
import json
import re
import zlib

import numpy as np
import pytest

from report import page, shown
from tests.report.test_shown import addresses, test_day

ABOUT = {"title": "darkgnn: x", "settings": "model features", "words": [], "classes": ["Unknown", "a"],
         "campaigns": False, "neighbors": 3, "result": {}, "other_days": 2}
HOSTILE = "</script><script>alert(1)</script>{{data}}"


def data_of(text):
    """(header, {name: column}) of a page: the format of `page.packed`, read by its description."""
    block, = re.findall(r'<script type="application/octet-stream" id="run">([^<]*)</script>', text)
    data = zlib.decompress(base64.b64decode(block), -15)
    end = 4 + int.from_bytes(data[:4], "little")
    header = json.loads(data[4:end])
    assert end % 4 == 0
    return header, {name: np.frombuffer(data, f"<{kind}", n, end + offset)
                    for name, (kind, offset, n) in header["columns"].items()}


@pytest.fixture(scope="module")
def days():
    """Two days with a map and one without, 30, 20 and 4 hosts."""
    first, _ = test_day(addresses(30))
    first.told["hosts"] = 33
    second, _ = test_day(addresses(20, seed=1), "2022-01-02", [first])
    port = np.array([[23, 65536, 80]] * 4, np.int32)
    return [first, second, shown.day_without_map({"date": "2022-01-03", "hosts": 4}, addresses(4), np.full(4, 9), port)]


def test_the_numbers_come_back(days):
    """Every column, by the host table and the table of ports; where each day's rows begin."""
    header, columns = data_of(page.page(days, ABOUT))
    places = [(day["shown"], day["start"], day["map"]) for day in header["days"]]
    assert places == [(30, 0, 0), (20, 30, 30), (4, 50, -1)]
    assert header["left_out"] == {"days": 2, "hosts": 3} and header["version"] == 1
    assert "other_days" not in header and header["ports"] == [23, 80, 65536]
    host, near = columns["address"][columns["host"]], columns["near"].reshape(-1, 3)
    for day, told in zip(days, header["days"]):
        rows = slice(told["start"], told["start"] + told["shown"])
        assert (host[rows] == day.host).all() and (columns["packets"][rows] == day.packets).all()
        of_map = slice(told["map"], told["map"] + told["shown"]) if told["map"] >= 0 else slice(0, 0)
        assert (columns["address"][near[of_map]] == day.near).all()
        np.testing.assert_array_equal(np.column_stack([columns["x"], columns["y"]])[of_map], day.place)
        for name in ("label", "predicted", "votes", "surprise"):
            assert (columns[name][of_map] == getattr(day, name)).all(), name
        assert (columns["similarity"].reshape(-1, 3)[of_map] == day.similarity).all()
    assert (columns["port"].reshape(-1, 3)[:50] == 65535).all()
    assert columns["port"].reshape(-1, 3)[50].tolist() == [0, 2, 1]
    assert columns["predicted"].dtype == np.uint16          # a code of 300
    assert "campaign" not in columns and "membership" not in columns


def test_many_hosts_have_wider_numbers():
    """From 65,535 hosts on a host's place takes four bytes, and nobody is its largest value."""
    host = np.arange(70_000, dtype=np.uint32)
    days = [shown.day_without_map({"date": "2022-01-01", "hosts": len(host)}, host, np.full(len(host), 9),
                                  np.full((len(host), 3), -1, np.int32), np.arange(len(host)))]
    columns = page.columns_of(days)
    assert columns["host"].dtype == np.uint32 and (columns["address"][columns["host"]] == host).all()
    lone, _ = test_day(np.array([7], np.uint32))
    assert page.columns_of([lone])["near"].tolist() == [65535] * 3


def test_many_ports_have_wider_numbers():
    """All ports there are, "other" among them, and none: each comes back as it went in."""
    port = np.arange(-1, 65537, dtype=np.int32).reshape(-1, 3)
    host = np.arange(len(port), dtype=np.uint32)
    day = shown.day_without_map({"hosts": len(host)}, host, host, port, host)._replace(host=host, port=port)
    place = page.columns_of([day])["port"]
    assert place[0] == np.iinfo(place.dtype).max and (page.ports_of([day])[place[1:]] == port.ravel()[1:]).all()


def test_the_same_bytes_for_the_same_days(days):
    """Twice."""
    assert page.page(days, ABOUT) == page.page(days, ABOUT)


def test_the_policy_names_what_the_page_has(days):
    """One style and one script, each by its hash, and one block of data, which no browser runs."""
    text = page.page(days, ABOUT)
    style, = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    script, = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    policy, = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    for kind, part in ("style", style), ("script", script):
        named, = re.findall(rf"{kind}-src 'sha256-([^']*)'", policy)
        assert base64.b64decode(named) == hashlib.sha256(part.encode()).digest()
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"\{\{\w+\}\}", text.replace(script, ""))


def test_nothing_of_a_trace_gets_out_of_the_data(days):
    """Names, notes and titles with markup are in the packed data, or are escaped."""
    hostile = {**ABOUT, "title": HOSTILE, "classes": ["Unknown", HOSTILE], "words": [HOSTILE], "settings": HOSTILE}
    text = page.page(days, hostile)
    assert "alert(1)" not in text.replace("&lt;script&gt;alert(1)", "")
    assert text.count("<script") == page.page(days, ABOUT).count("<script")
    assert data_of(text)[0]["classes"] == ["Unknown", HOSTILE]


def test_a_file_name_that_is_no_utf8(tmp_path, days):
    """Its odd bytes are question marks, in the title and in the notes; the run does not end for them."""
    page.write(tmp_path / "report.html", days, {**ABOUT, "title": "darkgnn: \udcff.log", "words": ["of \udcff.log"]})
    text = (tmp_path / "report.html").read_text("utf-8")
    header, _ = data_of(text)
    assert "<title>darkgnn: ?.log</title>" in text
    assert (header["title"], header["words"]) == ("darkgnn: ?.log", ["of ?.log"])


def test_sources_ask_for_nothing():
    """No address of anything, nothing that makes markup or code of text."""
    for path in page.WEB.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|import\(|fetch\(|XMLHttpRequest|WebSocket|"
                             r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), path


def test_a_month_of_7500_hosts_a_day_is_8_megabytes():
    """Numbers that do not repeat, 30 days: the size that the page must not exceed."""
    generator, days = np.random.default_rng(0), []
    everyone = np.unique(generator.integers(0, 1 << 32, 60_000, dtype=np.uint32))

    def numbers(high, shape, kind):
        return generator.integers(0, high, shape).astype(kind)
    for t in range(30):
        host, m = np.sort(generator.choice(everyone, 7500, replace=False)), 7500
        days.append(shown.Shown({"date": f"2022-01-{t + 1:02}", "hosts": m, "groups": [{}], "heat": {}}, host,
                                numbers(80, m, np.uint8), numbers(2500, (m, 3), np.int32),
                                numbers(20000, (m, 2), np.int16), numbers(8, m, np.int16), numbers(8, m, np.int16),
                                numbers(100, m, np.uint8), host[numbers(m, (m, 3), np.int64)],
                                numbers(64, (m, 3), np.uint8), numbers(100, m, np.int32), numbers(256, m, np.uint8),
                                numbers(120, m, np.uint8)))
    assert len(page.page(days, ABOUT)) < 8e6
