"""One Maglev table from hashes of backends, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Slots = npt.NDArray[np.int64]


@njit(cache=True)
def filled(hashes: npt.NDArray[np.uint64], size: int, weights: Slots) -> Slots:
    """Let each backend in its turn take the next free slot of its own permutation."""
    count = len(hashes)
    entry = np.full(size, -1, np.int64)
    at = np.empty(count, np.int64)
    skip = np.empty(count, np.int64)
    for i in range(count):
        at[i] = np.int64(hashes[i, 0] % np.uint64(size))
        skip[i] = np.int64(hashes[i, 1] % np.uint64(size - 1)) + 1
    total = weights.sum()
    is_weighted = total // count > 1
    passed = weights / count
    for turn in range(size):
        i = turn % count
        while is_weighted and (turn + 1) * weights[i] < np.int64(passed[i]):
            i = (i + 1) % count
        if is_weighted:
            passed[i] += total
        while entry[at[i]] >= 0:
            at[i] = (at[i] + skip[i]) % size
        entry[at[i]] = i
        at[i] = (at[i] + skip[i]) % size
    return entry
