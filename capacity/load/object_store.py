"""Files of object storage (s3, gs, abfs, …): found and opened by fsspec, read in parts.

Only what is wanted of a block's chunks is fetched. Credentials are those of the store's own tools:
its environment variables and files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capacity.errors import ExportError
from capacity.export import without_secrets

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
# Told where bytes begin and end that are used next
Need = Callable[[Integers, Integers], None]

# thanos-io/thanos pkg/store/bucket.go, EstimatedMaxChunkSize and PartitionerMaxGapSize. Only speed
# rests on them: longer chunks are fetched again, and two parts that lie near cost less as one.
CHUNK_BYTES: Final = 16_000
_GAP_BYTES: Final = 512 * 1024
_HEAD_BYTES: Final = 8
# What is fetched of an index at least: series and their lists lie near each other
_PAGE_BYTES: Final = 16 * 1024
# Of stores where Prometheus, Thanos and Mimir keep blocks, and of memory for tests
SCHEMES: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
# A chunk holds at most 65,535 samples of some 20 bytes: our estimate
MOST_CHUNK_BYTES: Final = 2 << 20


def path_of(url: str) -> Path:
    """Give the path of a URL; it does what those of pathlib do.

    Raises
    ------
    ExportError
        If packages are missing, or nobody knows such URLs.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ExportError(
            f"{without_secrets(url)}: only http:// and https:// are read, and object storage "
            f"({', '.join(SCHEMES[:-1])}); copy other stores to a folder first, and name that"
        )
    try:
        from upath import UPath
    except ImportError:
        raise ExportError(
            f"{without_secrets(url)}: object storage needs more packages; "
            "pip install 'cilium-capacity[cloud]', and s3fs, gcsfs or adlfs for your store"
        ) from None
    try:
        path: Any = UPath(url)
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise ExportError(f"{without_secrets(url)}: {error}") from None
    return path  # type: ignore[no-any-return]


def is_remote(path: object) -> bool:
    """Tell whether a path is one of object storage."""
    return hasattr(path, "fs")


def whole(path: Path) -> Bytes:
    """Give all bytes of a file."""
    return np.frombuffer(path.read_bytes(), np.uint8)


def opened(path: Path) -> tuple[Bytes, Need]:
    """Give room for all bytes of a file, and what fetches those that are needed.

    Room that nothing was fetched for takes no memory.
    """
    data = np.zeros(path.stat().st_size, np.uint8)
    is_there = np.zeros(-(-len(data) // _PAGE_BYTES), np.bool_)

    def need(begins: Integers, ends: Integers) -> None:
        firsts, lasts = begins.clip(0) // _PAGE_BYTES, -(-ends.clip(max=len(data)) // _PAGE_BYTES)
        change = np.zeros(len(is_there) + 1, np.int64)
        is_some = (firsts < lasts) & (begins >= 0)
        np.add.at(change, firsts[is_some], 1)
        np.add.at(change, lasts[is_some], -1)
        missing = np.flatnonzero((np.cumsum(change)[:-1] > 0) & ~is_there)
        if not len(missing):
            return
        far = np.diff(missing) > 1 + _GAP_BYTES // _PAGE_BYTES
        begin = missing[np.concatenate([[True], far])] * _PAGE_BYTES
        end = ((missing[np.concatenate([far, [True]])] + 1) * _PAGE_BYTES).clip(max=len(data))
        for at, piece in zip(begin.tolist(), _fetched(path, begin, end), strict=True):
            data[at : at + len(piece)] = piece
            is_there[at // _PAGE_BYTES : -(-(at + len(piece)) // _PAGE_BYTES)] = True

    return data, need


def _fetched(path: Path, begins: Integers, ends: Integers) -> list[Bytes]:
    fetched: Sequence[bytes | Exception] = path.fs.cat_ranges(  # type: ignore[attr-defined]
        [path.path] * len(begins),  # type: ignore[attr-defined]
        begins.tolist(), ends.tolist(),
    )  # fmt: skip
    if failed := [one for one in fetched if isinstance(one, Exception)]:
        raise ExportError(f"{path.name}: cannot be read: {failed[0]}")
    return [np.frombuffer(one, np.uint8) for one in fetched if isinstance(one, bytes)]


def parts(path: Path, offsets: Integers, sizes: int = CHUNK_BYTES) -> tuple[Bytes, Integers]:
    """Fetch the first bytes of a file, and `sizes` bytes from each offset on.

    Returns
    -------
    tuple
        Bytes, and where in them each offset is.
    """
    end = path.stat().st_size
    begins = np.concatenate([[0], np.sort(offsets)])
    ends = np.concatenate([[_HEAD_BYTES], begins[1:] + sizes]).clip(max=end)
    is_new = np.concatenate([[True], begins[1:] > np.maximum.accumulate(ends)[:-1] + _GAP_BYTES])
    firsts = begins[is_new]
    lasts = np.maximum.reduceat(ends, np.flatnonzero(is_new))
    pieces = _fetched(path, firsts, lasts)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    run = np.searchsorted(firsts, offsets, side="right") - 1
    at = (np.cumsum(lengths) - lengths)[run] + offsets - firsts[run]
    return np.concatenate(pieces), at
