"""The state file: written whole or not at all, read only where it is what was written."""

import contextlib
import errno
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from daily import state
from report import files
from tests.command.running import error_of, run
from tests.daily.running import daily_run

SMALL = {"a": torch.arange(3.0), "b": torch.ones(3)}        # alike, so that one's name is the other's but for a bit


def equal(a, b):
    """Whether two states hold the same values of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    return a == b


def parts(path):
    """(whole, data): the file's bytes, and where among them the records' contents lie; the rest are headers."""
    whole, data = path.read_bytes(), []
    with zipfile.ZipFile(path) as file:
        for record in file.infolist():
            at = record.header_offset
            start = at + 30 + int.from_bytes(whole[at + 26 : at + 28], "little") \
                + int.from_bytes(whole[at + 28 : at + 30], "little")
            data += range(start, start + record.compress_size)
    return whole, data


def refused_or_the_same(path, good):
    """True: the state at `path` is refused by one line that names it. False: it loads to `good`."""
    try:
        loaded = state.load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: expected a state that ") and "\n" not in str(error)
        return True
    assert equal(loaded, {"darkgnn_state": state.VERSION, **good})
    return False


def refused_flips(path, bits, good):
    """How many states of one bit flipped, of `bits` (byte, bit), are refused; the others load to `good`."""
    whole, refused = path.read_bytes(), 0
    with path.open("r+b", buffering=0) as file:
        for at, bit in bits:
            for byte in (whole[at] ^ 1 << bit, whole[at]):
                file.seek(at)
                file.write(bytes([byte]))
                refused += refused_or_the_same(path, good) if byte != whole[at] else 0
    assert path.read_bytes() == whole
    return refused


def test_what_was_saved_is_loaded(tmp_path):
    """Nested dicts and lists, numbers, None, text and tensors of all types, empty ones too, come back as they were."""
    good = {"settings": {"history": 0, "steady": None, "learning_rate": 1e-3}, "names": ["Unknown", "é"], "days": 3,
            "empty": torch.empty(0, 6), "double": torch.eye(2, dtype=torch.float64), "nan": [float("nan")],
            "bytes": torch.arange(5, dtype=torch.uint8), "transposed": torch.arange(6).reshape(2, 3).T,
            "group": {"params": [0, 1], "betas": (0.9, 0.999)}}
    state.save(tmp_path / "s", good)
    loaded = state.load(tmp_path / "s")
    assert np.isnan(loaded.pop("nan")[0]) and good.pop("nan")
    assert loaded.pop("darkgnn_state") == state.VERSION and equal(loaded, good)
    assert state.load(tmp_path / "none") is None


def test_the_digest_tells_names_types_shapes_and_bytes():
    """Each of these states, alike but for one thing, has a digest of its own."""
    states = [
        SMALL, {"a": SMALL["b"], "b": SMALL["a"]}, {"b": SMALL["b"], "a": SMALL["a"]}, {"a": SMALL["a"]},
        *({**SMALL, "b": b} for b in (torch.ones(3, 1), torch.ones(3, dtype=torch.float64), [1.0] * 3,
                                      torch.tensor([1, 1, 1.0000001]), torch.ones(3).int(), torch.empty(0))),
        *({**SMALL, "c": c} for c in (None, "None", 0, False, 0.0, [1, [2]], [1, 2], [[1], 2], {1: 2}, "a", ""))]
    assert len({state.digest(one) for one in states}) == len(states)
    assert state.digest(SMALL) == state.digest({name: value.clone() for name, value in SMALL.items()})


def test_every_bit_of_the_headers(tmp_path):
    """Each bit of the zip's headers, local and central, flipped alone: refused in one line, or loaded unchanged."""
    path = tmp_path / "s"
    state.save(path, SMALL)
    whole, data = parts(path)
    bits = [(at, bit) for at in sorted(set(range(len(whole))) - set(data)) for bit in range(8)]
    assert len(bits) > 8000
    refused = refused_flips(path, bits, SMALL)
    assert 0.3 < refused / len(bits) < 0.7                  # the others are padding, dates and the like


def test_bits_of_the_data(tmp_path):
    """Any bit of what the records hold is told by its checksum."""
    path = tmp_path / "s"
    state.save(path, SMALL)
    bits = [(at, at % 8) for at in np.random.default_rng(0).choice(parts(path)[1], 100, replace=False).tolist()]
    assert refused_flips(path, bits, SMALL) == 100


def test_values_that_the_checksums_cannot_tell(tmp_path):
    """A file of right checksums that holds other values than its digest says is refused."""
    torch.save({"darkgnn_state": state.VERSION, **SMALL, "digest": state.digest(SMALL)}, tmp_path / "s")
    with pytest.raises(ValueError, match="got a damaged one: it holds other values than were written"):
        state.load(tmp_path / "s")


def test_a_broken_state_is_one_line_and_stays(capsys, tmp_path):
    """Truncated, foreign, older, newer: each is one line naming the file, which is left as it is."""
    daily = daily_run(tmp_path)
    run(capsys, *daily("one", 1, 2, 3))
    path, arguments = tmp_path / "one.state", daily("one")
    whole, good = path.read_bytes(), state.load(path)
    del good["darkgnn_state"]
    broken = [whole[:n] for n in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    for content in (*broken, b"not a state", whole[:200] + b"\0" * 64 + whole[264:]):
        path.write_bytes(content)
        refused_or_the_same(path, good)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    rng = np.random.default_rng(0)
    refused_flips(path, zip(rng.integers(len(whole), size=40).tolist(), rng.integers(8, size=40).tolist()), good)
    path.write_bytes(broken[3])
    assert "truncated, damaged" in error_of(capsys, *arguments) and path.read_bytes() == broken[3]
    torch.save({"weights": torch.zeros(3)}, path)
    assert "another file of PyTorch's" in error_of(capsys, *arguments)
    state.save(path, {**good, "darkgnn_state": state.VERSION + 1})
    line = error_of(capsys, *arguments)
    assert f"expected a state of version {state.VERSION}, got version {state.VERSION + 1}" in line
    assert "the newer darkgnn that wrote it" in line


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_state_is_refused_with_what_to_do(capsys, tmp_path, version):
    """A state of version 1, which had no digest, or 2, which had no days for the page, is one line that says how to
    begin anew; it stays as it is."""
    daily = daily_run(tmp_path)
    arguments, path = daily("one", 1), tmp_path / "one.state"
    torch.save({"darkgnn_state": version, "settings": {"whiten": True}, "days": 40, "model": {}}, path)
    before = path.read_bytes()
    line = error_of(capsys, *arguments)
    assert f"{path}: expected a state of version {state.VERSION}, got version {version} of an older darkgnn" in line
    assert "give --state another name" in line and "the captures of the last month" in line
    assert path.read_bytes() == before


def test_a_state_that_finds_no_room_is_an_os_error(tmp_path, monkeypatch):
    """Wherever the disk ends while a state is written, OSError comes out, not what PyTorch's writer makes of it."""
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(files, "whole_file", lambda *_: contextlib.closing(Full()))
    content = {"weights": torch.zeros(10_000), "more": torch.ones(5)}
    for Full.room in range(0, 40_000, 1500):
        with pytest.raises(OSError, match="No space left"):
            state.save(tmp_path / "s", content)
    Full.room = 1 << 20
    state.save(tmp_path / "s", content)


def test_a_state_that_is_a_folder(capsys, tmp_path):
    """A folder in the place of the state is one line."""
    arguments = daily_run(tmp_path)("one", 1)
    Path(tmp_path / "one.state").mkdir()
    assert "one.state" in error_of(capsys, *arguments)


def test_a_state_where_nothing_can_be_written(capsys, tmp_path):
    """A state below a file is one line that names it."""
    (tmp_path / "file").write_text("mine")
    arguments = daily_run(tmp_path)("one", 1)
    line = error_of(capsys, *arguments, "--state", tmp_path / "file" / "x.state")
    assert f"{tmp_path / 'file' / 'x.state'}: expected a file in a folder to write to" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_state_that_cannot_be_read(capsys, tmp_path):
    """A state without permission to read is one line."""
    state.save(tmp_path / "s", SMALL)
    (tmp_path / "s").chmod(0)
    with pytest.raises(ValueError, match="expected a state that can be read: Permission denied"):
        state.load(tmp_path / "s")
