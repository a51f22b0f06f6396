"""Experts as rows, and the number of their replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from capyra.deployments.cli.listing import Row, await_replicas, replica_count
from capyra.deployments.experts import ExpertView, ReplicaView, State
from capyra.deployments.gateway.models import card
from capyra.deployments.reporter import Quiet
from capyra.deployments.rest import ServeRest
from capyra.deployments.rollout import await_running
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import CapacityError, CapyraError, InvalidValue, UnknownExpert
from capyra.engine.types import EngineStats


def replica(number: int, state: State, running: int) -> ReplicaView:
    stats = EngineStats(loaded=state == "ready", running=running, waiting=1)
    return ReplicaView(str(number), "node" * 5, number, state, stats, rss_bytes=2**20)


def test_a_row_is_read_from_what_the_gateway_lists() -> None:
    replicas = (replica(11, "ready", 3), replica(12, "loading", 0))
    view = ExpertView("echo", ExpertConfig(engine="echo"), "ready", 2, replicas)
    row = Row.of(card(view, created=0))
    assert (row.expert, row.state, row.target, row.ready) == ("echo", "ready", 2, 1)
    assert (row.running, row.waiting, row.bytes) == (3, 2, 2**21)
    assert row.cells()[2:] == ("1/2", "3", "2", "2.0 MiB", "11@nodenode, 12@nodenode")


def test_settings_that_were_refused_are_told_once() -> None:
    replicas = tuple(
        replace(replica(number, "ready", 0), problem="no such model") for number in (11, 12)
    )
    view = ExpertView("echo", ExpertConfig(engine="echo"), "ready", 2, replicas)
    assert Row.of(card(view, created=0)).refusals() == ["no such model"]


def test_a_server_that_tells_less_gives_a_row_with_gaps() -> None:
    row = Row.of({"id": "llama"})
    assert row.cells() == ("llama", "[dim]-[/]", "0/?", "-", "-", "-", "-")


@pytest.mark.parametrize("text", ["-1", "1.5", "257", "many", "", "²"])
def test_numbers_of_replicas_are_checked(text: str) -> None:
    with pytest.raises(InvalidValue, match="0 to 256"):
        replica_count(text)


def test_a_number_of_replicas() -> None:
    assert replica_count("0") == 0
    for wrong in ("-1", "257", "few"):
        with pytest.raises(InvalidValue, match="or auto"):
            replica_count(wrong)


class Rest(ServeRest):
    """Tells one state after the other; the last one for ever."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)

    def details(self) -> dict[str, Any]:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {"applications": state}


def expert(*states: str) -> dict[str, Any]:
    replicas = [{"state": state} for state in states]
    return {"echo": {"deployments": {"Expert": {"replicas": replicas}}}}


class Clock:
    """Time passes only in a pause."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


Wait = Callable[[Rest, Clock], None]


def scaled(rest: Rest, clock: Clock) -> None:
    await_replicas(rest, "echo", 1, 10.0, clock, clock.pause)


def test_scaling_is_done_when_none_comes_or_goes() -> None:
    clock = Clock()
    scaled(
        Rest(expert(), expert("STARTING"), expert("RUNNING", "STOPPING"), expert("RUNNING")), clock
    )
    assert clock.now == pytest.approx(0.6)


def test_scaling_that_takes_too_long_says_how_far_it_is() -> None:
    with pytest.raises(CapacityError, match="echo has 0 of 1 replicas after 10 s"):
        scaled(Rest(expert("STARTING")), Clock())


def test_scaling_what_is_gone_is_told() -> None:
    with pytest.raises(UnknownExpert):
        scaled(Rest({}), Clock())


def application(status: str) -> dict[str, str]:
    return {"status": status, "message": "out of memory"}


def deployed(*states: dict[str, Any]) -> float:
    clock = Clock()
    await_running(Rest(*states), ["gateway", "echo"], 10.0, Quiet(), clock, clock.pause)
    return clock.now


def test_deploying_waits_for_what_comes_and_what_goes() -> None:
    both = {"gateway": application("RUNNING"), "echo": application("RUNNING")}
    took = deployed(
        {"gateway": application("RUNNING")},
        both | {"echo": application("DEPLOYING")},
        both | {"old": application("DELETING")},
        both,
    )
    assert took == pytest.approx(0.75)


def test_deploying_that_fails_says_why() -> None:
    with pytest.raises(CapyraError, match="echo did not start: out of memory"):
        deployed({"echo": application("DEPLOY_FAILED")})


def test_deploying_that_takes_too_long_says_what_is_late() -> None:
    with pytest.raises(CapacityError, match="not done after 10 s: echo"):
        deployed({"gateway": application("RUNNING")})
