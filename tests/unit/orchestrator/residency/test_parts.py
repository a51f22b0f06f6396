"""The ledger, the waiting room, the log, the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from capyra.engine.config import ExpertConfig, Replicas
from capyra.orchestrator.config import Residency
from capyra.orchestrator.residency.decisions import DecisionLog, size, span
from capyra.orchestrator.residency.effects import Persisted, Written
from capyra.orchestrator.residency.ledger import Holding, Ledger
from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.waiting import Waiter, WaitingRoom

Make = Callable[..., Any]


def test_the_ledger_counts_what_is_charged_last() -> None:
    ledger = Ledger()
    ledger.open("n1", 100)
    ledger.charge("r1", Holding("n1", 10, 0))
    ledger.charge("r1", Holding("n1", 10, 40))
    ledger.charge("r2", Holding("n2", 5, 20))
    account = ledger.nodes["n1"]
    assert (account.used, account.free, account.residents) == (50, 50, 1)
    assert ledger.used == 75
    ledger.release("r1")
    ledger.release("r1")
    assert (account.used, account.residents, ledger.used) == (0, 0, 25)
    ledger.close("n2")
    assert (ledger.used, ledger.holdings) == (0, {})


def waiter(name: str, deadline: float) -> Waiter:
    return Waiter(name, "a", 0, deadline, 0, None)


def test_the_waiting_room_tells_whose_time_is_over() -> None:
    room = WaitingRoom()
    room.enter(waiter("late", 9))
    room.enter(waiter("soon", 3))
    assert room.next_deadline() == 3
    assert [each.id for each in room.overdue(5)] == ["soon"]
    room.answer("soon", "expired", 5)
    assert room.next_deadline() == 9
    room.answer("late", "granted", 6)
    assert room.next_deadline() is None
    assert len(room) == 0
    assert room.answer("late", "granted", 7) is None


def test_the_waiting_room_does_not_grow_with_those_who_left() -> None:
    room = WaitingRoom()
    for number in range(10_000):
        room.enter(waiter(str(number), 1e9))
        room.answer(str(number), "granted", 0)
    assert len(room._deadlines) < 100


def test_the_log_is_bounded_and_its_total_is_not() -> None:
    log = DecisionLog(3)
    for number in range(5):
        log.add(number, "unloaded", "a")
    assert [each.number for each in log] == [3, 4, 5]
    assert log.total == 5


def test_why_a_request_waited_is_what_happened_meanwhile(make_stage: Make) -> None:
    stage = make_stage("a", "b")
    stage.report("a/1", "parked")
    stage.bring("b")
    name = stage.demand("a")
    stage.now += 3
    stage.report("a/1", "ready")
    stage.wait(500)
    told = "\n".join(stage.machine.why(name))
    assert "waits for it: parked" in told
    assert "to load 40 B: 1 waiting" in told
    assert "ready on n1 after 3 s" in told
    assert "granted after 3 s" in told
    assert "keep-alive" not in told, "what came later is not its concern"
    assert stage.machine.why("nobody") == []


def test_why_an_expert_is_as_it_is(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.bring("a")
    stage.wait(300)
    assert "idle for 5 min, its keep-alive is 5 min" in stage.said("a")
    stage.report("a/1", "parked")
    assert stage.said("a").splitlines()[-1] == "now: a is parked"


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2048, "2 KiB"), (3 * 2**20, "3 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_in_words(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (90, "90 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 days"),
     (-1, "for ever")],
)  # fmt: skip
def test_times_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_what_is_written_reads_the_same() -> None:
    written = Persisted(4, {"a": Written(own=1, pending=0, bytes=7, load_s=0.5, pin=True)})
    assert Persisted.loads(written.dumps(), 0) == written


def test_settings_come_from_the_experts_file() -> None:
    config = ExpertConfig.model_validate(
        {
            "resources": {"memory": "1GiB"},
            "keep_alive": -1,
            "replicas": {"initial": 0, "min": 2, "max": 3, "load": 5, "up_delay": "1s"},
        }
    )
    spec = ExpertSpec.of("a", config, 5)
    assert (spec.estimate, spec.keep_alive_s, spec.initial) == (2**30, -1, 1)
    assert (spec.least, spec.most, spec.load, spec.up_delay_s) == (2, 3, 5, 1)
    plain = ExpertSpec.of("a", ExpertConfig(), 5)
    bare = ExpertSpec(name="a", estimate=5, digest=plain.digest)
    assert plain == bare, "the defaults are the file's"
    policy = Policy.of(Residency(max_resident=1, parked=3, stay=90, turn=20))
    assert (policy.max_resident, policy.warm, policy.parked) == (1, 1, 3)
    assert policy.stay_s == policy.turn_s == 20, "nobody stays longer than a turn"
    assert Policy.of(Residency()) == Policy(), "and here too"


def test_the_digest_is_of_what_an_engine_sees() -> None:
    plain = ExpertSpec.of("a", ExpertConfig(), 5, Path("m")).digest
    light = ExpertConfig(description="new", pin=True, keep_alive=1)
    assert ExpertSpec.of("a", light, 5, Path("m")).digest == plain
    others = [
        ExpertSpec.of("a", ExpertConfig(context=64), 5, Path("m")),
        ExpertSpec.of("a", ExpertConfig(), 6, Path("m")),
        ExpertSpec.of("a", ExpertConfig(), 5, Path("n")),
    ]
    assert plain not in {each.digest for each in others}


def test_the_fewest_replicas_are_no_more_than_the_most() -> None:
    with pytest.raises(ValidationError, match="lower one or raise the other"):
        Replicas(min=3, max=2)


def test_time_does_not_go_back(make_stage: Make) -> None:
    stage = make_stage("a")
    stage.now -= 1
    with pytest.raises(AssertionError, match="time went back"):
        stage.poll()
