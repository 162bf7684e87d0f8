"""Files written whole or not at all, and names for them that nobody else chose."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from capacity.errors import SettingsError

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 80
# Names that Windows keeps for devices
_DEVICES: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def write(path: Path, content: str | bytes) -> None:
    """Write a file under another name and move it: a reader never sees half of it.

    Raises
    ------
    SettingsError
        If it cannot be written: no space, no permission, a read-only file system.
    """
    data = content.encode() if isinstance(content, str) else content
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, part = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            Path(part).chmod(0o644)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn a failure to write into one message that names the place and what to do."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be written: {error.strerror or error}; free space or name another "
            "folder, and run again: what was finished is kept"
        ) from None


def file_name(text: str) -> str:
    """Give a name for a file or folder; different texts give different names.

    Names of clusters come from outside: slashes, dots in front and the like have no effect.

    Examples
    --------
    >>> file_name("prod-eu.1")
    'prod-eu.1'
    >>> file_name("../../etc/passwd")
    'etc-passwd-3754d6cb'
    """
    safe = _ODD.sub("-", text).strip("-.")[:_LONGEST].rstrip("-.")
    if safe and safe == text and not _DEVICES.fullmatch(text):
        return safe
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe or 'cluster'}-{mark}"
