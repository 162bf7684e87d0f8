"""Lines of files in blocks: many small files together, a large one in parts; some ahead of use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from capacity.errors import ExportError
from capacity.load.files import pieces
from capacity.load.gather import Source

# Text that is read at once: enough that what a call costs does not count. [byte]
BLOCK: Final = 1 << 20
THREADS: Final = min(4, os.cpu_count() or 1)
_NEWLINE: Final = 10

# A file, and its bytes where they are at hand
Found = tuple[Path, bytes | None]
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of one file: which file, and bytes."""

    source: int
    data: bytes


@dataclass(slots=True)
class Block:
    """Pieces of files, one after the other: `starts` are where each begins, `lines` how many."""

    pieces: list[Piece] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Append whole lines."""
        self.pieces.append(piece)
        self.starts.append(self.size)
        self.size += len(piece.data)

    def counted(self) -> bytes:
        """Give all lines, and count them: numpy lets other threads run meanwhile."""
        first = self.pieces[0].data
        data = first if len(self.pieces) == 1 else b"".join(piece.data for piece in self.pieces)
        is_end = np.frombuffer(data, np.uint8) == _NEWLINE
        ends = [*self.starts[1:], len(data)]
        self.lines = [
            int(np.count_nonzero(is_end[start:end]))
            for start, end in zip(self.starts, ends, strict=True)
        ]
        return data

    def owners(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Give the file of each place."""
        if len(self.pieces) == 1:
            return np.full(len(places), self.pieces[0].source, np.uint32)
        at = np.searchsorted(self.starts, places, side="right") - 1
        return np.array([piece.source for piece in self.pieces], np.uint32)[at]


def blocks(found: Iterator[Found], sources: Sequence[Source]) -> Iterator[Block]:
    """Give the files' lines in blocks: many small files together, a large one in parts.

    There is a source for each file when it is found.
    """
    block = Block()
    for index, (path, whole) in enumerate(found):
        parts = _whole_lines(path, sources[index]) if whole is None else _lines(whole)
        for data in parts:
            block.add(Piece(index, data))
            # A part of a large file is a little shorter than a block, and needs no other
            if block.size >= BLOCK // 2:
                yield block
                block = Block()
    if block.size:
        yield block


def _lines(data: bytes) -> list[bytes]:
    return [data if data.endswith(b"\n") else data + b"\n"] if data else []


def _whole_lines(path: Path, source: Source) -> Iterator[bytes]:
    """Give the pieces of a file but a last line that is cut off, as far as packing tells."""
    last = b""
    try:
        for data in pieces(path, BLOCK):
            if last:
                yield last
            last = data
    except ExportError as error:
        fault = str(error).removeprefix(f"{path}: ")
        # What is left over of a file comes alone
        if last.count(b"\n") == 1:
            last, fault = b"", f"{fault}; its last line is left out"
        source.refuse(fault)
    if last:
        yield last


def ahead(
    given: Iterator[_Given], make: Callable[[_Given], _Made], pool: ThreadPoolExecutor
) -> Iterator[_Made]:
    """Make one of each in order, the next ones while the last one is used."""
    waiting: deque[Future[_Made]] = deque()
    for one in given:
        waiting.append(pool.submit(make, one))
        if len(waiting) > THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
