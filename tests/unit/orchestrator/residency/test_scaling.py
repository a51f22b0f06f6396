"""Replicas follow the load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from capyra.orchestrator.residency.effects import Load, Park, SetTarget
from capyra.orchestrator.residency.events import Gone
from capyra.orchestrator.residency.scaling import Load as Scaling

Make = Callable[..., Any]

NODES = {"n1": 100, "n2": 100}


def test_up_when_it_lasts_down_to_the_highest_need(make_spec: Make) -> None:
    spec = make_spec("a", load=4, most=3, up_delay_s=5, down_delay_s=60)
    load = Scaling()
    assert load.wanted(spec, 9, 1, 0) == 1
    assert load.due(spec) == 5
    assert load.wanted(spec, 3, 1, 4) == 1
    assert load.wanted(spec, 9, 1, 5) == 1
    assert load.wanted(spec, 9, 1, 10) == 3
    assert load.wanted(spec, 40, 3, 20) == 3, "the most there may be"
    assert load.wanted(spec, 0, 3, 30) == 3
    assert load.wanted(spec, 5, 3, 60) == 3
    assert load.wanted(spec, 0, 3, 90) == 2, "two were needed within the delay"


def test_the_least_comes_at_once(make_spec: Make) -> None:
    assert Scaling().wanted(make_spec("a", least=2), 0, 1, 0) == 2


def grown(make_stage: Make, make_spec: Make) -> Any:
    """An expert that has just been given a second replica."""
    stage = make_stage(make_spec("a", load=4), nodes=NODES)
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=7)
    stage.wait(4)
    assert stage.of(SetTarget) == []
    stage.wait(1)
    assert stage.of(SetTarget)[-1].replicas == 2
    stage.now += 1
    stage.poll()
    stage.report("a/2", "parked", node="n2")
    return stage


def test_load_brings_another_replica_and_its_end_takes_it(
    make_stage: Make, make_spec: Make
) -> None:
    stage = grown(make_stage, make_spec)
    assert stage.of(Load)[-1].replica == "a/2"
    stage.report("a/2", "ready", node="n2")
    assert stage.used("n2") == 41
    stage.report("a/1", "ready", in_flight=1)
    stage.wait(59)
    assert stage.of(SetTarget)[-1].replicas == 2
    stage.wait(1)
    assert stage.of(SetTarget)[-1].replicas == 1
    stage.now += 1
    stage.poll()
    # Serve chose the one with a request.
    stage.report("a/1", "draining", in_flight=1)
    assert stage.state("a") == "ready"
    assert stage.used("n1") == 41, "charged until it is gone"
    stage.tell(Gone("a/1"))
    assert stage.used("n1") == 0


def test_no_replica_where_there_is_no_room(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", load=4), nodes={"n1": 60})
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=16)
    stage.wait(100)
    assert stage.of(SetTarget) == []


def test_one_that_landed_where_no_room_is_goes_again(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", load=4), "b", nodes={"n1": 60, "n2": 60, "n3": 60})
    stage.bring("b", node="n2")
    stage.report("b/1", "ready", node="n2", in_flight=1)
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=7)
    stage.wait(5)
    stage.now += 1
    stage.poll()
    stage.report("a/2", "parked", node="n2")
    assert [each.replica for each in stage.of(Load)] == ["b/1", "a/1"]
    stage.wait(10)
    assert stage.of(SetTarget)[-1].replicas == 1


def test_others_first_loads_go_before(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", load=4), "b", nodes={"n1": 100})
    stage.bring("a")
    stage.report("b/1", "parked")
    stage.demand("b")
    stage.report("a/1", "ready", in_flight=7)
    stage.wait(20)
    assert stage.of(SetTarget) == []


def test_an_idle_expert_shrinks_to_one_before_it_parks(make_stage: Make, make_spec: Make) -> None:
    stage = grown(make_stage, make_spec)
    stage.report("a/2", "ready", node="n2")
    stage.report("a/1", "ready", in_flight=0)
    stage.wait(61)
    assert stage.of(SetTarget)[-1].replicas == 1
    stage.now += 1
    stage.poll()
    stage.tell(Gone("a/2"))
    stage.wait(300)
    assert {each.replica for each in stage.of(Park)} == {"a/1"}
