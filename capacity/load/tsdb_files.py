"""Which files are of Prometheus' database; known without what reads them, which takes time to load.

First bytes: prometheus/prometheus tsdb/docs/format (v3.5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FORMAT: Final = "tsdb-block"
INDEX: Final = "index"
# What Prometheus has not put into blocks yet: up to 3 hours; chunks_head holds parts of it again
LOG: Final = "wal"
LATE: Final = "wbl"
HEAD: Final = "chunks_head"
HEAD_FOLDERS: Final = (LOG, LATE, HEAD)
_HEADS: Final = frozenset(HEAD_FOLDERS)
# Of index, chunk segment, head chunk segment and tombstones
_MAGICS: Final = (
    b"\xba\xaa\xd7\x00", b"\x85\xbd\x40\xdd", b"\x01\x30\xbc\x91", b"\x01\x30\xba\x30",
)  # fmt: skip


def is_mine(path: Path, begins: bytes) -> bool:
    """Tell whether a file is part of a block or of the database around it."""
    if begins[:4] in _MAGICS or not _HEADS.isdisjoint(path.parts[-3:-1]):
        return True
    return path.name in ("meta.json", "queries.active", "lock") and any(
        (path.parent / name).exists() for name in (INDEX, *HEAD_FOLDERS)
    )
