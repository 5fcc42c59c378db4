"""summary.py: notes that leave no doubt what of which file was not read, and why."""

from collections import Counter

import pytest

from tests.traces.test_captures import ethernet, ipv4, pcap
from traces import packets
from traces.packets import Summary, read_days

HEADER = "ts,src_ip,dst_ip,dst_port,proto\n"


def rows(n, proto=6):
    return f"1625097600,1.2.3.4,5.6.7.8,23,{proto}\n" * n


def read(path, **settings):
    summary = Summary()
    return list(read_days(path, summary, **settings)), summary


def test_skipped_kinds_have_their_first_place(tmp_path):
    """Each kind of skipped records is a line with how many there are and the first one's file and place."""
    (tmp_path / "a.csv").write_text(HEADER + rows(99) + rows(2, 17) + rows(1, 1))
    frames = [ethernet(ipv4(port=1)), ethernet(bytes(28), 0x0806), ethernet(ipv4(p=17))]
    (tmp_path / "b.pcap").write_bytes(pcap(frames * 5, times=[1625097600 + k for k in range(15)]))
    _, summary = read(tmp_path)
    assert summary.skipped == {"UDP": 7, "ICMP": 1, "ARP": 5}
    a, b = tmp_path / "a.csv", tmp_path / "b.pcap"
    firsts = {"UDP": f"{a}: line 101", "ICMP": f"{a}: line 103", "ARP": f"{b}: byte {24 + 16 + len(frames[0])}"}
    assert all(summary.skipped_first[kind].startswith(first) for kind, first in firsts.items())
    for line in (f"{b}: 10 of its 15 records were left out, most of them ARP",
                 f"5 records skipped, ARP; the first is {b}: byte {24 + 16 + len(frames[0])}"):  # fmt: skip
        assert line in summary.notes
    assert not any("a.csv: 3 of its" in line for line in summary.notes)  # too few to speak of


@pytest.mark.parametrize("kept, noted", [(8, True), (9, False)])
def test_a_fifth_left_out_is_noted(tmp_path, kept, noted):
    """20 % of a file's records left out are a note of its own, less is none."""
    (tmp_path / "a.csv").write_text(HEADER + rows(kept) + rows(1).replace("1.2.3.4", "x") + rows(1, 17))
    _, summary = read(tmp_path)
    assert any("2 of its 10 records were left out" in line for line in summary.notes) == noted


def test_files_of_which_nothing_was_read_are_named(tmp_path):
    """The first three files without a packet are named, the others counted; an empty one is said to be empty."""
    (tmp_path / "0.csv").write_text(HEADER + rows(3))
    for k in range(1, 6):
        (tmp_path / f"{k}.csv").write_text(HEADER + rows(2, 17))
    (tmp_path / "6.csv").write_text(HEADER)
    (tmp_path / "7.csv").write_text("")
    _, summary = read(tmp_path)
    nothing = [line for line in summary.notes if "nothing was read" in line]
    told = {f"{tmp_path}/{k}.csv: nothing was read of it: 2 of its 2 records were left out, most of them UDP"
            for k in range(1, 6)} | {f"{tmp_path}/6.csv: nothing was read of it: it holds no records"}  # fmt: skip
    assert len(nothing) == 4 and told.issuperset(nothing[:3]) and nothing[3] == "3 more files of which nothing was read"
    assert f"{tmp_path}/7.csv: empty" in summary.notes


def test_days_done_before_are_no_gap_in_reading(tmp_path):
    """What an earlier run has done is counted as skipped, but is no reason for a note about the file."""
    (tmp_path / "a.csv").write_text(HEADER + rows(50) + rows(1).replace("1625097600", "1625184000"))
    ((day, _), _), _ = read(tmp_path)
    days, summary = read(tmp_path, after=day)
    assert len(days) == 1 and summary.skipped.total() == 50
    assert not summary.notes


def test_summaries_of_several_readers_add_up():
    """What each reader left out, came out of tunnels and is thin is together what all did."""
    parts = [Summary(), Summary()]
    for name, part in zip("ab", parts):
        part.count_tunnelled(name, "GRE", "byte 24", 2)
        part.skipped["UDP"], part.skipped_first["UDP"] = 3, f"{name}: byte 9"
        part.count_left_out(name, 0, Counter(UDP=3))
    whole = packets.merged(parts)
    assert whole.tunnelled == {"GRE": 4} and whole.tunnelled_first == {"GRE": "a: byte 24"}
    assert whole.skipped_first == {"UDP": "a: byte 9"} and whole.thin.keys() == {"a", "b"}
    assert "6 records skipped, UDP; the first is a: byte 9" in whole.notes
