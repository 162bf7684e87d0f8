"""Where the shipped notebooks and data are: inside the wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

from capacity.errors import ExportError

_PACKAGE = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Path of a shipped file or folder.

    Raises
    ------
    ExportError
        If this installation does not hold it.

    Examples
    --------
    >>> path("notebooks", "plan.ipynb").name
    'plan.ipynb'
    """
    for root in (_PACKAGE / "shipped_files", _PACKAGE.parent):
        if (found := root.joinpath(*parts)).exists():
            return found
    raise ExportError(
        f"{'/'.join(parts)}: not part of this installation; install the package again"
    )
