"""Waiting in queues: M/M/c exactly, G/G/1 by Kingman's formula, polling cores at low load.

Times in seconds, rates per second; everything is vectorized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, least_squares
from scipy.special import gammaincc, gammaln

from capacity.errors import ModelError

Array = npt.NDArray[np.float64]

_MOST: Final = 1 - 1e-9


def erlang_c(offered: npt.ArrayLike, servers: int) -> Array:
    """Chance that an arrival of an M/M/c system waits.

    Parameters
    ----------
    offered : array
        Offered load λ/μ. [1]
    servers : int
        c, at least 1. [1]

    Returns
    -------
    ndarray
        1 where offered ≥ c.

    References
    ----------
    .. [1] L. Kleinrock, Queueing Systems I (1975), eq. 3.40. The Poisson sum is the regularized
       incomplete gamma function, so that hundreds of servers do not overflow.

    Examples
    --------
    >>> erlang_c([0.5, 2.0], 1).round(6).tolist(), round(float(erlang_c(8.0, 10)), 4)
    ([0.5, 1.0], 0.4092)
    """
    load = np.asarray(offered, float)
    if servers < 1 or not (load >= 0).all():
        raise ModelError(f"{servers} servers and offered load {load}: wanted ≥ 1 and ≥ 0")
    rho = load / servers
    safe = np.clip(load, 1e-300, None)
    last = np.exp(servers * np.log(safe) - safe - gammaln(servers + 1))
    below = gammaincc(servers, safe)
    inside = np.minimum(rho, _MOST)
    tail = last / (1 - inside)
    return np.where(rho >= 1, 1.0, tail / (below + tail))


def wait_mmc(arrival_rate: npt.ArrayLike, service_rate: float, servers: int) -> Array:
    """Mean wait in the queue of an M/M/c system: C / (cμ − λ). [s].

    inf where the load is 1 or more. Kleinrock (1975), section 3.5.

    Examples
    --------
    >>> wait_mmc([0.5, 1.0], 1.0, 1).round(6).tolist()
    [1.0, inf]
    """
    rate = np.asarray(arrival_rate, float)
    if not service_rate > 0:
        raise ModelError(f"service rate {service_rate} is not above 0")
    free = servers * service_rate - rate
    with np.errstate(divide="ignore"):
        return np.where(free > 0, erlang_c(rate / service_rate, servers) / np.abs(free), np.inf)


def wait_gg1(
    utilization: npt.ArrayLike,
    service: float,
    variation: float = 1.0,
    quantile: float | None = None,
) -> Array:
    """Wait in the queue of one core: mean, or a quantile.

    Parameters
    ----------
    utilization : array
        ρ. [1]
    service : float
        Mean time of a packet. [s]
    variation : float
        (c²_arrivals + c²_service) / 2: 1 for M/M/1, 0.5 for M/D/1, more for bursts. [1]
    quantile : float, optional
        E.g. 0.99; the mean where None.

    Returns
    -------
    ndarray
        Wait, inf where ρ ≥ 1. [s]

    Notes
    -----
    Mean ρ/(1−ρ) · variation · service: exact for M/M/1 and M/D/1, an upper bound in heavy
    traffic else. The quantile takes the tail as exponential,
    P(W > t) = ρ exp(−ρ t / mean): exact for M/M/1.

    References
    ----------
    .. [1] J. F. C. Kingman, The single server queue in heavy traffic, Proc. Camb. Phil. Soc. 57
       (1961).

    Examples
    --------
    >>> round(float(wait_gg1(0.5, 1.0)), 6), round(float(wait_gg1(0.5, 1.0, 0.5)), 6)
    (1.0, 0.5)
    """
    rho = np.asarray(utilization, float)
    inside = np.clip(rho, 0.0, _MOST)
    mean = inside / (1 - inside) * variation * service
    if quantile is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log(inside / (1 - quantile))
            mean = np.where(inside > 1 - quantile, mean / inside * excess, 0.0)
    return np.where(rho >= 1, np.inf, mean)


def utilization_for_wait(
    wait: float, service: float, variation: float = 1.0, quantile: float | None = None
) -> float:
    """Give the largest utilization at which the wait of `wait_gg1` is at most `wait`. [1].

    Raises
    ------
    ModelError
        If the wait is not above 0.

    Examples
    --------
    >>> round(utilization_for_wait(1.0, 1.0), 6)
    0.5
    """
    if not wait > 0:
        raise ModelError(f"a latency budget of {wait} s is not above 0")

    def excess(rho: float) -> float:
        return float(wait_gg1(rho, service, variation, quantile)) - wait

    return _MOST if excess(_MOST) <= 0 else float(brentq(excess, 0.0, _MOST, xtol=1e-12))


@dataclass(frozen=True, slots=True)
class Core:
    """What one core spends: on each packet, and on each time it wakes for packets.

    Attributes
    ----------
    packet : float
        Work of a packet when the core never sleeps, c. [s]
    wake : float
        Work of an interrupt and the polls around it, h. [s]
    hold : float
        Time for which the device holds interrupts back, τ. [s]
    """

    packet: float
    wake: float = 0.0
    hold: float = 0.0

    def utilization(self, rate: npt.ArrayLike) -> Array:
        """Share of the core that `rate` packets a second take, at most 1.

        Wakes happen when the core is idle, at rate w = (1 − u) λ / (1 + λ τ): an idle period lasts
        until the first packet, 1/λ, and the device's hold, τ. With u = λ c + h w
        (renewal argument of the M/G/1 queue with exceptional first service, Kleinrock I, 5.13 for
        the plain busy period) u = (λ c + v) / (1 + v), v = h λ / (1 + λ τ). At low load a packet
        costs c + h, at saturation c.

        Examples
        --------
        >>> Core(50e-9, 100e-9).utilization([1e6, 20e6]).round(4).tolist()
        [0.1364, 1.0]
        """
        offered = np.asarray(rate, float)
        wakes = self.wake * offered / (1 + offered * self.hold)
        return np.asarray(np.minimum((offered * self.packet + wakes) / (1 + wakes), 1.0), float)

    def rate(self, utilization: float) -> float:
        """Packets a second that take this share of the core. [1/s]."""
        if not 0 < utilization <= 1:
            raise ModelError(f"a CPU budget of {utilization} is not within 0…1")
        most = 1 / self.packet
        if utilization == 1:
            return most
        return float(brentq(lambda x: float(self.utilization(x)) - utilization, 0.0, most))


def fit_core(rate: npt.ArrayLike, utilization: npt.ArrayLike) -> Core:
    """Fit a core to offered rates and the share of it that they took; saturated points give c.

    Parameters
    ----------
    rate : array
        Packets offered to the core. [1/s]
    utilization : array
        Share of the core, 0…1. [1]

    Raises
    ------
    ModelError
        If there are fewer than 4 points below saturation, or a value is not finite.
    """
    offered, used = np.asarray(rate, float), np.asarray(utilization, float)
    keep = (offered > 0) & (used > 0)
    offered, used = offered[keep], used[keep]
    if not (np.isfinite(offered).all() and np.isfinite(used).all()):
        raise ModelError("a rate or utilization is not finite; leave such rows out")
    if (used < 1).sum() < 4:
        raise ModelError(f"{(used < 1).sum()} points below saturation; at least 4 are needed")
    unit = 1 / float(offered.max())

    def residuals(theta: Array) -> Array:
        return np.asarray(Core(*(theta * unit)).utilization(offered) - used, float)

    fit = least_squares(residuals, [0.9, 3.0, 3.0], bounds=(1e-6, np.inf), loss="soft_l1",
                        f_scale=0.02)  # fmt: skip
    return Core(*(float(value) * unit for value in fit.x))
