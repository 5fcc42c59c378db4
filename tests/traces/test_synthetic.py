"""The synthetic month: reproducible, of Table 2's size, and neither trivial nor noise. Scale 0.1 where not said."""

import ast
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from traces import synthetic

SCALE, SEED = 0.1, 3
NAMES = synthetic.names()
TYPES = {"time": np.float64, "src": np.uint32, "dst": np.uint32, "port": np.int32, "length": np.uint16,
         "ttl": np.uint8, "mss": np.uint16, "window": np.uint16, "timestamp": np.uint32, "seq": np.uint32}
FACTORS = {row.name: max(SCALE, min(1, synthetic.ENOUGH / row.daily_hosts)) for row in synthetic.CLASSES[:-1]}
FACTORS["Unknown"] = SCALE
FIELDS = ("length", "ttl", "mss", "window", "timestamp")


def filtered(columns):
    """Packets of hosts with at least 5 that day: those hosts, each packet's host number and its columns."""
    hosts, host, packets = np.unique(columns["src"], return_inverse=True, return_counts=True)
    kept = packets >= 5
    mine = kept[host]
    return hosts[kept], (kept.cumsum() - 1)[host[mine]], {name: column[mine] for name, column in columns.items()}


def labels(hosts, truth):
    addresses, codes, _ = truth
    at = np.searchsorted(addresses, hosts).clip(max=addresses.size - 1)
    return np.where(addresses[at] == hosts, codes[at], 0)


def summary(columns, truth):
    """Per class its hosts, its ports and its number of packets on a day, after the filter."""
    hosts, host, columns = filtered(columns)
    code = labels(hosts, truth)
    pairs = np.unique(code[host] * 65536 + columns["port"])
    packets = np.bincount(code[host], minlength=len(NAMES))
    return [(hosts[code == c], pairs[pairs >> 16 == c] & 0xFFFF, packets[c]) for c in range(len(NAMES))]


@pytest.fixture(scope="module")
def truth():
    return synthetic.ground_truth(SCALE, SEED)


@pytest.fixture(scope="module")
def month(truth):
    """Each day's `summary`, and the packets of days 1 (the first with every class), 24 and 27."""
    days = [columns for _, columns in synthetic.month(SCALE, SEED)]
    return [summary(columns, truth) for columns in days], {i: days[i] for i in (1, 24, 27)}


def hosts_by_day(month, name):
    return [set(day[NAMES.index(name)][0].tolist()) for day in month[0] if len(day[NAMES.index(name)][0])]


def ports_by_day(month, name):
    return [set(day[NAMES.index(name)][1].tolist()) for day in month[0] if len(day[NAMES.index(name)][1])]


def test_same_seed_same_bytes(month):
    """A day generated again, alone, has the very bytes of that day of the month; another seed or day has others."""
    alone, other = synthetic.day(24, SCALE, SEED), synthetic.day(24, SCALE, SEED + 1)
    for name, column in month[1][24].items():
        assert column.tobytes() == alone[name].tobytes()
        assert column.tobytes() != other[name].tobytes()
        assert column.tobytes() != month[1][27][name].tobytes()
    again, first = synthetic.ground_truth(SCALE, SEED), synthetic.ground_truth(SCALE, SEED + 1)
    assert np.array_equal(again[0], synthetic.ground_truth(SCALE, SEED)[0])
    assert np.intersect1d(again[0], first[0]).size < 0.01 * again[0].size


def test_order_of_days():
    """month() yields the days of December 2021 in order, each the day of that index, as many as asked for."""
    days = list(synthetic.month(0.01, 0, days=2))
    assert [d for d, _ in days] == [date(2021, 12, 1), date(2021, 12, 2)]
    for index, (_, columns) in enumerate(days):
        assert columns["time"].tobytes() == synthetic.day(index, 0.01, 0)["time"].tobytes()
    assert synthetic.DAYS == 31


def test_columns(month):
    """Ten equally long columns of the agreed types, sorted by time within the UTC day, to sensors of one /24."""
    for index, columns in month[1].items():
        assert {name: column.dtype for name, column in columns.items()} == TYPES
        assert {column.shape for column in columns.values()} == {columns["time"].shape}
        midnight = (date(2021, 12, 1) + timedelta(index) - date(1970, 1, 1)).days * 86400.0
        assert (np.diff(columns["time"]) >= 0).all()
        assert midnight <= columns["time"][0] and columns["time"][-1] < midnight + 86400
        assert np.unique(columns["dst"]).size == 256 and np.unique(columns["dst"] >> 8).size == 1
        assert columns["port"].min() >= 1 and columns["port"].max() <= 65535
        assert columns["length"].min() >= 40 and columns["length"].max() <= 60
        assert columns["ttl"].min() >= 30


def test_headers(month):
    """MSS and timestamps need room in the packet; a host's timestamps never fall; windows are what tools send."""
    columns = month[1][27]
    assert ((columns["mss"] == 0) == (columns["length"] == 40)).all()
    assert (columns["length"][columns["timestamp"] > 0] == 60).all()
    known = np.isin(columns["window"], (65535, 1024, 29200, 64240, 8192))
    assert known.mean() > 0.7 and np.unique(columns["window"]).size > 100

    order = np.lexsort((columns["time"], columns["src"]))
    src, time, stamp, ttl = (columns[name][order] for name in ("src", "time", "timestamp", "ttl"))
    mixed = np.isin(src, src[(stamp == 0)])
    pairs = (src[1:] == src[:-1]) & ~mixed[1:]
    seconds, ticks = np.diff(time)[pairs], np.diff(stamp.astype(np.int64))[pairs] % (2**32 - 1)
    assert pairs.sum() > 100 and (ticks <= 1000 * seconds + 1).all()
    first = np.flatnonzero(np.r_[True, np.diff(src) > 0])
    jitter = np.maximum.reduceat(ttl, first).astype(int) - np.minimum.reduceat(ttl, first)
    assert (jitter <= 1).mean() > 0.5  # hosts with one initial TTL: the hops are fixed but for a little jitter


def test_addresses(month, truth):
    """Sources are public unicast; labelled hosts cluster in a few /24s where the class is an organisation."""
    src = np.unique(np.concatenate([columns["src"] for columns in month[1].values()]))
    octet = src >> 24
    assert not np.isin(octet, (0, 10, 100, 127, 169, 172, 192, 198, 203)).any() and octet.max() < 224
    assert not np.isin(src & 255, (0, 255)).any()
    code = labels(src, truth)
    for name, low in (("Shadowserver", 20), ("Driftnet", 20), ("Mirai-like", 0)):
        hosts = src[code == NAMES.index(name)]
        per_net = hosts.size / np.unique(hosts >> 8).size
        assert per_net > low if low else per_net < 1.1
    _, per_net = np.unique(src[code == 0] >> 8, return_counts=True)
    assert (per_net >= 3).sum() > 10  # Unknown has operators too


def test_no_address_twice():
    """No two hosts of the month share an address, at any scale: all populations' tenants are told apart."""
    for scale in (0.001, synthetic.MAX_SCALE):
        addresses = np.concatenate([
            synthetic._addresses(np.unique(synthetic._tenants(row, factor, SEED, number)[0]), row, SEED, number)
            for number, (row, factor, _) in enumerate(synthetic._populations(scale))])
        assert np.unique(addresses).size == addresses.size


def test_ground_truth(month, truth):
    """The ground truth is exactly the hosts of the 14 classes that show up in the month, Unknown left out."""
    addresses, codes, names = truth
    assert addresses.dtype == np.uint32 and codes.dtype == np.int64 and (np.diff(addresses.astype(int)) > 0).all()
    assert names == NAMES and names[0] == "Unknown" and len(set(names)) == 15
    for c in range(1, 15):
        seen = np.unique(np.concatenate([day[c][0] for day in month[0]]))
        assert np.array_equal(seen, addresses[codes == c])


def test_size_of_the_month(month):
    """At scale 0.1 hosts are within 10 % (or 3 deviations) and packets within 25 % of Table 2 times the factor."""
    alikes = sum((FACTORS[row.name] - SCALE) * row.daily_hosts * row.habit.alike for row in synthetic.CLASSES[:-1])
    for row in synthetic.CLASSES:
        active = [day[NAMES.index(row.name)] for day in month[0] if len(day[NAMES.index(row.name)][0])]
        assert len(active) == {"Rapid7": 10, "Onyphe": 28, "Netsystems": 27}.get(row.name, 31)
        expected = FACTORS[row.name] * row.daily_hosts + (alikes if row.name == "Unknown" else 0)
        assert np.mean([hosts.size for hosts, _, _ in active]) == pytest.approx(expected, rel=0.1, abs=1)
        if row.name != "Unknown":
            total, expected = np.unique(np.concatenate([day[0] for day in active])).size, FACTORS[row.name] * row.hosts
            assert total == pytest.approx(expected, abs=max(0.1 * expected, 3 * expected**0.5))
            packets = np.mean([packets for _, _, packets in active])
            assert packets == pytest.approx(FACTORS[row.name] * row.daily_packets, rel=0.25)


@pytest.mark.parametrize("seed", range(3))
def test_hosts_at_scale_1(seed):
    """At scale 1 the ground truth holds each class's hosts of the month within 10 % of Table 2."""
    _, codes, _ = synthetic.ground_truth(1, seed)
    for row, hosts in zip(synthetic.CLASSES, np.bincount(codes)[1:]):
        assert hosts == pytest.approx(row.hosts, rel=0.1)


def test_ports_of_the_month(month):
    """Ports of the month within 25 % of Table 2 even at scale 0.1, but for the three classes with the widest tails."""
    for row in synthetic.CLASSES:
        total = len(set().union(*ports_by_day(month, row.name)))
        assert total <= 1.25 * row.ports
        if row.name not in ("Mirai-like", "Brute-forcers", "Spammers"):
            assert total >= 0.75 * row.ports


def test_size_of_a_day():
    """At scale 1 a day has 2 million packets, and each class's ports and packets per host within 25 % of Table 2."""
    day = summary(synthetic.day(1, 1, SEED), synthetic.ground_truth(1, SEED))
    assert sum(packets for _, _, packets in day) == pytest.approx(2_000_968, rel=0.1)
    for row in synthetic.CLASSES:
        hosts, ports, packets = day[NAMES.index(row.name)]
        assert hosts.size == pytest.approx(row.daily_hosts, rel=0.2, abs=3)
        assert ports.size == pytest.approx(row.daily_ports, rel=0.25)
        assert packets / hosts.size == pytest.approx(row.daily_packets / row.daily_hosts, rel=0.25)


def test_small_scales_keep_the_classes(month):
    """At the smallest scale every class but Intrinsec still has more than 10 hosts on nearly all of its days."""
    few = [sum(len(day) <= 10 for day in hosts_by_day(month, name)) for name in NAMES[1:]]
    assert max(few[:-1]) <= 2 and few[-1] >= 10
    tiny = summary(synthetic.day(1, 1e-6, SEED), synthetic.ground_truth(1e-6, SEED))
    assert all(hosts.size > 10 for hosts, _, _ in tiny[1:-1])


def test_filter_has_work(month):
    """About a quarter of the hosts of a day send fewer than 5 packets."""
    packets = np.unique(month[1][24]["src"], return_counts=True)[1]
    assert 0.1 < (packets < 5).mean() < 0.4


def test_who_comes_back(month):
    """Shadowserver's hosts are there nearly every day; Mirai's stay a few days, and most of the month's come later."""
    shadowserver, mirai = hosts_by_day(month, "Shadowserver"), hosts_by_day(month, "Mirai-like")
    assert len(set.intersection(*shadowserver)) > 0.7 * len(set.union(*shadowserver))
    assert 0.5 < len(mirai[0] & mirai[1]) / len(mirai[0]) < 0.9
    assert len(mirai[0] & mirai[20]) < 0.05 * len(mirai[0])
    assert len(set.union(*mirai)) > 6 * len(mirai[0])


def test_changing_ports(month):
    """Rapid7, Exploiters and Spammers leave their ports during the month; Shadowserver and Netsystems keep theirs."""
    def kept(name):
        days = ports_by_day(month, name)
        return len(days[0] & days[-1]) / len(days[0])

    assert kept("Rapid7") < 0.3 and kept("Exploiters") < 0.4 and kept("Spammers") < 0.4
    assert kept("Shadowserver") > 0.6 and kept("Netsystems") > 0.8
    spam = ports_by_day(month, "Spammers")
    assert {465, 143} <= spam[0] and {1080, 3128} <= spam[12] and {4145, 10025} <= spam[28]


def test_mirai_fingerprint(month, truth):
    """The sequence number is dst in most but not all packets of Mirai's hosts, and in few of all others."""
    columns = month[1][27]
    mirai = labels(columns["src"], truth) == 1
    marked = columns["seq"] == columns["dst"]
    assert 0.6 < marked[mirai].mean() < 0.95
    assert 0 < marked[~mirai].mean() < 0.01


def test_hours(month, truth):
    """There is more traffic around noon than around midnight, and Rapid7's hosts visit a port together."""
    columns = month[1][27]
    hour = columns["time"] % 86400 // 3600
    assert np.isin(hour, range(9, 15)).sum() > 1.1 * np.isin(hour, (21, 22, 23, 0, 1, 2)).sum()
    rapid7 = labels(columns["src"], truth) == NAMES.index("Rapid7")
    port, hour = columns["port"][rapid7], hour[rapid7]
    often = np.flatnonzero(np.bincount(port) >= 20)
    assert often.size >= 5
    assert max(np.unique(hour[port == p]).size for p in often) <= 10 < np.unique(hour).size


def statistics(columns):
    """One row per host: packets, ports, sensors, and mean, minimum, maximum and deviation of the header fields."""
    hosts, host, columns = filtered(columns)
    n = np.bincount(host)
    order = np.argsort(host, kind="stable")
    first = n.cumsum() - n
    ports, sensors = (np.bincount(np.unique(host * 65536 + x) >> 16)
                      for x in (columns["port"], columns["dst"].astype(int) & 255))
    rows = [n, ports, sensors]
    for name in FIELDS:
        x = columns[name].astype(float)
        mean = np.bincount(host, x) / n
        rows += [mean, np.minimum.reduceat(x[order], first), np.maximum.reduceat(x[order], first),
                 np.sqrt(np.bincount(host, (x - mean[host])**2) / n)]
    return hosts, np.array(rows).T


def best_interval(x, mine):
    """Best F1 of a rule low <= x <= high for the hosts `mine`, with low and high among the class's percentiles."""
    bounds = np.unique(np.quantile(x[mine], np.linspace(0, 1, 101), method="nearest"))
    hits, all_hits = (np.searchsorted(v, bounds, "right") - np.searchsorted(v, bounds)[:, None]  # (low, high)
                      for v in (np.sort(x[mine]), np.sort(x)))
    return (2 * hits / (all_hits.clip(0) + mine.sum())).max()


def test_no_column_separates(month, truth):
    """No interval of one host statistic, and no one port, tells a class from all other hosts with an F1 of 0.9."""
    assert best_interval(np.arange(50.0), np.arange(50) > 30) == 1
    for columns in month[1].values():
        hosts, x = statistics(columns)
        code = labels(hosts, truth)
        _, host, columns = filtered(columns)
        edges = np.unique(host * 65536 + columns["port"])
        by_class = np.bincount((code[edges >> 16] << 16) + (edges & 0xFFFF), minlength=15 << 16).reshape(15, -1)
        for c in np.unique(code[code > 0]):
            mine = code == c
            assert max(best_interval(column, mine) for column in x.T) < 0.9, NAMES[c]
            assert (2 * by_class[c] / (by_class.sum(axis=0) + mine.sum())).max() < 0.9, NAMES[c]


def test_neither_noise_nor_solved(month, truth):
    """Three nearest neighbours in those statistics, standardized, give a macro F1 between 0.4 and 0.9."""
    hosts, x = statistics(month[1][24])
    code = labels(hosts, truth)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity = z @ z.T
    np.fill_diagonal(similarity, -np.inf)
    near = code[np.argsort(-similarity, axis=1)[:, :3]]
    predicted = np.where(near[:, 1] == near[:, 2], near[:, 1], near[:, 0])
    f1 = [2 * ((predicted == c) & (code == c)).sum() / ((predicted == c)[code > 0].sum() + (code == c).sum())
          for c in np.unique(code[code > 0])]
    assert 0.4 < np.mean(f1) < 0.9


def test_unknown_is_mixed(month, truth):
    """Unknown has one-port hosts, hosts with very many ports, zero-window backscatter and heavy hosts."""
    hosts, x = statistics(month[1][24])
    unknown = x[labels(hosts, truth) == 0]
    assert (unknown[:, 1] == 1).mean() > 0.2 and (unknown[:, 1] > 500).sum() >= 3
    columns = month[1][24]
    assert (columns["window"] == 0).sum() > 20
    assert unknown[:, 0].max() > 20 * unknown[:, 0].mean()


@pytest.mark.parametrize("call, message", [
    (lambda: synthetic.day(31), r"day index must lie in \[0, 31\), got 31"),
    (lambda: synthetic.day(-1), r"day index must lie in \[0, 31\), got -1"),
    (lambda: synthetic.day(0, scale=0), r"scale must lie in \(0, 10\], got 0"),
    (lambda: synthetic.day(0, scale=float("nan")), r"scale must lie in \(0, 10\], got nan"),
    (lambda: synthetic.ground_truth(scale=11), r"scale must lie in \(0, 10\], got 11"),
    (lambda: synthetic.ground_truth(seed=-1), r"seed must lie in \[0, 2\^63\), got -1"),
    (lambda: next(synthetic.month(scale=-1)), r"scale must lie in \(0, 10\], got -1"),
])
def test_errors(call, message):
    """Days, scales and seeds out of range are refused with what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        call()


def test_imports():
    """The module imports numpy and the standard library only."""
    tree = ast.parse(Path(synthetic.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names and all(name == "numpy" or name in sys.stdlib_module_names for name in names)
