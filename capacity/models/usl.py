"""How a rate grows with the number that shares the work: linear, Amdahl, USL, or a hard ceiling.

Fitted by robust non-linear least squares on relative residuals; laws are compared by AICc. Nothing
is told beyond the largest count that was measured unless it is asked for, and then more widely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError

Array = npt.NDArray[np.float64]

# MAD to standard deviation, and where soft-L1 starts to count a residual less, in such deviations:
# P. J. Huber, Robust Statistics (1981), sections 5.1 and 4.5
_MAD: Final = 1.4826
_SOFT: Final = 1.345
_ROUNDS: Final = 3
# Rates are not known better than this, so that a perfect fit has a finite likelihood
_PRECISION: Final = 1e-4
# A law that misses a point by more than this share is told not to hold
_ADEQUATE: Final = 0.1
# A law that held so far may bend beyond the data: as in capacity/forecast.py, a judgment
_REACH_SPREAD: Final = 0.15


def capacity_at(n: npt.ArrayLike, alpha: float, beta: float, gamma: float) -> Array:
    """Universal Scalability Law: X(n) = γ n / (1 + α (n − 1) + β n (n − 1)).

    Parameters
    ----------
    n : array
        Cores, or nodes. [1]
    alpha, beta : float
        Contention and coherency. [1]
    gamma : float
        Rate of one. [1/s]

    Returns
    -------
    ndarray
        Rate. [1/s]

    References
    ----------
    .. [1] N. J. Gunther, Guerrilla Capacity Planning (2007), eq. 4.31 gives the peak; the law is
       section 4.3. `alpha` is written σ and `beta` κ there.

    Examples
    --------
    >>> capacity_at([1, 2, 10], 0.02, 0.02, 1.0).round(4).tolist()
    [1.0, 1.8868, 3.3557]
    """
    counts = np.asarray(n, float)
    slowdown = 1 + alpha * (counts - 1) + beta * counts * (counts - 1)
    return np.asarray(gamma * counts / slowdown, float)


def _ceiling(n: Array, gamma: float, top: float) -> Array:
    return np.asarray(np.minimum(gamma * n, top), float)


@dataclass(frozen=True, slots=True)
class Law:
    """A law of scaling: names of its parameters, formula, and where its search starts."""

    parameters: tuple[str, ...]
    rate: Callable[..., Array]
    start: Callable[[Array, Array], list[float]]


def _slope(n: Array, rate: Array) -> float:
    return float(np.median(rate[: max(1, len(rate) // 3)] / n[: max(1, len(n) // 3)]))


LAWS: Final[dict[str, Law]] = {
    "linear": Law(("gamma",), lambda n, g: g * n, lambda n, r: [_slope(n, r)]),
    "amdahl": Law(
        ("alpha", "gamma"),
        lambda n, a, g: capacity_at(n, a, 0.0, g),
        lambda n, r: [0.01, _slope(n, r)],
    ),
    "ceiling": Law(("gamma", "top"), _ceiling, lambda n, r: [_slope(n, r), float(r.max())]),
    "usl": Law(("alpha", "beta", "gamma"), capacity_at, lambda n, r: [0.01, 0.001, _slope(n, r)]),
}


class Scaling(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A law of scaling, fitted.

    Parameters
    ----------
    law : str
        Key of `LAWS`.
    relative : bool
        Residuals relative to the fit (noise grows with the rate), else in the rate's unit.
    draws : int
        Parameter draws that intervals are made of. [1]
    seed : int
        Seed of the draws.

    Attributes
    ----------
    parameters_ : dict
        Fitted parameters; rates in the unit of the target.
    sigma_ : float
        Standard deviation of the residuals, freedom of the fit taken off.
    draws_ : ndarray, shape (draws, p)
        Draws of the parameters, normal about the fit (linearized), cut at 0, their width drawn
        from the scaled inverse χ² of σ²: few points give wide draws.
    largest_ : float
        Largest count measured.

    Examples
    --------
    >>> model = Scaling("usl").fit([1, 2, 4, 6, 8, 10], [1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557])
    >>> {name: round(value, 3) for name, value in model.parameters_.items()}
    {'alpha': 0.02, 'beta': 0.02, 'gamma': 1.0}
    >>> round(model.peak_, 1)
    7.0
    """

    def __init__(
        self, law: str = "usl", relative: bool = True, draws: int = 400, seed: int = 0
    ) -> None:
        self.law = law
        self.relative = relative
        self.draws = draws
        self.seed = seed

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Scaling:  # noqa: N803
        """Fit rates `y` at counts `X`.

        Raises
        ------
        ModelError
            If the law is unknown, a value is not finite and above 0, or there are not more
            different counts than parameters.
        """
        if self.law not in LAWS:
            raise ModelError(f"law {self.law!r} is not known; known: {', '.join(LAWS)}")
        law = LAWS[self.law]
        n, rate = _checked(X, y, len(law.parameters) + 1)
        start = np.array(law.start(n, rate))
        scale = rate if self.relative else np.full(len(rate), float(np.median(rate)))

        def residuals(theta: Array) -> Array:
            return np.asarray((law.rate(n, *theta) - rate) / scale, float)

        fit = least_squares(residuals, start, bounds=(0, np.inf), x_scale=np.abs(start))
        # An odd point widens the first scale: the second is taken from a fit that it bends less
        for _ in range(_ROUNDS):
            width = max(float(np.median(np.abs(fit.fun))) * _MAD * _SOFT, _PRECISION)
            fit = least_squares(
                residuals, np.maximum(fit.x, 1e-12), bounds=(0, np.inf), x_scale=np.abs(start),
                loss="soft_l1", f_scale=width, xtol=1e-12, ftol=1e-12, gtol=1e-12,
            )  # fmt: skip
        freedom = max(len(n) - len(start), 1)
        self.parameters_ = dict(zip(law.parameters, map(float, fit.x), strict=True))
        self.n_points_, self.largest_ = len(n), float(n.max())
        squares = float(residuals(fit.x) @ residuals(fit.x))
        self.squares_ = squares
        self.sigma_ = float(np.sqrt(squares / freedom)) * (1.0 if self.relative else scale[0])
        self._scale = 1.0 if self.relative else float(scale[0])
        self.draws_, self.spread_ = self._draw(fit.x, fit.jac, squares / freedom, freedom)
        return self

    def _draw(
        self, theta: Array, jacobian: Array, variance: float, freedom: int
    ) -> tuple[Array, Array]:
        rng = np.random.default_rng(self.seed)
        spread = np.sqrt(variance * freedom / rng.chisquare(freedom, self.draws))
        units = np.maximum(np.abs(theta), 1e-9)
        scaled = jacobian * units
        values, vectors = np.linalg.eigh(np.linalg.pinv(scaled.T @ scaled, rcond=1e-10))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        steps = rng.standard_normal((self.draws, len(theta))) @ root.T * units
        return np.maximum(theta + steps * spread[:, None], 0.0), spread

    @property
    def peak_(self) -> float:
        """Count at which the rate is largest, inf where it only flattens. [1].

        √((1 − α) / β), Gunther (2007), eq. 4.31.
        """
        check_is_fitted(self)
        alpha, beta = self.parameters_.get("alpha", 0.0), self.parameters_.get("beta", 0.0)
        return float(np.sqrt((1 - alpha) / beta)) if beta > 0 and alpha < 1 else np.inf

    @property
    def limit_(self) -> float:
        """Rate that no count exceeds: at the peak, γ/α (Amdahl) or the ceiling; inf if linear."""
        check_is_fitted(self)
        told = self.parameters_
        if "top" in told:
            return told["top"]
        if np.isfinite(self.peak_):
            return float(LAWS[self.law].rate(np.array([self.peak_]), *told.values())[0])
        return told["gamma"] / told["alpha"] if told.get("alpha", 0.0) > 0 else np.inf

    def predict(self, X: npt.ArrayLike, *, extrapolate: bool = False) -> Array:  # noqa: N803
        """Give the rate at counts.

        Raises
        ------
        ModelError
            If a count is beyond the measured ones and `extrapolate` is not set.
        """
        check_is_fitted(self)
        n = self._within(X, extrapolate=extrapolate)
        return np.asarray(LAWS[self.law].rate(n, *self.parameters_.values()), float)

    def interval(
        self,
        X: npt.ArrayLike,  # noqa: N803
        level: float = 0.9,
        *,
        extrapolate: bool = False,
    ) -> tuple[Array, Array]:
        """Give bounds between which a further measurement at each count lies with chance `level`.

        Raises
        ------
        ModelError
            As `predict`.
        """
        check_is_fitted(self)
        n = self._within(X, extrapolate=extrapolate)
        rng = np.random.default_rng(self.seed + 1)
        law = LAWS[self.law]
        rates = np.stack([law.rate(n, *theta) for theta in self.draws_])
        noise = rng.standard_normal(rates.shape) * self.spread_[:, None]
        rates = rates * (1 + noise) if self.relative else rates + noise * self._scale
        bend = np.exp(rng.normal(0, _REACH_SPREAD, (len(rates), 1)) * np.log(self._reach(n)))
        tails = (1 - level) / 2, (1 + level) / 2
        low, high = np.quantile(np.maximum(rates * bend, 0.0), tails, axis=0)
        return low, high

    def _reach(self, n: Array) -> Array:
        return np.maximum(n / self.largest_, 1.0)

    def _within(self, counts: npt.ArrayLike, *, extrapolate: bool) -> Array:
        n = np.asarray(counts, float).reshape(-1)
        if not (np.isfinite(n).all() and (n > 0).all()):
            raise ModelError("a count is not above 0")
        if not extrapolate and (n > self.largest_).any():
            raise ModelError(
                f"{n.max():g} is beyond the {self.largest_:g} that was measured; measure there, "
                "or ask for extrapolation"
            )
        return n


def _checked(counts: npt.ArrayLike, rates: npt.ArrayLike, least: int) -> tuple[Array, Array]:
    n, rate = np.asarray(counts, float).reshape(-1), np.asarray(rates, float).reshape(-1)
    if n.shape != rate.shape:
        raise ModelError(f"{len(n)} counts and {len(rate)} rates do not fit")
    if not (np.isfinite(n).all() and np.isfinite(rate).all()):
        raise ModelError("a count or rate is not finite; leave such rows out")
    if (n <= 0).any() or (rate <= 0).any():
        raise ModelError("a count or rate is not above 0")
    if len(np.unique(n)) < least:
        msg = f"{len(np.unique(n))} different counts; at least {least} are needed for this law"
        raise ModelError(msg)
    order = np.argsort(n, kind="stable")
    return n[order], rate[order]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One law in a choice: AICc, share of the evidence, largest relative residual."""

    law: str
    aicc: float
    weight: float
    worst: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The law that the evidence prefers, and the others beside it."""

    model: Scaling
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]

    def sentence(self) -> str:
        """Say which law, how sure, and where it ends."""
        best = self.candidates[0]
        values = ", ".join(f"{k} {v:.4g}" for k, v in self.model.parameters_.items())
        ends = f"; peak at {self.model.peak_:.0f}" if np.isfinite(self.model.peak_) else ""
        if best.worst > _ADEQUATE:
            ends += f"; it misses a point by {best.worst:.0%}, so that no law here holds well"
        out = f"; too few points for {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{best.law} ({values}){ends}; {best.weight:.0%} of the evidence; measured up to "
            f"{self.model.largest_:g}, nothing is told beyond{out}"
        )


def choose(counts: npt.ArrayLike, rates: npt.ArrayLike, *, seed: int = 0) -> Choice:
    """Choose the law by the corrected information criterion of Akaike.

    AICc = m ln(RSS/m) + 2k + 2k(k + 1)/(m − k − 1), k parameters and the variance, m points.

    Raises
    ------
    ModelError
        If there are fewer than 4 points, or a value is not finite and above 0.

    References
    ----------
    .. [1] K. P. Burnham, D. R. Anderson, Model Selection and Multimodel Inference (2002),
       sections 2.4 (AICc) and 2.9 (weights).

    Examples
    --------
    >>> choose([1, 2, 3, 4, 5, 6], [5.0, 10.1, 14.9, 20.1, 24.9, 30.0]).model.law
    'linear'
    """
    scores: list[tuple[float, float, Scaling]] = []
    left_out = []
    n, _ = _checked(counts, rates, 1)
    for name, law in LAWS.items():
        k = len(law.parameters) + 1
        if len(n) - k - 1 < 1 or len(np.unique(n)) <= len(law.parameters):
            left_out.append(name)
            continue
        model = Scaling(name, seed=seed).fit(counts, rates)
        mean = max(model.squares_ / len(n), _PRECISION**2)
        score = len(n) * np.log(mean) + 2 * k + 2 * k * (k + 1) / (len(n) - k - 1)
        fitted = model.predict(counts)
        worst = float(np.max(np.abs(fitted / np.asarray(rates, float).reshape(-1) - 1)))
        scores.append((float(score), worst, model))
    if not scores:
        raise ModelError(f"{len(n)} points; at least 4 are needed to choose a law of scaling")
    scores.sort(key=lambda item: item[0])
    best = scores[0][0]
    total = sum(np.exp((best - score) / 2) for score, _, _ in scores)
    candidates = tuple(
        Candidate(model.law, score, float(np.exp((best - score) / 2) / total), worst)
        for score, worst, model in scores
    )
    return Choice(scores[0][2], candidates, tuple(left_out))
