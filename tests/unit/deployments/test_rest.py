"""Serve's REST, spoken to a transport in memory."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from capyra.deployments.rest import ServeRest, failure_of
from capyra.engine.errors import CapyraError, ConfigError, UnknownExpert

Answer = Callable[[httpx.Request], httpx.Response]


def rest(answer: Answer) -> ServeRest:
    return ServeRest("http://dashboard:8265/", transport=httpx.MockTransport(answer))


def test_deploy_puts_the_config() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    rest(answer).deploy({"applications": []})
    assert (seen[0].method, seen[0].url.path) == ("PUT", "/api/serve/applications/")
    assert json.loads(seen[0].content) == {"applications": []}


def test_scale_asks_for_the_experts_deployment() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    rest(answer).scale("alpha", 0)
    assert seen[0].url.path == "/api/v1/applications/alpha/deployments/Expert/scale"
    assert json.loads(seen[0].content) == {"target_num_replicas": 0}


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (404, UnknownExpert, "alpha"),
        (412, CapyraError, "412"),
        (503, CapyraError, "503"),
    ],
)
def test_what_serve_refuses_is_one_sentence(
    status: int, kind: type[CapyraError], told: str
) -> None:
    client = rest(lambda _: httpx.Response(status, text="Traceback\n  a\nValueError: why"))
    with pytest.raises(kind, match=told) as raised:
        client.scale("alpha", 1)
    assert "\n" not in raised.value.message


def test_another_server_than_the_dashboard() -> None:
    client = rest(lambda _: httpx.Response(404, json={"error": {"message": "nothing here"}}))
    with pytest.raises(CapyraError, match="no Ray dashboard at http://dashboard:8265"):
        client.details()


def test_why_an_application_failed_is_what_its_replica_raised() -> None:
    trace = "Traceback\n  File x\ncapyra.engine.errors.ModelError: there is no config.json in /m"
    told = {"message": "Failed to update.", "deployments": {"Expert": {"message": trace}}}
    assert failure_of(told) == "there is no config.json in /m"
    assert failure_of({"message": "out of memory", "deployments": {}}) == "out of memory"


def test_a_config_that_serve_refuses() -> None:
    client = rest(lambda _: httpx.Response(400, text="Traceback\nValueError: no such field"))
    with pytest.raises(ConfigError, match="no such field"):
        client.deploy({})


def test_a_dashboard_that_is_not_there() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(CapyraError, match="http://dashboard:8265") as raised:
        rest(refuse).details()
    assert raised.value.code == "unreachable"
