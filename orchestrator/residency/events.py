"""What can happen, as the machine is told it. Times inside are of the machine's own clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from capyra.orchestrator.residency.spec import ExpertSpec, Policy


class Epoch(NamedTuple):
    """The number of an order. A replica obeys only one newer than all that it has obeyed.

    `term` is the life of Control that gave it, so that orders of a dead one are never obeyed
    after the first order of the next.
    """

    term: int
    number: int


NEVER = Epoch(0, 0)

ReplicaState = Literal["parked", "loading", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class Configure:
    """These experts there are, and no others."""

    experts: tuple[ExpertSpec, ...]
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A request for an expert that is not ready; it waits until it is answered."""

    id: str
    expert: str
    deadline: float
    priority: int = 0
    """Higher is sooner."""
    keep_alive_s: float | None = None
    shown_id: str = ""
    """What its client knows it by, if not by `id`."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request's client went away."""

    id: str


@dataclass(frozen=True, slots=True)
class Used:
    """Requests began on a ready replica, which asks nobody."""

    expert: str
    count: int = 1
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One replica at one moment: whenever something changed, and every second.

    A `draining` replica takes no new requests: Serve is stopping it, or it was told to give
    its weights back when it is done. `failure` is why the load that `epoch` ordered failed.
    """

    expert: str
    replica: str
    node: str
    state: ReplicaState
    in_flight: int = 0
    bytes: int = 0
    """Weights and K/V that it holds."""
    retired: int = 0
    """Those of them that belong to engines of earlier settings, which end what they began."""
    epoch: Epoch = NEVER
    """The newest order that it obeyed, or declined."""
    fraction: float = 0.0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The replica's process has ended, as Serve or its node says: its memory is free."""

    replica: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node, with the bytes that experts may use there; said again when they change."""

    node: str
    capacity: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    node: str


@dataclass(frozen=True, slots=True)
class Targets:
    """What Serve is asked for, by expert, as a poll that began at `asked_at` found it."""

    counts: Mapping[str, int]
    asked_at: float
    deployed: Mapping[str, float] = field(default_factory=dict)
    """When each was deployed last, by Serve's clock."""
    deploying: frozenset[str] = frozenset()
    """Those of which that may not be carried out yet."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator sets the number of replicas; it holds until released. 0 stops the expert."""

    expert: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Release:
    """`capyra scale EXPERT auto`."""

    expert: str


@dataclass(frozen=True, slots=True)
class Pin:
    """An operator pins or unpins; None: as the experts file says."""

    expert: str
    on: bool | None


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """An operator sets how long weights stay; None: as the experts file says."""

    expert: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Unload:
    """An operator wants the weights gone: running requests end, later ones load again."""

    expert: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: due when `Machine.due` says so, and harmless at any other time."""


Event = (
    Configure | Demand | Cancel | Used | Report | Gone | NodeSeen | NodeLost | Targets
    | Hold | Release | Pin | KeepAlive | Unload | Tick
)  # fmt: skip
