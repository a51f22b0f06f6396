"""From a demand to an answer: cold, parked, loading, ready; failures; order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from capyra.orchestrator.residency.effects import Answer, Kill, Load, Park, SetTarget
from capyra.orchestrator.residency.events import (
    Cancel,
    Configure,
    Gone,
    NodeLost,
    NodeSeen,
    Unload,
    Used,
)
from capyra.orchestrator.residency.spec import Policy

Make = Callable[..., Any]


def test_a_parked_expert_loads_on_demand_and_is_granted_when_ready(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    assert stage.state("a") == "parked"
    first = stage.demand("a")
    (load,) = stage.of(Load)
    assert (load.expert, load.replica, load.bytes) == ("a", "a/1", 40)
    assert stage.used() == 41
    stage.report("a/1", "loading", fraction=0.5)
    second = stage.demand("a")
    assert stage.of(Load) == [load], "one load for all who wait"
    stage.now += 2
    stage.report("a/1", "ready")
    assert stage.answers[first].verdict == stage.answers[second].verdict == "granted"
    assert stage.answers[first].waited_s == 2
    assert stage.state("a") == "ready"


def test_a_cold_expert_gets_a_process_first(make_stage: Make) -> None:
    stage = make_stage("a", targets={"a": 0})
    stage.machine.cluster.experts["a"].target.hold = None
    assert stage.state("a") == "cold"
    stage.demand("a")
    assert [each.replicas for each in stage.of(SetTarget)] == [1]
    assert stage.state("a") == "loading"
    assert not stage.of(Load)
    stage.now += 2
    stage.poll()
    stage.report("a/1", "parked")
    assert len(stage.of(Load)) == 1
    assert stage.machine.cluster.experts["a"].start_s == 2


def test_the_measured_bytes_take_the_place_of_the_estimate(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.report("a/1", "ready", bytes=55)
    assert stage.used() == 56
    assert stage.written.experts["a"].bytes == 55
    stage.report("a/1", "ready", bytes=60)
    assert stage.used() == 61
    stage.report("a/1", "ready", bytes=50)
    assert stage.used() == 61, "what it once took it may take again"


def test_loads_overlap(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    for name in "ab":
        stage.report(f"{name}/1", "parked")
        stage.demand(name)
    assert [each.expert for each in stage.of(Load)] == ["a", "b"]


def test_a_node_loads_no_more_than_it_should_at_a_time(make_stage: Make, make_spec: Make) -> None:
    small = [make_spec(name, estimate=5) for name in "abc"]
    stage = make_stage(*small, policy=Policy(warm=0, settle_s=0, loads=2))
    for name in "abc":
        stage.report(f"{name}/1", "parked")
        stage.demand(name)
    assert [each.expert for each in stage.of(Load)] == ["a", "b"]
    stage.report("a/1", "ready", bytes=5)
    assert [each.expert for each in stage.of(Load)] == ["a", "b", "c"]


def test_priority_goes_first_then_what_helps_most_for_each_second(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage("a", "b", "c", "d", nodes={"n1": 50})
    for name in "abcd":
        stage.report(f"{name}/1", "parked")
    stage.demand("a")
    stage.demand("b")
    stage.demand("c")
    stage.demand("c")
    stage.demand("d", priority=1)
    order = ["a"]
    for _ in range(3):
        stage.report(f"{order[-1]}/1", "ready")
        stage.wait(6)
        park = stage.of(Park)[-1]
        assert (park.expert, park.drain) == (order[-1], False)
        stage.report(f"{order[-1]}/1", "parked")
        order = [each.expert for each in stage.of(Load)]
    assert order == ["a", "d", "c", "b"]


def test_a_demand_said_twice_waits_once(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a", "same")
    stage.demand("a", "same")
    stage.report("a/1", "ready")
    assert stage.answers["same"].verdict == "granted"


def test_an_unknown_expert_is_refused_at_once(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.demand("stranger", "r")
    assert stage.answers["r"].failure.code == "model_not_found"


def test_one_who_leaves_is_answered_once(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.tell(Cancel(name))
    assert stage.answers[name].verdict == "cancelled"
    stage.tell(Cancel(name))
    stage.report("a/1", "ready")
    assert len(stage.of(Answer)) == 1


def test_a_deadline_that_passes_ends_the_wait(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    name = stage.demand("a", deadline=stage.now + 3)
    stage.report("a/1", "loading")
    stage.wait(2.9)
    assert name not in stage.answers
    stage.wait(0.2)
    answer = stage.answers[name]
    assert answer.verdict == "expired"
    assert answer.failure.code == "deadline_exceeded"
    assert answer.waited_s == pytest.approx(3, abs=0.2)


def test_the_waiting_room_is_bounded(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", waiting=2), "b", policy=Policy(warm=0, settle_s=0, waiting=3))
    for _ in range(3):
        last = stage.demand("a")
    assert stage.answers[last].failure.code == "queue_full"
    assert stage.answers[last].failure.retry_after_s > 0
    stage.demand("b")
    last = stage.demand("b")
    assert stage.answers[last].failure.code == "queue_full"
    assert len(stage.answers) == 2


def test_a_failed_load_is_told_and_tried_again_later_and_later(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.report("a/1", "parked")
    stage.report("b/1", "parked")
    delays = []
    for _ in range(3):
        name = stage.demand("a")
        stage.report("a/1", "parked", failure="the file is corrupt")
        failure = stage.answers[name].failure
        assert failure.code == "load_failed"
        assert "the file is corrupt" in failure.message
        delays.append(failure.retry_after_s)
        assert stage.used() == 2, "the lease came back"
        early = stage.demand("a")
        assert stage.answers[early].failure.code == "load_failed"
        stage.wait(failure.retry_after_s)
    assert delays == [2, 4, 8]
    other = stage.demand("b")
    stage.report("b/1", "ready")
    assert stage.answers[other].verdict == "granted"
    stage.demand("a")
    stage.report("a/1", "ready")
    assert stage.machine.cluster.experts["a"].failing is None


def test_a_load_that_outlasts_its_deadline_is_given_up_and_then_ended(make_stage: Make) -> None:
    stage = make_stage("a", policy=Policy(warm=0, settle_s=0, load_deadline_s=20))
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.report("a/1", "loading")
    stage.wait(20)
    assert "not over in 20 s" in stage.answers[name].failure.message
    (park,) = stage.of(Park)
    assert park.drain
    assert stage.used() == 41, "nobody said that the bytes are free"
    stage.report("a/1", "loading")
    stage.wait(11)
    assert [each.replica for each in stage.of(Kill)] == ["a/1"]
    stage.tell(Gone("a/1"))
    assert stage.used() == 0


def test_a_process_that_does_not_come_up_is_told(make_stage: Make) -> None:
    stage = make_stage("a", policy=Policy(warm=0, settle_s=0, start_deadline_s=90))
    name = stage.demand("a")
    stage.wait(89)
    assert name not in stage.answers
    stage.wait(2)
    assert "no process came up in 90 s" in stage.answers[name].failure.message
    assert stage.of(SetTarget) == [], "a node may be on its way"
    stage.wait(90)
    assert [each.replicas for each in stage.of(SetTarget)] == [0], "nobody waits any more"


def test_a_request_that_fits_nowhere_is_refused(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("big", estimate=200), make_spec("p", pin=True), "a")
    name = stage.demand("big")
    assert stage.answers[name].failure.code == "unavailable"
    stage.report("p/1", "parked")
    stage.report("p/1", "ready", bytes=70)
    name = stage.demand("a")
    assert "beside what is pinned" in stage.answers[name].failure.message


def test_a_process_on_a_node_too_small_goes_elsewhere(make_stage: Make) -> None:
    stage = make_stage("a", nodes={"small": 30, "n1": 100})
    stage.report("a/1", "parked", node="small")
    stage.demand("a")
    assert stage.of(SetTarget)[-1].replicas == 0
    assert not stage.of(Load)
    stage.tell(Gone("a/1"))
    stage.wait(3)
    stage.poll()
    name = stage.demand("a")
    assert stage.of(SetTarget)[-1].replicas == 1
    stage.report("a/2", "parked", node="n1")
    stage.report("a/2", "ready", node="n1")
    assert stage.answers[name].verdict == "granted"


def test_a_lost_order_is_given_again(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.report("a/1", "parked", obeys=False)
    stage.wait(4)
    first, second = stage.of(Load)
    assert second.epoch > first.epoch
    assert stage.used() == 41


def test_a_report_from_before_the_order_is_no_failure(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.report("a/1", "parked", obeys=False)
    assert name not in stage.answers
    assert stage.used() == 41


def test_a_lost_replica_gives_its_lease_back_and_its_waiters_wait_on(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.report("a/1", "loading")
    stage.tell(Gone("a/1"))
    assert stage.used() == 0
    assert name not in stage.answers
    stage.report("a/2", "parked")
    stage.report("a/2", "ready")
    assert stage.answers[name].verdict == "granted"


def test_a_load_that_kills_its_process_again_and_again_fails(make_stage: Make) -> None:
    stage = make_stage("a")
    name = stage.demand("a")
    for number in (1, 2):
        assert name not in stage.answers
        stage.report(f"a/{number}", "parked")
        stage.report(f"a/{number}", "loading")
        stage.tell(Gone(f"a/{number}"))
    failure = stage.answers[name].failure
    assert failure.code == "load_failed"
    assert "its process died while it loaded" in failure.message
    stage.report("a/3", "parked")
    stage.demand("a")
    assert len(stage.of(Load)) == 2, "not at once"
    stage.wait(failure.retry_after_s)
    stage.bring("a")
    assert stage.machine.cluster.experts["a"].died == 0


def test_a_load_that_serve_stops_is_no_failure(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.demand("a")
    for number in (1, 2):
        stage.report(f"a/{number}", "parked")
        stage.report(f"a/{number}", "draining")
        stage.tell(Gone(f"a/{number}"))
    assert stage.machine.cluster.experts["a"].failing is None


def test_a_lost_node_moves_what_waited_there(make_stage: Make) -> None:
    stage = make_stage("a", nodes={"n1": 100, "n2": 100})
    stage.report("a/1", "parked", node="n2")
    name = stage.demand("a")
    stage.tell(NodeLost("n2"))
    stage.report("a/2", "parked", node="n1")
    assert stage.of(Load)[-1].replica == "a/2"
    stage.report("a/2", "ready", node="n1")
    assert stage.answers[name].verdict == "granted"


def test_a_node_that_grows_lets_loads_begin(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage("a", make_spec("p", pin=True, estimate=70))
    stage.report("p/1", "parked")
    stage.report("p/1", "ready", bytes=70)
    stage.tell(NodeSeen("n2", 60))
    stage.report("a/1", "parked")
    stage.tell(NodeSeen("n1", 200))
    stage.demand("a")
    assert stage.of(Load)[-1].expert == "a"


def test_pinned_experts_load_by_themselves(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", pin=True))
    stage.report("a/1", "parked")
    assert len(stage.of(Load)) == 1
    stage.report("a/1", "parked", failure="no memory")
    assert len(stage.of(Load)) == 1
    stage.wait(2.5)
    assert len(stage.of(Load)) == 2, "and again when they failed"


def test_a_pinned_expert_that_unloads_is_not_in_its_own_way(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage(make_spec("a", pin=True, estimate=80))
    stage.report("a/1", "parked")
    stage.report("a/1", "ready", bytes=80, in_flight=1)
    stage.tell(Unload("a"))
    stage.report("a/1", "draining", bytes=80, in_flight=1)
    name = stage.demand("a")
    assert name not in stage.answers
    stage.report("a/1", "parked")
    stage.report("a/1", "ready", bytes=80)
    assert stage.answers[name].verdict == "granted"


def test_uses_of_unknown_experts_are_nobodys(make_stage: Make) -> None:
    stage = make_stage("a")
    assert stage.tell(Used("stranger")) == []


def test_nothing_is_ordered_before_the_replicas_were_heard(make_stage: Make) -> None:
    stage = make_stage("a", "b", policy=Policy(warm=0, settle_s=4))
    stage.report("a/1", "parked")
    stage.demand("a")
    assert not stage.of(Load)
    stage.wait(4)
    assert len(stage.of(Load)) == 1


def test_an_expert_taken_out_of_the_file_turns_its_waiters_away(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.tell(Configure(stage.specs[1:], stage.policy))
    assert stage.answers[name].failure.code == "model_not_found"
    assert stage.used() == 41, "its process is still there"
    stage.tell(Gone("a/1"))
    assert stage.used() == 0


def test_the_policy_may_change(make_stage: Make) -> None:
    stage = make_stage("a", "b", policy=Policy(warm=0, settle_s=0, max_resident=1))
    stage.bring("a")
    stage.report("b/1", "parked")
    stage.demand("b")
    assert stage.of(Load)[-1].expert == "a"
    stage.tell(Configure(stage.specs, replace(stage.policy, max_resident=2)))
    assert stage.of(Load)[-1].expert == "b"
