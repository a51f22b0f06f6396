"""Routes, keys, limits, and what is told without an expert."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from capyra.deployments.experts import ReplicaView
from capyra.deployments.gateway.app import build
from capyra.deployments.gateway.meters import PrometheusMeters
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ConfigError
from capyra.engine.types import EngineStats


async def test_an_unknown_route(client):
    response = await client.get("/v1/chat/completion")

    assert response.status == 404
    assert response.error["code"] == "unknown_route"
    assert response.error["type"] == "invalid_request_error"


async def test_a_wrong_method_names_the_right_ones(client):
    response = await client.request("DELETE", "/v1/models")

    assert response.status == 405
    assert response.headers["allow"] == "GET, HEAD"


async def test_head_is_get_without_a_body(client):
    response = await client.request("HEAD", "/v1/models")

    assert response.status == 200
    assert response.body == b""
    assert int(response.headers["content-length"]) > 0


async def test_a_mount_point_is_no_part_of_the_path(client):
    messages = []

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/capyra/health/live",
        "root_path": "/capyra",
        "headers": [],
    }
    await client.app(scope, None, send)

    assert messages[0]["status"] == 200


async def test_websockets_are_refused(client):
    messages = []

    async def send(message):
        messages.append(message)

    await client.app({"type": "websocket", "path": "/", "headers": []}, None, send)

    assert messages == [{"type": "websocket.close", "code": 1000}]


async def test_lifespan(client):
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    messages = []

    async def receive():
        return inbox.pop(0)

    async def send(message):
        messages.append(message["type"])

    await client.app({"type": "lifespan"}, receive, send)

    assert messages == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_models(client):
    experts = client.experts
    config = ExpertConfig(
        engine="echo", description="repeats", skills=[{"name": "echoing"}], license={"id": "MIT"}
    )
    replica = ReplicaView("echo#1", "node", 4, "ready", EngineStats(loaded=True))
    experts.known["echo"] = replace(experts.known["echo"], config=config, replicas=(replica,))

    listed = (await client.get("/v1/models")).json
    one = (await client.get("/v1/models/echo")).json

    assert [model["id"] for model in listed["data"]] == ["echo", "other"]
    assert one == listed["data"][0]
    assert one["created"] == 1_700_000_000
    assert one["capyra"] | {"capabilities": None} == {
        "state": "ready",
        "target": 1,
        "problem": None,
        "replicas": [
            {
                "id": "echo#1",
                "node": "node",
                "pid": 4,
                "state": "ready",
                "in_flight": 0,
                "running": 0,
                "waiting": 0,
                "weight_bytes": 0,
                "kv_bytes": 0,
                "rss_bytes": 0,
                "problem": None,
            }
        ],
        "engine": "echo",
        "context": 4096,
        "capabilities": None,
        "description": "repeats",
        "license": "MIT",
        "skills": [{"name": "echoing", "description": ""}],
    }
    assert one["capyra"]["capabilities"]["max_batch"] == 4


async def test_an_expert_that_nobody_knows(client):
    for response in (
        await client.get("/v1/models/ecko"),
        await client.chat(model="ecko"),
        await client.post("/tokenize", {"model": "ecko", "prompt": "x"}),
    ):
        assert response.status == 404
        assert response.error["code"] == "model_not_found"
        assert response.error["message"] == "there is no model 'ecko': did you mean 'echo'?"


async def test_a_stopped_expert_is_not_even_asked(client):
    client.experts.known["echo"] = replace(client.experts.known["echo"], target=0, held=0)

    response = await client.chat()

    assert response.status == 503
    assert response.error["code"] == "expert_stopped"
    assert "capyra scale echo 1" in response.error["message"]
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["x-should-retry"] == "false"
    assert client.experts.asked == []
    assert (await client.get("/v1/models/echo")).status == 200


async def test_health(client):
    assert (await client.get("/health/live")).json == {"status": "live"}
    assert (await client.get("/health/ready")).json == {"status": "ready"}

    client.experts.known.clear()

    assert (await client.get("/health/live")).status == 200
    response = await client.get("/health/ready")
    assert response.status == 503
    assert response.json["reason"] == "no expert is known yet"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic one", "Bearer three", "Bearer onetwo"]
)
async def test_without_the_key_nothing_is_told(client_of, header):
    client = client_of("one", "two")
    headers = {} if header is None else {"authorization": header}

    for path in ("/v1/models", "/metrics"):
        response = await client.get(path, headers)
        assert response.status == 401
        assert response.error["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"
    response = await client.post("/v1/chat/completions", b"{}", headers)
    assert response.status == 401


def test_a_node_without_the_key_serves_nobody_from_outside(experts, monkeypatch):
    outside = ServerConfig(host="0.0.0.0")
    monkeypatch.delenv("CAPYRA_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="CAPYRA_API_KEY"):
        build(experts, outside, PrometheusMeters())
    monkeypatch.setenv("CAPYRA_API_KEY", "one, two")
    build(experts, outside, PrometheusMeters())


async def test_each_key_opens_and_health_needs_none(client_of):
    client = client_of("one", "two")

    for key in ("Bearer one", "bearer two"):
        assert (await client.get("/v1/models", {"authorization": key})).status == 200
    for path in ("/health/live", "/health/ready", "/openapi.json"):
        assert (await client.get(path)).status == 200


async def test_requests_over_the_limit_are_turned_away_at_once(client_of):
    client = client_of(in_flight=1)
    gate = asyncio.Event()
    client.experts.script.insert(1, gate)

    async with client.open_chat():
        await client.experts.waiting.wait()
        refused = await client.chat()
        assert (await client.get("/health/live")).status == 200
        gate.set()

    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert (await client.chat()).status == 200


async def test_a_sane_request_id_is_kept(client):
    kept = await client.get("/health/live", {"x-request-id": "abc-1.2:3"})
    made = await client.get("/health/live", {"x-request-id": "no\tgood"})

    assert kept.headers["x-request-id"] == "abc-1.2:3"
    assert len(made.headers["x-request-id"]) == 24


async def test_requests_of_the_same_name_stay_apart(client):
    for _ in range(2):
        await client.post(
            "/v1/chat/completions",
            {"model": "echo", "messages": [{"role": "user", "content": "x"}]},
            {"x-request-id": "same"},
        )

    first, second = client.experts.asked
    assert first.id != second.id


async def test_metrics_count_what_happened(client):
    await client.chat()
    await client.chat(model="invented-name")

    text = (await client.get("/metrics")).body.decode()

    route = 'route="/v1/chat/completions"'
    assert f'capyra_requests_total{{expert="echo",{route},status="200"}} 1.0' in text
    assert f'capyra_errors_total{{code="model_not_found",expert="",{route}}} 1.0' in text
    assert f"capyra_requests_in_flight{{{route}}} 0.0" in text
    assert 'capyra_tokens_total{expert="echo",kind="prompt"} 7.0' in text
    assert 'capyra_tokens_total{expert="echo",kind="completion"} 2.0' in text
    assert 'capyra_first_token_seconds_count{expert="echo"} 1.0' in text
    assert "invented-name" not in text
