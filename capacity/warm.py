"""A warm interpreter that forks itself for each job: imports are paid once, state is never shared.

Where forking is not safe (anywhere but Linux) each job gets a fresh interpreter instead. A job that
crashes, hangs or runs out of memory takes nothing else with it; jobs die with whoever started them.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from capacity import errors
from capacity.errors import CapacityError

# Reading numbers does not need more, and a pool of threads does not survive a fork
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_LONGEST_REQUEST: Final = 1 << 17
_PR_SET_PDEATHSIG: Final = 1
_GOOD: Final = b"+"
CAN_FORK: Final = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Job:
    """A process that runs one call; its channel gives the answer and ends when the process does."""

    pid: int
    channel: int
    process: subprocess.Popen[bytes] | None = None

    def poll(self) -> int | None:
        """Give None while the process runs, else 0 (how it ended is not known)."""
        ready, _, _ = select.select([self.channel], [], [], 0)
        if not ready:
            return None
        # A kernel writes nothing: what can be read is the end
        return 0 if os.read(self.channel, 1) == b"" else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None and (end is None or time.monotonic() < end):
            select.select([self.channel], [], [], 0.05)
        return 0

    def answer(self, timeout: float | None = None) -> bytes:
        """Give what the call returned; the job is killed if it takes more than `timeout` seconds.

        Raises
        ------
        CapacityError
            What the call raised: an error of ours as it was, another with its kind. Also if the
            process died, or took longer.
        """
        end = None if timeout is None else time.monotonic() + timeout
        told = bytearray()
        while True:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            if not select.select([self.channel], [], [], left)[0]:
                self.kill()
                raise CapacityError(f"took longer than {timeout:g} s and was ended")
            if not (part := os.read(self.channel, 1 << 20)):
                break
            told += part
        if not told:
            raise CapacityError("its process died, most often for want of memory")
        if told[:1] == _GOOD:
            return bytes(told[1:])
        kind, text = json.loads(bytes(told[1:]))
        ours = getattr(errors, kind, None)
        if isinstance(ours, type) and issubclass(ours, CapacityError):
            raise ours(text)
        raise CapacityError(f"{kind}: {text}")

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process and what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)
        if signum == signal.SIGKILL:
            # Its end is a matter of milliseconds; whoever polls for it would sleep longer
            self.wait(1.0)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End it if it still runs, and free the channel."""
        self.kill()
        with suppress(OSError):
            os.close(self.channel)
        if self.process is not None:
            self.process.wait()

    # What a process of the standard library has, too; nobody reads or writes these of a job
    stdin = stdout = stderr = None


Start = Callable[[str, Mapping[str, Any], Mapping[str, str]], Job]


@contextmanager
def warmed(
    modules: Sequence[str], *, env: Mapping[str, str] | None = None, fork: bool = CAN_FORK
) -> Iterator[Start]:
    """Give a function that starts jobs: ``start("module:function", arguments, environment)``.

    The function is called with the arguments; the bytes it returns are the job's answer.

    Parameters
    ----------
    modules
        Imported once, ahead of all jobs.
    env
        Environment of the interpreter, besides what is set.
    fork
        Fork jobs from a warm interpreter; else start a fresh one for each.
    """
    if not fork:
        yield lambda call, arguments, more: _fresh(call, arguments, {**(env or {}), **more})
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-P", "-m", "capacity.warm", str(theirs.fileno()), *modules]
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env={**os.environ, **_ONE_THREAD, **(env or {})},
        )  # fmt: skip
    with closing(ours):
        try:
            yield lambda call, arguments, env: _ask(ours, call, arguments, env)
        finally:
            ours.close()
            process.wait()


def _ask(zygote: socket.socket, call: str, arguments: Mapping[str, Any], env: Any) -> Job:
    reading, writing = os.pipe()
    request = json.dumps({"call": call, "arguments": arguments, "env": dict(env)}).encode()
    try:
        socket.send_fds(zygote, [request], [writing])
    except OSError as error:
        os.close(reading)
        raise CapacityError(f"the warm interpreter does not answer: {error.strerror}") from None
    finally:
        os.close(writing)
    # The job's own number comes first, in four bytes
    told = b""
    while len(told) < 4 and (part := os.read(reading, 4 - len(told))):
        told += part
    if len(told) < 4:
        os.close(reading)
        raise CapacityError("the warm interpreter died before it started a job")
    return Job(int.from_bytes(told, "big"), reading)


def _fresh(call: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> Job:
    """Start a job in an interpreter of its own."""
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        [sys.executable, "-P", "-m", "capacity.warm"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env={**os.environ, **env}, start_new_session=True,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise CapacityError("no pipe to a new interpreter")
    with process.stdin as to_child:
        to_child.write(json.dumps({"call": call, "arguments": arguments, "env": {}}).encode())
    channel = os.dup(process.stdout.fileno())
    process.stdout.close()
    return Job(process.pid, channel, process)


def _serve(listening: socket.socket, modules: Sequence[str]) -> None:
    """Be the warm interpreter: fork a child for each request until the other side is gone."""
    for name in modules:
        import_module(name)
    children: set[int] = set()

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                children.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        request, handed, _, _ = socket.recv_fds(listening, _LONGEST_REQUEST, 1)
        if not request:
            break
        # No child may end before it is in the set
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            listening.close()
            _child(request, handed[0])  # does not return
        children.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for number in handed:
            os.close(number)
    for pid in list(children):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _child(request: bytes, channel: int) -> None:
    """Run one call in a forked child and end, whatever happens."""
    code = 1
    try:
        parent = os.getppid()
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        os.write(channel, os.getpid().to_bytes(4, "big"))
        _run(json.loads(request), channel)
        code = 0
    finally:
        os._exit(code)


def _run(request: dict[str, Any], channel: int) -> None:
    """Make the call and write what it returns, or how it failed."""
    told = [b""]

    def fail(kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if kind is not None:
            told[0] = b"!" + json.dumps([kind.__name__, " ".join(str(error).split())]).encode()
        return True

    with ExitStack() as stack:
        stack.push(fail)
        os.environ.update(request["env"])
        module, _, function = request["call"].partition(":")
        told[0] = _GOOD + getattr(import_module(module), function)(**request["arguments"])
    view = memoryview(told[0])
    while view:
        view = view[os.write(channel, view) :]


def _main(arguments: Sequence[str]) -> None:
    if arguments:
        number, *modules = arguments
        _serve(socket.socket(fileno=int(number)), modules)
        return
    channel = os.dup(1)
    os.dup2(2, 1)
    _run(json.load(sys.stdin), channel)


if __name__ == "__main__":
    _main(sys.argv[1:])
