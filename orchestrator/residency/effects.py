"""What the machine wants done. Effects are carried out in order; one that fails is wanted again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from capyra.engine.errors import Failure
from capyra.orchestrator.residency.events import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What must outlive Control of one expert."""

    own: int | None = None
    """The replicas that Control last asked Serve for."""
    pending: int | None = None
    """Those that it is about to ask for: after a crash either may be what Serve has."""
    hold: int | None = None
    """Those that an operator asked for."""
    pin: bool | None = None
    keep_alive_s: float | None = None
    bytes: int | None = None
    load_s: float | None = None
    start_s: float | None = None
    measured_with: str = ""
    """The digest of the settings that `bytes` and `load_s` are of."""


@dataclass(frozen=True, slots=True)
class Persisted:
    """Everything that must outlive Control."""

    term: int = 0
    experts: Mapping[str, Written] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> Persisted:
        data = json.loads(text)
        experts = {name: Written(**written) for name, written in data["experts"].items()}
        return cls(data["term"], experts)


@dataclass(frozen=True, slots=True)
class Persist:
    """Write this in the place of what was written. What follows waits until it is safe: a
    target that was set but not written down would look like an operator's after a crash."""

    state: Persisted


@dataclass(frozen=True, slots=True)
class SetTarget:
    """Ask Serve for so many replicas."""

    expert: str
    replicas: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Load:
    """A lease: this replica may hold weights and K/V of so many bytes."""

    expert: str
    replica: str
    bytes: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Park:
    """Give the weights back, or the load up.

    A replica that has requests declines, and reports so, unless it is told to `drain`: then it
    takes no new ones (they demand the expert anew) and parks when the last has ended.
    """

    expert: str
    replica: str
    epoch: Epoch
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """End this process, which no longer obeys. Serve starts another."""

    expert: str
    replica: str


Verdict = Literal["granted", "refused", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a wait; every demand gets exactly one. `failure` says why it was not granted."""

    id: str
    expert: str
    verdict: Verdict
    waited_s: float
    failure: Failure | None = None


Effect = Persist | SetTarget | Load | Park | Kill | Answer
