"""The state: one file of tensors and plain types, replaced whole after every day.

`torch.load` reads it with weights_only=True. A digest over all that it holds tells a file that changed by a single bit.
Imports report.files and torch.
"""

import contextlib
import fcntl
import hashlib
import re
import zipfile
from pathlib import Path

import torch

from report import files

VERSION = 3


@contextlib.contextmanager
def locked(path):
    """Hold the state for this process alone, by a lock on PATH.lock; raises ValueError where another one has it."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(f"{path}.lock", "a+")                   # noqa: SIM115 (closed below)
    except OSError as error:
        raise ValueError(f"{path}: expected a file in a folder to write to: {error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{path} is in use by another run: expected one run at a time") from None
        files.remove_half_written(path.parent, re.escape(path.name))
        yield


def load(path):
    """The state at `path`, a dict on the CPU; None if there is no such file.

    Raises ValueError, one line, for a file that is not a whole state of this version; it stays as it is.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as file:                 # torch.load does not look at the checksums
            damaged = file.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path}: expected a state that can be read: {error.strerror or error}") from None
    except Exception as error:                              # whatever broken bytes make the two readers raise
        raise ValueError(f"{path}: expected a state that --state wrote, got a file that is truncated, damaged or "
                         f"something else ({type(error).__name__})") from None
    version = state.get("darkgnn_state") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path}: expected a state that --state wrote, got another file of PyTorch's")
    if version < VERSION:
        raise ValueError(f"{path}: expected a state of version {VERSION}, got version {version} of an older darkgnn: "
                         "give --state another name, and as --input the captures of the last month, from which the "
                         "new one starts")
    if version > VERSION:
        raise ValueError(f"{path}: expected a state of version {VERSION}, got version {version}: expected the newer "
                         "darkgnn that wrote it")
    if state.pop("digest", None) != digest(state):
        raise ValueError(f"{path}: expected a state that --state wrote, got a damaged one: it holds other values than "
                         "were written")
    return state


def save(path, state):
    """Replace the state at `path`, whole or not at all, by `state`: dicts and lists of tensors and plain types."""
    state = {"darkgnn_state": VERSION, **state}
    try:
        with files.whole_file(path, "wb") as file:
            torch.save({**state, "digest": digest(state)}, file)
    except RuntimeError as error:                           # torch's writer ends so where the file raised
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def digest(state):
    """SHA-256 over the names, types, shapes and bytes of all that `state` holds, as text.

    The format's own checksums do not cover the headers that say which bytes are which tensor's.
    """
    total = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            total.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
            total.update(value.detach().cpu().numpy().tobytes())
        elif isinstance(value, dict):
            total.update(f"dict {len(value)} ".encode())
            for name, item in value.items():
                add(name)
                add(item)
        elif isinstance(value, (list, tuple)):
            total.update(f"list {len(value)} ".encode())
            for item in value:
                add(item)
        else:
            total.update(f"{type(value).__name__} {value!r} ".encode())
    add(state)
    return total.hexdigest()


def check_settings(path, saved, settings):
    """Raise ValueError naming the first setting, of those that matter to the model, that differs from the state's."""
    for name, value in settings.items():
        if saved.get(name) != value:
            raise ValueError(f"{path} was made {as_flag(name, saved.get(name))}, got a run {as_flag(name, value)}: "
                             "expected the same")


def as_flag(name, value):
    """A setting in words: with the flag that made it, or without."""
    flag = "--" + name.replace("_", "-")
    if value is None or value is False:
        return f"without {flag}"
    return f"with {flag}" if value is True else f"with {flag} {value}"
