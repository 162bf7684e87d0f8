"""Port ranges as the datapath keeps them: prefixes of 16-bit ports."""

from __future__ import annotations

from functools import cache
from typing import Final

PORT_BITS: Final = 16
_LAST: Final = 0xFFFF


@cache
def masked_ports(start: int, end: int = 0) -> tuple[tuple[int, int], ...]:
    """Give the prefixes that cover a port range, each once and nothing else.

    Parameters
    ----------
    start
        First port; 0 with no end is every port.
    end
        Last port; 0, or not above the first, is a single port.

    Returns
    -------
    tuple of (port, bits)
        First port of each prefix and the ones in its mask, in the order of the ports.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/portrange.go, PortRangeToMaskedPorts, b095517e625e.

    Examples
    --------
    >>> masked_ports(8080, 8095)
    ((8080, 12),)
    >>> masked_ports(0, 65535), masked_ports(443)
    (((0, 0),), ((443, 16),))
    """
    if start == 0 and end in (0, _LAST):
        return ((0, 0),)
    if end <= start:
        return ((start, PORT_BITS),)
    covers = []
    while start <= end:
        # The largest aligned block that starts here and does not pass the end
        free = (start & -start).bit_length() - 1 if start else PORT_BITS
        free = min(free, (end - start + 1).bit_length() - 1)
        covers.append((start, PORT_BITS - free))
        start += 1 << free
    return tuple(covers)
