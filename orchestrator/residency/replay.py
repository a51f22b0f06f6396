"""What other settings would have done with the same traffic, in simulated time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.traces import Arrival
from capyra.orchestrator.residency.world import Tally, Timing, World


@dataclass(frozen=True, slots=True)
class Figures:
    """One replay. Waits are seconds until a request's expert was ready, over all requests."""

    requests: int
    served: int
    expired: int
    refused: int
    waited: int
    """Requests whose expert was not ready."""
    loads: int
    starts: int
    wait_p50_s: float
    wait_p99_s: float
    wait_longest_s: float
    wait_mean_s: float
    byte_hours: float


def replay(
    trace: Iterable[Arrival],
    experts: tuple[ExpertSpec, ...],
    nodes: Mapping[str, int],
    policy: Policy,
    timing: Timing | None = None,
) -> Figures:
    """Run the traffic, in the order of its times, through a machine with this policy."""
    timing = timing or Timing()
    world = World(experts, policy, nodes, timing)
    at = 0.0
    for arrival in trace:
        at = arrival.at
        world.run(at)
        world.arrive(arrival)
    world.run(at + timing.patience_s)
    return figures(world.tally)


def figures(tally: Tally) -> Figures:
    waits = sorted(tally.waits)
    return Figures(
        requests=tally.requests,
        served=len(waits),
        expired=tally.unserved.get("expired", 0),
        refused=tally.unserved.get("refused", 0),
        waited=sum(each > 0 for each in waits),
        loads=tally.loads,
        starts=tally.starts,
        wait_p50_s=_percentile(waits, 0.5),
        wait_p99_s=_percentile(waits, 0.99),
        wait_longest_s=waits[-1] if waits else 0.0,
        wait_mean_s=sum(waits) / len(waits) if waits else 0.0,
        byte_hours=tally.byte_seconds / 3600,
    )


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
