"""Label selectors: read, checked and changed as Cilium does; what they match is in universe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capacity.cilium.policy.labels import (
    ANY,
    CIDR,
    CIDR_GROUP,
    K8S,
    NAMESPACE,
    NAMESPACE_LABELS,
    RESERVED,
    faults_of_key,
    faults_of_value,
    selector_key,
)  # fmt: skip

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
NOT_EXISTS: Final = "DoesNotExist"
_OPERATORS: Final = (IN, NOT_IN, EXISTS, NOT_EXISTS)

Expression = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Selector:
    """Labels and expressions (key with source, operator, values) that all must hold."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Expression, ...] = ()
    # Selectors are keys wherever rules meet: hashed once, not at every look
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.labels, self.expressions)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Selector], tuple[Any, ...]]:
        # Hashes of text are of one process only
        return Selector, (self.labels, self.expressions)

    @property
    def is_wildcard(self) -> bool:
        """Whether it selects everything."""
        return not self.labels and not self.expressions

    def keys(self) -> Iterable[str]:
        """Keys with their sources."""
        yield from (key for key, _ in self.labels)
        yield from (key for key, _, _ in self.expressions)


@dataclass(frozen=True, slots=True)
class NameSelector:
    """A selector of DNS names: matchName or matchPattern."""

    name: str = ""
    pattern: str = ""

    @property
    def label(self) -> str:
        """Key of the label that addresses of matching names carry."""
        return self.name or self.pattern


WILDCARD: Final = Selector()


def reserved(name: str) -> Selector:
    """Select one reserved identity by its name."""
    return Selector(((f"{RESERVED}.{name}", ""),))


HOST: Final = reserved("host")
NONE: Final = reserved("none")


def parse(told: Mapping[str, Any]) -> Selector:
    """Read a selector of a Cilium policy.

    Raises
    ------
    TypeError
        If a part has another type than Kubernetes' LabelSelector.
    """
    return _selector(told, selector_key)


def parse_kubernetes(told: Mapping[str, Any], prefix: str = "") -> Selector:
    """Read a selector of a Kubernetes policy, whose labels are all of Kubernetes.

    Raises
    ------
    TypeError
        If a part has another type than Kubernetes' LabelSelector.
    """
    return _selector(told, lambda key: f"{K8S}.{prefix}{key}")


def parse_groups(told: Mapping[str, Any]) -> Selector:
    """Read a selector of CIDR groups by their labels.

    Raises
    ------
    TypeError
        If a part has another type than Kubernetes' LabelSelector.
    """
    return _selector(told, lambda key: f"{CIDR_GROUP}.{key}")


def _selector(told: Mapping[str, Any], key_of: Any) -> Selector:
    if not isinstance(told, Mapping):
        raise TypeError(f"a label selector is {type(told).__name__}, wanted an object")
    labels = told.get("matchLabels") or {}
    expressions = told.get("matchExpressions") or []
    if not isinstance(labels, Mapping) or not isinstance(expressions, list):
        raise TypeError("matchLabels is no object or matchExpressions no list")
    pairs = {}
    for key, value in labels.items():
        if not isinstance(value, str | None):
            raise TypeError(f"matchLabels.{key} is {value!r}, wanted text: write it in quotes")
        pairs[key_of(str(key))] = value or ""
    return Selector(
        tuple(sorted(pairs.items())), tuple(_expression(one, key_of) for one in expressions)
    )


def _expression(told: Any, key_of: Any) -> Expression:
    if not isinstance(told, Mapping):
        raise TypeError("a match expression is no object")
    values = told.get("values") or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"values of {told.get('key')!r} are {values!r}, wanted a list of texts")
    return key_of(str(told.get("key", ""))), str(told.get("operator", "")), tuple(values)


def faults(selector: Selector) -> list[str]:
    """Tell why the API server's rules or the agent refuse a selector, in their words."""
    found = []
    for key, value in selector.labels:
        found += [f'matchLabels: Invalid value: "{key}": {why}' for why in faults_of_key(key)]
        found += [f'matchLabels: Invalid value: "{value}": {why}' for why in faults_of_value(value)]
    for n, (key, operator, values) in enumerate(selector.expressions):
        at = f"matchExpressions[{n}]"
        if operator not in _OPERATORS:
            found.append(
                f'{at}.operator: Invalid value: "{operator}": not a valid selector operator'
            )
        elif operator in (IN, NOT_IN) and not values:
            found.append(
                f"{at}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )
        elif operator in (EXISTS, NOT_EXISTS) and values:
            found.append(
                f"{at}.values: Forbidden: may not be specified when `operator` is "
                "'Exists' or 'DoesNotExist'"
            )
        found += [f'{at}.key: Invalid value: "{key}": {why}' for why in faults_of_key(key)]
        found += [
            f'{at}.values[{i}]: Invalid value: "{value}": {why}'
            for i, value in enumerate(values)
            for why in faults_of_value(value)
        ]
    return found


def is_usable(selector: Selector) -> bool:
    """Tell whether the selector matches anything: one that cannot be built matches nothing."""
    return not faults(selector)


def with_label(selector: Selector, key: str, value: str) -> Selector:
    """Require a label; a value given for it before is replaced."""
    labels = {**dict(selector.labels), key: value}
    return Selector(tuple(sorted(labels.items())), selector.expressions)


def with_expressions(selector: Selector, expressions: Sequence[Expression]) -> Selector:
    """Require more expressions."""
    return Selector(selector.labels, (*selector.expressions, *expressions))


def requirements(selector: Selector) -> tuple[Expression, ...]:
    """Give the selector as expressions: what fromRequires adds to every peer."""
    return (*selector.expressions, *((key, IN, (value,)) for key, value in selector.labels))


def in_namespace(selector: Selector, namespace: str, *, is_peer: bool, is_init: bool) -> Selector:
    """Keep a peer within the namespace of its policy, unless it names one itself.

    Parameters
    ----------
    selector
        Peer as written.
    namespace
        Namespace of the policy; empty for clusterwide ones, whose peers must be pods.
    is_peer
        Whether reserved labels free it from the namespace: of fromEndpoints, not fromRequires.
    is_init
        Whether the policy is for endpoints without labels yet.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/apis/cilium.io/utils/utils.go, getEndpointSelector, b095517e625e.
    """
    keys = list(selector.keys())
    if is_peer and any(key.startswith(f"{RESERVED}.") for key in keys):
        return selector
    own, loose = f"{K8S}.{NAMESPACE}", f"{ANY}.{NAMESPACE}"
    if own in keys or loose in keys:
        return selector
    if not namespace:
        return selector if is_init else with_expressions(selector, [(own, EXISTS, ())])
    prefixes = (f"{K8S}.{NAMESPACE_LABELS}.", f"{ANY}.{NAMESPACE_LABELS}.")
    if any(key.startswith(prefixes) for key in keys):
        return selector
    return with_label(selector, own, namespace)


def of_prefix_key(key: str) -> Selector:
    """Select the addresses of a CIDR label and all narrower ones."""
    return Selector(((f"{CIDR}.{key}", ""),))


def pattern_of(selector: NameSelector) -> re.Pattern[str]:
    """Regular expression that DNS names without their last dot must match.

    References
    ----------
    .. [1] cilium/cilium pkg/fqdn/matchpattern/matchpattern.go, b095517e625e.

    Examples
    --------
    >>> bool(pattern_of(NameSelector(pattern="*.example.com")).match("a.example.com"))
    True
    """
    if not selector.name and selector.pattern == "*":
        return re.compile(r"([-a-zA-Z0-9_]+\.)*[-a-zA-Z0-9_]+\Z|\Z")
    text = (selector.name or selector.pattern).strip().lower().rstrip(".")
    return re.compile(re.escape(text).replace(r"\*", "[-a-zA-Z0-9_]*") + r"\Z")
