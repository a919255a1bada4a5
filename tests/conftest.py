"""Makes every test strict: float64, no silent promotion, shapes and types of every call checked."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Read when JAX and Matplotlib start; the processes that tests start inherit them.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
os.environ["PJRT_NPROC"] = "16"  # JAX 0.10 on the CPU: fewer threads than devices can dead-lock

# Caches of this run alone: neither what the user has downloaded nor a program compiled earlier decides a test.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="retrograde-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# What one worker has compiled the other need not: the first process of a run makes the folder, its workers inherit it.
if "RETROGRADE_TESTS_COMPILED" not in os.environ:
    os.environ["RETROGRADE_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="retrograde-tests-compiled-")
    atexit.register(shutil.rmtree, os.environ["RETROGRADE_TESTS_COMPILED"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import pytest

# The compiler's quickest way: most of a test's time is compilation. Read when JAX meets its first device.
flags = os.environ.get("XLA_FLAGS")
os.environ["XLA_FLAGS"] = f"{flags or ''} --xla_backend_optimization_level=0"
jax.devices()
if flags is None:
    del os.environ["XLA_FLAGS"]
else:
    os.environ["XLA_FLAGS"] = flags

# By `config`, not by the environment: what tests start as a process runs as a user would run it.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Checks shapes and types of everything imported from `retrograde` after this line.
jaxtyping.install_import_hook("retrograde", "beartype.beartype")

hypothesis.settings.register_profile("quick", deadline=None, max_examples=20, print_blob=True)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("quick"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "quick")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """On disk those of the whole run; in memory those of a module.

    Each takes some of the memory maps that Linux gives a process (65,530); beyond them the compiler crashes.
    """
    jax.config.update("jax_compilation_cache_dir", os.environ["RETROGRADE_TESTS_COMPILED"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the four IDX files of the full MNIST; a test that asks for it is skipped where it is absent."""
    root = os.environ.get("RETROGRADE_DATA")
    if not root:
        pytest.skip("RETROGRADE_DATA is not set: no full MNIST")
    for folder in (Path(root), Path(root) / "mnist"):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    pytest.skip("no train-images-idx3-ubyte.gz in RETROGRADE_DATA: no full MNIST")
