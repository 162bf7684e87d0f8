"""What differs between Cilium versions in the entries that policies make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capacity.errors import FactError, SettingsError
from capacity.inventory import Inventory

_OLDEST: Final = (1, 14)
# endPort of rules; facts of cilium-maps: "Ranges (endPort): 1.16+ only"
_PORT_RANGES: Final = (1, 16)
# cilium/cilium pull request 35449, "Bpf policy precedence on deny", in 1.17 and later
_NO_COMPANIONS: Final = (1, 17)
# Entries for anyone are written for four aggregates too: pkg/policy/aggregate.go, AllAggregates,
# in main of 2026-07-14 (1.20.0-rc.0); not confirmed on a released 1.20
_AGGREGATES: Final = (1, 20)
WILDCARD_ROWS: Final = "wildcard-rows"
# cilium/cilium pull requests 33441 and 36087, in 1.17: groups of CIDRs are labels of their prefixes
_GROUP_SELECTORS: Final = (1, 17)
# cilium/cilium pkg/k8s/cluster_network_policy.go, in 1.20.0-dev 0b72c0005c69; pull request 47227
_CLUSTER_POLICIES: Final = (1, 20)
# How prefixes of rules get identities: each one, or by its labels. In v1.17.0-pre.2 (vendored by
# cilium/cilium-cli 829e49412) and later pkg/policy/api/cidr.go selects what is not excepted, in
# v1.17.0-pre.1 (b84ee380f) except becomes prefixes still. Golden cases are of a tree before both.
PREFIX_IDENTITIES: Final = "prefix-identities"
_BY: Final = ("prefix", "labels")
# Entries that a redirect covers are left out: ProxyPortPriority, cilium/cilium pull request 36056,
# in main of 2024-12-06 (vendored by cilium/cilium-cli 43f930e14), before 1.17.0
PROXY_PRECEDENCE: Final = "proxy-precedence"
_PRECEDENCE: Final = (1, 17)
CHOICES: Final = (WILDCARD_ROWS, PREFIX_IDENTITIES, PROXY_PRECEDENCE)


@dataclass(frozen=True, slots=True)
class Semantics:
    """How a version makes entries.

    `wildcard_rows` are the rows of an entry for anyone: 1, or with the aggregates of 1.20 5.
    With `labels_prefixes` the CIDRs of a group share an identity, and except carves out of one.
    With `has_precedence` a redirect leaves no room for allowances that it covers.
    """

    has_companions: bool
    has_port_ranges: bool
    wildcard_rows: int
    has_group_selectors: bool = False
    has_cluster_policies: bool = False
    labels_prefixes: bool = False
    has_precedence: bool = False


def semantics(version: str, options: Mapping[str, str] | None = None) -> Semantics:
    """Give how a version makes entries.

    Parameters
    ----------
    version
        Cilium version, as "1.16" or "1.16.3".
    options
        May hold ``wildcard-rows``, 1 or 5, for a 1.20 that was looked at, and
        ``prefix-identities``, prefix or labels (the default since 1.17), and ``proxy-precedence``,
        true (the default since 1.17) or false; others are left alone.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has another value, or labels is asked of a version before 1.17.

    Examples
    --------
    >>> semantics("1.16").has_companions, semantics("v1.17.2").has_companions
    (True, False)
    """
    match = re.match(r"v?(\d+)\.(\d+)(?!\d)", version)
    known = (int(match[1]), int(match[2])) if match else (0, 0)
    if known < _OLDEST:
        raise FactError(f"Cilium {version!r}: not known; policies are resolved for 1.14 and later")
    rows = (options or {}).get(WILDCARD_ROWS, "5" if known >= _AGGREGATES else "1")
    if str(rows) not in ("1", "5"):
        raise SettingsError(f"{WILDCARD_ROWS}: {rows!r}; wanted 1 or 5")
    by = str((options or {}).get(PREFIX_IDENTITIES, _BY[known >= _GROUP_SELECTORS]))
    if by not in _BY or (by == _BY[1] and known < _GROUP_SELECTORS):
        raise SettingsError(
            f"{PREFIX_IDENTITIES}: {by!r} with Cilium {version}; wanted prefix, or labels from 1.17"
        )
    precedence = str((options or {}).get(PROXY_PRECEDENCE, known >= _PRECEDENCE)).lower()
    if precedence not in ("true", "false") or (precedence == "true" and known < _PRECEDENCE):
        raise SettingsError(
            f"{PROXY_PRECEDENCE}: {precedence!r} with Cilium {version}; "
            "wanted false, or true from 1.17"
        )
    return Semantics(
        known < _NO_COMPANIONS,
        known >= _PORT_RANGES,
        int(rows),
        known >= _GROUP_SELECTORS,
        known >= _CLUSTER_POLICIES,
        by == _BY[1],
        precedence == "true",
    )


def chosen(
    version: str, inventory: Inventory, options: Mapping[str, str | bool | int] | None
) -> Semantics:
    """Give the rules of a version with those of options that choose among them.

    What `options` tell goes before what the inventory's do, as those of a golden case.
    """
    own = dict(inventory.options.select("option", "value").iter_rows()) | dict(options or {})
    return semantics(version, {name: str(own[name]) for name in CHOICES if name in own})
