"""fast/precision.py: the precision that products get, and when the reduced one is taken."""

import pytest
import torch

from fast import precision


def test_the_precision_of_before_comes_back_after_an_error():
    """An exception inside the context leaves PyTorch's setting as it was."""
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), precision.matmul_precision("fast"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("full", [True, False])
def test_a_cpu_that_gains_nothing_stays_exact_and_says_so(monkeypatch, full):
    """Where reduced products are full ones a run is exact and one line says so; who asks for exact ones gets them."""
    monkeypatch.setattr(precision, "medium_is_full", lambda: full)
    found, note = precision.chosen("fast", "cpu")
    assert found == ("exact" if full else "fast")
    assert (note is not None and "\n" not in note and "--precision fast" in note) == full
    assert precision.chosen("exact", "cpu") == ("exact", None)


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "exact"), ((8, 0), "fast"), ((9, 0), "fast")])
def test_a_gpu_is_known_by_its_capability(monkeypatch, capability, name):
    """TF32 came with compute capability 8.0: before it products stay exact and one line says so."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found, note = precision.chosen("fast", "cuda")
    assert found == name and (note is None) == (name == "fast")


def test_asking_the_machine_leaves_no_trace():
    """The products that find out what it does leave PyTorch's setting and its random stream alone."""
    before, stream = torch.get_float32_matmul_precision(), torch.get_rng_state()
    precision.medium_is_full.cache_clear()
    assert precision.medium_is_full() in (False, True)
    assert torch.get_float32_matmul_precision() == before and torch.equal(torch.get_rng_state(), stream)


def test_rounded_products_are_told_from_full_ones(monkeypatch):
    """Factors rounded to bfloat16, as a processor with such instructions would: not full."""
    matmul = torch.Tensor.__matmul__

    def rounded(a, b):
        return matmul(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else matmul(a, b)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    precision.medium_is_full.cache_clear()
    try:
        assert not precision.medium_is_full()
    finally:
        precision.medium_is_full.cache_clear()


@pytest.mark.parametrize(("n", "width"), [(1, 1), (17, 5), (300, 37), (700, 128), (700, 165), (90, 1024)])
def test_full_products_round_no_factor(n, width):
    """Similarities of rows of length 1 are those in float64 up to float32's own rounding, by whichever library."""
    generator = torch.Generator().manual_seed(n)
    a, b = (torch.nn.functional.normalize(torch.randn(m, width, generator=generator)) for m in (n, 2 * n))
    with precision.matmul_precision("exact"):
        product = a @ b.T
    torch.testing.assert_close(product.double(), a.double() @ b.double().T, rtol=0, atol=5e-6)


@pytest.mark.parametrize(("device", "full", "capability", "amd", "setting"), [
    ("cpu", True, "AVX512", True, "medium"), ("cpu", False, "AVX512", True, "highest"),
    ("cpu", True, "AVX512", False, "highest"), ("cpu", True, "AVX2", True, "highest"),
    ("cuda", True, "AVX512", True, "highest")])
def test_who_multiplies_in_full(monkeypatch, device, full, capability, amd, setting):
    """oneDNN where MKL leaves AVX-512 unused and oneDNN rounds nothing; else PyTorch's own library."""
    monkeypatch.setattr(precision, "medium_is_full", lambda: full)
    monkeypatch.setattr(precision, "made_by_amd", lambda: amd)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    with precision.matmul_precision("exact", torch.device(device)):
        assert torch.get_float32_matmul_precision() == setting
