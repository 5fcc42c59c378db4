"""syslog.py against plain line-by-line parsers, in every dress, on odd and on broken lines."""

import io
import random
import re
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address

import pytest

from tests.traces.reading import LINE, quad, read, same
from traces import fields, syslog


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
