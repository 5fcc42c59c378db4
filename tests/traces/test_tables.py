"""tables.py and records.py against plain line-by-line parsers, on odd and on broken tables."""

import csv
import io
import re
from datetime import datetime, timezone

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


ROW = "198.51.100.1,192.0.2.7,23"
# (kind of table, lines, what a note or the reader should know): each is packets from 198.51.100.1 to 192.0.2.7, port 23
FORMATS = [
    ("table: the authors' traces", " ".join(AUTHORS) + "\n1683878400 2048 198.51.100.1 40000 192.0.2.7 23 44 2 0 7 "
     "243 1460 1024 - - - 0.1", "blanks, tabs, commas, semicolons or bars between the fields"),
    ("table: quoted, thousands separators", 'ts,src,dst,dport,proto\n"1,683,878,400","198.51.100.1",192.0.2.7,23.0,TCP',
     ""),
    ("table: Excel", "sep=;\ntime;source ip;dest ip;dest port;protocol\n2023-05-12 8:00;198.51.100.1;192.0.2.7;23;6",
     ""),
    ("table: tshark -T fields", "frame.time_epoch\tip.src\tip.dst\ttcp.dstport\tip.len\tip.ttl\tip.proto\n"
     "1683878400.250000000\t198.51.100.1\t192.0.2.7\t23\t44\t243\t6", ""),
    ("table: tshark, frame.time", 'frame.time,ip.src,ip.dst,tcp.dstport,ip.proto\n'
     '"May 12, 2023 08:00:00.250000000 UTC",' + ROW + ",6", ""),
    ("table: Zeek", "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\torig_pkts\t"
     "orig_ip_bytes\n#types\ttime\taddr\tport\taddr\tport\tenum\tcount\tcount\n1683878400.25\t198.51.100.1\t40000\t"
     "192.0.2.7\t23\ttcp\t3\t132\n#close\t2023-05-12-09-00-00", "3 packets: orig_pkts"),
    ("table: AWS VPC flow log", "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets "
     "bytes start end action log-status\n2 123456789012 eni-0a 198.51.100.1 192.0.2.7 40000 23 6 3 132 1683878400 "
     "1683878450 REJECT OK", "3 packets: packets"),
    ("table: nfdump -o csv", "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt\n2023-05-12 08:00:00,2023-05-12 "
     "08:00:01,1.0,198.51.100.1,192.0.2.7,40000,23,TCP,......S.,0,0,3,132,0,0\nSummary\n"
     "flows,bytes,packets,avg_bps,avg_pps,avg_bpp\n1,132,3,1,1,44", "3 packets: ipkt; the footer ends the table"),
    ("table: Argus", "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,TotPkts,TotBytes,SrcPkts,SrcBytes\n"
     "2023/05/12 08:00:00.25,0.0,tcp,198.51.100.1,40000,   ->,192.0.2.7,23,S_RA,5,300,3,132", "3 packets: SrcPkts"),
    ("table: BoT-IoT", "pkSeqID,stime,flgs,proto,saddr,sport,daddr,dport,pkts,bytes,state,seq\n1,1683878400.25,e,tcp,"
     "198.51.100.1,40000,192.0.2.7,23,3,132,REQ,77", "3 packets: pkts; its seq is none of TCP"),
    ("table: DShield", "date\ttime\tsourceip\tsourceport\ttargetip\ttargetport\tprotocol\tcount\n2023-05-12\t08:00:00\t"
     "198.51.100.1\t40000\t192.0.2.7\t23\t6\t3", "3 packets: count"),
    ("table: Windows pfirewall.log", "#Version: 1.5\n#Software: Microsoft Windows Firewall\n#Time Format: Local\n"
     "#Fields: date time action protocol src-ip dst-ip src-port dst-port size tcpflags tcpsyn tcpack tcpwin icmptype "
     "icmpcode info path\n\n2023-05-12 08:00:00 DROP TCP 198.51.100.1 192.0.2.7 40000 23 44 S 7 0 1024 - - - RECEIVE",
     "its times are local ones: they count as they stand"),
    ("table: ECS", "@timestamp,source.ip,destination.ip,destination.port,network.transport\n2023-05-12T08:00:00Z,"
     + ROW + ",tcp", ""),
    ("table: UNSW-NB15", "srcip,sport,dstip,dsport,proto,spkts,sbytes,sttl,swin,stime\n198.51.100.1,40000,192.0.2.7,23,"
     "tcp,3,132,243,1024,1683878400", "3 packets: spkts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "note"), FORMATS)
def test_tables_of_many_makers(name, text, note):
    """Each is read: the right hosts and port at the right time, as many packets as it says, of 44 bytes."""
    columns, skipped, rejected, _, warnings = read(text + "\n")
    assert not rejected and sum(skipped.values()) == (2 if "footer" in note else 0)
    assert columns["time"].astype(int).tolist() == [1683878400]
    assert columns["src"].tolist() == [0xC6336401] and columns["dst"].tolist() == [0xC0000207]
    assert columns["port"].tolist() == [23] and columns.get("length", [44])[0] == 44
    assert columns.get("packets", [1])[0] == (3 if note.startswith("3 packets") else 1)
    assert any("counts as the packets of its column" in line for line in warnings) == note.startswith("3 packets")
    assert "seq" not in columns or columns["seq"].tolist() == [7]


@pytest.mark.parametrize("block", [150, 1 << 20])
@pytest.mark.parametrize("header", [
    "dst,src,ts,dport", "note,ts,src,dst,dport", "TS;SRC;DST;DPORT", "ts\tsrc\tdst\tdport", "#fields ts src dst dport",
    '"ts","dst","src","dport","proto"', "\ufeffts,dst,src,dport", "# ts,src,dst,dport",
])  # fmt: skip
def test_another_header_is_a_header(header, block, monkeypatch):
    """A header in the midst, in another order, with more columns or another separator, tells the rows below it."""
    monkeypatch.setattr(fields, "BLOCK", block)
    names = header.strip("\ufeff# ").removeprefix("fields ").replace('"', "").lower()
    separator = next(mark for mark in ",;\t " if mark in names)
    values = {"ts": "1600000001", "src": "198.51.100.2", "dst": "192.0.2.8", "dport": "24", "note": "x", "proto": "6"}
    row = separator.join(values[name] for name in names.split(separator))
    first = "ts,src,dst,dport\n1600000000,198.51.100.1,192.0.2.7,23\n"
    columns, _, rejected, *_ = read(first + f"{header}\n{row}\n" * 3 + first)
    assert columns["src"].tolist() == [0xC6336401, *[0xC6336402] * 3, 0xC6336401] and not rejected
    assert columns["dst"].tolist() == [0xC0000207, *[0xC0000208] * 3, 0xC0000207]
    assert columns["port"].tolist() == [23, 24, 24, 24, 23]


def test_rows_below_a_header_that_lacks_columns_are_broken():
    """Zeek's `#fields` of another log: its rows are no packets, and the next header's are."""
    good = "#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\n1600000000\t198.51.100.1\t192.0.2.7\t23\n"
    shown = {}
    columns, _, rejected, *_ = read(good + "#fields\tts\tuid\tmessage\n1600000000\tC\tx\n" + good, shown=shown)
    assert len(columns["time"]) == 2 and rejected == {"no column for src, dst, port": 1}
    assert shown["no column for src, dst, port"].startswith("line 4: expected a header with columns for time, src")


def test_what_comes_behind_a_footer_is_no_row():
    """Lines behind `Summary` are counted until a header comes."""
    head = "ts,src,dst,dport\n1600000000,198.51.100.1,192.0.2.7,23\n"
    columns, skipped, rejected, *_ = read(head + "Summary\nflows,bytes\n1,44\n" + head)
    assert len(columns["time"]) == 2 and skipped == {"behind a table's end": 2} and not rejected


@pytest.mark.parametrize(("text", "kind"), [
    ("TCP (6)", None), ("tcp4", None), ("0x06", None), ("0x6", None), ("06", None), ("IPPROTO_TCP", None),
    ("6 (TCP)", None), ("6.0", None), ("Tcp", None), ("TCP/SYN", None), ("(6)", None), ("UDP (17)", "UDP"),
    ("0x11", "UDP"), ("udplite", "other protocol"), ("ipv6-icmp", "ICMP"), ("ICMP6", "ICMP"), ("132", "other protocol"),
    ("60", "other protocol"), ("-", "no protocol given"), ("", "no protocol given"), ("x" * 99, "other protocol"),
])  # fmt: skip
def test_protocols_by_any_name(text, kind):
    """TCP under its other names is TCP; what is not is told by kind, with the text."""
    shown = {}
    columns, skipped, *_ = read(f"ts,src,dst,dport,proto\n1600000000,{ROW},{text}\n", shown=shown)
    assert len(columns.get("time", ())) == (kind is None) and skipped == ({kind: 1} if kind else {})
    assert kind is None or shown[kind].startswith(f"line 2: '{text[:60]}")


@pytest.mark.parametrize(("text", "address"), [
    ("::ffff:198.51.100.1", True), ("::FFFF:198.51.100.1", True), ("::ffff:c633:6401", True),
    ("0:0:0:0:0:ffff:198.51.100.1", True), ("0000:0000:0000:0000:0000:ffff:c633:6401", True),
    ("::ffff:0:198.51.100.1", False), ("64:ff9b::198.51.100.1", False), ("::198.51.100.1", False),
    ("::ffff:198.51.100.256", False), ("::fffe:c633:6401", False), ("::ffff:c633:", False),
])  # fmt: skip
def test_mapped_addresses_are_ipv4(text, address):
    """IPv4 mapped into IPv6 (RFC 4291) is IPv4, in both notations; translated and other addresses are IPv6."""
    columns, skipped, rejected, *_ = read(f"ts,src,dst,dport\n1600000000,{text},192.0.2.7,23\n")
    assert columns.get("src", []) == ([0xC6336401] if address else []) and not rejected
    assert skipped == ({} if address else {"IPv6": 1})


@pytest.mark.parametrize(("text", "value"), [
    ("44,300", 44300), ("2,323", 2323), ("4.43e2", 443), ("4.43E+02", 443), ("443,0", 443), ("443.000", 443),
    ("44,30", None), ("4,4300", None), ("44,300,1", None), (",443", None), ("443,", None), ("4.435e2", None),
    ("1e99", None), ("443e", None), ("e2", None), ("65,536", None), ("44,300.5", None), ("1,2,3", None),
])  # fmt: skip
def test_odd_numbers_are_read_or_refused(text, value):
    """Thousands separators before three digits each, exponents and empty fractions; half a number is none."""
    shown = {}
    columns, _, rejected, *_ = read(f'ts,src,dst,dport\n1600000000,198.51.100.1,192.0.2.7,"{text}"\n', shown=shown)
    assert columns.get("port", []) == ([] if value is None else [value])
    assert rejected == ({"bad port": 1} if value is None else {})
    if value is None:
        assert shown["bad port"] == f"line 2: expected a number of 0 to 65535, got '{text.replace(',', '_')}'"


@pytest.mark.parametrize(("text", "clock"), [
    ("2023-05-12 08:00:00 UTC", "08:00:00"), ("2023-05-12 08:00:00 +0200", "06:00:00"),
    ("2023-05-12 08:00:00 +02:00", "06:00:00"), ("2023-05-12 08:00:00,25", "08:00:00.25"),
    ("2023-05-12 08:00", "08:00:00"), ("2023-05-12 8:00:07", "08:00:07"), ("2023/05/12 08:00:07.5", "08:00:07.5"),
    ("2023/5/12 8:07", "08:07:00"), ("20230512T080007Z", "08:00:07"), ("20230512 08:00:07", "08:00:07"),
    ("May 12, 2023 08:00:07.5 UTC", "08:00:07.5"), ("May 12 2023 08:00:07", "08:00:07"),
    ("Fri May 12 08:00:07 2023", "08:00:07"), ("Fri, 12 May 2023 08:00:07 +0200", "06:00:07"),
    ("12/May/2023:08:00:07 +0200", "06:00:07"), ("12-May-2023 08:00:07", "08:00:07"),
    ("2023-05-12 08:00:07 PM", "20:00:07"), ("2023-05-12 12:00:07 AM", "00:00:07"), ("1.683878407e+09", "08:00:07"),
    ("1683878407,5", "08:00:07.5"), ("2023-05-12 13:00 PM", None), ("2023-05-12 08:60", None),
    ("May 12 08:00:07", None),
    ("12/May/23 08:00:07", None), ("2023-05-12 08:00:07 nowhere", None), ("2023.05/12 08:00:07", None),
    ("2023-05-12 08:00:07 +", None), ("32/May/2023 08:00:07", None), ("2023-05-12 08:00:07:05", None),
])  # fmt: skip
def test_times_as_people_write_them(text, clock):
    """Each is that time of 12 May 2023, or bad, with the text."""
    shown = {}
    columns, _, rejected, *_ = read(f'src,dst,dport,when,time\n{ROW},x,"{text}"\n', shown=shown)
    if clock is None:
        assert rejected == {"bad time": 1} and f"got '{text.replace(',', '_')}'" in shown["bad time"]
    else:
        hour, minute, second = map(float, clock.split(":"))
        midnight = datetime(2023, 5, 12, tzinfo=timezone.utc).timestamp()
        assert abs(columns["time"][0] - midnight - hour * 3600 - minute * 60 - second) < 1e-6


def test_day_and_month_are_told_apart_or_refused():
    """A number above 12 among a block's dates tells the order; without one it is an error that shows the text."""
    head = "src;dst;dport;time\n"
    row = ROW.replace(",", ";") + ";{}\n"
    for dates, days in ((["05/12/2023 08:00:00", "05/13/2023 08:00:00"], [12, 13]),
                        (["12.05.2023 08:00", "13.05.2023 8:00"], [12, 13]),
                        (["05-05-2023 08:00"], [5])):
        columns, _, rejected, *_ = read(head + "".join(row.format(date) for date in dates))
        assert [datetime.fromtimestamp(t, timezone.utc).day for t in columns["time"]] == days and not rejected
        assert {datetime.fromtimestamp(t, timezone.utc).month for t in columns["time"]} == {5}
    with pytest.raises(ValueError, match=r"^t: expected dates with the year first, or .* got '05/12/2023 08:00:00'$"):
        read(head + row.format("05/12/2023 08:00:00") * 3)


@pytest.mark.parametrize(("header", "row", "time"), [
    ("date,time", "2023-05-12,08:00:07", 1683878407), ("date,time,zone", "2023/05/12,8:00:07 AM,x", 1683878407),
    ("date,time,ts", "2023-05-12,08:00:07,1683878407.5", 1683878407.5),
    ("date,time,timestamp", "2023-05-12,08:00:07,1700000000", 1683878407),
    ("date,time", "2023-05-12,1683878407.5", 1683878407.5), ("time,timestamp", "1683878407,77", 1683878407),
    ("date", "2023-05-12 08:00:07", 1683878407), ("start,end", "1683878407,1683878409", 1683878407),
])  # fmt: skip
def test_which_column_is_the_time(header, row, time):
    """A date and a time of day are joined, unless a time stamp beside them agrees with them."""
    columns, _, rejected, *_ = read(f"src,dst,dport,{header}\n" + f"{ROW},{row}\n" * 3)
    assert columns["time"].tolist() == [time] * 3 and not rejected


@pytest.mark.parametrize("name", ["packets", "pkts", "TotPkts", "ipkt", "Count", "orig_pkts", "SrcPkts", "Tot Pkts",
                                  "num_packets", "hits", "in_pkts", "Packet Count"])
def test_rows_that_stand_for_many_packets(name):
    """A row of a thousand million packets is one row that says so; 0 packets are none; nothing given is one."""
    text = f"ts,src,dst,dport,{name},length\n" + "".join(
        f"1600000000,{ROW},{count},40\n" for count in ("1000000000", "-", "0", "3.0", "x"))
    columns, skipped, rejected, _, warnings = read(text)
    assert columns["packets"].tolist() == [10**9, 1, 3] and columns["length"].tolist() == [40] * 3
    assert skipped == {"row of 0 packets": 1} and rejected == {"bad number of packets": 1}
    assert sum("each row counts as the packets of its column" in line for line in warnings) == 1


def test_the_length_of_many_packets_is_their_average():
    """Bytes / packets, rounded, of the same direction's packets."""
    text = "ts,src,dst,dport,packets,bytes\n" + "".join(
        f"1600000000,{ROW},{count}\n" for count in ("3,120", "3,121", "2,-", "1,99999999"))
    assert read(text)[0]["length"].tolist() == [40, 40, 0, 65535]


def test_packets_that_go_out_are_no_senders():
    """A direction of SEND or egress is this machine's own."""
    text = f"ts,src,dst,dport,path\n1600000000,{ROW},RECEIVE\n1600000000,{ROW},SEND\n1600000000,{ROW},egress\n"
    columns, skipped, *_ = read(text)
    assert len(columns["time"]) == 1 and skipped == {"outgoing": 2}


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_a_broken_field_is_shown(column, value, reason):
    """The note of each kind of broken value names the line, what was expected and the text."""
    shown = {}
    row = {"ts": "1600000000", "src": "1.2.3.4", "dst": "5.6.7.8", "dport": "23"} | {column: value}
    read(",".join(row) + "\n\n" + ",".join(row.values()) + "\n", shown=shown)
    assert shown[reason].startswith("line 3: expected ") and f"got '{ascii(value[:60])[1:-1]}" in shown[reason]
