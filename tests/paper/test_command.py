"""`python -m paper`: what is wrong is said in one line with exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

import paper
from paper import __main__ as command
from paper import experiments
from tests.paper.tiny import DAY, START, run, without_labels


@pytest.mark.parametrize("arguments, expected", [
    (["table3", "--model", "gcn"], "table3 sets --model itself: expected none, got --model"),
    (["table3", "--no-node"], "table3 sets --no-node-features itself"),
    (["figure4b", "--epochs=3"], "figure4b sets --epochs itself: expected none, got --epochs=3"),
    (["beyond", "--steady"], "beyond sets --steady itself: expected none, got --steady"),
    (["all", "--history", "3"], "figure4a sets --history itself"),
    (["figure4a", "--train-days", "3"], "on the same test days: expected --train-days 8 or more, got 3"),
    (["table3", "--train-days", "4"], "gcn-gru trains on windows of --history + 1 days"),
    (["table2", "--seed", "x"], "argument --seed: expected a whole number, 0 or more, got 'x'"),
    (["table2", "--state", "x.state"], "--state goes with darkgnn.py"),
    (["table2", "--wrong"], "unrecognized arguments: --wrong"),
    (["table2", "--input", "nowhere.log"], "nowhere.log: expected a file or a folder"),
    (["table2", "--input", "-"], "-: expected a file or a folder, which every cell reads anew"),
    (["table3", "--labels", "l.csv"], "go with --input: the synthetic month has its own"),
])
def test_errors_are_one_line(capsys, tmp_path, arguments, expected):
    """Exit code 2 and one line, before anything is read or written."""
    code, printed, complaint = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 2 and printed == "" and complaint.count("\n") == 1
    assert complaint.startswith("paper: error: ") and expected in complaint and "darkgnn: error" not in complaint
    assert not (tmp_path / "out").exists()


def test_cells_have_the_same_test_days(capsys, tmp_path, monkeypatch):
    """Models with and without a history, and too few training days: refused, for their test days would differ."""
    monkeypatch.setattr(experiments, "BEYOND", {"features": ("max",), "i-gcn-gru": ("max",)})
    code, _, complaint = run(capsys, "beyond", "--train-days", 4, "--out", tmp_path / "out")
    assert (code, complaint) == (2, "paper: error: beyond compares histories up to 5 on the same test days: expected "
                                    "--train-days 5 or more, got 4\n")
    assert not (tmp_path / "out").exists()


def test_torchrun_is_refused(capsys, tmp_path, monkeypatch):
    """Of several processes each would make all cells: exit code 2 and one line."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        command.main(["table2", "--out", str(tmp_path / "out")])
    printed, complaint = capsys.readouterr()
    assert ended.value.code == 2 and printed == "" and complaint.count("\n") == 1
    assert complaint.startswith("paper: error: ") and "in one process, got 2 from torchrun" in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, expected", [
    ([], "required: EXPERIMENT"), (["table9"], "invalid choice: 'table9' (choose from"), (["table9"], "figure4b"),
])
def test_the_experiment_is_told(capsys, arguments, expected):
    """No experiment, or none of these: exit code 2 and one line."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    complaint = capsys.readouterr().err
    assert ended.value.code == 2 and complaint.startswith("paper: error: ") and complaint.count("\n") == 1
    assert expected in complaint


def test_help_names_every_experiment(capsys):
    """--help: exit code 0 and a line for each."""
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    for name in (*command.experiments.NAMES, "all"):
        assert f"\n    {name} " in printed, name


def test_the_command_runs_as_a_module(tmp_path, trace):
    """`python -m paper` as a process of its own."""
    done = subprocess.run([sys.executable, "-m", "paper", "table2", *map(str, trace)], capture_output=True, text=True,
                          cwd=Path(paper.__file__).parent.parent)
    assert done.returncode == 0 and done.stdout.endswith("paper: its own data, Table 2, not ours.\n"), done.stderr


def test_nothing_to_score_is_one_line(capsys, tmp_path, trace):
    """table3 and figure 4 compare scores: without labels, or with small classes only, they say so after one cell."""
    trace += ["--history", 1]
    code, printed, complaint = run(capsys, "table3", *without_labels(trace))
    assert code == 2 and "no --labels given" in complaint and printed.count("[table3") == 1
    (tmp_path / "l.csv").write_text("src_ip,label\n7.0.0.1,few\n")
    code, _, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 2 and complaint.endswith("no class has more than 10 active hosts on a test day\n")
    assert not (tmp_path / "out" / "figure4b.csv").exists()


def test_an_output_that_is_a_file(capsys, tmp_path, trace):
    """--out names a file: one line, before anything is computed."""
    (tmp_path / "out").write_text("mine")
    code, printed, complaint = run(capsys, "table2", *trace)
    assert code == 2 and printed == "" and complaint.startswith("paper: error: ") and complaint.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_what_was_read_is_said(capsys, tmp_path, trace):
    """Packets read and records skipped are said, and a reader's warnings once, however many cells."""
    with (tmp_path / "t.csv").open("a") as file:
        file.write(f"{START + 9 * DAY},1.2.3.4,9.9.9.9,80\n")
    code, printed, complaint = run(capsys, "figure4b", *trace, "--history", 1)
    assert code == 0 and "read 1 files, " in printed and complaint.count("no packets from 2021-12-05") == 1
