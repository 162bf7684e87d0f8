"""Repeated test runs of one shape on one or several CPUs, and which of them nobody disturbed.

Kernel time is what bpf(2) tells of a run: nanoseconds a packet, without the time in which the
thread had to make way. Wall time counts that too. For XDP the call sleeps some 30 ms besides, while
the kernel patches its dispatcher and waits for readers (kernel/bpf/dispatcher.c of torvalds/linux):
such sleep is no sign of others and is told apart by the time the thread ran or waited for its CPU.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capacity.errors import MeasureError
from capacity.measure import loader
from capacity.measure.bpf import Run, test_run
from capacity.measure.shapes import Loaded, Shape, loaded

# An Ethernet frame of 64 bytes with IPv4 and TCP headers; programs write addresses themselves
PACKET: Final = (
    bytes(range(12)) + b"\x08\x00" + b"\x45\x00\x00\x32\x00\x00\x00\x00\x40\x06" + bytes(10)
    + bytes(12) + b"\x50\x10" + bytes(6) + bytes(10)
)  # fmt: skip
GOOD: Final = {"xdp": 3, "tc": 0}
# Share of its time that a thread may wait for its CPU, and time awake beyond kernel time: entering
# the call takes some microseconds, interrupts a little
MOST_WAITING: Final = 0.02
MOST_AWAKE: Final = 1.10
_FIXED: Final = 500e-6
OPERATIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Repetition:
    """One run on all its CPUs at once.

    Attributes
    ----------
    nanoseconds : float
        Kernel time a packet (a map operation of op_* programs), mean over CPUs. [ns]
    wall_over_kernel : float
        Wall time divided by kernel time, sleep of the call included, of the worst CPU. [1]
    awake_over_kernel : float
        Time in which the thread ran or waited, divided by kernel time, of the worst CPU. [1]
    waiting : float
        Share of that time in which it waited for its CPU, of the worst CPU. [1]
    stolen : float
        Time that the hypervisor took from these CPUs. [s]
    """

    nanoseconds: float
    wall_over_kernel: float
    awake_over_kernel: float
    waiting: float
    stolen: float

    @property
    def is_quiet(self) -> bool:
        """Whether nobody else took the CPUs."""
        return (
            self.waiting <= MOST_WAITING
            and self.awake_over_kernel <= MOST_AWAKE
            and self.stolen == 0
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Repetitions of one shape.

    Attributes
    ----------
    created, hits : float
        Map entries made and found, a packet. [1]
    """

    shape: Shape
    cpus: tuple[int, ...]
    repetitions: tuple[Repetition, ...]
    created: float
    hits: float

    @property
    def quiet(self) -> tuple[Repetition, ...]:
        """The repetitions that nobody disturbed."""
        return tuple(r for r in self.repetitions if r.is_quiet)

    @property
    def nanoseconds(self) -> float | None:
        """Median of the quiet repetitions. [ns]."""
        return statistics.median(r.nanoseconds for r in self.quiet) if self.quiet else None


def time_shape(
    shape: Shape,
    code: dict[str, loader.Code],
    cpus: Sequence[int],
    *,
    repeats: int = 5,
    seconds: float = 0.03,
    patience: float = 2.0,
) -> Timing:
    """Measure a shape: warm up, then repeat until enough repetitions are quiet.

    Parameters
    ----------
    shape, code
        What to run; programs of `loader.programs`.
    cpus
        CPUs that run at once, one thread each.
    repeats
        Quiet repetitions wanted. [1]
    seconds
        Aim of one repetition. [s]
    patience
        Time after which no further repetition starts, once `repeats` were tried. [s]

    Raises
    ------
    MeasureError
        If the kernel refuses, or the program gave packets up.
    """
    with loaded(shape, code) as held:
        _fill_by_program(held, cpus)
        warm = _warm_up(held, cpus)
        count = max(1000, min(int(seconds * 1e9 / max(warm, 1.0)), 50_000_000))
        before = held.state()
        done: list[Repetition] = []
        end = time.monotonic() + patience
        while sum(r.is_quiet for r in done) < repeats:
            if len(done) >= repeats and time.monotonic() > end:
                break
            done.append(_repetition(held, cpus, count))
        after = held.state()
        packets = max(after.packets - before.packets, 1)
        if after.failed > before.failed:
            lost = (after.failed - before.failed) / packets
            raise MeasureError(f"{shape.program} gave up {lost:.1%} of its packets on {shape}")
    return Timing(
        shape, tuple(cpus), tuple(done),
        (after.created - before.created) / packets, (after.hits - before.hits) / packets,
    )  # fmt: skip


def _fill_by_program(held: Loaded, cpus: Sequence[int]) -> None:
    """Fill the map of a lookup by the update program, on the CPU that will ask."""
    if held.writer is None:
        return
    runs = -(-held.shape.flows // OPERATIONS)
    _on_cpus(held.writer, cpus, runs)
    held.reset()


def _warm_up(held: Loaded, cpus: Sequence[int]) -> float:
    """Let each CPU see each flow once, or fill the map where flows are new; give ns a packet."""
    shape = held.shape
    wanted = min(shape.flows, 2 * shape.ct_entries)
    runs = -(-wanted // OPERATIONS) if shape.is_operation else wanted
    _on_cpus(held.program, cpus, max(runs, 2000))
    if wanted == shape.flows:
        held.reset()
    results = _on_cpus(held.program, cpus, 2000)
    return max(told.run.nanoseconds for told in results)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one thread saw of its run; seconds."""

    run: Run
    wall: float
    ran: float
    waited: float


def _repetition(held: Loaded, cpus: Sequence[int], count: int) -> Repetition:
    stolen = _stolen(cpus)
    results = _on_cpus(held.program, cpus, count)
    stolen = _stolen(cpus) - stolen
    good = GOOD[held.shape.program.split("/")[0]]
    for told in results:
        if told.run.verdict != good:
            msg = f"{held.shape.program} ended with verdict {told.run.verdict}, not {good}"
            raise MeasureError(msg)
    kernel = [max(told.run.nanoseconds, 1) * count * 1e-9 for told in results]
    pairs = list(zip(results, kernel, strict=True))
    divisor = OPERATIONS if held.shape.is_operation else 1
    return Repetition(
        statistics.fmean(told.run.nanoseconds for told in results) / divisor,
        max(told.wall / k for told, k in pairs),
        max(max(told.ran + told.waited - _FIXED, 0) / k for told, k in pairs),
        max(told.waited / max(told.ran + told.waited, 1e-9) for told in results),
        stolen,
    )


def _on_cpus(program: int, cpus: Sequence[int], count: int) -> list[_Told]:
    """Run at once on each CPU."""
    barrier = threading.Barrier(len(cpus))
    out: list[_Told | OSError] = [OSError("did not run")] * len(cpus)

    def work(place: int, cpu: int) -> None:
        try:
            # Of this thread alone: 0 means the thread that calls
            os.sched_setaffinity(0, {cpu})
            barrier.wait()
            waited, ran, start = _waited(), time.thread_time(), time.perf_counter()
            run = test_run(program, PACKET, count)
            wall = time.perf_counter() - start
            out[place] = _Told(run, wall, time.thread_time() - ran, _waited() - waited)
        except OSError as error:
            out[place] = error
            barrier.abort()
        except threading.BrokenBarrierError:
            return

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(cpus)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = []
    for result in out:
        if isinstance(result, OSError):
            raise MeasureError(f"a test run on CPUs {[*cpus]} failed: {result}") from result
        done.append(result)
    return done


def _waited() -> float:
    """Seconds this thread was ready and had no CPU: Documentation/scheduler/sched-stats.rst."""
    text = Path("/proc/thread-self/schedstat").read_text(encoding="ascii")
    return int(text.split()[1]) * 1e-9


def _stolen(cpus: Sequence[int]) -> float:
    """Seconds the hypervisor took from these CPUs: field 8 of /proc/stat, proc_stat(5)."""
    named = {f"cpu{cpu}" for cpu in cpus}
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    ticks = sum(int(line.split()[8]) for line in lines if line.split(" ", 1)[0] in named)
    return ticks / os.sysconf("SC_CLK_TCK")


def allowed_cpus() -> list[int]:
    """CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def name_of_cpu() -> str:
    """Model name of the first CPU, as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return "not told"
