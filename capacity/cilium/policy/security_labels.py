"""Which labels of a pod make its identity: the agent's filter, default and custom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from capacity.cilium.policy.labels import (
    CLUSTER,
    K8S,
    NAMESPACE,
    NAMESPACE_LABELS,
    PREFIX,
    RESERVED,
    SERVICE_ACCOUNT,
)  # fmt: skip
from capacity.errors import SettingsError

# cilium/cilium pkg/labelsfilter/filter.go, defaultLabelPrefixCfg, b095517e625e
_DEFAULTS: Final = (
    f"{RESERVED}:.*",
    re.escape(NAMESPACE),
    re.escape(NAMESPACE_LABELS),
    re.escape("app.kubernetes.io"),
    re.escape(CLUSTER),
    r"!io\.kubernetes",
    r"!kubernetes\.io",
    "!" + re.escape("statefulset.kubernetes.io/pod-name"),
    "!" + re.escape("apps.kubernetes.io/pod-index"),
    "!" + re.escape("batch.kubernetes.io/job-completion-index"),
    "!" + re.escape("batch.kubernetes.io/controller-uid"),
    r"!.*beta\.kubernetes\.io",
    r"!k8s\.io",
    "!pod-template-generation",
    "!pod-template-hash",
    "!controller-revision-hash",
    "!controller-uid",
    "!annotation.*",
    "!etcd_node",
)


@dataclass(frozen=True, slots=True)
class _Pattern:
    source: str
    key: re.Pattern[str]
    is_ignored: bool


# Compared and hashed as the object it is: it is a key at every label of every pod
@dataclass(frozen=True, slots=True, eq=False)
class LabelFilter:
    """Patterns of labels that make identities and of those that do not."""

    patterns: tuple[_Pattern, ...]
    is_inclusive: bool

    def keeps(self, source: str, key: str) -> bool:
        """Tell whether a label is part of the identity; the longer match decides."""
        included = ignored = 0
        for pattern in self.patterns:
            if pattern.source and pattern.source != source:
                continue
            match = pattern.key.search(key)
            # Anchored at the start, as the agent asks whether its first match is there
            if match is None or match.start() != 0:
                continue
            length = match.end()
            if not pattern.is_ignored:
                included = max(included, length)
            elif ignored == 0 or length < ignored:
                ignored = length
        return (not self.is_inclusive and ignored == 0) or included > ignored


@lru_cache(maxsize=8)
def label_filter(labels: Sequence[str] = ()) -> LabelFilter:
    """Give the filter of the agent's option ``labels``.

    Parameters
    ----------
    labels
        Patterns added to the defaults: ``[SOURCE:][!]REGEX``. One without ``!`` makes the filter
        inclusive: then only labels that some pattern includes are kept.

    Raises
    ------
    SettingsError
        If a pattern is no regular expression.

    References
    ----------
    .. [1] cilium/cilium pkg/labelsfilter/filter.go, ParseLabelPrefixCfg, b095517e625e.

    Examples
    --------
    >>> label_filter(("k8s:app",)).keeps("k8s", "app"), label_filter().keeps("k8s", "app")
    (True, True)
    >>> label_filter(("k8s:app",)).keeps("k8s", "version")
    False
    """
    own = [_pattern(text) for text in labels if text]
    patterns = (*(_pattern(text) for text in _DEFAULTS), *own)
    return LabelFilter(patterns, any(not pattern.is_ignored for pattern in own))


def _pattern(text: str) -> _Pattern:
    source, colon, key = text.partition(":")
    if not colon:
        source, key = "", text
    if not key:
        raise SettingsError(f"labels: {text!r} has no pattern; wanted [SOURCE:][!]REGEX")
    is_ignored = key.startswith("!")
    try:
        return _Pattern(source, re.compile(key.removeprefix("!")), is_ignored)
    except re.error as wrong:
        raise SettingsError(f"labels: {text!r} is no regular expression: {wrong}") from None


def pod_labels(
    labels: Mapping[str, str],
    namespace: str,
    namespace_labels: Mapping[str, str],
    service_account: str,
    cluster: str,
) -> dict[str, str]:
    """Labels of a pod with those that Cilium adds, before the filter.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/utils/utils.go, SanitizePodLabels, b095517e625e.
    """
    found = {key: value for key, value in labels.items() if not key.startswith(PREFIX)}
    found |= {f"{NAMESPACE_LABELS}.{key}": value for key, value in namespace_labels.items()}
    found[NAMESPACE] = namespace
    if service_account:
        found[SERVICE_ACCOUNT] = service_account
    found[CLUSTER] = cluster
    return found


def identity_labels(labels: Mapping[str, str], patterns: LabelFilter) -> tuple[str, ...]:
    """Labels that make the identity, as ``k8s:key=value``, sorted.

    Examples
    --------
    >>> identity_labels({"app": "web", "pod-template-hash": "1"}, label_filter())
    ('k8s:app=web',)
    """
    return tuple(
        sorted(told(K8S, key, value) for key, value in labels.items() if _keeps(patterns, key))
    )


@lru_cache(maxsize=1 << 14)
def _keeps(patterns: LabelFilter, key: str) -> bool:
    """Keys are few and come with every pod."""
    return patterns.keeps(K8S, key)


def told(source: str, key: str, value: str = "") -> str:
    """Write a label as Cilium prints it."""
    return f"{source}:{key}={value}" if value else f"{source}:{key}"


def untold(label: str) -> tuple[str, str, str]:
    """Source, key and value of a printed label.

    Examples
    --------
    >>> untold("k8s:app=web"), untold("reserved:host")
    (('k8s', 'app', 'web'), ('reserved', 'host', ''))
    """
    source, _, rest = label.partition(":")
    key, _, value = rest.partition("=")
    return source, key, value
