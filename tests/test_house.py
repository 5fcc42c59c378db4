"""The shape of the house: what a module may import, and that each vendors alone."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ["graph", "features", "models", "knn", "whiten", "synthetic", "labels", "captures", "textlogs", "darkvec"]
RUN_TIME = {"torch", "numpy", "scipy"}


def imports(module):
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or ".").split(".")[0]


@pytest.mark.parametrize("module", VENDORED)
def test_vendored_modules_import_nothing_of_ours(module):
    """Only the standard library, torch, numpy and scipy."""
    assert set(imports(module)) <= RUN_TIME | set(sys.stdlib_module_names)


def test_the_whole_project_needs_only_torch_numpy_scipy():
    """No other package is imported at run time, by any module at the top level."""
    modules = {path.stem for path in ROOT.glob("*.py")}
    for module in modules:
        optional = {"matplotlib"} if module == "reproduce" else set()
        assert set(imports(module)) <= RUN_TIME | modules | optional | set(sys.stdlib_module_names), module


def test_every_vendored_module_imports_alone(tmp_path):
    """Copied into a folder of its own, each module imports."""
    for module in VENDORED:
        (tmp_path / module).mkdir()
        shutil.copy(ROOT / f"{module}.py", tmp_path / module)
    code = (f"import sys, importlib\nfor module in {VENDORED}:\n    sys.path.insert(0, module)\n"
            "    importlib.import_module(module)\n    sys.path.pop(0)\n    del sys.modules[module]")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
