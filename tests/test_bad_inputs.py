"""What a person can get wrong, and what the command answers.

`python tests/test_bad_inputs.py` (with the package installed) writes the table in `docs/bad-inputs.md`.
"""

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from runs import TINY, tiny_run

import retrograde as rg
from retrograde import recipes
from retrograde.cli import main
from retrograde.comparison import read_plan

PAGE = Path(__file__).parents[1] / "docs" / "bad-inputs.md"
DIGITS = Path(recipes.__file__).parent / "digits.toml"


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        what: What is wrong, for the table.
        act: Puts files into a folder and gives the arguments of the command; for a graph, builds it and raises.
        message: What must stand in the answer, a regular expression.
        status: The exit status; None for a graph, which is built in Python.
        environment: Environment variables; `{}` stands for the folder.
        process: Whether it needs a process of its own.
    """

    what: str
    act: Callable[[Path], list[str]]
    message: str
    status: int | None = 2
    environment: tuple[tuple[str, str], ...] = ()
    process: bool = False


def edited(*changes: tuple[str, str], command: str = "train") -> Callable[[Path], list[str]]:
    """A copy of the shipped recipe with some words replaced."""

    def act(folder: Path) -> list[str]:
        text = DIGITS.read_text()
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        return [command, written(folder / "mine.toml", text)]

    return act


def content(data: str | bytes) -> Callable[[Path], list[str]]:
    """A recipe of one's own with this in it."""
    return lambda folder: ["train", written(folder / "mine.toml", data)]


def written(path: Path, data: str | bytes) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def command(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: [argument.replace("{}", str(folder)) for argument in arguments]


def with_set(*settings: str) -> Callable[[Path], list[str]]:
    words = [word for text in settings for word in ("--set", text)]
    return lambda folder: ["train", "digits", *TINY, *words, "--out", str(folder / "run")]


def damaged(damage: Callable[[Path], object], *arguments: str) -> Callable[[Path], list[str]]:
    """A finished run with something done to it."""

    def act(folder: Path) -> list[str]:
        shutil.copytree(tiny_run(), folder / "run")
        damage(folder / "run")
        return [argument.replace("{}", str(folder / "run")) for argument in arguments]

    return act


def damage_checkpoints(run: Path) -> None:
    files = [path for path in (run / "checkpoints").rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"not a checkpoint")


def empty_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()


def other_network(run: Path) -> None:
    origin = (run / "run.json").read_text()
    assert '"size": 4' in origin
    (run / "run.json").write_text(origin.replace('"size": 4', '"size": 5'))


def into_file(folder: Path) -> list[str]:
    return ["train", "digits", *TINY, "--out", written(folder / "run", "I am a file")]


def into_foreign(folder: Path) -> list[str]:
    (folder / "thesis").mkdir()
    written(folder / "thesis" / "chapter1.tex", "precious")
    return ["train", "digits", *TINY, "--out", str(folder / "thesis")]


_LOCKS = []


def in_use(run: Path) -> None:
    lock = open(run / ".lock", "a+")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _LOCKS.append(lock)  # held until the process ends


def mnist(**files: bytes) -> Callable[[Path], list[str]]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")

    def act(folder: Path) -> list[str]:
        for name in names:
            data = files.get(name.partition("-idx")[0].replace("-", "_"), gzip.compress(b"\0" * 100))
            written(folder / f"{name}-ubyte.gz", data)
        return ["train", "digits-full", "--out", str(folder / "run")]

    return act


HERE = (("RETROGRADE_DATA", "{}"),)


def graph(*projections, readout: str = "readout", **populations) -> Callable[[Path], list[str]]:
    """A network of hidden (3 neurons) and readout (2), with these projections."""

    def act(folder: Path) -> list[str]:
        neurons = {"hidden": rg.neurons.LeakyRate(3), "readout": rg.neurons.Linear(2), **populations}
        rg.Network(neurons, [rg.Projection(*ends) for ends in projections], inputs=1, readout=readout)
        raise AssertionError("this graph was accepted")

    return act


def dense(post: int, pre: int):
    return rg.synapses.Dense(jnp.ones((post, pre)))


IN, OUT = ("input", "hidden", dense(3, 1)), ("hidden", "readout", dense(2, 3))


def nan_weights(folder: Path) -> list[str]:
    task = rg.tasks.DelayedRecall(symbols=2, delay=1)
    network = rg.Network.single_layer(task, rg.neurons.LeakyRate(3), key=jax.random.key(0))
    where = lambda n: n.projections["hidden->hidden"].synapse.weight  # noqa: E731
    network = eqx.tree_at(where, network, jnp.full((3, 3), jnp.nan))
    adam = rg.optimiser(network, "adam", 1e-3)
    rg.fit(network, task, rule=rg.rules.BPTT(), optimiser=adam, steps=1, batch=2, key=jax.random.key(0))
    raise AssertionError("NaN was accepted")


def comparison(*lines: str) -> Callable[[Path], list[str]]:
    """A comparison of one's own: two rules on a shipped recipe, and these lines."""
    rules = ('recipe = "add"', "[[rule]]", 'name = "bptt"', "[[rule]]", 'name = "truncated_bptt"')
    return lambda folder: ["compare", written(folder / "mine.toml", "\n".join([*rules, *lines]))]


def planned(*arguments: str, change: tuple[str, str] = ("", "")) -> Callable[[Path], list[str]]:
    """A comparison that has begun: two rules on the recipe `add`, 1,000 updates."""

    def act(folder: Path) -> list[str]:
        (folder / "here").mkdir()
        plan = read_plan("add", rules="bptt,truncated_bptt")
        content = {
            "name": "add",
            "measuring": dataclasses.asdict(plan.measuring),
            "entries": [
                {"task": e.task, "network": e.network, "rule": e.rule}
                | {"recipe": e.recipe.model_dump(mode="json", exclude_none=True, exclude={"name", "summary"})}
                for e in plan.entries
            ],
        }
        written(folder / "here" / "plan.json", json.dumps(content).replace(*change))
        return [argument.replace("{}", str(folder / "here")) for argument in arguments]

    return act


def reproduce_into_foreign(folder: Path) -> list[str]:
    return ["reproduce", "zou2023", "--scale", "smoke", *into_foreign(folder)[-2:]]


def compare_into_foreign(folder: Path) -> list[str]:
    return ["compare", *into_foreign(folder)[1:], "--rules", "bptt,e_prop"]


CASES = [
    # The recipe as a file
    Case("recipe: an unknown name", command("train", "digts"), r"no recipe 'digts'.*did you mean 'digits'\?"),
    Case("recipe: no such file", command("train", "{}/none.toml"), r"none\.toml: no such file"),
    Case("recipe: a folder", command("train", "{}"), r"this is a folder"),
    Case("recipe: an empty file", content(""), r"mine\.toml: the section \[task\] is missing"),
    Case("recipe: not text", content(b"\x80\x03\xff\x00"), r"not a text file \(byte 0 is not UTF-8\)"),
    Case("recipe: broken TOML", edited(("size = 100", "size = ")), r"mine\.toml:\d+: this is not TOML: "),
    # What the recipe says
    Case(
        "recipe: a misspelt key",
        edited(("learning_rate", "learnig_rate")),
        r"mine\.toml:\d+: unknown key 'learnig_rate' in \[optimiser\]; did you mean 'learning_rate'\?",
    ),
    Case(
        "recipe: a misspelt section", edited(("[evaluation]", "[evalution]")), r":\d+: .*'evalution'; did you mean 'eva"
    ),
    Case("recipe: a key missing", edited(("size = 100", "")), r":\d+: missing key 'size' in \[neuron\]"),
    Case(
        "recipe: a text for a number",
        edited(("2_000", '"many"')),
        r":\d+: 'steps' in \[training\] must be a whole number",
    ),
    Case("recipe: a fraction for a count", edited(("batch = 128", "batch = 1.5")), r"must be a whole number, got 1\.5"),
    Case(
        "recipe: no such task", edited(("sequential_digits", "sequential_digit")), r"did you mean 'sequential_digits'"
    ),
    Case(
        "recipe: no such neuron", edited(("leaky_rate", "leaky_rat")), r"unknown neuron 'leaky_rat' in .*'leaky_rate'"
    ),
    Case(
        "recipe: no such rule", edited(('"bptt"', '"bpttt"')), r"unknown rule 'bpttt' in \[rule\]; did you mean 'bptt'"
    ),
    Case("recipe: no such synapse", edited(("spike_and_slab", "spike_slab")), r"did you mean 'spike_and_slab'"),
    Case("recipe: no such first value", edited(('"identity"', '"identty"')), r"unknown initialiser 'identty' in"),
    Case("recipe: no such optimiser", edited(('"adam"', '"adamm"')), r"'name' in \[optimiser\].*did you mean 'adam'"),
    Case("recipe: no such activation", edited(('"relu"', '"rleu"')), r":\d+: \[neuron\]: .*rleu.*use one of relu"),
    Case(
        "recipe: a leak above 1",
        edited(("alpha = 0.1", "alpha = 2.0")),
        r":\d+: \[neuron\]: .*must lie in \(0, 1\], got 2",
    ),
    Case(
        "recipe: a negative decay",
        edited(("decay = 1e-4", "decay = -1.0")),
        r"'decay' in \[optimiser\] must be at least 0",
    ),
    Case(
        "recipe: a synapse that only Python can say",
        edited(('name = "spike_and_slab"', 'name = "tied"')),
        r"'tied' needs `to` in \[synapses\]; only Python can say that",
    ),
    Case(
        "recipe: two mistakes at once",
        edited(("alpha", "alpah"), ("clip_spectral", "clip")),
        r"(?s)'alpah' in \[neuron\]; did you mean 'alpha'.*\n.*'clip' in \[optimiser\]; did you mean 'clip_spectral'",
    ),
    # The command line
    Case("--set without a value", with_set("training.steps"), r"write `--set section\.key=value`"),
    Case("--set below something that is no section", with_set("training.steps.x=1"), r"'steps' is not a section here"),
    Case(
        "--set with broken TOML",
        with_set("training.steps=[1,"),
        r"--set training\.steps=\[1,: .* is not a value of TOML",
    ),
    Case("--set with a misspelt key", with_set("rule.nam=bptt"), r"--set rule\.nam=bptt: unknown key 'nam'"),
    Case("--set with NaN", with_set("optimiser.learning_rate=nan"), r"'learning_rate' in .* must be a finite number"),
    Case("--steps below 1", command("train", "digits", "--steps", "-5"), r"--steps -5: 'steps' .* must be at least 1"),
    Case(
        "--seeds that is no number",
        command("train", "digits", "--seeds", "two"),
        r"--seeds two: .*must be a whole number",
    ),
    Case("an unknown option", command("train", "--stepz", "5"), r"No such option.*--stepz"),
    Case("an unknown command", command("trian"), r"No such command.*trian"),
    Case("a kind of part that is none", command("list", "neuron"), r"Invalid value.*neuron"),
    # Parts that do not fit together
    Case(
        "a group that matches nothing",
        with_set('optimiser.groups={"*.sigma" = {decay = 0.0}}'),
        r"'\*\.sigma' matches no",
    ),
    Case("a batch larger than the data", with_set("training.batch=5000"), r"`batch=5000` is more than the 4000"),
    Case("a pool that does not divide the image", with_set("task.pool=5"), r"must divide 28"),
    Case(
        "validation trials that do not exist",
        with_set("training.validation_split=exam"),
        r"'exam'.*no such trials; pick one of",
    ),
    Case(
        "a learning rate that blows up",
        with_set("optimiser.learning_rate=1e300", "optimiser.clip_spectral=0"),
        r"training diverged at update \d+: .*NaN or infinite.*lower learning rate",
        status=1,
    ),
    # Comparisons
    Case("compare: an unknown name", command("compare", "digit-rules"), r"did you mean 'digits-rules'\?"),
    Case(
        "compare: no such rule",
        command("compare", "add", "--rules", "bptt,eporp"),
        r"--rules bptt,eporp: unknown rule 'eporp' in \[rule\]; did you mean 'e_prop'\?",
    ),
    Case(
        "compare: a misspelt setting of a rule",
        command("compare", "add", "--rules", "bptt,truncated_bptt(windw=3)"),
        r"unknown key 'windw' in \[rule\]; did you mean 'window'\?",
    ),
    Case(
        "compare: an empty place among the rules",
        command("compare", "add", "--rules", "bptt,"),
        r"'' is no rule; write names between commas",
    ),
    Case("compare: one rule only", command("compare", "add"), r"there is nothing to compare, only 'bptt'"),
    Case(
        "compare: one rule twice",
        command("compare", "add", "--rules", "bptt,bptt"),
        r"two of \[\[rule\]\] are called 'bptt'; give each a `label`",
    ),
    Case(
        "compare: a mistake in the second of several tables",
        comparison("window = 0"),
        r"mine\.toml:6: \[rule\]: .*1 or more, got 0",
    ),
    Case(
        "compare: a misspelt key in [[network]]", comparison("[[network]]", "neurn = 1"), r":7: .*did you mean 'neuron'"
    ),
    Case("compare: a misspelt key in [compare]", comparison("[compare]", "band = 1"), r":7: .*did you mean 'bands'\?"),
    Case(
        "compare: a rule that does not fit the neurons",
        command("compare", "recall-spiking", "--rules", "bptt,rflo", "--out", "{}/here"),
        r"`RFLO` is the rule of leaky rate neurons; 'hidden' is made of ALIF",
    ),
    Case("reproduce: an unknown paper", command("reproduce", "zou2024"), r"no paper 'zou2024'; there are zou2023"),
    Case(
        "reproduce: an unknown claim",
        command("reproduce", "zou2023", "--claim", "multisensory-removl", "--out", "{}/here"),
        r"no claim 'multisensory-removl'; did you mean 'multisensory-removal'\?",
    ),
    Case(
        "reproduce: a claim at a scale at which it cannot be measured",
        command("reproduce", "zou2023", "--claim", "pixels", "--out", "{}/here"),
        r"'pixels' cannot be measured at scale 'laptop', only at paper",
    ),
    Case("reproduce: an unknown scale", command("reproduce", "zou2023", "--scale", "huge"), r"'huge' is not one of"),
    Case(
        "reproduce: into a folder with other things",
        reproduce_into_foreign,
        r"nothing of yours is overwritten",
        status=1,
    ),
    Case("train: a comparison", command("train", "digits-rules"), r"run it by `retrograde compare digits-rules`"),
    Case(
        "compare: into the folder of another comparison",
        planned("compare", "add", "--rules", "bptt,truncated_bptt", "--steps", "5", "--out", "{}"),
        r"holds another comparison: its add / leaky_rate / bptt has recipe\.training\.steps = 1000, not 5",
        status=1,
    ),
    Case("compare: --out holds other things", compare_into_foreign, r"is not empty and not a comparison", status=1),
    Case(
        "compare: plan.json damaged", planned("resume", "{}", change=("{", "")), r"cannot read .*plan\.json", status=1
    ),
    Case(
        "compare: resumed with --steps",
        planned("resume", "{}", "--steps", "9"),
        r"a comparison makes the updates that it was planned with",
    ),
    # Data
    Case(
        "MNIST: no such folder",
        command("train", "digits-full", "--out", "{}/run"),
        r"MNIST is not here: there is no folder .*RETROGRADE_DATA",
        environment=(("RETROGRADE_DATA", "{}/none"),),
    ),
    Case("MNIST: an empty file", mnist(train_images=b""), r"train-images.* is empty", environment=HERE),
    Case("MNIST: not gzip", mnist(train_images=b"hello"), r"is not a gzip file", environment=HERE),
    Case(
        "MNIST: cut short", mnist(train_images=gzip.compress(b"x" * 999)[:-9]), r"cut short|damaged", environment=HERE
    ),
    Case("MNIST: other content", mnist(), r"is not an IDX file", environment=HERE),
    Case("a mirror that is no address", command("data", "fetch", "mnist", "--mirror", "here"), r"is not an http"),
    # Run folders
    Case("resume: no such folder", command("resume", "{}/none"), r"is not a run folder", status=1),
    Case("resume: an empty folder", command("resume", "{}"), r"is not a run folder", status=1),
    Case("report: a folder that is no run", command("report", "{}"), r"is not a run folder", status=1),
    Case(
        "run.json damaged",
        damaged(lambda run: written(run / "run.json", "{"), "resume", "{}"),
        r"cannot read .*run\.json",
        status=1,
    ),
    Case(
        "every checkpoint damaged",
        damaged(damage_checkpoints, "evaluate", "{}"),
        r"no checkpoint .* can be read",
        status=1,
    ),
    Case(
        "no checkpoint",
        damaged(empty_checkpoints, "sample", "{}"),
        r"no checkpoint .* can be read: there is none",
        status=1,
    ),
    Case(
        "a checkpoint of another network",
        damaged(other_network, "evaluate", "{}"),
        r"belongs to another network",
        status=1,
    ),
    Case(
        "metrics.csv damaged",
        damaged(lambda run: written(run / "metrics.csv", "a,b\n1,2\n"), "report", "{}"),
        r"cannot read the metrics",
        status=1,
    ),
    Case(
        "measures.npz damaged",
        damaged(lambda run: written(run / "measures.npz", b"PK\x03\x04"), "report", "{}"),
        r"measures\.npz is damaged",
        status=1,
    ),
    Case(
        "two runs in one folder, one after the other",
        damaged(lambda run: None, "train", "digits", *TINY, "--out", "{}"),
        r"holds a run already; go on with it by `retrograde resume",
        status=1,
    ),
    Case(
        "two runs in one folder at once",
        damaged(in_use, "resume", "{}", "--steps", "6"),
        r"is in use by another run",
        status=1,
    ),
    Case("--out is a file", into_file, r"is a file; name a new folder", status=1),
    Case("--out holds other things", into_foreign, r"is not empty and not a run", status=1),
    Case(
        "a folder that cannot be written",
        command("train", "digits", *TINY, "--out", "/proc/retrograde/run"),
        r"cannot use /proc/retrograde/run: ",
        status=1,
    ),
    Case(
        "a full disk",
        command("train", "digits", "--steps", "4", *TINY, "--out", "{}/run"),
        r"(?s)retrograde: c(annot|ould not) write .*[Ff]ree some space|raise the limit",
        status=1,
        process=True,
    ),
    # Networks built in Python
    Case(
        "graph: a loop without delay",
        graph(IN, OUT, ("hidden", "hidden", dense(3, 3))),
        r"form a loop.*`delay=1`",
        None,
    ),
    Case(
        "graph: an unknown population",
        graph(IN, ("hiden", "readout", dense(2, 3))),
        r"'hiden'.*did you mean 'hidden'",
        None,
    ),
    Case("graph: an unknown readout", graph(IN, OUT, readout="redout"), r"'redout'.*did you mean 'readout'", None),
    Case(
        "graph: a size that does not fit",
        graph(IN, ("hidden", "readout", dense(2, 4))),
        r"must have shape \(2, 3\)",
        None,
    ),
    Case(
        "graph: a population that nothing reaches",
        graph(IN, OUT, ("lonely", "readout", dense(2, 1)), lonely=rg.neurons.Linear(1)),
        r"'lonely' cannot be reached",
        None,
    ),
    Case("graph: two projections of one name", graph(IN, IN, OUT), r"two projections called 'input->hidden'", None),
    Case("graph: NaN among the weights", nan_weights, r"diverged at update 1", None),
]


def answer(case: Case, folder: Path) -> tuple[int | None, str]:
    """Gives the exit status and all that is said, with the folder's name taken out."""
    if case.status is None:
        with pytest.raises(Exception) as caught:
            case.act(folder)
        return None, f"{caught.type.__name__}: {caught.value}"
    arguments = case.act(folder)
    environment = {name: value.replace("{}", str(folder)) for name, value in case.environment}
    if case.process:
        return process(arguments, folder)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name, value in environment.items():
            patch.setenv(name, value)
        status = main(arguments)
    return status, out.getvalue() + err.getvalue()


def process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Runs the command as a process none of whose files may grow beyond a few kilobytes."""
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 6; exec "$@"', "bash", sys.executable, "-m", "retrograde.cli", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "none"), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def snapshot(folder: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_says_what_is_wrong_and_loses_nothing(case, tmp_path, monkeypatch):
    before = {}

    def act(folder):
        arguments = case.act(folder)
        before.update(snapshot(folder))
        return arguments

    monkeypatch.chdir(tmp_path)
    status, said = answer(dataclasses.replace(case, act=act), tmp_path)
    assert re.search(case.message, said), said
    assert "Traceback" not in said
    assert "should not have happened" not in said
    if case.status is not None:
        assert status == case.status, said
    after = snapshot(tmp_path)
    assert {path: after.get(path) for path in before} == before


def test_the_page_has_every_case():
    page = PAGE.read_text(encoding="utf-8")
    assert [case.what for case in CASES if f"| {case.what} |" not in page] == []
    assert len(CASES) >= 25


def table() -> str:
    """Provokes every message and writes them down."""
    tiny_run()
    lines = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            status, said = answer(case, Path(folder))
            said = said.replace(str(Path(folder).resolve()), "…").replace(folder, "…").strip()
        said = re.sub(r"\(process \d+ on [^)]*\)", "(process …)", said)
        ours = re.compile(r"retrograde: |warning: |Usage: |\w+Error: ")
        said = "<br>".join(f"`` {line} ``" for line in said.replace("|", "\\|").splitlines() if ours.match(line))
        lines.append(f"| {case.what} | {said} | {'in Python' if status is None else status} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(
        "# Bad inputs\n\nWhat can go wrong, and what the command answers. No answer is a traceback, none leaves the "
        "exit status at 0,\nand nothing that was there before is lost: `tests/test_bad_inputs.py` checks every row. "
        "The table is written by\n\n    python tests/test_bad_inputs.py\n\n"
        "| input | answer | exit status |\n| --- | --- | --- |\n" + table() + "\n",
        encoding="utf-8",
    )
