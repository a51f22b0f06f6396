"""What the machine wants done. Effects are carried out in order; one that fails is wanted again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

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
    deployed: float | None = None
    """When Serve was told last of a deploy of it."""
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
    def loads(cls, text: str, now: float) -> Persisted:
        """What any version wrote, as far as it can be read. Without its term, the seconds of the
        wall clock are one that no earlier Control has come to."""
        try:
            data: Any = json.loads(text)
        except ValueError:
            data = None
        data = data if isinstance(data, dict) else {}
        term, experts = data.get("term"), data.get("experts")
        if type(term) is not int or not 0 <= term < MOST_TERM:
            term = int(now)
        if not isinstance(experts, dict):
            experts = {}
        return cls(term, {name: _written(each) for name, each in experts.items()})


MOST_TERM = 2**53
_FIELDS = {each.name for each in fields(Written)}
_COUNTS = {"own", "pending", "hold", "bytes"}


def _written(data: object) -> Written:
    """What is known of one expert, without what another version may have meant otherwise."""
    known = data if isinstance(data, dict) else {}
    return Written(**{k: v for k, v in known.items() if k in _FIELDS and _sane(k, v)})


def _sane(name: str, value: object) -> bool:
    if name == "pin" or value is None:
        return value is None or isinstance(value, bool)
    if name in _COUNTS:
        return type(value) is int and value >= 0
    return type(value) in (int, float)


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
class Withdraw:
    """Ask Serve for none of the targets before this one that it was not asked for yet: an
    operator's has come in between."""

    expert: str
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


Effect = Persist | SetTarget | Withdraw | Load | Park | Kill | Answer
