"""unpacking.py: every compression, of one member or several, cut, damaged, in small pieces, and without its library."""

import bz2
import gzip
import importlib
import importlib.util
import io
import lzma
import random
import sys
import types

import pytest

from traces import unpacking
from traces.summary import Summary

PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
for library in ("compression.zstd", "zstandard"):
    try:
        PACK["zstd"] = importlib.import_module(library).compress
        break
    except ImportError:
        pass
TEXT = bytes(random.Random(0).choices(b"0123456789.,\n", k=300_000))


def unpack(data):
    """(bytes, [(reason, place)], remarks, whether damage ended them) of a file that holds `data`."""
    rejected, summary, parts, end = [], Summary(), [], None
    pieces = unpacking.unpacked(io.BytesIO(data), "some.file", summary, lambda *told: rejected.append(told))
    while True:
        try:
            parts.append(next(pieces))
        except StopIteration as stop:
            end = stop.value
            break
    most = 1 << 25 if unpacking.packing(data) == "zstd" else unpacking.PIECE  # the package takes no limit
    assert summary.bytes_read == len(data) and all(len(part) <= most for part in parts)
    return b"".join(parts), rejected, summary.warnings, end


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("piece", [1 << 20, 1000])
def test_members(kind, piece, monkeypatch):
    """One member and several, with zeros that fill the file up behind them, are one stream, in bounded pieces."""
    monkeypatch.setattr(unpacking, "PIECE", piece)
    pack = PACK[kind]
    data = pack(TEXT[:1000]) + pack(b"") + pack(TEXT[1000:]) + bytes(64)
    assert unpacking.packing(data) == kind
    assert unpack(data) == (TEXT, [], [], False)
    assert unpack(pack(bytes(5_000_000)))[0] == bytes(5_000_000)


@pytest.mark.parametrize("kind", PACK)
def test_damage_is_told(kind):
    """Data cut short say so; behind damage the bytes that were not read are counted; what came before is given."""
    pack = PACK[kind]
    data = pack(TEXT)
    out, rejected, remarks, cut = unpack(pack(b"first") + data[: len(data) // 2])
    assert out.startswith(b"first") and TEXT.startswith(out[5:])
    assert [reason for reason, _ in rejected] == [f"{kind} data end too early"] and not remarks
    assert cut == (len(out) > 5)
    out, rejected, remarks, cut = unpack(data + b"garbage" * 100)
    assert out == TEXT and rejected == [(f"broken {kind} data", f"byte {len(data)} or later")] and not cut
    assert remarks == [f"some.file: its {kind} data break: about 700 bytes from there on were not read"]


@pytest.mark.parametrize("kind", PACK)
def test_flipped_bytes(kind):
    """Whatever bytes change, what comes out is bytes and at most one message."""
    rng = random.Random(2)
    data = PACK[kind](TEXT[:3000]) + PACK[kind](TEXT[3000:6000])
    for _ in range(700):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 1, 5])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        _, rejected, remarks, _ = unpack(bytes(broken))
        assert len(rejected) <= 1 and len(remarks) <= 1


def test_zstd_without_a_library(monkeypatch):
    """Without Python 3.14 and without the package one line says what is missing and what to do."""
    for name in ("compression", "compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError) as error:
        unpack(b"\x28\xb5\x2f\xfd....")
    assert str(error.value) == (
        "some.file: expected Python 3.14 or the package zstandard for zstd, got neither; unpack the file first"
    )


def test_zstd_by_a_stand_in(monkeypatch):
    """Of either library what it unpacks is given on, member by member: here bzip2 stands in for it."""
    monkeypatch.setitem(unpacking.PACKINGS, "bzip2", b"never")
    monkeypatch.setitem(unpacking.PACKINGS, "zstd", b"BZh")
    data = bz2.compress(TEXT) + bz2.compress(b"more")
    own = types.SimpleNamespace(ZstdDecompressor=bz2.BZ2Decompressor, ZstdError=OSError)
    monkeypatch.setitem(sys.modules, "compression", types.ModuleType("compression"))
    monkeypatch.setitem(sys.modules, "compression.zstd", own)
    assert unpack(data) == (TEXT + b"more", [], [], False)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    package = types.SimpleNamespace(
        ZstdDecompressor=lambda: types.SimpleNamespace(decompressobj=bz2.BZ2Decompressor), ZstdError=OSError
    )
    monkeypatch.setitem(sys.modules, "zstandard", package)
    monkeypatch.setattr(unpacking, "PIECE", len(TEXT))
    assert unpack(data) == (TEXT + b"more", [], [], False)
