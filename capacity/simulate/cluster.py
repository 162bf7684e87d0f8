"""The cluster over time: agents that come, go and restart, and the counts they see.

Arrays over steps have shape (t,), over steps and agents (t, m). An agent is one life of a node:
a replaced node is two agents, which share an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capacity.simulate import laws
from capacity.simulate.laws import Array, Template
from capacity.simulation_settings import SimulationSettings

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_DAY: Final = 86_400.0
# All agents were restarted by an upgrade this long before the first sample, within a day.
_UPGRADE_DAYS: Final = 40.0
# Node names go on counting where a node is replaced; addresses are used again.
_POD_LETTERS: Final = np.array(list("bcdfghjklmnpqrstvwxz2456789"))  # kubernetes util/rand


@dataclass(frozen=True, slots=True)
class Agents:
    """Agents in order of address, then replacements: who they are and when they live."""

    slot: Ints
    birth: Ints
    death: Ints
    pod: npt.NDArray[np.str_]
    heavy: Array
    worst: Array

    @property
    def count(self) -> int:
        """Agents that ever lived."""
        return len(self.slot)

    def alive(self, steps: int) -> Flags:
        """Give the steps at which each agent lives, shape (steps, m)."""
        at = np.arange(steps)[:, None]
        return np.asarray((at >= self.birth) & (at < self.death))


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything drawn but what a process measures about itself."""

    settings: SimulationSettings
    times: Array  # seconds since 1970, shape (t,)
    agents: Agents
    alive: Flags  # (t, m)
    pods: Ints  # pods of each agent's node, (t, m)
    started: Array  # start of the agent's process, seconds since 1970, (t, m)
    first: Ints  # first step of the agent's process, (t, m)
    services: tuple[Template, ...]  # in order of creation
    counts: dict[str, Ints]  # cluster-wide counts, (t,)

    @property
    def restarted(self) -> Flags:
        """Steps that are the first of a process."""
        return np.asarray(self.first == np.arange(len(self.times))[:, None])


def draw(settings: SimulationSettings, rng: np.random.Generator) -> Cluster:
    """Draw a cluster from its laws."""
    step = settings.step_seconds
    back = step * np.arange(settings.steps)[::-1]
    times = np.asarray(settings.end_time.timestamp() - back, float)
    nodes = _node_counts(settings, times, rng)
    agents = _agents(settings, nodes, rng)
    alive = agents.alive(settings.steps)
    pace = np.exp(-step / (laws.PODS_DAYS * _DAY))
    deviation = autoregressive((settings.steps, agents.count), pace, rng) * settings.noise
    pods = laws.draw_pods(deviation, settings.pods_per_node).astype(np.int64)
    started, first = _processes(settings, times, agents, rng)
    counts, services = _counts(settings, nodes, (pods * alive).sum(axis=1), rng)
    return Cluster(settings, times, agents, alive, pods, started, first, services, counts)


def autoregressive(shape: tuple[int, ...], pace: float, rng: np.random.Generator) -> Array:
    """Draw AR(1) noise along the first axis with standard deviation 1 and lag-1 correlation."""
    out = rng.normal(size=shape)
    out[1:] *= np.sqrt(1 - pace**2)
    for before, now in zip(out[:-1], out[1:], strict=True):
        now += pace * before
    return out


def week(times: Array, amplitude: float) -> Array:
    """Season of a week around 1, highest on Wednesdays at noon."""
    days = times / _DAY + 3  # 1 January 1970 was a Thursday: days since a Monday
    return np.asarray(1 + amplitude * np.cos(2 * np.pi * (days - 2.5) / 7))


def _node_counts(settings: SimulationSettings, times: Array, rng: np.random.Generator) -> Ints:
    """Node counts: steps of uneven size, more of them in the middle of the week; never down."""
    grown = settings.nodes - settings.first_nodes
    lumps = rng.gamma(1.0, size=len(times) - 1) * min(settings.noise, 1.0) + 0.5
    weights = week(times[1:], 0.8) * lumps
    steps = rng.multinomial(grown, weights / weights.sum())
    return np.asarray(settings.first_nodes + np.append(0, np.cumsum(steps)), np.int64)


def _agents(settings: SimulationSettings, nodes: Ints, rng: np.random.Generator) -> Agents:
    steps = settings.steps
    slot = np.arange(settings.nodes)
    birth = np.searchsorted(nodes, slot, side="right")
    life = steps - birth
    chance = -np.expm1(-settings.replacements * settings.step_seconds / _DAY * life)
    gone = (rng.random(settings.nodes) < chance) & (life > 1)
    gone[0] = False  # a heavy node that is always there: the worst endpoint never goes away
    change = birth + 1 + (rng.random(settings.nodes) * (life - 1)).astype(np.int64)
    many = settings.nodes + int(gone.sum())
    letters = rng.choice(_POD_LETTERS, size=(many, 5))
    heavy, worst = laws.draw_load(many, rng)
    return Agents(
        slot=np.append(slot, slot[gone]),
        birth=np.append(birth, change[gone]),
        death=np.append(np.where(gone, change, steps), np.full(many - settings.nodes, steps)),
        pod=np.array(["cilium-" + "".join(row) for row in letters]),
        heavy=heavy,
        worst=worst,
    )


def _processes(
    settings: SimulationSettings, times: Array, agents: Agents, rng: np.random.Generator
) -> tuple[Array, Ints]:
    """Start time and first step of the process that each agent runs at each step."""
    step, shape = settings.step_seconds, (len(times), agents.count)
    at = np.arange(len(times))[:, None]
    chance = -np.expm1(-settings.restarts * step / _DAY)
    begins = ((rng.random(shape) < chance) & (at > agents.birth)) | (at == agents.birth)
    start = times[:, None] - rng.random(shape) * step
    upgraded = times[0] - (_UPGRADE_DAYS + rng.random(agents.count)) * _DAY
    start[0] = np.where(agents.birth == 0, upgraded, start[0])
    started = np.maximum.accumulate(np.where(begins, np.round(start, 2), 0.0))
    return started, np.maximum.accumulate(np.where(begins, at, 0))


def _counts(
    settings: SimulationSettings, nodes: Ints, pods: Ints, rng: np.random.Generator
) -> tuple[dict[str, Ints], tuple[Template, ...]]:
    """Draw cluster-wide counts around their laws, and the services themselves."""
    law = laws.cluster_law(settings, nodes)
    pace = np.exp(-settings.step_seconds / (laws.PODS_DAYS * _DAY))
    drawn: dict[str, Any] = {"nodes": nodes, "pods": pods}
    for name in ("identities", "policies", "services"):
        noise = autoregressive((len(nodes),), pace, rng) * laws.COUNT_NOISE * settings.noise
        drawn[name] = np.clip(np.round(law[name] * (1 + noise)), 1, None).astype(np.int64)
    services = _services(int(drawn["services"].max()), rng)
    for name, attribute in laws.LB_MAPS.items():
        sums = np.cumsum([getattr(kind, attribute) for kind in services])
        drawn[name] = sums[drawn["services"] - 1]
    drawn["ipcache"] = laws.ipcache(pods, nodes).astype(np.int64)
    drawn["tunnel_map"] = nodes - 1
    rows = laws.policy_rows(drawn["identities"], drawn["policies"])
    drawn["policy_worst"] = rows.astype(np.int64)
    return drawn, services[: int(drawn["services"][-1])]


def _services(many: int, rng: np.random.Generator) -> tuple[Template, ...]:
    """Draw services in order of creation: default/kubernetes, then shuffled blocks of kinds."""
    blocks = -(-many // len(laws.BLOCK))
    order = np.concatenate([rng.permutation(len(laws.BLOCK)) for _ in range(blocks)])
    return (laws.KUBERNETES, *(laws.BLOCK[i] for i in order[: many - 1]))
