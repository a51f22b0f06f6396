"""More experts than there is room for, on a real cluster: who asks is answered, and who may stay
stays."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from capyra.deployments.processes import alive
from serving import Server, start
from traffic import traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EXPERTS = """
residency: {max_resident: 3, warm: 0, stay: 0.5, turn: 5, parked_keep_alive: 600}
experts:
  pinned:
    engine: echo
    pin: true
  ant:
    engine: echo
    replicas: {max: 3, load: 4, up_delay: 1}
    options: {load_seconds: 0.5, tokens_per_second: 40}
  bee:
    engine: echo
    options: {load_seconds: 0.2}
  slow:
    engine: echo
    options: {load_seconds: 5}
  fleeting:
    engine: echo
    keep_alive: 0
  resting:
    engine: echo
    replicas: {initial: 0}
"""


@pytest.fixture(scope="module")
def crowded() -> Iterator[Server]:
    """A server with room for the pinned one and two of the others."""
    running = start(EXPERTS)
    yield running
    left = running.stop()
    shutil.rmtree(running.directory, ignore_errors=True)
    assert not left, left


def ask(server: Server, expert: str, text: str = "Hello", **more: Any) -> httpx.Response:
    messages = [{"role": "user", "content": text}]
    body = {"model": expert, "messages": messages, "temperature": 0, **more}
    with server.client(60) as client:
        return client.post("/v1/chat/completions", json=body)


def check_serves(server: Server, expert: str) -> None:
    answer = ask(server, expert)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


def status(server: Server, expert: str) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get(f"/v1/experts/{expert}").raise_for_status().json()
    return found


def tell(server: Server, expert: str, what: str, **body: Any) -> dict[str, Any]:
    with server.client(60) as client:
        answer = client.post(f"/v1/experts/{expert}/{what}", json=body)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def why(server: Server, name: str) -> str:
    with server.client() as client:
        return "\n".join(client.get(f"/v1/why/{name}").raise_for_status().json()["lines"])


def everything(server: Server) -> str:
    with server.client() as client:
        return client.get("/v1/experts").text


def until(
    check: Callable[[], bool], seconds: float = 60, told: Callable[[], str] = lambda: ""
) -> None:
    give_up = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < give_up, told()
        time.sleep(0.1)


def state_is(server: Server, expert: str, state: str) -> Callable[[], bool]:
    return lambda: status(server, expert)["state"] == state


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)


def test_a_pinned_expert_is_loaded_without_a_request(crowded: Server) -> None:
    until(state_is(crowded, "pinned", "ready"))
    assert status(crowded, "pinned")["pinned"]


def test_one_too_many_takes_the_room_of_one_that_idles_and_never_of_a_pinned(
    crowded: Server,
) -> None:
    before = crowded.pids()
    for _ in range(2):
        for expert in ("ant", "bee", "slow"):
            check_serves(crowded, expert)
            assert status(crowded, "pinned")["state"] == "ready"
    with crowded.client() as client:
        told = client.get("/v1/experts").json()["data"]
    resident = [each["name"] for each in told if any(one["bytes"] for one in each["leases"])]
    assert "pinned" in resident
    assert len(resident) <= 3
    assert "evicted" in why(crowded, "ant") + why(crowded, "bee")
    assert crowded.pids() == before, "weights went, not processes"


def test_two_that_want_the_same_room_get_their_turns(crowded: Server) -> None:
    tell(crowded, "slow", "pin")
    until(state_is(crowded, "slow", "ready"))
    with traffic(crowded.url, ["ant", "bee"], count=8, prompt="x" * 40) as running:
        until(lambda: len(running.streams) >= 40, 90)
    assert not running.failures
    assert {stream.expert for stream in running.streams} == {"ant", "bee"}
    tell(crowded, "slow", "unpin")
    assert status(crowded, "slow")["state"] == "ready"


def test_keep_alive_zero_leaves_at_once_and_comes_back(crowded: Server) -> None:
    for _ in range(2):
        check_serves(crowded, "fleeting")
        until(state_is(crowded, "fleeting", "parked"), 10)


def test_a_requests_keep_alive_holds(crowded: Server) -> None:
    assert ask(crowded, "bee", keep_alive=0).status_code == 200
    until(state_is(crowded, "bee", "parked"), 10)
    check_serves(crowded, "bee")
    time.sleep(1)
    assert status(crowded, "bee")["state"] == "ready"


def test_an_operators_stop_holds_until_it_is_released(crowded: Server) -> None:
    tell(crowded, "bee", "scale", replicas=0)
    assert status(crowded, "bee")["held"] == 0
    until(lambda: crowded.pids()["bee"] == [])
    refused = ask(crowded, "bee")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "expert_stopped")
    time.sleep(3)
    assert crowded.pids()["bee"] == []
    assert tell(crowded, "bee", "scale", replicas="auto")["held"] is None
    check_serves(crowded, "bee")
    assert "released" in why(crowded, "bee")


def test_an_expert_that_begins_without_a_process_gets_one_when_asked(crowded: Server) -> None:
    assert crowded.pids()["resting"] == []
    told = status(crowded, "resting")
    assert (told["state"], told["held"]) == ("cold", None)
    check_serves(crowded, "resting")


def test_an_idle_process_that_dies_is_not_missed(crowded: Server) -> None:
    tell(crowded, "bee", "unload")
    until(state_is(crowded, "bee", "parked"))
    kill(crowded.pids()["bee"][0])
    check_serves(crowded, "bee")


def test_what_is_loaded_by_hand_is_ready(crowded: Server) -> None:
    tell(crowded, "bee", "unload")
    until(state_is(crowded, "bee", "parked"))
    assert tell(crowded, "bee", "load")["state"] == "ready"


def loading(server: Server, answers: list[httpx.Response]) -> threading.Thread:
    """A request for the slow one, whose load has begun."""
    if status(server, "slow")["state"] != "parked":
        tell(server, "slow", "unload")
        until(state_is(server, "slow", "parked"))
    asking = threading.Thread(target=lambda: answers.append(ask(server, "slow")))
    asking.start()
    until(state_is(server, "slow", "loading"))
    time.sleep(0.5)
    return asking


def test_control_dies_while_an_expert_loads(crowded: Server) -> None:
    answers: list[httpx.Response] = []
    asking = loading(crowded, answers)
    (victim,) = crowded.pids()["control"]
    with traffic(crowded.url, ["pinned"], count=4, prompt="x" * 40) as others:
        kill(victim)
        asking.join(60)
        until(lambda: crowded.pids().get("control", [victim]) not in ([], [victim]))
        check_serves(crowded, "bee")
    assert not others.failures
    assert [answer.status_code for answer in answers] == [200], answers[0].text
    assert status(crowded, "pinned")["state"] == "ready"
    assert all(status(crowded, each)["held"] is None for each in ("ant", "bee", "slow"))


def test_a_replica_dies_while_it_loads(crowded: Server) -> None:
    answers: list[httpx.Response] = []
    asking = loading(crowded, answers)
    kill(crowded.pids()["slow"][0])
    asking.join(90)
    assert [answer.status_code for answer in answers] == [200], answers[0].text


def test_pins_outlive_control(crowded: Server) -> None:
    tell(crowded, "bee", "pin")
    (victim,) = crowded.pids()["control"]
    kill(victim)
    until(lambda: crowded.pids().get("control", [victim]) not in ([], [victim]))
    until(lambda: status(crowded, "bee")["pinned"])
    tell(crowded, "bee", "unpin")


def test_replicas_follow_the_load_and_only_loaded_ones_are_asked(crowded: Server) -> None:
    for other in ("bee", "slow", "resting"):
        tell(crowded, other, "unload")
    with traffic(crowded.url, ["ant"], count=12, prompt="x" * 200) as running:
        until(
            lambda: len(crowded.pids()["ant"]) >= 2,
            told=lambda: why(crowded, "ant") + everything(crowded),
        )
        until(lambda: len(running.streams) >= 24)
    assert not running.failures


def test_why_finds_a_request_that_waited_by_the_id_that_its_client_was_told(
    crowded: Server,
) -> None:
    tell(crowded, "bee", "unload")
    until(state_is(crowded, "bee", "parked"))
    answer = ask(crowded, "bee")
    assert answer.status_code == 200, answer.text
    told = why(crowded, answer.headers["x-request-id"])
    assert "granted after" in told, told


def deploy(server: Server, before: str, after: str) -> None:
    """Change the experts file, and have it served."""
    server.file.write_text(server.file.read_text().replace(before, after))
    done = server.capyra("deploy", str(server.file), "--address", server.dashboard)
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_deploy_starts_neither_a_stopped_nor_a_cold_expert(crowded: Server) -> None:
    tell(crowded, "bee", "scale", replicas=0)
    until(lambda: crowded.pids()["bee"] == [])
    tell(crowded, "resting", "scale", replicas=0)
    until(lambda: crowded.pids()["resting"] == [])
    tell(crowded, "resting", "scale", replicas="auto")
    for name in ("bee", "resting"):
        deploy(crowded, f"  {name}:\n", f"  {name}:\n    description: Another one.\n")
    until(lambda: all("a deploy asked" in why(crowded, name) for name in ("bee", "resting")))
    until(lambda: crowded.pids()["bee"] == crowded.pids()["resting"] == [])
    time.sleep(3)
    assert (status(crowded, "bee")["held"], status(crowded, "resting")["held"]) == (0, None)
    assert crowded.pids()["bee"] == crowded.pids()["resting"] == []
    tell(crowded, "bee", "scale", replicas="auto")
    check_serves(crowded, "bee")
    check_serves(crowded, "resting")
