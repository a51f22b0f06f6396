"""Ollama's API: what its client is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from capyra.deployments.experts import ReplicaView
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ExpertLost, Failure
from capyra.engine.types import (
    Capabilities,
    Delta,
    Done,
    EngineStats,
    Failed,
    Finished,
    Started,
    TextPrompt,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from streams import json_lines

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
AT = "2023-11-14T22:13:20.000000Z"


async def chat(client, **fields):
    said = [{"role": "user", "content": "Hi"}]
    return await client.post("/api/chat", {"model": "echo", "messages": said} | fields)


async def generate(client, **fields):
    return await client.post("/api/generate", {"model": "echo", "prompt": "Hi"} | fields)


async def test_a_whole_answer(client):
    told = (await chat(client, stream=False)).json

    assert told.pop("total_duration") > 0
    assert told == {
        "model": "echo",
        "created_at": AT,
        "message": {"role": "assistant", "content": "Hello"},
        "done": True,
        "done_reason": "stop",
        "load_duration": 0,
        "prompt_eval_count": 7,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 2,
        "eval_duration": 0,
    }
    assert (await generate(client, stream=False)).json["response"] == "Hello"


async def test_a_stream_is_the_rule(client):
    response = await chat(client)

    lines = json_lines(response.body)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [line["message"]["content"] for line in lines] == ["Hel", "lo", ""]
    assert [line["done"] for line in lines] == [False, False, True]
    assert lines[-1]["eval_count"] == 2
    bare = json_lines((await generate(client, stream=None)).body)
    assert [line["response"] for line in bare] == ["Hel", "lo", ""]
    assert "message" not in bare[0]


async def test_why_it_stopped(client):
    client.experts.script = client.experts.says("a", reason="length")

    assert (await chat(client, stream=False)).json["done_reason"] == "length"
    assert json_lines((await chat(client)).body)[-1]["done_reason"] == "length"


def calling(experts, *arguments):
    return [
        [experts.accepted, Started(3)],
        [ToolCallDelta(0, 0, "", "c1", "weather")],
        *([ToolCallDelta(0, 0, piece)] for piece in arguments),
        [ToolCallDelta(0, 1, "{}", "c2", "time")],
        [Finished(0, "tool_calls"), Done(Usage(3, 2))],
    ]


async def test_calls_are_told_whole(client):
    client.experts.script = calling(client.experts, '{"city": ', '"Lyon"}')
    expected = [("weather", {"city": "Lyon"}), ("time", {})]

    whole = (await chat(client, tools=[TOOL], stream=False)).json
    lines = json_lines((await chat(client, tools=[TOOL])).body)

    streamed = [call for line in lines for call in line["message"].get("tool_calls", ())]
    for calls in (whole["message"]["tool_calls"], streamed):
        assert [
            (call["function"]["name"], call["function"]["arguments"]) for call in calls
        ] == expected
    assert whole["done_reason"] == "stop"


async def test_a_broken_call_is_text(client):
    client.experts.script = calling(client.experts, '{"city": ')

    whole = (await chat(client, tools=[TOOL], stream=False)).json["message"]
    lines = json_lines((await chat(client, tools=[TOOL])).body)

    assert whole["content"] == 'weather{"city": '
    assert [call["function"]["name"] for call in whole["tool_calls"]] == ["time"]
    assert lines[0]["message"]["content"] == 'weather{"city": '


async def test_logprobs(client):
    logprobs = (TokenLogprob("a", 1, -0.5, (("a", 1, -0.5),)),)
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "a", (1,), logprobs)],
        [Finished(0, "stop"), Done(Usage(3, 2))],
    ]
    fields = {"logprobs": True, "top_logprobs": 1}

    whole = (await chat(client, stream=False, **fields)).json
    line = json_lines((await chat(client, **fields)).body)[0]

    assert client.experts.asked[0].logprobs == 1
    assert whole["logprobs"][0]["token"] == "a"
    assert line["logprobs"] == whole["logprobs"]


async def test_silence_is_broken_with_empty_lines_of_an_answer(client_of):
    client = client_of(heartbeat={"first": 0, "interval": 60})
    gate = asyncio.Event()
    client.experts.script.insert(1, gate)
    data = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "Hi"}]})
    headers = {"x-capyra-progress": "1"}

    async with client.open("POST", "/api/chat", (data.encode(),), headers) as (response, _):
        await response.until(lambda it: len(it.messages) > 1)
        (beat,) = json_lines(response.body)
        gate.set()

    assert (beat["message"], beat["done"]) == ({"role": "assistant", "content": ""}, False)
    assert "".join(one["message"]["content"] for one in json_lines(response.body)) == "Hello"


async def test_a_failure_inside_a_stream(client):
    lost = Failed(Failure.of(ExpertLost("it died")))
    client.experts.script = [[client.experts.accepted, Started(3)], [Delta(0, "a", (1,))], [lost]]

    assert json_lines((await chat(client)).body)[-1] == {"error": "it died"}


async def test_who_leaves_takes_the_work_along(client):
    client.experts.script.insert(2, asyncio.Event())
    data = json.dumps({"model": "echo", "prompt": "x"}).encode()

    async with client.open("POST", "/api/generate", (data,)) as (_, leave):
        await client.experts.waiting.wait()
        leave.set()

    assert client.experts.open == 0


@pytest.mark.parametrize("path", ["chat", "generate"])
async def test_asked_nothing_the_expert_is_loaded(client, path):
    response = await client.post(f"/api/{path}", {"model": "echo", "keep_alive": "1m"})

    told = response.json
    assert (told["done"], told["done_reason"]) == (True, "load")
    assert client.experts.asked[0].limits.max_tokens == 1
    assert client.experts.calls[0].keep_alive_s == 60


async def test_asked_nothing_and_to_leave_it_leaves(client):
    gone = await client.post("/api/chat", {"model": "echo", "keep_alive": 0})
    assert gone.json["done_reason"] == "unload"
    assert client.experts.calls[0].keep_alive_s == 0

    # One that is not there is not loaded to leave.
    client.experts.known["echo"] = replace(client.experts.known["echo"], state="parked")
    again = await client.post("/api/chat", {"model": "echo", "keep_alive": 0})
    assert again.json["done_reason"] == "unload"
    assert len(client.experts.asked) == 1


async def test_vectors(client):
    body = {"model": "echo", "input": ["a", "b"], "truncate": True, "options": {}}

    told = (await client.post("/api/embed", body)).json
    one = (await client.post("/api/embed", {"model": "echo", "input": "a"})).json

    assert told["embeddings"] == [[0.0, 0.5], [1.0, 0.5]]
    assert (told["model"], told["prompt_eval_count"]) == ("echo", 2)
    assert one["embeddings"] == [[0.0, 0.5]]
    assert client.experts.asked[0].inputs == (TextPrompt("a"), TextPrompt("b"))


async def test_the_experts(client):
    known = client.experts.known
    replica = ReplicaView("echo#1", "n", 4, "ready", EngineStats(loaded=True, weight_bytes=9))
    config = ExpertConfig(engine="echo", license={"id": "MIT"})
    sees = Capabilities(context=4096, max_batch=4, images=True, tools=True)
    known["echo"] = replace(known["echo"], replicas=(replica,), capabilities=sees, config=config)
    known["other"] = replace(known["other"], state="parked")

    tags = (await client.get("/api/tags")).json["models"]
    running = (await client.get("/api/ps")).json["models"]
    shown = (await client.post("/api/show", {"model": "echo", "verbose": True})).json

    assert [(tag["name"], tag["size"]) for tag in tags] == [("echo", 9), ("other", 0)]
    assert len(tags[0]["digest"]) == 64
    assert tags[0]["modified_at"] == AT
    assert [(one["name"], one["context_length"]) for one in running] == [("echo", 4096)]
    assert shown["capabilities"] == ["completion", "tools", "vision"]
    assert shown["model_info"]["capyra.context_length"] == 4096
    assert shown["license"] == "MIT"
    assert (await client.get("/api/version")).json["version"]
