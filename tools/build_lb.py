"""Build capacity/measure/lb.o, the object that ships, from lb.c: `python tools/build_lb.py`.

Needs clang with the BPF target and llvm-strip (Debian: clang, llvm). Another clang gives other
bytes; tests compare what programs do, not their bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "capacity" / "measure"


def build(target: Path) -> None:
    """Compile and strip to `target`."""
    source = FOLDER / "lb.c"
    flags = ["-O2", "-target", "bpf", "-mcpu=v2", "-Wall", "-Werror"]
    subprocess.run(["clang", *flags, "-c", str(source), "-o", str(target)], check=True)  # noqa: S603, S607
    subprocess.run(["llvm-strip", "--strip-unneeded", str(target)], check=True)  # noqa: S603, S607


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "lb.o")
