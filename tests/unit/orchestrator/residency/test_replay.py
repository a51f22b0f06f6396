"""Traffic in simulated time: turns, thrash, and what other settings would have done."""

from __future__ import annotations

import random

import pytest

from capyra.orchestrator.residency.events import Demand, Used
from capyra.orchestrator.residency.replay import Figures, replay
from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.traces import (
    Arrival,
    alternating,
    day,
    dump,
    parse,
    recorded,
    zipf,
)
from capyra.orchestrator.residency.world import Timing, World

GIB = 2**30
MIB = 2**20


def experts(count: int, size: int = GIB) -> tuple[ExpertSpec, ...]:
    return tuple(ExpertSpec(name=f"e{number}", estimate=size) for number in range(count))


def names(specs: tuple[ExpertSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def test_a_warm_expert_serves_at_once() -> None:
    trace = [Arrival(at, "e0") for at in range(0, 1000, 10)]
    figures = replay(trace, experts(1), {"n1": 2 * GIB}, Policy())
    assert (figures.requests, figures.served, figures.loads) == (100, 100, 1)
    assert figures.wait_p50_s == 0
    assert figures.wait_longest_s < 3


def test_abab_gets_its_turns_without_thrash() -> None:
    specs = experts(2)
    policy = Policy(stay_s=5, turn_s=20)
    trace = list(alternating(names(specs), seconds=1200, every_s=1.5, busy_s=1))
    figures = replay(trace, specs, {"n1": int(1.6 * GIB)}, policy)
    assert figures.served == len(trace)
    assert figures.wait_longest_s <= policy.turn_s + 5
    assert figures.loads <= 1200 / policy.stay_s


def crowded(seed: int) -> None:
    """Two experts always have a request running; six share the room of two."""
    specs = experts(6)
    policy = Policy(stay_s=2, turn_s=10, warm=1)
    timing = Timing(patience_s=1000)
    draw = random.Random(seed)
    trace = list(zipf(draw, names(specs), seconds=600, per_s=0.5, busy_s=3))
    trace += [Arrival(at / 2, f"e{at % 2}", 4.0) for at in range(1200)]
    trace.sort(key=lambda each: each.at)
    figures = replay(trace, specs, {"n1": int(3.7 * GIB)}, policy, timing)
    assert figures.served == figures.requests
    # Each of the others has its turn, waits for running requests to end, and loads.
    longest = max(each.busy_s for each in trace)
    assert figures.wait_longest_s <= (len(specs) - 1) * (policy.turn_s + longest + 3)


@pytest.mark.parametrize("seed", range(2))
def test_nobody_starves_beside_experts_that_are_never_idle(seed: int) -> None:
    crowded(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 60))
def test_nobody_ever_starves_beside_experts_that_are_never_idle(seed: int) -> None:
    crowded(seed)


def test_priority_is_served_first_under_pressure() -> None:
    specs = experts(3)
    trace = [Arrival(0.0, "e0", 30.0)]
    trace += [Arrival(1.0, "e1", 5.0), Arrival(1.1, "e2", 5.0, priority=5)]
    policy = Policy(warm=0, turn_s=100)
    world = World(specs, policy, {"n1": int(1.9 * GIB)}, Timing())
    for arrival in trace:
        world.run(arrival.at)
        world.arrive(arrival)
    world.run(200)
    ready = [each.expert for each in world.machine.decisions() if each.kind == "ready"]
    assert ready == ["e0", "e2", "e1"]


def scarce(policy: Policy) -> Figures:
    draw = random.Random(7)
    sizes = [GIB // 2, GIB, 4 * GIB]
    specs = tuple(
        ExpertSpec(name=f"e{number}", estimate=sizes[number % 3], process=64 * MIB)
        for number in range(12)
    )
    trace = zipf(draw, names(specs), seconds=1800, per_s=0.4)
    return replay(trace, specs, {"n1": 8 * GIB, "n2": 8 * GIB}, policy)


def test_the_same_traffic_has_the_same_figures() -> None:
    assert scarce(Policy()) == scarce(Policy())


def test_settings_make_the_difference_they_should() -> None:
    usual, short = scarce(Policy(warm=0)), scarce(Policy(warm=0, max_resident=1))
    assert usual.served == short.served == usual.requests
    assert short.loads > usual.loads
    assert short.byte_hours < usual.byte_hours
    assert short.wait_mean_s > usual.wait_mean_s


def test_regret_waits_less_than_lru() -> None:
    assert scarce(Policy(warm=0)).wait_mean_s < scarce(Policy(warm=0, eviction="lru")).wait_mean_s


def test_keep_alive_trades_bytes_for_waits() -> None:
    trace = list(day(random.Random(3), ["e0", "e1"], days=0.5, peak_per_s=0.02))
    nodes = {"n1": 10 * GIB}
    long = replay(trace, experts(2), nodes, Policy(warm=0))
    specs = tuple(ExpertSpec(name=f"e{n}", estimate=GIB, keep_alive_s=20) for n in range(2))
    short = replay(trace, specs, nodes, Policy(warm=0))
    assert short.byte_hours < long.byte_hours
    assert short.loads > long.loads


def test_many_experts_on_many_nodes_with_every_request_served() -> None:
    draw = random.Random(5)
    specs = experts(40)
    nodes = {f"n{number}": 4 * GIB for number in range(5)}
    trace = list(day(draw, names(specs), days=0.05, peak_per_s=6))
    figures = replay(trace, specs, nodes, Policy())
    assert figures.served == figures.requests == len(trace) > 100


def test_load_brings_replicas_and_takes_them_again() -> None:
    specs = (ExpertSpec(name="e0", estimate=GIB, load=2, most=3, down_delay_s=20),)
    trace = [Arrival(at / 2, "e0", 4.0) for at in range(240)]
    policy = Policy(warm=0)
    nodes = {f"n{number}": 2 * GIB for number in range(3)}
    world = World(specs, policy, nodes, Timing())
    for arrival in trace:
        world.run(arrival.at)
        world.arrive(arrival)
    world.run(2000)
    scaled = [each for each in world.machine.decisions() if each.kind == "scaled"]
    assert scaled[0].inputs["after"] == 3
    assert scaled[-1].inputs["after"] == 1
    assert world.machine.outlook("e0").state == "parked"
    assert len(world.tally.waits) == len(trace)


def test_a_trace_is_lines_of_json() -> None:
    trace = list(day(random.Random(1), ["a", "b"], days=0.01, peak_per_s=1))
    assert trace
    assert list(parse(dump(trace))) == trace
    assert trace == sorted(trace, key=lambda each: each.at)


def test_a_record_of_events_is_a_trace() -> None:
    events = [
        (100.0, Demand(id="r", expert="a", deadline=200, priority=2)),
        (103.0, Used("a", 2, keep_alive_s=5)),
        (104.0, Used("b")),
    ]
    assert list(recorded(events, busy_s=1.0)) == [
        Arrival(0.0, "a", 1.0, 2),
        Arrival(3.0, "a", 1.0, 0, 5),
        Arrival(3.0, "a", 1.0, 0, 5),
        Arrival(4.0, "b", 1.0),
    ]


def test_a_zipf_trace_prefers_the_first() -> None:
    trace = list(zipf(random.Random(2), ["a", "b", "c"], seconds=1000, per_s=1))
    counts = [sum(each.expert == name for each in trace) for name in "abc"]
    assert counts == sorted(counts, reverse=True)
    assert 800 < len(trace) < 1200
