"""When an expert will be asked for next, from how it was asked for until now."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

MINUTES_S = 300.0
HOURS_S = 6 * 3600.0
DAY_S = 86400.0
SLOT_S = 1800.0
SLOTS = int(DAY_S // SLOT_S)
AHEAD_S = 300.0
"""The time of day is looked up so far ahead: a load ought to be over when the hour comes."""
FOLLOW_S = 60.0
"""Within so long, one use may have led to the next."""
RECENT = 3
LESSONS = 64.0
"""What followed is halved when it is based on so many uses: old habits fade."""


@dataclass(slots=True)
class _Slot:
    """One half hour of the day: the uses of the day it last came, and the mean of those before."""

    day: int = -1
    count: int = 0
    mean: float = 0.0

    def add(self, day: int, count: int) -> None:
        if day != self.day:
            self.mean, self.day, self.count = self.before(day), day, 0
        self.count += count

    def before(self, day: int) -> float:
        """The mean of earlier days; each day without a use halves it."""
        if self.day < 0 or day == self.day:
            return self.mean
        latest = self.count if self.mean == 0 else (self.mean + self.count) / 2
        return latest * 0.5 ** min(day - self.day - 1, 64)


@dataclass(slots=True)
class _Usage:
    at: float
    minutes: float = 0.0
    hours: float = 0.0
    slots: list[_Slot] = field(default_factory=lambda: [_Slot() for _ in range(SLOTS)])
    led: float = 0.0
    followers: dict[str, float] = field(default_factory=dict)


class Demand:
    """Uses in, expected rates out.

    A rate is the highest of what the last minutes, the last hours, and this time of earlier days
    suggest, plus what usually follows the experts used just now. The highest and not a mean:
    to hold what is not asked for costs memory, to lack what is costs a person's time.
    """

    def __init__(self) -> None:
        self._usages: dict[str, _Usage] = {}
        self._recent: list[str] = []

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other experts."""
        kept = set(names)
        self._usages = {name: each for name, each in self._usages.items() if name in kept}
        self._recent = [name for name in self._recent if name in kept]
        for usage in self._usages.values():
            usage.followers = {n: c for n, c in usage.followers.items() if n in kept}

    def used(self, name: str, count: int, now: float) -> None:
        usage = self._usages.get(name)
        if usage is None:
            usage = self._usages[name] = _Usage(now)
        passed = now - usage.at
        usage.minutes = usage.minutes * math.exp(-passed / MINUTES_S) + count
        usage.hours = usage.hours * math.exp(-passed / HOURS_S) + count
        usage.at = now
        usage.slots[int(now % DAY_S // SLOT_S)].add(int(now // DAY_S), count)
        if not self._recent or self._recent[0] != name:
            self._learn(name, now)

    def last(self, name: str) -> float | None:
        """When it was used last; None if never."""
        usage = self._usages.get(name)
        return None if usage is None else usage.at

    def rate(self, name: str, now: float) -> float:
        """Uses to be expected for each second from now on."""
        usage = self._usages.get(name)
        if usage is None:
            own = 0.0
        else:
            passed = now - usage.at
            ahead = now + AHEAD_S
            slot = usage.slots[int(ahead % DAY_S // SLOT_S)]
            own = max(
                usage.minutes * math.exp(-passed / MINUTES_S) / MINUTES_S,
                usage.hours * math.exp(-passed / HOURS_S) / HOURS_S,
                slot.before(int(ahead // DAY_S)) / SLOT_S,
            )
        return own + self._following(name, now)

    def next_use(self, name: str, now: float) -> float:
        """Seconds until it is asked for again, as far as anybody can tell."""
        rate = self.rate(name, now)
        return 1 / rate if rate > 0 else math.inf

    def _learn(self, name: str, now: float) -> None:
        if self._recent:
            before = self._usages[self._recent[0]]
            if now - before.at <= FOLLOW_S:
                before.led += 1
                before.followers[name] = before.followers.get(name, 0.0) + 1
                if before.led > LESSONS:
                    before.led /= 2
                    halved = {n: c / 2 for n, c in before.followers.items()}
                    before.followers = {n: c for n, c in halved.items() if c >= 0.5}
        self._recent = [name, *(each for each in self._recent if each != name)][:RECENT]

    def _following(self, name: str, now: float) -> float:
        expected = 0.0
        for other in self._recent:
            usage = self._usages[other]
            if other != name and usage.led and now - usage.at <= FOLLOW_S:
                expected += usage.followers.get(name, 0.0) / usage.led / FOLLOW_S
        return expected
