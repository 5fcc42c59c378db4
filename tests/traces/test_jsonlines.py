"""jsonlines.py against json.loads, on many makers' objects, and on odd and broken ones."""

import json
import random
from ipaddress import IPv4Address

import numpy as np
import pytest

from tests.traces.reading import read, same
from tests.traces.test_syslog import BLOCK, FILTERLOG
from traces import fields

WHO = '"src_ip": "198.51.100.1", "dest_ip": "192.0.2.7", "dest_port": 23'
# (maker, line, what one should know): each is packets from 198.51.100.1 to 192.0.2.7, port 23, of 2023-05-12 08:00:00
FORMATS = [
    ("JSON lines: any maker", '{"timestamp": 1683878400.25, ' + WHO + ', "protocol": "TCP", "ttl": 243}', ""),
    ("JSON lines: Zeek", '{"ts":1683878400.25,"uid":"C0","id.orig_h":"198.51.100.1","id.orig_p":40000,'
     '"id.resp_h":"192.0.2.7","id.resp_p":23,"proto":"tcp","orig_pkts":3,"orig_ip_bytes":132}', "3 packets: orig_pkts"),
    ("JSON lines: ECS", '{"@timestamp":"2023-05-12T08:00:00.250Z","source":{"ip":"198.51.100.1","port":40000},'
     '"destination":{"ip":"192.0.2.7","port":23},"network":{"transport":"tcp"}}', ""),
    ("JSON lines: Suricata's EVE", '{"timestamp": "2023-05-12T08:01:00.6+0000", "flow_id": 7, ' + WHO + ', "proto": '
     '"TCP", "event_type": "flow", "flow": {"pkts_toserver": 3, "bytes_toserver": 132, '
     '"start": "2023-05-12T08:00:00.0+0000"}}',
     "3 packets: flow.pkts_toserver"),
    ("JSON lines: p0f", '{"timestamp": "2023/05/12 08:00:00", "mod": "syn", "client_ip": "198.51.100.1", "server_ip": '
     '"192.0.2.7", "client_port": 40000, "server_port": 23, "raw_sig": "4:57+7:0:1460:mss*20,10:mss,sok,ts:df,id+:0"}',
     "TTL, MSS and window from raw_sig"),
    ("JSON lines: journalctl -o json", '{"__REALTIME_TIMESTAMP":"1683878400123456","_HOSTNAME":"sensor","MESSAGE":"'
     + BLOCK + '"}', "the message is a firewall's line"),
    ("JSON lines: docker's log", '{"log":"' + BLOCK + ' \\n","stream":"stdout","time":"2023-05-12T08:00:00.25Z"}', ""),
    ("JSON lines: a filterlog as message", '{"@timestamp":"2023-05-12T08:00:00Z","message":"filterlog[351]: '
     + FILTERLOG + '"}', ""),
    ("JSON lines: Google's VPC flow log", '{"jsonPayload":{"connection":{"src_ip":"198.51.100.1","src_port":40000,'
     '"dest_ip":"192.0.2.7","dest_port":23,"protocol":6},"packets_sent":"3","bytes_sent":"132","start_time":'
     '"2023-05-12T08:00:00.25Z"}}', "3 packets: packets_sent"),
    ("JSON lines: an array, one object a line", '[\n{"ts": 1683878400, ' + WHO
     + '},\n{"ts": 1683878400, ' + WHO + '}\n]',
     "2 packets"),
    ("JSON lines: behind a logger's prefix", 'May 12 10:00:00 host suricata[7]: {"timestamp":"2023-05-12T08:00:00Z", '
     + WHO + ', "proto": "TCP"}', ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "note"), FORMATS)
def test_objects_of_many_makers(name, text, note):
    """Each is read: the right hosts and port at the right time, as many packets as it says, of 44 bytes."""
    columns, skipped, rejected, *_ = read(text + "\n", "json")
    assert not rejected and not skipped
    assert set(columns["time"].astype(int).tolist()) == {1683878400} and set(columns["port"].tolist()) == {23}
    assert set(columns["src"].tolist()) == {0xC6336401} and set(columns["dst"].tolist()) == {0xC0000207}
    assert columns.get("length", [44])[0] == 44
    assert columns.get("packets", [len(columns["time"])])[0] == (int(note[0]) if "packets" in note else 1)


def objects(n, seed=0):
    """n objects of Zeek's and ECS's names, with all that JSON allows around them."""
    rng = random.Random(seed)
    for k in range(n):
        packet = {"src": str(IPv4Address(rng.randrange(1 << 32))), "dst": str(IPv4Address(rng.randrange(1 << 32))),
                  "port": rng.randrange(65536), "time": round(1.6e9 + k + rng.random(), 6), "ttl": rng.randrange(256)}
        if k % 2:
            line = {"note": rng.choice(['a "quoted" name', "back\\slash\\", "a, b: {c} [d]", "zürich\t", ""]),
                    "source": {"ip": packet["src"], "geo": {"names": ["x", {"ip": "9.9.9.9"}], "ip": "8.8.8.8"}},
                    "tags": ["source", {"ttl": 7}], "destination": {"port": packet["port"], "ip": packet["dst"]},
                    "@timestamp": packet["time"], "ttl": str(packet["ttl"]), "none": None, "yes": True}
        else:
            line = {"ts": packet["time"], "id.orig_h": packet["src"], "id.resp_h": packet["dst"],
                    "id.resp_p": packet["port"], "ttl": packet["ttl"], "deep": [[{"ttl": 5}], []]}
        items = list(line.items())
        rng.shuffle(items)
        spaces = rng.choice([(",", ":"), (", ", ": "), (" , ", " : ")])
        yield packet, json.dumps(dict(items), separators=spaces, ensure_ascii=rng.random() < 0.5)


@pytest.mark.parametrize("block", [700, 1 << 20])
def test_lines_equal_what_json_loads_makes_of_them(block, monkeypatch):
    """2,000 objects, nested and flat, of any order, spacing and escapes, give the packets they were made of."""
    monkeypatch.setattr(fields, "BLOCK", block)
    packets, lines = zip(*objects(2000))
    columns, skipped, rejected, *_ = read("\n".join(lines), "json")
    assert not skipped and not rejected
    same(columns, {"time": [p["time"] for p in packets], "src": [int(IPv4Address(p["src"])) for p in packets],
                   "dst": [int(IPv4Address(p["dst"])) for p in packets], "port": [p["port"] for p in packets],
                   "ttl": [p["ttl"] for p in packets]})  # fmt: skip


GOOD = '{"ts": 1683878400, ' + WHO + ', "proto": "TCP"}'


@pytest.mark.parametrize(("line", "kind", "text"), [
    (GOOD[:-1], "no JSON object", "'{"), (GOOD.replace('"proto', "proto"), "no JSON object", "'{"),
    (GOOD + GOOD, "no JSON object", "one whole object"), ("hello", "no JSON object", "'hello'"),
    (GOOD.replace("23", "70000"), "bad port", "'70000'"), (GOOD.replace("1683878400", '"soon"'), "bad time", "'soon'"),
    (GOOD.replace("198.51.100.1", "198.51.100"), "bad source address", "'198.51.100'"),
    (GOOD.replace("dest_port", "other"), "bad port", "''"), (GOOD.replace("23", "2e3x"), "bad port", "'2e3x'"),
    (GOOD.replace("23", "[23]"), "bad port", "''"), (GOOD.replace("TCP", "UDP"), "UDP", "'UDP'"),
    (GOOD.replace("TCP", "IPv6-ICMP"), "ICMP", "'IPv6-ICMP'"), ('{"stats": {"uptime": 7}}', "other object", ""),
    (GOOD.replace("198.51.100.1", "2001:db8::1"), "IPv6", ""),
])  # fmt: skip
def test_what_is_no_packet_is_told_by_kind_and_line(line, kind, text):
    """Broken and other objects leave out their line only, with its number and the text at fault."""
    shown = {}
    columns, skipped, rejected, *_ = read(f"{GOOD}\n{line}\n{GOOD}\n", "json", shown=shown)
    assert len(columns["time"]) == 2 and {**skipped, **rejected} == {kind: 1}
    assert shown[kind].startswith("line 2") and text in shown[kind]


@pytest.mark.parametrize(("text", "said"), [
    ('{\n  "ts": 1,\n  "src": "1.2.3.4"\n}\n', "expected one JSON object a line"),
    (f"[{GOOD},{GOOD}]\n", "expected one JSON object a line"),
    ('{"a": 1, "b": {"c": 2}}\n', "got none for time, src, dst, port among: a, b, c"),
    (GOOD.replace("dest_port", "x") + "\n", "got none for port among: ts, src_ip, dest_ip, x, proto"),
    (GOOD.replace("1683878400", '"05/12/2023 08:00:00"') * 1 + "\n", "expected dates with the year first"),
])  # fmt: skip
def test_what_cannot_be_read_is_one_clear_line(text, said):
    """Objects over several lines or several in one, and those without names that are known."""
    with pytest.raises(ValueError, match=r"^t: expected ") as error:
        read(text, "json")
    assert said in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_only_flows_of_suricata_and_syns_of_p0f_are_packets():
    """What tells more of the same packets is passed over, by kind; other makers' `event_type` is theirs."""
    flow, syn = FORMATS[3][1], FORMATS[4][1]
    columns, skipped, *_ = read("\n".join([flow, flow.replace('"flow", ', '"alert", '), flow]), "json")
    assert len(columns["time"]) == 2 and skipped == {"other event": 1}
    others = [syn.replace('"syn"', '"syn+ack"'), syn.replace('"syn"', '"mtu"')]
    columns, skipped, *_ = read("\n".join([syn, *others]), "json")
    assert columns["mss"].tolist() == [1460] and columns["ttl"].tolist() == [57] and skipped == {"other event": 2}
    columns, skipped, *_ = read(GOOD.replace("}", ', "event_type": "connection"}'), "json")
    assert len(columns["time"]) == 1 and not skipped


@pytest.mark.parametrize(("signature", "ttl", "mss", "window"), [
    ("4:57+7:0:1460:mss*20,10:mss:df:0", 57, 1460, 29200), ("4:64-:0:1460:8192,8:mss::0", 64, 1460, 8192),
    ("4:115+13:0:1400:mtu*4,8:mss::0", 115, 1400, 5760), ("4:240+15:0:0:65535,0:::0", 240, 0, 65535),
    ("4:64+0:0:*:*,*:mss::0", 64, 0, 0), ("4:64", 64, 0, 0), ("", 0, 0, 0), ("6:x", 0, 0, 0),
])  # fmt: skip
def test_signatures_of_p0f(signature, ttl, mss, window):
    """TTL as observed; a window as a number, or in units of MSS or MTU; what is not known is 0."""
    line = FORMATS[4][1].replace("4:57+7:0:1460:mss*20,10:mss,sok,ts:df,id+:0", signature)
    columns, *_ = read(line + "\n" + FORMATS[4][1] + "\n", "json")
    assert (columns["ttl"][0], columns["mss"][0], columns["window"][0]) == (ttl, mss, window)
    assert columns["window"][1] == 29200


def test_messages_and_named_packets_may_be_mixed():
    """Objects with a firewall's message and others with names come out in the order of lines, with all fields."""
    journal = FORMATS[5][1].replace("__REALTIME_TIMESTAMP", "ts").replace("1683878400123456", "1683878400.5")
    hello = '{"ts": 1683878400, "MESSAGE": "Invalid user"}'
    columns, skipped, rejected, *_ = read("\n".join([GOOD, journal, hello, GOOD, journal]), "json")
    assert columns["ttl"].tolist() == [0, 245, 0, 245] and columns["port"].tolist() == [23] * 4
    assert skipped == {"other log line": 1} and not rejected


def test_the_first_of_a_name_that_comes_twice_counts():
    """As with a firewall's keys; a value of a deeper object is none of the outer one."""
    columns, *_ = read(GOOD.replace("}", ', "dest_port": 24, "x": {"src_ip": "9.9.9.9"}}'), "json")
    assert columns["port"].tolist() == [23] and columns["src"].tolist() == [0xC6336401]


def test_any_damage_ends_in_columns_or_one_line():
    """1,000 mutations of lines of all makers; deep and endless nesting is no harm."""
    rng = random.Random(5)
    data = "\n".join(text for _, text, _ in FORMATS).encode()
    for _ in range(1000):
        mutant = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(mutant))
            if rng.random() < 0.5:
                mutant[at] = rng.choice(b'\0\n{}[]",:\\ 0a\xff')
            else:
                mutant[at:at] = mutant[at : at + rng.randrange(60)]
        try:
            columns, *_ = read(bytes(mutant), "json")
        except ValueError as error:
            assert str(error).startswith("t: expected ") and "\n" not in str(error)
        else:
            assert all(np.isfinite(column).all() for column in columns.values())
    read(GOOD + "\n" + '{"a":' * 5000 + "1" + "}" * 5000 + "\n" + "[" * 9999 + "\n", "json")
