"""Runs every code block of `README.md` and `docs/`, as a reader would.

A page is run in an empty folder of its own: first its `bash` blocks, in their order, then its `python` blocks, in one
namespace. A comment on the line before a block changes that:

    <!-- slow -->               run under `pytest -m slow` only
    <!-- not run: reason -->    not run, and reported as skipped

Blocks of `toml` and `json` must parse; `text` and `console` are for output. The examples in the package's docstrings
are run too, and give the output that they show.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}

FENCE = re.compile(r"^(?:<!-- (?P<mark>.*) -->\n+)?```(?P<language>.*)\n(?P<code>(?:.*\n)*?)```$", re.MULTILINE)
LANGUAGES = {"bash", "console", "json", "python", "text", "toml"}


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    mark: str
    line: int
    code: str


def blocks_of(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(match["language"], match["mark"] or "", line, match["code"]))
    return found


def script(blocks: list[Block], language: str) -> str:
    """The blocks of one language, each on the lines it has on its page, so that an error names the page's line."""
    lines = []
    for block in blocks:
        if block.language == language:
            lines += [""] * (block.line - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> dict[str, str]:
    """Settings by which the processes of this test run share what they compile."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp().parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def run(page: str, blocks: list[Block], folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
    commands = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"} | settings
    for language, start in {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable, "-W", "error"]}.items():
        code = script(blocks, language)
        if not code:
            continue
        file = folder / f"{Path(page).stem}.{language}"
        file.write_text(code)
        done = subprocess.run(
            [*start, file],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            pytest.fail(
                f"{page}, {language} (line numbers are the page's):\n{done.stdout}\n{done.stderr}", pytrace=False
            )


RUNNABLE = {name: blocks_of(page.read_text()) for name, page in PAGES.items() if page.exists()}
QUICK = {
    name: quick
    for name, blocks in RUNNABLE.items()
    if (quick := [block for block in blocks if not block.mark and block.language in ("bash", "python")])
}
SLOW = {
    name: [block for block in blocks if block.mark in ("", "slow")]
    for name, blocks in RUNNABLE.items()
    if any(block.mark == "slow" for block in blocks)
}
NOT_RUN = {
    f"{name}:{block.line}": block.mark.removeprefix("not run: ")
    for name, blocks in RUNNABLE.items()
    for block in blocks
    if block.mark.startswith("not run: ")
}


@pytest.mark.parametrize("page", QUICK)
def test_code_runs(page, tmp_path, compiled):
    run(page, QUICK[page], tmp_path, compiled)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_code_with_slow_blocks_runs(page, tmp_path):
    run(page, SLOW[page], tmp_path)


@pytest.mark.parametrize("block", NOT_RUN)
def test_block_is_not_run(block):
    pytest.skip(NOT_RUN[block])


@pytest.mark.parametrize("page", RUNNABLE)
def test_every_fence_is_understood(page):
    """A block that the pattern misses, or whose language or mark is misspelt, would never be run."""
    blocks, text = RUNNABLE[page], PAGES[page].read_text()
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(blocks)
    for block in blocks:
        assert block.language in LANGUAGES, f"{page}:{block.line}: language {block.language!r}"
        assert block.mark in ("", "slow") or re.fullmatch("not run: .+", block.mark), (
            f"{page}:{block.line}: {block.mark}"
        )


@pytest.mark.parametrize("page", RUNNABLE)
def test_data_blocks_parse(page):
    for block in RUNNABLE[page]:
        if block.language == "toml":
            tomllib.loads(block.code)
        if block.language == "json":
            json.loads(block.code)


@pytest.mark.parametrize("page", RUNNABLE)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", PAGES[page].read_text())
    files = [target.partition("#")[0] for target in targets if not target.startswith(("http://", "https://", "#"))]
    missing = [file for file in files if not (PAGES[page].parent / file).exists()]
    assert not missing


DOCTEST = """
import doctest, importlib, pkgutil, sys
import retrograde

tried = wrong = 0
for module in pkgutil.walk_packages(retrograde.__path__, "retrograde.", onerror=lambda name: sys.exit(name)):
    if module.name.endswith("__main__"):
        continue
    failed, attempted = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.ELLIPSIS)
    tried, wrong = tried + attempted, wrong + failed
sys.exit(tried == 0 or wrong > 0)
"""


def test_docstring_examples_run(tmp_path, compiled):
    """As a user runs them: in float32, without the checks of the tests."""
    command = [sys.executable, "-W", "error", "-c", DOCTEST]
    environment = os.environ | compiled
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def test_runner_reports_the_line_of_an_error(tmp_path):
    """The runner itself can fail: a wrong block is found, with its line."""
    page = "# A page\n\n```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 2\n```\n"
    with pytest.raises(pytest.fail.Exception, match=r'page\.python", line 10'):
        run("page.md", blocks_of(page), tmp_path)


def test_runner_runs_commands_of_this_environment(tmp_path):
    page = f"```bash\nfalse | true\n```\n```bash\ntest $(command -v python) -ef {sys.executable}\n```\n"
    with pytest.raises(pytest.fail.Exception):
        run("page.md", blocks_of(page), tmp_path)
    run("page.md", blocks_of(page)[1:], tmp_path)
