"""The main job, killed again and again, ends where an undisturbed one ends. Slow: `make slow`."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

KILLS, STEPS = 10, 8000
COMMAND = [sys.executable, "-m", "retrograde.cli"]


def final(folder: Path) -> tuple[bytes, list[bytes]]:
    """The metrics, and every array of the last checkpoint, as bytes."""
    from retrograde.recipes import build, read
    from retrograde.training import load_network

    like = build(read("digits")).network(jax.random.key(0))  # in float64 here, the job's is float32
    like = jax.tree.map(lambda leaf: leaf.astype("float32") if eqx.is_inexact_array(leaf) else leaf, like)
    arrays = jax.tree.leaves(eqx.filter(load_network(folder, like), eqx.is_array))
    return (folder / "metrics.csv").read_bytes(), [np.asarray(leaf).tobytes() for leaf in arrays]


def rows(folder: Path) -> int:
    """Lines of metrics so far."""
    path = folder / "metrics.csv"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_the_main_job_killed_ten_times_gives_the_same_bits(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    train = [*COMMAND, "train", "--steps", str(STEPS), "--json", "--out"]
    undisturbed = subprocess.run([*train, str(calm)], check=True, capture_output=True)

    rng, command = random.Random(0), [*train, str(killed)]
    for kill in range(1, KILLS + 1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill % 5:  # else at any moment of the start
            before = rows(killed)
            while rows(killed) == before and process.poll() is None:
                time.sleep(0.02)
        time.sleep(rng.random() * 10)
        assert process.poll() is None, f"the job was over before kill {kill}; give it more steps"
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = sorted(int(path.name) for path in killed.glob("checkpoints/*") if path.name.isdigit())
        print(f"kill {kill}: {rows(killed)} rows of metrics, checkpoints {saved}")
        command = [*COMMAND, "resume", str(killed), "--json"] if (killed / "run.json").exists() else command
    output = subprocess.run(command, check=True, capture_output=True).stdout
    assert json.loads(output)["accuracy"] == json.loads(undisturbed.stdout)["accuracy"]
    assert final(killed) == final(calm)
