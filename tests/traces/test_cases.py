"""Every input of cases/ gives what its README says: plain, gzipped, through a pipe, behind another file, damaged."""

import gzip
import io
import os
import random
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from traces.packets import Summary, read_days

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir() if path.suffix != ".md")
PORTS = [23, 2323, 22, 80, 443]
TABLE_PORTS = [23, 2323, 22, 80, 44300]
EIGHT, TEN = "08:00:00 08:00:01 08:00:02 08:00:03 08:00:04", "10:00:00 10:00:01 10:00:02 10:00:03 10:00:04"
QUARTER = "08:00:00.25 08:00:01.25 08:00:02.25 08:00:03.25 08:00:04.25"
LOG = {"length": [44] * 5, "ttl": [245] * 5, "window": [1024] * 5}
# name -> clock times of 2023-05-12, ports, other columns
RIGHT = {
    "argus_binetflow.csv": (QUARTER, TABLE_PORTS, {"packets": [1] * 5, "length": [60] * 5}),
    "at_timestamp_column.csv": (QUARTER, TABLE_PORTS, {}),
    "aws_vpc_flow_log_with_header.log": (EIGHT, TABLE_PORTS, {"packets": [3] * 5, "length": [40] * 5}),
    "date_and_time_columns.csv": (EIGHT, TABLE_PORTS, {}),
    "dmesg_T.log": (TEN, PORTS, LOG),
    "excel_sep_line.csv": (EIGHT, TABLE_PORTS, {}),
    "ipv4_mapped_addresses.csv": (EIGHT, TABLE_PORTS, {}),
    "journalctl_json.log": (EIGHT.replace(" ", ".123456 ") + ".123456", PORTS, LOG),
    "journalctl_short_full.log": (TEN, PORTS, LOG),
    "p0f.json": (EIGHT, TABLE_PORTS, {"ttl": [57, 245, 115, 64, 240], "mss": [1460, 1460, 1460, 1460, 0],
                                      "window": [29200, 1024, 8192, 64240, 65535]}),
    "packets_column_ignored.csv": (EIGHT, TABLE_PORTS, {"packets": [100] * 5}),
    "pfsense_filterlog_2023-05-12.log": (TEN, PORTS, {"length": [44] * 5, "ttl": [243] * 5, "window": [1024] * 5,
                                                      "seq": [1395699778] * 5}),
    "rfc3164_pri_2023-05-12.log": (TEN, PORTS, LOG),
    "rfc5424_pri_version.log": (TEN.replace(" ", ".5 ") + ".5", PORTS, LOG),
    "suricata_eve.json": (EIGHT, TABLE_PORTS, {"packets": [1, 2, 3, 4, 5], "length": [60] * 5}),
    "syslog_date_with_year.log": (TEN, PORTS, LOG),
    "thousands_separator_ports.csv": (EIGHT, TABLE_PORTS, {}),
    "time_06_scientific.csv": (EIGHT, TABLE_PORTS, {}),
    "time_08_utc_suffix.csv": (QUARTER, TABLE_PORTS, {}),
    "time_08c_space_offset.csv": (QUARTER, TABLE_PORTS, {}),
    "time_09_slash_date.csv": (EIGHT, TABLE_PORTS, {}),
    "time_43_minute_only.csv": ("08:00 08:01 08:02 08:03 08:04", TABLE_PORTS, {}),
    "tshark_frame_time.csv": (QUARTER, TABLE_PORTS, {}),
    "ufw_audit_and_block_of_same_packet.log": (TEN.replace(" ", ".1 ") + ".1", PORTS, LOG),
    "utf16_bom_crlf_from_powershell.csv": (EIGHT, TABLE_PORTS, {}),
    "utf16_bom_crlf_netfilter.log": (TEN, PORTS, LOG),
    "zeek_json.log": (QUARTER, TABLE_PORTS, {}),
}  # fmt: skip
COUNTED = {  # name -> packets of each day
    "csv_concatenated_second_header_other_order.csv": [10], "csv_concatenated_second_header_with_bom.csv": [10],
    "zeek_concatenated_second_fields_line_longer.log": [5, 5], "half_the_lines_with_pri.log": [10],
    "printk_level_inside_line_2023-05-12.log": [10], "rsyslog_message_repeated_7_times.log": [8],
    "two_pcaps_by_cat.pcap": [5, 5], "erspan_gre_ipip_vxlan_mpls.pcap": [5], "nflog_linktype239.pcap": [5],
    "ns_fraction_under_us_magic.pcap": [5],
}  # fmt: skip
NOTES = {  # name -> what a note must say
    "rsyslog_message_repeated_7_times.log": "message repeated", "packets_column_ignored.csv": "its column packets",
    "ufw_audit_and_block_of_same_packet.log": "UFW AUDIT and BLOCK", "argus_binetflow.csv": "its column totpkts",
    "aws_vpc_flow_log_with_header.log": "bytes / packets", "journalctl_short_full.log": "the time zone CEST",
    "suricata_eve.json": "its column flow.pkts_toserver",
}  # fmt: skip


def days_of(paths, summary=None, year=None):
    return list(read_days(paths, Summary() if summary is None else summary, year=year))


def same(got, expected):
    """Two lists of days hold the same packets."""
    assert [day for day, _ in got] == [day for day, _ in expected]
    for (_, left), (_, right) in zip(got, expected):
        for name, column in vars(right).items():
            np.testing.assert_array_equal(getattr(left, name), column, err_msg=name)


def from_pipe(monkeypatch, data):
    """The days that standard input gives, a pipe into which another thread writes."""
    out, into = os.pipe()
    writer = threading.Thread(target=lambda: os.fdopen(into, "wb").write(data))
    writer.start()
    with monkeypatch.context() as patch, os.fdopen(out, "rb") as stream:
        patch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        got = days_of("-", year=2023)  # a pipe has no name that tells it
        sys.stdin.detach()
    writer.join()
    return got


def test_no_case_is_forgotten():
    """Every file of the folder has its right answer here."""
    assert sorted([*RIGHT, *COUNTED]) == NAMES


@pytest.mark.parametrize("name", RIGHT)
def test_a_case_is_read_field_by_field(name):
    """Times, hosts, ports and the other columns are what the folder's README says; nothing is broken."""
    clocks, ports, columns = RIGHT[name]
    summary = Summary()
    ((day, packets),) = days_of(CASES / name, summary)
    assert day.isoformat() == "2023-05-12" and not summary.rejected
    start = datetime(2023, 5, 12, tzinfo=timezone.utc).timestamp()
    expected = [sum(float(part) * unit for part, unit in zip(clock.split(":"), (3600, 60, 1)))
                for clock in clocks.split()]  # fmt: skip
    np.testing.assert_allclose(packets.time - start, expected, rtol=0, atol=3e-7)
    assert packets.port.tolist() == ports
    assert packets.src.tolist() == [0xC6336401, 0xC6336401, 0xC6336402, 0xC6336403, 0xC6336403]
    assert set(packets.dst.tolist()) == {0xC0000207}
    for column in ("length", "ttl", "mss", "window", "timestamp", "seq", "packets"):
        value = getattr(packets, column)
        assert (None if value is None else value.tolist()) == columns.get(column), column
    assert summary.tcp == sum(columns.get("packets", [1] * 5))


@pytest.mark.parametrize("name", COUNTED)
def test_a_case_has_its_number_of_packets(name):
    """Joined, repeated, mixed and captured ones have as many packets a day as they should, from the right hosts."""
    summary = Summary()
    got = days_of(CASES / name, summary)
    assert [len(packets) if packets.packets is None else packets.packets.sum() for _, packets in got] == COUNTED[name]
    assert {src >> 8 for _, packets in got for src in packets.src.tolist()} == {0xC63364}
    assert not summary.rejected and summary.tcp == sum(COUNTED[name])


@pytest.mark.parametrize("name", NOTES)
def test_what_is_odd_is_noted(name):
    """A column of counts, repeated messages, packets logged twice and a zone that is not applied are told."""
    summary = Summary()
    days_of(CASES / name, summary)
    assert any(NOTES[name] in line for line in summary.notes), summary.notes


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_the_same_gzipped_piped_and_behind_another(name, tmp_path, monkeypatch):
    """Gzip, standard input and a second file change nothing; behind another file its packets come beside that one's."""
    data, path = (CASES / name).read_bytes(), CASES / name
    plain = days_of(path)
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(data))
    same(days_of(zipped), plain)
    same(from_pipe(monkeypatch, data), plain)
    same(from_pipe(monkeypatch, gzip.compress(data)), plain)
    other = tmp_path / "a.csv"
    other.write_text("ts,src,dst,dport,proto,ttl\n1683878400,203.0.113.9,192.0.2.7,7,6,9\n")
    got = days_of([other, path])
    for day, packets in plain:
        (both,) = [found for when, found in got if when == day]
        rows = both.src != 0xCB007109
        np.testing.assert_array_equal(both.port[rows], packets.port)
        np.testing.assert_array_equal(both.src[rows], packets.src)
        if packets.packets is not None:
            np.testing.assert_array_equal(both.packets[rows], packets.packets)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes_give_days_or_one_line(name, monkeypatch):
    """2,000 flipped bytes, in 400 damaged copies, end in days or in a ValueError of one line that names the input.

    FLIPS=2000 in the environment makes it that many copies with one byte each, and more with more.
    """
    data, rng = (CASES / name).read_bytes(), random.Random(name)
    copies = int(os.environ.get("FLIPS", "0"))
    for k in range(copies or 400):
        damaged = bytearray(data)
        for _ in range(1 if copies or k < 200 else 9):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(damaged))))
        try:
            days_of("-")
        except ValueError as error:
            assert str(error).startswith("standard input: ") and "\n" not in str(error), damaged
