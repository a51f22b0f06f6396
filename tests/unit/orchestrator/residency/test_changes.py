"""Settings change: what is charged for the engine before, and what is forgotten of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from capyra.orchestrator.residency.effects import Load, Park
from capyra.orchestrator.residency.events import Configure, Tick
from capyra.orchestrator.residency.spec import Policy

Make = Callable[..., Any]


def test_a_retired_engine_keeps_its_lease_and_is_not_learned_from(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.report("a/1", "parked", bytes=40, retired=40, in_flight=1)
    assert stage.used() == 41
    stage.demand("a")
    assert stage.of(Load)[-1].bytes == 40
    assert stage.used() == 81
    stage.report("a/1", "loading", bytes=60, retired=40, in_flight=1)
    assert stage.used() == 81
    stage.report("a/1", "ready", bytes=90, retired=40, in_flight=1)
    assert stage.used() == 91
    assert stage.machine.cluster.experts["a"].need == 50
    stage.report("a/1", "ready", bytes=50)
    assert (stage.used(), stage.machine.cluster.experts["a"].need) == (51, 50)


def test_nobody_gets_the_room_of_a_retired_engine(make_stage: Make) -> None:
    stage = make_stage("a", "b", nodes={"n1": 70})
    stage.bring("a")
    stage.report("a/1", "parked", bytes=40, retired=40, in_flight=1)
    stage.report("b/1", "parked")
    name = stage.demand("b")
    assert [each.expert for each in stage.of(Load)] == ["a"]
    stage.report("a/1", "parked")
    assert stage.of(Load)[-1].expert == "b"
    stage.report("b/1", "ready")
    assert stage.answers[name].verdict == "granted"


def test_an_engine_beside_the_one_it_replaces_needs_no_second_place(make_stage: Make) -> None:
    stage = make_stage("a", policy=Policy(warm=0, settle_s=0, max_resident=1))
    stage.bring("a")
    stage.report("a/1", "parked", bytes=40, retired=40, in_flight=1)
    stage.demand("a")
    assert len(stage.of(Load)) == 2


def test_a_process_with_a_retired_engine_is_not_given_up(make_stage: Make) -> None:
    stage = make_stage("a", policy=Policy(warm=0, settle_s=0, parked_keep_s=5))
    stage.bring("a")
    stage.report("a/1", "parked", bytes=40, retired=40, in_flight=1)
    stage.wait(10)
    assert stage.targets["a"] == 1
    assert stage.of(Park) == []
    stage.report("a/1", "parked")
    stage.wait(0)
    assert stage.targets["a"] == 0


def test_what_was_measured_with_other_settings_is_forgotten(
    make_stage: Make, make_spec: Make
) -> None:
    stage = make_stage("a")
    stage.report("a/1", "parked")
    stage.demand("a")
    stage.now += 3
    stage.report("a/1", "ready", bytes=70)
    expert = stage.machine.cluster.experts["a"]
    assert (expert.need, expert.load_s) == (70, 3)
    stage.tell(Configure((make_spec("a", estimate=20, digest="new"),), stage.policy))
    stage.report("a/1", "ready", bytes=71)
    assert (expert.need, expert.load_s) == (20, None), "the engine is still the one before"
    assert stage.used() == 72
    stage.report("a/1", "parked")
    stage.demand("a")
    assert stage.of(Load)[-1].bytes == 20
    stage.now += 1
    stage.report("a/1", "ready", bytes=25)
    assert (expert.need, expert.load_s) == (25, 1)


def test_light_changes_forget_nothing(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.report("a/1", "ready", bytes=55)
    stage.tell(Configure((replace(stage.specs[0], keep_alive_s=7),), stage.policy))
    assert stage.machine.cluster.experts["a"].need == 55


@pytest.mark.parametrize(("digest", "need"), [("old", 40), ("new", 30)])
def test_the_next_control_forgets_it_too(
    make_stage: Make, make_spec: Make, digest: str, need: int
) -> None:
    stage = make_stage(make_spec("a", digest="old"))
    stage.bring("a")
    stage.tell(Tick())
    after = make_stage(make_spec("a", estimate=30, digest=digest), written=stage.written)
    assert after.machine.cluster.experts["a"].need == need
