"""Connection tracking and NAT: entries of a node from its connections, ports, collection, doubts.

Entries follow from rates and lifetimes (traffic.py); how often expired ones are collected is
collection.py, ports toward one remote ports.py, what failed insertions mean diagnosis.py.
"""

from __future__ import annotations

from capacity.cilium.conntrack.collection import next_interval, steady_interval
from capacity.cilium.conntrack.diagnosis import Diagnosis, diagnose
from capacity.cilium.conntrack.ports import PortUse, port_use
from capacity.cilium.conntrack.traffic import Lifetimes, Traffic, entries, lifetimes

__all__ = [
    "Diagnosis",
    "Lifetimes",
    "PortUse",
    "Traffic",
    "diagnose",
    "entries",
    "lifetimes",
    "next_interval",
    "port_use",
    "steady_interval",
]
