"""What replicas and gateways tell Control, and what it tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capyra.deployments.experts import ReplicaView
from capyra.engine.errors import Failure
from capyra.engine.types import Capabilities, Progress
from capyra.orchestrator.residency.events import NEVER, Epoch

REPORT_INTERVAL_S = 1.0
STALE_AFTER_S = 4.0
"""A replica that has not reported for so long is not shown any more."""


@dataclass(frozen=True, slots=True)
class Report:
    """One replica at one moment."""

    expert: str
    view: ReplicaView
    capabilities: Capabilities | None
    number: int = 0
    """Each has a greater one: one that was overtaken on its way is not news."""
    bytes: int = 0
    """Weights and K/V that it holds."""
    retired: int = 0
    """Those of them that engines of earlier settings hold, which end what they began."""
    epoch: Epoch = NEVER
    """The newest order that it obeyed, or declined."""
    progress: Progress | None = None
    """How far its load is."""
    failure: str | None = None
    """Why the load that `epoch` ordered failed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that found its expert not ready, and waits for it."""

    id: str
    expert: str
    seconds: float
    """That it may still wait."""
    priority: int = 0
    keep_alive_s: float | None = None
    shown_id: str = ""
    """What its client was told that its id is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a wish that is not answered yet."""

    progress: Progress
    waiting: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a wait: the expert takes requests, or `failure` says why it will not."""

    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Requests that began on ready replicas, which nobody had to ask for."""

    expert: str
    count: int
    keep_alive_s: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What Serve is asked for of one expert, and why it gave that up if it did."""

    replicas: int
    failure: str | None = None
    deployed: float | None = None
    """When it was deployed last, by Serve's clock."""
    deploying: bool = False
    """Whether that may not be carried out yet."""


@dataclass(frozen=True, slots=True)
class ExpertReport:
    """One expert at one moment: what Serve was asked for, and what its replicas said."""

    target: int | None = None
    replicas: tuple[ReplicaView, ...] = ()
    capabilities: Capabilities | None = None
    failure: str | None = None
    held: int | None = None
    """Replicas that an operator asked for; 0 is a stop."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Serve at one moment: what it is asked for, and its processes of experts."""

    asked: Mapping[str, Asked]
    present: frozenset[str]
    """Replicas whose process there is."""
    stopping: frozenset[str]
    """Those of them that Serve is ending."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one moment. `version` grows with every change."""

    version: int
    experts: dict[str, ExpertReport] = field(default_factory=dict)
