"""Egress gateway: entries of its policy map, one a selected pod address and destination CIDR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity import facts
from capacity.errors import SettingsError

_OPTION: Final = "egress-gateway-policy-map-max"


@dataclass(frozen=True, slots=True)
class EgressEntries:
    """Entries, size of the map, and the size to set where it is too small."""

    entries: int
    limit: int
    size_needed: int

    @property
    def fits(self) -> bool:
        """Whether the map holds all; without an entry traffic leaves by another way."""
        return self.entries <= self.limit


def egress_entries(
    selected_pods: int, destination_cidrs: int, *, version: str, limit: int | None = None
) -> EgressEntries:
    """Tell the entries of a policy that selects so many pods for so many CIDRs.

    Parameters
    ----------
    selected_pods
        Addresses of pods that the policy selects. [1]
    destination_cidrs
        Its destination and excluded CIDRs. [1]
    version
        Cilium version.
    limit
        egressGateway.maxPolicyEntries; the default of the version if left out. [entry]

    Returns
    -------
    EgressEntries
        Entries, limit, and the size needed. [entry]

    Raises
    ------
    SettingsError
        If a number is negative.

    References
    ----------
    .. [1] cilium/cilium pkg/maps/egressmap/policy.go: the key is source address and destination
       CIDR; Documentation/network/ebpf/maps.rst.

    Examples
    --------
    >>> egress_entries(400, 50, version="1.17").size_needed
    32768
    """
    if selected_pods < 0 or destination_cidrs < 0:
        raise SettingsError("selected pods, destination CIDRs: wanted 0 or more")
    if limit is None:
        limit = int(facts.options(version).filter(option=_OPTION)["default"][0])
    entries = selected_pods * destination_cidrs
    return EgressEntries(entries, limit, max(limit, 1 << max(entries - 1, 0).bit_length()))
