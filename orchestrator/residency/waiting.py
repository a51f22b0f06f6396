"""The waiting room: requests for experts that are not ready. Each leaves it exactly once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from capyra.engine.errors import Failure
from capyra.orchestrator.residency.effects import Answer, Verdict


@dataclass(frozen=True, slots=True)
class Waiter:
    id: str
    expert: str
    arrived: float
    deadline: float
    priority: int
    keep_alive_s: float | None


@dataclass(slots=True)
class WaitingRoom:
    _all: dict[str, Waiter] = field(default_factory=dict)
    _queues: dict[str, dict[str, Waiter]] = field(default_factory=dict)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, waiter: str) -> bool:
        return waiter in self._all

    def enter(self, waiter: Waiter) -> None:
        assert waiter.id not in self._all, f"{waiter.id} waits already"
        self._all[waiter.id] = waiter
        self._queues.setdefault(waiter.expert, {})[waiter.id] = waiter
        heapq.heappush(self._deadlines, (waiter.deadline, waiter.id))
        if len(self._deadlines) > 2 * len(self._all) + 64:
            self._deadlines = [(each.deadline, each.id) for each in self._all.values()]
            heapq.heapify(self._deadlines)

    def queue(self, expert: str) -> list[Waiter]:
        """Who waits for it, in the order of arrival."""
        return list(self._queues.get(expert, {}).values())

    def length(self, expert: str) -> int:
        return len(self._queues.get(expert, {}))

    def oldest(self, expert: str) -> Waiter | None:
        return next(iter(self._queues.get(expert, {}).values()), None)

    def wanted(self) -> list[str]:
        """The experts that somebody waits for."""
        return list(self._queues)

    def answer(
        self, waiter: str, verdict: Verdict, now: float, failure: Failure | None = None
    ) -> Answer | None:
        """Let it leave; None if it is not here."""
        found = self._all.pop(waiter, None)
        if found is None:
            return None
        queue = self._queues[found.expert]
        del queue[waiter]
        if not queue:
            del self._queues[found.expert]
        return Answer(waiter, found.expert, verdict, now - found.arrived, failure)

    def overdue(self, now: float) -> list[Waiter]:
        """Those whose deadline has come."""
        found = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, name = heapq.heappop(self._deadlines)
            waiter = self._all.get(name)
            # The id may have left, and come again with another deadline.
            if waiter is not None and waiter.deadline == deadline:
                found.append(waiter)
        return found

    def next_deadline(self) -> float | None:
        while self._deadlines:
            deadline, name = self._deadlines[0]
            waiter = self._all.get(name)
            if waiter is not None and waiter.deadline == deadline:
                return deadline
            heapq.heappop(self._deadlines)
        return None
