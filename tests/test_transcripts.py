from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "tools" / "transcripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["transcripts"] = module
    spec.loader.exec_module(module)
    return module


TOOL = tool()
QUICK = [job for job in TOOL.JOBS if not job.is_slow]


def words(text: str) -> set[str]:
    """What is told, without numbers, and however the columns are wrapped."""
    return set(re.findall(r"[A-Za-z_][A-Za-z_./-]+", text))


@pytest.mark.parametrize("job", QUICK, ids=lambda job: job.who)
def test_a_job_is_done_by_the_command_of_its_transcript(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = TOOL.PAGE.read_text(encoding="utf-8")
    start = page.index(f"$ {job.command}\n") + len(f"$ {job.command}\n")
    shown, code = re.match(r"(.*?)\n\(exit code (\d)\)", page[start:], re.S).groups()  # type: ignore[union-attr]
    done, text = TOOL.run(job.command)
    assert done == int(code)
    # Numbers choose words too (wider columns wrap): a few may differ
    gone = words(shown) - words(text)
    assert len(gone) <= 0.05 * len(words(shown)), f"{gone}: run `python tools/transcripts.py`"


def test_every_persona_has_a_transcript() -> None:
    assert len(TOOL.JOBS) == 10
    assert TOOL.PAGE.read_text(encoding="utf-8").count("```console") == 10
