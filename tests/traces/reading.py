"""What the tests of the text readers share: one call to read bytes, and the authors' format by plain Python."""

import io
import random
from collections import Counter
from ipaddress import IPv4Address

import numpy as np

from traces import jsonlines, syslog, tables

DTYPES = {
    "time": "float64", "src": "uint32", "dst": "uint32", "port": "int32", "length": "uint16", "ttl": "uint8",
    "mss": "uint16", "window": "uint16", "timestamp": "uint32", "seq": "uint32", "packets": "int64",
}  # fmt: skip
AUTHORS = [
    "ts", "ethtype", "src_ip", "src_port", "dst_ip", "dst_port", "pck_len", "tcp_flags", "mirai", "tcp_seq", "ttl",
    "t_mss", "t_win", "t_ts", "t_sack", "t_sackp", "interval",
]  # fmt: skip
LINE = (
    "Dec 12 00:01:07 localhost kernel: [10109111.799442] [UFW BLOCK] IN=ens3 OUT= MAC=56:00:03:85:82:df:fe:00 "
    "SRC=104.248.236.65 DST=158.247.223.84 LEN=40 TOS=0x00 PREC=0x00 TTL=240 ID=55228 PROTO=TCP SPT=47246 DPT=4200 "
    "WINDOW=1024 RES=0x00 SYN URGP=0 \n"
)


def read(data, reader="table", near=1639267200.0, sensors=None, shown=None):
    """Columns, skipped, rejected {reason: count}, the first line of each reason, warnings.

    `shown`, a dict, gets the whole place of each kind: the line, what was expected and what came.
    """
    skipped, rejected, places, warnings = Counter(), Counter(), {}, []
    shown = {} if shown is None else shown

    def skip(kind, place, count=1):
        skipped[kind] += count
        shown.setdefault(kind, place)

    def reject(reason, place, count=1):
        rejected[reason] += count
        places.setdefault(reason, place.split(":")[0])
        shown.setdefault(reason, place)

    stream = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    sensors = {} if sensors is None else sensors
    if reader == "table":
        chunks = tables.read_table(stream, "t", skip, reject, sensors, warnings.append)
    elif reader == "json":
        chunks = jsonlines.read_json(stream, "t", skip, reject, sensors, near, np.inf, warnings.append)
    else:
        chunks = syslog.read_log(stream, "t", skip, reject, near, np.inf, warnings.append)
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
