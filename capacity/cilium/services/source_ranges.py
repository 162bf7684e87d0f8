"""spec.loadBalancerSourceRanges → how many of each family a service has."""

from __future__ import annotations

import ipaddress

import polars as pl


def source_ranges(services: pl.DataFrame) -> pl.DataFrame:
    """Count the source ranges of each service by family; those that are none are left out."""
    frame = services.explode("ranges").drop_nulls().with_columns(pl.col("ranges").str.strip_chars())
    known = {text: _network(text) for text in frame["ranges"].unique()}
    return (
        frame.with_columns(
            cidr=pl.col("ranges").replace_strict(known, default=None, return_dtype=pl.String)
        )
        .drop_nulls("cidr")
        .with_columns(
            family=pl.when(pl.col("cidr").str.contains(":", literal=True))
            .then(6)
            .otherwise(4)
            .cast(pl.Int64)
        )
        .group_by("svc", "family")
        .agg(ranges=pl.col("cidr").n_unique().cast(pl.Int64))
    )


def _network(text: str) -> str | None:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None
