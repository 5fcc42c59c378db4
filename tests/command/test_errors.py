"""What cannot be run ends with exit code 2 and one line that says why, and leaves no file."""

import re

import pytest

from tests.command.running import error_of, firewall_lines, firewall_run, nothing_written, run


@pytest.fixture
def firewall(tmp_path):
    return firewall_run(tmp_path)


TROUBLES = {
    "too few days": (dict(days=2), r"2 days of traffic, expected at least 3: --train-days 2"),
    "no host after the filter": (dict(packets=4), r"no host sends 5 TCP packets or more on any day"),
    "one port only": (dict(ports=(22,)), r"no negative edges can be drawn on the days to learn from: one port only"),
    "one host only": (dict(hosts=1), r"no negative edges can be drawn on the days to learn from: one host only"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_hopeless_traces_are_one_line(capsys, tmp_path, firewall, trouble):
    """Each trace that cannot be embedded ends with exit code 2 and one line that says why; nothing is written."""
    changes, expected = TROUBLES[trouble]
    lines = list(firewall_lines(**changes))
    if trouble == "one host only":
        lines = [line.replace("SRC=9.1.0.1", "SRC=9.0.0.0") for line in lines]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    assert re.search(expected, error_of(capsys, *firewall))
    assert nothing_written(tmp_path / "out")


def test_fewer_days_than_the_window(capsys, tmp_path, firewall):
    """A window longer than the trace is one line naming --history."""
    line = error_of(capsys, *firewall, "--history", 6)
    assert "4 days of traffic, expected at least 7" in line and "--history + 1 = 7 days" in line
    assert nothing_written(tmp_path / "out")


def test_no_tcp_at_all(capsys, tmp_path, firewall):
    """A trace of UDP only says that there is nothing to embed."""
    lines = [line for line in firewall_lines() if "PROTO=UDP" in line]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    line = error_of(capsys, *firewall)
    assert re.search(r"no TCP packets over IPv4 in the input: nothing to embed; \d+ UDP$", line)


def test_gcn_gru_without_negatives_on_its_training_days(capsys, tmp_path, firewall):
    """Complete graphs on the training days alone: one line names the day on which nothing could be learned."""
    lines = [line if line.startswith("Jan") else line.replace("DPT=", "DPT=22 OLD=") for line in firewall_lines()]
    (tmp_path / "ufw.log").write_text("\n".join(lines) + "\n")
    line = error_of(capsys, *firewall, "--model", "gcn-gru", "--epochs", 1)
    assert "2021-12-31: gcn-gru learned nothing" in line and "on the training days" in line


@pytest.mark.parametrize("steadily", [[], ["--steady"]], ids=["", "steady"])
def test_training_that_diverges_is_one_line(capsys, tmp_path, firewall, steadily):
    """Embeddings that are no numbers are never written: the line names the day and the flag."""
    line = error_of(capsys, *firewall, "--learning-rate", "1e30", "--epochs", 3, *steadily)
    assert "training diverged" in line and "--learning-rate" in line
    assert nothing_written(tmp_path / "out")


def test_nothing_but_broken_records_is_told_with_their_place(capsys, tmp_path):
    """A table of which no line can be read: the one line says how many were broken, how and where the first is."""
    (tmp_path / "t.csv").write_text("ts,src,dst,dport\n" + "soon,1.2.3.4,5.6.7.8,9\n" * 7)
    line = error_of(capsys, "--input", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert f"nothing to embed; 7 broken records, bad time: {tmp_path / 't.csv'}: line 2" in line


def test_broken_records_are_noted_even_when_quiet(capsys, tmp_path, firewall):
    """--quiet keeps the note that says what was left out and where the first is."""
    with (tmp_path / "ufw.log").open("a") as file:
        file.write(next(firewall_lines()).replace("SRC=9", "SRC=999") + "\n")
    code, _, notes = run(capsys, *firewall, "--model", "features", "--quiet")
    assert code == 0 and re.search("note: 1 broken records? left out, bad source address; the first is", notes)


def test_a_missing_file_is_named(capsys, tmp_path):
    """An input or a label file that does not exist is one line with its name."""
    assert "nowhere.log" in error_of(capsys, "--input", tmp_path / "nowhere.log", "--out", tmp_path / "out")
    (tmp_path / "a.log").write_text("\n".join(firewall_lines()))
    arguments = ["--input", tmp_path / "a.log", "--labels", tmp_path / "none.csv", "--out", tmp_path / "out"]
    assert "none.csv" in error_of(capsys, *arguments)
    assert nothing_written(tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_refused_at_once(capsys, tmp_path, firewall):
    """--out that is a file, or holds a folder in the place of a file, ends the run before anything is read."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    for out in ("file", "taken", "file/below"):
        assert "expected a folder to write to" in error_of(capsys, *firewall, "--out", tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"
