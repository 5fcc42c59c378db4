"""The shape of the house: what a module may import, and that each vendors alone."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ["graph", "features", "models", "knn", "whiten", "traces/synthetic", "traces/labels", "traces/captures",
            "traces/textlogs", "baselines/darkvec"]
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
    modules = {path.stem for path in ROOT.glob("*.py")} | {"traces", "baselines"}
    for module in modules - {"traces", "baselines"}:
        optional = {"matplotlib"} if module == "reproduce" else set()
        assert set(imports(module)) <= RUN_TIME | modules | optional | set(sys.stdlib_module_names), module


def test_every_vendored_module_imports_alone(tmp_path):
    """Copied into a folder of its own, each module imports."""
    names = [Path(module).name for module in VENDORED]
    for module, name in zip(VENDORED, names):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / f"{module}.py", tmp_path / name)
    code = (f"import sys, importlib\nfor module in {names}:\n    sys.path.insert(0, module)\n"
            "    importlib.import_module(module)\n    sys.path.pop(0)\n    del sys.modules[module]")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
