"""Pods that may come: for each selector some that it alone selects, to tell selectors apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from capacity.cilium.policy.labels import (
    ANY,
    CLUSTER,
    K8S,
    NAMESPACE,
    NAMESPACE_LABELS,
    SERVICE_ACCOUNT,
)
from capacity.cilium.policy.selectors import EXISTS, IN, Selector
from capacity.cilium.policy.state import ClusterState, Pod

_FRESH: Final = "witness"


def with_witnesses(
    state: ClusterState, endpoints: Sequence[str], selectors: Iterable[Selector]
) -> ClusterState:
    """Keep some endpoints of a cluster, and add pods that only one of some selectors names.

    Parameters
    ----------
    state
        The cluster; its other pods and its identities are left out.
    endpoints
        Names of the endpoints to keep and to resolve.
    selectors
        Selectors of peers. Each gets pods with the labels that it asks for and no others.

    Returns
    -------
    ClusterState
        A small cluster in which two selectors that select the same pods today differ where a pod
        to come could tell them apart.
    """
    kept = [pod for pod in state.pods if pod.endpoint in set(endpoints)]
    spaces: dict[str, Mapping[str, str]] = dict(state.namespaces)
    pods: dict[str, Pod] = {}
    for n, selector in enumerate(sorted(selectors, key=repr)):
        for m, labels in enumerate(_labels(selector)):
            pod = _pod(f"{_FRESH}-{n}-{m}", labels, spaces)
            pods[pod.endpoint] = pod
    for space in {pod.namespace for pod in pods.values()} | {_FRESH}:
        pods[f"{space}/{_FRESH}"] = Pod(space, _FRESH, {})
    return replace(
        state,
        pods=(*kept, *pods.values()),
        namespaces=spaces,
        identities={},
        endpoints=tuple(endpoints),
    )


def _labels(selector: Selector) -> Iterator[dict[str, str]]:
    """Labels that a selector asks for; one choice for each value of its longest In."""
    labels = dict(selector.labels)
    choices: tuple[str, Sequence[str]] = ("", ("",))
    for key, operator, values in selector.expressions:
        if operator == IN and values:
            labels[key] = values[0]
            choices = max(choices, (key, values), key=lambda one: len(one[1]))
        elif operator == EXISTS:
            labels.setdefault(key, _FRESH)
    key, several = choices
    for value in several:
        yield {**labels, key: value} if key else labels


def _pod(name: str, labels: dict[str, str], spaces: dict[str, Mapping[str, str]]) -> Pod:
    own: dict[str, str] = {}
    of_space: dict[str, str] = {}
    space = account = ""
    for told, value in labels.items():
        source, _, key = told.partition(".")
        if source not in (ANY, K8S) or key == CLUSTER:
            continue
        if key == NAMESPACE:
            space = value
        elif key.startswith(f"{NAMESPACE_LABELS}."):
            of_space[key.removeprefix(f"{NAMESPACE_LABELS}.")] = value
        elif key == SERVICE_ACCOUNT:
            account = value
        else:
            own[key] = value
    if not space:
        space = name if of_space else _FRESH
        spaces.setdefault(space, of_space)
    return Pod(space, name, own, account)
