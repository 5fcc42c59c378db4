"""Lines a second of the text readers, beside pandas on the same file in the same run, and how that grows with size.

`python benchmarks/bench_text.py [--quick]` (pandas: `pip install -r benchmarks/requirements.txt`). The tables are
in the authors' 17-column format, the logs as UFW writes them, the JSON lines as Zeek and Suricata do; all are made
here, on one core, in memory. pandas reads the same ten columns and converts both address columns to integers: every
address by socket.inet_aton, and by the fastest way found, each distinct address once and all of these split together.
The standard library's json.loads only turns lines into dicts: no field is read. Runs alternate; the best of five counts
(of two for ten times the lines), in processor time.
"""

import argparse
import io
import itertools
import json
import os
import socket
import sys
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from traces import jsonlines, syslog, tables

HEADER = (
    "ts ethtype src_ip src_port dst_ip dst_port pck_len tcp_flags mirai tcp_seq ttl t_mss t_win t_ts t_sack t_sackp "
    "interval\n"
)
NEEDED = ["ts", "src_ip", "dst_ip", "dst_port", "pck_len", "tcp_seq", "ttl", "t_mss", "t_win", "t_ts"]


def make_table(n, rng):
    """n lines of a table in the authors' format."""
    src, dst = rng.integers(1 << 24, 224 << 24, 8_000)[rng.integers(0, 8_000, n)], rng.integers(0, 512, n)
    columns = zip(
        (1.6e9 + np.cumsum(rng.exponential(0.04, n))).tolist(), src.tolist(), rng.integers(1024, 65536, n).tolist(),
        dst.tolist(), rng.integers(1, 65536, n).tolist(), rng.integers(0, 1 << 32, n).tolist(),
        rng.integers(30, 255, n).tolist(), rng.random(n).tolist(),
    )  # fmt: skip
    lines = [
        f"{t:.6f} 2048 {s >> 24}.{s >> 16 & 255}.{s >> 8 & 255}.{s & 255} {sport} 130.192.{d >> 8}.{d & 255} {port} "
        f"{60 if u < 0.3 else 40} 2 0 {seq} {ttl} {'1460 29200 ' + str(seq >> 3) if u < 0.3 else '- 1024 -'} - - "
        f"{u:.6f}\n"
        for t, s, sport, d, port, seq, ttl, u in columns
    ]
    return (HEADER + "".join(lines)).encode()


def make_log(n, rng):
    """n netfilter lines through syslog."""
    columns = zip(
        np.sort(rng.integers(0, 28 * 86400, n)).tolist(), rng.integers(1 << 24, 224 << 24, n).tolist(),
        rng.integers(1, 65536, n).tolist(), rng.integers(30, 255, n).tolist(),
    )  # fmt: skip
    mac = "56:00:03:85:82:df:fe:00:03:85:82:df:08:00"
    lines = [
        f"Jan {1 + t // 86400:2d} {t // 3600 % 24:02d}:{t // 60 % 60:02d}:{t % 60:02d} localhost kernel: [10109111.7] "
        f"[UFW BLOCK] IN=ens3 OUT= MAC={mac} SRC={s >> 24}.{s >> 16 & 255}.{s >> 8 & 255}.{s & 255} "
        f"DST=158.247.223.84 LEN=40 TOS=0x00 PREC=0x00 TTL={ttl} ID=54321 PROTO=TCP SPT=47246 DPT={port} "
        f"WINDOW=1024 RES=0x00 SYN URGP=0 \n"
        for t, s, port, ttl in columns
    ]
    return "".join(lines).encode()


def make_json(n, rng, maker):
    """n lines of Zeek's conn.log or of Suricata's eve.json."""
    sources, ports = rng.integers(1 << 24, 224 << 24, n).tolist(), rng.integers(1, 65536, n).tolist()
    lines = []
    for k, (s, port) in enumerate(zip(sources, ports)):
        src = f"{s >> 24}.{s >> 16 & 255}.{s >> 8 & 255}.{s & 255}"
        if maker == "Zeek":
            line = {"ts": 1.6e9 + k / 25, "uid": f"C{k}", "id.orig_h": src, "id.orig_p": 40000,
                    "id.resp_h": "192.0.2.7", "id.resp_p": port, "proto": "tcp", "conn_state": "S0",
                    "local_orig": False, "missed_bytes": 0, "history": "S", "orig_pkts": 1,
                    "orig_ip_bytes": 44}  # fmt: skip
        else:
            when = "2023-05-12T08:00:00.000000+0000"
            flow = {"pkts_toserver": 1, "pkts_toclient": 0, "bytes_toserver": 60, "bytes_toclient": 0, "start": when,
                    "end": when, "age": 0, "state": "new", "reason": "timeout", "alerted": False}  # fmt: skip
            line = {"timestamp": when, "flow_id": 1670002990946880, "in_iface": "eth0", "src_ip": src,
                    "src_port": 40000, "dest_ip": "192.0.2.7", "dest_port": port, "proto": "TCP", "event_type": "flow",
                    "flow": flow, "tcp": {"tcp_flags": "02", "syn": True}}  # fmt: skip
        lines.append(json.dumps(line))
    return "\n".join([*lines, ""]).encode()


class Repeated(io.RawIOBase):
    """A stream of `head` and `times` times `body`, without holding it."""

    def __init__(self, head, body, times):
        self.pieces = itertools.chain([head] if head else [], itertools.repeat(body, times))
        self.piece = memoryview(b"")

    def read(self, n):
        out = b""
        while len(out) < n:
            if not self.piece:
                self.piece = memoryview(next(self.pieces, b""))
                if not self.piece:
                    break
            more, self.piece = self.piece[: n - len(out)], self.piece[n - len(out) :]
            out += more
        return out


def ours(data, times=1):
    """Packets that read_table, read_json or read_log yields from the data, the lines `times` times."""
    head = data[: len(HEADER)] if data.startswith(b"ts ") else b""
    stream = io.BytesIO(data) if times == 1 else Repeated(head, data[len(head) :], times)
    if head:
        chunks = tables.read_table(stream, "table", print, print, {})
    elif data.startswith(b"{"):
        chunks = jsonlines.read_json(stream, "json", print, print, {}, 1.6e9)
    else:
        chunks = syslog.read_log(stream, "log", print, print, 1.6e9)
    return sum(len(chunk["time"]) for chunk in chunks)


def every(addresses):
    """Each address to an integer by itself."""
    return np.frombuffer(b"".join(map(socket.inet_aton, addresses)), ">u4").astype(np.uint32)


def distinct(addresses):
    """The distinct addresses to integers, all of them split together."""
    codes, names = pd.factorize(addresses)
    octets = np.array(".".join(names).split("."), dtype=np.uint32).reshape(-1, 4)
    return (octets @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.uint32))[codes]


def theirs(data, convert):
    """Rows of the same columns by pandas."""
    frame = pd.read_csv(io.BytesIO(data), sep=" ", usecols=NEEDED, na_values="-")
    for name in ("src_ip", "dst_ip"):
        frame[name] = convert(frame[name])
    return len(frame)


def loaded(data):
    """Lines that json.loads makes dicts of."""
    return sum(bool(json.loads(line)) for line in data.splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines: 100,000 and 1 million")
    n = 100_000 if parser.parse_args().quick else 1_000_000
    rng = np.random.default_rng(0)
    table, log = make_table(n, rng), make_log(n, rng)
    zeek, eve = make_json(n, rng, "Zeek"), make_json(n, rng, "Suricata")
    jobs = {  # name -> (what to run, lines, bytes, runs)
        "table, pandas, every address": (lambda: theirs(table, every), n, len(table), 5),
        "table, pandas, distinct ones": (lambda: theirs(table, distinct), n, len(table), 5),
        "table, ours": (lambda: ours(table), n, len(table), 5),
        "firewall log, ours": (lambda: ours(log), n, len(log), 5),
        "Zeek's JSON, ours": (lambda: ours(zeek), n, len(zeek), 5),
        "Zeek's JSON, json.loads": (lambda: loaded(zeek), n, len(zeek), 2),
        "Suricata's JSON, ours": (lambda: ours(eve), n, len(eve), 5),
        "Suricata's JSON, json.loads": (lambda: loaded(eve), n, len(eve), 2),
        "table, ours, tenfold": (lambda: ours(table, 10), 10 * n, 10 * len(table), 2),
        "firewall log, ours, tenfold": (lambda: ours(log, 10), 10 * n, 10 * len(log), 2),
    }
    best = dict.fromkeys(jobs, np.inf)
    for turn in range(5):
        for name, (run, lines, _, runs) in jobs.items():
            if turn < runs:
                start = time.process_time()
                if run() != lines:
                    raise SystemExit(f"{name}: expected {lines:,} packets, got another number")
                best[name] = min(best[name], time.process_time() - start)
    print(f"{'':30}{'lines':>12}{'lines/s':>12}{'MB/s':>8}")
    for name, (_, lines, size, _) in jobs.items():
        print(f"{name:30}{lines:12,}{lines / best[name]:12,.0f}{size / best[name] / 1e6:8.0f}")
    pandas, quickest, table, log, zeek, zeek_loaded, eve, eve_loaded, table10, log10 = best.values()
    print(f"table, ours / pandas: {pandas / table:.2f} (wanted: at least 1), distinct ones {quickest / table:.2f}")
    print(f"firewall log: {n / log / 1e6:.2f} million lines a second (wanted: at least 0.3)")
    print(f"JSON lines: {n / zeek / 1e6:.2f} and {n / eve / 1e6:.2f} million lines a second (wanted: at least 0.3), "
          f"{zeek_loaded / zeek:.2f} and {eve_loaded / eve:.2f} times json.loads")
    print(f"time a line, tenfold: table {table10 / 10 / table:.2f}, log {log10 / 10 / log:.2f} (wanted: at most 1.3)")


if __name__ == "__main__":
    main()
