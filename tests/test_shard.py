"""Real processes over gloo on loopback; what they find is compared with one process in the test's own."""

import contextlib
import copy
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import darkgnn
import features
import graph as graphs
import knn
import shard
import state
import training
from tests.test_state import equal, files_of
from traces import packets, synthetic

ROOT = Path(__file__).resolve().parent.parent
RANKS = [2, 3]
WIDTHS = {"n_features": 37, "hidden": 12, "gcn_out": 8, "n_out": 6, "head": 4}
DTYPES = [torch.float32, torch.float64]
LONELY = 1  # the day on which rank 1 owns no host
CASES = [("i-gcn", (2,)), ("i-gcn", (LONELY,)), ("i-gcn-gru", (LONELY, 2, 3))]  # model, days of its window


def day_of_packets(t, n=1500):
    """A day's packets; on day LONELY only hosts of rank 0 of two, rank 0 and 2 of three, send any.

    On the others there are twins: three ports that one host alone contacts, and nine hosts that contact one port alone.
    """
    rng = np.random.default_rng(t)
    src = (rng.integers(0, 60, n) * 7919 + 3 * t).astype(np.uint32) % 97 + 2**31
    if t == LONELY:
        src = src[np.isin(src, [a for a in range(2**31, 2**31 + 97) if all(owned(a, R) != 1 for R in RANKS)])]
    n = len(src)
    day = {"src": src, "dst": rng.integers(2**25, 2**25 + 20, n), "port": rng.zipf(1.3, n) % 40,
           "length": rng.integers(40, 1500, n), "ttl": rng.integers(1, 256, n), "window": rng.integers(0, 65536, n),
           "timestamp": rng.integers(0, 2**32, n), "seq": rng.integers(2**25, 2**25 + 20, n)}
    if t != LONELY:
        day = {name: np.append(column, np.full(234, 2**25)) for name, column in day.items()}
        day["src"][n:] = 2**31 + 200 + np.repeat(np.arange(10), [180, *[6] * 9])
        day["port"][n:] = np.repeat([101, 102, 103, 104], [60, 60, 60, 54])
        day["seq"][n:] = 1
    dtypes = {"port": np.int32, "length": np.uint16, "ttl": np.uint8, "window": np.uint16}
    return SimpleNamespace(time=np.sort(rng.random(len(day["src"]))), mss=None, **{
        name: column.astype(dtypes.get(name, np.uint32)) for name, column in day.items()})


def owned(address, ranks):
    real, shard.size = shard.size, lambda: ranks
    try:
        return int(shard.owner(np.array([address]))[0])
    finally:
        shard.size = real


def part_of(day, rank, size):
    """What `rank` reads of the day: unequal shares; the last of three ranks reads nothing on even days."""
    n = len(day.src)
    cut = [0, n // 3, n, n] if size == 3 else [0, n // 3, n] if size == 2 else [0, n]
    rows = slice(cut[rank], cut[rank + 1])
    if rows.start == rows.stop:
        return None
    return SimpleNamespace(**{name: None if column is None else column[rows] for name, column in vars(day).items()})


@pytest.mark.parametrize("t", [0, 2, 3])
def test_the_days_have_twins(t):
    """What the tests below compare holds nodes that one process computes once, ports and hosts; a rank its hosts."""
    graph, x, _ = one_process(t)
    twin, n_hosts = training.make_snapshot(graph, x, "cpu").twin, len(graph.hosts)
    assert len(np.unique(twin[:n_hosts])) == n_hosts - 8 and len(np.unique(twin[n_hosts:])) == len(twin) - n_hosts - 2
    for R in RANKS:
        assert max(Counter(owned(2**31 + 201 + i, R) for i in range(9)).values()) > 1


def negatives_of(g):
    """(addresses, ports) of fixed negatives for a day, drawn over all hosts."""
    generator = torch.Generator().manual_seed(5)
    host, port = graphs.sample_negatives(torch.from_numpy(g.edge_host), torch.from_numpy(g.edge_port), len(g.hosts),
                                         len(g.ports), len(g.edge_host), generator)
    return g.hosts[host.numpy()], g.ports[port.numpy()]


def one_process(t):
    """The graph and features of day t, scaled and by rank, by the functions for packets."""
    day = day_of_packets(t)
    graph, order = graphs.build_graph(day.src, day.port, top_ports=15)
    raw = features.node_features(
        graph.edge_host, graph.edge_port, graph.weight, len(graph.hosts), len(graph.ports), day.dst,
        {name: getattr(day, name) for name in features.FIELDS if getattr(day, name) is not None}, order)
    return graph, features.scale_by_maximum(raw, len(graph.hosts)), features.scale_by_rank(raw, len(graph.hosts))


def learn(model, graphs_and_features, dtype, negatives):
    """Loss, gradients and embeddings with fixed negatives; results and weights of three steps with drawn ones."""
    learner = training.new_learner(model, 0, "cpu", **WIDTHS)
    for module in (learner.embedder, learner.head):
        module.to(dtype)
    torch.manual_seed(1)
    for parameter in (*learner.embedder.parameters(), *learner.head.parameters()):
        parameter.data.uniform_(-0.5, 0.5)                  # so that all gradients show, those of biases too
    days = []
    for graph, x, *_ in graphs_and_features:
        day = training.make_snapshot(graph, x, "cpu")
        if dtype == torch.float64:                          # A_hat x anew in float64
            A_hat = day.A_hat.astype(np.float64)
            Ax = A_hat @ x.astype(np.float64)
            Ax[len(graph.hosts) :] = shard.all_sum(Ax[len(graph.hosts) :])
            day = day._replace(A_hat=A_hat, Ax=torch.from_numpy(np.concatenate([Ax, np.zeros((1, 37))])))
        days.append(day)
    window = training.make_window(days, "cpu")
    graph = graphs_and_features[-1][0]
    mine = np.isin(negatives[0], graph.hosts)
    host, port = (torch.from_numpy(np.searchsorted(known, wanted[mine])) for known, wanted in
                  zip((graph.hosts, graph.ports), negatives))
    z = training.embed(learner, window)
    loss, accuracy = training.pretext(learner, window, host, port)
    loss.backward()
    parameters = [*learner.embedder.parameters(), *learner.head.parameters()]
    shard.sum_gradients(parameters)
    gradient = torch.cat([parameter.grad.flatten() for parameter in parameters])
    results = [training.train_step(learner, window) for _ in range(3)]
    return {"loss": shard.all_sum(loss.detach()), "accuracy": shard.all_sum(accuracy), "gradient": gradient,
            "hosts": graph.hosts, "z": z, "results": torch.stack(results),
            "weights": torch.cat([parameter.detach().flatten() for parameter in parameters])}


def tied_rows(n=41):
    """Rows with many exact ties and duplicates, a zero row, labels, and addresses.

    Norms are 1 and 2, so that similarities are exact, however a processor's matrix product orders its sums.
    """
    rng = np.random.default_rng(9)
    x = rng.choice([-1, 1], (n, 4)).astype(np.float32)
    x[::3] *= np.eye(4, dtype=np.float32)[rng.integers(0, 4, len(x[::3]))]
    x[7] = 0
    return x, rng.integers(0, 3, n), np.sort(rng.choice(2**32, n, replace=False)).astype(np.uint32)


def everything(rank, size, folder):
    """What one rank finds, for the tests to compare."""
    found = {"traffic": [], "graphs": [], "by rank": []}
    for t in range(4):
        traffic = shard.count_packets(part_of(day_of_packets(t), rank, size))
        graph, _ = graphs.build_graph(traffic.src, traffic.port, 5, 15, traffic.packets, shard.all_sum)
        x = features.scale_by_maximum(shard.raw_features(traffic, graph), len(graph.hosts), shard.all_max)
        found["traffic"].append(traffic)
        found["by rank"].append(features.scale_by_rank(shard.raw_features(traffic, graph), len(graph.hosts),
                                                       shard.average_ranks, shard.all_sum))
        found["graphs"].append((graph, x))
    for model, days in CASES:
        for dtype in DTYPES:
            negatives = negatives_of(one_process(days[-1])[0])
            found[model, days, dtype] = learn(model, [found["graphs"][t] for t in days], dtype, negatives)
    x, labels, hosts = tied_rows()
    mine = shard.owner(hosts) == rank
    for k in (3, 60):
        found["nearest", k] = shard.nearest(torch.from_numpy(x[mine]), hosts[mine], torch.from_numpy(labels[mine]), k)
    found["standardized"] = knn.standardize(torch.from_numpy(x[mine]) * 0.1 + 1e3, shard.mean_of_rows, shard.all_max)
    own = [(date(2020, 1, 1 + t), t) for t in range(6) if t % size == rank or t == 4]
    found["days"] = list(shard.days(own))
    torch.save(found, folder / f"{size}-{rank}.pt")


def spawned(rank, size, port, function, arguments):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    shard.start()
    function(rank, size, *arguments)
    shard.stop()


def by_ranks(size, function, *arguments):
    """function(rank, size, *arguments) in each of `size` processes; forked, they import nothing anew."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(spawned, (size, port, function, arguments), size, start_method="fork")


@functools.cache
def job(size, folder):
    """What the ranks of a job of `size` processes found, by rank."""
    by_ranks(size, everything, folder)
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone():
    found = {"graphs": [one_process(t) for t in range(4)]}
    for model, days in CASES:
        for dtype in DTYPES:
            window = [found["graphs"][t] for t in days]
            found[model, days, dtype] = learn(model, window, dtype, negatives_of(window[-1][0]))
    return found


def joined(hosts, parts):
    """Rows of the ranks put together in order of address."""
    hosts = np.concatenate(hosts)
    return hosts[np.argsort(hosts)], np.concatenate([np.asarray(part) for part in parts])[np.argsort(hosts)]


def test_every_rank_owns_some_and_on_one_day_none():
    """The hash shares the test's hosts out unevenly, and on one day a rank has no host at all."""
    days = [one_process(t)[0].hosts for t in range(4)]
    for size in RANKS:
        counts = [np.bincount([owned(a, size) for a in hosts], minlength=size) for hosts in days]
        assert all((count > 0).all() for t, count in enumerate(counts) if t != LONELY) and counts[LONELY][1] == 0
        assert any(len(set(count.tolist())) > 1 for count in counts)


@pytest.mark.parametrize("size", RANKS)
def test_graph_and_features_are_those_of_one_process_bit_by_bit(size, folder, alone):
    """Hosts, ports, edges and the features that the model gets are the same, whoever read and owns what."""
    ranks = job(size, folder)
    for t, (graph, x, by_rank) in enumerate(alone["graphs"]):
        parts = [rank["graphs"][t] for rank in ranks]
        n = len(graph.hosts)
        hosts, host_rows = joined([g.hosts for g, _ in parts], [x[: len(g.hosts)] for g, x in parts])
        assert (hosts == graph.hosts).all() and (host_rows == x[:n]).all()
        found = [rank["by rank"][t] for rank in ranks]
        host_rows = joined([g.hosts for g, _ in parts], [x[: len(g.hosts)] for (g, _), x in zip(parts, found)])[1]
        assert (host_rows == by_rank[:n]).all()
        for (g, part), other in zip(parts, found):
            assert (g.ports == graph.ports).all()
            assert (part[len(g.hosts) :] == x[n:]).all() and (other[len(g.hosts) :] == by_rank[n:]).all()
        for name in ("edge_port", "weight"):
            edges = np.concatenate([g.hosts[g.edge_host] for g, _ in parts])
            order = np.argsort(edges, kind="stable")
            assert (np.concatenate([getattr(g, name) for g, _ in parts])[order] == getattr(graph, name)).all()
        day = day_of_packets(t)
        assert all(rank["traffic"][t].n == len(day.src) and "mss" not in rank["traffic"][t].fields for rank in ranks)
        assert sum(rank["traffic"][t].mirai.sum() for rank in ranks) == (day.seq == day.dst).sum() > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", RANKS)
def test_loss_gradients_and_embeddings_are_those_of_one_process(size, case, dtype, folder, alone):
    """With the same negatives the error of each vector is 1e-5 of its norm in float32, 1e-10 in float64, at most."""
    ranks, one = [rank[(*case, dtype)] for rank in job(size, folder)], alone[(*case, dtype)]

    def near(found, expected):
        assert found.dtype == expected.dtype == dtype
        assert (found - expected).norm() <= (1e-5 if dtype == torch.float32 else 1e-10) * expected.norm()
    for rank in ranks:
        near(rank["loss"], one["loss"])
        assert rank["accuracy"] == pytest.approx(one["accuracy"].item())
        near(rank["gradient"], one["gradient"])
    hosts, z = joined([rank["hosts"] for rank in ranks], [rank["z"] for rank in ranks])
    assert (hosts == one["hosts"]).all()
    near(torch.from_numpy(z), one["z"])


@pytest.mark.parametrize("size", RANKS)
def test_ranks_make_the_same_steps(size, folder):
    """After steps with negatives of their own all ranks' weights and reported figures are equal bit by bit."""
    ranks = job(size, folder)
    for case in CASES:
        for dtype in DTYPES:
            first, *others = [rank[(*case, dtype)] for rank in ranks]
            assert torch.isfinite(first["weights"]).all() and first["results"].unique(dim=0).shape[0] == 3
            for other in others:
                assert torch.equal(first["weights"], other["weights"])
                assert torch.equal(first["results"], other["results"])


@pytest.mark.parametrize("k", [3, 60])
@pytest.mark.parametrize("size", RANKS)
def test_neighbours_are_those_of_one_process_ties_included(size, k, folder):
    """Every rank's queries find the same rows in the same order as one search over all rows, and their labels."""
    x, labels, hosts = tied_rows()
    similarity, neighbours = knn.nearest(torch.from_numpy(x), k)
    mine = [shard_hosts(hosts, rank, size) for rank in range(size)]
    found = [rank["nearest", k] for rank in job(size, folder)]
    assert (joined(mine, [part[1] for part in found])[1] == hosts.astype(np.int64)[neighbours]).all()
    assert (joined(mine, [part[2] for part in found])[1] == labels[neighbours]).all()
    np.testing.assert_allclose(joined(mine, [part[0] for part in found])[1], similarity, atol=1e-6)


def shard_hosts(hosts, rank, size):
    return hosts[[owned(a, size) == rank for a in hosts]]


@pytest.mark.parametrize("size", RANKS)
def test_standardization_is_over_all_ranks(size, folder):
    """Mean and deviation are those of all rows."""
    x, _, hosts = tied_rows()
    expected = knn.standardize(torch.from_numpy(x) * 0.1 + 1e3)
    found = joined([shard_hosts(hosts, rank, size) for rank in range(size)],
                   [rank["standardized"] for rank in job(size, folder)])[1]
    np.testing.assert_allclose(found, expected, atol=2e-3)  # 0.1 beside 1000 in float32


def test_shares_of_the_input_are_the_whole(tmp_path):
    """Three readers' files are all files, each once; three makers' packets of a synthetic day are all of the day's."""
    for t in range(5):
        lines = [f"{86400 * t + i},1.0.0.{i},9.9.9.9,{t}" for i in range(1, 4)]
        (tmp_path / f"{t}.csv").write_text("\n".join(["ts,src_ip,dst_ip,dst_port", *lines]))
    read = [[day for day, _ in packets.read_days(tmp_path, packets.Summary(), share=(i, 3))] for i in range(3)]
    assert sorted(day for days in read for day in days) == [date(1970, 1, 1 + t) for t in range(5)]
    assert all(0 < len(days) < 3 for days in read)
    day, parts = synthetic.day(3, 0.01), [synthetic.day(3, 0.01, share=(i, 3)) for i in range(3)]
    for name in ("src", "dst", "timestamp"):
        assert (np.sort(np.concatenate([part[name] for part in parts])) == np.sort(day[name])).all()
    assert len(synthetic.day(3, 0.01, share=(99, 100))["time"]) == 0


def test_names_of_sensors_are_refused_where_several_read(tmp_path):
    """Each reader would number them in its own way."""
    (tmp_path / "a.csv").write_text("ts,src_ip,dst_ip,dst_port\n5,1.0.0.1,tokyo,22\n")
    with pytest.raises(ValueError, match="expected destination addresses, got the name"):
        list(packets.read_days(tmp_path, packets.Summary(), share=(0, 2)))


@pytest.mark.parametrize("size", RANKS)
def test_ranks_agree_on_the_days(size, folder):
    """Every rank goes through every day that some rank has, once, in order, with its own packets or none."""
    for rank, found in enumerate(job(size, folder)):
        assert found["days"] == [(date(2020, 1, 1 + t), t if t % size == rank or t == 4 else None) for t in range(6)]


# -- the command under torchrun ----------------------------------------------------------------------------------------

TINY = ["--hidden-width", "16", "--gcn-width", "8", "--embedding-width", "6", "--head-width", "4", "--device", "cpu",
        "--history", "1", "--train-days", "2", "--top-ports", "12"]


def torchrun(size, *arguments):
    """The command by torchrun, started."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", size,
               ROOT / "darkgnn.py", *TINY, *arguments]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def trace(folder):
    """Four days of packets in five files and the labels of half of the hosts."""
    (folder / "trace").mkdir()
    for t in range(4):
        day = day_of_packets(t)
        header = "ts,src_ip,dst_ip,dst_port,pck_len,ttl,t_win,t_ts,tcp_seq"
        rows = [header, *(f"{86400 * t + 86399 * time:.3f},{src},{dst},{port},{length},{ttl},{window},{timestamp},{seq}"
                          for time, src, dst, port, length, ttl, window, timestamp, seq in zip(
                              day.time, map(dotted, day.src), map(dotted, day.dst), day.port, day.length, day.ttl,
                              day.window, day.timestamp, day.seq))]
        for part, lines in enumerate([rows] if t else [rows[:500], [header, *rows[500:]]]):
            (folder / "trace" / f"{t}-{part}.csv").write_text("\n".join(lines) + "\n")
    (folder / "labels.csv").write_text("src_ip,label\n128.0.0.0/27,low\n128.0.0.64/26,high\n")
    return ["--input", folder / "trace", "--labels", folder / "labels.csv"]


def command(rank, size, *arguments):
    """The command in this process."""
    assert darkgnn.main([str(part) for part in [*TINY, "--quiet", *arguments]]) == 0


def dotted(address):
    return ".".join(str(int(address) >> shift & 255) for shift in (24, 16, 8, 0))


def test_the_command_gives_the_same_files_by_three_ranks(folder, trace):
    """Scores, predictions, embeddings and what was read are those of one process."""
    arguments = [*trace, "--model", "features", "--feature-scaling", "rank", "--whiten", "--mirai"]
    job = torchrun(3, *arguments, "--out", folder / "three", "--state", folder / "three.state")
    command(0, 1, *arguments, "--out", folder / "one", "--state", folder / "one.state")
    out, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert out.count("\n1970-01-0") == 4 and out.count("macro average") == 1
    assert errors.count("the trace has no MSS") == 1
    one, three = (json.loads((folder / name / "report.json").read_text()) for name in ("one", "three"))
    assert three["timings"]["ranks"] == 3
    for name in ("macro_f1", "classes", "subnet_agreement", "input", "labels"):
        assert one[name] == three[name], name
    for a, b in zip(one["days"], three["days"]):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for name in ("predictions.csv", "hosts.csv", "changes.csv"):
        assert (folder / "one" / name).read_bytes() == (folder / "three" / name).read_bytes()
    for path in (folder / "one" / "embeddings").iterdir():
        a, b = (np.load(folder / name / "embeddings" / path.name) for name in ("one", "three"))
        assert (a["hosts"] == b["hosts"]).all()
        np.testing.assert_allclose(a["embeddings"], b["embeddings"], atol=1e-5)


def test_a_model_learns_by_two_ranks(folder, trace):
    """i-gcn-gru runs to its report; every host has its row once, and the days count all hosts."""
    flags = ["--model", "i-gcn-gru", "--whiten", "--join-features", "--low-memory"]
    job = torchrun(2, *trace, *flags, "--out", folder / "two")
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    result = json.loads((folder / "two" / "report.json").read_text())
    assert [row["hosts"] for row in result["days"]] == [len(one_process(t)[0].hosts) for t in range(4)]
    for row in result["days"][2:]:
        saved = np.load(folder / "two" / "embeddings" / f"{row['date']}.npz")
        assert len(set(saved["hosts"].tolist())) == row["hosts"] == len(saved["embeddings"])
        assert np.isfinite(saved["embeddings"]).all() and 0 < row["accuracy"] < 1


def test_a_rank_that_raises_ends_the_job_with_its_error(folder, trace):
    """A file that one rank alone reads is no trace: its line is shown, and all end within a minute."""
    (folder / "broken").mkdir()
    for i, content in enumerate([b"ts,src_ip,dst_ip,dst_port\n5,1.0.0.1,2.0.0.2,22\n", b"PK\3\4 no trace"]):
        (folder / "broken" / f"{i}.csv").write_bytes(content)
    job = torchrun(2, "--input", folder / "broken", "--out", folder / "none")
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "darkgnn: rank 1: error: " in errors and "got a zip archive; unpack it first" in errors
    assert "darkgnn.py\", line" not in errors                # no traceback of ours


def test_a_rank_that_dies_ends_the_job(folder):
    """Killed in the middle of the month, a rank takes the others with it within a minute."""
    job = torchrun(2, "--synthetic-scale", "0.01", "--out", folder / "dead")
    while not job.stdout.readline().startswith("2021-12-02"):
        assert job.poll() is None, job.stderr.read()
    with open(f"/proc/{job.pid}/task/{job.pid}/children") as children:
        ranks = {int(pid): Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children.read().split()}
    victim, = (pid for pid, environment in ranks.items() if b"RANK=1" in environment)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0 and "SIGKILL" in errors and time.monotonic() - killed < 60
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


STATEFUL = {"i-gcn-gru": ["--whiten", "--join-features"], "gcn-gru": ["--epochs", 2], "gcn": ["--epochs", 2],
            "features": ["--whiten"]}


@pytest.mark.parametrize("model", STATEFUL)
def test_day_by_day_equals_all_at_once_by_two_ranks(model, tmp_path, trace):
    """Two ranks that go on from a state, in a folder that grows, leave the bytes of two that have all days at once."""
    inputs = {"whole": [range(4)], "steps": [[0], [1, 2], [3]]}
    for name, runs in inputs.items():
        (tmp_path / f"in-{name}").mkdir()
        for days in runs:
            for t in days:
                for path in trace[1].glob(f"{t}-*.csv"):
                    shutil.copy2(path, tmp_path / f"in-{name}")
            by_ranks(2, command, "--input", tmp_path / f"in-{name}", *trace[2:], "--model", model, *STATEFUL[model],
                     "--state", tmp_path / f"{name}.state", "--out", tmp_path / name)
    whole = files_of(tmp_path / "whole")
    assert whole.keys() >= {"hosts.csv", "predictions.csv"} and files_of(tmp_path / "steps") == whole
    assert len(state.load(tmp_path / "steps.state")["files"]) == 5  # rank 0 knows what the others read


def go_on(rank, size, path, folder):
    """What `size` ranks make of the state at `path`: the state of it again, the next day before and after training."""
    saved = shard.hand_out(state.load(path) if rank == 0 else None, state.part)
    args = Namespace(**saved["settings"], state=path, low_memory=False)
    memory = darkgnn.restore(saved, args)
    assert (shard.owner(memory.hosts.address) == rank).all()
    found = {"again": copy.deepcopy(darkgnn.remember(memory, args, {}))}  # before training changes the weights
    progress = memory.models[0]
    if progress.learner:
        traffic = shard.count_packets(part_of(day_of_packets(3), rank, size))
        graph, _ = graphs.build_graph(traffic.src, traffic.port, 5, 12, traffic.packets, shard.all_sum)
        x = features.scale_by_maximum(shard.raw_features(traffic, graph), len(graph.hosts), shard.all_max)
        training.take(progress, training.make_snapshot(graph, x, "cpu"), 4)
        found["hosts"], found["before"] = shard.at_rank_0(graph.hosts, training.embed_day(progress))
        training.incremental(progress, 1)
        found["after"] = shard.at_rank_0(graph.hosts, training.embed_day(progress))[1]
        found["draws"] = shard.all_objects(torch.rand(3, generator=progress.learner.generator).tolist())
    if rank == 0:
        torch.save(found, folder / f"{size}.pt")


@pytest.mark.parametrize("model", ["i-gcn-gru", "features"])
@pytest.mark.parametrize("writers", [1, 3])
def test_any_number_of_ranks_goes_on_from_a_state(writers, model, tmp_path, trace):
    """Read by 1, 2 and 3 ranks a state is the same hosts, days and weights, bit by bit, and the next day the same."""
    (tmp_path / "in").mkdir()
    for path in trace[1].glob("[012]-*.csv"):
        shutil.copy(path, tmp_path / "in")
    for size in {1, writers}:
        by_ranks(size, command, "--input", tmp_path / "in", *trace[2:], "--model", model,
                 *STATEFUL[model], "--state", tmp_path / f"{size}.state", "--out", tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
    saved, alone = state.load(tmp_path / f"{writers}.state"), state.load(tmp_path / "1.state")
    assert saved.keys() == alone.keys() and len(saved["files"]) == len(alone["files"]) == 4
    for name in ("address", "first", "last", "days"):
        assert torch.equal(saved["hosts"][name], alone["hosts"][name])
    for day, same in zip(saved["model"]["past"], alone["model"]["past"]):
        assert all(torch.equal(day[name], same[name]) for name in graphs.BipartiteGraph._fields)
    found, streams = {}, {name: saved["model"].pop(name) for name in ("generator", "generators") if
                          name in saved["model"]}
    for size in (1, 2, 3):
        by_ranks(size, go_on, tmp_path / f"{writers}.state", tmp_path)
        found[size] = torch.load(tmp_path / f"{size}.pt", weights_only=False)
        again = found[size]["again"]["model"]
        own = {name: again.pop(name) for name in ("generator", "generators") if name in again}
        assert equal({**saved, **found[size]["again"], "files": saved["files"]}, saved)
        assert model == "features" or equal(own, streams) == (size == writers)
    if model == "features":
        return
    for size in (2, 3):
        assert (found[size]["hosts"] == found[1]["hosts"]).all()
        torch.testing.assert_close(found[size]["before"], found[1]["before"], rtol=0, atol=1e-5)
        assert torch.isfinite(found[size]["after"]).all()
        assert not torch.equal(found[size]["after"], found[size]["before"])
    draws = [tuple(draw) for size in found for draw in found[size]["draws"]]
    assert len(set(draws)) == len(draws) == 6               # no two ranks have a common stream


def test_what_changed_is_measured_over_the_hosts_of_all_ranks(tmp_path, trace):
    """changes.csv by three ranks is that of one, with a host that moved more than the others of all ranks did."""
    for size in (1, 3):
        by_ranks(size, command, *trace, "--model", "features", "--mirai", "--state", tmp_path / f"{size}.state",
                 "--out", tmp_path / str(size))
    one, three = (files_of(tmp_path / str(size)) | {"changes": (tmp_path / str(size) / "changes.csv").read_text()}
                  for size in (1, 3))
    assert one["changes"] == three["changes"] and one["hosts.csv"] == three["hosts.csv"]
    assert {line.split(",")[2] for line in one["changes"].splitlines()} == {"change", "class", "moved", "new"}


@pytest.mark.parametrize("trouble", ["in use", "damaged", "--no-node-features True, got False"])
def test_a_state_that_cannot_be_had_is_one_line_by_two_ranks(trouble, tmp_path, trace):
    """Held by another run, damaged, of other settings: rank 0 says it, exit code 2, and nothing changes."""
    path, out = tmp_path / "s.state", tmp_path / "out"
    command(0, 1, *trace, "--state", path, "--out", out, *["--no-node-features"] * ("node" in trouble))
    if trouble == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    before, files = path.read_bytes(), files_of(out)
    with state.locked(path) if trouble == "in use" else contextlib.nullcontext():
        job = torchrun(2, *trace, "--state", path, "--out", out)
        _, errors = job.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.startswith("darkgnn:")]
    assert job.returncode != 0 and "exitcode  : 2 " in errors and "darkgnn.py\", line" not in errors
    assert len(lines) == 1 and lines[0].startswith("darkgnn: rank 0: error: ") and trouble in lines[0], errors
    assert path.read_bytes() == before and files_of(out) == files


def test_more_processes_than_gpus_are_refused(monkeypatch):
    """A process for which the machine has no GPU says so before it joins the others."""
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="expected a GPU for each process on a machine, got 2 for process 3"):
        shard.start("cuda")


@pytest.mark.parametrize("flags", [["--model", "i-darkvec"], ["--no-node-features"]], ids=str)
def test_what_one_process_alone_can_do_is_refused(flags, monkeypatch, capsys, tmp_path):
    """One line and exit code 2."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit) as ended:
        darkgnn.main([*flags, "--out", str(tmp_path)])
    assert ended.value.code == 2 and "runs in one process, got 2 from torchrun" in capsys.readouterr().err
