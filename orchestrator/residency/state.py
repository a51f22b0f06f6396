"""What is known of each expert and its replicas: facts, and the orders that are under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from capyra.engine.config import FOREVER
from capyra.orchestrator.residency.effects import Written
from capyra.orchestrator.residency.events import NEVER, Epoch, ReplicaState
from capyra.orchestrator.residency.scaling import Load
from capyra.orchestrator.residency.spec import ExpertSpec
from capyra.orchestrator.residency.targets import Target

ExpertState = Literal["cold", "loading", "ready", "parked", "draining"]

GUESSED_SPEED = 10**9
"""Bytes a second of a first load, before one was measured."""
GUESSED_START_S = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a replica was told last."""

    kind: Literal["load", "park"]
    epoch: Epoch
    at: float
    drain: bool = False


@dataclass(slots=True)
class Replica:
    id: str
    expert: str
    node: str
    state: ReplicaState
    since: float
    """When it came into this state."""
    in_flight: int = 0
    epoch: Epoch = NEVER
    lease: int = 0
    retired: int = 0
    """The part of the lease that an engine of earlier settings still holds."""
    fraction: float = 0.0
    order: Order | None = None
    """The order whose outcome is awaited."""
    load_began: float | None = None
    """When the load that it is in, or was in last, was ordered or first seen."""
    stale: bool = False
    """Whether its engine may be of earlier settings: nothing is learned from it."""

    @property
    def loading(self) -> bool:
        return self.state == "loading" or (self.order is not None and self.order.kind == "load")

    @property
    def parking(self) -> bool:
        return self.order is not None and self.order.kind == "park"

    @property
    def usable(self) -> bool:
        """Whether it takes requests now."""
        return self.state == "ready" and not (self.order is not None and self.order.drain)


@dataclass(slots=True)
class Failing:
    """The failures since the last success."""

    count: int
    reason: str
    retry_at: float


@dataclass(slots=True)
class Expert:
    spec: ExpertSpec
    target: Target
    replicas: dict[str, Replica] = field(default_factory=dict)
    failing: Failing | None = None
    started_at: float | None = None
    """When a first process was asked for that has not appeared yet."""
    idle_since: float = float("-inf")
    """When its last request ended, as far as reports tell."""
    expected_until: float = float("-inf")
    """Until then a granted request may still be on its way to it."""
    asked_keep_alive_s: float | None = None
    """What the last request asked for, until the weights leave."""
    own_keep_alive_s: float | None = None
    own_pin: bool | None = None
    leaving: bool = False
    """Told by an operator to unload."""
    died: int = 0
    """Processes that ended while they loaded, since the last success."""
    measured: int | None = None
    load_s: float | None = None
    start_s: float | None = None
    load: Load = field(default_factory=Load)
    blocked: str = ""
    """Why it does not load, as logged last."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def need(self) -> int:
        """Bytes that one replica's weights and K/V take; at least one, so that it counts."""
        return max(1, self.spec.estimate if self.measured is None else self.measured)

    @property
    def load_seconds(self) -> float:
        """From the order to ready: learned, or guessed from the bytes."""
        learned = self.need / GUESSED_SPEED + 0.1 if self.load_s is None else self.load_s
        return max(learned, 0.001)

    @property
    def start_seconds(self) -> float:
        return GUESSED_START_S if self.start_s is None else self.start_s

    @property
    def pinned(self) -> bool:
        return self.spec.pin if self.own_pin is None else self.own_pin

    @property
    def kept(self) -> bool:
        """Never evicted: pinned, or held by an operator at several replicas, all of which must
        have weights, because Serve's router cannot tell which ones do."""
        hold = self.target.hold
        return self.pinned if hold is None else hold > 1 or (self.pinned and hold > 0)

    @property
    def keep_alive_s(self) -> float:
        for said in (self.asked_keep_alive_s, self.own_keep_alive_s):
            if said is not None:
                return said
        return self.spec.keep_alive_s

    @property
    def keep_until(self) -> float:
        kept = self.keep_alive_s
        if kept == FOREVER:
            return float("inf")
        return max(self.idle_since + kept, self.expected_until)

    @property
    def state(self) -> ExpertState:
        """Its replicas' best; what is ready but takes nothing new is draining."""
        replicas = self.replicas.values()
        if any(each.usable for each in replicas):
            return "ready"
        if any(each.loading for each in replicas):
            return "loading"
        if any(each.state in ("ready", "draining") for each in replicas):
            return "draining"
        if self.replicas:
            return "parked"
        return "cold" if self.target.count == 0 else "loading"

    def busy(self, now: float) -> bool:
        return now < self.expected_until or any(each.in_flight for each in self.replicas.values())

    @property
    def staying(self) -> list[Replica]:
        """Its replicas, without those that Serve is stopping."""
        return [each for each in self.replicas.values() if each.state != "draining" or each.parking]

    @property
    def resident(self) -> list[Replica]:
        """Its replicas that hold weights, or may. A parked one can still have a lease, for an
        engine that retired."""
        return [
            each
            for each in self.replicas.values()
            if each.lease and (each.state != "parked" or each.order is not None)
        ]

    @property
    def loaded_since(self) -> float | None:
        """When its youngest weights came; None without any."""
        ready = [each.since for each in self.replicas.values() if each.state == "ready"]
        return max(ready, default=None)

    def written(self) -> Written:
        return Written(
            own=self.target.own,
            pending=self.target.pending,
            hold=self.target.hold,
            deployed=self.target.deployed,
            pin=self.own_pin,
            keep_alive_s=self.own_keep_alive_s,
            bytes=self.measured,
            load_s=self.load_s,
            start_s=self.start_s,
            measured_with=self.spec.digest,
        )

    def recall(self, written: Written) -> None:
        """What an earlier Control wrote."""
        self.target.own, self.target.pending = written.own, written.pending
        self.target.hold, self.target.deployed = written.hold, written.deployed
        self.own_pin, self.own_keep_alive_s = written.pin, written.keep_alive_s
        self.start_s = written.start_s
        if written.measured_with == self.spec.digest:
            self.measured, self.load_s = written.bytes, written.load_s

    def change(self, spec: ExpertSpec) -> None:
        """New settings; what was measured with others says nothing about these."""
        if spec.digest != self.spec.digest:
            self.measured = self.load_s = None
            for replica in self.resident:
                replica.stale = True
        self.spec = spec
        self.target.initial = spec.initial
