"""Entries of load balancer maps for 30,000 services with 50 backends each.

Run: pytest benchmarks/test_services.py -n 0 -p no:randomly
"""

from __future__ import annotations

from typing import Any

import pytest

from capacity.cilium.services import lb_entries
from capacity.cilium.services.shapes import shape


@pytest.mark.parametrize("version", ["1.16", "1.17", "1.20"])
@pytest.mark.parametrize("kind", ["ClusterIP", "LoadBalancer"])
def test_entries_of_30000_services(benchmark: Any, version: str, kind: str) -> None:
    made = shape(services=30_000, backends=50, type=kind, local=kind == "LoadBalancer")

    table = benchmark.pedantic(lb_entries, (made,), {"version": version}, rounds=5)

    assert table.filter(map="cilium_lb4_backends_v3")["entries"].item() == 1_500_000
