"""Every command and every piece of Python in the documents is run, or says why not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import capacity
from capacity import planning
from capacity.planning import Plan
from capacity.settings import PlanSettings
from tests.command import run
from tests.examples import Block, blocks, commands, differs, parse, steps, words

ROOT = Path(__file__).resolve().parents[1]
SHELL = ("sh", "bash", "console")
# The transcripts have a test of their own, which compares words only: test_transcripts.py
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "transcripts.md"),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "notebooks", "reports")),
]
BLOCKS = [block for page in PAGES for block in blocks(page)]
# Other programs that a page may show: they read or make files of the reader's own folder
PLAIN = {"cat", "cp", "grep", "head", "ls", "mkdir"}

_plan: Callable[..., Plan] = planning.plan


def runs(block: Block) -> bool:
    return block.language in (*SHELL, "python") and not block.reason


def name(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


@cache
def _planned(settings: PlanSettings) -> Plan:
    return _plan(settings)


@pytest.fixture
def shared_plans(monkeypatch: pytest.MonkeyPatch) -> dict[PlanSettings, Plan]:
    """Make each plan once: equal settings over equal data give the same plan."""
    made: dict[PlanSettings, Plan] = {}

    def plan(settings: PlanSettings, **_more: Any) -> Plan:
        return made.get(settings) or _planned(settings)

    monkeypatch.setattr(planning, "plan", plan)
    monkeypatch.setattr(capacity, "plan", plan)
    return made


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone, with what pages call the reader's own."""
    for part, there in {
        **{part: part for part in ("data", "docs", "notebooks", "tests")},
        **dict.fromkeys(("export", "FOLDER"), "data/lab"),
        **dict.fromkeys(("cluster", "dump"), "docs/examples/cluster"),
        "policies": "docs/examples/policies",
    }.items():
        (tmp_path / part).symlink_to(ROOT / there)
    return tmp_path


def in_shell(command: str, folder: Path) -> tuple[int, str]:
    assert words(command)[0] in PLAIN, f"{command}: mark the block, or add the program to PLAIN"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def in_python(text: str, folder: Path, names: dict[str, Any]) -> str:
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.chdir(folder)
        exec(compile(text, "example", "exec"), names)
    return out.getvalue()


def run_shell(block: Block, folder: Path) -> None:
    for step in steps(block):
        arguments = words(step.command)
        if not arguments:
            continue
        if arguments[0] == "capacity":
            output = arguments.index(">") if ">" in arguments else None
            done = run(*arguments[1:output], cwd=folder, together=output is None)
            code, told = done.returncode, done.stdout
            if output is not None:
                (folder / arguments[output + 1]).write_text(done.stdout, encoding="utf-8")
                told = done.stderr
        else:
            code, told = in_shell(step.command, folder)
        assert code == step.code if step.code is not None else code in (0, 1), told
        if step.shown is not None:
            assert differs(step.shown, told) is None, f"{step.command}\n{differs(step.shown, told)}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(map(runs, blocks(p)))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_what_a_page_shows_is_what_comes(
    page: Path,
    clone: Path,
    shared_plans: dict[PlanSettings, Plan],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if any("capacity plan --out" in block.text for block in blocks(page) if runs(block)):
        shared_plans[PlanSettings()] = request.getfixturevalue("demo")
        stand_in(request.getfixturevalue("pages") / "plan.html", monkeypatch)
    names: dict[str, Any] = {}
    printed: str | None = None
    for block in blocks(page):
        if block.language == "text" and printed is not None:
            assert differs(block.text, printed) is None, name(block)
        printed = None
        if not runs(block):
            continue
        if block.language == "python":
            printed = in_python(block.text, clone, names)
        else:
            run_shell(block, clone)


def stand_in(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the page of another plan, which costs nothing; .ci/run makes the demo's for real."""
    from capacity import report as room

    def report(notebook: str, settings: PlanSettings, path: Path, **_more: Any) -> Path:
        assert (notebook, settings) == ("plan", PlanSettings())
        os.link(page, path)
        return path

    monkeypatch.setattr(room, "report", report)


@pytest.mark.parametrize("block", [b for b in BLOCKS if any(commands(b))], ids=name)
def test_a_command_of_a_page_is_one_that_the_program_takes(block: Block) -> None:
    for arguments in commands(block):
        parse(arguments)


def test_blocks_with_commands_name_their_language_and_reasons_are_needed() -> None:
    for block in BLOCKS:
        assert block.language or not any(commands(block)), name(block)
        assert not block.reason or block.language in (*SHELL, "python"), name(block)


@pytest.mark.parametrize(
    ("shown", "told", "is_same"),
    [
        ("a 1,000 b", "┃ a │ 1,019 │ b", True),
        ("a 1,000 b", "a 1,030 b", False),
        ("from 2027-01-06", "from 2027-01-10", True),
        ("from 2027-01-06", "from 2027-01-20", False),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("a\n…", "a\nb", True),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("needs 10 …", "needs 10 entries at 5 nodes", True),
        ("fits", "short", False),
    ],
)
def test_outputs_are_compared_as_a_reader_would(shown: str, told: str, is_same: bool) -> None:
    assert (differs(shown, told) is None) == is_same
