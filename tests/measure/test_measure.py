"""The measured load balancer, in the running kernel: what it does, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from capacity.cli_lb import measure
from capacity.errors import MeasureError
from capacity.measure import bpf, grid, loader, timing
from capacity.measure.shapes import Shape, loaded
from capacity.throughput import calibration

pytestmark = pytest.mark.kernel

CODE = loader.programs(loader.shipped())
PACKETS = [name for name in CODE if "op_" not in name]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    try:
        bpf.require()
    except MeasureError as error:
        pytest.skip(str(error))


def total(data: bytes) -> int:
    """One's complement sum: 0xffff over data whose checksum is right, RFC 1071."""
    value = sum(struct.unpack(f">{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def packet(shape: Shape) -> bytes:
    """The packet of flow 0 of CPU 0, with right checksums."""
    ports = struct.pack("<HH", 1024, 80 << 8)
    pair = struct.pack("<II", 0x0A000000, 0xC0A80000)
    head = b"\x45\x00\x00\x32\x00\x00\x00\x00\x40\x06"
    check = struct.pack(">H", ~total(head + pair) & 0xFFFF)
    body = ports + bytes(8) + b"\x50\x10" + bytes(2)
    pseudo = pair + b"\x00\x06" + struct.pack(">H", 30)
    tcp = struct.pack(">H", ~total(pseudo + body + bytes(12)) & 0xFFFF)
    return bytes(range(12)) + b"\x08\x00" + head + check + pair + body + tcp + bytes(12)


def one_run(name: str, code: dict[str, loader.Code], shape: Shape) -> bpf.Run:
    with loaded(shape, code) as held:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            return bpf.test_run(held.program, packet(shape), 1)
        finally:
            os.sched_setaffinity(0, before)


@pytest.mark.parametrize("name", PACKETS)
def test_each_program_sends_every_packet_on(name: str) -> None:
    with loaded(Shape(name, flows=500), CODE) as held:
        run = bpf.test_run(held.program, timing.PACKET, 5000)
        state = held.state()
    assert run.verdict == timing.GOOD[name.split("/")[0]]
    assert (state.packets, state.failed) == (5000, 0)


@pytest.mark.parametrize(("name", "entries"), [("xdp/ct", 1), ("xdp/snat", 3), ("xdp/reply", 2)])
def test_a_connection_is_made_once_and_found_afterwards(name: str, entries: int) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with loaded(Shape(name, flows=500), CODE) as held:
            bpf.test_run(held.program, timing.PACKET, 500)
            first = held.state()
            bpf.test_run(held.program, timing.PACKET, 500)
            second = held.state()
    finally:
        os.sched_setaffinity(0, before)
    assert (first.created, first.hits) == (500 * entries, 0)
    assert (second.created, second.hits) == (first.created, 500 * entries)


def test_the_rewritten_packet_goes_to_a_backend_with_right_checksums() -> None:
    if min(os.sched_getaffinity(0)) != 0:
        pytest.skip("flow 0 is made on CPU 0, which this process may not use")
    shape = Shape("xdp/ct", services=1, backends=3, flows=10)
    out = one_run("xdp/ct", CODE, shape).packet
    address, port = struct.unpack("<I", out[30:34])[0], struct.unpack("<H", out[36:38])[0]
    assert 0xAC140000 < address <= 0xAC140003
    assert port == 8080
    assert out[:6] == bytes(range(6, 12))
    # The time to live is set anew without the checksum, as routing would: it was 64 before
    assert total(out[14:34]) == 0xFFFF
    assert total(out[26:34] + b"\x00\x06" + struct.pack(">H", 30) + out[34:64]) == 0xFFFF


@pytest.mark.skipif(
    not (shutil.which("clang") and shutil.which("llvm-strip")),
    reason="clang and llvm-strip are not installed (Debian: clang, llvm)",
)
def test_the_shipped_object_does_what_its_source_does(tmp_path: Path) -> None:
    target = tmp_path / "lb.o"
    subprocess.run([sys.executable, ROOT / "tools" / "build_lb.py", target], check=True)
    built = loader.programs(target.read_bytes())
    assert sorted(built) == sorted(CODE)
    for name in PACKETS:
        shape = Shape(name, flows=10)
        ours, theirs = one_run(name, CODE, shape), one_run(name, built, shape)
        assert (ours.verdict, ours.packet) == (theirs.verdict, theirs.packet), name


SOURCE = """
import sys, time
from capacity.measure import loader
from capacity.measure.shapes import Shape, loaded
with loaded(Shape("xdp/snat", flows=500), loader.programs(loader.shipped())):
    print("ready", flush=True)
    time.sleep(60)
"""


def maps_of(process: int) -> set[int]:
    """Numbers of the maps that a process holds."""
    told = [path.read_text() for path in Path(f"/proc/{process}/fdinfo").iterdir()]
    return {int(text.partition("map_id:")[2].split()[0]) for text in told if "map_id:" in text}


def is_gone(held: set[int], most: int) -> bool:
    """Whether the kernel freed these maps, and tables within them: it waits for its readers."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        now = bpf.numbers("map")
        if not held & now and len(now) <= most:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_map_is_left_after_a_kill(number: signal.Signals) -> None:
    before = bpf.numbers("map")
    with subprocess.Popen([sys.executable, "-c", SOURCE], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            held = maps_of(child.pid)
            assert len(held) == 8
            assert held <= bpf.numbers("map")
            # 100 Maglev tables are held by the map of maps alone
            assert len(bpf.numbers("map") - before) >= 108
            child.send_signal(number)
        finally:
            child.kill() if number == signal.SIGKILL else child.terminate()
    assert child.returncode == -number
    assert is_gone(held, len(before) + 20)  # other workers' tests may hold some


def test_the_whole_command_measures_writes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests run beside this one: here every repetition counts, disturbed or not
    monkeypatch.setattr(timing.Repetition, "is_quiet", property(lambda self: True))
    before, file = bpf.numbers("map"), tmp_path / "lb.json"
    small = ["--services", "20", "--backends", "3", "--ct", "2000", "--repeats", "2"]
    told = CliRunner().invoke(
        measure, ["lb", *small, "--seconds", "0.001", "--out", str(file), "-o", "json"]
    )
    assert told.exit_code == 0, told.output
    made = calibration.read(file)
    rows = made.timings
    assert json.loads(told.stdout)["timings"] == rows.to_dicts()
    cost = {
        row["stage"]: row["nanoseconds"] for row in rows.filter(hook="tc").iter_rows(named=True)
    }
    assert set(cost) == {"base", "service", "ct", "snat", "reply"}
    assert cost["base"] < cost["snat"]
    assert set(rows["cores"]) == {1, *grid.core_counts(len(timing.allowed_cpus()))}
    new = rows.filter("is_new", pl.col("stage") == "snat", pl.col("cores") == 1)
    held = rows.filter(~pl.col("is_new"), pl.col("stage") == "snat", pl.col("cores") == 1)
    assert new["nanoseconds"].min() > held["nanoseconds"].min()
    if len(timing.allowed_cpus()) < grid.LEAST_CORES:
        assert "not fitted" in made.scaling
    assert is_gone(set(), len(before) + 20)


def test_a_contended_cpu_is_refused_by_name() -> None:
    cpu = timing.allowed_cpus()[-1]
    spin = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as child:
        try:
            time.sleep(0.2)
            settings = grid.MeasureSettings(repeats=2, patience=0.0, seconds=0.05)
            with pytest.raises(MeasureError, match=rf"disturbed 2 of 2 .* CPU {cpu} "):
                grid.measure(settings, cpus=[cpu])
        finally:
            child.kill()


def test_a_user_without_rights_is_told_in_one_line() -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("giving rights up needs root and setpriv (Debian: util-linux)")
    without = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable]
    told = subprocess.run(
        [*without, "-m", "capacity", "measure", "lb"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2, told.stderr
    assert told.stderr.count("\n") == 1
    assert "run as root" in told.stderr
    assert told.stdout == ""


def test_maps_larger_than_half_of_the_free_memory_are_refused_before_they_are_made() -> None:
    before = bpf.numbers("map")
    shape = Shape("xdp/ct", ct_entries=1 << 28)
    with pytest.raises(MeasureError, match="MiB are free"), loaded(shape, CODE):
        pass
    assert len(bpf.numbers("map")) <= len(before) + 120
