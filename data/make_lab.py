"""Make data/lab, data/lab-k8s and data/lab-scale from the recording they were taken from.

    python data/make_lab.py --recorded RECORDED --out data

Same recording, same bytes. What was recorded, and how, is in data/lab/README.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from capacity.cilium.map_memory import memlock_bytes

# One agent that grows; m11 to m14 take the load away again, but gauges of pressure do not fall
WALK: Final = (
    "m00_base", "m01_svc200x10", "m02_svc1000x10", "m03_ident1000_ip2000", "m04_node100",
    "m05_ep25", "m06_pol50", "m07_ep60", "m08_pol200", "m09_ident3000_ip10000", "m10_node300",
)  # fmt: skip
K8S: Final = ("k8s_small", "k8s_big")
# Series that tell capacity; the rest (API limiter, kvstore, FQDN by endpoint …) is left out
KEPT: Final = re.compile(
    r"cilium_(?:bpf_|datapath_conntrack_|drop_|endpoint|event_ts|forward_|identity|ip_addresses"
    r"|ipam_|ipcache_|k8s_|kubernetes_|nat_|nodes_all_|policy|process_|services_|version)"
    r"|go_(?:memstats_heap_|goroutines|threads)"
)
BPFTOOL: Final = (
    "id", "type", "name", "flags", "bytes_key", "bytes_value", "max_entries", "bytes_memlock",
)  # fmt: skip
TRUTH: Final = "capacity.lab-truth/1"
# The machine: 2 possible CPUs, Linux 6.18.44
_MACHINE: Final[dict[str, Any]] = {"cpus": 2, "kernel": "6.18"}
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)$", re.M)


def main() -> None:
    """Read the arguments and write the folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recorded", type=Path, required=True, help="folder of the recording")
    parser.add_argument("--out", type=Path, required=True, help="folder to write lab* into")
    arguments = parser.parse_args()
    make(arguments.recorded, arguments.out)


def make(recorded: Path, out: Path) -> None:
    """Write out/lab, out/lab-k8s and out/lab-scale."""
    for folder, steps in (("lab/walk", WALK), ("lab-k8s/run", K8S)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        rows = [_step(recorded / "snap" / step, out / folder) for step in steps]
        _write_truth(out / folder.split("/")[0] / "truth.json", rows)
    (out / "lab-scale").mkdir(parents=True, exist_ok=True)
    for name in ("agent", "operator"):
        told = recorded / ("scale" if name == "agent" else name) / f"{name}_scale.json"
        levels = json.loads(told.read_text(encoding="utf-8"))
        rows = [_level(level) | _regenerated(told.parent, level) for level in levels]
        _write_csv(out / "lab-scale" / f"{name}.csv", rows)


def _step(source: Path, out: Path) -> dict[str, Any]:
    """Write scrape and maps of one step, and give its row of the truth."""
    # The second line of proc_stat.txt is the second, UTC, in which the step was recorded
    stat, written = (source / "proc_stat.txt").read_text(encoding="utf-8").splitlines()[:2]
    second = int(written)
    time = datetime.fromtimestamp(second, UTC)
    stem = f"{time:%Y-%m-%dT%H-%M-%SZ}_{source.name}"
    scrape = (source / "metrics.prom").read_text(encoding="utf-8")
    maps = json.loads((source / "bpftool_map.json").read_bytes())
    _write_gzip(out / f"{stem}.prom.gz", kept_lines(scrape))
    trimmed = [{name: entry[name] for name in BPFTOOL if name in entry} for entry in maps]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in trimmed)
    _write_gzip(out / f"{stem}.bpftool.json.gz", f"[{lines}]\n")
    row = {"step": source.name, "time": f"{time:%Y-%m-%dT%H:%M:%SZ}"}
    return row | _process(source, stat) | _maps(maps) | _held(scrape)


def kept_lines(scrape: str) -> str:
    """Give the samples of a scrape that tell capacity, with their TYPE lines; no buckets."""
    lines = []
    for line in scrape.splitlines():
        name = line.split(" ")[2] if line.startswith("# TYPE ") else line
        if line.startswith("#") and not line.startswith("# TYPE "):
            continue
        if KEPT.match(name) and not re.match(r"\w+_bucket\{", line):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _process(source: Path, stat: str) -> dict[str, Any]:
    """Memory and CPU time of the agent as the kernel tells them: proc(5), 100 ticks a second."""
    status = (source / "proc_status.txt").read_text(encoding="utf-8")
    kib = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.M))
    ticks = stat.rpartition(") ")[2].split()
    return {
        "rss_bytes": 1024 * int(kib["VmRSS"]),
        "rss_anonymous_bytes": 1024 * int(kib["RssAnon"]),
        "cpu_seconds": (int(ticks[11]) + int(ticks[12])) / 100,
    }


def _maps(maps: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes and elements of the BPF maps as the kernel tells them."""
    policy = [_elements(entry) for entry in maps if entry["name"] == "cilium_policy_0"]
    return {
        "maps": len(maps),
        "maps_memlock_bytes": sum(entry["bytes_memlock"] for entry in maps),
        "ipcache_entries": sum(_elements(m) for m in maps if m["name"] == "cilium_ipcache"),
        "node_map_entries": max(_elements(m) for m in maps if m["name"] == "cilium_node_map"),
        "policy_maps": len(policy),
        "policy_entries": sum(policy),
        "policy_entries_most": max(policy),
    }


def _held(scrape: str) -> dict[str, Any]:
    """Give what the agent says it holds."""
    values = {
        name + (labels or ""): float(value) for name, labels, value in _SAMPLE.findall(scrape)
    }
    added, deleted = (
        values.get(f'cilium_services_events_total{{action="{action}"}}', 0.0)
        for action in ("add", "delete")
    )
    return {
        **{f"{name}_entries": _reported(values, name) for name in _REPORTED},
        "nodes": int(values["cilium_nodes_all_num"]),
        "endpoints": int(values["cilium_endpoint"]),
        "identities_local": int(values['cilium_identity{type="cluster_local"}']),
        "policies": int(values["cilium_policy"]),
        "services": int(added - deleted),
    }


# Preallocated maps: the kernel's bytes do not tell entries, the agent's ratio does
_REPORTED: Final = {
    "lxc": 65535,
    "lb4_services_v2": 65536,
    "lb4_backends_v3": 65536,
    "lb4_reverse_nat": 65536,
    "tunnel_map": 65536,
}


def _reported(values: dict[str, float], name: str) -> int | None:
    pressure = values.get(f'cilium_bpf_map_pressure{{map_name="{name}"}}')
    return None if pressure is None else round(pressure * _REPORTED[name])


def _elements(entry: dict[str, Any]) -> int:
    """Elements of a map that takes memory as it fills, from the bytes the kernel counts for it."""
    shape = (entry["type"], entry["bytes_key"], entry["bytes_value"], entry["max_entries"])
    empty, one = (
        memlock_bytes(*shape, flags=entry["flags"], entries=number, **_MACHINE) for number in (0, 1)
    )
    many, rest = divmod(entry["bytes_memlock"] - empty, one - empty)
    if rest:
        raise SystemExit(f"{entry}: {entry['bytes_memlock']} bytes are no whole number of elements")
    return int(many)


def _level(level: dict[str, Any]) -> dict[str, Any]:
    """Flatten one level of a series; KiB become bytes."""
    row: dict[str, Any] = {}
    for name, value in level.items():
        if name == "pressure":
            row |= {f"pressure {label}": ratio for label, ratio in value.items()}
        elif name.endswith("_kib"):
            row[f"{name.removesuffix('_kib')}_bytes"] = 1024 * value
        elif name not in ("regen_sum", "metrics_bytes"):
            row[name] = value
    return row


def _regenerated(folder: Path, level: dict[str, Any]) -> dict[str, Any]:
    """Give the regenerations of endpoints that an agent had counted then."""
    scrape = folder / f"metrics_{level['factor']}_{level['level']:g}.prom"
    name = 'cilium_endpoint_regenerations_total{outcome="success"}'
    for line in scrape.read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return {"regenerations": int(float(line.removeprefix(name)))}
    return {}


def _write_truth(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"schema": "{TRUTH}", "steps": [\n{lines}\n]}}\n', encoding="utf-8")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    seen = Counter(name for row in rows for name in row)
    told = [name for name in seen if not name.startswith("pressure")]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*told, *sorted(set(seen) - set(told))], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _write_gzip(path: Path, text: str) -> None:
    """Write without a time in the archive, so that equal text is equal bytes."""
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
