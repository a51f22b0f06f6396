"""Traffic to replay: written by hand, drawn from a seeded generator, or recorded."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from capyra.orchestrator.residency.demand import DAY_S
from capyra.orchestrator.residency.events import Demand, Event, Used


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when, for whom, and how long it keeps its replica busy."""

    at: float
    expert: str
    busy_s: float = 2.0
    priority: int = 0
    keep_alive_s: float | None = None


def zipf(
    draw: random.Random,
    experts: Sequence[str],
    *,
    seconds: float,
    per_s: float,
    exponent: float = 1.0,
    busy_s: float = 2.0,
) -> Iterator[Arrival]:
    """Requests at random times, the k-th expert asked for 1/k^exponent as often as the first."""
    weights = [1 / rank**exponent for rank in range(1, len(experts) + 1)]
    at = draw.expovariate(per_s)
    while at < seconds:
        (expert,) = draw.choices(experts, weights)
        yield Arrival(at, expert, draw.expovariate(1 / busy_s))
        at += draw.expovariate(per_s)


def alternating(
    experts: Sequence[str], *, seconds: float, every_s: float, busy_s: float = 2.0
) -> Iterator[Arrival]:
    """ABAB: each expert in turn, which is the worst there is for a cache of one less."""
    for count in range(int(seconds / every_s)):
        yield Arrival(count * every_s, experts[count % len(experts)], busy_s)


def day(
    draw: random.Random,
    experts: Sequence[str],
    *,
    days: float = 1.0,
    peak_per_s: float,
    exponent: float = 1.0,
    busy_s: float = 2.0,
) -> Iterator[Arrival]:
    """A day's curve: each expert has its own hour, and nights are quiet.

    Requests come in conversations: an expert that was asked is likely to be asked again soon.
    """
    weights = [1 / rank**exponent for rank in range(1, len(experts) + 1)]
    noon = [draw.uniform(8, 20) / 24 * DAY_S for _ in experts]
    talks: list[Arrival] = []
    at, turns = 0.0, 4.0
    while True:
        at += draw.expovariate(peak_per_s / turns)
        if at >= days * DAY_S:
            break
        (index,) = draw.choices(range(len(experts)), weights)
        phase = math.cos((at - noon[index]) / DAY_S * 2 * math.pi)
        if draw.random() > 0.05 + 0.95 * max(0.0, phase):
            continue
        moment = at
        for _ in range(1 + int(draw.expovariate(1 / (turns - 1)))):
            talks.append(Arrival(moment, experts[index], draw.expovariate(1 / busy_s)))
            moment += draw.expovariate(1 / 30)
    yield from sorted(talks, key=lambda each: each.at)


def recorded(events: Iterable[tuple[float, Event]], busy_s: float = 2.0) -> Iterator[Arrival]:
    """The requests in a record of what the machine was told, the first at 0."""
    first: float | None = None
    for at, event in events:
        if isinstance(event, Demand | Used):
            first = at if first is None else first
            priority = event.priority if isinstance(event, Demand) else 0
            for _ in range(event.count if isinstance(event, Used) else 1):
                yield Arrival(at - first, event.expert, busy_s, priority, event.keep_alive_s)


def newest(
    events: Sequence[tuple[float, Demand | Used]], most: int
) -> list[tuple[float, Demand | Used]]:
    """The end of a record, of so many requests at most."""
    found: list[tuple[float, Demand | Used]] = []
    for at, event in reversed(events):
        if most <= 0:
            break
        if isinstance(event, Used):
            event = replace(event, count=min(event.count, most))
        found.append((at, event))
        most -= event.count if isinstance(event, Used) else 1
    return found[::-1]


def dump(trace: Iterable[Arrival]) -> Iterator[str]:
    """A line of JSON for each."""
    return (json.dumps(asdict(each)) for each in trace)


def parse(lines: Iterable[str]) -> Iterator[Arrival]:
    return (Arrival(**json.loads(line)) for line in lines if line.strip())
