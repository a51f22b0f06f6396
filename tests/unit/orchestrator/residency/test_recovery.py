"""Control dies, and the next one makes out how things are from what was written and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from capyra.orchestrator.residency.effects import Load, Park, Persist, Persisted, SetTarget, Written
from capyra.orchestrator.residency.events import Epoch, Hold, NodeSeen
from capyra.orchestrator.residency.spec import Policy

Make = Callable[..., Any]

LISTENING = Policy(warm=0, settle_s=4.0)


def successor(stage: Any, make_stage: Make, **targets: int) -> Any:
    """Another Control, with what this one wrote and the targets that Serve has now."""
    after = make_stage(
        *stage.specs,
        policy=LISTENING,
        written=Persisted.loads(stage.written.dumps(), 0),
        targets=stage.targets | targets,
    )
    after.obeyed = dict(stage.obeyed)
    return after


def test_the_term_is_written_before_anything_else(make_stage: Make) -> None:
    stage = make_stage("a")
    first = stage.effects[0]
    assert isinstance(first, Persist)
    assert first.state.term == 1
    assert successor(stage, make_stage).effects[0].state.term == 2


def test_orders_of_a_later_life_are_newer(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    after = successor(stage, make_stage)
    after.report("a/1", "ready", obeys=False)
    after.wait(400)
    assert after.of(Park)[0].epoch > stage.of(Load)[-1].epoch


def test_leases_are_taken_over_from_reports(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c")
    stage.bring("a")
    stage.bring("b")
    after = successor(stage, make_stage)
    after.report("c/1", "parked")
    after.demand("c")
    assert after.of(Load) == [], "two may hold the node's memory, and were not heard yet"
    after.report("a/1", "ready", obeys=False)
    after.report("b/1", "ready", obeys=False)
    assert after.used() == 83
    assert after.of(Load) == []
    after.wait(10)
    assert {each.expert for each in after.of(Park)} == {"a"}


def test_measured_figures_outlive_control(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.now += 3
    stage.report("a/1", "ready", bytes=77)
    expert = successor(stage, make_stage).machine.cluster.experts["a"]
    assert (expert.need, expert.load_s) == (77, 3)


def test_own_targets_are_told_from_an_operators(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.wait(1801)
    assert stage.targets["a"] == 0
    after = successor(stage, make_stage)
    assert after.machine.cluster.experts["a"].target.hold is None
    crashed_before_setting = successor(stage, make_stage, a=1)
    assert crashed_before_setting.machine.cluster.experts["a"].target.hold is None
    operator = successor(stage, make_stage, a=2)
    assert operator.machine.cluster.experts["a"].target.hold == 2


def test_an_operators_stop_while_control_was_dead_holds(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.now += 1
    stage.poll()
    after = successor(stage, make_stage, a=0)
    name = after.demand("a")
    after.wait(5)
    assert after.answers[name].failure.code == "expert_stopped"


def test_a_hold_outlives_control(make_stage: Make) -> None:
    written = Persisted(3, {"a": Written(own=2, hold=2), "gone": Written(own=1)})
    stage = make_stage("a", written=written, targets={"a": 2})
    assert stage.machine.cluster.experts["a"].target.hold == 2
    assert stage.written.experts["gone"] == Written(own=1), "it may come back"


def test_idle_time_begins_anew(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    after = successor(stage, make_stage)
    after.report("a/1", "ready", obeys=False)
    after.wait(290)
    assert after.of(Park) == []
    after.wait(11)
    assert len(after.of(Park)) == 1


def test_a_load_under_way_is_taken_over(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.report("a/1", "loading")
    after = successor(stage, make_stage)
    name = after.demand("a")
    after.report("a/1", "loading", obeys=False)
    after.wait(5)
    assert after.of(Load) == []
    after.report("a/1", "ready", obeys=False)
    assert after.answers[name].verdict == "granted"


def test_more_than_may_be_is_shed(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.bring("a")
    stage.bring("b")
    after = successor(stage, make_stage)
    after.tell(NodeSeen("n1", 60))
    after.report("a/1", "ready", obeys=False)
    after.report("b/1", "ready", obeys=False)
    after.wait(10)
    assert {each.expert for each in after.of(Park)} == {"a"}


def test_a_lost_memory_takes_targets_as_they_are(make_stage: Make) -> None:
    stage = make_stage("a", "b", written=Persisted(10**9), targets={"a": 0, "b": 3})
    experts = stage.machine.cluster.experts
    assert [experts[name].target.hold for name in "ab"] == [None, None]
    assert stage.of(SetTarget) == []
    stage.wait(5)
    name = stage.demand("a")
    assert name not in stage.answers, "it is cold, and nobody stopped it"
    assert stage.targets["a"] == 1


def test_orders_without_a_known_term_are_newer_than_all(make_stage: Make) -> None:
    stage = make_stage("a", written=Persisted.loads("not JSON", 1.7e9))
    stage.obeyed["a/1"] = Epoch(5, 9)
    stage.report("a/1", "parked")
    name = stage.demand("a")
    assert stage.of(Load)[-1].epoch > Epoch(5, 9)
    stage.report("a/1", "parked", obeys=False)
    assert name not in stage.answers, "that was no outcome of this order"


def test_what_another_version_wrote_is_read_as_far_as_it_can_be() -> None:
    expert = {"own": 0, "hold": None, "novel": 1, "pin": "yes", "bytes": 7, "load_s": "long"}
    text = json.dumps({"term": 5, "experts": {"a": expert, "b": 3}, "more": []})
    assert Persisted.loads(text, 1e9) == Persisted(
        5, {"a": Written(own=0, bytes=7), "b": Written()}
    )
    assert Persisted.loads('{"term": 5}', 1e9) == Persisted(5)
    for broken in ('{"term": "x"}', '{"term": true}', '{"term": -1}', "[]", "{", "null"):
        assert Persisted.loads(broken, 1e9) == Persisted(10**9)


def test_a_deploy_while_control_was_dead_is_no_operators_word(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", 0))
    stage.now += 1
    stage.poll()
    assert stage.written.experts["a"].deployed == 500
    after = make_stage(
        "a",
        written=Persisted.loads(stage.written.dumps(), 0),
        targets={"a": 1},
        deployed=900,
    )
    assert (after.targets["a"], after.machine.cluster.experts["a"].target.hold) == (0, 0)
