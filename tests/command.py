"""The command line in this process: what it prints, and its exit code."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from capacity.cli import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str | Path, cwd: Path, together: bool = False, **environment: str) -> Done:
    """Call the program in this process, as its entry point does: imports are paid for once.

    `together`: standard error goes where standard output does, as on a terminal.
    """
    out, err = StringIO(), StringIO()
    if together:
        err = out
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["capacity", *map(str, arguments)])
        for name, value in {"COLUMNS": "160", **environment}.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())
