"""Step changes of a series: a new team, a migration, a node pool that was added or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.models.linear_drivers import Array

# A step is a change of level within two points that stands out of the usual change by so many
# standard deviations, is so large a share of the level, and keeps so much of itself afterwards
_STANDS_OUT: Final = 6.0
_SHARE: Final = 0.03
_KEPT: Final = 0.6
_LEAST_WINDOW: Final = 3
_MAD: Final = 1.4826


@dataclass(frozen=True, slots=True)
class LevelSteps:
    """Where the level jumped (index of the first point after it), and by how much."""

    at: npt.NDArray[np.int64]
    sizes: Array

    @property
    def total(self) -> float:
        """Sum of all steps."""
        return float(self.sizes.sum())

    def removed(self, history: Array) -> Array:
        """Give the history as if no step had come."""
        out = history.copy()
        for at, size in zip(self.at, self.sizes, strict=True):
            out[at:] -= size
        return out


def level_steps(history: Array) -> LevelSteps:
    """Find step changes.

    The median of a window after each point is compared with that of a window before it. Where the
    difference, less the usual one, stands out and two neighboring points hold most of it, the
    level jumped; a slope that only bends does not, as no two points hold most of its change.

    Parameters
    ----------
    history : ndarray
        Regular series, oldest first.
    """
    rows = len(history)
    window = max(_LEAST_WINDOW, rows // 40)
    none = LevelSteps(np.empty(0, np.int64), np.empty(0))
    if rows < 4 * window:
        return none
    medians = np.median(np.lib.stride_tricks.sliding_window_view(history, window), axis=1)
    # Point i is the first of the window after the jump
    at = np.arange(window, rows - window + 1)
    jumps = medians[at] - medians[at - window]
    usual = float(np.median(jumps))
    spread = _MAD * float(np.median(np.abs(jumps - usual)))
    least = max(_STANDS_OUT * spread, _SHARE * float(np.median(np.abs(history))), 1.0)
    found: list[tuple[int, float]] = []
    off = np.abs(jumps - usual)
    while off.max(initial=0.0) >= least:
        peak = int(off.argmax())
        size = float(jumps[peak] - usual)
        place = _abrupt(history, int(at[peak]), size, window)
        if place is not None:
            found.append((place, size))
        off[max(peak - 2 * window, 0) : peak + 2 * window + 1] = 0.0
    found.sort()
    return LevelSteps(
        np.array([f[0] for f in found], np.int64), np.array([f[1] for f in found], float)
    )


def _abrupt(history: Array, near: int, size: float, window: int) -> int | None:
    """First point after the jump, if one change between neighbors or over two holds most of it."""
    low, high = max(near - window, 2), min(near + window, len(history) - 1)
    points = np.arange(low, high)
    change = (history[points] - history[points - 2]) * np.sign(size)
    best = int(change.argmax())
    if change[best] < _KEPT * abs(size):
        return None
    place = int(points[best])
    first = history[place - 1] - history[place - 2]
    return place - 1 if abs(first) > abs(history[place] - history[place - 1]) else place
