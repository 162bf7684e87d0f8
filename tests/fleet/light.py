"""A worker's job that is quick: it reads one small file, as a plan reads its cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def perform(told: Mapping[str, Any], *_: Any) -> dict[str, Any]:
    """Give the number in the cluster's file; slow enough to be interrupted."""
    time.sleep(0.05)
    number = int(Path(told["settings"]["source"]).read_text(encoding="utf-8"))
    return {"cluster": told["name"], "mesh": None, "status": "ok", "error": None,
            "seconds": 0.0, "number": number}  # fmt: skip
