"""Memory of thinning: a packed text of many times its memory limit, read with a step.

Run: python benchmarks/thinning.py [--gigabytes 1.2] [--limit 400] [--scrape 15] [--step 5m]. The
text is a recorded scrape at many times, packed while it is made, so that the disk holds little; it
is read by a process of its own that may take so many MiB of data in all, interpreter included.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

from capacity import shipped

START = 1_795_477_000
# Reads a small file first, so that code is loaded; then the large one
CHILD = """
import resource, sys, time
from pathlib import Path
import capacity
from capacity.load import exposition

small, large, step, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_DATA, (int(limit) << 20,) * 2)

def peak():
    told = Path("/proc/self/status").read_text()
    return int(told.split("VmHWM:")[1].split()[0]) << 10

exposition.SMALL = 0
capacity.read(small, step=step)
before, began = peak(), time.process_time()
made = capacity.read(large, step=step)
used, seconds = peak() - before, time.process_time() - began
frames = sum(f.write_ipc(None).getbuffer().nbytes for f in (made.series, made.samples))
read = made.sources["read"].sum()
print(f"{read:,} samples read, {len(made.samples):,} kept in {frames / 2**20:.1f} MiB of frames; "
      f"peak {(before + used) / 2**20:.0f} MiB, {used / 2**20:.0f} MiB above the start, "
      f"{used / frames:.1f}x the frames; {seconds:.1f} s of processor")
"""


def write(folder: Path, size: float, scrape: int) -> tuple[Path, Path, int]:
    newest = sorted(shipped.path("data", "lab", "walk").glob("*.prom.gz"))[-1]
    text = gzip.decompress(newest.read_bytes()).decode()
    lines = [line for line in text.splitlines() if line[:1] != "#"]
    small, large, written, at = folder / "small.om", folder / "large.om.gz", 0, START
    with gzip.open(large, "wb", compresslevel=1) as file:
        while written < size:
            part = "".join(f"{line} {at}\n" for line in lines).encode()
            if at == START:
                small.write_bytes(part + b"# EOF\n")
            file.write(part)
            written, at = written + len(part), at + scrape
        file.write(b"# EOF\n")
    return small, large, written


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--limit", type=int, default=400, help="MiB")
    parser.add_argument("--scrape", type=int, default=15, help="seconds")
    parser.add_argument("--step", default="5m")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        small, large, written = write(Path(name), asked.gigabytes * 1e9, asked.scrape)
        packed = large.stat().st_size
        print(f"{written / 1e9:.2f} GB of text, {packed / 1e6:.0f} MB packed")
        command = [sys.executable, "-c", CHILD, str(small), str(large), asked.step]
        subprocess.run([*command, str(asked.limit)], check=True)


if __name__ == "__main__":
    main()
