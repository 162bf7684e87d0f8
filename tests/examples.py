"""Examples of the documents: the blocks of a page, the commands in them, what they show.

A block is run, or the line above it says why not: `<!-- not run: REASON -->`. Commands of blocks
that are not run are parsed all the same. In a shown output a line `…` stands for any lines, and `…`
at the end of a line for its rest; numbers may differ by 2 %, dates by five days.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click

from capacity.cli import cli

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?"
    r"^(?P<fence>```+)(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LINES = str.maketrans(dict.fromkeys("━─┏┓┗┛┡┩└┘┬┴┳┻╇┼├┤│┃┌┐╍", " "))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason`: why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    reason: str


@dataclass(frozen=True)
class Step:
    """A command line, what the page shows of its output (None: nothing is told), its exit code."""

    command: str
    shown: str | None
    code: int | None


def blocks(page: Path) -> list[Block]:
    """Give the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("fence")) + 1, found["language"],
              found["text"], found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]  # fmt: skip


def steps(block: Block) -> Iterator[Step]:
    """Give the command lines of a block; of a console, with what it shows."""
    text = block.text.replace("\\\n", " ")
    if block.language != "console":
        yield from (Step(line, None, None) for line in text.splitlines() if line.strip())
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        code = re.search(r"^\(exit code (\d+)\)\n", shown, re.MULTILINE)
        shown = shown[: code.start()] if code else shown
        yield Step(command, shown, int(code[1]) if code else 0)


def words(command: str) -> list[str]:
    """Give the words of a command line, without comments and a path before the program."""
    found = shlex.split(command, comments=True)
    if found and Path(found[0]).name == "capacity":
        found[0] = "capacity"
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """Give the calls of `capacity` that a block of any language holds, as words."""
    for line in block.text.replace("\\\n", " ").splitlines():
        bare = re.sub(r"^\s*(?:- )?(?:run: )?(?:\$ )?", "", line)
        if re.match(r"(\.venv/bin/)?capacity\s", bare):
            found = words(bare)
            ends = [i for i, word in enumerate(found) if word in ("&&", "||", "|", ">", ";", "2>")]
            yield found[1 : ends[0] if ends else None]


def parse(arguments: list[str]) -> None:
    """Let the program read its arguments and do nothing: names, types and choices must be right."""
    command: click.Command = cli
    context = command.make_context("capacity", list(arguments))
    while isinstance(command, click.Group):
        name, below, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert name is not None
        assert below is not None
        try:
            context = below.make_context(name, rest, parent=context)
        except click.exceptions.Exit:  # --help, --version
            return
        except click.BadParameter as error:
            if "does not exist" in error.message:  # a file of the reader's own
                return
            raise
        command = below


def differs(shown: str, told: str) -> str | None:
    """Give the first line that a page shows otherwise than it was told; None if it is as shown."""
    rest = [line for line in (_plain(line) for line in told.splitlines()) if line]
    at, is_open = 0, False
    for line in filter(None, map(_plain, shown.splitlines())):
        if line == "…":
            is_open = True
            continue
        candidates = range(at, len(rest) if is_open else min(at + 1, len(rest)))
        found = next((i for i in candidates if _equal(line, rest[i])), None)
        if found is None:
            return f"shown: {line}\ntold:  {rest[at] if at < len(rest) else '(nothing more)'}"
        at, is_open = found + 1, False
    return None if is_open or at == len(rest) else f"told, not shown: {rest[at]}"


def _plain(line: str) -> str:
    return " ".join(line.translate(_LINES).split())


def _equal(shown: str, told: str) -> bool:
    if shown.endswith("…"):
        parts = shown[:-1].split()
        return _equal(" ".join(parts), " ".join(told.split()[: len(parts)]))
    for kind, near in ((_DATE, _near_dates), (_NUMBER, _near_numbers)):
        left, right = kind.findall(shown), kind.findall(told)
        if len(left) != len(right) or not all(map(near, left, right)):
            return False
        shown, told = kind.sub("0", shown), kind.sub("0", told)
    return shown == told


def _near_dates(left: str, right: str) -> bool:
    return abs((date.fromisoformat(left) - date.fromisoformat(right)).days) <= 5


def _near_numbers(left: str, right: str) -> bool:
    one, other = (float(text.replace(",", "")) for text in (left, right))
    return math.isclose(one, other, rel_tol=0.02, abs_tol=1.0 if "." not in left else 0.0)
