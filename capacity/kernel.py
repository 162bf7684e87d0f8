"""The process behind a notebook: a Jupyter kernel. Runs in a job, so it imports nothing early."""

from __future__ import annotations

import os
import sys


def serve(arguments: list[str], folder: str) -> bytes:
    """Be a kernel until it is told to stop; `arguments` are those of ipykernel."""
    # Nobody debugs a report, and the debugger is most of what a kernel loads
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    from ipykernel.kernelapp import IPKernelApp

    os.chdir(folder)
    IPKernelApp.launch_instance(arguments)
    return b""
