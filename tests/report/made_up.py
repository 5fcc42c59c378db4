"""Made-up runs for the tests of report.html: days as report.shown has them, without a model or a trace.

Every host of a run has a class, a campaign, busiest ports and a place on the map that stay its own; a day draws some of
the hosts. Nothing here is realistic but the shapes, the types and the sizes.
"""

from datetime import date, timedelta

import numpy as np

from report import page, shown

NAMES = ("Unknown", "Mirai-like", "Censys", "Shodan", "Stretchoid", "recyber")
PORTS = np.array([22, 23, 80, 443, 445, 2323, 3389, 5432, 8080, 65536], np.int32)
EVENTS = ("new", "grows", "shrinks", "continues", "returns", "merges", "splits from")


def run(n_days=5, n_hosts=300, learning=1, names=NAMES, n_campaigns=6, surprise=True, seed=0):
    """The days of a run, a list of shown.Shown: n_hosts a day, of which the first `learning` days have no map."""
    draw = np.random.default_rng(seed)
    pool = np.unique(draw.integers(0x01000000, 0xDF000000, int(1.5 * n_hosts) + 4, dtype=np.uint32))
    own = {"kind": draw.integers(0, max(1, len(names)), len(pool)), "listed": draw.random(len(pool)) < 0.4,
           "campaign": np.arange(len(pool)) % (2 * n_campaigns + 1) + 1,
           "port": draw.permuted(np.tile(np.arange(len(PORTS)), (len(pool), 1)), axis=1)[:, :3],
           "offset": draw.normal(0, 0.8, (len(pool), 2))}
    own["campaign"][own["campaign"] > n_campaigns] = 0
    seen, days = np.zeros(len(pool), bool), []
    for i in range(n_days):
        today = np.sort(draw.choice(len(pool), min(n_hosts, len(pool)), replace=False))
        days.append(one_day(i, pool, own, today, seen, names, i >= learning, surprise, draw))
        seen[today] = True
    return days


def one_day(i, pool, own, today, seen, names, embedded, surprise, draw):
    """Day number i of a run: the hosts `today` of the pool, of which those in `seen` are not new."""
    n, hosts = len(today), pool[today]
    packets = np.maximum(5, draw.lognormal(4, 2, n)).astype(np.int64)
    port = PORTS[own["port"][today]]
    told = {"date": str(date(2021, 12, 1) + timedelta(i)), "hosts": n, "new_hosts": int((~seen[today]).sum()),
            "ports": 10, "edges": 3 * n, "packets": int(packets.sum()), "loss": 0.5 / (i + 1), "accuracy": 0.8,
            "macro_f1": None, "subnet_agreement": None, "subnet_chance": None, "f1": None,
            "embedded": embedded, "groups": [], "heat": heat(own, today, packets, names)}
    if not embedded:
        return shown.day_without_map(told, hosts, packets, port)
    kind, campaign = own["kind"][today], own["campaign"][today]
    label = np.where(own["listed"][today], kind, 0)
    vote = np.where(draw.random(n) < 0.97, kind, 0)
    centre = np.stack([8 * np.cos(kind + campaign), 6 * np.sin(2 * kind + campaign)], 1)
    place = centre + own["offset"][today] + draw.normal(0, 0.05, (n, 2))
    order = np.argsort(place[:, 0], kind="stable")
    near = np.full((n, 3), shown.NO_HOST, np.uint32)
    for j in range(min(3, n - 1)):
        near[order, j] = hosts[np.roll(order, j + 1)]
    if len(names) > 1:
        scored = {name: round(float(draw.uniform(0.5, 1)), 3) for name in names[1:]}
        told |= {"macro_f1": float(np.mean(list(scored.values()))), "f1": scored}
    told |= {"subnet_agreement": 0.7 + 0.02 * (i % 3), "subnet_chance": 0.2}
    if own["campaign"].any():
        told |= {"groups": groups(own, today, i, names), "campaigns": {
            "count": 6, "inside": 0.5, "day_to_day": 0.8 + 0.01 * i, "same_subnet": 0.75, "chance": 0.1, "labels": 0.4}}
    return shown.day_without_map(told, hosts, packets, port)._replace(
        place=np.rint(place * shown.UNIT).astype(np.int16), label=label.astype(np.int16),
        predicted=vote.astype(np.int16), votes=draw.choice([67, 100], n).astype(np.uint8), near=near,
        similarity=np.full((n, 3), [240, 220, 200], np.uint8), campaign=campaign.astype(np.int32),
        membership=draw.integers(50, 255, n).astype(np.uint8),
        surprise=draw.integers(10, 90, n).astype(np.uint8) if surprise else np.full(n, 255, np.uint8))


def groups(own, today, i, names):
    """The rows of campaigns.csv of the day, as the page has them; each campaign has an event of its own."""
    rows = []
    for number in np.unique(own["campaign"][today]).tolist():
        members = today[own["campaign"][today] == number]
        event = EVENTS[(number + i) % len(EVENTS)]
        if number:
            rows.append({
                "campaign": number, "event": event, "from": "1" if event in ("merges", "splits from") else "",
                "hosts": len(members), "hosts_new": number, "hosts_lost": 1, "packets": str(1000 * number),
                "ports": "23:0.61 2323:0.30", "apart": f"{PORTS[number % 9]}:0.61/0.05 2323:0.30/0.00",
                "subnets": len(members), "labels": f"{names[-1]} 3", "predicted": names[-1], "agreement": "0.92",
                "cohesion": "0.81", "first_seen": "2021-12-02", "days": i + 1})
    return sorted(rows, key=lambda row: -row["hosts"])


def heat(own, today, packets, names):
    """The day's heat map: packets of each class and campaign to the busiest port of each host."""
    def rows(group, called):
        return [(called(g), int((group == g).sum()), np.bincount(port, packets * (group == g), len(PORTS)))
                for g in np.unique(group).tolist()]
    campaign, port = own["campaign"][today], own["port"][today, 0]
    classes = rows(own["kind"][today], lambda g: names[g])
    return shown.heat_of(PORTS, classes[1:] + classes[:1],
                         [row for row in rows(campaign, int) if row[0]] if campaign.any() else ())


def about(days, names=NAMES, campaigns=True, told=()):
    """What the page says of a run beside its days."""
    scored = [day.told for day in days if day.told["embedded"]]
    mean = {"mean": 0.75, "std": 0.05}
    classes = {name: {"days": len(scored), "f1": mean} for name in names[1:]}
    return {"title": "darkgnn: captures/", "settings": "model i-gcn-gru, H = 5, seed 0, cpu",
            "words": list(told), "classes": list(names), "campaigns": campaigns, "neighbors": 3, "other_days": 0,
            "result": {"macro_f1": mean if scored and len(names) > 1 else {"mean": None, "std": None},
                       "classes": classes if scored else {},
                       "subnet_agreement": {**mean, "chance": 0.2} if scored else None}}


def write(path, days, **said):
    """Write the page of a made-up run and return its address for a browser."""
    page.write(path, days, about(days, **said))
    return path.as_uri()
