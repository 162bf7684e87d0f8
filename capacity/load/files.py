"""Files of metric exports: which there are, and their bytes, unpacked, whole or in pieces."""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from capacity.errors import ExportError
from capacity.export import without_secrets
from capacity.load import archives

PACKED: Final = (".gz", ".zst")
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LOCAL: Final = type(Path())
# The kernel reads so much in one call; a file that gives less has ended. [byte]
_AT_ONCE: Final = 1 << 26
# Of a file that is held whole, after unpacking; parsed JSON takes 5 to 8 times as much. [byte]
_MOST: Final = 2 << 30
# Of a line: no sample is so long, and what is packed well takes little to write. [byte]
_LONGEST: Final = 16 << 20
# Blocks that a running Prometheus makes or deletes: what they hold is elsewhere as well, or gone;
# prometheus/prometheus tsdb/db.go (v3.5), which removes them when it starts
_UNFINISHED: Final = (".tmp-for-creation", ".tmp-for-deletion")


def listed(source: str | Path) -> list[Path]:
    """Give the files of a path, folder or glob, sorted; hidden ones in a folder are left out.

    Raises
    ------
    ExportError
        If there is none.
    """
    try:
        found = _found(_path(source))
    except OSError as error:
        raise ExportError(
            f"{without_secrets(str(source))[:200]}: cannot be read: {error.strerror}"
        ) from None
    if not found:
        told = without_secrets(str(source))
        raise ExportError(f"{told}: the folder holds no files; wanted are exports of metrics")
    return [
        member
        for path in found
        for member in (archives.members(path) if archives.is_archive(path) else [path])
    ]


def _path(source: str | Path) -> Path:
    if isinstance(source, str) and "://" in source:
        # Packages of object storage take time to load
        from capacity.load import object_store

        return object_store.path_of(source)
    return Path(source)


def _found(path: Path) -> list[Path]:
    if path.is_dir():
        if type(path) is _LOCAL:
            return sorted(map(Path, _below(str(path))), key=lambda p: p.parts)
        below = (p for p in path.rglob("*") if not _is_hidden(p.relative_to(path)) and p.is_file())
        return sorted(below, key=lambda p: p.relative_to(path).parts)
    if path.exists():
        return [path]
    # Path.glob takes no absolute patterns
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not matches:
        raise ExportError(
            f"{without_secrets(str(path))}: no such file or folder, and no file matches it; "
            "check the path; a URL begins with https:// or http://"
        )
    return list(dict.fromkeys(p for match in matches for p in _found(Path(match))))


def _below(folder: str) -> Iterator[str]:
    """Give the files below a local folder: several times as fast as Path.rglob."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_passed_over(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(entry.path)
                elif entry.is_file():
                    yield entry.path
    except PermissionError:
        # Such as lost+found beside a database; as Path.rglob does
        return


def _is_hidden(path: Path) -> bool:
    return any(map(_is_passed_over, path.parts))


def _is_passed_over(name: str) -> bool:
    """Tell whether a file or folder is hidden, or a block that Prometheus makes or deletes now."""
    return name.startswith(".") or name.endswith(_UNFINISHED)


def ending(path: Path) -> str:
    """Give the suffix without that of a compression.

    >>> ending(Path("a.prom.gz"))
    '.prom'
    """
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked if its first bytes are those of gzip or zstd.

    Raises
    ------
    ExportError
        If it is packed with zstd and the package for that is missing.
    OSError
        If it cannot be opened.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if isinstance(file, io.BufferedReader):
            magic = file.peek(4)[:4]
        else:
            magic = file.read(4)
            file.seek(0)
        found: IO[bytes] = file
        if magic.startswith(_GZIP):
            unpacked = gzip.GzipFile(fileobj=file)
            # Closing it closes the file that it unpacks, too
            unpacked.myfileobj = file  # type: ignore[assignment]
            found = cast("IO[bytes]", unpacked)
        elif magic == _ZSTD:
            found = _zstd(path, file)
        # Left open for who asked
        stack.pop_all()
    return found


def _zstd(path: Path, file: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise ExportError(
            f"{path}: zstd needs the package zstandard; pip install zstandard, or unpack it"
        ) from None
    return cast("IO[bytes]", zstandard.open(cast("BinaryIO", file), "rb", closefd=True))


def _plain(path: Path, size: int) -> bytes | None:
    """Give the first bytes of a file on this machine that is not packed, else None.

    Several times as fast as `opened`: of many small files, opening is most of the work.
    """
    if type(path) is not _LOCAL or not len(_ZSTD) <= size <= _AT_ONCE:
        return None
    number = os.open(path, os.O_RDONLY)
    try:
        told = os.fstat(number)
        if not stat.S_ISREG(told.st_mode):
            return None
        # No more memory than is needed: what is asked for is taken at first
        data = os.read(number, min(size, told.st_size + 1))
        # Less than asked for is the end, but not in every file system; some tell no size
        while len(data) < size and len(data) != told.st_size:
            if not (more := os.read(number, size - len(data))):
                break
            data += more
    finally:
        os.close(number)
    return None if data.startswith((_GZIP, _ZSTD)) else data


def _stored(path: Path, size: int) -> bytes | None:
    """Give the first bytes of a file of object storage that is not packed, else None.

    What opens such a file fetches megabytes ahead.
    """
    store = getattr(path, "fs", None)
    if store is None or not path.stat().st_size:
        return None
    data: bytes = store.cat_file(path.path, start=0, end=min(size, path.stat().st_size))  # type: ignore[attr-defined]
    return None if data.startswith((_GZIP, _ZSTD)) else data


def beginning(path: Path, size: int = 1 << 16) -> bytes:
    """Give the first bytes of a file, unpacked.

    Raises
    ------
    ExportError
        If it cannot be read or unpacked.
    """
    try:
        if (data := _plain(path, size)) is not None or (data := _stored(path, size)) is not None:
            return data
        with opened(path) as file:
            return bytes(file.read(size))
    except faults() as error:
        raise ExportError(f"{path}: {why(error)}") from None


def pieces(path: Path, size: int) -> Iterator[bytes]:
    """Give a file in pieces of about `size` bytes that end at line ends; never held whole.

    Raises
    ------
    ExportError
        If it cannot be read or unpacked to its end, or a line is longer than 16 MiB; what came
        before it was given.
    """
    rest: list[bytes] = []
    held, fault = 0, None
    try:
        data = _plain(path, size)
        if data is not None and len(data) < size:
            if data:
                yield data if data.endswith(b"\n") else data + b"\n"
            return
        with opened(path) as file:
            # read() of a packed file that is cut off gives nothing of its last part, read1() does
            while more := file.read1(size):  # type: ignore[attr-defined]
                # One copy of what is given
                end = more.rfind(b"\n") + 1
                if end:
                    yield b"".join([*rest, memoryview(more)[:end]])
                    rest, held = [], 0
                rest.append(more[end:])
                held += len(rest[-1])
                if held > _LONGEST:
                    fault = f"{path}: a line is longer than {_LONGEST} bytes; export it again"
                    break
    except faults() as error:
        fault = f"{path}: {why(error)}"
    if last := b"".join(rest):
        yield last + b"\n"
    if fault:
        raise ExportError(fault)


def whole(path: Path) -> bytes:
    """Give a whole file, unpacked.

    Raises
    ------
    ExportError
        If it cannot be read or unpacked, or is larger than 2 GiB.
    """
    data = beginning(path, _MOST + 1)
    if len(data) > _MOST:
        raise ExportError(f"{path}: larger than {_MOST} bytes; export it in parts, by time")
    return data


def faults() -> tuple[type[Exception], ...]:
    """Give what reading a packed file may raise."""
    found: Sequence[Any] = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
    try:
        import zstandard
    except ImportError:
        return tuple(found)
    return (*found, zstandard.ZstdError)


def why(error: Exception) -> str:
    """Say in words why reading failed."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be unpacked to its end ({error}); copy or export it again"
