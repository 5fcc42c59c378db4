"""The shape of the house: what stands where, what a file may import, and that single files vendor alone."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN_TIME = {"torch", "numpy", "scipy"}
OPTIONAL = {"paper/pictures.py": {"matplotlib"}, "traces/unpacking.py": {"zstandard"}}  # absent: one line says so
CORE = {"graph", "features", "models", "knn"}
ARROWS = {  # room or flat file: what of ours it may import, beside itself
    "graph": set(), "features": set(), "models": set(), "knn": set(),
    "training": {"graph", "models"},
    "traces": {"graph", "features"},
    "beyond": set(),
    "baselines": {"graph", "training"},
    "fast": {*CORE, "training", "beyond", "traces"},
    "scale": {*CORE, "training", "beyond", "traces", "fast"},
    "report": {"knn", "beyond"},
    "daily": {"graph", "knn", "training", "beyond", "report"},
    "command": {"beyond", "report", "scale", "traces"},
    "darkgnn": {*CORE, "training", "traces", "beyond", "baselines", "fast", "scale", "report", "daily", "command"},
    "paper": {*CORE, "training", "traces", "beyond", "baselines", "fast", "report", "daily", "command", "darkgnn"},
}
FLAT = [*sorted(CORE), "training", "darkgnn"]
VENDORED = [*sorted(CORE), "beyond/steady", "beyond/fixed_gcn", "beyond/ranks", "beyond/subnets",
            "beyond/campaigns", "beyond/layout", "beyond/partitions", "traces/synthetic", "baselines/darkvec"]
UNKNOWN_TO_FLAT_FILES = r"\b(processes|torchrun|all_reduce|all_sum|twins?|low_memory|shard\w*|distributed)\b"


def sources(place):
    """The Python files of a flat file or a room."""
    return [ROOT / f"{place}.py"] if place in FLAT else sorted((ROOT / place).glob("*.py"))


def imports(path):
    """The top-level names of all that a file imports, functions' own imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module.split(".")[0]


def test_every_file_has_a_place():
    """The top level holds the paper's files, and every other Python file is in a room that is told here."""
    assert {path.stem for path in ROOT.glob("*.py")} == set(FLAT)
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert rooms == set(ARROWS) - set(FLAT)


@pytest.mark.parametrize("place", ARROWS)
def test_arrows(place):
    """A flat file or room imports of ours only what the house says, and else the run-time packages alone."""
    for path in sources(place):
        optional = OPTIONAL.get(str(path.relative_to(ROOT)), set())
        allowed = {place, *ARROWS[place], *RUN_TIME, *optional, *sys.stdlib_module_names}
        if place == "fast" and path.name != "alone.py":
            allowed -= {"traces"} if path.name == "trees.py" else {"traces", "beyond"}
        if place == "traces" and path.name != "days.py":
            allowed -= {"graph", "features"}
        assert set(imports(path)) <= allowed, path


def test_no_room_imports_in_a_circle():
    """The arrows have an order in which every room stands above all that it imports."""
    left = {place: set(arrows) for place, arrows in ARROWS.items()}
    while left:
        ground = {place for place, arrows in left.items() if not arrows & left.keys()}
        assert ground, f"a circle among {sorted(left)}"
        left = {place: arrows for place, arrows in left.items() if place not in ground}


@pytest.mark.parametrize("place", [*sorted(CORE), "training"])
def test_flat_files_do_not_know(place):
    """The paper's files have no word of processes, twins, or a shortage of memory."""
    text = (ROOT / f"{place}.py").read_text(encoding="utf-8")
    assert not re.findall(UNKNOWN_TO_FLAT_FILES, text)


def test_models_are_told_apart_in_one_table():
    """No code asks for a model by its name: the table MODELS of darkgnn.py says what each is."""
    asked = re.compile(r"\bmodel (==|!=|in) |\.model\.(starts|ends)with")
    for place in set(ARROWS) - {"paper"}:
        for path in sources(place):
            assert not asked.findall(path.read_text(encoding="utf-8")), path


def test_no_file_outgrows_its_reader():
    """No file of the house has more than 450 lines."""
    for place in ARROWS:
        for path in sources(place):
            assert path.read_text(encoding="utf-8").count("\n") <= 450, path


def test_every_vendored_file_imports_alone(tmp_path):
    """Copied into an empty folder, each imports, with torch, numpy and scipy only."""
    names = [Path(module).name for module in VENDORED]
    for module, name in zip(VENDORED, names):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / f"{module}.py", tmp_path / name)
    code = (f"import sys, importlib\nfor module in {names}:\n    sys.path.insert(0, module)\n"
            "    importlib.import_module(module)\n    sys.path.pop(0)\n    del sys.modules[module]")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", sorted(set(ARROWS) - set(FLAT)))
def test_every_room_has_its_page(room):
    """A room's __init__.py says what it is and what it imports, and some page of docs/ tells of it."""
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    assert len(text) > 100 and "mports" in text
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"{room}/" in page.read_text(encoding="utf-8") for page in pages if page.name != "README.md")
