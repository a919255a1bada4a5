"""Run folders: resuming is exact, and whatever happens to the folder gets a clear answer."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import training_zoo as tiny
from training_zoo import ENSEMBLE, PLAIN, SGD, arrays, fit

from retrograde import training
from retrograde.training import CheckpointError, Checkpoints, RunError, _checkpoints, _run

CHILD = [sys.executable, str(Path(tiny.__file__).resolve())]
EVERY = {"log_every": 7, "checkpoint_every": 10}


def assert_same(a, b):
    for x, y in zip(arrays(a.network), arrays(b.network), strict=True):
        np.testing.assert_array_equal(x, y)
    for metric in ("step", "loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy"):
        np.testing.assert_array_equal(getattr(a.history, metric), getattr(b.history, metric))


def metrics(folder):
    return (folder / "metrics.csv").read_bytes()


def no_warning(message):
    pytest.fail(message)


TREE = {
    "a": {"x": jnp.arange(6.0).reshape(2, 3), "nothing": None},
    "b": [jnp.asarray(3, jnp.int32), jr.key(5), jnp.zeros((0, 4)), np.arange(3), jnp.asarray([True, False])],
}


def test_a_checkpoint_reads_back_to_the_same_bits(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.save(step, TREE)
    assert checkpoints.steps() == [15, 10]
    step, tree = checkpoints.load(TREE, no_warning)
    assert step == 15 and jax.tree.structure(tree) == jax.tree.structure(TREE)
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(TREE), strict=True):
        assert x.dtype == y.dtype and type(x) is type(y)
        np.testing.assert_array_equal(_checkpoints._to_numpy(x), _checkpoints._to_numpy(y))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle")]
    _, part = checkpoints.load({"a": TREE["a"]}, no_warning, step=10)
    np.testing.assert_array_equal(part["a"]["x"], TREE["a"]["x"])


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(5, TREE)
    other = {"a": {"x": jnp.zeros((2, 4)), "nothing": None}, "b": TREE["b"]}
    with pytest.raises(CheckpointError, match=r"another network.*\['x'\] of shape \(2, 3\).*needs.*\(2, 4\)"):
        checkpoints.load(other, no_warning)


def spoil(folder, how):
    """Damages the largest file of a checkpoint."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif how == "missing":
        path.unlink()
    else:
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, how):
    checkpoints = Checkpoints(tmp_path, keep=3)
    values = np.random.default_rng(0).normal(size=1000)
    for step in (5, 10):
        checkpoints.save(step, {"x": jnp.asarray(values + step)})
    spoil(tmp_path / "00000010", how)
    warnings = []
    step, tree = checkpoints.load({"x": jnp.zeros(1000)}, warnings.append)
    assert step == 5 and len(warnings) == 1 and "00000010 is damaged" in warnings[0]
    np.testing.assert_array_equal(tree["x"], values + 5)
    spoil(tmp_path / "00000005", how)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read \(00000010.*00000005.*new folder"):
        checkpoints.load({"x": jnp.zeros(1000)}, warnings.append)


def test_wrong_numbers_in_a_readable_checkpoint_are_noticed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=3)
    monkeypatch.setattr(_checkpoints, "_digest", lambda arrays: "of other arrays")
    checkpoints.save(5, TREE)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="the digest of its arrays"):
        checkpoints.load(TREE, lambda message: None)


def test_resuming_is_exact(tmp_path):
    """Stopped between checkpoints, logged steps and epochs, with noise, early checks and validation."""
    options = {"validate_every": 15, **EVERY}
    whole = fit(steps=33, folder=tmp_path / "whole", **options)
    fit(steps=18, folder=tmp_path / "parts", **options)
    assert metrics(tmp_path / "parts") != metrics(tmp_path / "whole")
    # what was written after the checkpoint of step 18, by a process that was then killed, is cut off
    with open(tmp_path / "parts" / "metrics.csv", "a") as file:
        file.write("21,0,1.0,1.0,1.0,,\n28,0,1.0,")
    (tmp_path / "parts" / "checkpoints" / "00000020.orbax-checkpoint-tmp").mkdir()
    resumed = fit(steps=33, folder=tmp_path / "parts", resume=True, **options)
    assert_same(resumed, whole)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "parts" / "checkpoints").iterdir()) == [
        "00000020",
        "00000030",
        "00000033",
    ]
    # a finished run, resumed, is left as it is
    assert_same(fit(steps=33, folder=tmp_path / "parts", resume=True, **options), whole)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    read = training.read_history(tmp_path / "whole")
    np.testing.assert_array_equal(read.loss, whole.history.loss)
    np.testing.assert_array_equal(read.validation_accuracy, whole.history.validation_accuracy)


def test_resuming_from_an_older_checkpoint_is_exact(tmp_path):
    whole = fit(steps=25, folder=tmp_path / "run", **EVERY)
    before = metrics(tmp_path / "run")
    spoil(tmp_path / "run" / "checkpoints" / "00000025", "truncated")
    with pytest.warns(UserWarning, match="00000025 is damaged"):
        resumed = fit(steps=25, folder=tmp_path / "run", resume=True, **EVERY)
    assert_same(resumed, whole)
    assert metrics(tmp_path / "run") == before
    assert (tmp_path / "run" / "checkpoints" / "00000025.damaged").is_dir()


def test_the_folder_says_what_was_run(tmp_path):
    result = fit(steps=20, folder=tmp_path / "run", recipe={"rule": {"name": "bptt"}}, **EVERY)
    run = training.read_run(tmp_path / "run")
    assert run["recipe"] == {"rule": {"name": "bptt"}}
    assert run["settings"]["batch"] == 8 and run["versions"]["jax"] == jax.__version__ and run["devices"]
    outcome = json.loads((tmp_path / "run" / "result.json").read_text())
    assert outcome["step"] == 20 and outcome["loss"] == [result.history.loss[0, -1]]
    assert (tmp_path / "run" / "timing.csv").read_text().startswith("time,step,seconds,steps_per_second\n")
    network = training.load_network(tmp_path / "run", ENSEMBLE)
    for x, y in zip(arrays(network), arrays(result.network), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(RunError, match="seeds 0 to 0, not 1"):
        training.load_network(tmp_path / "run", ENSEMBLE, seed=1)
    with pytest.raises(CheckpointError, match="another network"):
        training.load_network(tmp_path / "run", PLAIN)


@pytest.fixture
def run(tmp_path):
    """A folder with a short run in it."""
    fit(steps=10, folder=tmp_path / "run", **EVERY)
    return tmp_path / "run"


def test_a_folder_is_not_overwritten(tmp_path, run):
    with pytest.raises(RunError, match="holds a run already; resume it"):
        fit(steps=10, folder=run, **EVERY)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    for resume in (False, True):
        with pytest.raises(RunError, match=r"not empty and not a run.*thesis\.tex.*name a new or an empty folder"):
            fit(folder=mine, resume=resume)
    with pytest.raises(RunError, match="is a file"):
        fit(folder=mine / "thesis.tex")
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is not a run folder"):
        training.read_run(mine)
    with pytest.raises(RunError, match="cannot read the metrics"):
        training.read_history(mine)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"key": jr.key(9)}, "started with key"),
        ({"batch": 9}, "started with batch = 8, not 9"),
        ({"steps": 9}, "has made 10 updates already"),
        ({"network": PLAIN, "optimiser": SGD}, "belongs to another network, rule or optimiser"),
    ],
)
def test_a_run_is_resumed_as_it_began(run, options, message):
    with pytest.raises(RunError, match=message):
        fit(**({"steps": 20, "folder": run, "resume": True} | EVERY | options))


def test_lost_metrics_are_noticed(run):
    (run / "metrics.csv").write_text("step\n")
    with pytest.raises(RunError, match="it was changed or lost"):
        fit(steps=20, folder=run, resume=True, **EVERY)


def test_resume_starts_a_run_that_is_not_there(tmp_path):
    assert fit(steps=2, folder=tmp_path / "new", resume=True).step == 2


def test_two_runs_in_one_folder_are_refused(tmp_path):
    folder, settings = tmp_path / "run", {"steps": 1}
    with (
        _run.Run(folder, settings=settings, recipe=None, keep=1, resume=False),
        pytest.raises(RunError, match=rf"in use by another run \(process {os.getpid()} on"),
    ):
        _run.Run(folder, settings=settings, recipe=None, keep=1, resume=True)
    # free again: after `with`, and
    _run.Run(folder, settings=settings, recipe=None, keep=1, resume=True).close()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from retrograde.training._run import _lock\n"
        "lock = _lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match=f"process {process.pid} on"):
            _run._lock(tmp_path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    _run._lock(tmp_path).close()


def test_a_folder_that_cannot_be_written(tmp_path):
    """Root may write anywhere; `/proc` refuses even root."""
    for folder in ("/proc/run", "/proc/self/run"):
        with pytest.raises(RunError, match=r"cannot use /proc/.*folder"):
            fit(steps=1, folder=folder)
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    if os.access(closed, os.W_OK):
        return
    with pytest.raises(RunError, match="You may not write there: name another folder"):
        fit(steps=1, folder=closed / "run")


def test_a_read_only_disk_is_named(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match="The file system is read-only: name a folder elsewhere"):
        fit(steps=1, folder=tmp_path / "run")


def test_a_full_disk_while_writing_metrics(run, monkeypatch):
    def full(file, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = fit(steps=20, **EVERY)
    with monkeypatch.context() as patch:
        patch.setattr(_run, "_write", full)
        with pytest.raises(RunError, match=r"cannot write .*metrics\.csv.*disk is full: free some space, then resume"):
            fit(steps=20, folder=run, resume=True, **EVERY)
    assert_same(fit(steps=20, folder=run, resume=True, **EVERY), expected)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads, at times
@pytest.mark.parametrize("foreseen", [True, False])
def test_a_full_disk_while_saving(small_disk, foreseen, monkeypatch):
    run = small_disk / "run"
    if not foreseen:
        monkeypatch.setattr(_checkpoints, "SPARE_BYTES", -(2**40))
    fit(steps=10, folder=run, **EVERY)
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
    with pytest.raises(RunError, match="disk is full"):
        fit(steps=20, folder=run, resume=True, **EVERY)
    # whatever could be written of the next checkpoint, the one before is whole, and the run goes on from it
    assert Checkpoints(run / "checkpoints", keep=3).steps() == [10]
    os.truncate(ballast, 0)
    assert_same(fit(steps=20, folder=run, resume=True, **EVERY), fit(steps=20, **EVERY))


def test_a_failed_save_says_what_is_left(run, monkeypatch):
    class Full:
        def save(self, *args, **kwargs):
            raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device [source='...']")

    monkeypatch.setattr(_checkpoints, "_checkpointer", Full)
    with pytest.raises(RunError, match=r"00000020: the disk is full. Checkpoints still there: 10\. Free some space"):
        Checkpoints(run / "checkpoints", keep=3).save(20, TREE)


def test_tensorboard_is_asked_for_in_vain(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'retrograde\[tensorboard\]'"):
        fit(steps=1, folder=tmp_path / "run", tensorboard=True)
    assert fit(steps=1, folder=tmp_path / "other").step == 1


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    result = fit(steps=10, folder=tmp_path / "run", log_every=5, tensorboard=True)
    (path,) = (tmp_path / "run" / "events").iterdir()
    data, values = path.read_bytes(), {}
    while data:  # length, its checksum, event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    assert set(values) == {(tag, step) for tag in ("loss", "accuracy", "gradient_norm") for step in (5, 10)}
    assert values["loss", 10] == pytest.approx(result.history.loss[0, -1], rel=1e-6)


def start(folder, cache, steps):
    command = [*CHILD, str(folder), "--steps", str(steps), "--cache", str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output.decode()
    assert output == b"", "the library must not print"


def kill_at_random(process, folder, rng, steps):
    """Waits for a random line of the metrics, then a random moment, and sends SIGKILL."""
    path, line = folder / "metrics.csv", rng.randrange(2 * steps // 7)
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > line):
        time.sleep(0.002)
    time.sleep(rng.random() * 0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, kills):
    rng, steps = random.Random(kills), 200 * kills
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, tmp_path / "cache", steps))
    hits = 0
    for _ in range(kills):
        hits += kill_at_random(start(killed, tmp_path / "cache", steps), killed, rng, steps)
        # nothing that looks like a checkpoint is not one
        checkpoints = Checkpoints(killed / "checkpoints", keep=3)
        for step in checkpoints.steps():
            _checkpoints._read(checkpoints.folder / f"{step:08d}")
    assert hits > kills // 2
    finish(start(killed, tmp_path / "cache", steps))
    assert metrics(killed) == metrics(whole)
    final = [_checkpoints._read(folder / "checkpoints" / f"{steps:08d}") for folder in (whole, killed)]
    assert final[0][1] == final[1][1]
    for x, y in zip(final[0][0], final[1][0], strict=True):
        np.testing.assert_array_equal(x, y)


def test_compile_cache(tmp_path):
    code = (
        "import sys, jax; from retrograde import training\n"
        "assert training.compile_cache(sys.argv[1]) is not None\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "jax.jit(lambda x: x + 1)(1.0).block_until_ready()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""
    assert list((tmp_path / "compiled").rglob("*-cache"))
    (tmp_path / "file").write_text("")
    assert training.compile_cache(tmp_path / "file") is None
