"""Compiled programs kept on disk, so that the second start is quick."""

import hashlib
import os
import platform
from pathlib import Path

import jax


def compile_cache(folder: str | Path | None = None) -> Path | None:
    """Keeps compiled programs on disk between processes, by JAX's persistent compilation cache.

    Call it before the first computation. Programs are kept apart by processor: one compiled for another may use
    instructions that this one lacks. A folder that cannot be written is no error: nothing is kept then.

    Args:
        folder: Where; by default a `retrograde` folder among the user's caches.

    Returns:
        The folder used, or `None` if it cannot be written.
    """
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_dir("retrograde")
    path = Path(folder) / "compiled" / _processor()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(path, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        model = next((line for line in lines if line.startswith("model name")), "")
    except OSError:
        features, model = "", platform.processor()
    return f"{platform.machine()}-{hashlib.sha256((model + features).encode()).hexdigest()[:12]}"
