"""Sysdumps and other archives (zip, tar, tar.gz): their files, without unpacking any to disk.

A member has the place `archive.zip!/folder/file` and is opened as a path is. What an archive could
do harm with is refused by name, the rest is used. Layout: cilium/cilium cilium-cli/sysdump.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

from capacity.errors import ExportError

if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())

ZIP: Final = (".zip",)
TAR: Final = (".tar", ".tar.gz", ".tgz")
_NESTED: Final = (*ZIP, *TAR, ".gz", ".zst", ".xz", ".bz2", ".7z", ".rar")
_PACKED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")
# Our estimate for 5,000 nodes: 150 files of each agent
MOST_MEMBERS: Final = 1_000_000
# Unpacked: of one member, of all of a zip, and of all of a tar, which is held in memory. [byte]
MOST_BYTES: Final = 2 << 30
MOST_ZIP_BYTES: Final = 64 << 30
MOST_TAR_BYTES: Final = 2 << 30
# Deflate comes to 1,032 at most (zlib, technical notes); recorded outputs of cilium-dbg to 68
# (tests/golden/README.md tells where they are from). Small members do no harm.
MOST_RATIO: Final = 400
_SMALL: Final = 16 << 20
_TOLD: Final = 5
_FAULTS: Final = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, tarfile.TarError,
                  NotImplementedError, RuntimeError)  # fmt: skip


class Member(_Base):
    """A file in an archive, as a path; or one that is refused, which says why when opened."""

    opener: Callable[[], IO[bytes]] | None = None
    size: int = 0
    changed: datetime | None = None
    fault: str | None = None

    def open(self, *args: Any, **more: Any) -> IO[Any]:  # type: ignore[override]
        """Open the member for reading bytes, whatever mode is asked for."""
        if self.fault is not None:
            raise ExportError(f"{self}: {self.fault}")
        if self.opener is None:
            raise FileNotFoundError(2, "No such file in the archive", str(self))
        with self.opener() as stream:
            if stream.read(6).startswith(_PACKED):
                raise ExportError(f"{self}: is packed inside the archive; unpack it first")
        return self.opener()

    def stat(self, **more: Any) -> Any:
        """Give size and time of change; archives tell no time zone, UTC is taken."""
        if self.opener is None:
            raise FileNotFoundError(2, "No such file in the archive", str(self))
        seconds = int(self.changed.timestamp()) if self.changed else 0
        return _Told(self.size, seconds * 10**9)

    def is_file(self, **more: Any) -> bool:
        """Tell whether the member is there."""
        return self.opener is not None


class _Told:
    """What stat tells of a member."""

    def __init__(self, size: int, changed: int) -> None:
        self.st_size, self.st_mtime_ns, self.st_mtime = size, changed, changed / 10**9


class _Bounded:
    """A stream that ends with an error before it has given too much."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.left = stream, MOST_TAR_BYTES

    def read(self, size: int) -> bytes:
        """Give bytes."""
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ExportError(f"more than {MOST_TAR_BYTES} bytes unpacked; unpack it first")
        return data


def is_archive(path: Path) -> bool:
    """Tell whether a path is that of an archive, by its name.

    >>> is_archive(Path("cilium-sysdump-20261124-001122.zip")), is_archive(Path("a.prom.gz"))
    (True, False)
    """
    return not isinstance(path, Member) and path.name.lower().endswith((*ZIP, *TAR))


def members(path: Path) -> list[Path]:
    """Give the files of an archive in order of their names, without hidden ones.

    Parameters
    ----------
    path
        A zip, whose members are unpacked while they are read; or a tar, packed by gzip or not,
        whose small files are held in memory.

    Returns
    -------
    list of Path
        Members; those that are refused raise ExportError when opened. Of each reason the first
        five are named, the rest is counted.
    """
    is_zip = path.name.lower().endswith(ZIP)
    found: list[Member] = []
    refused: dict[str, list[str]] = {}
    seen: set[str] = set()
    try:
        for name, told in (_of_zip if is_zip else _of_tar)(path):
            fault = _fault_of_name(name, seen) or (told if isinstance(told, str) else None)
            seen.add(name)
            if fault is not None:
                refused.setdefault(fault, []).append(name)
            elif isinstance(told, Member) and not _is_hidden(name):
                found.append(told)
    except (*_FAULTS, ExportError) as error:
        refused.setdefault(f"the archive cannot be read on: {error}", []).append("")
    return [*sorted(found, key=str), *_told(path, refused)]


def _fault_of_name(name: str, seen: set[str]) -> str | None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or name[1:2] == ":":
        return "its path leaves the archive"
    if not name.isprintable():
        return "its name cannot be printed"
    if name in seen:
        return "is in the archive more than once; the first one counts"
    if name.lower().endswith(_NESTED):
        return "is an archive, or packed, inside the archive; unpack it first"
    return "one member too many" if len(seen) >= MOST_MEMBERS else None


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _told(path: Path, refused: dict[str, list[str]]) -> Iterator[Path]:
    for fault, names in refused.items():
        for name in names[:_TOLD]:
            yield _refused(f"{path}!/{_printable(name)}" if name else str(path), fault)
        if len(names) > _TOLD:
            yield _refused(str(path), f"{len(names) - _TOLD} more members: each {fault}")


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:300]


def _refused(place: str, fault: str) -> Member:
    member = Member(place)
    member.fault = fault
    return member


def _of_zip(path: Path) -> Iterator[tuple[str, Member | str]]:
    source: Any = path.open("rb") if hasattr(path, "fs") else path
    archive = zipfile.ZipFile(source)
    total = 0
    for info in archive.infolist():
        if info.is_dir():
            continue
        total += info.file_size
        fault = _fault_of_zipped(info, total)
        # orig_filename: zipfile itself turns what leads outside into something harmless
        yield (info.orig_filename, fault or _zipped(path, archive, info))


def _fault_of_zipped(info: zipfile.ZipInfo, total: int) -> str | None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & 1:
        return "is encrypted; unpack it first"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {info.compress_type}, wanted is deflate; pack it again"
    if info.file_size > MOST_BYTES:
        return f"is larger than {MOST_BYTES} bytes"
    if info.file_size > max(_SMALL, MOST_RATIO * info.compress_size):
        return f"unpacks to more than {MOST_RATIO} times its size"
    return f"lies beyond {MOST_ZIP_BYTES} bytes unpacked" if total > MOST_ZIP_BYTES else None


def _zipped(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    member = Member(f"{path}!/{info.filename}")
    # It ends after the size told above, and compares the checksum
    member.opener = lambda: archive.open(info)
    member.size = info.file_size
    try:
        member.changed = datetime(*info.date_time, tzinfo=UTC)
    except ValueError:
        member.changed = None
    return member


def _of_tar(path: Path) -> Iterator[tuple[str, Member | str]]:
    with path.open("rb") as raw:
        is_packed = raw.read(2) == _PACKED[0]
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if is_packed else raw
        bounded: Any = _Bounded(stream)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for info in archive:
                if info.isdir():
                    continue
                name = info.name.removeprefix("./")
                if not info.isreg():
                    yield name, "is a link or a special file"
                elif info.size > MOST_BYTES:
                    yield name, f"is larger than {MOST_BYTES} bytes"
                else:
                    yield name, _tarred(path, name, info, archive)


def _tarred(path: Path, name: str, info: tarfile.TarInfo, archive: tarfile.TarFile) -> Member:
    file = archive.extractfile(info)
    data = file.read() if file is not None else b""
    member = Member(f"{path}!/{name}")
    member.opener = lambda: io.BytesIO(data)
    member.size = len(data)
    # Beyond year 9999 there is no datetime
    is_time = 0 <= info.mtime < 1 << 37
    member.changed = datetime.fromtimestamp(info.mtime, UTC) if is_time else None
    return member
