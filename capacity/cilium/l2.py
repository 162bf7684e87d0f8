"""L2 announcements: how often the leases of services are renewed at the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity import facts
from capacity.errors import SettingsError

_RENEW: Final = "l2-announcements-renew-deadline"
_QPS: Final = "k8s-client-qps"


@dataclass(frozen=True, slots=True)
class LeaseLoad:
    """Requests a second that the leases of one agent need, and those its client may make."""

    needed_qps: float
    qps: float
    most_services: int

    @property
    def fits(self) -> bool:
        """Whether the client may make that many; else leases lapse and addresses move."""
        return self.needed_qps <= self.qps


def lease_load(
    services: int,
    *,
    version: str,
    renew_deadline: float | None = None,
    qps: float | None = None,
) -> LeaseLoad:
    """Tell the API requests that announced services cost an agent which holds all their leases.

    Parameters
    ----------
    services
        Announced services. [1]
    version
        Cilium version: its defaults hold where the others are left out.
    renew_deadline
        l2announcements.leaseRenewDeadline. [s]
    qps
        k8sClientRateLimit.qps. [1/s]

    Returns
    -------
    LeaseLoad
        Requests a second that are needed and allowed. [1/s]

    Raises
    ------
    SettingsError
        If there are less than 0 services, or another number is not above 0.

    References
    ----------
    .. [1] cilium/cilium Documentation/network/l2-announcements.rst, Sizing client rate limit:
       services / leaseRenewDeadline.

    Examples
    --------
    >>> lease_load(65, version="1.17", renew_deadline=2).needed_qps
    32.5
    """
    default = dict(facts.options(version).select("option", "default").iter_rows())
    renew_deadline = float(default[_RENEW] or 0) if renew_deadline is None else renew_deadline
    qps = float(default[_QPS] or 0) if qps is None else qps
    if services < 0 or renew_deadline <= 0 or qps <= 0:
        raise SettingsError("services: 0 or more; renew deadline and qps: above 0")
    return LeaseLoad(services / renew_deadline, qps, int(qps * renew_deadline))
