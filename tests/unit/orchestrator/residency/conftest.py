"""A stage: one machine, driven by hand, with replicas that say what a test wants them to say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

from capyra.orchestrator.residency.effects import (
    Answer,
    Effect,
    Load,
    Park,
    Persist,
    Persisted,
    SetTarget,
)
from capyra.orchestrator.residency.events import (
    NEVER,
    Configure,
    Demand,
    Epoch,
    Event,
    NodeSeen,
    ReplicaState,
    Report,
    Targets,
    Tick,
)
from capyra.orchestrator.residency.machine import Machine
from capyra.orchestrator.residency.spec import ExpertSpec, Policy

E = TypeVar("E")

QUIET = Policy(warm=0, settle_s=0.0, stay_s=5.0, turn_s=30.0)


def spec(name: str, **settings: Any) -> ExpertSpec:
    return ExpertSpec(**{"name": name, "estimate": 40, "process": 1, **settings})


class Stage:
    """Sizes are small numbers of bytes: a node has room for 100, an expert needs 40."""

    def __init__(
        self,
        *experts: str | ExpertSpec,
        policy: Policy = QUIET,
        nodes: Mapping[str, int] | None = None,
        written: Persisted | None = None,
        targets: Mapping[str, int] | None = None,
        deployed: float = 500.0,
    ) -> None:
        self.now = 1000.0
        self.effects: list[Effect] = []
        self.answers: dict[str, Answer] = {}
        self.written = written
        self.obeyed: dict[str, Epoch] = {}
        self._ordered: dict[str, Epoch] = {}
        self._names = itertools.count(1)
        self.specs = tuple(each if isinstance(each, ExpertSpec) else spec(each) for each in experts)
        self.policy = policy
        self.machine = Machine(written, policy)
        self.tell(Configure(self.specs, policy))
        for node, capacity in (nodes or {"n1": 100}).items():
            self.tell(NodeSeen(node, capacity))
        self.deployed = dict.fromkeys((each.name for each in self.specs), deployed)
        self.targets = {each.name: each.initial for each in self.specs} | dict(targets or {})
        self.poll()

    # --- what happens -----------------------------------------------------------------------

    def tell(self, event: Event) -> list[Effect]:
        effects = self.machine.handle(event, self.now)
        for effect in effects:
            match effect:
                case Answer():
                    assert effect.id not in self.answers, f"{effect.id} was answered twice"
                    self.answers[effect.id] = effect
                case Persist():
                    self.written = effect.state
                case SetTarget():
                    self.targets[effect.expert] = effect.replicas
                case Load() | Park():
                    self._ordered[effect.replica] = effect.epoch
        self.effects += effects
        return effects

    def wait(self, seconds: float) -> None:
        """Time passes, with the ticks that are due."""
        until = self.now + seconds
        for _ in range(10_000):
            due = self.machine.due()
            if due > until:
                break
            self.now = max(self.now, due)
            self.tell(Tick())
        else:
            raise AssertionError("the machine wants to be woken without end")
        self.now = until
        self.tell(Tick())

    def poll(self) -> list[Effect]:
        return self.tell(Targets(dict(self.targets), self.now, dict(self.deployed)))

    def deploy(self, expert: str) -> None:
        """Serve is told of the expert anew, and sets its target to where it begins."""
        self.now += 1
        self.deployed[expert] = self.now
        self.poll()
        for _ in range(4):
            self.now += 4
            counts, times = dict(self.targets), dict(self.deployed)
            self.tell(Targets(counts, self.now, times, frozenset({expert})))
        self.now += 1
        self.targets[expert] = 1
        self.poll()
        self.now += 1
        self.poll()

    def demand(self, expert: str, name: str | None = None, **more: Any) -> str:
        name = name or f"r{next(self._names)}"
        self.tell(
            Demand(id=name, expert=expert, deadline=more.pop("deadline", self.now + 600), **more)
        )
        return name

    def report(
        self,
        replica: str,
        state: ReplicaState,
        *,
        obeys: bool = True,
        node: str = "n1",
        **more: Any,
    ) -> list[Effect]:
        """A replica named `expert/number` speaks; it has obeyed what it was told last."""
        if obeys and replica in self._ordered:
            self.obeyed[replica] = self._ordered[replica]
        held = 40 if state in ("ready", "draining") else 0
        return self.tell(
            Report(
                expert=replica.split("/")[0],
                replica=replica,
                node=node,
                state=state,
                bytes=more.pop("bytes", held),
                epoch=self.obeyed.get(replica, NEVER),
                **more,
            )
        )

    def bring(self, expert: str, *, node: str = "n1") -> str:
        """The expert demanded, loaded and ready in a second, its request over."""
        replica = f"{expert}/1"
        if replica not in self.machine.cluster.experts[expert].replicas:
            self.report(replica, "parked", node=node)
        name = self.demand(expert)
        self.now += 1
        self.report(replica, "ready", node=node)
        assert self.answers[name].verdict == "granted"
        self.now += self.policy.arrival_s
        self.tell(Tick())
        return replica

    # --- what came of it --------------------------------------------------------------------

    def of(self, kind: type[E]) -> list[E]:
        return [each for each in self.effects if isinstance(each, kind)]

    def state(self, expert: str) -> str:
        return self.machine.outlook(expert).state

    def used(self, node: str = "n1") -> int:
        return self.machine.cluster.ledger.nodes[node].used

    def said(self, expert: str) -> str:
        return "\n".join(self.machine.why(expert))


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    return Stage


@pytest.fixture
def make_spec() -> Callable[..., ExpertSpec]:
    return spec
