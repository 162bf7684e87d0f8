"""Programs of an ELF object made by clang, with maps and numbers put where symbols are used.

Only what lb.c needs: sections of code, and relocations R_BPF_64_64 to undefined symbols. Format:
ELF-64 (System V ABI, chapters 4 and 5); relocations and `lddw`: Documentation/bpf/llvm_reloc.rst
and Documentation/bpf/standardization/instruction-set.rst of torvalds/linux.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from capacity.errors import MeasureError

_MACHINE_BPF: Final = 247
_RELOCATION: Final = 9
_SYMBOLS: Final = 2
_R_BPF_64_64: Final = 1
_LDDW: Final = 0x18
_PSEUDO_MAP_FD: Final = 1


@dataclass(frozen=True, slots=True)
class Code:
    """One program: kind of hook, instructions, and which symbol stands at which byte."""

    kind: str
    instructions: bytes
    symbols: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A map, where a symbol means one."""

    number: int


def shipped() -> bytes:
    """Give the object that ships with the package, built from lb.c."""
    return files("capacity.measure").joinpath("lb.o").read_bytes()


def programs(data: bytes) -> dict[str, Code]:
    """Read the programs of an object, by section name such as `xdp/ct`.

    Raises
    ------
    MeasureError
        If it is not a BPF object, or uses what this loader does not know.
    """
    try:
        return _programs(data)
    except (struct.error, IndexError, ValueError) as error:
        raise MeasureError(f"the BPF object is cut or not one: {error}") from error


def _programs(data: bytes) -> dict[str, Code]:
    magic, machine = data[:6], struct.unpack_from("<H", data, 18)[0]
    if magic != b"\x7fELF\x02\x01" or machine != _MACHINE_BPF:
        raise MeasureError("the BPF object is no little-endian ELF-64 of machine BPF")
    start, size, count, names = (
        struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HHH", data, 58),
    )  # fmt: skip
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * size) for i in range(count)]
    body = [data[s[4] : s[4] + s[5]] for s in sections]
    title = [_text(body[names], s[0]) for s in sections]
    symbols = _symbol_names(sections, body)
    found: dict[int, list[tuple[int, str]]] = {}
    for section, bytes_ in zip(sections, body, strict=True):
        if section[1] == _RELOCATION:
            found[section[7]] = _relocations(bytes_, symbols)
    return {
        name: Code(name.split("/")[0], body[i], tuple(found.get(i, [])))
        for i, name in enumerate(title)
        if "/" in name and sections[i][1] == 1
    }


def _symbol_names(sections: list[tuple[int, ...]], body: list[bytes]) -> list[str]:
    for section, bytes_ in zip(sections, body, strict=True):
        if section[1] == _SYMBOLS:
            entries = struct.iter_unpack("<IBBHQQ", bytes_)
            return [_text(body[section[6]], entry[0]) for entry in entries]
    return []


def _relocations(data: bytes, symbols: list[str]) -> list[tuple[int, str]]:
    out = []
    for offset, info in struct.iter_unpack("<QQ", data):
        if info & 0xFFFFFFFF != _R_BPF_64_64:
            raise MeasureError(f"the BPF object has a relocation of type {info & 0xFFFFFFFF}")
        out.append((offset, symbols[info >> 32]))
    return out


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def link(code: Code, values: Mapping[str, int | Descriptor]) -> bytes:
    """Give the instructions with each symbol's map or number in its place.

    Raises
    ------
    MeasureError
        If a symbol has no value.
    """
    out = bytearray(code.instructions)
    for offset, name in code.symbols:
        if out[offset] != _LDDW or name not in values:
            raise MeasureError(f"symbol {name} of the BPF object has no value; known: {[*values]}")
        value = values[name]
        if isinstance(value, Descriptor):
            out[offset + 1] = out[offset + 1] & 0x0F | _PSEUDO_MAP_FD << 4
            value = value.number
        struct.pack_into("<I", out, offset + 4, value)
    return bytes(out)
