"""What an install brings, what a wheel holds, that versions are locked, and that the tests are strict."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def closure(name: str) -> set[str]:
    """The distributions that installing `name` without extras brings here, its own included."""
    found, todo = set(), [(canonicalize_name(name), frozenset())]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def test_core_has_no_second_array_framework():
    core = closure("retrograde")
    assert {"jax", "jaxlib", "numpy", "orbax-checkpoint"} <= core
    assert not core & {
        "pandas",
        "polars",
        "pyarrow",
        "tensorflow",
        "tensorflow-cpu",
        "tensorstore-gpu",
        "torch",
        "xarray",
    }
    assert not core & {"tensorboardx", "tensorboard", "beartype", "pytest"}


def test_core_installs_at_most_800_megabytes():
    size = 0
    for name in closure("retrograde"):
        for file in metadata.files(name) or []:
            path = Path(file.locate())
            if path.suffix != ".pyc" and path.is_file():
                size += path.stat().st_size
    assert 100e6 < size <= 800e6


def pins(file: str) -> dict[tuple[str, str], str]:
    """The versions in a lock file, by name and environment marker."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / file).read_text()):
        if entry.startswith("#"):
            continue
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{entry} has no hash"
        requirement = Requirement(entry.partition(" \\\n")[0])
        version = re.fullmatch(r"==([^,*]+)", str(requirement.specifier))
        assert version, f"{requirement} is not pinned"
        found[requirement.name, str(requirement.marker or "")] = version[1]
    return found


def test_main_job_and_tests_use_the_same_versions():
    core, test = pins("core.txt"), pins("test.txt")
    assert core.items() <= test.items()


@pytest.mark.parametrize(
    ("file", "groups"), [("core.txt", ["build"]), ("test.txt", ["build", "test"])], ids=["core", "test"]
)
def test_lock_satisfies_the_bounds(file, groups):
    bounds = PROJECT["project"]["dependencies"] + [
        line for name in groups for line in PROJECT["dependency-groups"][name]
    ]
    locked = pins(file)
    for requirement in map(Requirement, bounds):
        versions = [version for (name, _), version in locked.items() if name == canonicalize_name(requirement.name)]
        assert versions, f"{requirement.name} is not in {file}; run `make lock`"
        assert all(map(requirement.specifier.contains, versions)), (
            f"{requirement}: {file} has {versions}; run `make lock`"
        )


def test_lock_names_no_host():
    for file in sorted((ROOT / "requirements").iterdir()):
        assert not re.search(r"://|--(index|extra|find|trusted)|@", file.read_text()), file.name


def test_wheel_holds_what_the_package_needs(tmp_path):
    """Types, data and recipes travel; tests and benchmarks do not."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    sources = {name for name in sources if "__pycache__" not in name}
    assert "retrograde/py.typed" in names
    assert sources <= names
    extra = {name.partition("/")[2] for name in names - sources}
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= extra
    assert all(".dist-info/" in name for name in names - sources)


def test_importing_the_command_does_not_import_jax():
    code = "import sys, retrograde.cli; retrograde.cli.main; print('jax' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["False", "False"], "")


def test_shapes_and_types_are_checked():
    from retrograde.neurons import LeakyRate

    neuron = LeakyRate(3)
    state = neuron.initial_state(2, jnp.float64)
    neuron.step(state, jnp.zeros((2, 3)))
    with pytest.raises(jaxtyping.TypeCheckError):
        neuron.step(state, jnp.array(0.0))
    with pytest.raises(jaxtyping.TypeCheckError):
        neuron.step(state, jnp.zeros((2, 3), int))
    with pytest.raises(jaxtyping.TypeCheckError):
        neuron.step("not a state", jnp.zeros((2, 3)))


def test_precision_and_promotion_are_strict():
    assert jnp.zeros(1).dtype == jnp.float64
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.zeros(1, jnp.float32) + jnp.zeros(1, jnp.float64)
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.zeros((2, 3)) + jnp.zeros(3)
