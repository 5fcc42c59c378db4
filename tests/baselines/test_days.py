"""baselines/days.py: i-DarkVec from day to day, its vocabulary and its weights."""

import numpy as np
import torch

import graph as graphs
import training
from baselines import darkvec, days


def a_day(hosts, ports=(22, 23, 80), packets=400, top_ports=2, seed=0):
    """(graph, sequence) of a day on which these hosts (addresses) send to these ports at random."""
    rng = np.random.default_rng(seed)
    src = np.append(rng.choice(hosts, packets), np.repeat(hosts, 5)).astype(np.uint32)
    port = rng.choice(ports, len(src))
    graph, order = graphs.build_graph(src, port, top_ports=top_ports)
    edge = np.repeat(np.arange(len(graph.weight)), graph.weight)
    host_of, port_of = np.empty(len(src), np.int64), np.empty(len(src), np.int64)
    host_of[order], port_of[order] = graph.edge_host[edge], graph.edge_port[edge]
    return graph, (np.arange(len(src)), host_of, port_of)


def progress_of(seed=0, width=8):
    return training.Progress(days.new_learner(seed, "cpu", width), 0)


def vectors(progress):
    """{address: its input vector, output vector and count}."""
    network = progress.learner.network
    rows = torch.cat([network.V.detach(), network.U.detach(), network.count[:, None]], 1)
    return {key: rows[row].clone() for key, row in zip(progress.nodes.key.tolist(), progress.nodes.row.tolist())}


def test_a_day_is_one_pass_over_its_corpus():
    """learn makes a row per host and trains on the day's corpus as darkvec.train_day does; embed returns V's rows."""
    hosts = np.array([5, 9, 700, 3_000_000_000])
    graph, sequence = a_day(hosts, top_ports=1)
    progress, same = progress_of(), days.new_learner(0, "cpu", 8)
    assert graph.ports[-1] == graphs.OTHER and (sequence[2] == 1).mean() > 0.6  # the busiest, and yet last
    result = days.learn(progress, graph, sequence, 1)
    same.network.grow(4, same.generator)
    words, offsets = darkvec.corpus(*sequence, other=1)
    loss = darkvec.train_day(same.network, words, offsets, same.generator)
    assert result[0] == loss and torch.isnan(result[1]) and progress.trained
    for found, expected in zip(same.network.state_dict().values(), progress.learner.network.state_dict().values()):
        assert torch.equal(found, expected)
    z = days.embed(progress, graph.hosts)
    assert torch.equal(z, same.network.V.detach()) and z.dtype == torch.float32 and not z.requires_grad
    assert torch.equal(days.embed(progress, graph.hosts[[2, 0]]), z[[2, 0]])


def test_a_day_without_other_ports_has_every_port_in_order():
    """Where every port is a node of its own none is put last for being OTHER."""
    graph, sequence = a_day(np.arange(1, 9), top_ports=9)
    assert graphs.OTHER not in graph.ports
    progress, same = progress_of(), days.new_learner(0, "cpu", 8)
    same.network.grow(8, same.generator)
    expected = darkvec.train_day(same.network, *darkvec.corpus(*sequence), same.generator)
    assert days.learn(progress, graph, sequence)[0] == expected


def test_vocabulary_and_weights_go_on_from_day_to_day():
    """New hosts get rows of their own, known ones go on from their vectors, those absent keep their input vectors."""
    progress = progress_of()
    days.learn(progress, *a_day(np.array([10, 20, 30])), 1)
    first = vectors(progress)
    graph, sequence = a_day(np.array([5, 20, 30, 40]), seed=1)
    days.learn(progress, graph, sequence, 2)
    second = vectors(progress)
    assert first.keys() == {10, 20, 30} and second.keys() == {5, 10, 20, 30, 40}
    assert sorted(progress.nodes.row.tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(second[10][:8], first[10][:8]) and not torch.equal(second[20][:8], first[20][:8])
    assert second[10][-1] == first[10][-1] and second[20][-1] > first[20][-1] > 0
    assert dict(zip(progress.nodes.key.tolist(), progress.nodes.seen.tolist())) == {5: 2, 10: 1, 20: 2, 30: 2, 40: 2}
    expected = torch.stack([second[host][:8] for host in (5, 20, 30, 40)])
    assert torch.equal(days.embed(progress, graph.hosts), expected)


def test_epochs_are_passes():
    """Two epochs are another result than one, and count the day's words once."""
    day = a_day(np.arange(10, 20))
    results = []
    for epochs in (1, 2):
        progress = progress_of()
        days.learn(progress, *day, epochs=epochs)
        results.append(vectors(progress))
    assert all(one[-1] == two[-1] for one, two in zip(results[0].values(), results[1].values()))
    assert not any(torch.equal(one[:8], two[:8]) for one, two in zip(results[0].values(), results[1].values()))


def test_same_seed_same_bytes():
    """The same seed gives bitwise the same vectors over two days, another seed others."""
    found = []
    for seed in (3, 3, 4):
        progress = progress_of(seed)
        for t in range(2):
            graph, sequence = a_day(np.arange(10 + t, 20 + t), seed=t)
            days.learn(progress, graph, sequence, t)
        found.append(days.embed(progress, graph.hosts))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_rows_kept_keep_their_vectors():
    """training.keep_rows leaves the rows named, in that order; training goes on."""
    progress = progress_of()
    graph, sequence = a_day(np.array([10, 20, 30, 40]))
    days.learn(progress, graph, sequence)
    before = vectors(progress)
    training.keep_rows(progress.learner, torch.tensor([3, 1]))
    progress.nodes = training.NodeTable(np.array([20, 40], np.uint64), np.array([1, 0]), np.zeros(2, np.int64))
    assert vectors(progress).keys() == {20, 40}
    assert all(torch.equal(before[host], value) for host, value in vectors(progress).items())
    days.learn(progress, graph, sequence)
    assert vectors(progress).keys() == {10, 20, 30, 40} and torch.isfinite(days.embed(progress, graph.hosts)).all()
