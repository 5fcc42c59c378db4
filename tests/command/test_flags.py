"""The flags: their defaults by model, what does not go together, and what --help says."""

import re

import pytest
import torch

import darkgnn
from command import flags


@pytest.mark.parametrize("arguments, expected", [
    (["--train-days", "-1"], "--train-days: expected a whole number, 0 or more, got '-1'"),
    (["--learning-rate", "nan"], "--learning-rate: expected a positive number, got 'nan'"),
    (["--weight-decay", "inf"], "--weight-decay: expected a number, 0 or more, got 'inf'"),
    (["--runs", "0"], "--runs: expected a positive whole number"),
    (["--year", "1850"], "--year: expected a year in "),
    (["--model", "gat"], "--model: invalid choice: 'gat'"),
    (["--steady", "fast"], "--steady: invalid choice: 'fast'"),
    (["--model", "gcn-gru", "--train-days", "5"], "expected --train-days > 5, got 5"),
    (["--model", "features", "--no-node-features"], "--model features is made of the node features"),
    (["--model", "fixed-gcn", "--no-node-features"], "does not go with --no-node-features"),
    (["--model", "gcn", "--no-node-features", "--steady"], "without node features gcn has rows for today's nodes only"),
    (["--labels", "x.csv"], "--strict and --no-tunnels go with --input: the synthetic month has its own labels"),
    (["--no-tunnels"], "--no-tunnels go with --input"),
    (["--mirai-packets", "3"], "--mirai-packets goes with --mirai"),
    (["--hidden-width", "1000000000000"], "--hidden-width: expected a whole number in 1..65536"),
    (["--seed", str(2**64)], "--seed and --runs: expected seeds below 2^32"),
    (["--input", ".", "--out", "./out"], "--out out lies inside --input ."),
    (["--input", ".", "--state", "./x.state", "--out", "/tmp/elsewhere"], "--state x.state lies inside --input ."),
    (["--state", "x", "--runs", "2"], "--state keeps one model: expected --runs 1, got 2"),
    (["--forget-days", "3"], "--forget-days goes with --state"),
])
def test_bad_flags_exit_with_2_and_say_what_was_expected(capsys, arguments, expected):
    """A flag that makes no sense is refused before anything is read."""
    with pytest.raises(SystemExit) as stop:
        darkgnn.main(arguments)
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and expected in complaint and complaint.count("\n") == 1
    assert complaint.startswith("darkgnn: error: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_not_there_is_refused(capsys):
    """--device cuda without a GPU is one line; auto takes the CPU."""
    with pytest.raises(SystemExit):
        darkgnn.main(["--device", "cuda"])
    assert "--device cuda: no CUDA device is available to this PyTorch" in capsys.readouterr().err
    assert darkgnn.parse_arguments([]).device == "cpu"


@pytest.mark.parametrize("flag", ["--no-node-features", "--plain", "--model=i-darkvec", "--campaigns"])
def test_what_runs_in_one_process_is_refused_under_torchrun(capsys, monkeypatch, flag):
    """Of several processes the first says it."""
    monkeypatch.setattr(flags.scale, "started", lambda: 2)
    with pytest.raises(SystemExit):
        darkgnn.main([flag])
    assert f"{flag.replace('=', ' ')} runs in one process, got 2 from torchrun" in capsys.readouterr().err


def test_defaults_depend_on_the_model():
    """Epochs, the history that a model has, and what --steady and fixed-gcn turn on."""
    def parsed(*arguments):
        return darkgnn.parse_arguments([*arguments])
    assert parsed().model == "i-gcn-gru" and parsed().steady is None and parsed().history == 5
    assert [parsed("--model", model).epochs for model in darkgnn.MODELS] == [50, 1, 50, 1, 0, 1, 0]
    assert [parsed("--model", model, "--no-node-features").epochs for model in ("gcn", "i-gcn", "i-gcn-gru")] == \
        [50, 5, 5]
    assert parsed("--model", "i-gcn", "--epochs", "7").epochs == 7
    assert [parsed("--model", model).history for model in darkgnn.MODELS] == [0, 0, 5, 5, 0, 0, 0]
    assert parsed("--steady").steady == "memory" and parsed("--steady", "rank").steady == "rank"
    assert parsed("--model", "fixed-gcn").steady == "memory"
    assert parsed("--model", "fixed-gcn", "--steady", "whitened").steady == "whitened"
    assert parsed("--model", "i-darkvec").no_node_features is True
    assert parsed("--state", "x").forget_days == 31 and parsed("--state", "x", "--forget-days", "9").forget_days == 9


def test_the_sizes_of_campaigns_go_with_them():
    """Without --campaigns there are none; with it their defaults, or what is given."""
    plain, grouped = darkgnn.parse_arguments(["--campaign-size", "9"]), darkgnn.parse_arguments(["--campaigns"])
    assert (plain.campaigns, plain.campaign_size, plain.campaign_memory) == (None, None, None)
    assert (grouped.campaigns, grouped.campaign_size, grouped.campaign_memory) == (True, 5, 7)
    with pytest.raises(SystemExit):
        darkgnn.parse_arguments(["--campaigns", "--campaign-size", "1"])


def test_help_names_every_model_and_flag(capsys):
    """--help fits 100 columns, names every model, and tells no flag's default as None or False."""
    with pytest.raises(SystemExit) as stop:
        darkgnn.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and max(map(len, text.splitlines())) <= 100
    assert all(model in text for model in darkgnn.MODELS)
    assert not re.search(r"default:\s+(None|False)", text) and "SUPPRESS" not in text
