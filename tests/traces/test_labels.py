"""labels.py against the standard library's ipaddress, host by host, and against files written here."""

import bz2
import gzip
import ipaddress
import lzma
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import labels

FIREWALL = Path(__file__).resolve().parents[3] / "shared/data/firewall_labels.csv"


def write(folder, **files):
    """Write files, named name_extension, and return their paths."""
    paths = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


def classes(truth, *hosts):
    """Class names of hosts given as dotted quads."""
    addresses = np.array([int(ipaddress.IPv4Address(host)) for host in hosts], np.uint32)
    return [truth.names[code] for code in labels.lookup(truth, addresses)]


def broken(folder, match, **files):
    """The one line that reading the files fails with; it names the last of them."""
    paths = write(folder, **files)
    with pytest.raises(ValueError) as error:
        labels.read_labels(paths)
    assert str(error.value).startswith(f"{paths[-1]}: ") and "\n" not in str(error.value)
    assert match in str(error.value)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "src_ip,label\n1.2.3.4,censys\n5.6.7.0/24,Mirai-like\n",
    "\ufeffsrc_ip,label\r\n1.2.3.4,censys\r\n\r\n5.6.7.0/24,Mirai-like",
    '"label","ip"\n"censys","1.2.3.4"\n"Mirai-like","5.6.7.0/24"\n',
    "first seen\tAddress\tClass\n2021\t1.2.3.4\tcensys\n2022\t 5.6.7.0/24 \t Mirai-like \n",
    "# a comment\n\nprefix;name;asn\n1.2.3.4;censys;1\n# another\n5.6.7.9/24;Mirai-like;\n",
    'host,note,category\n1.2.3.4,"a, quoted ""note""",censys\n5.6.7.0/24,,Mirai-like,,\n',
])  # fmt: skip
def test_csv(tmp_path, text):
    """CSV in its usual dialects, orders and column names is read; other columns are ignored."""
    truth = labels.read_labels(write(tmp_path, hosts_csv=text))
    assert sorted(truth.names) == ["Mirai-like", "Unknown", "censys"] and truth.names[0] == "Unknown"
    assert classes(truth, "1.2.3.4", "1.2.3.5", "5.6.7.0", "5.6.7.255", "5.6.8.0") == [
        "censys", "Unknown", "Mirai-like", "Mirai-like", "Unknown"]  # fmt: skip
    assert set(truth.counts) <= {"host bits"}


@pytest.mark.parametrize("encode", [
    lambda text: text.encode("utf-16"), lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    lambda text: gzip.compress(text.encode("utf-16")), lambda text: bz2.compress(text.encode()),
    lambda text: lzma.compress(text.encode()),
    lambda text: bz2.compress(text[:9].encode()) + bz2.compress(text[9:].encode()),
])  # fmt: skip
def test_encodings_and_compressions(tmp_path, encode):
    """UTF-16 with a byte-order mark, as PowerShell writes it, and compressed files are read, CSV and plain lists."""
    table, plain = "src_ip,label\r\n1.2.3.4,caf\u00e9\r\n", "1.2.3.5\r\n# x\r\n"
    paths = write(tmp_path, a_csv=encode(table), list_txt=encode(plain))
    assert classes(labels.read_labels(paths), "1.2.3.4", "1.2.3.5") == ["caf\u00e9", "list"]


def test_broken_utf16(tmp_path):
    """A label of UTF-16 that is cut within a character is an error with its line; so are damaged xz data."""
    broken(tmp_path, "line 2: expected a label in printable UTF-8", a_csv="ip,label\n1.1.1.1,xy".encode("utf-16")[:-1])
    packed = lzma.compress(b"1.1.1.1")[:-9]
    broken(tmp_path, "expected a readable file of labels, got: xz data end too early", a_csv=packed)


def test_quotes_in_comments_and_commas_in_the_header(tmp_path):
    """A quote in a comment joins no lines, and a quoted name in the header may hold the separator."""
    text = 'src_ip,"label, more",label\n# from, "a\n1.2.3.4,x,censys\n# until, b"\n5.6.7.8,y,zmap\n'
    paths = write(tmp_path, a_csv=text)
    assert classes(labels.read_labels(paths), "1.2.3.4", "5.6.7.8") == ["censys", "zmap"]
    broken(tmp_path, "line 3: expected an IPv4 address", b_csv='src_ip,label\n# "\nx,y\n')
    broken(tmp_path, "line 1: expected a CSV header", c_csv="x" * 200_000)


def test_plain_lists_are_named_by_their_file(tmp_path):
    """A plain list's class is its file's name without extensions; comments after # and ; and blank lines pass."""
    text = "# by hand\n\n1.2.3.4\n 5.6.0.0/16 ; SBL256894\r\n8.8.8.8#dns\n;\n"
    (censys,) = write(tmp_path, censys_txt=text)
    (zipped,) = write(tmp_path, rapid7_list_txt_gz=gzip.compress(b"9.9.9.9\n"))
    truth = labels.read_labels([str(censys), zipped])
    assert truth.names == ("Unknown", "censys", "rapid7.list")
    assert classes(truth, "1.2.3.4", "5.6.255.1", "8.8.8.8", "9.9.9.9", "5.7.0.0") == [
        "censys", "censys", "censys", "rapid7.list", "Unknown"]  # fmt: skip


def test_precedence_and_counts(tmp_path):
    """Longest prefix wins, then the earlier file, then the earlier line; what loses or repeats is counted."""
    one = "src_ip,label\n1.0.0.0/8,wide\n1.2.3.0/24,narrow\n1.2.3.0/24,late\n1.2.3.4,host\n1.2.3.4,host\n::1,six\n"
    two = "src_ip,label\n1.2.3.4,other\n1.2.0.0/16,wide\n2.0.0.1/8,two\n1.2.3.9,unknown\n1.2.3.8,\n2001:db8::/32,x\n"
    paths = write(tmp_path, one_csv=one, two_csv=two)
    hosts = "1.2.3.4", "1.2.3.5", "1.2.4.0", "1.9.9.9", "2.5.5.5", "1.2.3.9", "1.2.3.8", "3.0.0.0"
    truth = labels.read_labels(paths)
    assert classes(truth, *hosts) == ["host", "narrow", "wide", "wide", "two", "Unknown", "Unknown", "Unknown"]
    # lost: late in one.csv, other in two.csv; inside another class: narrow, host, both unknown
    assert truth.counts == {"conflict": 2, "duplicate": 1, "overlap": 4, "IPv6": 2, "host bits": 1}
    assert classes(labels.read_labels(paths[::-1]), *hosts)[:2] == ["other", "narrow"]


def test_unknown_and_case(tmp_path):
    """Unknown in any case and an empty label are class 0; other names are kept as written."""
    text = "ip,label\n1.1.1.1,UNKNOWN\n1.1.1.2,\n1.1.1.3,Censys\n1.1.1.4,censys\n1.1.1.5,ünïversity\n"
    truth = labels.read_labels(write(tmp_path, a_csv=text, unknown_txt="1.1.1.6\n"))
    assert truth.names == ("Unknown", "Censys", "censys", "ünïversity")
    hosts = [f"1.1.1.{i}" for i in range(1, 7)]
    assert classes(truth, *hosts) == ["Unknown", "Unknown", "Censys", "censys", "ünïversity", "Unknown"]


@pytest.mark.parametrize("address", [
    "999.1.1.1", "1.2.3", "1.2.3.4.5", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/1_0", "1.2.3.4/٣", "host",
    "1.2.3.04", "", "1:2:3", "2001:db8::/129", "1.2.3.4:80", "16909060", "1.2.3.4 5.6.7.8", "1.2.3.4/255.0.0.0",
])  # fmt: skip
def test_broken_addresses(tmp_path, address):
    """What is neither an address nor a block is an error naming file and line, in a CSV as in a list."""
    match = "line 3: expected an IPv4 address or a CIDR block"
    broken(tmp_path, match, a_csv=f"ip,label\n1.1.1.1,x\n{address},x\n")
    if address:
        broken(tmp_path, match, b_txt=f"1.1.1.1\n\n{address}\n")


@pytest.mark.parametrize("text, match", [
    ("", "expected labelled addresses, got none"), ("# nothing\n\n", "got none"), ("ip,label\n", "got none"),
    ("src_ip,ttl\n1.1.1.1,64\n", "line 1: expected a CSV header with an address and a label column"),
    ("1.1.1.1,censys\n", "line 1: expected a CSV header"), ("hello\n", "line 1: expected a CSV header"),
    ("\nlabel\nx\n", "line 2: expected a CSV header"), ("999.1.1.1\n", "line 1: expected an IPv4 address"),
    ("ip,label\n1.1.1.1\n", "line 2: expected 2 columns as in the header, got 1"),
    ("ip,label\n1.1.1.1,Palo Alto, Inc\n", "line 2: expected 2 columns as in the header, got 3"),
    ('ip,label\n1.1.1.1,"open\n1.1.1.2,x\n', "expected a CSV row"),
    ('ip,label\n1.1.1.1,x\n"1.1.1.2"3,x\n', "line 3: expected a CSV row"),
    ('ip,label\n1.1.1.1,"two\nlines"\n', "expected a label in printable UTF-8"),
    ("ip,label\n1.1.1.1," + "x" * 200_000 + "\n", "expected a CSV row"),
    (b"ip,label\n1.1.1.1,caf\xe9\n", "line 2: expected a label in printable UTF-8"),
    (bytes(range(256)), "line 1: expected"), (gzip.compress(b"1.1.1.1\n" * 99)[:-9], "expected a readable file"),
    (b"\x1f\x8bnonsense", "expected a readable file"),
])  # fmt: skip
def test_broken_files(tmp_path, text, match):
    """Empty files, missing columns, bad quoting, other encodings, cut gzip: one line naming the file and the line."""
    broken(tmp_path, match, a_csv=text)


def test_unreadable_file(tmp_path):
    """A missing file and a folder are ValueError, too."""
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(ValueError, match="expected a readable file of labels"):
            labels.read_labels([path])


def test_other_bytes_in_ignored_places(tmp_path):
    """Bytes that are not UTF-8 do no harm in comments and in columns that are not read."""
    truth = labels.read_labels(write(tmp_path, a_csv=b"# \xe9\nip,note,label\n1.1.1.1,\xff\xfe,x\n",
                                     b_txt=b"1.1.1.2 # caf\xe9\n"))  # fmt: skip
    assert classes(truth, "1.1.1.1", "1.1.1.2") == ["x", "b"]


def test_flipped_bytes(tmp_path):
    """2,000 random byte flips give labels or ValueError naming the file, nothing else."""
    rng, read, errors = random.Random(0), 0, 0
    texts = [b'src_ip,label\n1.2.3.4,censys\n5.6.7.0/24,"zmap"\n::1,six\n', b"# list\n1.2.3.4\n5.6.7.0/24 ; x\n",
             gzip.compress(b"1.2.3.4\n5.6.7.0/24\n")]  # fmt: skip
    path = tmp_path / "list.txt"
    for i in range(2000):
        text = bytearray(texts[i % 3])
        for _ in range(rng.choice([1, 1, 3])):
            text[rng.randrange(len(text))] = rng.randrange(256)
        path.write_bytes(text)
        try:
            labels.read_labels([path])
            read += 1
        except ValueError as error:
            errors += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert read and errors


@pytest.mark.skipif(not FIREWALL.exists(), reason="no real labels here")
def test_real_labels():
    """The labels of the real firewall logs: 215 hosts, zmap 81, censys 80, recyber 38."""
    truth = labels.read_labels([FIREWALL])
    hosts = np.bincount(labels.lookup(truth, truth.network), minlength=len(truth.names))
    count = dict(zip(truth.names, hosts.tolist()))
    assert hosts.sum() == 215 and not truth.counts
    assert (count["zmap"], count["censys"], count["recyber"], count["Unknown"]) == (81, 80, 38, 0)


# -- look-up ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1) | st.integers(0, 300), st.integers(0, 32), st.integers(0, 3)),
                min_size=1, max_size=30), st.integers(0, 2**32))  # fmt: skip
def test_lookup_equals_ipaddress(tmp_path_factory, blocks, seed):
    """The look-up of arbitrary nested blocks equals a search through all of them, one host at a time."""
    names = ("Unknown", "a", "b", "c")
    networks = [(ipaddress.ip_network((address, length), strict=False), names[c]) for address, length, c in blocks]
    path = tmp_path_factory.mktemp("labels") / "x.csv"
    path.write_text("ip,label\n" + "".join(f"{network},{name}\n" for network, name in networks))
    truth = labels.read_labels([path])
    rng = np.random.default_rng(seed)
    hosts = np.concatenate([
        rng.integers(0, 2**32, 20), rng.integers(0, 300, 20), [0, 2**32 - 1],
        [int(network[0]) for network, _ in networks], [int(network[-1]) for network, _ in networks],
    ]).astype(np.uint32)  # fmt: skip
    expected = []
    for host in hosts.tolist():
        inside = [(n.prefixlen, -i) for i, (n, _) in enumerate(networks) if ipaddress.IPv4Address(host) in n]
        expected.append(networks[-max(inside)[1]][1] if inside else "Unknown")
    codes = labels.lookup(truth, hosts)
    assert codes.dtype == np.int64 and [truth.names[code] for code in codes] == expected


def test_from_arrays():
    """Single addresses with codes look themselves up; of repeated ones the first counts; bad codes are told."""
    truth = labels.from_arrays(np.array([9, 3, 9, 2**32 - 1], np.uint32), [1, 2, 2, 1], ("Unknown", "a", "b"))
    assert labels.lookup(truth, np.array([2**32 - 1, 9, 3, 4], np.uint32)).tolist() == [1, 1, 2, 0]
    assert truth.counts == {"conflict": 1}
    for codes, said in (([1, 2], "int64, 1..2"), ([0, 1.7], "float64, 0.0..1.7")):
        with pytest.raises(ValueError, match=rf"codes must be integers in \[0, 2\), got {said}"):
            labels.from_arrays([1, 2], codes, ("Unknown", "a"))
    with pytest.raises(ValueError, match="names must begin with 'Unknown'"):
        labels.from_arrays([1], [0], ("a",))
    with pytest.raises(ValueError, match="equal length"):
        labels.from_arrays([1], [0, 0], ("Unknown",))
    with pytest.raises(ValueError, match=r"integers in \[0, 2\*\*32\)"):
        labels.lookup(truth, [-1])


def test_nothing_listed():
    """Without any label every host is Unknown, and no hosts is no trouble."""
    truth = labels.from_arrays([], [], ["Unknown"])
    assert labels.lookup(truth, np.arange(5, dtype=np.uint32)).tolist() == [0] * 5
    assert labels.lookup(truth, np.empty(0, np.uint32)).shape == (0,)


# -- Mirai ------------------------------------------------------------------------------------------------------------


def test_mirai_hosts():
    """Hosts with at least min_packets packets of seq = dst, sorted; numbered sensors and sequence number 0 never."""
    dst = np.array([2**24, 2**31, 7, 0, 2**25, 2**25, 2**26], np.uint32)
    seq = np.array([2**24, 2**31, 7, 0, 2**25, 2**25, 2**26 + 1], np.uint32)
    src = np.array([5, 4, 3, 2, 4, 2**32 - 1, 6], np.uint32)
    hosts = labels.mirai_hosts(src, dst, seq)
    assert hosts.dtype == np.uint32 and hosts.tolist() == [4, 5, 2**32 - 1]
    assert labels.mirai_hosts(src, dst, seq, min_packets=2).tolist() == [4]
    assert labels.mirai_hosts(src[:0], dst[:0], seq[:0]).tolist() == []
    with pytest.raises(ValueError, match=r"integers in \[0, 2\*\*32\)"):
        labels.mirai_hosts(src.astype(np.int64) + 2**32, dst, seq)
    with pytest.raises(ValueError, match="min_packets must be at least 1, got 0"):
        labels.mirai_hosts(src, dst, seq, 0)
    with pytest.raises(ValueError, match="equal length"):
        labels.mirai_hosts(src, dst, seq[1:])
