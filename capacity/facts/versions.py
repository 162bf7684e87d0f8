"""The versions of Cilium that facts are kept for."""

from __future__ import annotations

import re
from typing import Final

from capacity.errors import FactError

# Minor versions of Cilium that the rows cover, oldest first
VERSIONS: Final[tuple[str, ...]] = ("1.14", "1.15", "1.16", "1.17", "1.18", "1.19", "1.20")
LATEST: Final = VERSIONS[-1]

_VERSION = re.compile(r"\s*v?(\d+)\.(\d+)(?:\.\d+)?(?:[-+].*)?\s*")


def minor(version: str) -> str:
    """Give the minor version that facts are kept by.

    Parameters
    ----------
    version
        A Cilium version as agents, charts or people write it.

    Returns
    -------
    str
        Such as ``1.18``.

    Raises
    ------
    FactError
        If the text is not a version, or no facts are known about it.

    Examples
    --------
    >>> minor("v1.17.5"), minor("1.17.0-dev"), minor("1.20")
    ('1.17', '1.17', '1.20')
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        msg = f"Cilium version {version!r} cannot be read; write it as 1.17 or v1.17.5"
        raise FactError(msg)
    found = f"{int(match.group(1))}.{int(match.group(2))}"
    if found not in VERSIONS:
        older = _number(found) < _number(VERSIONS[0])
        nearest = VERSIONS[0] if older else LATEST
        msg = (
            f"Cilium {version}: no facts about it; known are {', '.join(VERSIONS)}; "
            f"take {nearest} as the nearest and check what it tells"
        )
        raise FactError(msg)
    return found


def _number(version: str) -> int:
    major, minor_ = version.split(".")
    return int(major) * 1000 + int(minor_)
