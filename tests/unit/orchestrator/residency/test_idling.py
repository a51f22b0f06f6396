"""Keep-alive, pins, parking, giving up the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from capyra.engine.config import FOREVER
from capyra.orchestrator.residency.effects import Load, Park, SetTarget
from capyra.orchestrator.residency.events import Gone, Hold, KeepAlive, Pin, Tick, Unload, Used
from capyra.orchestrator.residency.spec import Policy

Make = Callable[..., Any]


def test_an_idle_expert_parks_when_its_keep_alive_is_over(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=1)
    stage.wait(1000)
    assert stage.of(Park) == []
    stage.report("a/1", "ready", in_flight=0)
    stage.wait(299)
    assert stage.of(Park) == []
    stage.wait(1)
    (park,) = stage.of(Park)
    assert not park.drain
    stage.report("a/1", "parked")
    assert stage.state("a") == "parked"
    assert stage.used() == 1


def test_each_use_begins_the_idle_time_anew(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    for _ in range(5):
        stage.wait(200)
        stage.tell(Used("a"))
    assert stage.of(Park) == []


@pytest.mark.parametrize(("asked", "parked_after"), [(0, 2), (10, 10), (600, 600)])
def test_a_request_says_how_long_weights_stay(
    make_stage: Make, asked: float, parked_after: float
) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.tell(Used("a", keep_alive_s=asked))
    stage.report("a/1", "ready", in_flight=1)
    stage.wait(5)
    stage.report("a/1", "ready", in_flight=0)
    stage.wait(parked_after - 1.5)
    assert bool(stage.of(Park)) == (asked == 0)
    stage.wait(2)
    assert stage.of(Park)
    stage.report("a/1", "parked")
    assert stage.machine.cluster.experts["a"].keep_alive_s == 300, "the next one asks for itself"


def test_keep_alive_zero_leaves_at_once(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", keep_alive_s=0))
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.report("a/1", "ready")
    assert stage.of(Park) == [], "its request is still on the way"
    stage.now += 0.1
    stage.report("a/1", "ready", in_flight=1)
    stage.wait(5)
    assert stage.of(Park) == []
    stage.report("a/1", "ready", in_flight=0)
    assert len(stage.of(Park)) == 1


def test_for_ever_is_for_ever(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a", keep_alive_s=FOREVER)
    stage.report("a/1", "ready")
    stage.wait(10**6)
    assert stage.of(Park) == []


def test_a_pin_holds_until_it_is_taken(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.tell(Pin("a", True))
    stage.wait(10**5)
    assert stage.of(Park) == []
    assert stage.written.experts["a"].pin is True
    stage.tell(Pin("a", None))
    assert len(stage.of(Park)) == 1


def test_an_operator_changes_the_keep_alive(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.tell(KeepAlive("a", 20))
    stage.wait(20)
    assert len(stage.of(Park)) == 1
    assert stage.written.experts["a"].keep_alive_s == 20


def test_an_operator_unloads_what_runs_when_it_is_done(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=2)
    stage.tell(Unload("a"))
    (park,) = stage.of(Park)
    assert park.drain
    stage.report("a/1", "draining", in_flight=2)
    name = stage.demand("a")
    stage.report("a/1", "parked")
    assert len(stage.of(Load)) == 2, "who asks afterwards gets it loaded again"
    stage.report("a/1", "ready")
    assert stage.answers[name].verdict == "granted"


@pytest.mark.parametrize("word", [Hold("a", 2), Pin("a", True)])
def test_a_later_word_ends_an_unload(make_stage: Make, make_spec: Make, word: Any) -> None:
    stage = make_stage(make_spec("a", load=1, up_delay_s=1))
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=2)
    stage.wait(2)
    stage.now += 1
    stage.poll()
    stage.report("a/2", "parked")
    stage.tell(Tick())
    stage.report("a/2", "ready", in_flight=1)
    stage.tell(Unload("a"))
    stage.tell(word)
    stage.now += 1
    stage.poll()
    name = stage.demand("a")
    assert stage.answers[name].verdict == "granted"


def test_an_unload_ends_with_the_last_that_holds_weights(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.report("a/1", "ready", in_flight=1)
    stage.tell(Unload("a"))
    stage.tell(Gone("a/1"))
    name = stage.demand("a")
    stage.report("a/2", "parked")
    stage.report("a/2", "ready")
    assert stage.answers[name].verdict == "granted"


def test_one_parked_for_long_gives_its_process_up(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.wait(1799)
    assert stage.of(SetTarget) == []
    stage.wait(2)
    assert [each.replicas for each in stage.of(SetTarget)] == [0]


def test_one_that_an_operator_holds_keeps_its_process(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.tell(Hold("a", 1))
    stage.now += 1
    stage.poll()
    before = len(stage.of(SetTarget))
    stage.wait(10**4)
    assert len(stage.of(SetTarget)) == before


def test_a_node_keeps_only_so_many_parked(make_stage: Make) -> None:
    policy = Policy(warm=0, settle_s=0, parked=2)
    stage = make_stage("a", "b", "c", policy=policy)
    stage.tell(Used("a"))
    stage.tell(Used("c"))
    for name in "abc":
        stage.report(f"{name}/1", "parked")
    assert [(each.expert, each.replicas) for each in stage.of(SetTarget)] == [("b", 0)]


def test_processes_that_come_up_are_bounded(make_stage: Make) -> None:
    names = [f"e{number}" for number in range(8)]
    policy = Policy(warm=0, settle_s=0, parked=2, loads=2)
    stage = make_stage(*names, policy=policy, targets=dict.fromkeys(names, 0))
    for name in names:
        stage.machine.cluster.experts[name].target.hold = None
        stage.demand(name)
    assert len(stage.of(SetTarget)) == 2
    assert "as many processes" in stage.said("e7")


def test_the_warm_set_is_kept_without_requests(make_stage: Make) -> None:
    stage = make_stage("a", "b", "c", policy=Policy(warm=1, settle_s=0))
    stage.bring("a")
    stage.bring("b")
    for _ in range(30):
        stage.wait(10)
        stage.tell(Used("b"))
    stage.wait(3600)
    assert {each.expert for each in stage.of(Park)} == {"a"}
    assert "kept ready without requests" in stage.said("b")


def test_the_warm_set_loads_what_is_likely(make_stage: Make) -> None:
    stage = make_stage("a", policy=Policy(warm=1, settle_s=0))
    stage.bring("a")
    stage.tell(Used("a", 50))
    stage.report("a/1", "parked", obeys=False)
    stage.wait(40)
    assert len(stage.of(Load)) > 1
    assert "likely to be asked for soon" in stage.said("a")
    assert stage.machine.cluster.warm == ["a"]


def test_a_guess_takes_nobodys_room_for_little(make_stage: Make) -> None:
    stage = make_stage("a", "b", policy=Policy(warm=1, settle_s=0), nodes={"n1": 50})
    stage.bring("a")
    for _ in range(10):
        stage.tell(Used("a"))
    stage.report("b/1", "parked")
    for _ in range(12):
        stage.tell(Used("b"))
    stage.wait(60)
    assert stage.of(Park) == []


def test_who_leaves_at_once_is_never_in_the_warm_set(make_stage: Make, make_spec: Make) -> None:
    stage = make_stage(make_spec("a", keep_alive_s=0), policy=Policy(warm=2, settle_s=0))
    stage.report("a/1", "parked")
    stage.tell(Used("a", 100))
    stage.wait(100)
    assert stage.of(Load) == []
