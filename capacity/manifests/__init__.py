"""Manifests: one kind a file. What is written is read back and compared before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from capacity.manifests import helm_values, resources_patch

# File below manifests/ → its text, from table recommendation; None where there is nothing to change
KINDS: Final[dict[str, Callable[[pl.DataFrame], str | None]]] = {
    "helm-values.yaml": helm_values.text,
    "kustomize/kustomization.yaml": resources_patch.kustomization,
    "kustomize/agent-resources.yaml": resources_patch.agent,
    "kustomize/operator-resources.yaml": resources_patch.operator,
}


def manifests(recommendation: pl.DataFrame) -> dict[str, str]:
    """Give the text of each manifest by its path.

    Raises
    ------
    ManifestError
        If a manifest does not read back as the values it was made from.
    """
    made = {path: make(recommendation) for path, make in KINDS.items()}
    return {path: text for path, text in made.items() if text is not None}
