"""Whose target it is: Control's, or an operator's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from capyra.orchestrator.residency.effects import Load, Park, Persist, SetTarget
from capyra.orchestrator.residency.events import Configure, Gone, Hold, Release, Targets, Tick
from capyra.orchestrator.residency.targets import BEGUN_S, DEPLOY_S

Make = Callable[..., Any]


def test_a_target_is_written_down_before_it_is_set(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.wait(1801)
    index = stage.effects.index(stage.of(SetTarget)[-1])
    before = [each for each in stage.effects[:index] if isinstance(each, Persist)]
    assert before[-1].state.experts["a"].pending == 0
    assert before[-1].state.experts["a"].own == 1


def test_a_target_that_nobody_here_set_is_an_operators(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.now += 1
    stage.tell(Targets({"a": 3}, stage.now))
    target = stage.machine.cluster.experts["a"].target
    assert (target.hold, target.count) == (3, 3)
    assert "held at 3 replicas by an operator" in stage.said("a")
    assert stage.written.experts["a"].hold == 3
    for number in (1, 2, 3):
        stage.report(f"a/{number}", "parked")
        stage.report(f"a/{number}", "ready")
    stage.wait(10**5)
    assert stage.of(SetTarget) == []
    assert stage.of(Park) == []


def test_a_poll_from_before_our_own_target_proves_nothing(make_stage: Make) -> None:
    stage = make_stage("a", targets={"a": 0})
    stage.tell(Release("a"))
    stage.now += 1
    asked = stage.now
    stage.now += 0.1
    stage.demand("a")
    assert stage.targets["a"] == 1
    stage.tell(Targets({"a": 0}, asked))
    target = stage.machine.cluster.experts["a"].target
    assert (target.hold, target.pending) == (None, 1)
    stage.now += 1
    stage.poll()
    assert (target.own, target.pending, target.hold) == (1, None, None)


def test_a_poll_that_was_overtaken_proves_nothing(make_stage: Make) -> None:
    stage = make_stage("a", targets={"a": 0})
    stage.tell(Release("a"))
    stage.now += 1
    asked = stage.now
    stage.now += 0.1
    stage.demand("a")
    stage.now += 1
    stage.poll()
    stage.tell(Targets({"a": 0}, asked))
    assert stage.machine.cluster.experts["a"].target.hold is None


def test_a_target_that_did_not_arrive_is_set_again(make_stage: Make) -> None:
    stage = make_stage("a", targets={"a": 0})
    stage.tell(Release("a"))
    stage.now += 1
    stage.demand("a")
    stage.now += 4
    stage.tell(Targets({"a": 0}, stage.now))
    assert [each.replicas for each in stage.of(SetTarget)] == [1, 1]


def test_zero_stops_an_expert_and_its_waiters_are_told(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    name = stage.demand("a")
    stage.now += 1
    stage.tell(Targets({"a": 0}, stage.now))
    assert stage.answers[name].failure.code == "expert_stopped"
    name = stage.demand("a")
    assert stage.answers[name].failure.code == "expert_stopped"
    stage.tell(Gone("a/1"))
    stage.wait(1000)
    assert stage.of(SetTarget) == []
    stage.tell(Release("a"))
    stage.demand("a")
    assert stage.of(SetTarget)[-1].replicas == 1


def test_an_operators_word_through_control_is_set_and_kept(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", 2))
    assert stage.of(SetTarget)[-1].replicas == 2
    stage.now += 4
    stage.tell(Targets({"a": 1}, stage.now))
    assert [each.replicas for each in stage.of(SetTarget)] == [2, 2], "it had not arrived"
    stage.now += 1
    stage.poll()
    stage.report("a/2", "parked")
    assert {each.replica for each in stage.of(Load)} == {"a/1", "a/2"}, (
        "several replicas all have weights: the router cannot tell"
    )
    stage.report("a/1", "ready")
    stage.report("a/2", "ready")
    stage.wait(10**4)
    assert stage.of(Park) == []
    stage.tell(Release("a"))
    stage.now += 1
    stage.tell(Tick())
    assert stage.of(SetTarget)[-1].replicas == 1


def test_a_hold_of_the_same_number_is_a_hold(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", 1))
    stage.now += 1
    stage.poll()
    stage.wait(10**4)
    assert stage.machine.cluster.experts["a"].target.hold == 1
    assert stage.written.experts["a"].hold == 1


def test_an_operator_may_change_his_mind_at_serve(make_stage: Make) -> None:
    stage = make_stage("a")
    for count in (3, 0, 2):
        stage.now += 1
        stage.tell(Targets({"a": count}, stage.now))
        assert stage.machine.cluster.experts["a"].target.hold == count


def test_words_about_strangers_are_nobodys(make_stage: Make) -> None:
    stage = make_stage("a")
    for event in (Hold("x", 1), Release("x"), Targets({"x": 1}, stage.now)):
        assert stage.tell(event) == []


def test_an_expert_that_is_to_begin_without_a_process_gives_up_the_first(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage(make_spec("a", resting=True))
    assert stage.targets["a"] == 0
    target = stage.machine.cluster.experts["a"].target
    stage.now += 1
    stage.poll()
    assert (target.own, target.hold) == (0, None)
    stage.demand("a")
    assert stage.targets["a"] == 1
    stage.now += 1
    stage.poll()
    assert target.own == 1, "once is enough"


def test_an_expert_that_was_removed_and_comes_again_is_nobodys(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.tell(Targets({"a": 0, "b": 1}, stage.now + 1))
    assert stage.written.experts["a"].hold == 0
    stage.now += 1
    stage.tell(Configure(stage.specs[1:], stage.policy))
    stage.tell(Configure(stage.specs, stage.policy))
    stage.now += 1
    stage.tell(Targets({"a": 1, "b": 1}, stage.now))
    target = stage.machine.cluster.experts["a"].target
    assert (target.own, target.hold) == (1, None)


@pytest.mark.parametrize("hold", [0, 3])
def test_a_deploy_does_not_undo_an_operators_word(make_stage: Make, hold: int) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", hold))
    stage.now += 1
    stage.poll()
    for _ in range(2):
        stage.deploy("a")
        target = stage.machine.cluster.experts["a"].target
        assert stage.targets["a"] == hold
        assert (target.own, target.pending, target.hold) == (hold, None, hold)
    assert "a deploy asked Serve for 1 replicas" in stage.said("a")


def test_a_deploy_leaves_a_cold_expert_cold_and_nobodys(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.wait(1801)
    stage.now += 1
    stage.poll()
    stage.tell(Gone("a/1"))
    stage.deploy("a")
    target = stage.machine.cluster.experts["a"].target
    assert (stage.targets["a"], target.own, target.hold) == (0, 0, None)


def test_a_target_that_a_deploy_took_is_set_until_it_arrives(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", 0))
    stage.now += 1
    stage.poll()
    stage.deployed["a"] = stage.now
    for _ in range(40):
        stage.now += 4
        stage.tell(Targets({"a": 1}, stage.now, stage.deployed))
    assert stage.machine.cluster.experts["a"].target.hold == 0
    assert len(stage.of(SetTarget)) == 41


def test_after_a_deploy_an_operators_number_counts_again(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    target = stage.machine.cluster.experts["a"].target
    stage.tell(Hold("a", 3))
    stage.now += 1
    stage.poll()
    stage.deploy("a")
    assert stage.written.experts["a"].deployed == stage.deployed["a"]
    for count in (2, 1):
        stage.now += 1
        stage.tell(Targets({"a": count}, stage.now, stage.deployed))
        assert target.hold == count


@pytest.mark.parametrize("stuck", [False, True])
def test_a_deploy_that_changes_no_target_is_over_when_serve_says_so_or_in_a_while(
    make_stage: Make, stuck: bool
) -> None:
    stage = make_stage("a", targets={"a": 0})
    deploying = frozenset({"a"})
    stage.now += 1
    stage.deployed["a"] = stage.now
    stage.tell(Targets({"a": 0}, stage.now, stage.deployed, deploying))
    assert stage.written.experts["a"].deployed == 500, "the next Control is to know of it too"
    stage.now += DEPLOY_S if stuck else BEGUN_S
    stage.tell(Targets({"a": 0}, stage.now, stage.deployed, deploying if stuck else frozenset()))
    assert stage.written.experts["a"].deployed == stage.deployed["a"]
    stage.now += 1
    stage.tell(Targets({"a": 1}, stage.now, stage.deployed))
    assert stage.machine.cluster.experts["a"].target.hold == 1
