"""L2 announcements: how often the leases of services are renewed at the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity.errors import SettingsError

# Chart defaults: cilium/cilium install/kubernetes/cilium/values.yaml l2announcements
RENEW_DEADLINE: Final = 5.0
# k8sClientRateLimit.qps of the chart, 1.14 and later
QPS: Final = 10.0


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
    services: int, *, renew_deadline: float = RENEW_DEADLINE, qps: float = QPS
) -> LeaseLoad:
    """Tell the API requests that announced services cost an agent which holds all their leases.

    Parameters
    ----------
    services
        Announced services. [1]
    renew_deadline
        l2announcements.leaseRenewDeadline. [s]
    qps
        k8sClientRateLimit.qps. [1/s]

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
    >>> lease_load(65, renew_deadline=2).needed_qps
    32.5
    """
    if services < 0 or renew_deadline <= 0 or qps <= 0:
        raise SettingsError("services: 0 or more; renew deadline and qps: above 0")
    return LeaseLoad(services / renew_deadline, qps, int(qps * renew_deadline))
