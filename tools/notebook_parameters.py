"""Write the first two code cells of each shipped notebook anew from the fields of its settings.

Run it when a field was added: `python tools/notebook_parameters.py`. A test tells when it has to be
run. The first cell (tag `parameters`) holds the fields with their defaults as papermill reads them,
the second makes the settings of them.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from textwrap import fill
from typing import Any

from capacity.report.notebook import NOTEBOOKS

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def parameters(kind: type[Any]) -> str:
    """Give the parameters cell: annotated literals, Optional and list as papermill reads them."""
    lines = []
    for field in fields(kind):
        default = "" if field.default is MISSING else field.default
        value = list(default) if isinstance(default, tuple) else default
        told = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list[\1]", str(field.type))
        told = re.sub(r"(\w+) \| None", r"Optional[\1]", told)
        literal = f'"{value}"' if isinstance(value, str) else repr(value)
        lines.append(f"{field.name}: {told} = {literal}")
    head = "from typing import Optional\n\n" if any("Optional" in line for line in lines) else ""
    return head + "\n".join(lines)


def handed_over(kind: type[Any]) -> str:
    """Give the lines that make the settings of the parameters."""
    names = ", ".join(f"{field.name}={field.name}" for field in fields(kind))
    inner = fill(names, 88, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return (
        f"settings = from_mapping(\n    capacity.{kind.__name__},\n    dict(\n{inner},\n    ),\n)"
    )


def renew(path: Path, kind: type[Any]) -> str:
    """Give the notebook's text with both cells anew; the rest is left as it is."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first, second = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][:2]
    first["source"] = parameters(kind).splitlines(keepends=True)
    code = "".join(second["source"])
    made = re.sub(
        r"settings = from_mapping\(.*?\n\)", lambda _: handed_over(kind), code, flags=re.S
    )
    second["source"] = made.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Renew all notebooks; 1 with --check where one is not up to date."""
    stale = 0
    for name, kind in NOTEBOOKS.items():
        path = FOLDER / f"{name}.ipynb"
        text = renew(path, kind)
        if text != path.read_text(encoding="utf-8"):
            stale += 1
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
