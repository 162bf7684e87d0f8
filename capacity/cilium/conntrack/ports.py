"""Source ports for SNAT: so many connections toward one remote address and port, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from capacity import facts
from capacity.cilium.services.choices import port_range
from capacity.errors import SettingsError

_PORTS = 65535


@dataclass(frozen=True, slots=True)
class PortUse:
    """Use of source ports toward one remote, a protocol.

    `limit` is of one egress address; `use` of all; `failing` is the share of new connections whose
    tries all meet a port in use, at least.
    """

    connections: float
    limit: int
    addresses: int
    use: float
    addresses_needed: int
    failing: float

    @property
    def fits(self) -> bool:
        """Whether there is a port for each connection."""
        return self.use <= 1


def port_use(
    connections: float,
    *,
    version: str,
    addresses: int = 1,
    node_port_range: str | None = None,
) -> PortUse:
    """Tell how many source ports connections toward one remote address and port use.

    Parameters
    ----------
    connections
        At once, with those that are closed and not collected yet. [1]
    version
        Cilium version.
    addresses
        Egress addresses they are spread over. [1]
    node_port_range
        Option node-port-range, as ``30000,32767``: SNAT takes the ports above its end.

    Returns
    -------
    PortUse
        Ports of an address [1], use of all [1], share of connections that fail [1].

    Raises
    ------
    SettingsError
        If a number is negative, or the range cannot be used.

    Notes
    -----
    A port is taken at random and then the next ones, a fixed number of tries. With a share u of
    ports in use all of T tries fail with probability u^T, and more often where used ports stand
    together: a lower bound.

    References
    ----------
    .. [1] cilium/cilium bpf/lib/nat.h `snat_v4_new_mapping`, b095517e625e; Documentation/network/
       egress-gateway/egress-gateway-troubleshooting.rst.

    Examples
    --------
    >>> port_use(40000, version="1.17").addresses_needed
    2
    """
    if not (0 <= connections < math.inf) or addresses < 1:
        told = f"connections: {connections:g} over {addresses} egress addresses"
        raise SettingsError(f"{told}; wanted 0 or more, over 1 or more")
    limit = _PORTS - port_range(node_port_range)[1]
    use = connections / (limit * addresses)
    tries = int(facts.limits(version).filter(limit="snat-port-tries")["value"][-1])
    needed = max(math.ceil(connections / limit), 1)
    return PortUse(connections, limit, addresses, use, needed, min(use, 1.0) ** tries)
