"""packets.py: formats told apart, files merged into days in order, and clear lines for what cannot be read."""

import csv
import gzip
import io
import os
import random
import re
import struct
import sys
import tarfile
import tracemalloc
import zlib
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from traces import fields, files, packets, streams, unpacking
from traces.packets import Packets, Summary, read_days
from traces.times import EXPECTED

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real traces are not here")
DAY0 = datetime(2021, 7, 1, tzinfo=timezone.utc).timestamp()
HEADER = "ts,src_ip,dst_ip,dst_port\n"
LOG = "{} host kernel: [UFW BLOCK] IN=e SRC=1.2.3.4 DST=5.6.7.8 LEN=40 TTL=64 PROTO=TCP SPT=1 DPT={} WINDOW=9 SYN\n"


def days(paths, summary=None, **settings):
    return list(read_days(paths, Summary() if summary is None else summary, **settings))


def rows(*times, port=23):
    """Lines of a table: a time in seconds since DAY0 each."""
    return "".join(f"{DAY0 + time:.6f},1.2.3.4,5.6.7.8,{port}\n" for time in times)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def pcap(*times, port=80):
    """A capture of TCP SYN packets with an MSS of 1460 and TTL 64, raw IP."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for time in times:
        packet = struct.pack(">BBHHHBBHII", 0x45, 0, 44, 0, 0, 64, 6, 0, 0x01020304, 0x05060708)
        packet += struct.pack(">HHIIBBHHHBBH", 1, port, 7, 0, 0x60, 2, 1024, 0, 0, 2, 4, 1460)
        second = int(DAY0 + time)
        out += struct.pack("<IIII", second, round((DAY0 + time - second) * 1e6), len(packet), len(packet)) + packet
    return out


def test_packets_of_unequal_length_are_refused():
    """The columns of a record have one length, and the four required ones are there."""
    column = np.zeros(3)
    assert len(Packets(column, column, column, column, ttl=column)) == 3
    with pytest.raises(ValueError, match=r"column ttl must have shape \(3,\), got \(2,\)"):
        Packets(column, column, column, column, ttl=column[:2])
    with pytest.raises(ValueError, match="need a column port"):
        Packets(column, column, column, None)


def test_days_come_in_order_sorted_and_whole_whatever_the_files_hold(tmp_path, monkeypatch):
    """Of forty files of random spans, half gzipped, jittered across midnights, each day has every packet, in order."""
    monkeypatch.setattr(fields, "BLOCK", 2000)
    rng = random.Random(7)
    expected = []
    for k in range(40):
        start, span = rng.uniform(0, 9 * 86400), rng.choice([600, 3600, 86400, 4 * 86400])
        times = sorted(rng.uniform(start, start + span) for _ in range(rng.randrange(1, 300)))
        times = sorted(times, key=lambda t: t + rng.uniform(-100, 100))
        times = [float(f"{time:.6f}") for time in times]
        expected += times
        text = (HEADER + rows(*times, port=k)).encode()
        write(tmp_path / f"{rng.random()}", gzip.compress(text) if k % 2 else text)
    summary = Summary()
    got = days(tmp_path, summary)
    assert [day for day, _ in got] == sorted({date(2021, 7, 1) + timedelta(int(time // 86400)) for time in expected})
    assert summary.files == 40 and summary.tcp == len(expected) == summary.packets and summary.days == len(got)
    np.testing.assert_allclose(np.concatenate([p.time for _, p in got]) - DAY0, sorted(expected), atol=1e-6)
    for day, packet in got:
        start = datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()
        assert ((packet.time >= start) & (packet.time < start + 86400)).all()
        assert packet.mss is None and packet.ttl is None
    assert summary.first == got[0][1].time[0] and summary.last == got[-1][1].time[-1]
    assert summary.bytes_read == summary.bytes_total == sum(f.stat().st_size for f in tmp_path.iterdir())


def test_packets_of_one_time_keep_the_order_of_the_file(tmp_path):
    """Sorting is stable."""
    text = HEADER + "".join(rows(9, port=port) for port in range(200)) + rows(3, port=7)
    ((_, packet),) = days(write(tmp_path / "a.csv", text))
    assert packet.port.tolist() == [7, *range(200)]


def test_a_file_that_returns_to_a_finished_day_is_named_with_the_day(tmp_path, monkeypatch):
    """A day given out is not taken back: the error names file and day and suggests to sort."""
    monkeypatch.setattr(fields, "BLOCK", 500)
    text = HEADER + rows(*range(20), *range(86400 * 2, 86400 * 2 + 40), *range(86300, 86340))
    path = write(tmp_path / "a.csv", text)
    seen = []
    with pytest.raises(ValueError, match=r"a.csv: .* 2021-07-01 .*sort the file by time") as error:
        for day, _ in read_days([path], Summary()):
            seen.append(day)
    assert seen == [date(2021, 7, 1)] and "\n" not in str(error.value)


def test_memory_is_that_of_a_day_and_a_chunk_however_long_the_trace(tmp_path, monkeypatch):
    """The peak over 40 days is at most 1.5 times the peak over 8 days of the same size."""
    monkeypatch.setattr(fields, "BLOCK", 1 << 15)

    def peak(n):
        text = "".join(rows(*(86400 * day + 20.0 * k for k in range(4000))) for day in range(n))
        path = write(tmp_path / "a.csv", HEADER + text)
        del text
        tracemalloc.start()
        for _ in read_days([path], Summary()):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)
    assert peak(40) < 1.5 * peak(8)


def test_only_the_files_of_a_day_are_open_at_a_time(tmp_path, monkeypatch):
    """Of 60 daily files no more than three are open together."""
    for k in range(60):
        write(tmp_path / f"{k:02}.csv", HEADER + rows(*(86400 * k + 60 * t for t in range(1440))))
    now, most = [0], [0]

    class Counted(io.FileIO):
        def __init__(self, path):
            super().__init__(path)
            now[0] += 1
            most[0] = max(most[0], now[0])

        def close(self):
            if not self.closed:
                now[0] -= 1
            super().close()

    monkeypatch.setattr(streams, "open", lambda path, mode: Counted(path), raising=False)
    assert len(days(tmp_path)) == 60
    assert now[0] == 0 and 1 <= most[0] <= 3


def test_formats_are_told_apart_by_content_and_mixed(tmp_path):
    """A capture, a table and a log under wrong names make one day; a field that only some have is 0 in the others."""
    write(tmp_path / "a.txt", gzip.compress(pcap(1, 4)))
    write(tmp_path / "b.pcap", HEADER + rows(2))
    write(tmp_path / "c", LOG.format("2021-07-01T00:00:03Z", 22))
    write(tmp_path / ".hidden", b"\0\1\2")
    summary = Summary()
    ((day, packet),) = days(tmp_path, summary)
    assert day == date(2021, 7, 1) and packet.port.tolist() == [80, 23, 22, 80]
    assert packet.mss.tolist() == [1460, 0, 0, 1460] and packet.ttl.tolist() == [64, 0, 64, 64]
    assert summary.formats == {"capture": 1, "table": 1, "firewall log": 1}
    assert [line for line in summary.warnings if line.startswith("no ttl in 1 of 3 files, 0 there:")]
    assert [line for line in summary.warnings if line.startswith("no mss in 2 of 3 files, 0 there:")]
    assert packet.packets is None
    for name in packets.COLUMNS.keys() - {"packets"}:
        assert getattr(packet, name).dtype == packets.COLUMNS[name]


def test_a_field_of_some_files_is_there_on_every_day(tmp_path):
    """Days whose files lack a field that others have get zeros, so that all days have the same fields."""
    write(tmp_path / "1.csv", HEADER + rows(0))
    write(tmp_path / "2.csv", "ttl," + HEADER + "".join("9," + row for row in rows(86400).splitlines(True)))
    (_, first), (_, second) = days(tmp_path)
    assert first.ttl.tolist() == [0] and second.ttl.tolist() == [9] and first.mss is None


def test_files_that_begin_together_are_read_in_the_order_given(tmp_path):
    """Packets of one time keep the order of the files."""
    paths = [write(tmp_path / name, HEADER + rows(1, port=port)) for port, name in enumerate("cab")]
    ((_, packet),) = days(paths)
    assert packet.port.tolist() == [0, 1, 2]


def test_sensor_names_are_numbered_over_all_files(tmp_path):
    """A name has one number in every file, by first appearance."""
    write(tmp_path / "1.csv", HEADER + f"{DAY0},1.2.3.4,tokyo,1\n{DAY0 + 1},1.2.3.4,eu,1\n")
    write(tmp_path / "2.csv", HEADER + f"{DAY0 + 86400},1.2.3.4,asia,1\n{DAY0 + 86401},1.2.3.4,eu,1\n")
    (_, first), (_, second) = days(tmp_path)
    assert first.dst.tolist() == [0, 1] and second.dst.tolist() == [2, 1]


def test_gzip_of_several_members_is_read_whole(tmp_path):
    """Members one behind the other, as logrotate and cat make them, and zeros behind them, are one stream."""
    parts = [HEADER + rows(1), rows(2), rows(3)]
    path = write(tmp_path / "a.gz", b"".join(gzip.compress(part.encode()) for part in parts) + bytes(500))
    summary = Summary()
    ((_, packet),) = days(path, summary)
    assert len(packet) == 3 and not summary.rejected


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage"])
def test_broken_gzip_is_read_up_to_there_and_said(tmp_path, damage):
    """Data cut short, damaged or followed by garbage give the packets before; --strict refuses them."""
    rng = random.Random(1)
    text = HEADER + "".join(rows(k + rng.random(), port=rng.randrange(9999)) for k in range(20_000))
    data = gzip.compress(text.encode())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data = data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :]
    else:
        data += b"garbage"
    path = write(tmp_path / "a.gz", data)
    summary = Summary()
    got = days(path, summary)
    said = "gzip data end too early" if damage == "cut" else "broken gzip data"
    assert summary.rejected[said] == 1 and summary.rejected_first[said].startswith(f"{path}: byte ")
    assert sum(len(packet) for _, packet in got) >= {"cut": 9_000, "flipped": 1, "garbage": 20_000}[damage]
    with pytest.raises(ValueError, match="gzip data"):
        days(path, strict=True)


def test_a_whole_member_keeps_its_last_line(tmp_path, monkeypatch):
    """What damages a gzip file behind a whole member takes nothing of it; damage within one, never a part of a line."""
    member = gzip.compress((HEADER + rows(1, 2)).rstrip("\n").encode())
    for damage in (b"garbage", gzip.compress(b"more")[:10]):
        path, summary = write(tmp_path / "a.gz", member + damage), Summary()
        assert sum(len(packet) for _, packet in days(path, summary)) == 2 and summary.rejected.total() == 1
    monkeypatch.setattr(unpacking, "FEED", 2)                 # what is unzipped together with damage is lost
    packer = zlib.compressobj(wbits=31)
    data = packer.compress((HEADER + rows(1, 2, 3, port=2323)[:-3]).encode()) + packer.flush(zlib.Z_FULL_FLUSH)
    path, summary = write(tmp_path / "a.gz", data + b"\xff" * 99), Summary()  # which begins no block
    assert [len(packet) for _, packet in days(path, summary)] == [2] and summary.rejected.total() == 1


def test_gzip_cut_at_every_byte_is_never_a_traceback(tmp_path):
    """Any length of a gzipped file is read, empty or refused with one line that names it; never a part of a line."""
    numbers = [random.Random(k).randrange(10_000, 60_000) for k in range(20)]
    data = gzip.compress((HEADER + "".join(rows(k, port=port) for k, port in enumerate(numbers))).encode())
    most = 0
    for end in range(len(data)):
        path = write(tmp_path / "a.gz", data[:end])
        try:
            ports = [port for _, packet in days(path) for port in packet.port]
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            continue
        assert ports == numbers[: len(ports)]
        most = max(most, len(ports))
    assert most == 20                                       # all but the last bytes: the checksum alone is cut


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\3\4....", "got a zip archive; unpack it first"),
        (b"7z\xbc\xaf....", "got a 7z archive"),
        (b"\x04\x22\x4d\x18..", "got a lz4 archive"),
        (b"\x1f\x9d\x90..", "got a compress archive"),
        ("ts,src,dst\n".encode("utf-16"), "got none for port among: ts, src, dst"),
        (b"\0\1\2\3" * 300, "expected a capture or text, got other binary data"),
        (b"a,b,c\n1,2,3\n", "got none for time, src, dst, port among: a, b, c"),
    ],
)
def test_what_is_no_trace_is_refused_with_one_line(tmp_path, data, said):
    """Archives and other files are named with what was expected and what came."""
    path = write(tmp_path / "x.csv", data)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        days(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_tar_is_to_be_unpacked_first(tmp_path):
    """A tar archive, gzipped or not, is recognized and not read as a table."""
    write(tmp_path / "a.csv", HEADER + rows(1))
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "a.tar", mode) as archive:
            archive.add(tmp_path / "a.csv")
        with pytest.raises(ValueError, match="got a tar archive; unpack it first"):
            days(tmp_path / "a.tar")


def test_nothing_to_read_is_an_error_and_an_empty_file_is_said(tmp_path):
    """Missing paths, empty folders and empty lists are errors; an empty file among others is counted."""
    with pytest.raises(ValueError, match=r"nowhere: expected a file or a folder"):
        days(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected files to read, got none"):
        days(tmp_path)
    with pytest.raises(ValueError, match="expected files to read, got none"):
        days([])
    for name, data in (("a", b""), ("b", gzip.compress(b"")), ("c", b" \n\n"), ("d", HEADER + rows(1))):
        write(tmp_path / name, data)
    summary = Summary()
    assert len(days(tmp_path, summary)) == 1
    assert summary.files == 4 and f"{tmp_path / 'a'} and 2 more: empty" in summary.warnings
    write(tmp_path / "d", HEADER)
    assert days(tmp_path) == []


def test_a_file_given_twice_is_read_once(tmp_path):
    """The same file by name, by link and in its folder is read once and said."""
    path = write(tmp_path / "a.csv", HEADER + rows(1))
    (tmp_path / "b.csv").symlink_to(path)
    summary = Summary()
    ((_, packet),) = days([path, str(tmp_path)], summary)
    assert len(packet) == 1 and summary.files == 1
    assert f"{path} and 1 more: given twice and read once" in summary.warnings


@pytest.mark.parametrize("zipped", [False, True])
def test_standard_input_is_read_beside_files(tmp_path, monkeypatch, zipped):
    """"-" reads standard input, any format, and merges it with files; its size is unknown."""
    data = pcap(5, 86400 + 5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(data) if zipped else data)))
    path = write(tmp_path / "a.csv", HEADER + rows(1, 86400 * 2))
    summary = Summary()
    got = days([path, "-"], summary)
    assert [packet.port.tolist() for _, packet in got] == [[23, 80], [80], [23]]
    assert summary.bytes_total is None and summary.fraction is None


def test_broken_records_are_counted_with_their_place_or_refused(tmp_path):
    """A broken line counts by reason with the first place; with strict it is an error."""
    path = write(tmp_path / "a.csv", HEADER + rows(1) + "x,1.2.3.4,5.6.7.8,9\n" * 3 + "1,2\n" + rows(2))
    summary = Summary()
    ((_, packet),) = days(path, summary)
    assert len(packet) == 2 and summary.packets == 6
    assert summary.rejected == {"bad time": 3, "wrong number of fields": 1}
    assert summary.rejected_first == {"bad time": f"{path}: line 3: expected {EXPECTED}, got 'x'",
                                      "wrong number of fields": f"{path}: line 6: expected 4 fields, got '1,2'"}
    with pytest.raises(ValueError, match=r"a.csv: line \d: expected .*: (bad time|wrong number of fields)$"):
        days(path, strict=True)


def test_days_without_packets_in_between_are_said(tmp_path):
    """A gap of days is a warning with its first and last day."""
    path = write(tmp_path / "a.csv", HEADER + rows(1, 86400, 86400 * 5))
    summary = Summary()
    days(path, summary)
    assert summary.warnings[1:] == ["no packets from 2021-07-03 to 2021-07-05"]


def test_many_gaps_are_summed_up(tmp_path):
    """Of many gaps the first three are told, and of the others how many days they are."""
    path = write(tmp_path / "a.csv", HEADER + rows(*(86400 * day for day in (0, 2, 4, 6, 8, 12))))
    summary = Summary()
    days(path, summary)
    told = [f"no packets from 2021-07-0{day} to 2021-07-0{day}" for day in (2, 4, 6)]
    assert summary.warnings[1:] == [*told, "no packets on 4 more days, 2021-07-08 to 2021-07-12"]


def test_readers_of_shares_count_the_days_of_all():
    """Days that several readers have together are counted by each, and so are the gaps between them."""
    together = [(date(2021, 7, day), None) for day in (3, 4, 7)]
    parts = [Summary(), Summary()]
    for part in parts:
        assert list(packets.counted(together, part, date(2021, 7, 1))) == together
    whole = packets.merged(parts)
    assert whole.days == 3
    assert whole.warnings == [f"no packets from 2021-07-0{a} to 2021-07-0{b}" for a, b in ((2, 2), (5, 6))]


def test_what_is_broken_is_noted_with_its_place(tmp_path):
    """`notes` are the warnings and a line for each kind of broken records, with their number and the first place."""
    path = write(tmp_path / "a.csv", HEADER + rows(1) + "x,1.2.3.4,5.6.7.8,9\n" * 3)
    summary = Summary()
    days(path, summary)
    assert summary.notes == [f"{path}: no column for the protocol: every line is taken as TCP",
                             f"{path}: 3 of its 4 records were left out, most of them bad time",
                             f"3 broken records left out, bad time; the first is {path}: line 3: expected {EXPECTED}, "
                             "got 'x'"]  # fmt: skip


def test_a_remark_about_many_files_is_one_line(tmp_path):
    """What is true of several files is said once, of the first and how many more."""
    for name in "abc":
        write(tmp_path / name, HEADER + rows(1))
    summary = Summary()
    days(tmp_path, summary)
    assert summary.warnings == [f"{tmp_path / 'a'} and 2 more: no column for the protocol: every line is taken as TCP"]


def test_a_few_packets_of_a_finished_day_are_rejected(tmp_path, monkeypatch):
    """A stray early time, as of a router without a clock, does not end the reading: it is counted; many such do."""
    monkeypatch.setattr(fields, "BLOCK", 1 << 14)
    times = [60 * t for t in range(1440 * 4)]
    path = write(tmp_path / "a.csv", HEADER + rows(*times[:4000], -1e9, *times[4000:]))
    summary = Summary()
    assert sum(len(packet) for _, packet in days(path, summary)) == len(times) and len(days(path)) == 4
    assert summary.rejected == {"of a day already finished": 1}
    with pytest.raises(ValueError, match="a packet of 1989-10-22: of a day already finished"):
        days(path, strict=True)
    path = write(tmp_path / "b.log", "".join(  # chunks of few packets, one of them stray
        LOG.format(f"2021-07-0{1 + t // 6}T0{t % 6}:00:00", 22) + "2021-07-01T00:00:00 host sshd[1]: hello\n" * 300
        if t != 20 else LOG.format("2021-07-01T00:00:00", 22) for t in range(30)))
    summary = Summary()
    assert len(days(path, summary)) == 5 and summary.rejected == {"of a day already finished": 1}
    path = write(tmp_path / "a.csv", HEADER + rows(*times) + rows(*times[:1000]))
    with pytest.raises(ValueError, match=r"expected packets in order of time, got \d+ of 2021-07-01 after that day"):
        days(path)


@pytest.mark.parametrize("block, every", [(1 << 12, 100), (1 << 16, 20)])
def test_strays_do_not_keep_the_whole_trace_waiting(tmp_path, monkeypatch, block, every):
    """With a time of 0 now and then, the first of them a day of its own, days come while the rest is still unread."""
    monkeypatch.setattr(fields, "BLOCK", block)
    monkeypatch.setattr(unpacking, "PIECE", 1 << 12)
    text = HEADER + "".join(rows(*([-DAY0] if t % every == 0 else []), 60 * t) for t in range(1440 * 6))
    path, summary = write(tmp_path / "a.csv", text), Summary()
    got, read = [], []
    for day, packet in read_days([path], summary):
        got.append((str(day), len(packet)))
        read.append(summary.bytes_read / len(text))
    assert [day for day, _ in got] == ["1970-01-01", *(f"2021-07-0{d}" for d in range(1, 7))]
    assert sum(n for _, n in got[1:]) == 1440 * 6
    assert got[0][1] + summary.rejected.total() == len(range(0, 1440 * 6, every))
    assert read[0] < 0.6 and all(share < (d + 3.5) / 6 for d, share in enumerate(read)), read


def test_a_late_sensor_loses_nothing(tmp_path, monkeypatch):
    """Packets that come weeks late, one in 20, are no strays, nor is a second month behind the first."""
    late = [60 * t - (20 * 86400 if t % 20 == 0 else 0) for t in range(1440 * 25)]
    month = [86.4 * t for t in range(1000 * 30)]
    for block, times in ((1 << 12, late), (1 << 20, month + month)):
        monkeypatch.setattr(fields, "BLOCK", block)
        summary = Summary()
        path = write(tmp_path / "a.csv", HEADER + rows(*times))
        assert sum(len(packet) for _, packet in days(path, summary)) == len(times) and not summary.rejected


def test_links_in_a_folder_are_followed(tmp_path):
    """Linked folders are read, a circle of them once; links to nothing and pipes are left out and said."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    write(tmp_path / "there" / "a.csv", HEADER + rows(1))
    write(tmp_path / "here" / "b.csv", HEADER + rows(2))
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "circle").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "nothing").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here" / "twice").symlink_to(tmp_path / "there")
    os.mkfifo(tmp_path / "here" / "pipe")
    summary = Summary()
    ((_, packet),) = days(tmp_path / "here", summary)
    assert len(packet) == 2 and summary.files == 2
    assert f"{tmp_path / 'here' / 'nothing'} and 1 more: left out, it is no file" in summary.warnings
    assert f"{tmp_path / 'here' / 'twice' / 'a.csv'}: given twice and read once" in summary.warnings
    assert packets.merged([summary, summary]).warnings == summary.warnings


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    """An unreadable folder below the one given is one line: its days must not be missing silently."""
    def scandir(path, real=os.scandir):
        if os.path.basename(path) == "locked":              # root could read it
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (tmp_path / "locked").mkdir()
    write(tmp_path / "a.csv", HEADER + rows(1))
    with pytest.raises(ValueError, match="locked: expected a folder that can be read"):
        days(tmp_path)


def test_a_hard_link_is_the_same_file(tmp_path):
    """A file under two names is read once."""
    os.link(write(tmp_path / "a.csv", HEADER + rows(1)), tmp_path / "b.csv")
    ((_, packet),) = days(tmp_path)
    assert len(packet) == 1


def test_files_without_numbers_are_not_the_same(tmp_path, monkeypatch):
    """On a file system that gives all files the number 0 they are told apart by their paths."""
    def numberless(path, real=os.stat):
        about = list(real(path))
        return os.stat_result([about[0], 0, *about[2:]])

    for name in "ab":
        write(tmp_path / name, HEADER + rows(1))
    monkeypatch.setattr(files.os, "stat", numberless)
    ((_, packet),) = days([tmp_path / "a", tmp_path / "b"])
    assert len(packet) == 2


def test_a_log_that_begins_with_zeros_is_still_a_log(tmp_path):
    """What a log truncated while it is written, or a lost power, leaves in front does not make binary data of it."""
    path = write(tmp_path / "x-2021.log", b"\0" * 300 + (LOG.format("Jul  1 00:00:01", 22) * 3).encode())
    summary = Summary()
    ((_, packet),) = days(path, summary)
    assert len(packet) == 2 and summary.rejected.total() == 1


def test_a_capture_may_end_in_its_header(tmp_path):
    """What a full disk leaves of a capture, 1 to 23 bytes, is counted as broken beside others; text is not."""
    write(tmp_path / "z.csv", HEADER + rows(1))
    for end in (1, 3, 4, 23):
        write(tmp_path / "a.pcap", pcap(1)[:end])
        summary = Summary()
        ((_, packet),) = days(tmp_path, summary)
        assert len(packet) == 1 and summary.rejected == {"capture ends inside its header": 1}


def test_a_sender_cannot_make_a_tar_of_a_capture(tmp_path):
    """A capture whose packet holds tar's magic where a tar has it is read."""
    data = bytearray(pcap(*range(9)))
    data[257:262] = b"ustar"
    write(tmp_path / "a.pcap", bytes(data))
    assert len(days(tmp_path)) >= 1


def test_closed_standard_input(monkeypatch):
    """Without a standard input "-" is one clear line."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="expected an open standard input, got a closed one"):
        days("-")


def test_a_file_of_the_same_name_elsewhere_is_another(tmp_path):
    """With `after` and `known`, a file that differs from a known one in its folder alone is read."""
    for k, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        os.utime(write(tmp_path / folder / "dump.csv", HEADER + rows(86400 * k)), (1e9, 1e9))
    first = Summary()
    ((day, _),) = days(tmp_path / "a", first)
    second = Summary()
    ((later, _),) = days(tmp_path, second, after=day, known=first.finished)
    assert later > day and second.done_files == 1


def test_progress_lets_the_number_of_days_be_estimated(tmp_path, monkeypatch):
    """Half-way through ten equal daily files about half of the bytes are read and half of the days seen."""
    for k in range(10):
        write(tmp_path / f"{k}.csv", HEADER + rows(*(86400 * k + 60 * t for t in range(1440))))
    summary = Summary()
    for n, _ in enumerate(read_days([tmp_path], summary), start=1):
        assert summary.days == n <= summary.days_seen
        assert summary.days_seen / summary.fraction == pytest.approx(10, abs=0.1)


def year_of(paths, **settings):
    return [day.isoformat() for day, _ in days(paths, **settings)]


@pytest.mark.parametrize(
    ("name", "stamp", "expected"),
    [
        ("ufw_2021-12-26_2022-01-02.log", "Dec 26 00:00:44", "2021-12-26"),
        ("syslog-20220103", "Dec 27 00:00:44", "2021-12-27"),
        ("fw.2022_01_03.log", "Jan  1 00:00:44", "2022-01-01"),
        ("fw-20220103120000.log", "Jan  1 00:00:44", "2022-01-01"),
        ("2019 port 99999999.log", "Dec 31 00:00:44", "2019-12-31"),
        ("fw-2021-99-99-2018.log", "Jan  1 00:00:44", "2021-01-01"),
        ("fw-00010101.log", "Jan  1 00:00:44", "2022-01-01"),
        ("leap-20200301.log", "Feb 29 00:00:44", "2020-02-29"),
        ("kern.log", "Dec 31 00:00:44", "2021-12-31"),
        ("kern.log", "Mar  5 12:00:00", "2022-03-05"),
        ("kern.log", "Mar  7 12:00:00", "2021-03-07"),
        ("kern.log", "Feb 29 12:00:00", "2020-02-29"),
        ("kern.log-20220301", "Mar  6 12:00:00", "2022-03-06"),
        ("kern.log-20220301", "Mar  7 12:00:00", "2021-03-07"),
        ("ufw-2022-12-12.log", "Dec 12 12:00:00", "2022-12-12"),
        ("router2098.log", "Mar  5 12:00:00", "2022-03-05"),
    ],
)
def test_the_year_comes_from_the_name_or_the_modification_time(tmp_path, name, stamp, expected):
    """A date or year in the file's name counts, else the latest year up to a day after the modification time."""
    path = write(tmp_path / name, LOG.format(stamp, 22))
    modified = datetime(2022, 3, 5, 12, tzinfo=timezone.utc).timestamp()
    os.utime(path, (modified, modified))
    assert year_of(path) == [expected]


def test_a_log_longer_than_a_year_is_told(tmp_path):
    """13 months without a year, whose last line comes out after the file's last change: a note says so."""
    lines = [LOG.format(f"{month}  2 00:00:44", 22) for month in ("Feb", "May", "Sep", "Dec", "Feb", "Mar")]
    path = write(tmp_path / "kern.log", "".join(lines))
    modified = datetime(2022, 3, 2, 12, tzinfo=timezone.utc).timestamp()
    os.utime(path, (modified, modified))
    summary = Summary()
    assert year_of(path, summary=summary)[-1] == "2023-03-02"
    assert f"{path}: lines read as of days after the file was last changed: give the year of the first line (--year)" \
        in summary.warnings
    summary = Summary()
    assert year_of(path, summary=summary, year=2021)[-1] == "2022-03-02"
    assert not [line for line in summary.warnings if "last changed" in line]
    assert year_of(path, year=2024)[0] == "2024-02-02"      # whatever the file's time


def test_a_given_year_is_that_of_the_first_line_of_the_first_file(tmp_path):
    """Years follow from file to file, in the order given, forwards, backwards and past files that have years."""
    old = write(tmp_path / "old-1999.log", LOG.format("Nov 30 00:00:00", 1) + LOG.format("Dec 31 23:59:59", 2))
    new = write(tmp_path / "new.log", LOG.format("Jan  1 00:00:00", 3) + LOG.format("Feb  2 00:00:00", 4))
    iso = write(tmp_path / "iso.log", LOG.format("2021-06-01T00:00:00Z", 5))
    table = write(tmp_path / "a.csv", HEADER + rows(1))
    assert year_of([old, new], year=2020) == ["2020-11-30", "2020-12-31", "2021-01-01", "2021-02-02"]
    assert year_of([new, old], year=2021) == ["2020-11-30", "2020-12-31", "2021-01-01", "2021-02-02"]
    assert year_of([table, iso, old, new], year=2019) == [
        "2019-11-30", "2019-12-31", "2020-01-01", "2020-02-02", "2021-06-01", "2021-07-01"
    ]  # fmt: skip
    leap = write(tmp_path / "leap.log", LOG.format("Feb 29 00:00:00", 1))
    assert year_of(leap, year=2020) == ["2020-02-29"]
    with pytest.raises(ValueError, match=r"leap.log: expected a leap year .* got 2021"):
        days(leap, year=2021)
    with pytest.raises(ValueError, match=r"the year must lie in 1970..9998, got 0"):
        days(leap, year=0)
    long = [LOG.format(f"{month} 15 00:00:00", 1) for month in ("Jan", "Apr", "Aug")]
    first = write(tmp_path / "1.log", "".join(long))
    second = write(tmp_path / "2.log", LOG.format("Sep  1 00:00:00", 1))
    assert year_of([first, second], year=2021)[-1] == "2021-09-01"


@pytest.mark.parametrize("when", ["Jul  1 00:00:00", "2021-07-01T00:00:00.123456+00:00"])
def test_a_log_that_begins_with_other_lines_is_still_a_log(tmp_path, when):
    """70,000 bytes of other daemons' lines before the first netfilter line do not make a table of it."""
    text = f"{when} host sshd[1]: session opened\n" * 1700 + LOG.format(when, 22)
    summary = Summary()
    ((_, packet),) = days(write(tmp_path / "x-2021.log", text), summary)
    assert len(packet) == 1 and summary.skipped == {"other log line": 1700}


def test_a_file_without_packets_counts_what_it_holds(tmp_path):
    """A table of UDP alone yields no day and is counted in full, once."""
    text = "proto," + HEADER + "17,1600000000,1.2.3.4,5.6.7.8,53\n" * 5000
    summary = Summary()
    assert days(write(tmp_path / "a.csv", text), summary) == []
    assert summary.skipped == {"UDP": 5000} and summary.tcp == 0 and summary.packets == 5000


@real_data
def test_the_real_firewall_logs_equal_a_plain_parse():
    """35 days, 144,814 TCP of 151,520 lines; every field of the third week is what split() makes of its lines."""
    summary = Summary()
    got = days(DATA / "firewall", summary)
    assert [day for day, _ in got] == [date(2021, 12, 12) + timedelta(k) for k in range(35)]
    assert summary.tcp == 144_814 and summary.packets == 151_520 and not summary.rejected and not summary.warnings
    assert summary.skipped == {"UDP": 6700, "other protocol": 6}
    path, expected = sorted((DATA / "firewall").iterdir())[2], []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        keys = {}
        for key, _, value in (word.partition("=") for word in line.split()):
            keys.setdefault(key, value)
        if keys["PROTO"] == "TCP":
            year, month = (2021, 12) if line.startswith("Dec") else (2022, 1)
            hour, minute, second = map(int, line[7:15].split(":"))
            time = datetime(year, month, int(line[4:6]), hour, minute, second, tzinfo=timezone.utc).timestamp()
            src, dst = (int.from_bytes(map(int, keys[k].split(".")), "big") for k in ("SRC", "DST"))
            expected.append((time, src, dst, *(int(keys[k]) for k in ("DPT", "LEN", "TTL", "WINDOW"))))
    got = days(path)
    expected.sort(key=lambda row: row[0])
    for name, column in zip(("time", "src", "dst", "port", "length", "ttl", "window"), zip(*expected)):
        np.testing.assert_array_equal(np.concatenate([getattr(packet, name) for _, packet in got]), column)
    assert got[0][1].mss is got[0][1].timestamp is got[0][1].seq is None


@real_data
def test_the_real_honeypot_table_equals_a_plain_parse(tmp_path):
    """marx.csv, once unpacked: 190 days, 327,991 TCP of 451,581 rows; 50,000 rows are what csv and datetime read."""
    with pytest.raises(ValueError, match="tar archive"):
        days(DATA / "honeypot")
    with tarfile.open(DATA / "honeypot" / "marx.tar.gz") as archive:
        (member,) = (member for member in archive if member.name.endswith("marx.csv"))
        path = write(tmp_path / "marx.csv", archive.extractfile(member).read())
    summary = Summary()
    got = days(path, summary)
    assert len(got) == 190 and got[0][0] == date(2013, 3, 3) and got[-1][0] == date(2013, 9, 8)
    assert summary.tcp == 327_991 and summary.packets == 451_581 and not summary.rejected and not summary.warnings
    assert summary.skipped == {"UDP": 78_779, "ICMP": 44_811}
    hosts, expected, lines = {}, [], path.read_text().splitlines(True)[:50_000]
    got = days(write(path, "".join(lines)))
    for row in csv.DictReader(lines):
        if row["proto"] == "TCP":
            time = datetime.fromisoformat(row["datetime"] + "+00:00").timestamp()
            host = hosts.setdefault(row["host"], len(hosts))
            expected.append((time, int(row["src"]), host, int(row["dpt"])))
    expected.sort(key=lambda row: row[0])
    for name, column in zip(("time", "src", "dst", "port"), zip(*expected)):
        np.testing.assert_array_equal(np.concatenate([getattr(packet, name) for _, packet in got]), column)


@real_data
def test_the_real_capture_is_one_day_of_5170_packets():
    """The capture goes through the same door, with all fields."""
    ((day, packet),) = days(DATA / "pcap")
    assert day == date(2024, 8, 19) and len(packet) == 5170 and packet.mss.any() and packet.seq.any()
