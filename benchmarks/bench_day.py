#!/usr/bin/env python3
"""What an operator waits for: one more day, from its file to predictions.csv, start of Python included.

    python benchmarks/bench_day.py [--quick] [--compare CLONE] [--repeats N] [--formats ...] [--models ...]
    python benchmarks/bench_day.py --firewall FILE ... [--labels FILE] [--compare CLONE]

A paper-size day (synthetic scale 1: about 7,566 hosts, 2.0 million packets, 2,501 ports) is written to a temporary
folder as a capture, as a table of the authors' 17 columns and as a firewall's log. A state that has seen the six days
before goes on with that day, `--state`, from a fresh copy each time. With --firewall the run is the whole log instead,
without a state. Every run is a process of its own; those of CLONE, another checkout, take turns with this one's, and
the ratios, of wall and of processor time, are medians of the pairs'. One more run tells the share of each part: what is
nested in another part does not count there; without a state a thread reads ahead, beside the rest.
"""

import argparse
import functools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent

BEFORE = 6  # days that the state has seen
MODELS = {"features": ("--model", "features", "--steady"), "i-gcn-gru": ("--model", "i-gcn-gru")}
FORMATS = {"pcap": "day.pcap", "csv": "day.csv", "log": "ufw_2021-12-07.log"}
HEADER = ("ts ethtype src_ip src_port dst_ip dst_port pck_len tcp_flags mirai tcp_seq ttl t_mss t_win t_ts t_sack "
          "t_sackp interval\n")
PARTS = {  # part: the functions in which its time is spent; those that a checkout does not have count with the rest
    "labels": ("traces.labels:read_labels",),
    "reading": ("fast.alone:read_days",),
    "graph and features": ("fast.alone:count_day",),
    "scaling": ("fast.alone:by_rank", "fast.alone:by_maximum"),
    "learning": ("darkgnn:learn_and_embed",),               # without the next two, which it calls
    "embedding": ("darkgnn:embed",),
    "neighbours": ("fast.alone:search",),
    "scores": ("report.scores:score_day",),
    "writing the day's files": ("report.result:write_day", "daily.outputs:Outputs.take"),
    "writing the page": ("report.result:write_page",),
    "host table and changes": ("daily.changes:enter", "daily.changes:begin_changes", "daily.changes:lines",
                               "daily.hosts:write_hosts"),
    "loading the state": ("daily.state:load", "daily.memory:unpacked"),
    "saving the state": ("darkgnn:save_state",),
    "report": ("report.result:finish",),
}


# -- the day's files ---------------------------------------------------------------------------------------------------

def write_capture(path, day):
    """The day as pcap: Ethernet, IPv4, TCP with the options that the packets have."""
    with_mss, with_stamp = day["mss"] > 0, day["timestamp"] > 0
    size = 54 + 4 * with_mss + 12 * with_stamp
    end = np.cumsum(16 + size)
    out = np.zeros(end[-1] + 64, np.uint8)
    start = end - 16 - size

    def put(at, values, dtype):
        bytes_of = np.ascontiguousarray(np.broadcast_to(values, len(at)).astype(dtype)).view(np.uint8)
        width = np.dtype(dtype).itemsize
        for i in range(width):
            out[at + i] = bytes_of[i::width]
    put(start, day["time"] // 1, "<u4")
    put(start + 4, day["time"] % 1 * 1e6, "<u4")
    put(start + 8, size, "<u4")
    put(start + 12, np.maximum(size, day["length"] + 14), "<u4")
    ip = start + 16 + 14
    for at, values, dtype in ((ip - 2, 0x0800, ">u2"), (ip, 0x45, "u1"), (ip + 2, day["length"], ">u2"),
                              (ip + 8, day["ttl"], "u1"), (ip + 9, 6, "u1"), (ip + 12, day["src"], ">u4"),
                              (ip + 16, day["dst"], ">u4"), (ip + 20, 40000, ">u2"), (ip + 22, day["port"], ">u2"),
                              (ip + 24, day["seq"], ">u4"), (ip + 32, (size - 34) // 4 << 4, "u1"), (ip + 33, 2, "u1"),
                              (ip + 34, day["window"], ">u2")):
        put(at, values, dtype)
    option = ip + 40
    put(option[with_mss], 0x0204, ">u2")
    put(option[with_mss] + 2, day["mss"][with_mss], ">u2")
    option = (option + 4 * with_mss)[with_stamp]
    put(option, 0x0101080A, ">u4")
    put(option + 4, day["timestamp"][with_stamp], ">u4")
    with open(path, "wb") as file:
        file.write(np.array([0xA1B2C3D4, 2 | 4 << 16, 0, 0, 65535, 1], "<u4").tobytes())
        file.write(out[: end[-1]].tobytes())


def dotted(addresses):
    """Addresses as a list of text."""
    return ["{}.{}.{}.{}".format(*octets) for octets in addresses.astype(">u4").view(np.uint8).reshape(-1, 4).tolist()]


def write_table(path, day):
    """The day in the authors' 17 columns."""
    columns = (day[name].tolist() for name in ("time", "port", "length", "seq", "ttl", "mss", "window", "timestamp"))
    with open(path, "w") as file:
        file.write(HEADER)
        file.writelines(
            f"{t:.6f} 2048 {src} 40000 {dst} {port} {size} 2 0 {seq} {ttl} {mss or '-'} {window} {stamp or '-'} - - "
            f"0.040000\n"
            for src, dst, t, port, size, seq, ttl, mss, window, stamp
            in zip(dotted(day["src"]), dotted(day["dst"]), *columns))


def write_log(path, day):
    """The day as UFW writes it through syslog; without options, sequence numbers and the year."""
    seconds = (day["time"] % 86400).astype(int)
    columns = (column.tolist() for column in (seconds, day["port"], day["length"], day["ttl"], day["window"]))
    date = time.strftime("%b %e", time.gmtime(float(day["time"][0])))
    with open(path, "w") as file:
        file.writelines(
            f"{date} {t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d} localhost kernel: [10109111.786402] [UFW BLOCK] "
            f"IN=ens3 OUT= MAC=56:00:03:85:82:df:fe:00:03:85:82:df:08:00 SRC={src} DST={dst} LEN={size} TOS=0x00 "
            f"PREC=0x00 TTL={ttl} ID=54321 PROTO=TCP SPT=40000 DPT={port} WINDOW={window} RES=0x00 SYN URGP=0 \n"
            for src, dst, t, port, size, ttl, window in zip(dotted(day["src"]), dotted(day["dst"]), *columns))


def make_inputs(folder, scale, formats):
    """Write the labels, the days before as captures, and the day in each of the formats."""
    sys.path.insert(0, str(HERE))                           # not in the process that a checkout's modules run in
    from traces import synthetic
    addresses, codes, names = synthetic.ground_truth(scale)
    with open(folder / "labels.csv", "w") as file:
        file.write("src_ip,label\n")
        file.writelines(f"{host},{names[code]}\n" for host, code in zip(dotted(addresses), codes.tolist()))
    (folder / "before").mkdir()
    for index in range(BEFORE):
        write_capture(folder / "before" / f"{index}.pcap", synthetic.day(index, scale))
    day = synthetic.day(BEFORE, scale)
    for name in formats:
        {"pcap": write_capture, "csv": write_table, "log": write_log}[name](folder / FORMATS[name], day)
    sent = np.unique(day["src"], return_counts=True)[1]
    print(f"a day of {len(day['time']):,} packets, {int((sent >= 5).sum()):,} hosts", flush=True)


# -- the runs ----------------------------------------------------------------------------------------------------------

def run(clone, arguments, out, parts=False):
    """The command of a checkout in a process of its own: (seconds, seconds of the processor, peak memory in GB), and
    what it told of its parts."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, clone / "darkgnn.py"]
    told = out.parent / "parts.json"
    if parts:
        command = [sys.executable, __file__, "--inside", clone, told]
    start = time.time()
    command = [*map(str, command), *map(str, arguments), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "BEGAN": repr(start)})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.time() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench_day: {clone}/darkgnn.py ended with {process.returncode}")
    measured = seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9
    return measured, json.loads(told.read_text()) if parts else None


def inside(clone, told, arguments):
    """Run darkgnn.py of a checkout in this process, and write the seconds of each part to the file `told`."""
    sys.path[0] = clone
    sys.argv = [f"{clone}/darkgnn.py", *arguments]
    spent, local = {}, threading.local()

    def enter(part):
        stack = local.__dict__.setdefault("stack", [])
        stack.append([part, time.perf_counter(), 0.0])

    def leave():
        part, start, nested = local.stack.pop()
        took = time.perf_counter() - start
        spent[part] = spent.get(part, 0) + took - nested
        if local.stack:
            local.stack[-1][2] += took

    def timed(part, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            enter(part)
            try:
                result = function(*args, **kwargs)
            finally:
                leave()
            return each(part, result) if part == "reading" else result
        return call

    def each(part, items):
        while True:
            enter(part)
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                leave()
            yield item

    began = float(os.environ["BEGAN"])
    import darkgnn  # its import is timed
    spent["start and imports"] = time.time() - began
    for part, names in PARTS.items():
        for name in names:
            module, path = name.split(":")
            *owners, function = path.split(".")
            owner = functools.reduce(lambda owner, inner: getattr(owner, inner, None), owners, sys.modules.get(module))
            if hasattr(owner, function):
                setattr(owner, function, timed(part, getattr(owner, function)))
    code = darkgnn.main(arguments)
    spent["all"] = time.time() - began
    Path(told).write_text(json.dumps(spent))
    darkgnn.scale.leave(code)


def compare(name, arguments, before, folder, repeats, state=None):
    """Run the checkouts in turn and print medians, the ratios of pairs, and the share of each part."""
    clones = [*([before] if before else []), HERE]
    runs = {clone: [] for clone in clones}
    for turn in range(repeats):
        for clone in clones[:: 1 if turn % 2 else -1]:
            runs[clone].append(run(clone, given(arguments, folder, state, clone), folder / "out")[0])
    for clone in clones:
        seconds, processor, peak = map(statistics.median, zip(*runs[clone]))
        print(f"{name:26}{seconds:6.2f} s, {processor:5.2f} s of the processor, {peak:.2f} GB"
              f"{', before' if clone == before else ''}", flush=True)
        _, spent = run(clone, given(arguments, folder, state, clone), folder / "out", parts=True)
        whole = spent.pop("all")
        rest = whole - sum(spent.values())                  # less than none where parts ran side by side
        spent["the rest" if rest >= 0 else "side by side"] = rest
        shares = sorted(spent.items(), key=lambda item: -item[1])
        print("    " + ", ".join(f"{part} {took:.2f} s {took / whole:.0%}" for part, took in shares), flush=True)
    if before:
        wall, processor, peak = (statistics.median(a / b for a, b in zip(now, then))
                                 for now, then in zip(zip(*runs[HERE]), zip(*runs[before])))
        print(f"    of before: {wall:.2f} of the time, {processor:.2f} of the processor's, {peak:.2f} of the memory")


def given(arguments, folder, state, clone):
    """The arguments of one run, which goes on from a fresh copy of the checkout's own state: versions differ."""
    if not state:
        return arguments
    shutil.copy(folder / f"{state}.{clone.name}", folder / "state")
    return [*arguments, "--state", folder / "state"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="days a twentieth as large: does it run")
    parser.add_argument("--compare", type=Path, metavar="CLONE", help="another checkout, run in turn with this one")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--firewall", nargs="+", type=Path, metavar="FILE", help="the log of 21 days or more")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="with --firewall: its ground truth")
    parser.add_argument("--inputs", type=Path, metavar="DIR", help="keep the inputs here, or take those that are there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    before = args.compare and args.compare.resolve()
    with ExitStack() as stack:
        folder = args.inputs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if args.firewall:
            for model in args.models:
                labels = ["--labels", args.labels] if args.labels else []
                compare(f"firewall log, {model}", ["--input", *args.firewall, *labels, *MODELS[model]], before, folder,
                        args.repeats)
            return
        if not (folder / "labels.csv").exists():
            elsewhere = multiprocessing.get_context("spawn").Process(  # whose memory would count as that of all runs
                target=make_inputs, args=(folder, 0.05 if args.quick else 1, args.formats))
            elsewhere.start()
            elsewhere.join()
        for model in args.models:
            common = ["--labels", folder / "labels.csv", "--train-days", "5", *MODELS[model]]
            state = f"state.{model}"
            for clone in filter(None, (HERE, before)):
                own = folder / f"{state}.{clone.name}"
                if not own.exists():
                    run(clone, ["--input", folder / "before", *common, "--state", own], folder / "out")
            for name in args.formats:
                compare(f"{name}, {model}", ["--input", folder / FORMATS[name], *common], before, folder,
                        args.repeats, state)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:4], sys.argv[4:])
    else:
        main()
