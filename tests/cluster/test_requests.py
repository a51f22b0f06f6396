"""Requests through HAProxy, gateway and replica, as a client sends them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serving import Server

pytestmark = pytest.mark.cluster


def chat(expert: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": expert, "messages": messages, "temperature": 0, **more}


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_an_answer(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("alpha"))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert answer.headers["x-capyra-expert"] == "alpha"
    assert answer.headers.get_list("x-request-id") == answer.headers["x-request-id"].split(",")


def test_a_stream_comes_token_by_token(server: Server) -> None:
    body = chat("beta", "x" * 40, stream=True)
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        arrivals = [time.monotonic() for line in answer.iter_lines() if '"content"' in line]
    assert len(arrivals) > 10
    assert arrivals[-1] - arrivals[0] > 0.5, "forty tokens at 40 a second"


def test_the_models_show_their_state(server: Server) -> None:
    with server.client() as client:
        client.post("/v1/chat/completions", json=chat("alpha")).raise_for_status()

        def shown() -> bool:
            listed = client.get("/v1/models").json()["data"]
            states = {model["id"]: model["capyra"]["state"] for model in listed}
            return set(states) == {"alpha", "beta", "slow", "broken", "tiny"} and (
                states["alpha"] == "ready" and states["slow"] == "parked"
            )

        assert eventually(shown)


def test_a_cold_expert_streams_heartbeats_and_progress(server: Server) -> None:
    lines = []
    headers = {"x-capyra-progress": "1"}
    with (
        server.client() as client,
        client.stream(
            "POST", "/v1/chat/completions", json=chat("slow", stream=True), headers=headers
        ) as answer,
    ):
        began = time.monotonic()
        assert answer.status_code == 200
        lines = list(answer.iter_lines())
    assert time.monotonic() - began > 0.5, "headers came long before the weights"
    told = [json.loads(line[9:]) for line in lines if line.startswith(": capyra ")]
    assert told
    fractions = [each["fraction"] for each in told]
    assert fractions == sorted(fractions)
    assert lines[-2:] == ["data: [DONE]", ""]


def test_weights_leave_after_the_keep_alive(server: Server) -> None:
    with server.client() as client:
        client.post("/v1/chat/completions", json=chat("slow")).raise_for_status()

        def parked() -> bool:
            return client.get("/v1/models/slow").json()["capyra"]["state"] == "parked"

        assert eventually(parked)


def test_a_failed_load_says_why(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("broken"))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "load_failed"
    assert "fail_load" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1


def test_over_the_queue_is_429_before_headers(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        body = chat("tiny", "x" * 40, stream=True)
        first = client.send(
            client.build_request("POST", "/v1/chat/completions", json=body), stream=True
        )
        second = client.send(
            client.build_request("POST", "/v1/chat/completions", json=body), stream=True
        )
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "queue_full"
        for held in (first, second):
            assert held.status_code == 200
            held.close()


def test_leaving_cancels_the_work(server: Server) -> None:
    with server.client() as client:
        body = chat("beta", "x" * 4000, stream=True)
        for _ in range(5):
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                next(answer.iter_lines())

        def idle() -> bool:
            replicas = client.get("/v1/models/beta").json()["capyra"]["replicas"]
            return all(replica["running"] == 0 for replica in replicas)

        assert eventually(idle)


def test_commands_reach_the_server(server: Server) -> None:
    shown = server.capyra("ps", "--json")
    assert shown.returncode == 0, shown.stderr
    assert {"alpha", "beta"} <= {row["expert"] for row in json.loads(shown.stdout)}
    answer = server.capyra("run", "alpha", "Good day")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "Good day"
