"""tables.py and records.py against plain line-by-line parsers, on odd and on broken tables."""

import csv
import io
import re
from datetime import datetime

import pytest

from tests.traces.reading import AUTHORS, DTYPES, authors_lines, plain, read, same
from traces import fields


@pytest.mark.parametrize("block", [1000, 20_000, 1 << 20])
def test_authors_format_equals_a_plain_parse_however_it_is_cut_into_blocks(block, monkeypatch):
    """Every field of 2,000 lines in the authors' 17 columns is what int(), float() and ipaddress make of it."""
    monkeypatch.setattr(fields, "BLOCK", block)
    lines = authors_lines(2000)
    text = "\n".join(" ".join(line) for line in [AUTHORS, *lines]) + "\n"
    columns, skipped, rejected, *_ = read(text)
    same(columns, plain(lines))
    assert {name: column.dtype.name for name, column in columns.items()} | {"packets": "int64"} == DTYPES
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
        ("ts,src,dst,dport\n1,2,3,4\n".encode("utf-16"), "got none for time"),  # streams.py would have decoded it
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
        "", "-", "abc", "-1.5", "nan", "inf", "1e999", "1.2.3", "1600000000,5,5", "2021-13-01 00:00:00",
        "2021-02-29 00:00:00", "2021-01-01 24:00:00", "2021-01-01 00:0", "2021-01-01", "2021-01-01 00:00:00+99:00",
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
    monkeypatch.setattr(fields, "BLOCK", 200)
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
