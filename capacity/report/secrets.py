"""Credentials that a kernel can see, so that no page and no message shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

_NAMES: Final = ("TOKEN", "PASSWORD", "KEY_PASSWORD")
# Of headers: shorter values, such as the number of a tenant, stand everywhere by chance
_SHORTEST: Final = 8


def secrets_of(*envs: Mapping[str, str]) -> tuple[str, ...]:
    """Give the credentials that environments hold or name files of, longest first.

    Parameters
    ----------
    envs
        With the variables CAPACITY_PROM_* that the reader of the Prometheus API knows; each is
        read alone, as a token of one does not hide the file that another names. A file that cannot
        be read is none: whoever needs it says so.

    Examples
    --------
    >>> secrets_of({"CAPACITY_PROM_TOKEN": "t0ken", "CAPACITY_PROM_HEADERS": "X-Key: 12345678"})
    ('12345678', 't0ken')
    """
    found = {text for env in envs for text in _secrets(env)}
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def _secrets(env: Mapping[str, str]) -> set[str]:
    found = {text for name in _NAMES if (text := _told(env, name))}
    if password := _told(env, "PASSWORD"):
        # As a request and a URL hold them
        pair = f"{_told(env, 'USER') or ''}:{password}"
        found |= {base64.b64encode(pair.encode()).decode(), quote(password, safe="")}
    for line in (_told(env, "HEADERS") or "").splitlines():
        value = line.partition(":")[2].strip()
        found |= {value} if len(value) >= _SHORTEST else set()
    return found


def _told(env: Mapping[str, str], name: str) -> str | None:
    if text := env.get(f"CAPACITY_PROM_{name}"):
        return text
    path = env.get(f"CAPACITY_PROM_{name}_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else None
    except (OSError, UnicodeDecodeError):
        return None
