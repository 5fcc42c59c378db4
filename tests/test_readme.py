"""What the README says runs and exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n# (\w+)\.py: (.*?)```", README, re.S)


@pytest.mark.parametrize("module, code", EXAMPLES, ids=[module for module, _ in EXAMPLES])
def test_vendoring_examples_run_with_the_one_file(module, code, tmp_path):
    """Each example of "Take one module" runs in a folder that holds that module alone."""
    shutil.copy(ROOT / f"{module}.py", tmp_path)
    done = subprocess.run([sys.executable, "-c", f"# {code}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_look_up_runs_on_a_runs_files(tmp_path):
    """The look-up of "Outputs" runs on what a run leaves and prints a host and its three neighbours a line."""
    code = re.search(r"To look up who is near whom:\n\n```python\n(.*?)```", README, re.S)[1]
    run = [sys.executable, ROOT / "darkgnn.py", "--synthetic-scale", "0.005", "--model", "features", "--quiet"]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 10 and all(len(line) == 4 and line[0] not in line[1:] for line in lines)


def test_there_is_an_example_for_each_of_the_five_modules():
    """graph, features, models, knn and whiten, the modules made for vendoring."""
    assert {module for module, _ in EXAMPLES} >= {"graph", "features", "models", "knn", "whiten"}


def test_the_file_tree_is_the_top_level():
    """Every module at the top level is in the file tree, and every file named there exists."""
    tree = re.search(r"## Files\n\n```\n(.*?)```", README, re.S)[1]
    named = set(re.findall(r"^(\w+\.(?:py|md)) ", tree, re.M))
    assert {path.name for path in ROOT.glob("*.py")} <= named
    assert all((ROOT / name).exists() for name in named)


def test_named_functions_exist():
    """Every function of the table from equations to functions is there."""
    table = re.search(r"## From the equation.*?\n\n(.*?)\n\n", README, re.S)[1]
    names = re.findall(r"`(\w+)\.(\w+)(?:\.(\w+))?`", table)
    assert len(names) > 12
    sys.path.insert(0, str(ROOT))
    for module, name, member in names:
        found = getattr(__import__(module), name)
        assert not member or hasattr(found, member)


def test_ci_runs_the_test_command_of_the_readme():
    """.ci/run finds exactly one test command in the README."""
    section = re.search(r"^## Tests\n(.*?)^## ", README, re.S | re.M)[1]
    assert len(re.findall(r"^python3 -m venv .*pytest -q$", section, re.M)) == 1
