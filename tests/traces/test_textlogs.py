"""textlogs.py against plain line-by-line parsers, on odd and on broken input."""

import csv
import io
import os
import random
import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import textlogs

DTYPES = {
    "time": "float64", "src": "uint32", "dst": "uint32", "port": "int32", "length": "uint16", "ttl": "uint8",
    "mss": "uint16", "window": "uint16", "timestamp": "uint32", "seq": "uint32",
}  # fmt: skip
AUTHORS = [
    "ts", "ethtype", "src_ip", "src_port", "dst_ip", "dst_port", "pck_len", "tcp_flags", "mirai", "tcp_seq", "ttl",
    "t_mss", "t_win", "t_ts", "t_sack", "t_sackp", "interval",
]  # fmt: skip


def read(data, reader="table", near=1639267200.0, sensors=None):
    """Columns, skipped, rejected {reason: count} and the first place of each reason."""
    skipped, rejected, places, warnings = Counter(), Counter(), {}, []

    def reject(reason, place, count=1):
        rejected[reason] += count
        places.setdefault(reason, place)

    stream = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    if reader == "table":
        chunks = textlogs.read_table(stream, "t", skipped, reject, {} if sensors is None else sensors, warnings.append)
    else:
        chunks = textlogs.read_netfilter(stream, "t", skipped, reject, near)
    chunks = list(chunks)
    columns = {}
    for name in DTYPES:
        parts = [chunk[name] for chunk in chunks if name in chunk]
        if parts:
            columns[name] = np.concatenate(parts)
    for chunk in chunks:
        assert {len(column) for column in chunk.values()} == {len(chunk["time"])}
        assert len(chunk["time"]) > 0
    return columns, skipped, rejected, places, warnings


def quad(number):
    return str(IPv4Address(number))


def authors_lines(n, seed=0):
    """Lines in the authors' format, as lists of fields: UDP and IPv6 among them."""
    rng = random.Random(seed)
    lines = []
    for k in range(n):
        options = rng.random() < 0.5
        fields = {
            "ts": f"{1600000000 + k * 37.25 + rng.random():.{rng.choice([0, 1, 6, 9])}f}",
            "ethtype": "2048",
            "src_ip": quad(rng.randrange(1 << 32)),
            "src_port": str(rng.randrange(65536)),
            "dst_ip": quad(rng.choice([rng.randrange(1 << 32), 0xC0A80001])),
            "dst_port": rng.choice([str(rng.randrange(65536)), "23", "0", "65535", "oth"]),
            "pck_len": str(rng.randrange(20, 1500)),
            "tcp_flags": "2",
            "mirai": "0",
            "tcp_seq": str(rng.choice([rng.randrange(1 << 32), rng.randrange(1000), (1 << 32) - 1])),
            "ttl": str(rng.randrange(256)),
            "t_mss": str(rng.randrange(65536)) if options else "-",
            "t_win": str(rng.randrange(65536)),
            "t_ts": str(rng.randrange(1 << 32)) if options else "-",
            "t_sack": "-",
            "t_sackp": "-",
            "interval": f"{rng.random():.6f}",
        }
        lines.append([fields[name] for name in AUTHORS])
    return lines


def plain(lines):
    """The columns of such lines by the most ordinary Python there is."""
    rows = [dict(zip(AUTHORS, line)) for line in lines]

    def number(text):
        return 0 if text == "-" else int(text)

    return {
        "time": [float(row["ts"]) for row in rows],
        "src": [int(IPv4Address(row["src_ip"])) for row in rows],
        "dst": [int(IPv4Address(row["dst_ip"])) for row in rows],
        "port": [65536 if row["dst_port"] == "oth" else int(row["dst_port"]) for row in rows],
        "length": [int(row["pck_len"]) for row in rows],
        "ttl": [int(row["ttl"]) for row in rows],
        "mss": [number(row["t_mss"]) for row in rows],
        "window": [int(row["t_win"]) for row in rows],
        "timestamp": [number(row["t_ts"]) for row in rows],
        "seq": [int(row["tcp_seq"]) for row in rows],
    }


def same(columns, expected):
    assert list(columns) == list(expected)
    for name, column in expected.items():
        if name == "time":
            np.testing.assert_allclose(columns[name], column, rtol=0, atol=3e-7)
        else:
            np.testing.assert_array_equal(columns[name], column, err_msg=name)


@pytest.mark.parametrize("block", [1000, 20_000, 1 << 20])
def test_authors_format_equals_a_plain_parse_however_it_is_cut_into_blocks(block, monkeypatch):
    """Every field of 2,000 lines in the authors' 17 columns is what int(), float() and ipaddress make of it."""
    monkeypatch.setattr(textlogs, "BLOCK", block)
    lines = authors_lines(2000)
    text = "\n".join(" ".join(line) for line in [AUTHORS, *lines]) + "\n"
    columns, skipped, rejected, *_ = read(text)
    same(columns, plain(lines))
    assert {name: column.dtype.name for name, column in columns.items()} == DTYPES
    assert not skipped and not rejected


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", " "])
@pytest.mark.parametrize("style", ["bare", "quoted", "padded", "crlf", "bom", "comments", "twice", "capitals"])
def test_every_way_of_writing_a_table_gives_the_same_columns(delimiter, style):
    """Delimiter, quotes, padding, CRLF, byte-order mark, comments, blank lines and repeated headers change nothing."""
    lines = authors_lines(50, seed=1)
    rows = [AUTHORS, *lines]
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if style in ("quoted", "twice") else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(rows)
    text = out.getvalue()
    if style == "padded":
        text = "\n".join("  " + (f" {delimiter}  ").join(row) + "  " for row in rows)
    elif style == "crlf":
        text = text.replace("\n", "\r\n")
    elif style == "bom":
        text = "\ufeff" + text
    elif style == "comments":
        text = "# made by hand\n\n" + text.replace("\n", "\n\n# note\n", 9)
    elif style == "twice":
        text = text.replace("\n", "\n" + text.split("\n")[0] + "\n", 7)
    elif style == "capitals":
        text = delimiter.join(name.upper() for name in AUTHORS) + "\n" + text.split("\n", 1)[1]
    columns, skipped, rejected, *_ = read(text.rstrip("\n") if style == "bare" else text)
    same(columns, plain(lines))
    assert not skipped and not rejected


@given(st.integers(0, 10**19 + 10**18), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_integers_of_any_width_are_read_exactly(number, zeros):
    """_wholes reads 1..19 digits, leading zeros too, as int() does, and refuses the rest, other bytes and blanks."""
    text = "0" * zeros + str(number)
    fields = [text, text[:-1] + "x", text[:4] + "-" + text[4:], ""]
    buf = np.frombuffer(b"9\n9" + "\n".join(fields).encode() + b"\n" + bytes(64), np.uint8)
    words = np.ndarray((len(buf) - 7,), "<u8", buffer=buf, strides=(1,))
    start = 3 + np.cumsum([0, *(len(f) + 1 for f in fields[:-1])])
    value, good = textlogs._wholes(words, start, start + [len(f) for f in fields])
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
    text, _ = textlogs._cut("\n".join(words).encode(), "")
    start = 1 + np.cumsum([0, *(len(w) + 1 for w in words[:-1])])
    value, good = textlogs._quads(text, start, start + [len(w) for w in words])
    octet = r"0*([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
    for word, number, fine in zip(words, value, good):
        match = re.fullmatch(r"\.".join([octet] * 4), word)
        expected = bool(match) and all(len(part) <= 3 for part in word.split("."))
        assert fine == expected, word
        if expected:
            assert number == sum(int(part) << shift for part, shift in zip(match.groups(), (24, 16, 8, 0)))


@pytest.mark.parametrize(
    "header",
    [
        "ts,src,dst,dport",
        "time,src_ip,dst_ip,dst_port",
        "timestamp,saddr,daddr,dpt",
        "datetime,source,destination,dest_port",
        "Date Time,Source-IP,Dest-IP,Destination Port",
        "frame.time_epoch,ip.src,ip.dst,tcp.dstport",
        "date_time,srcip,dstip,port",
        "#ts,src,dst,dport",
        "# fields: ts,id.orig_h,id.resp_h,id.resp_p",
        '"ts","src","host","dpt"',
    ],
)
def test_columns_are_found_by_their_usual_names(header):
    """Time, source, destination and port are found under each of the usual names; nothing else is made up."""
    columns, *_ = read(f"{header}\n1600000000.5,1.2.3.4,5.6.7.8,23\n")
    same(columns, {"time": [1600000000.5], "src": [0x01020304], "dst": [0x05060708], "port": [23]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ts,src,dst\n1,1.2.3.4,1.2.3.4\n", "got none for port among: ts, src, dst"),
        ("a b c\n", "got none for time, src, dst, port among: a, b, c"),
        ("", "got none"),
        ("\n# only\n\n", "got none"),
        ("\x00\x01\x02\xff" * 50, "got none for time"),
        ("ts,src,dst,dport\n1,2,3,4\n".encode("utf-16"), "got UTF-16"),
    ],
)
def test_a_table_without_the_needed_columns_is_one_clear_line(text, said):
    """Missing columns are named with those found; binary bytes are shown printable, in a line of bounded length."""
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        read(text)
    assert str(error.value).startswith("t: expected ")
    assert str(error.value).isprintable() and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2013-03-03 21:53:59", "2013-03-03T21:53:59+00:00"),
        ("2021-12-31T23:59:59.25", "2021-12-31T23:59:59.250+00:00"),
        ("2021-12-31t23:59:59.123456z", "2021-12-31T23:59:59.123456+00:00"),
        ("2021-12-31T23:59:59.1234567891234567891234Z", "2021-12-31T23:59:59.123457+00:00"),
        ("2020-02-29T00:00:00+01:00", "2020-02-29T00:00:00+01:00"),
        ("2021-01-01 00:30:00-0530", "2021-01-01T00:30:00-05:30"),
        ("2021-01-01 00:30:00.5+05", "2021-01-01T00:30:00.500+05:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00"),
        ("1970-01-01T00:00:00.0", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_dates_are_read_as_datetime_reads_them(text, iso):
    """Dates with and without fraction and offset agree with datetime.fromisoformat, UTC where no offset is given."""
    columns, *_ = read(f"datetime,src,dst,dport\n{text},1.2.3.4,1.2.3.4,1\n")
    assert abs(columns["time"][0] - datetime.fromisoformat(iso).timestamp()) < 1e-6


@pytest.mark.parametrize(
    "time",
    [
        "", "-", "abc", "-1.5", "nan", "inf", "1e9", "1.2.3", "1600000000,5", "2021-13-01 00:00:00",
        "2021-02-29 00:00:00", "2021-01-01 24:00:00", "2021-01-01 00:00", "2021-01-01", "2021-01-01 00:00:00+99:00",
        "2021-01-01 00:00:00x", "2021-01-01 00:00:00+1", "2021-01-01 00:00:00+01:", "2021-01-01 00:00:00+0160",
         "1969-12-31 23:59:59", "99999999999999999999", "1" * 400, "1970-01-01 00:00:00+01:00",
    ],
)  # fmt: skip
def test_a_broken_time_leaves_out_its_line_only(time):
    """A time that is none is rejected with its line number, and the lines around it are read."""
    good = "1600000000.5;1.2.3.4;5.6.7.8;23"
    columns, _, rejected, places, _ = read(f"ts;src;dst;dport\n{good}\n{time};1.2.3.4;5.6.7.8;23\n{good}\n")
    assert columns["time"].tolist() == [1600000000.5] * 2
    assert rejected == {"bad time": 1} and places == {"bad time": "line 3"}


@pytest.mark.parametrize(("unit", "name"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")])
def test_times_in_smaller_units_become_seconds_and_are_said(unit, name):
    """A time of 2021 in milli-, micro- or nanoseconds is that time in seconds, with a warning naming the unit."""
    columns, _, rejected, _, warnings = read(f"ts,src,dst,dport\n{1600000000.25 * unit:.0f},1.2.3.4,1.2.3.4,5\n")
    assert abs(columns["time"][0] - 1600000000.25) < 1e-6
    assert [line for line in warnings if name in line] == [f"times read as {name} since 1970"] and not rejected


@pytest.mark.parametrize(("time", "said"), [
    ("44542.5", "times read as seconds since 1970: days before 1990 or after 2099"),
    ("20211212", "times read as seconds since 1970: days before 1990 or after 2099"),
    ("20211212000107", "times read as milliseconds since 1970: days before 1990 or after 2099"),
    ("1e-999", None), ("1600000000", None),
])  # fmt: skip
def test_numbers_that_are_hardly_times_are_said(time, said):
    """Numbers that as times would lie before 1990 or after 2100 are read, with a warning."""
    warnings = read(f"proto,ts,src,dst,dport\n6,{time},1.2.3.4,1.2.3.4,5\n")[-1]
    assert warnings == ([said] if said else [])


def test_a_table_without_a_protocol_is_said():
    """Every line counts as TCP then, with a warning; a column of one of the usual names is used, without."""
    row = "1600000000,1.2.3.4,5.6.7.8,53"
    columns, _, _, _, warnings = read(f"ts,src,dst,dport\n{row}\n")
    assert len(columns["time"]) == 1 and warnings == ["no column for the protocol: every line is taken as TCP"]
    for name in ("transport", "l4_proto", "Protocol Name", "network.transport", "protocolIdentifier", "pr"):
        columns, skipped, _, _, warnings = read(f"ts,src,dst,dport,{name}\n{row},udp\n{row},tcp\n")
        assert len(columns["time"]) == 1 and skipped == {"UDP": 1} and not warnings


def test_tables_as_others_write_them():
    """A tab table with an empty first name (pandas), a quoted time between blanks, a quoted comma in the header, and
    Zeek's header with commas."""
    row = ("2021-12-12 00:01:07", "1.2.3.4", "5.6.7.8", "23")
    for text in ("datetime\tsrc\tdst\tdport\n" + "\t".join(row),
                 "\tdatetime\tsrc\tdst\tdport\n0\t" + "\t".join(row),
                 "datetime\tsrc\tdst\tdport\t\n" + "\t".join(row) + "\t",
                 'datetime src dst dport\n"{}" {} {} {}'.format(*row),
                 '"note, long",datetime,src,dst,dport\n1,' + ",".join(row),
                 "#fields,ts,id.orig_h,id.resp_h,id.resp_p\n" + ",".join(row)):
        columns, _, rejected, *_ = read(text + "\n")
        assert columns["time"].tolist() == [1639267267] and columns["port"].tolist() == [23] and not rejected, text


def test_lines_that_end_in_cr_alone_are_refused():
    """An old Mac's file is one line to us: an error that says so, and not an empty table."""
    with pytest.raises(ValueError, match="t: expected lines that end in LF or CRLF, got CR alone"):
        read("ts,src,dst,dport,x\r1639267267,1.2.3.4,5.6.7.8,23,1\r")


def test_a_column_called_timestamp_is_the_time_only_where_no_other_is():
    """Beside a time it is the TCP timestamp; where it repeats the time or is no integer it is ignored."""
    row = "1.2.3.4,5.6.7.8,23"
    columns, *_ = read(f"src,dst,dport,timestamp\n{row},1600000000.5\n")
    assert columns["time"].tolist() == [1600000000.5] and "timestamp" not in columns
    columns, *_ = read(f"src,dst,dport,time,timestamp\n{row},1600000000.5,77\n")
    assert columns["time"].tolist() == [1600000000.5] and columns["timestamp"].tolist() == [77]
    columns, *_ = read(f"src,dst,dport,time,ts\n{row},1600000000.5,-\n{row},1600000000.5,78\n")
    assert columns["timestamp"].tolist() == [0, 78]
    for again in ("1600000000", "2020-09-13 12:26:40", "1600000000.5"):
        columns, _, rejected, *_ = read(f"src,dst,dport,datetime,timestamp\n{row},1600000000.5,{again}\n")
        assert "timestamp" not in columns and len(columns["time"]) == 1 and not rejected


BROKEN = [
    ("src", "999.1.1.1", "bad source address"),
    ("src", "host7", "bad source address"),
    ("src", "", "bad source address"),
    ("src", "-5", "bad source address"),
    ("src", "4294967296", "bad source address"),
    ("dst", "999.1.1.1", "bad destination"),
    ("dst", "1.2.3", "bad destination"),
    ("dst", "1.2.3.4x", "bad destination"),
    ("dst", "", "bad destination"),
    ("dst", "-", "bad destination"),
    ("dst", "nan", "bad destination"),
    ("dst", "-7", "bad destination"),
    ("dst", "a" * 300, "bad destination"),
    ("dst", "a\x07b", "bad destination"),
    ("dport", "65536", "bad port"),
    ("dport", "-1", "bad port"),
    ("dport", "", "bad port"),
    ("dport", "80.5", "bad port"),
    ("dport", "http", "bad port"),
    ("ttl", "256", "bad ttl"),
    ("ttl", "-1", "bad ttl"),
    ("ttl", "abc", "bad ttl"),
    ("mss", "65536", "bad mss"),
    ("tsval", "4294967296", "bad timestamp"),
    ("seq", "4294967296", "bad seq"),
    ("seq", "99999999999999999999999", "bad seq"),
    ("length", "1.5", "bad length"),
    ("window", "-9", "bad window"),
]


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_a_broken_field_leaves_out_its_line_with_the_reason_and_the_place(column, value, reason):
    """Each kind of broken value is rejected once, with its own reason and line; the good lines stay."""
    good = {"ts": "1600000000", "src": "1.2.3.4", "dst": "5.6.7.8", "dport": "23", "ttl": "64", "mss": "1460"}
    good |= {"tsval": "99", "seq": "7", "length": "40", "window": "1024"}
    lines = [good, good, good | {column: value}, good]
    text = "\n".join([",".join(good), *(",".join(line.values()) for line in lines[1:])])
    columns, skipped, rejected, places, _ = read(text)
    assert len(columns["time"]) == 2 and not skipped
    assert rejected == {reason: 1} and places == {reason: "line 3"}


def test_optional_fields_may_lack_overflow_or_be_floats():
    """Absent options are 0, "64.0" is 64, and a scaled window or a length above 65535 counts as 65535."""
    text = "ts,src,dst,dport,ttl,mss,window,length,seq\n" + "".join(
        f"1600000000,1.2.3.4,5.6.7.8,{rest}\n"
        for rest in (
            "80.0,64.0,1460.0,29200.0,40.0,4294967295.0", "443,-,,nan,None,NULL", "0,0,-,65536,70000,0",
            "65535,255,65535,9999999999,65535,4294967295",
        )
    )  # fmt: skip
    columns, _, rejected, *_ = read(text)
    assert not rejected
    assert columns["port"].tolist() == [80, 443, 0, 65535]
    assert columns["ttl"].tolist() == [64, 0, 0, 255]
    assert columns["mss"].tolist() == [1460, 0, 0, 65535]
    assert columns["window"].tolist() == [29200, 0, 65535, 65535]
    assert columns["length"].tolist() == [40, 0, 65535, 65535]
    assert columns["seq"].tolist() == [4294967295, 0, 0, 4294967295]


def test_other_protocols_are_counted_by_kind_before_anything_else_is_looked_at():
    """UDP, ICMP (without ports, as in marx.csv), others, IPv6 and ARP are skipped, not rejected."""
    rows = [
        ("0x0800", "tcp", "1.2.3.4", "9.9.9.9", "23"), ("2048", "6", "16909060", "9.9.9.9", "23"),
        ("2048", "17", "1.2.3.4", "9.9.9.9", "53"), ("2048", "UDP", "1.2.3.4", "9.9.9.9", "53"),
        ("2048", "ICMP", "1.2.3.4", "9.9.9.9", ""), ("2048", "1", "1.2.3.4", "9.9.9.9", "-"),
        ("2048", "47", "1.2.3.4", "9.9.9.9", ""), ("2048", "sctp-over-x", "1.2.3.4", "9.9.9.9", ""),
        ("0x86dd", "TCP", "2001:db8::1", "2001:db8::2", "23"), ("34525", "6", "::1", "::2", "23"),
        ("2048", "TCP", "2001:db8::1", "9.9.9.9", "23"), ("2048", "TCP", "1.2.3.4", "fe80::1", "23"),
        ("2054", "", "1.2.3.4", "9.9.9.9", ""),
    ]  # fmt: skip
    text = "ts,ethtype,proto,src,dst,dport\n" + "".join("1600000000," + ",".join(row) + "\n" for row in rows)
    columns, skipped, rejected, *_ = read(text)
    assert columns["src"].tolist() == [0x01020304] * 2 and not rejected
    assert skipped == {"UDP": 2, "ICMP": 2, "other protocol": 2, "IPv6": 4, "not IP": 1}


def test_sensor_names_are_numbered_by_first_appearance_also_across_blocks(monkeypatch):
    """Names become 0, 1, 2 ... in the order of the file; addresses stay what they are."""
    monkeypatch.setattr(textlogs, "BLOCK", 200)
    names = ["tokyo", "eu-1", "zürich", "sensor 9", "tokyo", "10.0.0.1", "EU-1", "3com", "a.example.org"] * 20
    text = "ts,src,host,dport\n" + "".join(f'1600000000,1.2.3.4,"{name}",23\n' for name in names)
    sensors = {}
    columns, _, rejected, *_ = read(text, sensors=sensors)
    assert not rejected
    assert list(sensors.items()) == [
        ("tokyo", 0), ("eu-1", 1), ("zürich", 2), ("sensor 9", 3), ("EU-1", 4), ("3com", 5), ("a.example.org", 6)
    ]  # fmt: skip
    assert columns["dst"].tolist() == [sensors.get(name, 0x0A000001) for name in names]


def test_quoted_fields_may_hold_the_separator_and_ragged_lines_are_rejected():
    """A quoted separator does not split a field; lines with too few or too many fields are counted with the first."""
    text = (
        'note,ts,src,dst,dport\n"a, b",1600000000,1.2.3.4,"5.6.7.8","23"\nx,1600000000,1.2.3.4\n'
        'x,1600000000,1.2.3.4,5.6.7.8,23,9\n"a,1600000000,1.2.3.4,5.6.7.8,23\ny,1600000000,1.2.3.4,5.6.7.8,24\n'
    )
    columns, _, rejected, places, _ = read(text)
    assert columns["port"].tolist() == [23, 24]
    assert rejected == {"wrong number of fields": 3} and places == {"wrong number of fields": "line 3"}


@pytest.mark.parametrize("reader", ["table", "netfilter"])
def test_a_line_longer_than_a_block_is_left_out_and_the_next_is_read(reader, monkeypatch):
    """Megabytes without a newline are rejected as one line without being kept, and line numbers go on."""
    monkeypatch.setattr(textlogs, "BLOCK", 1000)
    line = "1600000000,1.2.3.4,5.6.7.8,23\n" if reader == "table" else LINE
    text = ("ts,src,dst,dport\n" if reader == "table" else LINE) + line + "x" * 50_000 + "\n" + line + "?" * 5000
    columns, _, rejected, places, _ = read(text, reader)
    assert len(columns["time"]) == (2 if reader == "table" else 3)
    assert rejected["line too long"] == 2 and places["line too long"] == "line 3"


LINE = (
    "Dec 12 00:01:07 localhost kernel: [10109111.799442] [UFW BLOCK] IN=ens3 OUT= MAC=56:00:03:85:82:df:fe:00 "
    "SRC=104.248.236.65 DST=158.247.223.84 LEN=40 TOS=0x00 PREC=0x00 TTL=240 ID=55228 PROTO=TCP SPT=47246 DPT=4200 "
    "WINDOW=1024 RES=0x00 SYN URGP=0 \n"
)


def plain_netfilter(text, year):
    """Rows of TCP lines by split and strptime, for lines in order of time within a year or over one New Year."""
    rows, last = [], None
    for line in text.splitlines():
        keys = {}
        for word in line.split():
            if "=" in word:
                key, value = word.split("=", 1)
                keys.setdefault(key, value)
        when = datetime.strptime(f"{year} {line[:15]}", "%Y %b %d %H:%M:%S").replace(tzinfo=timezone.utc)
        if last and when < last - timedelta(days=183):
            year += 1
            when = when.replace(year=year)
        last = when
        if keys["PROTO"] == "TCP":
            rows.append(
                (when.timestamp(), int(IPv4Address(keys["SRC"])), int(IPv4Address(keys["DST"])), int(keys["DPT"]),
                 int(keys["LEN"]), int(keys["TTL"]), int(keys["WINDOW"]))
            )  # fmt: skip
    return dict(zip(("time", "src", "dst", "port", "length", "ttl", "window"), zip(*rows)))


@pytest.mark.parametrize("block", [700, 1 << 20])
def test_netfilter_lines_equal_a_plain_parse_over_new_year(block, monkeypatch):
    """2,000 generated lines from November to February, TCP and UDP, are what split() and strptime make of them."""
    monkeypatch.setattr(textlogs, "BLOCK", block)
    rng = random.Random(3)
    lines, when = [], datetime(2021, 11, 3, tzinfo=timezone.utc)
    for _ in range(2000):
        when += timedelta(seconds=rng.randrange(7000))
        line = LINE.replace("Dec 12 00:01:07", f"{when:%b} {when.day:2d} {when:%H:%M:%S}")
        line = line.replace("104.248.236.65", quad(rng.randrange(1 << 32))).replace("4200", str(rng.randrange(65536)))
        line = line.replace("LEN=40", f"LEN={rng.randrange(20, 1500)}").replace("TTL=240", f"TTL={rng.randrange(256)}")
        line = line.replace("WINDOW=1024", f"WINDOW={rng.randrange(65536)}")
        if rng.random() < 0.2:
            line = re.sub("PROTO=TCP.*", "PROTO=UDP SPT=53 DPT=53 LEN=9 ", line)
        lines.append(line)
    near = datetime(2021, 10, 1, tzinfo=timezone.utc).timestamp()
    columns, skipped, rejected, *_ = read("".join(lines), "netfilter", near)
    expected = plain_netfilter("".join(lines), 2021)
    same(columns, expected)
    assert skipped == {"UDP": 2000 - len(expected["time"])} and not rejected


@pytest.mark.parametrize(
    ("stamp", "iso"),
    [
        ("2021-12-12T00:01:07.123456+01:00", "2021-12-11T23:01:07.123456"),
        ("2021-12-12T00:01:07Z", "2021-12-12T00:01:07"),
        ("2021-12-12 00:01:07", "2021-12-12T00:01:07"),
        ("2021-12-12T00:01:07-0230", "2021-12-12T02:31:07"),
        ("Dec  2 00:01:07", "2021-12-02T00:01:07"),
        ("Dec 12 23:59:60", "2021-12-13T00:00:00"),
    ],
)
def test_netfilter_times_with_and_without_a_year(stamp, iso):
    """ISO times, offsets and blanks for T, days of one digit and leap seconds."""
    columns, _, rejected, *_ = read(LINE.replace("Dec 12 00:01:07", stamp), "netfilter")
    expected = datetime.fromisoformat(iso).replace(tzinfo=timezone.utc).timestamp()
    assert not rejected and abs(columns["time"][0] - expected) < 3e-7


def test_a_line_without_a_year_takes_the_one_nearest_to_the_line_before():
    """Years roll over New Year forwards and backwards, also past a garbled line; 29 February needs a leap year."""

    def years(*stamps, near=1639267200.0):
        text = "".join(LINE.replace("Dec 12 00:01:07", f"{stamp} 00:01:07") for stamp in stamps)
        columns, _, rejected, *_ = read(text, "netfilter", near)
        return [datetime.fromtimestamp(t, timezone.utc).year for t in columns.get("time", [])], dict(rejected)

    assert years("Dec 31", "Jan  1", "Jul  1", "Nov 30", "Jan  2") == ([2021, 2022, 2022, 2022, 2023], {})
    assert years("Jan  1", "Dec 31", "Aug  1", "Feb  1", "Jan  1") == ([2022, 2021, 2021, 2021, 2021], {})
    assert years("Dec 30", "Xxx 31", "Feb 30", "Jan  1") == ([2021, 2022], {"bad time": 2})
    assert years("Feb 28", "Feb 29", "Mar  1") == ([2022, 2022], {"bad time": 1})
    leap = datetime(2024, 5, 1, tzinfo=timezone.utc).timestamp()
    assert years("Feb 28", "Feb 29", "Mar  1", near=leap) == ([2024] * 3, {})
    assert years("Feb 29", "Mar  1") == ([2020, 2020], {})
    assert years("Dec 31", near=datetime(2021, 1, 3, tzinfo=timezone.utc).timestamp()) == ([2020], {})


def test_netfilter_span_gives_the_first_and_last_time_without_a_year():
    """The span counts years like the reader; ISO lines and others do not enter; a log of only those has none."""
    lines = [LINE, LINE.replace("Dec 12", "Jan  3"), "noise\n", LINE.replace("Dec 12 00:01:07", "2030-01-01T00:00:00")]
    first, last = textlogs.netfilter_span(io.BytesIO("".join(lines).encode()), 1639267200.0)
    assert datetime.fromtimestamp(first, timezone.utc).isoformat() == "2021-12-12T00:01:07+00:00"
    assert datetime.fromtimestamp(last, timezone.utc).isoformat() == "2022-01-03T00:01:07+00:00"
    assert textlogs.netfilter_span(io.BytesIO("".join(lines[2:]).encode()), 0.0) is None


def test_netfilter_reads_sequence_numbers_and_tcp_options():
    """SEQ= and OPT (...) give seq, mss and timestamp; a broken option list ends there; other lines lend nothing."""

    def line(seq, options):
        return LINE.replace("SPT=47246 DPT=4200", f"SPT=47246 DPT=4200 SEQ={seq} ACK=0").replace(
            "URGP=0", f"URGP=0 OPT ({options})"
        )

    text = (
        line(4294967295, "020405B40402080A0000002A000000000103030A") + line(7, "01010101020405b4") + LINE
        + "Dec 12 00:01:07 localhost other: OPT (02040001) FRAG:7\n" + line(1, "0204") + line(2, "02040") + line(3, "")
        + line(4, "03FF02040001") + line(5, "0002040001") + line(6, "zz020405B4") + line(8, "080A80000001")
        + line(9, "0200020405B4") + line(10, "020405B4" + "01" * 60 + "080A0000002A00000000")
    )  # fmt: skip
    columns, skipped, rejected, *_ = read(text, "netfilter")
    assert columns["seq"].tolist() == [4294967295, 7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert columns["mss"].tolist() == [1460, 1460, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1460]
    assert columns["timestamp"].tolist() == [42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert skipped == {"other log line": 1} and not rejected


def test_netfilter_counts_what_it_leaves_out_by_kind():
    """UDP, ICMP with the packet it quotes, others, IPv6, later fragments and other lines are skipped."""
    head = LINE[: LINE.index("PROTO")]
    lines = [
        LINE,
        head + "PROTO=UDP SPT=8000 DPT=8083 LEN=39 \n",
        head + "PROTO=ICMP TYPE=3 CODE=1 [SRC=1.2.3.4 DST=5.6.7.8 LEN=9 PROTO=TCP SPT=1 DPT=2 WINDOW=3 ] \n",
        head + "PROTO=132 \n",
        head.replace("ID=55228", "ID=55228 FRAG:64") + "PROTO=TCP \n",
        re.sub(r"SRC=\S+ DST=\S+", "SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=fe80:0000::1", LINE),
        "Dec 12 00:01:08 localhost sshd[7]: Invalid user admin from 1.2.3.4 port 5\n",
        "\n",
        LINE,
    ]
    columns, skipped, rejected, *_ = read("".join(lines), "netfilter")
    assert len(columns["time"]) == 2 and not rejected
    assert skipped == {"UDP": 1, "ICMP": 1, "other protocol": 1, "later fragment": 1, "IPv6": 1, "other log line": 1}


def test_packets_of_the_machine_itself_are_outgoing():
    """A line whose IN= is empty is a packet that the machine sent: counted, not taken for a sender's."""
    lines = ["Dec 12 00:01:07 h kernel: [UFW ALLOW] IN= OUT=e SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP SPT=1 DPT=2 SYN",
             "Dec 12 00:01:07 h kernel: [UFW BLOCK] IN=e OUT= SRC=3.3.3.3 DST=1.1.1.1 PROTO=TCP SPT=1 DPT=4 SYN",
             "Dec 12 00:01:07 h kernel: DROP:IN= OUT=e SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP SPT=1 DPT=2 SYN",
             "Dec 12 00:01:07 h kernel: SRC=3.3.3.3 DST=1.1.1.1 PROTO=TCP SPT=1 DPT=5 SYN"]  # fmt: skip
    columns, skipped, rejected, *_ = read("\n".join(lines) + "\n", "netfilter")
    assert columns["port"].tolist() == [4, 5] and skipped == {"outgoing": 2} and not rejected


def test_the_first_of_a_repeated_netfilter_key_counts():
    """LEN= of the IP header comes before that of what it carries."""
    columns, *_ = read(LINE.replace("URGP=0", "URGP=0 LEN=99 TTL=1 DPT=9 SRC=9.9.9.9"), "netfilter")
    same(columns, plain_netfilter(LINE, 2021))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Dec 12 00:01:07", "Dec 32 00:01:07", "bad time"),
        ("Dec 12 00:01:07", "Dec 12 25:01:07", "bad time"),
        ("Dec 12 00:01:07", "[10109111.799442]", "bad time"),
        ("SRC=104", "SRC=904", "bad source address"),
        ("DST=158.247.223.84", "DST=158.247.223", "bad destination"),
        ("DST=158.247.223.84 ", "", "bad destination"),
        ("DPT=4200", "DPT=70000", "bad port"),
        ("DPT=4200", "DPT=", "bad port"),
        ("DPT=4200 ", "", "bad port"),
        ("LEN=40", "LEN=70000", "bad length"),
        ("TTL=240", "TTL=2x0", "bad ttl"),
        ("WINDOW=1024", "WINDOW=-1", "bad window"),
        ("PROTO=TCP", "", "no protocol"),
    ],
)
def test_a_broken_netfilter_line_is_rejected_with_the_reason_and_the_place(old, new, reason):
    """Each kind of damage to a line leaves out that line only, with its reason and number."""
    assert old in LINE
    columns, _, rejected, places, _ = read(LINE + LINE.replace(old, new) + LINE, "netfilter")
    assert len(columns["time"]) == 2
    assert rejected == {reason: 1} and places == {reason: "line 2"}


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
        monkeypatch.setattr(textlogs, "BLOCK", rng.choice([400, 1 << 20, 1 << 20, 1 << 20]))
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
