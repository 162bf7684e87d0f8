"""What manifests are made from: the parts of a plan, named without importing it."""

from __future__ import annotations

from typing import Any, Protocol

import polars as pl

from capacity import facts
from capacity.settings import PlanSettings


class Subject(Protocol):
    """A plan, or what is like one."""

    @property
    def settings(self) -> PlanSettings:
        """What was asked."""

    @property
    def cluster(self) -> str:
        """Name of the cluster."""

    @property
    def version(self) -> str:
        """Minor version of Cilium."""

    @property
    def first_limit(self) -> dict[str, Any] | None:
        """What runs out first, as outcome.json has it."""

    @property
    def recommendation(self) -> pl.DataFrame:
        """Table recommendation."""

    @property
    def exhaustion(self) -> pl.DataFrame:
        """Table exhaustion."""

    @property
    def forecast(self) -> pl.DataFrame:
        """Table forecast."""

    @property
    def coverage(self) -> pl.DataFrame:
        """Table coverage."""


def may(subject: Subject, what: str) -> bool:
    """Say whether users may give Helm values (`helm`) or patch Cilium's objects (`patches`)."""
    provider = subject.settings.managed
    return provider is None or bool(facts.managed().filter(provider=provider)[what][0])


def present(subject: Subject, want: str) -> bool:
    """Say whether the export tells a thing of table coverage."""
    return not subject.coverage.filter(want=want, status="present").is_empty()
