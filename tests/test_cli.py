"""The command: what it prints, where, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from runs import TINY, tiny_run

import retrograde
from retrograde import selfcheck
from retrograde.cli import main
from retrograde.cli._errors import Interrupted, resumable

COMMAND = [sys.executable, "-m", "retrograde.cli"]


def printed(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def as_json(capsys, *arguments: str):
    return json.loads(printed(capsys, *arguments))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_no_jax(arguments):
    code = (
        "import sys; from retrograde.cli import main; status = main(sys.argv[1:]); "
        "slow = {'jax', 'numpy', 'equinox', 'matplotlib'} & set(sys.modules); "
        "print('slow:', sorted(slow), 'status:', status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "slow: [] status: 0" in done.stdout
    assert done.stderr == ""


def test_help_is_quick():
    """Half a second is allowed. Processor time is measured, since the machine may be busy with other things."""
    best = np.inf
    for _ in range(3):
        before = os.times()
        subprocess.run([*COMMAND, "--help"], capture_output=True, check=True)
        after = os.times()
        best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
    assert best < 0.5


def test_library_is_imported_part_by_part():
    code = (
        "import sys, retrograde as rg; assert 'jax' not in sys.modules; rg.losses; assert 'jax' in sys.modules; "
        "assert 'matplotlib' not in sys.modules; assert set(rg.__all__) <= set(dir(rg))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="'netwerk'"):
        retrograde.netwerk


def test_version(capsys):
    assert printed(capsys, "--version") == f"retrograde {retrograde.__version__}\n"


def test_train_ends_with_numbers_and_where_to_look(capsys, tmp_path):
    run = tmp_path / "run"
    out = printed(capsys, "train", "--steps", "2", "--seed", "3", "--out", str(run), *TINY)
    for needed in (
        "mean-field",
        "annealed",
        "quenched",
        "certain",
        "absent",
        "uncertain",
        "n = 2",
        "2 updates by bptt",
    ):
        assert needed in out
    assert f"figure  {run}/figure.png" in out
    assert f"retrograde report {run}" in out
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "seed = 3" in (run / "recipe.toml").read_text()


def test_train_json(capsys, tmp_path):
    run = tmp_path / "run"
    result = as_json(capsys, "train", "digits", "--steps", "2", "--seeds", "2", "--out", str(run), "--json", *TINY)
    assert (result["task"], result["rule"], result["steps"], result["seeds"]) == ("sequential_digits", "bptt", 2, 2)
    assert result["run"] == str(run)
    assert result["seconds"] > 0
    assert list(result["accuracy"]) == ["mean_field", "annealed", "quenched"]
    for accuracy in result["accuracy"].values():
        assert 0 <= accuracy["mean"] <= 1 and 0 <= accuracy["sd"] < 0.5
    for shares in result["connections"].values():
        np.testing.assert_allclose(sum(shares.values()), 1)

    # The same networks, measured again from their checkpoint with the same draws.
    again = as_json(capsys, "evaluate", str(run), "--json")
    assert again["accuracy"] == result["accuracy"]
    assert (again["seeds"], again["samples"]) == (2, 2)


def test_dry_run_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forecast = as_json(capsys, "train", "digits", "--dry-run", "--json", *TINY)
    assert list(tmp_path.iterdir()) == []
    # 2 time steps of 2 inputs, 4 neurons, 10 outputs; three numbers for each connection
    assert forecast["parameters"]["input->hidden.m"] == [4, 2]
    assert forecast["parameters_in_all"] == 3 * (4 * 2 + 4 * 4 + 10 * 4)
    assert forecast["credit"] == dict.fromkeys(forecast["parameters"], "exact")
    assert forecast["memory_bytes"] > 8 * 3 * forecast["parameters_in_all"]
    expected = forecast["compile_seconds"] + forecast["steps"] * forecast["seconds_per_update"]
    np.testing.assert_allclose(forecast["seconds"], expected, rtol=0.01, atol=0.01)


def test_resume_goes_on_to_the_same_numbers(capsys, tmp_path):
    longer = as_json(capsys, "train", "digits", "--steps", "6", "--out", str(tmp_path / "whole"), "--json", *TINY)
    shutil.copytree(tiny_run(), tmp_path / "parts")
    resumed = as_json(capsys, "resume", str(tmp_path / "parts"), "--steps", "6", "--json")
    assert resumed["steps"] == 6
    assert resumed["accuracy"] == longer["accuracy"]
    assert resumed["loss"] == longer["loss"]


def test_a_regression_has_losses_and_no_accuracies(capsys, tmp_path):
    run = tmp_path / "run"
    out = printed(capsys, "train", "sine", "--steps", "2", "--out", str(run), "--set", "task.period=20")
    assert "test loss" in out and "%" not in out and "nan" not in out
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")
    drawn = printed(capsys, "sample", str(run), "--networks", "1")
    assert " – " in drawn and "nan" not in drawn


def test_sample_saves_networks_that_differ(capsys, tmp_path):
    out = as_json(capsys, "sample", str(tiny_run()), "--networks", "2", "--out", str(tmp_path), "--json")
    weights = []
    for network in out["networks"]:
        with np.load(network["path"], allow_pickle=False) as file:
            weights.append({name: file[name] for name in file.files})
    assert weights[0].keys() == {"input->hidden", "hidden->hidden", "hidden->readout"}
    assert weights[0]["hidden->readout"].shape == (10, 4)
    assert not np.array_equal(weights[0]["hidden->hidden"], weights[1]["hidden->hidden"])
    again = as_json(capsys, "sample", str(tiny_run()), "--networks", "1", "--out", str(tmp_path / "again"), "--json")
    assert again["networks"][0]["accuracy"] == out["networks"][0]["accuracy"]


@pytest.mark.parametrize("kind", ["neurons", "synapses", "rules", "tasks", "recipes", "comparisons"])
def test_list(kind, capsys):
    parts = as_json(capsys, "list", kind, "--json")[kind]
    table = printed(capsys, "list", kind)
    known = {
        "neurons": "leaky_rate",
        "synapses": "spike_and_slab",
        "rules": "bptt",
        "tasks": "add",
        "recipes": "digits",
        "comparisons": "digits-rules",
    }
    assert known[kind] in parts
    for name, line in parts.items():
        assert name in table
        assert len(line) > 10


def test_data(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RETROGRADE_DATA", str(tmp_path))
    states = {state["name"]: state["state"] for state in as_json(capsys, "data", "check", "--json")}
    assert states == {"digits": "intact"} | dict.fromkeys(("mnist", "ecg", "fsdd", "nmnist"), "absent")
    assert "shipped" in printed(capsys, "data", "list")


def test_doctor_tells_what_is_broken(capsys, monkeypatch):
    def broken():
        raise ArithmeticError("2 + 2 = 5")

    for name in ("_devices", "_cache", "_learning", "_versions"):
        monkeypatch.setattr(selfcheck, name, lambda: "fine")
    found = as_json(capsys, "doctor", "--json")
    assert found["ok"] and len(found["checks"]) == 7
    monkeypatch.setattr(selfcheck, "_digits", broken)
    monkeypatch.setattr(selfcheck, "_gradient", lambda dtype, tolerance: "fine")
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED   shipped digits   " in out and "2 + 2 = 5" in out
    assert err == "retrograde: 1 of 7 checks failed: shipped digits\n"


def test_doctor_finds_a_wrong_gradient(monkeypatch):
    from retrograde.rules import BPTT, TruncatedBPTT

    truncated = TruncatedBPTT(2)
    monkeypatch.setattr(BPTT, "unroll", lambda self, *a, **k: truncated.unroll(*a, **k))
    with pytest.raises(ArithmeticError, match="finite differences"):
        selfcheck._gradient("float64", 1e-6)


def test_interruption_says_how_to_go_on(tmp_path, capsys):
    with pytest.raises(Interrupted) as caught, resumable(tmp_path):
        raise KeyboardInterrupt
    assert f"retrograde resume {tmp_path}" in str(caught.value)
    with pytest.raises(Interrupted) as caught, resumable(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert caught.value.number == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_interrupted_run_is_resumed(number, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "digits", "--steps", "1000000", "--out", str(run), *TINY]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list((run / "checkpoints").glob("[0-9]*[0-9]")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"retrograde resume {run}" in err
    assert "Traceback" not in err and out == ""


def test_reader_who_leaves_early_is_no_error():
    process = subprocess.Popen([*COMMAND, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert err == b""
    assert process.returncode == 1


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("RETROGRADE_DEBUG", "1")
    assert main(["train", "digts"]) == 2
    assert "Traceback" in capsys.readouterr().err
