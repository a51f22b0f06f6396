"""What operators ask, and say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capyra.deployments.gateway import replies
from capyra.orchestrator.residency.events import Hold, KeepAlive, Pin, Release, Unload


async def test_the_list_and_one_of_it(client):
    listed = await client.get("/v1/experts")
    assert listed.status == 200
    found = replies.ExpertStatusList.model_validate(listed.json).data
    assert [each.name for each in found] == sorted(client.experts.known)
    one = await client.get("/v1/experts/echo")
    assert replies.ExpertStatus.model_validate(one.json).leases[0].bytes == 1000


@pytest.mark.parametrize(
    ("route", "body", "word"),
    [
        ("unload", {}, Unload("echo")),
        ("pin", {}, Pin("echo", on=True)),
        ("unpin", {}, Pin("echo", on=False)),
        ("keep-alive", {"keep_alive": "10m"}, KeepAlive("echo", 600.0)),
        ("keep-alive", {"keep_alive": -1}, KeepAlive("echo", -1)),
        ("keep-alive", {"keep_alive": None}, KeepAlive("echo", None)),
        ("scale", {"replicas": 0}, Hold("echo", 0)),
        ("scale", {"replicas": 2}, Hold("echo", 2)),
        ("scale", {"replicas": "auto"}, Release("echo")),
    ],
)
async def test_a_word_reaches_control(client, route, body, word):
    answer = await client.post(f"/v1/experts/echo/{route}", body)
    assert answer.status == 200, answer.json
    assert answer.json["name"] == "echo"
    assert client.experts.told == [word]


async def test_a_load_is_waited_for(client):
    answer = await client.post("/v1/experts/echo/load", {})
    assert answer.status == 200
    assert client.experts.told == [("echo", 600.0)]


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("keep-alive", {}, "keep_alive"),
        ("keep-alive", {"keep_alive": "soon"}, "keep_alive"),
        ("scale", {"replicas": 5}, "replicas"),
        ("scale", {"replicas": -1}, "replicas"),
        ("scale", {"replicas": "two"}, "replicas"),
    ],
)
async def test_a_word_that_makes_no_sense_is_refused(client, route, body, param):
    answer = await client.post(f"/v1/experts/echo/{route}", body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_value")
    assert answer.json["error"]["param"].startswith(param)
    assert not client.experts.told


async def test_nobody_of_that_name(client):
    for answer in (
        await client.get("/v1/experts/ecko"),
        await client.post("/v1/experts/ecko/pin", {}),
    ):
        assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert (await client.post("/v1/experts/echo/nothing", {})).json["error"]["code"] == (
        "unknown_route"
    )
    assert (await client.get("/v1/experts/echo/pin")).status == 405


async def test_a_stopped_one_is_not_loaded(client):
    client.experts.known["echo"] = replace(client.experts.known["echo"], held=0)
    answer = await client.post("/v1/experts/echo/load", {})
    assert answer.json["error"]["code"] == "expert_stopped"


async def test_why(client):
    answer = await client.get("/v1/why/echo")
    assert answer.json == {"lines": ["echo: because"]}


async def test_the_trace(client):
    answer = await client.get("/v1/trace")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.body == b'{"at": 0.0}\n{"at": 1.0}\n'
