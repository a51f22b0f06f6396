"""What was decided, with what it was decided on; and `why`, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SENTENCES: Mapping[str, str] = {
    "started": "asked Serve for its first process: {waiting} wait for it; none was running",
    "loaded": "told {replica} on {node} to load {bytes}: {cause}; {free} were free there",
    "ready": "ready on {node} after {seconds}, with {bytes}",
    "evicted": "evicted from {nodes} for {other}, which needs {bytes}: it was idle for {idle}, its "
    "next use was expected in {next_use}, and to bring it back takes {load}",
    "yields": "takes no new requests, so that {other} gets its turn: that one waited {waited}, and "
    "this one had its room for {stay}",
    "blocked": "cannot load now: {cause}",
    "idle": "gives its weights back: idle for {idle}, its keep-alive is {keep_alive}",
    "unloaded": "gives its weights back: an operator said so",
    "parked": "has given {bytes} back on {node}; its process stays",
    "gave_up": "gives its process up: {cause}",
    "declined": "{replica} kept its weights, because a request came first",
    "scaled": "from {before} to {after} replicas: {under_way} requests were under way",
    "shed": "gives its weights back: {node} holds {over} more than it may",
    "failed": "failed to load on {node}: {cause}; attempt {count}, the next in {seconds}",
    "lost": "lost {replica} on {node}: {cause}",
    "held": "held at {replicas} replicas by an operator",
    "reset": "a deploy asked Serve for {before} replicas; asked for {after} again",
    "released": "released by its operator; its number of replicas follows its load again",
    "killed": "ended {replica} on {node}: {cause}",
    "waits": "waits for it: {state}, about {eta}",
    "granted": "granted after {waited}",
    "refused": "refused after {waited}: {cause}",
    "expired": "its deadline passed after {waited}",
    "cancelled": "its client left after {waited}",
    "warmed": "is kept ready without requests: its next use is expected in {next_use}",
    "cooled": "is not kept ready any longer: others are likelier to be used",
    "pinned": "pinned by an operator",
    "unpinned": "unpinned by an operator",
    "adopted": "found {replica} on {node} {state}, with {bytes}",
}

Value = str | int | float

SAME_ID = 8
"""Most requests that are told of when all have the same id from their client."""


@dataclass(frozen=True, slots=True)
class Decision:
    number: int
    at: float
    kind: str
    expert: str
    waiter: str | None = None
    shown_id: str = ""
    """What the waiter's client knows it by."""
    inputs: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return SENTENCES[self.kind].format(**{k: _say(k, v) for k, v in self.inputs.items()})


class DecisionLog:
    """The newest decisions; `total` counts all there ever were."""

    def __init__(self, most: int) -> None:
        self._kept: deque[Decision] = deque(maxlen=most)
        self.total = 0

    def add(
        self,
        at: float,
        kind: str,
        expert: str,
        waiter: str | None = None,
        shown_id: str = "",
        /,
        **inputs: Value,
    ) -> None:
        self.total += 1
        self._kept.append(Decision(self.total, at, kind, expert, waiter, shown_id, inputs))

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._kept)

    def of_expert(self, name: str) -> list[Decision]:
        return [each for each in self._kept if each.expert == name and each.waiter is None]

    def of_request(self, name: str) -> list[Decision]:
        """By its id, or by the one that its client knows: a client may give one id to many, of
        which these are the newest."""
        ids = [each.waiter for each in self._kept if each.shown_id == name and each.waiter]
        found = {
            each.number: each for id_ in ids[-SAME_ID:] or [name] for each in self.of_waiter(id_)
        }
        return [found[number] for number in sorted(found)]

    def of_waiter(self, waiter: str) -> list[Decision]:
        """Its own, and what happened to its expert while it waited."""
        own = [each for each in self._kept if each.waiter == waiter]
        if not own:
            return []
        last = own[-1].number if len(own) > 1 else self.total
        return [
            each
            for each in self._kept
            if each.waiter == waiter
            or (
                each.waiter is None
                and each.expert == own[0].expert
                and own[0].number < each.number < last
            )
        ]


_BYTES = {"bytes", "free", "over"}
_SECONDS = {"seconds", "idle", "next_use", "load", "waited", "stay", "eta", "keep_alive"}


def _say(name: str, value: Value) -> str:
    if isinstance(value, str):
        return value
    if name in _BYTES:
        return size(value)
    return span(value) if name in _SECONDS else f"{value:g}"


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def span(seconds: float) -> str:
    """A time for a person."""
    if seconds < 0 or seconds == float("inf"):
        return "for ever"
    if seconds < 10:
        return f"{seconds:.2g} s"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
