"""Who makes room, who never does, and whose turn it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from capyra.engine.config import FOREVER
from capyra.orchestrator.residency.effects import Load, Park, SetTarget
from capyra.orchestrator.residency.events import Hold, NodeSeen, Pin, Used
from capyra.orchestrator.residency.eviction import Victim, choose
from capyra.orchestrator.residency.room import Amount
from capyra.orchestrator.residency.spec import Policy

Make = Callable[..., Any]


def parks(stage: Any) -> list[str]:
    return [each.expert for each in stage.of(Park)]


def test_the_least_regretted_goes(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c")
    stage.bring("a")
    stage.bring("b")
    for _ in range(20):
        stage.tell(Used("a"))
        stage.now += 1
    stage.tell(Used("b"))
    stage.wait(10)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["b"], "used last, but a is used more"
    assert not [each for each in stage.of(Load) if each.expert == "c"]
    stage.report("b/1", "parked")
    assert stage.of(Load)[-1].expert == "c"
    assert "its next use was expected in" in stage.said("b")


def test_lru_is_another_policy(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c", policy=Policy(warm=0, settle_s=0, eviction="lru"))
    stage.bring("a")
    stage.bring("b")
    for _ in range(20):
        stage.tell(Used("a"))
        stage.now += 1
    stage.tell(Used("b"))
    stage.wait(10)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["a"]


def test_what_takes_long_to_bring_back_stays(make_stage: Make) -> None:
    stage = make_stage("slow", "quick", "c")
    stage.report("slow/1", "parked")
    stage.demand("slow")
    stage.now += 20
    stage.report("slow/1", "ready")
    stage.bring("quick")
    stage.wait(40)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["quick"]


def test_busy_and_pinned_ones_stay(make_stage: Make) -> None:
    stage = make_stage("busy", "pinned", "c")
    stage.bring("busy")
    stage.bring("pinned")
    stage.tell(Pin("pinned", True))
    stage.report("busy/1", "ready", in_flight=1)
    stage.wait(20)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == []
    assert "busy or has just come" in stage.said("c")
    stage.report("busy/1", "ready", in_flight=0)
    assert parks(stage) == ["busy"]


def test_one_held_at_several_replicas_stays(make_stage: Make) -> None:
    stage = make_stage("held", "c", nodes={"n1": 50})
    stage.bring("held")
    stage.tell(Hold("held", 2))
    stage.report("c/1", "parked")
    name = stage.demand("c")
    stage.wait(100)
    assert parks(stage) == []
    assert stage.answers[name].verdict == "refused"


def test_who_has_just_come_stays_a_while(make_stage: Make) -> None:
    stage = make_stage("a", "c", nodes={"n1": 50})
    stage.bring("a")
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == []
    stage.wait(3.5)
    assert parks(stage) == ["a"]


def test_what_is_kept_for_ever_goes_last(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c")
    stage.report("a/1", "parked")
    stage.demand("a", keep_alive_s=FOREVER)
    stage.report("a/1", "ready")
    stage.bring("b")
    for _ in range(9):
        stage.tell(Used("b"))
    stage.wait(20)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["b"]


def test_a_replica_that_declines_is_not_evicted(make_stage: Make) -> None:
    stage = make_stage("a", "c", nodes={"n1": 50})
    stage.bring("a")
    stage.wait(5)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["a"]
    stage.report("a/1", "ready", in_flight=1)
    assert stage.state("a") == "ready"
    assert stage.used() == 42
    stage.report("a/1", "ready", in_flight=0)
    assert parks(stage) == ["a", "a"]


def test_an_order_to_leave_is_not_said_again_to_one_that_must_stay(make_stage: Make) -> None:
    stage = make_stage("a", "c", nodes={"n1": 50})
    stage.bring("a")
    stage.wait(5)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert parks(stage) == ["a"]
    stage.report("a/1", "ready", in_flight=1, obeys=False)
    stage.wait(10)
    assert parks(stage) == ["a"]
    assert stage.state("a") == "ready"


def test_a_request_that_waits_too_long_gets_a_turn(make_stage: Make) -> None:
    stage = make_stage("a", "b", nodes={"n1": 50})
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=3)
    stage.report("b/1", "parked")
    name = stage.demand("b")
    stage.wait(29)
    assert parks(stage) == []
    stage.wait(1)
    (park,) = stage.of(Park)
    assert (park.expert, park.drain) == ("a", True)
    stage.report("a/1", "draining", in_flight=3)
    assert stage.state("a") == "draining"
    again = stage.demand("a")
    assert again not in stage.answers, "it takes no new requests"
    stage.wait(5)
    stage.report("a/1", "parked")
    assert stage.of(Load)[-1].expert == "b"
    stage.report("b/1", "ready")
    assert stage.answers[name].verdict == "granted"
    assert "gets its turn" in stage.said("a")
    stage.wait(8)
    assert parks(stage)[-1] == "b", "and then it is a's turn again"


def test_nobody_takes_the_room_of_one_that_waits_for_its_turn(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage(make_spec("a", estimate=40), make_spec("big", estimate=80), "c")
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=1)
    stage.report("big/1", "parked")
    stage.report("c/1", "parked")
    stage.demand("big")
    stage.wait(31)
    stage.demand("c")
    assert not [each for each in stage.of(Load) if each.expert == "c"]


def test_small_ones_pass_a_big_one_that_cannot_load_yet(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage("a", make_spec("big", estimate=80), "c")
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=1)
    stage.report("big/1", "parked")
    stage.report("c/1", "parked")
    stage.demand("big")
    stage.demand("c")
    assert stage.of(Load)[-1].expert == "c"


def test_an_expert_with_several_replicas_shrinks_before_it_parks(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage("a", "c", targets={"a": 1})
    stage.bring("a")
    cluster = stage.machine.cluster
    cluster.set_target(cluster.experts["a"], 2)
    stage.targets["a"] = 2
    stage.now += 1
    stage.poll()
    stage.report("a/2", "parked")
    stage.report("a/2", "ready")
    stage.wait(10)
    stage.report("c/1", "parked")
    stage.demand("c")
    assert stage.of(SetTarget)[-1].replicas == 1
    assert parks(stage) == []
    stage.report("a/1", "draining")
    assert not [each for each in stage.of(Load) if each.expert == "c"]


def test_a_node_that_shrinks_sheds_what_is_idle(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.bring("a")
    stage.bring("b")
    stage.report("a/1", "ready", in_flight=1)
    stage.wait(10)
    stage.tell(NodeSeen("n1", 50))
    assert parks(stage) == ["b"]


def test_a_load_that_took_more_than_was_known_sheds_others(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.bring("a")
    stage.wait(10)
    stage.report("b/1", "parked")
    stage.demand("b")
    stage.report("b/1", "ready", bytes=70)
    assert parks(stage) == ["a"]


def test_the_total_counts_on_all_nodes(make_stage: Make) -> None:
    policy = Policy(warm=0, settle_s=0, total_memory=60)
    stage = make_stage("a", "b", policy=policy, nodes={"n1": 100, "n2": 100})
    stage.bring("a", node="n1")
    stage.wait(10)
    stage.report("b/1", "parked", node="n2")
    stage.demand("b")
    assert parks(stage) == ["a"]
    stage.report("a/1", "parked")
    assert stage.of(Load)[-1].expert == "b"


def test_places_count_as_well_as_bytes(make_stage: Make) -> None:
    policy = Policy(warm=0, settle_s=0, max_resident=1)
    stage = make_stage("a", "b", policy=policy)
    stage.bring("a")
    stage.wait(10)
    stage.report("b/1", "parked")
    stage.demand("b")
    assert parks(stage) == ["a"]


def test_a_parked_process_makes_room_too(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("idle", process=30), make_spec("b", estimate=80))
    stage.report("idle/1", "parked")
    stage.report("b/1", "parked")
    stage.demand("b")
    assert (stage.of(SetTarget)[-1].expert, stage.of(SetTarget)[-1].replicas) == ("idle", 0)


def victim(stage: Any, name: str, size: int, cost: float) -> Victim:
    expert = stage.machine.cluster.experts[name]
    return Victim(expert, Amount(size, 1, size), (False, False, cost, name))


def test_a_needless_victim_is_spared(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c")
    small, large = victim(stage, "a", 10, 1), victim(stage, "b", 50, 2)
    other = victim(stage, "c", 10, 3)
    assert choose([small, large, other], Amount(50, 0, 0)) == [large]
    assert choose([small, large, other], Amount(60, 0, 0)) == [small, large]
    assert choose([small, other], Amount(50, 0, 0)) is None
    assert choose([small], Amount(0, 2, 0)) is None


@pytest.mark.parametrize("stay", [0.0, 8.0])
def test_two_that_take_turns_have_theirs_within_the_bound(make_stage: Make, stay: float) -> None:
    policy = replace(Policy(warm=0, settle_s=0), stay_s=stay, turn_s=10.0)
    stage = make_stage("a", "b", policy=policy, nodes={"n1": 50})
    waits = []
    for name in "ab":
        stage.report(f"{name}/1", "parked")
    ready = ""
    for turn in range(20):
        name = "ab"[turn % 2]
        request = stage.demand(name)
        asked = stage.now
        while request not in stage.answers:
            assert stage.now - asked < 20, stage.said(name)
            stage.wait(0.5)
            last = stage.of(Park)[-1] if stage.of(Park) else None
            if ready and last is not None and last.expert == ready and ready != name:
                stage.report(f"{ready}/1", "parked")
                ready = ""
            if stage.of(Load)[-1].expert == name and ready != name:
                stage.report(f"{name}/1", "ready", in_flight=0)
                ready = name
        waits.append(stage.answers[request].waited_s)
        stage.report(f"{name}/1", "ready", in_flight=1)
    assert max(waits) <= 12
