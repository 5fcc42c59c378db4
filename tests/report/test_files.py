"""The files that a run leaves: whole or not at all."""

import json
import os

import numpy as np
import pytest
import torch

from report import files


def test_rows_after_the_last_day_are_cut_off(tmp_path):
    """A file that goes on loses the rows of later days and a broken end, whatever the blocks it is read by."""
    path = tmp_path / "predictions.csv"
    rows = "".join(f"2021-12-{day:02},9.9.9.{i},Unknown\n" for day in (8, 9, 10) for i in range(40))
    for text, last, kept in ((rows, "2021-12-10", 121), (rows + "2021-12-11,1.", "2021-12-10", 121),
                             (rows, "2021-12-09", 81), (rows[:-3], "2021-12-10", 120), (rows, "", 1)):
        path.write_text("date,host,label\n" + text)
        for step in (7, 100, 1 << 20):
            with path.open("rb") as file:
                end = files.end_of_day(file, last, step)
            assert path.read_text()[:end].count("\n") == kept and path.read_text()[end - 1] == "\n"
    path.write_text("date,host,la")
    with path.open("rb") as file:
        assert files.end_of_day(file, "2021-12-10") == 0
    with files.rows_of_days(path, "date,host,label", "2021-12-10") as write:
        write("2021-12-11,a\n")
        assert path.read_text() == "date,host,label\n2021-12-11,a\n"


def test_rows_of_a_new_file_appear_at_the_end(tmp_path):
    """Without a state the file appears when the run ends, whole; not where it fails, and not where no day had rows."""
    path = tmp_path / "predictions.csv"
    with files.rows_of_days(path, "date,host") as write:
        write("2021-12-11,a\n")
        write("2021-12-12,b\n")
        assert not path.exists()
    assert path.read_text() == "date,host\n2021-12-11,a\n2021-12-12,b\n"
    with pytest.raises(RuntimeError), files.rows_of_days(path, "date,host") as write:
        write("2021-12-13,c\n")
        raise RuntimeError
    assert path.read_text().endswith("2021-12-12,b\n") and len(list(tmp_path.iterdir())) == 1
    with files.rows_of_days(tmp_path / "none.csv", "date,host"):
        pass
    assert not (tmp_path / "none.csv").exists()


def test_dotted_addresses():
    """Integers become dotted quads."""
    addresses = np.array([0, 1, 2**32 - 1, 0x01020304], np.uint32)
    assert files.dotted(addresses).tolist() == ["0.0.0.0", "0.0.0.1", "255.255.255.255", "1.2.3.4"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    """An error while writing leaves the old file as it was and no other behind; success replaces it."""
    path = tmp_path / "sub" / "report.json"
    files.save_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.whole_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["report.json"]
    with pytest.raises(ValueError):
        files.save_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o666 & ~files.UMASK


def test_embeddings_are_read_without_pickle(tmp_path):
    """Hosts as text, embeddings as float32, whatever they were computed in."""
    files.save_embeddings(tmp_path / "d.npz", files.dotted(np.array([5, 7], np.uint32)),
                          torch.eye(2, dtype=torch.float64))
    with np.load(tmp_path / "d.npz", allow_pickle=False) as saved:
        assert saved["hosts"].tolist() == ["0.0.0.5", "0.0.0.7"] and saved["embeddings"].dtype == np.float32


def test_lines_of_predictions():
    """Names with commas are quoted; a host without surprise has an empty field."""
    lines = files.prediction_lines(
        "2021-12-31", np.array(["1.2.3.4", "1.2.3.5"]), ("Unknown", 'a, "b"'), torch.tensor([1, 0]),
        torch.tensor([0, 1]), torch.tensor([2 / 3, 1]), torch.tensor([0.5, -0.25]), torch.tensor([torch.nan, 1.5]))
    assert lines == ('2021-12-31,1.2.3.4,"a, ""b""",Unknown,0.67,0.5000,\n'
                     '2021-12-31,1.2.3.5,Unknown,"a, ""b""",1.00,-0.2500,1.5000\n')


def test_an_earlier_runs_files_are_removed_and_no_others(tmp_path):
    """All that a run writes and half wrote goes; with a last day only what is later; others' files stay."""
    days = [tmp_path / "embeddings" / f"2021-12-{day}.npz" for day in (30, 31)]
    half = [tmp_path / ".report.json.abcdefgh", tmp_path / "embeddings" / ".2021-12-31.npz.abcdefgh"]
    mine = [tmp_path / "notes.txt", tmp_path / "embeddings" / "mine.npz", tmp_path / ".report.json.bak"]
    (tmp_path / "embeddings").mkdir()
    for path in (*days, *half, *mine, *(tmp_path / name for name in files.NAMES)):
        path.write_text("x")
    files.remove_earlier(tmp_path, "2021-12-30")
    assert days[0].exists() and not days[1].exists() and not any(path.exists() for path in half)
    assert all((tmp_path / name).exists() for name in files.NAMES)
    files.remove_earlier(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)


def test_a_folder_is_made_or_refused(tmp_path):
    """check_folder makes the folder and leaves nothing in it; a file in its place is a ValueError."""
    files.check_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == ["embeddings"] and not os.listdir(tmp_path / "a" / "b" / "embeddings")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="expected a folder to write to"):
        files.check_folder(tmp_path / "file")
