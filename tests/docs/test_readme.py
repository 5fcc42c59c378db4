"""What README.md and the pages of docs/ say: examples run, names and flags exist, links lead somewhere."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
EXAMPLES = re.findall(r"```python\n# ([\w/.]+(?:, [\w/.]+)*): (.*?)```", PAGES["docs/vendor.md"], re.S)
FLAGS_OF_OTHERS = {  # on our pages
    "torchrun": {"--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"},
    "benchmarks": {"--quick", "--only", "--threads", "--json", "--compare", "--hosts", "--scale"},
}


ALONE = """
import os, sys, traceback
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.path[0] = folder
    try:
        exec(compile(open("example.py").read(), folder, "exec"), {"__name__": "example"})
    except BaseException:
        print(folder, traceback.format_exc(), sep="\\n", end="\\0")
    ours = {name.partition(".")[0] for name in os.listdir(folder)}
    for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
        del sys.modules[name]
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """{files: traceback} of the examples of docs/vendor.md that fail, each run in a folder of its own.

    One process runs them all and forgets our modules after each, for PyTorch takes seconds to import. A single file
    lies in the folder itself, several keep their own folders, and one that ends in / is all of a folder.
    """
    folders = {}
    for i, (files, code) in enumerate(EXAMPLES):
        folder, names = tmp_path_factory.mktemp(f"example{i}"), files.split(", ")
        folders[str(folder)] = files
        for name in names:
            if name.endswith("/"):
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target = folder / (Path(name).name if len(names) == 1 else name)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / name, target)
        (folder / "example.py").write_text(f"# {code}", encoding="utf-8")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run([sys.executable, "-c", ALONE, *folders], cwd=elsewhere, capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    assert done.returncode == 0, done.stderr
    return {folders[told.partition("\n")[0]]: told for told in done.stdout.split("\0")[:-1]}


def run(command, folder):
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("files", [files for files, _ in EXAMPLES])
def test_vendoring_examples_run_with_the_named_files(files, failures):
    """Each example of docs/vendor.md runs in a folder that holds the files it names and no others of ours."""
    assert files not in failures, failures[files]


def test_a_file_that_lacks_its_others_is_noticed(tmp_path):
    """An example whose files are not all named would fail: the folder holds no others of ours."""
    shutil.copy(ROOT / "traces" / "labels.py", tmp_path)
    (tmp_path / "example.py").write_text("import labels", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'traces'" in done.stdout


def test_there_is_an_example_for_each_of_the_modules_made_for_vendoring():
    """graph, features, models, knn, steady behaviour, captures, and more."""
    named = {name for files, _ in EXAMPLES for name in files.split(", ")}
    assert named >= {"graph.py", "features.py", "models.py", "knn.py", "beyond/steady.py", "traces/captures.py"}


def test_every_python_block_of_the_vendor_page_is_an_example():
    """No block slips by: each begins with the files that it needs."""
    assert PAGES["docs/vendor.md"].count("```python") == len(EXAMPLES)


def test_the_look_up_runs_on_a_runs_files(tmp_path):
    """The look-up of docs/operate.md runs on what a run leaves and prints a host and its three neighbours a line."""
    code = re.search(r"To look up who is near whom:\n\n```python\n(.*?)```", PAGES["docs/operate.md"], re.S)[1]
    run([ROOT / "darkgnn.py", "--synthetic-scale", "0.005", "--model", "features", "--quiet"], tmp_path)
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 10 and all(len(line) == 4 and line[0] not in line[1:] for line in lines)


def test_the_state_answers_who_behaves_like_whom(tmp_path):
    """The look-up in a state of docs/operate.md runs on the recommended model's and prints a host and three others."""
    code = re.search(r"To ask it who behaves like whom.*?```python\n(.*?)```", PAGES["docs/operate.md"], re.S)[1]
    flags = ["--synthetic-scale", "0.005", "--model", "fixed-gcn", "--state", "darkgnn.state", "--quiet"]
    run([ROOT / "darkgnn.py", *flags], tmp_path)
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    hosts = re.findall(r"\d+\.\d+\.\d+\.\d+", done.stdout)
    assert len(hosts) == 4 and hosts[0] not in hosts[1:]


def test_the_file_tree_is_the_top_level():
    """Every module and every room at the top level is in the file tree, and all that is named there exists."""
    tree = re.search(r"## Files\n\n```\n(.*?)```", README, re.S)[1]
    named = set(re.findall(r"(?:^|  )(\w+\.py|\w+/) ", tree, re.M))
    rooms = {f"{path.parent.name}/" for path in ROOT.glob("*/*.py")}
    assert {path.name for path in ROOT.glob("*.py")} | rooms <= named
    assert all((ROOT / name).exists() for name in named)


def test_named_functions_exist():
    """Every function of the tables of docs/method.md is there."""
    names = re.findall(r"`(\w+(?:\.\w+)+)`", "".join(re.findall(r"^\|.*$", PAGES["docs/method.md"], re.M)))
    assert len(names) > 30
    sys.path.insert(0, str(ROOT))
    for name in names:
        parts = name.split(".")
        folder = ROOT / parts[0]
        module, rest = (".".join(parts[:2]), parts[2:]) if folder.is_dir() else (parts[0], parts[1:])
        found = importlib.import_module(module)
        for part in rest:
            assert hasattr(found, part), name
            found = getattr(found, part)


def test_decisions_are_numbered_one_by_one():
    """The decisions of docs/method.md are 1, 2, 3, ..., and those that the page refers to are among them."""
    page = PAGES["docs/method.md"]
    table = re.search(r"## Decisions\n(.*?)\n## ", page, re.S)[1]
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", table, re.M)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 30
    assert {int(n) for n in re.findall(r"\((?:decision )?(\d+)\)", page)} <= set(numbers)


def test_ci_runs_the_test_command_of_the_readme():
    """.ci/run finds exactly one test command in the README."""
    section = re.search(r"^## Tests\n(.*?)^## ", README, re.S | re.M)[1]
    assert len(re.findall(r"^python3 -m venv .*pytest -q$", section, re.M)) == 1


def test_the_two_commands_stay_two_and_stay_first():
    """Before anything else the README has a command that runs it and one that runs the tests, each a single line."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.S)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "darkgnn.py" in blocks[0] and "pytest" in blocks[1]
    assert all(block.startswith("python3 -m venv") for block in blocks[:2])


def test_the_readme_is_one_page():
    """200 lines at most, of which none is longer than 120 characters but commands and rows of tables."""
    assert len(README.splitlines()) <= 200
    prose = re.sub(r"^```.*?^```", "", README, flags=re.S | re.M)
    assert not [line for line in prose.splitlines() if len(line) > 120 and line[0] != "|"]


def anchors(page):
    """The anchors of a page's headings, formed as GitHub forms them; blocks of code have none."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.S | re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("name", PAGES)
def test_relative_links_lead_somewhere(name):
    """Every [text](page#anchor) names a file of this repository and a heading in it."""
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.S | re.M)
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), f"{name}: {path}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}: {path}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_every_flag_exists(name):
    """A flag that a page names is one of darkgnn.py --help, or of another program's that the page is about."""
    sys.path.insert(0, str(ROOT))
    import darkgnn
    from command import flags
    ours = set(re.findall(r"--[a-z][a-z-]*", flags.argument_parser(darkgnn.MODELS, "").format_help()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGES[name]))
    assert named <= ours.union(*FLAGS_OF_OTHERS.values()), named - ours


@pytest.mark.parametrize("name", PAGES)
def test_every_model_exists(name):
    """A model that a page's command names is one of darkgnn.py's."""
    sys.path.insert(0, str(ROOT))
    import darkgnn
    assert set(re.findall(r"--model ([a-z-]+)", PAGES[name])) <= set(darkgnn.MODELS)


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist(name):
    """A path in backticks, with a folder and an ending of ours, is there."""
    for path in re.findall(r"`((?:tests|docs|benchmarks|fast|scale|traces|beyond|daily|report|baselines|paper|command)/"
                           r"[\w/]+\.(?:py|md|txt))`", PAGES[name]):
        assert (ROOT / path).exists(), f"{name}: {path}"
