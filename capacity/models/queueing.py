"""Waiting in queues: M/M/c, one core to which packets come in trains, cores that sleep at low load.

Times in seconds, rates per second; everything is vectorized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
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


def wait_batches(
    utilization: npt.ArrayLike,
    service: npt.ArrayLike,
    *,
    variation: float = 0.0,
    burst: float = 1.0,
    quantile: float | None = None,
) -> Array:
    """Wait in the queue of one core to which packets come in trains: mean, or a quantile.

    Parameters
    ----------
    utilization : array
        ρ. [1]
    service : array
        Mean time of a packet, s. [s]
    variation : float
        Squared coefficient of variation of that time, c²: 0 if always the same, 1 exponential. [1]
    burst : float
        Mean length b of trains, which come by Poisson; lengths are geometric. [1]
    quantile : float, optional
        E.g. 0.99; the mean where None.

    Returns
    -------
    ndarray
        Wait, inf where ρ ≥ 1. [s]

    Raises
    ------
    ModelError
        If trains are shorter than 1.

    Notes
    -----
    Mean s (ρ (1 + c²)/2 + b − 1)/(1 − ρ), exact (M^[X]/G/1). A quantile takes the tail as
    exponential, P(W > t) = p exp(−p t / mean), with p = 1 − (1 − ρ)/b who waits at all: exact for
    M/M/1, else an approximation.

    References
    ----------
    .. [1] P. J. Burke, Delays in single-server queues with batch input, Operations Research 23
       (1975). With b = 1 the formula of Pollaczek and Khinchin, Kleinrock I, eq. 5.71.

    Examples
    --------
    >>> float(wait_batches(0.5, 1.0, variation=1.0)), float(wait_batches(0.5, 1.0))
    (1.0, 0.5)
    """
    if not burst >= 1:
        raise ModelError(f"trains of {burst} packets: wanted 1 or more")
    rho = np.asarray(utilization, float)
    inside = np.clip(rho, 0.0, _MOST)
    own = inside * (1 + variation) / 2 + burst - 1
    told = np.asarray(service, float) * own / (1 - inside)
    if quantile is not None:
        waiting = 1 - (1 - inside) / burst
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = told / waiting * np.log(waiting / (1 - quantile))
        told = np.where(waiting > 1 - quantile, tail, 0.0)
    return np.where(rho >= 1, np.inf, told)


def utilization_for_wait(
    wait: float,
    service: npt.ArrayLike,
    *,
    variation: float = 0.0,
    burst: float = 1.0,
    quantile: float | None = None,
) -> Array:
    """Give the largest utilization at which the wait of `wait_batches` is at most `wait`. [1].

    Found by halving, as the wait grows with the utilization; 0 where trains alone take longer.

    Raises
    ------
    ModelError
        If the wait is not above 0.

    Examples
    --------
    >>> utilization_for_wait(1.0, [1.0, 0.25], variation=1.0).round(6).tolist()
    [0.5, 0.8]
    """
    if not wait > 0:
        raise ModelError(f"a latency budget of {wait} s is not above 0")
    times = np.asarray(service, float)
    low, high = np.zeros(times.shape), np.full(times.shape, _MOST)
    for _ in range(60):
        middle = (low + high) / 2
        told = wait_batches(middle, times, variation=variation, burst=burst, quantile=quantile)
        low, high = np.where(told <= wait, middle, low), np.where(told <= wait, high, middle)
    return low


@dataclass(frozen=True, slots=True)
class Core:
    """What one core spends: on each packet, and on each time it wakes for packets.

    Attributes
    ----------
    packet : array
        Work of a packet when the core never sleeps, c. [s]
    wake : array
        Work of an interrupt and the polls around it, h. [s]
    hold : array
        Time for which the device holds interrupts back, τ. [s]
    """

    packet: npt.ArrayLike
    wake: npt.ArrayLike = 0.0
    hold: npt.ArrayLike = 0.0

    def utilization(self, rate: npt.ArrayLike) -> Array:
        """Share of the core that `rate` packets a second take, at most 1.

        Wakes happen when the core is idle, at rate w = (1 − u) λ / (1 + λ τ): an idle period lasts
        until the first packet, 1/λ, and the device's hold, τ. With u = λ c + h w this gives
        u = (λ c + v) / (1 + v), v = h λ / (1 + λ τ). At low load a packet costs c + h, at
        saturation c. Our own derivation; `throughput.replay.busy_share` follows the same core
        event by event.

        Examples
        --------
        >>> Core(50e-9, 100e-9).utilization([1e6, 20e6]).round(4).tolist()
        [0.1364, 1.0]
        """
        offered, c, h, hold = self._arrays(rate)
        wakes = h * offered / (1 + offered * hold)
        return np.asarray(np.minimum((offered * c + wakes) / (1 + wakes), 1.0), float)

    def rate(self, utilization: float) -> Array:
        """Packets a second that take this share of the core. [1/s].

        The positive root of c τ λ² + (c − u τ + h (1 − u)) λ − u = 0.

        Raises
        ------
        ModelError
            If the share is not within 0…1.

        Examples
        --------
        >>> float(Core(50e-9, 100e-9, 1e-6).rate(1.0).round())
        20000000.0
        """
        if not 0 < utilization <= 1:
            raise ModelError(f"a CPU budget of {utilization} is not within 0…1")
        u, c, h, hold = self._arrays(utilization)
        middle = c - u * hold + h * (1 - u)
        root = np.sqrt(middle**2 + 4 * c * hold * u)
        # The form that subtracts no like numbers, whatever the sign of the middle term
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(middle > 0, 2 * u / (middle + root), (root - middle) / (2 * c * hold))

    def _arrays(self, first: npt.ArrayLike) -> tuple[Array, Array, Array, Array]:
        kept = (np.asarray(v, float) for v in (first, self.packet, self.wake, self.hold))
        a, b, c, d = kept
        return a, b, c, d


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
