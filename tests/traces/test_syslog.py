"""syslog.py against plain line-by-line parsers, in every dress, on odd and on broken lines."""

import io
import random
import re
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address

import numpy as np
import pytest

from tests.traces.reading import LINE, quad, read, same
from traces import fields, stamps, syslog


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
    monkeypatch.setattr(fields, "BLOCK", block)
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
    first, last = syslog.log_span(io.BytesIO("".join(lines).encode()), 1639267200.0)
    assert datetime.fromtimestamp(first, timezone.utc).isoformat() == "2021-12-12T00:01:07+00:00"
    assert datetime.fromtimestamp(last, timezone.utc).isoformat() == "2022-01-03T00:01:07+00:00"
    assert syslog.log_span(io.BytesIO("".join(lines[2:]).encode()), 0.0) is None


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


PACKET = ("IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 SRC=198.51.100.1 DST=192.0.2.7 LEN=44 TOS=0x00 "
          "PREC=0x00 TTL=245 ID=54321 PROTO=TCP SPT=40000 DPT=23 WINDOW=1024 RES=0x00 SYN URGP=0")
BLOCK = "[UFW BLOCK] " + PACKET
FILTERLOG = ("4,,,1000000103,vtnet0,match,block,in,4,0x0,,243,54321,0,none,6,tcp,44,198.51.100.1,192.0.2.7,40000,23,0,"
             "S,1395699778,,1024,,mss")
# (logger, what stands before the packet): all are of 2023-05-12 10:00:00 UTC, give or take a fraction
DRESS = [
    ("syslog (RFC 3164), the year from the file's name", "May 12 10:00:00 sensor kernel: "),
    ("syslog with the kernel's time", "May 12 10:00:00 sensor kernel: [10109111.799442] "),
    ("syslog with a priority", "<4>May 12 10:00:00 sensor kernel: "),
    ("syslog with a date that has a year", "May 12 2023 10:00:00 sensor kernel: "),
    ("syslog with the year first", "2023 May 12 10:00:00 sensor kernel: "),
    ("rsyslog, ISO time (RFC 3339)", "2023-05-12T12:00:00.25+02:00 sensor kernel: "),
    ("syslog (RFC 5424)", "<4>1 2023-05-12T10:00:00.5Z sensor kernel - - - "),
    ("syslog (RFC 5424) with structured data", '<134>1 2023-05-12T10:00:00Z sensor kernel - - [meta sequenceId="7"] '),
    ("journalctl -o short-full", "Fri 2023-05-12 10:00:00 UTC sensor kernel: "),
    ("journalctl -o short-unix", "1683885600.123456 sensor kernel: "),
    ("journalctl -o short-iso-precise", "2023-05-12T12:00:00.123456+0200 sensor kernel: "),
    ("journalctl -o short-precise", "May 12 10:00:00.123456 sensor kernel: "),
    ("dmesg -T", "[Fri May 12 10:00:00 2023] "),
    ("OpenWrt's logread", "Fri May 12 10:00:00 2023 kern.warn kernel: [ 1234.567890] "),
    ("Proxmox's pve-firewall.log", "100 6 tap100i0-IN 12/May/2023:12:00:00 +0200 policy DROP: "),
    ("a file's name in front (grep)", "/var/log/kern.log:May 12 10:00:00 sensor kernel: "),
    ("a file's name and a line's number", "ufw.log-2023:17:May 12 10:00:00 sensor kernel: "),
    ("docker's time stamp in front", "2023-05-12T10:00:00.123456789Z May 12 03:00:00 sensor kernel: "),
    ("a bare time", "2023-05-12 10:00:00 "),
    ("a time with a comma", "2023-05-12 10:00:00,250 firewall "),
    ("ulogd", "May 12 10:00:00 sensor ulogd[7]: "),
]  # fmt: skip
FORMATS = [(f"firewall log: {logger}", before + BLOCK, "") for logger, before in DRESS] + [
    ("filterlog of pfSense", "May 12 10:00:00 fw filterlog[351]: " + FILTERLOG, "the year from the file's name"),
    ("filterlog of OPNsense", '<134>1 2023-05-12T10:00:00+00:00 fw.example filterlog 351 - [meta sequenceId="1"] '
     + FILTERLOG, ""),
]  # fmt: skip
NEAR = datetime(2023, 6, 1, tzinfo=timezone.utc).timestamp()
TEN = datetime(2023, 5, 12, 10, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(("name", "line", "_note"), FORMATS)
def test_syslog_in_all_its_dress(name, line, _note):
    """Whatever a logger puts before the packet, it is one packet at its time, with all its fields."""
    columns, skipped, rejected, _, warnings = read(line + "\n", "netfilter", NEAR)
    assert TEN <= columns["time"][0] < TEN + 1 and len(columns["time"]) == 1, columns
    assert columns["src"].tolist() == [0xC6336401] and columns["dst"].tolist() == [0xC0000207]
    assert columns["port"].tolist() == [23] and columns["length"].tolist() == [44]
    assert columns["window"].tolist() == [1024] and not skipped and not rejected and not warnings


@pytest.mark.parametrize("block", [500, 1 << 20])
def test_dress_may_change_from_line_to_line(block, monkeypatch):
    """A file of all kinds of lines, other daemons' between them, gives a packet for each, in order."""
    monkeypatch.setattr(fields, "BLOCK", block)
    lines = [line.replace(",40000,23,", f",40000,{k},").replace("DPT=23", f"DPT={k}")
             for k, (_, line, _) in enumerate(FORMATS, start=1)]  # fmt: skip
    text = "\nMay 12 10:00:00 sensor sshd[7]: Invalid user\n".join(lines)
    columns, skipped, rejected, *_ = read(text, "netfilter", NEAR)
    assert columns["port"].tolist() == list(range(1, len(lines) + 1))
    assert skipped == {"other log line": len(lines) - 1} and not rejected
    assert ((columns["time"] >= TEN) & (columns["time"] < TEN + 1)).all()


BEGINNINGS = (
    "Dec 12 00:01:07 host", "Dec  2 00:01:07 host", "Dec 12 00:01:07 2023 host", "Dec 12 00:01:07 2022 host",
    "Dec 12 00:01:07.25 host", "Dec 12 00:01:07.75 host", "Dec 12 00:01:07:5 host", "Dec 12 00:61:07 host",
    "Feb 30 00:01:07 host", "Jan  1 00:00:00 host", "2 May 12 00:01:07 2023", "2023-05-12T10:00:00Z host",
    "1683885600.123456 host", "host", "Dec 12 00:01:07")  # fmt: skip


@pytest.mark.parametrize("block", [700, 1 << 20])
def test_a_stamp_is_read_once_for_the_lines_that_repeat_it(block, monkeypatch):
    """Runs of lines with stamps of all kinds, alike to their 15th byte or not, have the times of lines read by one."""
    monkeypatch.setattr(fields, "BLOCK", block)
    rng = random.Random(0)
    text = "".join(f"{beginning} kernel: {BLOCK} ID={rng.randrange(9)}\n" * rng.randrange(1, 4)
                   for beginning in rng.choices(BEGINNINGS, k=400))  # fmt: skip
    seen, by_line = [], stamps._stamps

    def counted(text, starts, *arguments):
        seen.append(len(starts))
        return by_line(text, starts, *arguments)
    monkeypatch.setattr(stamps, "_stamps", counted)
    once = read(text, "netfilter", NEAR)
    fewer = sum(seen)
    monkeypatch.setattr(stamps, "_new", lambda text, starts: np.ones(len(starts), bool))
    seen.clear()
    each = read(text, "netfilter", NEAR)
    same(once[0], each[0])
    assert once[1:] == each[1:] and fewer < 0.9 * sum(seen) and len(set(once[0]["time"].tolist())) > 8


def test_a_zone_that_is_not_applied_is_said():
    """An abbreviation such as CEST leaves the time as it stands, with a note; UTC needs none."""
    line = "Fri 2023-05-12 10:00:00 CEST sensor kernel: " + BLOCK + "\n"
    columns, _, _, _, warnings = read(line, "netfilter")
    assert columns["time"].tolist() == [TEN]
    assert warnings == ["the time zone CEST is not applied: times are taken as they stand"]


def test_a_log_without_any_time_is_refused():
    """dmesg without -T counts from boot: one line says what is expected and shows the line."""
    with pytest.raises(ValueError, match=r"^t: expected lines with a date and a time of day, got none.*'\[10109111"):
        read(f"[10109111.799442] {BLOCK}\n" * 5, "netfilter")


@pytest.mark.parametrize("block", [300, 700, 1 << 20])
def test_repeated_messages_count_as_many_packets(block, monkeypatch):
    """`message repeated N times: [...]` is N packets; `last message repeated N times` N more of the line before."""
    monkeypatch.setattr(fields, "BLOCK", block)
    stamp = "May 12 10:00:0{} sensor "
    lines = [stamp.format(0) + "kernel: " + BLOCK, stamp.format(1) + f"kernel: message repeated 7 times: [ {BLOCK} ]",
             stamp.format(2) + "kernel: " + BLOCK.replace("DPT=23", "DPT=24"),
             stamp.format(3) + "last message repeated 3 times", stamp.format(4) + "last message repeated 2 times",
             stamp.format(5) + "sshd[7]: hello", stamp.format(6) + "last message repeated 9 times",
             stamp.format(7) + "filterlog[351]: " + FILTERLOG,
             stamp.format(8) + "last message repeated 1000000000 times",
             stamp.format(9) + "kernel: " + BLOCK.replace("PROTO=TCP", "PROTO=UDP"),
             stamp.format(9) + "last message repeated 5 times"]  # fmt: skip
    columns, skipped, rejected, _, warnings = read("\n".join(lines) + "\n", "netfilter", NEAR)
    if block > 1000:  # smaller ones hold chunks without the column, where each row is one packet
        assert columns["packets"].tolist() == [1, 7, 1, 3, 2, 1, 10**9]
    assert columns["port"].tolist() == [23, 23, 24, 24, 24, 23, 23]
    assert (columns["time"] - TEN).tolist() == [0, 1, 2, 3, 4, 7, 8]
    assert skipped == {"other log line": 2, "UDP": 2} and not rejected
    assert warnings == ["lines that say so (message repeated 7 times) count as that many packets"]


@pytest.mark.parametrize("block", [300, 1 << 20])
def test_a_packet_logged_under_two_prefixes_counts_once(block, monkeypatch):
    """AUDIT and BLOCK lines of one packet are one, also with other lines between and across seconds and blocks; the
    same prefix twice is two packets, and so is another packet."""
    monkeypatch.setattr(fields, "BLOCK", block)

    def line(prefix, fraction, port=23, ident=54321):
        packet = PACKET.replace("DPT=23", f"DPT={port}").replace("ID=54321", f"ID={ident}")
        return f"2023-05-12T10:00:0{fraction}Z sensor kernel: [{7 + float(fraction)}] {prefix} {packet}\n"

    audit, block_ = "[UFW AUDIT]", "[UFW BLOCK]"
    lines = [line(audit, "0.999999"), line(audit, "0.999999", 24), line(block_, "1.000002"),
             line(block_, "1.000002", 24), line("DROP:", "2.5"), line("DROP:", "2.5"), line(audit, "4", 25),
             line(audit, "4.1", 25), line(block_, "4.2", 25), line(block_, "4.3", 25), line(block_, "4.4", 25),
             line(audit, "6", 26), line(block_, "6", 26, ident=1), line(audit, "7", 27),
             line(block_, "9", 27)]  # fmt: skip
    columns, skipped, rejected, _, warnings = read("".join(lines), "netfilter")
    assert columns["port"].tolist() == [23, 24, 23, 23, 25, 25, 25, 26, 26, 27, 27]
    assert skipped == {"a packet logged twice": 4} and not rejected
    assert warnings == ["lines that log one packet twice, as UFW AUDIT and BLOCK do, are counted once"]


def test_a_line_cut_inside_a_number_is_no_packet():
    """DPT=44 at the end of a line, or of the file, may be 443: it is broken, with its end shown. Where all lines end so
    the numbers are whole."""
    whole = "May 12 10:00:00 sensor kernel: " + BLOCK + "\n"
    cut = whole.replace("DPT=23", "DPT=443")
    for end in ("DPT=44", "DPT=443 WINDOW=10"):
        for text in (whole + cut[: cut.index(end) + len(end)], whole + cut[: cut.index(end) + len(end)] + "\n" + whole,
                     cut[: cut.index(end) + len(end)]):
            shown = {}
            columns, _, rejected, *_ = read(text, "netfilter", NEAR, shown=shown)
            assert columns.get("port", np.zeros(0)).tolist() == [23] * text.count("DPT=23 ")
            assert rejected == {"line cut short": 1} and end in shown["line cut short"]
    short = cut[: cut.index(" WINDOW")] + "\n"
    assert read(short * 3, "netfilter", NEAR)[0]["port"].tolist() == [443] * 3
    assert read(short * 3 + short[:-1], "netfilter", NEAR)[2] == {"line cut short": 1}


def test_printk_levels_inside_a_line_are_passed_over():
    """`<1>SRC=`, which some loggers leave inside a line, reads as SRC=."""
    line = "May 12 10:00:00 kernel: DROP " + PACKET.replace(" SRC", " <1>SRC").replace(" LEN", " <1>LEN")
    columns, _, rejected, *_ = read(line.replace(" SPT", " <1>SPT") + "\n", "netfilter", NEAR)
    assert columns["length"].tolist() == [44] and columns["port"].tolist() == [23] and not rejected


def test_ipv4_mapped_addresses_of_the_kernel():
    """The kernel writes all eight groups; what maps IPv4 is IPv4, the rest is IPv6."""
    line = "May 12 10:00:00 sensor kernel: " + BLOCK + "\n"
    mapped = line.replace("198.51.100.1", "0000:0000:0000:0000:0000:ffff:c633:6401")
    columns, skipped, *_ = read(mapped + line.replace("198.51.100.1", "2001:0db8::1"), "netfilter", NEAR)
    assert columns["src"].tolist() == [0xC6336401] and skipped == {"IPv6": 1}


@pytest.mark.parametrize(("old", "new", "kind"), [
    (",in,4,", ",out,4,", "outgoing"), (",in,4,", ",in,6,", "IPv6"), (",in,4,", ",in,5,", "bad version of IP"),
    (",6,tcp,", ",17,udp,", "UDP"), (",6,tcp,", ",1,icmp,", "ICMP"), (",54321,0,", ",54321,64,", "later fragment"),
    ("198.51.100.1", "198.51.100", "bad source address"), ("192.0.2.7", "", "bad destination"),
    (",40000,23,", ",40000,70000,", "bad port"), (",243,", ",2430,", "bad ttl"), (",1024,,mss", "", "line cut short"),
])  # fmt: skip
def test_filterlog_lines_that_are_no_packets_are_told_by_kind(old, new, kind):
    """Outgoing ones, other protocols, fragments and broken ones; the lines around them are read."""
    line = "2023-05-12T10:00:00Z fw filterlog[351]: " + FILTERLOG + "\n"
    assert old in line
    columns, skipped, rejected, *_ = read(line + line.replace(old, new, 1) + line, "netfilter")
    assert len(columns["time"]) == 2 and {**skipped, **rejected} == {kind: 1}


@pytest.mark.parametrize(("old", "new", "kind"), [
    ("Dec 12 00:01:07", "Dec 32 00:01:07", "bad time"), ("SRC=104.", "SRC=904.", "bad source address"),
    ("DPT=4200", "DPT=70000", "bad port"), ("TTL=240", "TTL=2x0", "bad ttl"),
])  # fmt: skip
def test_what_is_bad_is_shown(old, new, kind):
    """The place of a broken line names the line, what was expected and the text at fault."""
    shown = {}
    read(LINE + LINE.replace(old, new), "netfilter", shown=shown)
    assert shown[kind].startswith("line 2: expected ") and new.split("=")[-1] in shown[kind].split(", got ")[1]
