"""How the command speaks and ends."""

import pytest

import darkgnn
from command import speak


@pytest.mark.parametrize(("error", "expected"), [
    (MemoryError(), True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"), True),
    (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    (RuntimeError("The tensor has a non-zero number of elements, but its data is not allocated yet."), False)])
def test_a_lack_of_memory_is_told_from_other_errors(error, expected):
    """What PyTorch says when memory does not suffice, and what merely speaks of memory."""
    assert speak.lacks_memory(error) == expected


def test_errors_of_the_run_become_exit_codes(capsys, monkeypatch):
    """A lack of memory and a ValueError are one line and 2, Ctrl-C is 130; a fault of ours keeps its traceback."""
    def raising(error):
        def run(*_):
            raise error
            yield
        monkeypatch.setattr(darkgnn, "run", run)
    for error, code, said in ((MemoryError(), 2, "error: not enough memory: expected smaller widths"),
                              (ValueError("a name\nof two lines"), 2, "error: a name of two lines"),
                              (OSError("the disk"), 2, "error: the disk"), (KeyboardInterrupt(), 130, "interrupted")):
        raising(error)
        assert darkgnn.main([]) == code
        complaint = capsys.readouterr().err
        assert complaint.startswith(f"darkgnn: {said}") and complaint.count("\n") == 1
    raising(RuntimeError("a fault"))
    with pytest.raises(RuntimeError, match="a fault"):
        darkgnn.main([])


def test_of_several_processes_the_first_speaks(capsys, monkeypatch):
    """Rank 1 says nothing but its errors, with its number, after the first had its time."""
    monkeypatch.setattr(speak, "FIRST_SPEAKS", 0)
    monkeypatch.setattr(speak.scale, "rank", lambda: 1)
    monkeypatch.setattr(speak.scale, "started", lambda: 2)
    speak.say("a day")
    speak.warn("a note")
    with pytest.raises(SystemExit), speak.first_only():
        print("a flag")
        raise SystemExit(2)
    assert speak.fail(ValueError("gone")) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "darkgnn: rank 1: error: gone\n"
