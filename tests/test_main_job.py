"""The main job, killed again and again, ends where an undisturbed one ends. Slow: `make slow`."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

KILLS, STEPS = 10, 4000
COMMAND = [sys.executable, "-m", "retrograde.cli"]


def final(folder: Path) -> tuple[bytes, list[bytes]]:
    """The metrics, and every array of the last checkpoint, as bytes."""
    from retrograde.recipes import build, read
    from retrograde.training import load_network

    network = load_network(folder, build(read("digits")).network)
    arrays = [leaf for leaf in jax.tree.leaves(network) if hasattr(leaf, "shape")]
    return (folder / "metrics.csv").read_bytes(), [np.asarray(leaf).tobytes() for leaf in arrays]


@pytest.mark.slow
def test_the_main_job_killed_ten_times_gives_the_same_bits(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    train = [*COMMAND, "train", "--steps", str(STEPS), "--json", "--out"]
    undisturbed = subprocess.run([*train, str(calm)], check=True, capture_output=True)

    rng, kills = random.Random(0), 0
    command = [*train, str(killed)]
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait = 4 + rng.random() * 8 if kills < KILLS else None
        try:
            output, error = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            print(
                f"kill {kills} after {wait:.1f} s, checkpoints {sorted(p.name for p in killed.glob('checkpoints/*'))}"
            )
            time.sleep(0.1)
            command = [*COMMAND, "resume", str(killed), "--json"] if (killed / "run.json").exists() else command
            continue
        assert process.returncode == 0, error.decode()
        if kills >= KILLS:
            break
        pytest.fail(f"the job was over after {kills} kills; give it more steps")
    assert json.loads(output)["accuracy"] == json.loads(undisturbed.stdout)["accuracy"]
    assert final(killed) == final(calm)
