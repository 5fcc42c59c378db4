"""fields.py and times.py field by field, and the text readers on cut, flipped and arbitrary bytes."""

import os
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces.reading import AUTHORS, DTYPES, LINE, authors_lines, read
from traces import fields


@given(st.integers(0, 10**19 + 10**18), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_integers_of_any_width_are_read_exactly(number, zeros):
    """wholes reads 1..19 digits, leading zeros too, as int() does, and refuses the rest, other bytes and blanks."""
    text = "0" * zeros + str(number)
    parts = [text, text[:-1] + "x", text[:4] + "-" + text[4:], ""]
    buf = np.frombuffer(b"9\n9" + "\n".join(parts).encode() + b"\n" + bytes(64), np.uint8)
    words = np.ndarray((len(buf) - 7,), "<u8", buffer=buf, strides=(1,))
    start = 3 + np.cumsum([0, *(len(f) + 1 for f in parts[:-1])])
    value, good = fields.wholes(words, start, start + [len(f) for f in parts])
    fits = len(text) <= 19 and number < 1 << 63
    assert good.tolist() == [fits, False, False, False]
    assert value[0] == number or not fits


def test_dotted_quads_are_those_ipaddress_takes():
    """Of words of digits and dots up to 16 bytes the very ones pass that are four numbers 0..255 (zeros may lead)."""
    rng = random.Random(5)
    words = ["1.2.3.4", "255.255.255.255", "256.1.1.1", "999.1.1.1", "1.2.3", "1.2.3.4.5", "1..2.3", ".1.2.3", "1.2.3."]
    words += ["1.2.3.0004", "1.2.3.4x", "x1.2.3.4", "1.2.3.-4", "0.0.0.0", "010.001.000.009", "1.2.3.4 ", "1:2.3.4"]
    words += ["1.2.3." + "0" * 260 + "7", "1.2.3.4" + "." * 9]
    words += ["".join(rng.choice("0123456789..") for _ in range(rng.randrange(16))) for _ in range(4000)]
    words += [".".join(str(rng.randrange(300)) for _ in range(4)) for _ in range(2000)]
    text, _ = fields.cut("\n".join(words).encode(), "")
    start = 1 + np.cumsum([0, *(len(w) + 1 for w in words[:-1])])
    value, good = fields.quads(text, start, start + [len(w) for w in words])
    octet = r"0*([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
    for word, number, fine in zip(words, value, good):
        match = re.fullmatch(r"\.".join([octet] * 4), word)
        expected = bool(match) and all(len(part) <= 3 for part in word.split("."))
        assert fine == expected, word
        if expected:
            assert number == sum(int(part) << shift for part, shift in zip(match.groups(), (24, 16, 8, 0)))


@pytest.mark.parametrize("reader", ["table", "netfilter"])
def test_a_line_longer_than_a_block_is_left_out_and_the_next_is_read(reader, monkeypatch):
    """Megabytes without a newline are rejected as one line without being kept, and line numbers go on."""
    monkeypatch.setattr(fields, "BLOCK", 1000)
    line = "1600000000,1.2.3.4,5.6.7.8,23\n" if reader == "table" else LINE
    text = ("ts,src,dst,dport\n" if reader == "table" else LINE) + line + "x" * 50_000 + "\n" + line + "?" * 5000
    columns, _, rejected, places, _ = read(text, reader)
    assert len(columns["time"]) == (2 if reader == "table" else 3)
    assert rejected["line too long"] == 2 and places["line too long"] == "line 3"


def samples():
    """Small files of every shape: (reader, bytes)."""
    lines = authors_lines(6, seed=2)
    yield "table", "\n".join(" ".join(line) for line in [AUTHORS, *lines]).encode() + b"\n"
    yield "table", (
        b"datetime,host,src,proto,type,spt,dpt\n2013-03-03 21:53:59,tokyo,1032051418,TCP,,6000,1433\n"
        b'"2013-03-03 21:57:01","eu, west",1347834426,UDP,,5270,5060\r\n\r\n# note\n'
        b"2013-03-03T21:57:01.5+01:00,1.2.3.4,2.3.4.5,TCP,,5270,80\n"
    )
    yield "netfilter", (
        LINE
        + "2021-12-12T00:01:07.12+01:00 x SRC=1.2.3.4 DST=5.6.7.8 PROTO=TCP DPT=2 SEQ=5 OPT (020405B4080A0000002A)\n"
        + "Jan  1 00:00:00 x SRC=1.2.3.4 DST=5.6.7.8 PROTO=ICMP [SRC=1.2.3.4 DST=5.6.7.8 PROTO=TCP DPT=2 ]\n"
        + "Jan  1 00:00:00 x SRC=1.2.3.4 DST=5.6.7.8 FRAG:64 PROTO=TCP \n"
    ).encode()


def check(columns):
    """Types and ranges hold whatever the input was."""
    if columns:
        assert ((columns["time"] >= 0) & (columns["time"] < 253_402_300_800)).all()
        assert ((columns["port"] >= 0) & (columns["port"] <= 65536)).all()
        assert {name: column.dtype.name for name, column in columns.items()} == {name: DTYPES[name] for name in columns}


def survives(reader, data):
    try:
        columns, *_ = read(data, reader)
    except ValueError as error:
        assert str(error).startswith("t: expected") and "\n" not in str(error)
    else:
        check(columns)


@pytest.mark.parametrize(("reader", "data"), list(samples()))
def test_files_cut_at_every_byte_are_read_up_to_there(reader, data):
    """Whatever the length a file is cut to, it is read or refused with one line."""
    for end in range(len(data)):
        survives(reader, data[:end])


@pytest.mark.parametrize(("reader", "data"), list(samples()))
def test_flipped_bytes_never_raise_anything_but_one_clear_line(reader, data, monkeypatch):
    """2,000 mutations per reader, of bits, bytes, deletions and copies, end in columns or in a ValueError.

    MUTATIONS=100000 in the environment makes it the long run.
    """
    rng = random.Random(11)
    for _ in range(int(os.environ.get("MUTATIONS", "2000" if reader == "netfilter" else "1000"))):
        monkeypatch.setattr(fields, "BLOCK", rng.choice([400, 1 << 20, 1 << 20, 1 << 20]))
        mutant = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(mutant))
            kind = rng.randrange(5)
            if kind == 0:
                mutant[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                mutant[at] = rng.choice(b'\0\n\r\t ,;"#.-:=()[]09\xff')
            elif kind == 2:
                del mutant[at : at + rng.randrange(1, 30)]
            elif kind == 3:
                mutant[at:at] = mutant[at : at + rng.randrange(60)]
            else:
                mutant[at:at] = bytes([rng.choice(b'0 9\n"-.')]) * rng.randrange(1, 40)
            mutant = mutant or bytearray(b"x")
        survives(reader, bytes(mutant))


@given(st.binary(max_size=400), st.sampled_from(["table", "netfilter"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(data, reader, with_head):
    """Arbitrary bytes, also behind a good first line, end in columns or in a ValueError."""
    head = (LINE if reader == "netfilter" else "ts,src,dst,dport,ttl\n").encode()
    survives(reader, head + data if with_head else data)


table_line = st.lists(st.text("0123456789.-:T eEx\"'nao#", max_size=12), min_size=3, max_size=6).map(",".join)


@given(st.lists(table_line, max_size=8))
@settings(max_examples=200, deadline=None)
def test_number_like_garbage_in_a_table_is_read_or_counted(lines):
    """Every line of a table becomes a packet, or is counted once, or is blank, a comment or a header."""
    text = "ts,src,dst,dport,ttl\n" + "\n".join(lines)
    columns, skipped, rejected, *_ = read(text)
    check(columns)
    passed = sum(not line.strip() or line.strip().strip('"').startswith("#") for line in lines)
    records = len(columns.get("time", [])) + skipped.total() + rejected.total()
    assert len(lines) - passed - 1 <= records <= len(lines)
