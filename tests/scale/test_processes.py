"""Who owns what, who is there, and what is refused before the processes meet."""

import numpy as np
import pytest
import torch

from scale import processes


def test_hosts_are_spread_evenly_over_any_number_of_ranks():
    """Of the addresses of a /16 every rank owns its share within a tenth, of its /24s each rank a part."""
    hosts = np.arange(0x0A010000, 0x0A020000, dtype=np.uint32)
    for ranks in (2, 3, 8):
        owner = processes.owner(hosts, ranks)
        counts = np.bincount(owner)
        assert len(counts) == ranks and (abs(counts / counts.mean() - 1) < 0.1).all()
        assert all(len(np.unique(net)) == ranks for net in owner.reshape(256, 256))


def test_one_process_is_itself(monkeypatch):
    """Without torchrun there is one process, of rank 0, that owns all; a sum over ranks is the number itself."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.start()
    assert (processes.started(), processes.size(), processes.rank()) == (1, 1, 0)
    assert (processes.owner(np.arange(9, dtype=np.uint32)) == 0).all()
    assert processes.all_sum(3) == processes.all_min(3) == 3 and processes.all_objects("a") == ["a"]


def test_before_the_start_a_process_is_who_torchrun_says(monkeypatch):
    """The rank that ends first when arguments are wrong is known before the processes meet."""
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "2")):
        monkeypatch.setenv(name, value)
    assert (processes.started(), processes.rank()) == (4, 2)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    """A process for which the machine has no GPU says so before it joins the others."""
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "2"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="expected a GPU for each process on a machine, got 2 for process 3"):
        processes.start("cuda")
