"""Pieces of a file end at line ends and are all of it, however long it is."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.load.files import beginning, listed, pieces


@settings(deadline=None)
@given(st.binary(max_size=40).map(lambda data: data.replace(b"\x00", b"\n")), st.booleans())
def test_pieces_are_the_whole_file_in_whole_lines(data: bytes, is_packed: bool) -> None:  # noqa: FBT001
    # Sizes below, at and above that of the file: it is read at once or in parts
    data = b"a" + data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(gzip.compress(data) if is_packed else data)
        for size in (1, len(data) - 1 or 1, len(data), len(data) + 1):
            parts = list(pieces(path, size))
            assert b"".join(parts) == data + b"\n" * (not data.endswith(b"\n"))
            assert all(part.endswith(b"\n") for part in parts)
            assert beginning(path, size) == data[:size]


def test_blocks_that_are_being_made_or_deleted_are_passed_over(tmp_path: Path) -> None:
    for folder in ("01A", "01B.tmp-for-creation", "01C.tmp-for-deletion"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "index").write_bytes(b"x")
    assert listed(tmp_path) == [tmp_path / "01A" / "index"]
