"""fast/precision.py: the precision that products get, and when the reduced one is taken."""

import pytest
import torch

from fast import precision


@pytest.fixture(autouse=True)
def decide_anew():
    """Each test decides for itself: what earlier ones measured is forgotten, before and after."""
    precision.chosen.cache_clear()
    yield
    precision.chosen.cache_clear()


def test_the_precision_of_before_comes_back_after_an_error():
    """An exception inside the context leaves PyTorch's setting as it was."""
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), precision.matmul_precision("fast"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("times", "name"), [(0.6, "exact"), (1.0, "exact"), (1.14, "exact"), (1.16, "fast"),
                                             (6.0, "fast")])
def test_a_cpu_that_gains_nothing_stays_exact_and_says_so(monkeypatch, times, name):
    """Below 1.15 times as fast the products stay exact and one line says so; from there on they are reduced."""
    monkeypatch.setattr(precision, "times_as_fast", lambda: times)
    found, note = precision.chosen("fast", "cpu")
    assert found == name
    assert (note is None) == (name == "fast") and (note is None or (f"{times:.2f}" in note and "\n" not in note))


def test_a_decision_is_measured_once(monkeypatch):
    """A second question in the same process has the same answer, whatever a second measurement would say."""
    answers = iter([2.0, 0.5])
    monkeypatch.setattr(precision, "times_as_fast", lambda: next(answers))
    assert precision.chosen("fast", "cpu") == precision.chosen("fast", "cpu") == ("fast", None)


def test_exact_measures_nothing(monkeypatch):
    """Who asks for exact products gets them without a measurement."""
    monkeypatch.setattr(precision, "times_as_fast", lambda: pytest.fail("measured"))
    assert precision.chosen("exact", "cpu") == ("exact", None)


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "exact"), ((8, 0), "fast"), ((9, 0), "fast")])
def test_a_gpu_is_known_by_its_capability(monkeypatch, capability, name):
    """TF32 came with compute capability 8.0: before it products stay exact and one line says so."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found, note = precision.chosen("fast", "cuda")
    assert found == name and (note is None) == (name == "fast")


def test_products_in_both_precisions_are_timed_in_turn():
    """The measurement gives a positive ratio and leaves PyTorch's setting and its random stream alone."""
    before, stream = torch.get_float32_matmul_precision(), torch.get_rng_state()
    assert precision.times_as_fast(trials=1) > 0 and precision.medium_is_full() in (False, True)
    assert torch.get_float32_matmul_precision() == before and torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize(("n", "width"), [(1, 1), (17, 5), (300, 37), (700, 128), (700, 165), (90, 1024)])
def test_full_products_round_no_factor(n, width):
    """Similarities of rows of length 1 are those in float64 up to float32's own rounding, by whichever library."""
    generator = torch.Generator().manual_seed(n)
    a, b = (torch.nn.functional.normalize(torch.randn(m, width, generator=generator)) for m in (n, 2 * n))
    with precision.full_products(torch.device("cpu")):
        product = a @ b.T
    torch.testing.assert_close(product.double(), a.double() @ b.double().T, rtol=0, atol=5e-6)


def test_full_products_where_medium_rounds_are_the_exact_ones(monkeypatch):
    """On a machine whose "medium" products are rounded, and on a GPU, the setting is the exact one."""
    for device, full in (("cpu", False), ("cuda", True)):
        monkeypatch.setattr(precision, "medium_is_full", lambda full=full: full)
        with precision.full_products(torch.device(device)):
            assert torch.get_float32_matmul_precision() == "highest"
