"""Packets a second that captures.py reads from pcap and pcapng, beside dpkt extracting the same columns.

    python benchmarks/bench_captures.py [--quick]

Writes synthetic captures of SYNs as a darknet sees them (ZMap and Masscan without options, Linux and Windows
stacks, some UDP) into a temporary folder: 1 million packets as pcap and as pcapng, 10 million as pcap (1 GB in
all; --quick: a tenth). Every reader reads the same files in this run in one thread: ours best of three, dpkt
once. Seconds are processor time, user and system, so that a busy machine does not tilt the comparison. Needs
dpkt (benchmarks/requirements.txt).
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dpkt
import numpy as np

from traces.captures import read_capture

SENDERS = {  # share of the packets -> TCP options, hex
    "ZMap, Masscan": (0.45, ""),
    "Linux": (0.30, "020405b4 0402080a0011223300000000 01030307"),
    "Windows": (0.15, "020405b4 010303080101 0402"),
    "MSS only": (0.10, "02040218"),
}
UDP = 0.02


def frames(options, n, rng):
    """(n, size) uint8: Ethernet frames of one sender's SYNs, random in addresses, ports and sequence number."""
    tcp = bytes(12) + bytes([(20 + len(options)) // 4 << 4, 2]) + b"\x40\x00" + bytes(4) + options
    ip = b"\x45\x00" + (20 + len(tcp)).to_bytes(2, "big") + bytes(4) + b"\x30\x06" + bytes(10)
    frame = bytes.fromhex("020000000001 020000000002 0800") + ip + tcp
    out = np.tile(np.frombuffer(frame.ljust(60, b"\0"), np.uint8), (n, 1))
    out[:, 26:42] = rng.integers(0, 256, (n, 16))
    out[rng.random(n) < UDP, 23] = 17
    return out


def write(path, n, pcapng):
    """Write a capture of ``n`` packets, 100,000 at a time."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        if pcapng:
            head = [0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 2**32 - 1, 2**32 - 1, 28, 1, 20, 1, 65535, 20]
        else:
            head = [0xA1B2C3D4, 2 | 4 << 16, 0, 0, 65535, 1]
        file.write(np.array(head, "<u4").tobytes())
        for begin in range(0, n, 100_000):
            count = min(100_000, n - begin)
            sender = rng.choice(len(SENDERS), count, p=[share for share, _ in SENDERS.values()])
            packets = [frames(bytes.fromhex(options), int((sender == s).sum()), rng)
                       for s, (_, options) in enumerate(SENDERS.values())]
            before, after = (28, 4) if pcapng else (16, 0)
            padding = [-p.shape[1] % 4 if pcapng else 0 for p in packets]
            sizes = np.array([before + p.shape[1] + pad + after for p, pad in zip(packets, padding)])
            end = np.cumsum(sizes[sender])
            out = np.zeros(end[-1], np.uint8)
            microseconds = 1_700_000_000_000_000 + 50 * np.arange(begin, begin + count)
            for s, p in enumerate(packets):
                rows = sender == s
                size, captured, stamp = sizes[s], p.shape[1], microseconds[rows]
                if pcapng:
                    header = (6, size, 0, stamp >> 32, stamp & 0xFFFFFFFF, captured, captured)
                else:
                    header = (stamp // 10**6, stamp % 10**6, captured, captured)
                header = np.stack(np.broadcast_arrays(*header), 1).astype("<u4").view(np.uint8)
                trailer = np.zeros((len(p), padding[s] + after), np.uint8)
                if pcapng:
                    trailer[:, -4:] = np.array([size], "<u4").view(np.uint8)
                where = (end[rows] - size)[:, None] + np.arange(size)
                out[where] = np.concatenate([header, p, trailer], axis=1)
            file.write(out.tobytes())


def ours(path):
    skipped = Counter()

    def skip(kind, place, count=1):
        skipped[kind] += count

    with open(path, "rb") as file:
        packets = sum(chunk["time"].size for chunk in read_capture(file, str(path), skip, fail))
    return packets, sum(skipped.values())


def fail(reason, place, count=1):
    raise ValueError(f"{place}: {reason}")


def with_dpkt(path):
    """The usual dpkt loop, extracting the columns of captures.py into arrays."""
    rows, skipped = [], 0
    with open(path, "rb") as file:
        reader = dpkt.pcapng.Reader(file) if path.suffix == ".pcapng" else dpkt.pcap.Reader(file)
        for stamp, data in reader:
            ip = dpkt.ethernet.Ethernet(data).data
            if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.tcp.TCP):
                skipped += 1
                continue
            tcp = ip.data
            options = dict(dpkt.tcp.parse_opts(tcp.opts))
            mss = int.from_bytes(options.get(dpkt.tcp.TCP_OPT_MSS, b""), "big")
            tsval = int.from_bytes(options.get(dpkt.tcp.TCP_OPT_TIMESTAMP, b"")[:4], "big")
            rows.append((stamp, int.from_bytes(ip.src, "big"), int.from_bytes(ip.dst, "big"), tcp.dport, ip.len,
                         ip.ttl, mss, tcp.win, tsval, tcp.seq))
    np.array(rows)
    return len(rows), skipped


def measure(name, reader, path, times):
    """Print a line of the table; return the processor seconds per packet."""
    seconds = np.inf
    for _ in range(times):
        begin = time.process_time()
        tcp, other = reader(path)
        seconds = min(seconds, time.process_time() - begin)
    n = tcp + other
    print(f"{name:<28} {n:>12,} {tcp:>12,} {seconds:>9.2f} {n / seconds:>12,.0f}", flush=True)
    return seconds / n


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the packets")
    n = 100_000 if parser.parse_args().quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        small, large, ng = Path(folder, "small.pcap"), Path(folder, "large.pcap"), Path(folder, "small.pcapng")
        for path, count in ((small, n), (large, 10 * n), (ng, n)):
            write(path, count, path is ng)
        print(f"{'':<28} {'packets':>12} {'TCP':>12} {'CPU s':>9} {'packets/s':>12}")
        pcap = measure("pcap", ours, small, 3)
        pcapng = measure("pcapng", ours, ng, 3)
        ten = measure("pcap, ten times as long", ours, large, 3)
        pcap_dpkt = measure("pcap, dpkt", with_dpkt, small, 1)
        pcapng_dpkt = measure("pcapng, dpkt", with_dpkt, ng, 1)
    print(f"pcap {pcap_dpkt / pcap:.1f} times as fast as dpkt (target 5), pcapng {pcapng_dpkt / pcapng:.1f} times")
    print(f"time per packet at {10 * n:,} packets: {ten / pcap:.2f} times that at {n:,} (target at most 1.3)")


if __name__ == "__main__":
    main()
