"""Which output of cilium-dbg, bpftool or cilium-bugtool a file is, told by its content.

Only outputs without content are told by their file name, which cilium-bugtool makes of the command:
slashes and blanks become hyphens, `.md` is put behind (cilium/cilium bugtool/cmd/root.go
writeCmdToFile, 00242501847c). Markdown around it, and the line of a command that failed, are its.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

from capacity.load import bpftool, cilium_lists, cilium_maps, cilium_status, cilium_tables
from capacity.load.documents import Found

Reader = tuple[Callable[[Any], bool], Callable[[Any, str], Found]]

_FENCED: Final = re.compile(rb"\A# [^\n]*\n+```\n(.*?)\n?```\n?(.*)\Z", re.DOTALL)
_FAILED: Final = re.compile(rb"^> Error while running '(.*?)': +(.*)$", re.MULTILINE)
# Of a command's help, which some print instead of what an older or newer version does not know
_HELP: Final = b"Usage:\n  cilium"
_NONE: Final = b"No entries found."
# Commands by the beginning of their files' names, without the program's name and options
_NAMES: Final[Mapping[str, str]] = {
    "bpf-ct": "ct",
    "bpf-nat": "nat",
    "bpf-lb-list-revnat": "reverse nat",
    "bpf-lb-revnat": "reverse nat",
    "bpf-lb-list-backends": "backends",
    "bpf-lb-backends": "backends",
    "bpf-lb-list-source-ranges": "source ranges",
    "bpf-lb-source-ranges": "source ranges",
    "bpf-lb-list": "services",
    "bpf-ipmasq": "ipmasq",
    "bpf-frag": "frag",
    "bpf-ipcache": "ipcache",
    "bpf-endpoint": "endpoint",
    "bpf-tunnel": "tunnel",
    "bpf-nodeid": "nodeid",
    "bpf-auth": "auth",
    "bpf-metrics": "metrics",
}
_PROGRAM: Final = re.compile(r"^(?:kubectl-exec-.*?---)?(?:cilium-dbg|cilium)-(?!bugtool)")


def _has(*names: str) -> Callable[[Any], bool]:
    """Make the test whether a document, or the first of a list, is an object with these keys."""

    def is_mine(document: Any) -> bool:
        first = document[0] if isinstance(document, list) and document else document
        return isinstance(first, dict) and set(names) <= first.keys()

    return is_mine


def _unused(document: Any, place: str) -> Found:
    many = max(len(document), 1) if isinstance(document, list | dict) else 1
    return Found(many, left_out={"known, not used for capacity": many})


def _empty(document: Any, place: str) -> Found:
    kind = kind_of_name(place.rpartition(" document ")[0] or place)
    if kind is None:
        return Found(0)
    return cilium_maps.empty(kind, place)


def _records() -> dict[str, Reader]:
    kinds = ("ct", "nat", "nodeid", "auth", "frag", "metrics")
    return {
        f"cilium-dbg {cilium_maps.COMMANDS[kind]}": (
            cilium_maps.is_records(kind),
            cilium_maps.read_records(kind),
        )
        for kind in kinds
    }


# Known, with no use for capacity: what an object of it has
_UNUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "cilium-dbg policy selectors": ("selector", "users"),
    "cilium-dbg ip list": ("cidr", "identity"),
    "cilium-dbg fqdn cache list": ("fqdn", "ips"),
    "cilium-dbg config": ("ConntrackAccounting", "PolicyVerdictNotification"),
    "cilium-dbg bpf config list": ("Key", "Value"),
    "cilium-dbg statedb dump": ("health", "node-addresses"),
    "cilium-dbg map events": ("action", "desired-action", "key"),
    "bpftool prog show": ("bytes_xlated", "tag"),
    "bpftool net show": ("xdp", "tc"),
    "bpftool cgroup tree": ("cgroup", "programs"),
}
# Output → which JSON documents are of it, and how one is read; the first one wins
JSON_READERS: Final[Mapping[str, Reader]] = {
    "cilium-dbg status": (cilium_status.is_status, cilium_status.read_status),
    "cilium-dbg endpoint list": (cilium_lists.is_endpoints, cilium_lists.read_endpoints),
    "cilium-dbg identity list": (cilium_lists.is_identities, cilium_lists.read_identities),
    "cilium-dbg node list": (cilium_lists.is_nodes, cilium_lists.read_nodes),
    "cilium-dbg service list": (cilium_lists.is_services, cilium_lists.read_services),
    "cilium-dbg policy get": (cilium_lists.is_policies, cilium_lists.read_policies),
    "cilium-dbg map list": (cilium_maps.is_map_list, cilium_maps.read_map_list),
    "cilium-dbg bpf policy get --all": (cilium_maps.is_policies, cilium_maps.read_policies),
    **_records(),
    "cilium-dbg bpf list": (
        lambda told: cilium_maps.kind_of_lists(told) is not None,
        cilium_maps.read_lists,
    ),
    **{name: (_has(*keys), _unused) for name, keys in _UNUSED.items()},
    "cilium-dbg, nothing listed": (lambda told: told in ([], {}, None), _empty),
}
# Beginning of a text that is known and not used → what it is
_UNUSED_TEXTS: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (rb"# Cilium debug information", "cilium-dbg debuginfo"),
        (rb"SELECTOR +(?:LABELS +)?USERS", "cilium-dbg policy selectors"),
        (rb"Endpoint +Source +FQDN", "cilium-dbg fqdn cache list"),
        (rb"\{\s*\"action\": ", "cilium-dbg map events"),
        (rb"total \d+\n[-l][rwx-]{9} .*cilium_", "ls -l of pinned maps"),
    )
)


def kind_of_name(path: str) -> str | None:
    """Tell of which list of a BPF map a file is, by its name.

    >>> kind_of_name("a/cilium-dbg-bpf-nat-list.md"), kind_of_name("bpf_ct_global.json.gz")
    ('nat', 'ct')
    """
    name = PurePath(path).name.lower().replace("_", "-").replace(" ", "-")
    name = re.sub(r"-+", "-", _PROGRAM.sub("", name))
    return next((kind for begin, kind in _NAMES.items() if name.startswith(begin)), None)


def read_text(data: bytes, place: str) -> tuple[str, Found] | None:
    """Read a text that is an output of cilium-dbg or bpftool.

    Parameters
    ----------
    data
        The whole text, with or without the Markdown cilium-bugtool puts around it.
    place
        File, for messages and column source.

    Returns
    -------
    tuple
        The output's name, and what was found; None where it is none that is known.
    """
    fenced = _FENCED.match(data)
    text = fenced[1] + b"\n" if fenced else data
    failed = _FAILED.search(fenced[2] if fenced else data[-2000:])
    if failed and not fenced:
        text = data[: len(data) - len(data[-2000:]) + failed.start()]
    told = _read(text, place)
    if failed is None:
        return told
    command, why = (part.decode("utf-8", "replace")[:200] for part in failed.groups())
    fault = f"`{command}` failed: {why}; what it printed is not whole, and is not used"
    return (told[0] if told else "cilium-bugtool"), Found(1, faults=(fault,))


def _read(text: bytes, place: str) -> tuple[str, Found] | None:
    kind = cilium_maps.kind_of_text(text)
    if kind is None:
        return _other(text, place)
    listed = cilium_maps.COMMANDS.get(kind, "map list --verbose")
    if not text.endswith(b"\n"):
        fault = "the text breaks off in its last line, so nothing in it is counted; export it again"
        return f"cilium-dbg {listed}", Found(1, faults=(fault,))
    return f"cilium-dbg {listed}", cilium_maps.read_text(kind, text, place)


def _other(text: bytes, place: str) -> tuple[str, Found] | None:
    if bpftool.is_text(text):
        return "bpftool", bpftool.read_text(text, PurePath(place).name)
    listed = cilium_tables.kind_of_text(text)
    if listed is not None:
        return f"cilium-dbg {listed} list", cilium_tables.read_text(listed, text, place)
    begin = text[:4096].lstrip()
    kind = kind_of_name(place)
    if kind is not None and (begin.startswith(_NONE) or (text and not begin)):
        # Empty without a line end may be of a command that failed
        return f"cilium-dbg {cilium_maps.COMMANDS[kind]}", cilium_maps.empty(kind, place)
    if begin.startswith((b"KVStore:", b"Kubernetes:", b"Etcd:")):
        told = text.decode("utf-8", "replace")
        return "cilium-dbg status", cilium_status.read_status_text(told, place)
    if begin.startswith((b"#### Read-only configurations", b"##### Read-write configurations")):
        told = text.decode("utf-8", "replace")
        return "cilium-dbg config --all", cilium_status.read_config_text(told, place)
    if begin.startswith(_HELP):
        fault = "is the help of a command that this version does not know so, not what it lists"
        return "cilium-dbg", Found(1, faults=(fault,))
    if kind is not None and not text:
        fault = "is empty: whether nothing is listed or the command failed is not told; use -o json"
        return f"cilium-dbg {cilium_maps.COMMANDS[kind]}", Found(1, faults=(fault,))
    name = next((name for pattern, name in _UNUSED_TEXTS if pattern.match(begin)), None)
    if name is None:
        return None
    return name, _unused(text.count(b"\n") * [None], place)
