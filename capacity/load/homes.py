"""Of which node a file is: by what the agent tells of itself, its pod, or the folder it lies in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from capacity.load.documents import Found

# cilium-bugtool-<pod>-<time>: cilium/cilium cilium-cli/sysdump/constants.go, time 20060102-150405
_BUGTOOL: Final = re.compile(
    r"(?P<home>(?:.*/)?cilium-bugtool-(?P<pod>[^/]*[a-z][^/]*?)-\d{8}-\d{6})/"
)
# Folders that cilium-bugtool makes: bugtool/cmd/root.go runTool
_INNER: Final = ("cmd", "conf")


def bugtool_pod(path: str) -> str | None:
    """Give the agent's pod a file of a sysdump is of; None for other files.

    >>> bugtool_pod("dump.zip!/top/cilium-bugtool-cilium-x7k2p-20261124-001122/cmd/a.md")
    'cilium-x7k2p'
    """
    match = _BUGTOOL.match(path)
    return match["pod"] if match else None


def home(path: str) -> str:
    """Give the folder whose files are of one node."""
    match = _BUGTOOL.match(path)
    if match:
        return match["home"]
    folder = PurePath(path).parent
    return str(folder.parent if folder.name in _INNER else folder)


def nodes_of(told: Sequence[tuple[str, Found]]) -> dict[str, str | None]:
    """Give node by path, of every path that something was found in.

    Where neither the agent nor the pods name the node, files of several folders are of several
    nodes, which get the folders' names.
    """
    pods = dict(_rows(told, "agent pod"))
    named: dict[str, str] = {}
    for path, found in told:
        for (node,) in found.rows.get("self", ()):
            named[home(path)] = node
    of_node = [path for path, found in told if found.rows.keys() & _OF_NODE]
    unnamed = {home(path) for path in of_node} - named.keys()
    is_alone = len({home(path) for path in of_node}) < 2
    return {path: _node(path, named, pods, unnamed, is_alone=is_alone) for path, _ in told}


# Kinds of rows that are of one node
_OF_NODE: Final = {"bpf_maps", "map_entries", "cilium-dbg endpoint", "cilium-dbg endpoint table"}


def _node(
    path: str, named: Mapping[str, str], pods: Mapping[str, str], unnamed: set[str], *,
    is_alone: bool,
) -> str | None:  # fmt: skip
    place = home(path)
    pod = bugtool_pod(path)
    if place in named or pod in pods:
        return named.get(place) or pods[str(pod)]
    if pod is not None:
        return pod
    return PurePath(place).name if place in unnamed and not is_alone else None


def _rows(told: Iterable[tuple[str, Found]], kind: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for _, found in told for row in found.rows.get(kind, ())]
