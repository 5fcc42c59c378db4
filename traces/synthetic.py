"""A reproducible synthetic month of darknet traffic, with the size and the classes of the paper's Table 2.

The traffic is made up: no packet of it was ever captured. Calibrated to Table 2 (paper, section 3), at scale 1 and
after the paper's host filter (at least 5 packets a day), are the hosts, ports and packets of the 14 classes and of
Unknown, over the month and by day. Table 2's daily figures are averages over the days on which a class is active:
packets of the month over packets a day is 10 for Rapid7, 28 for Onyphe, 27 for Netsystems and 31 for the others,
and so it is here. All else (who comes back, which ports, packet headers, hours, how much of Unknown looks like a
class) follows public knowledge of the tools and was chosen by hand; results on it say nothing about the paper's.

A *population* is a class, Unknown's look-alikes of a class, or one of Unknown's own kinds of host. It owns S places.
A place is held by one host, its *tenant*, until a new one takes over, with probability c a day; a tenant shows up on
the day it takes over and then with probability p. The N hosts of the month and the D of a day in Table 2 give S and c:

    N = S (1 + (T-1) c)         D = S (p + (1-p) c)          T active days

A population's ports are its core, which may change on given days, and a window on a longer list of ports that slides
by as much a day as makes the ports of the day and of the month Table 2's. A host draws a few of them (slots).

Traits of hosts are hashes of (seed, population, ..., tenant), packets come from a numpy Generator seeded by (seed,
day, population): a day needs no other day. Another scale multiplies the hosts, but a class keeps about 14 hosts a
day (or all it has) so that it can be scored; packets and ports per host stay.

    time float64 UTC seconds   src, dst uint32   port int32   length uint16 bytes, IP   ttl uint8
    mss uint16 (0: no option)   window uint16   timestamp uint32 (0: no option)   seq uint32       each (packets,)

Imports numpy and the standard library only.
"""

from datetime import date, timedelta
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

DAYS = 31
FIRST_DAY = date(2021, 12, 1)
DEFAULT_SCALE = 0.1
MAX_SCALE = 10  # at nearly twice this the largest population runs out of /24 networks
SENSORS = 0xC6336400  # the darknet: 198.51.100.0/24, which is reserved for documentation
ENOUGH = 14  # hosts a day that a class keeps at small scales: the evaluation wants more than 10

# A tool's variants: IP length, TCP MSS, window, initial TTL, timestamp ticks per second (0: no option).
# Windows: ANY is drawn once per host and day, as Mirai does; SOME per packet from 1024 ... 4096, as nmap does.
ANY, SOME = -1, -2
TOOLS = {
    "zmap": [(40, 0, 65535, 255, 0), (40, 0, 65535, 255, 0), (44, 1460, 65535, 255, 0), (40, 0, 65535, 64, 0)],
    "masscan": [(40, 0, 1024, 255, 0), (40, 0, 1024, 255, 0), (44, 1460, 1024, 255, 0), (40, 0, 1024, 64, 0)],
    "mirai": [(40, 0, ANY, 64, 0), (40, 0, ANY, 64, 0), (40, 0, ANY, 64, 0), (44, 1460, ANY, 64, 0)],
    "linux": [(60, 1460, 29200, 64, 1000), (60, 1460, 64240, 64, 1000), (60, 1460, 64240, 64, 250),
              (60, 1452, 29200, 64, 250), (60, 1440, 64240, 64, 1000), (60, 1412, 14600, 64, 250),
              (60, 1400, 5840, 64, 250), (52, 1460, 64240, 64, 0)],
    "windows": [(52, 1460, 8192, 128, 0), (52, 1460, 64240, 128, 0), (52, 1452, 8192, 128, 0),
                (52, 1440, 65535, 128, 0), (48, 1460, 65535, 128, 0), (48, 1440, 16384, 128, 0)],
    "nmap": [(44, 1460, SOME, 64, 0), (44, 1460, SOME, 53, 0)],
    "backscatter": [(40, 0, 0, 64, 0), (40, 0, 0, 128, 0), (44, 1460, 14600, 64, 0), (44, 1460, 5840, 64, 0),
                    (60, 1460, 28960, 64, 1000), (52, 1440, 8192, 128, 0)],
}
VARIANTS = np.array([variant for variants in TOOLS.values() for variant in variants])  # (variants, 5)


class Habit(NamedTuple):
    """How the hosts of a population behave."""

    tools: dict  # tool -> share of the hosts
    core: tuple = ((0, ()),)  # (first day, ports from then on), the most wanted first
    loyal: float = 0.8  # share of a host's ports that come from the core, the others from the window
    slots: float = 2.0  # ports per host and day: the mean of a lognormal ...
    slots_spread: float = 0.5  # ... and its sigma
    keep: int = 31  # days after which a host draws its ports anew
    spread: float = 0.5  # sigma of the lognormal packets per host and day
    floor: int = 5  # packets that every active host sends
    targets: int = 1000  # sensors that a host aims at, about; at most all 256
    sweep: bool = True  # goes through them one by one rather than at random
    mixed: float = 0.05  # share of packets that a host sends with its second tool
    presence: float = 1.0  # p above ...
    swing: float = 0.05  # ... which changes by up to this from day to day
    active: tuple = tuple(range(DAYS))  # days of the month
    net: int = 1  # hosts per /24, which share a variant of each tool and almost their distance
    joint: bool = False  # the population visits a port together; otherwise every host has its own hours
    burst: float = 1.0  # length of a visit in days
    fingerprint: float = 0.0  # share of Mirai's hosts whose sequence number is dst
    alike: float = 0.1  # look-alikes in Unknown per host of the class


class Row(NamedTuple):
    """A row of Table 2 (counts over the month; averages over the active days) and the habits behind it."""

    name: str
    hosts: int
    ports: int
    packets: int
    daily_hosts: int
    daily_ports: int
    daily_packets: int
    habit: Habit | None = None


CLASSES = (
    Row("Mirai-like", 16147, 2094, 1982205, 2158, 95, 63942, Habit(
        {"mirai": 0.9, "linux": 0.1},
        ((0, (23, 2323, 5555, 80, 8080, 81, 37215, 60001, 52869, 7547, 22, 8081, 8443, 26, 2222, 9530, 34567, 5358, 88,
              82, 8888, 1023, 9000, 443, 85)),),
        loyal=0.95, spread=1.0, targets=200, sweep=False, presence=0.85, burst=0.5, fingerprint=0.96, alike=0.05)),
    Row("Brute-forcers", 976, 9791, 10191173, 246, 1020, 328747, Habit(
        {"linux": 0.45, "windows": 0.2, "masscan": 0.15, "zmap": 0.1, "nmap": 0.1},
        ((0, (22, 3389, 23, 5900, 445, 1433, 2222, 3306, 21, 5432, 2223, 22222, 3390, 1434, 6379, 222)),),
        loyal=0.5, slots=30, slots_spread=1.3, spread=1.3, targets=200, sweep=False, mixed=0.2, presence=0.8,
        burst=0.6, alike=0.9)),
    Row("Spammers", 1014, 49783, 4891353, 252, 7048, 157785, Habit(
        {"linux": 0.4, "windows": 0.3, "masscan": 0.2, "nmap": 0.1},
        ((0, (25, 465, 587, 2525, 110, 143)), (9, (25, 587, 1080, 3128, 8080)),
         (19, (25, 465, 993, 995, 8025, 26)), (25, (587, 25, 1080, 4145, 10025))),
        loyal=0.2, slots=130, slots_spread=1.3, keep=5, spread=1.3, mixed=0.2, presence=0.7, burst=0.4, alike=1.0)),
    Row("Shadowserver", 289, 42, 218443, 287, 38, 7046, Habit(
        {"zmap": 0.9, "linux": 0.1},
        ((0, (123, 161, 389, 443, 445, 548, 554, 623, 873, 1433, 1883, 2323, 3389, 4786, 5432, 5555, 5900, 5985, 6379,
              7547, 8080, 9200, 10001, 11211, 27017, 80, 23, 21, 22, 25)),),
        loyal=0.85, slots=4, spread=0.4, presence=0.995, net=100, joint=True, burst=0.2)),
    Row("Driftnet", 252, 9246, 564854, 252, 2247, 18221, Habit(
        {"linux": 0.6, "zmap": 0.4},
        ((0, (80, 443, 22, 21, 25, 8080, 8443, 3389, 445, 139)),),
        loyal=0.15, slots=45, slots_spread=0.3, keep=1, spread=0.3, mixed=0.3, net=84, joint=True, burst=0.3)),
    Row("Internetcensus", 271, 252, 213909, 224, 234, 6900, Habit(
        {"zmap": 0.6, "masscan": 0.4},
        ((0, (443, 80, 22, 21, 23, 25, 53, 8080, 5060, 2000, 1723, 3306, 8443, 9001)),),
        loyal=0.3, slots=7, slots_spread=0.3, keep=7, spread=0.4, presence=0.9, swing=0.1, net=40, joint=True,
        burst=0.15, alike=0.15)),
    Row("Censys", 329, 65069, 3400900, 245, 12455, 109706, Habit(
        {"zmap": 0.85, "masscan": 0.15},
        ((0, (80, 443, 22, 21, 23, 25, 53, 110, 143, 445, 993, 995, 1433, 2082, 3306, 3389, 5432, 5632, 5900, 6443,
              8080, 8443, 8888, 9200, 27017)),),
        loyal=0.2, slots=220, slots_spread=0.4, keep=1, spread=0.5, mixed=0.15, presence=0.8, swing=0.1, net=60,
        joint=True, burst=0.9, alike=0.12)),
    Row("Rapid7", 344, 139, 60469, 283, 25, 6046, Habit(
        {"zmap": 0.9, "linux": 0.1},
        ((0, (443, 80, 22)), (14, (5060, 443, 8443)), (24, (3389, 5900, 443))),
        loyal=0.3, keep=1, spread=0.4, presence=0.9, swing=0.1, active=(1, 4, 8, 11, 15, 18, 21, 24, 27, 30),
        net=80, joint=True, burst=0.3)),
    Row("Onyphe", 115, 186, 39030, 97, 158, 1393, Habit(
        {"masscan": 0.7, "linux": 0.3},
        ((0, (80, 443, 22, 21, 8080, 8443, 9200, 3389, 445, 6379)),),
        loyal=0.3, slots=7, slots_spread=0.3, keep=3, spread=0.3, mixed=0.2, presence=0.9,
        active=(*range(21), 22, 23, 25, 26, 28, 29, 30), net=20, burst=0.3, alike=0.15)),
    Row("Netsystems", 45, 199, 226559, 43, 191, 8391, Habit(
        {"zmap": 0.8, "masscan": 0.2},
        ((0, (80, 443, 8080, 8443, 22, 3389, 5900, 81, 8081, 8888)),),
        loyal=0.15, slots=40, slots_spread=0.2, spread=0.3, presence=0.97,
        active=(*range(7), *range(8, 14), *range(15, 24), *range(26, 31)), net=15, joint=True, burst=0.5, alike=0.15)),
    Row("Shodan", 36, 1232, 320861, 31, 1007, 10350, Habit(
        {"masscan": 0.5, "linux": 0.3, "nmap": 0.2},
        ((0, (80, 443, 22, 23, 21, 25, 8080, 502, 102, 1911, 20000, 44818, 47808, 9600, 161, 1883, 5683, 27017, 9200,
              554)),),
        loyal=0.25, slots=170, slots_spread=0.3, keep=3, spread=0.4, sweep=False, mixed=0.3, presence=0.9, net=4,
        alike=0.3)),
    Row("Exploiters", 430, 33, 148210, 27, 8, 4780, Habit(
        {"linux": 0.6, "masscan": 0.2, "windows": 0.1, "zmap": 0.1},
        ((0, (80, 8080, 6379, 2375, 7001)), (10, (8080, 8983, 9200, 80, 443)), (21, (2375, 5601, 8088, 8090, 8080))),
        loyal=0.7, spread=1.3, sweep=False, mixed=0.2, presence=0.9, net=2, burst=0.3, alike=3.0)),
    Row("Securitytrails", 18, 207, 107826, 17, 15, 3478, Habit(
        {"zmap": 0.7, "masscan": 0.3},
        ((0, (80, 443, 8080, 8443, 2083)),),
        loyal=0.4, slots=7, slots_spread=0.3, keep=1, spread=0.4, presence=0.95, swing=0.02, net=9, joint=True,
        burst=0.6, alike=0.3)),
    Row("Intrinsec", 12, 8, 9403, 9, 6, 303, Habit(
        {"nmap": 0.6, "masscan": 0.4},
        ((0, (443, 80, 8443, 3389)),),
        loyal=0.7, slots=3, slots_spread=0.3, spread=0.4, presence=0.75, swing=0.25, net=6, burst=0.1, alike=0.5)),
    Row("Unknown", 39828, 65535, 39654818, 3594, 49461, 1279188),  # the look-alikes and OWN, no habit of its own
)

# Unknown's own populations, with counts of our choice (packets of the month: not used). Passers-by send fewer than 5
# packets a day and exist for the host filter to drop.
OWN = (
    Row("one-port scanners", 18700, 9000, 0, 1020, 700, 20000, Habit(
        {"linux": 0.3, "masscan": 0.25, "zmap": 0.2, "mirai": 0.15, "nmap": 0.1},
        ((0, (22, 23, 80, 443, 445, 8080, 3389, 1433, 6379, 5555, 81, 8443, 25, 21, 5060, 2375, 8545, 9200, 3306,
              5900)),),
        loyal=0.7, slots=1, slots_spread=0.3, spread=1.0, sweep=False, presence=0.7, burst=0.3)),
    Row("worms", 9300, 120, 0, 720, 12, 43000, Habit(
        {"windows": 0.85, "linux": 0.15},
        ((0, (445, 1433, 139, 135, 3389, 5900)),),
        loyal=0.95, slots=1.2, spread=1.2, targets=100, sweep=False, presence=0.7, burst=0.7)),
    Row("backscatter", 5000, 65535, 0, 300, 60000, 7500, Habit(
        {"backscatter": 1.0},
        loyal=0, slots=8, slots_spread=0.8, keep=1, spread=0.8, sweep=False, presence=0.6, burst=0.1)),
    Row("misconfigured", 900, 300, 0, 250, 90, 20000, Habit(
        {"linux": 0.5, "windows": 0.5},
        ((0, (443, 80, 53, 8883, 3306, 5222, 25, 445)),),
        loyal=0.6, slots=1.2, spread=1.2, targets=2, sweep=False, presence=0.8, net=2)),
    Row("small scanners", 1500, 3000, 0, 190, 900, 19000, Habit(
        {"masscan": 0.3, "zmap": 0.3, "linux": 0.3, "nmap": 0.1},
        ((0, (80, 443, 22, 8080, 3389, 8443, 21, 23, 5900, 9200, 6379, 27017, 3306, 11211, 502)),),
        loyal=0.5, slots=12, slots_spread=1.0, keep=4, spread=1.0, mixed=0.1, presence=0.7, net=8, burst=0.5)),
    Row("unlisted organisations", 330, 2500, 0, 130, 700, 19000, Habit(
        {"zmap": 0.5, "masscan": 0.3, "linux": 0.2},
        ((0, (443, 80, 22, 8080, 21, 23, 25, 445, 3389, 8443, 502, 102, 1911, 20000, 44818, 47808, 9600, 5632, 2082,
              6443, 27017, 9200, 1883, 5683, 554, 9001, 993, 995, 110, 143, 53, 123, 161, 8888, 5900, 5432, 3306,
              1433)),),
        loyal=0.6, slots=45, slots_spread=1.0, keep=3, spread=0.9, mixed=0.15, presence=0.8, net=30, burst=0.5)),
    Row("horizontal scanners", 170, 65535, 0, 70, 54000, 360000, Habit(
        {"masscan": 0.5, "zmap": 0.4, "linux": 0.1},
        loyal=0, slots=1800, slots_spread=0.6, keep=1, spread=0.6, presence=0.8, net=5)),
    Row("heavy hitters", 90, 200, 0, 30, 40, 265000, Habit(
        {"masscan": 0.5, "linux": 0.3, "zmap": 0.2},
        ((0, (22, 80, 443, 3389, 5900, 8080)),),
        loyal=0.5, slots=4, slots_spread=1.0, spread=1.2, presence=0.8, net=3)),
    Row("passers-by", 40000, 9000, 0, 1500, 1000, 3000, Habit(
        {"linux": 0.4, "windows": 0.3, "mirai": 0.1, "masscan": 0.1, "zmap": 0.1},
        ((0, (445, 23, 22, 80, 443, 8080, 5555, 1433)),),
        loyal=0.6, slots=1.3, spread=0.4, floor=1, presence=0.5, net=2, burst=0.2)),
)

OCTETS = np.array([a for a in range(1, 224) if a not in (10, 100, 127, 169, 172, 192, 198, 203)])  # all public
NETS = OCTETS.size << 16  # /24 networks in which hosts may live
EPOCH = date(1970, 1, 1)

# What a hash is for: the key after seed and population, so that no two uses get the same numbers.
(RENEW, PRESENT, DAY, NET, TOOL, VARIANT, HOPS, RATE, BREADTH, SLOT, WANT, TARGET, HOUR, CLOCK, WINDOW, FINGER,
 LIST) = range(17)


def names():
    """Class names by code: Unknown first, the 14 others as in Table 2."""
    return "Unknown", *(row.name for row in CLASSES[:-1])


def ground_truth(scale=DEFAULT_SCALE, seed=0):
    """The labelled hosts of the whole month; every other host is Unknown.

    Returns addresses (hosts,) uint32, ascending; codes (hosts,) int64 in 1..14; and `names()`, indexed by code.
    Raises ValueError for a scale outside (0, MAX_SCALE] or a negative seed.
    """
    _check(scale, seed)
    addresses, codes = [], []
    for number, (row, factor, _) in enumerate(_populations(scale)[:len(CLASSES) - 1]):
        tenants, shows_up = _tenants(row, factor, seed, number)
        addresses.append(_addresses(np.unique(tenants[shows_up]), row, seed, number))
        codes.append(np.full(addresses[-1].size, number + 1))
    addresses, codes = np.concatenate(addresses), np.concatenate(codes)
    order = np.argsort(addresses)
    return addresses[order], codes[order], names()


def month(scale=DEFAULT_SCALE, seed=0, days=DAYS, share=(0, 1)):
    """Iterator of (datetime.date, columns) over the first `days` days; columns, share and errors as in `day`."""
    for index in range(days):
        yield FIRST_DAY + timedelta(index), day(index, scale, seed, share)


def day(index, scale=DEFAULT_SCALE, seed=0, share=(0, 1)):
    """Packets of one UTC day, 0 for FIRST_DAY: a dict of the header's ten columns, sorted by time.

    The same (index, scale, seed) gives the same bytes, whichever days were generated before. share (i, n): the i-th
    of n shares of the day, which together are the whole: every n-th population, so that n processes can make a day.
    Raises ValueError for an index outside [0, DAYS), and as `ground_truth` does.
    """
    _check(scale, seed)
    if not 0 <= index < DAYS:
        raise ValueError(f"day index must lie in [0, {DAYS}), got {index}")
    parts = [_packets(row, factor, seed, number, plan, index)
             for number, (row, factor, plan) in enumerate(_populations(scale))
             if index in row.habit.active and number % share[1] == share[0]]
    if not parts:
        return {name: column[:0] for name, column in day(index, scale, seed).items()}
    order = np.argsort(np.concatenate([part["time"] for part in parts]), kind="stable")
    return {name: np.concatenate([part.pop(name) for part in parts])[order] for name in list(parts[0])}


def _check(scale, seed):
    if not 0 < scale <= MAX_SCALE:
        raise ValueError(f"scale must lie in (0, {MAX_SCALE}], got {scale}")
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed must lie in [0, 2^63), got {seed}")


@cache
def _populations(scale):
    """Classes, their look-alikes and OWN: (row, factor on its hosts, number of the population it has its ports of)."""
    classes = [(row, max(scale, min(1, ENOUGH / row.daily_hosts)), number) for number, row in enumerate(CLASSES[:-1])]
    alikes = [(row._replace(habit=row.habit._replace(fingerprint=0.1)), factor * row.habit.alike, number)
              for row, factor, number in classes]
    return classes + alikes + [(row, scale, 2 * len(classes) + number) for number, row in enumerate(OWN)]


def _tenants(row, factor, seed, number):
    """Who holds each place on each active day, numbered from 0, and who of them shows up: (S, T) integers, booleans."""
    habit, N, D, p = row.habit, row.hosts, row.daily_hosts, row.habit.presence
    days = np.array(habit.active)  # (T,)
    c = max(0.0, (N * p - D) / ((days.size - 1) * D - N * (1 - p)))  # the header's two equations, solved for c ...
    S = max(1, round(factor * N / (1 + (days.size - 1) * c)))  # ... and S
    place = np.arange(S)[:, None]
    new = _uniform(seed, number, RENEW, place, days) < c
    new[:, 0] = False
    wave = 2 * ((_uniform(seed, number, DAY) + 0.618 * days) % 1) - 1  # in [-1, 1), evenly spread over the month
    shows_up = _uniform(seed, number, PRESENT, place, days) < p + min(habit.swing, 1 - p) * wave
    return new.ravel().cumsum().reshape(new.shape) + place, new | shows_up


def _addresses(tenant, row, seed, number):
    """Addresses of tenants: public unicast, all different, habit.net of them in a /24 of their own; uint32."""
    block, place = np.divmod(tenant, row.habit.net)
    block = block * (2 * len(CLASSES) + len(OWN)) + number  # as many as populations or more: none share
    net = (block * 9_000_011 + int(NETS * _uniform(seed, NET))) % NETS  # 9,000,011 is prime to NETS
    last = (place * 37 + net) % 254 + 1  # 37 is prime to 254
    return (OCTETS[net >> 16] << 24 | (net & 0xFFFF) << 8 | last).astype(np.uint32)


@lru_cache(64)
def _list(seed, number):
    """All ports in the order in which a population's window slides over them, mostly low ones first; (65535,) int32."""
    port = np.arange(1, 65536)
    return port[np.argsort(-np.log1p(-_uniform(seed, number, LIST, port)) * port**0.6)].astype(np.int32)


def _ports(row, seed, number, plan, index, tenant, k):
    """The ports of a day's hosts, k (n,) per host, host by host: (k.sum(),) int32."""
    habit, t, T = row.habit, row.habit.active.index(index), len(row.habit.active)
    core = next(ports for first, ports in reversed(habit.core) if first <= index)
    width = row.daily_ports - len(core)  # of the window
    length = row.ports - len({port for _, ports in habit.core for port in ports})  # of the list
    start = round((length - width) * t / (T - 1))
    ports = np.concatenate([np.array(core, np.int32), _list(seed, plan)[start:start + width]])

    host = np.repeat(tenant, k)
    slot = np.arange(host.size) - np.repeat(k.cumsum() - k, k)
    keys = (seed, number, SLOT, host, slot, (index + host) // habit.keep)
    want = _uniform(*keys, WANT)
    in_core = (len(core) * want**2).astype(np.int64)  # the first ones are wanted most
    in_window = len(core) + (width * want).astype(np.int64)
    return ports[np.where(_uniform(*keys) < habit.loyal, in_core, in_window)]


def _packets(row, factor, seed, number, plan, index):
    """A population's packets of a day: the header's columns, not sorted."""
    habit, rng = row.habit, np.random.default_rng((seed, index, number))
    tenants, shows_up = _tenants(row, factor, seed, number)
    t = habit.active.index(index)
    tenant = tenants[shows_up[:, t], t]
    n = tenant.size

    # Packets and ports per host, lognormal; half the variance of the packets is the host's own, half the day's.
    weight = _normal(seed, number, RATE, tenant) + _normal(seed, number, RATE, tenant, index)
    weight = np.exp(habit.spread / 2**0.5 * weight)
    extra = (row.daily_packets / row.daily_hosts - habit.floor) * n
    count = habit.floor + (rng.random(n) + extra * weight / weight.sum()).astype(np.int64)
    breadth = habit.slots_spread * _normal(seed, number, BREADTH, tenant) - habit.slots_spread**2 / 2
    k = np.rint(habit.slots * np.exp(breadth)).astype(np.int64).clip(1, count)

    host = np.repeat(np.arange(n), count)  # (P,), as all that follows
    rank = np.arange(host.size) - np.repeat(count.cumsum() - count, count)
    slot = np.where(rank < k[host], rank, (k[host] * rng.random(host.size)**1.5).astype(np.int64))
    slot += (k.cumsum() - k)[host]
    ports = _ports(row, seed, number, plan, index, tenant, k)

    targets = (habit.targets * np.exp(0.3 * _normal(seed, number, TARGET, tenant))).astype(np.int64).clip(1, 256)[host]
    step = rank % targets if habit.sweep else (targets * rng.random(host.size)).astype(np.int64)
    dst = (SENSORS + ((256 * _uniform(seed, number, TARGET, tenant)).astype(np.int64)[host] + 85 * step) % 256)

    if habit.joint:
        hour = _uniform(seed, number, HOUR, ports, index)[slot]
    else:
        hour = (_uniform(seed, number, HOUR, tenant) + 0.1 * _normal(seed, number, HOUR, tenant, index))[host]
        hour += 0.1 * np.sin(2 * np.pi * hour)  # more at noon than at midnight
    moment = 86400 * ((hour + habit.burst * (rng.random(host.size) - 0.5)) % 1)  # seconds since midnight

    which, marked = _variants(habit, seed, number, tenant)
    second = rng.random(host.size) < habit.mixed
    length, mss, window, ttl, ticks = VARIANTS[which[host, second.astype(np.int64)]].T
    hops = 6 + 12 * _uniform(seed, number, HOPS, tenant // habit.net) + 3 * _uniform(seed, number, HOPS, tenant, 1)
    any_window = (65536 * _uniform(seed, number, WINDOW, tenant, index)).astype(np.int64)[host]
    some_window = 1024 * rng.integers(1, 5, host.size)
    clock = (2**32 * _uniform(seed, number, CLOCK, tenant))[host] + ticks * (86400 * index + moment)
    return {
        "time": moment + 86400.0 * (FIRST_DAY - EPOCH + timedelta(index)).days,
        "src": _addresses(tenant, row, seed, number)[host],
        "dst": dst.astype(np.uint32),
        "port": ports[slot],
        "length": length.astype(np.uint16),
        "ttl": (ttl - hops.astype(np.int64)[host] - (rng.random(host.size) < 0.03)).astype(np.uint8),
        "mss": mss.astype(np.uint16),
        "window": np.where(window == ANY, any_window, np.where(window == SOME, some_window, window)).astype(np.uint16),
        "timestamp": np.where(ticks > 0, 1 + clock % (2**32 - 1), 0).astype(np.uint32),
        "seq": np.where(marked[host] & ~second, dst, rng.integers(2**32, size=host.size)).astype(np.uint32),
    }


def _variants(habit, seed, number, tenant):
    """Rows of VARIANTS of the hosts' first and second tool (n, 2); who writes dst as sequence number (n,) bool."""
    sizes = np.array([len(variants) for variants in TOOLS.values()])
    shares = np.array([habit.tools.get(tool, 0.0) for tool in TOOLS]).cumsum()
    host = tenant[:, None]
    tool = np.searchsorted(shares / shares[-1], _uniform(seed, number, TOOL, host, np.arange(2)), side="right")
    variant = (sizes[tool] * _uniform(seed, number, VARIANT, host // habit.net, tool)).astype(np.int64)
    marked = (tool[:, 0] == list(TOOLS).index("mirai")) & (_uniform(seed, number, FINGER, tenant) < habit.fingerprint)
    return (sizes.cumsum() - sizes)[tool] + variant, marked


def _uniform(*keys):
    """Numbers in [0, 1) that depend on the keys alone (non-negative integers, broadcast): SplitMix64, key by key."""
    x, mask = 0, (1 << 64) - 1
    for key in keys:
        x = ((x ^ (key.astype(np.uint64) if isinstance(key, np.ndarray) else int(key))) + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
        x ^= x >> 31
    return (x >> 11) * 2.0**-53


def _normal(*keys):
    """Standard normal numbers that depend on the keys alone: Box and Muller's transform of two uniform ones."""
    return np.sqrt(-2 * np.log1p(-_uniform(*keys, 0))) * np.cos(2 * np.pi * _uniform(*keys, 1))
