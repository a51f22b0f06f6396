"""Ollama's API: what the engine is asked, and what its client is told."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest

from capyra.deployments.experts import ReplicaView
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ExpertLost, Failure
from capyra.engine.types import (
    Capabilities,
    ChatPrompt,
    Delta,
    Done,
    EngineStats,
    Failed,
    Finished,
    ImagePart,
    Message,
    OutputFormat,
    Started,
    TextPart,
    TextPrompt,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from streams import json_lines, png

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
AT = "2023-11-14T22:13:20.000000Z"


async def chat(client, **fields):
    said = [{"role": "user", "content": "Hi"}]
    return await client.post("/api/chat", {"model": "echo", "messages": said} | fields)


async def generate(client, **fields):
    return await client.post("/api/generate", {"model": "echo", "prompt": "Hi"} | fields)


async def asked(response, client):
    assert response.status == 200, response.body
    return client.experts.asked[-1]


# --- to the engine ------------------------------------------------------------------------------


async def test_options(client):
    options = {
        "num_predict": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 4,
        "stop": ["a"],
        "repeat_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "num_ctx": 2**20,
        "num_gpu": 1,
        "mirostat": 0,
        "repeat_last_n": -1,
        "invented": True,
    }
    request = await asked(await chat(client, options=options, invented=1), client)

    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (
        0.5,
        0.9,
        3,
        0.1,
    )
    assert (sampling.repetition_penalty, sampling.presence_penalty) == (1.1, 0.5)
    assert (sampling.frequency_penalty, sampling.seed) == (0.25, 4)
    assert (request.limits.max_tokens, request.limits.stop) == (5, ("a",))


@pytest.mark.parametrize(("given", "expected"), [(None, 7), (3, 3), (0, None), (-1, None)])
async def test_how_long_an_answer_may_be(client, given, expected):
    config = ExpertConfig(engine="echo", sampling={"max_tokens": 7})
    client.experts.known["echo"] = replace(client.experts.known["echo"], config=config)
    options = {} if given is None else {"num_predict": given}

    request = await asked(await chat(client, options=options), client)

    assert request.limits.max_tokens == expected


async def test_a_conversation(client):
    call = {"function": {"name": "weather", "arguments": {"city": "Lyon"}}}
    time = {"function": {"name": "time", "arguments": {}}}
    response = await chat(
        client,
        tools=[TOOL],
        messages=[
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a", "images": [png()]},
            {"role": "assistant", "content": "", "tool_calls": [call, time, call]},
            {"role": "tool", "content": "noon", "tool_name": "time"},
            {"role": "tool", "content": "wet"},
            {"role": "tool", "content": "dry", "tool_call_id": "mine"},
        ],
    )
    request = await asked(response, client)

    written = '{"city":"Lyon"}'
    assert request.prompt.messages == (
        Message("system", (TextPart("s"),)),
        Message("user", (TextPart("a"), ImagePart(base64.b64decode(png()), "image/png"))),
        Message(
            "assistant",
            tool_calls=(
                ToolCall("call00001", "weather", written),
                ToolCall("call00002", "time", "{}"),
                ToolCall("call00003", "weather", written),
            ),
        ),
        Message("tool", (TextPart("noon"),), "time", tool_call_id="call00002"),
        Message("tool", (TextPart("wet"),), tool_call_id="call00001"),
        Message("tool", (TextPart("dry"),), tool_call_id="mine"),
    )
    assert request.prompt.tools == (Tool("weather", "", {"type": "object"}),)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, ChatPrompt((Message("user", (TextPart("Hi"),)),))),
        (
            {"system": "s"},
            ChatPrompt((Message("system", (TextPart("s"),)), Message("user", (TextPart("Hi"),)))),
        ),
        ({"raw": True}, TextPrompt("Hi")),
        ({"suffix": "end"}, TextPrompt("Hi", "end")),
    ],
)
async def test_a_prompt(client, fields, prompt):
    request = await asked(await generate(client, **fields), client)

    assert request.prompt == prompt


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", OutputFormat()),
        ("json", OutputFormat("json_object")),
        ({"type": "object"}, OutputFormat("json_schema", '{"type":"object"}')),
    ],
)
async def test_formats(client, wanted, expected):
    assert (await asked(await chat(client, format=wanted), client)).format == expected


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0),
        (90, 90),
        (1.5, 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("0", 0),
        (-1, -1),
        (-60, -1),
        ("-1", None),
        ("-1m", -1),
        ("soon", None),
        (True, None),
    ],
)
async def test_keep_alive(client, given, seconds):
    response = await chat(client, keep_alive=given)

    if seconds is None:
        assert response.status == 400
        assert response.error.startswith("keep_alive: ")
    else:
        assert client.experts.calls[0].keep_alive_s == pytest.approx(seconds)


async def test_a_tag_is_no_part_of_the_name(client):
    response = await chat(client, model="echo:latest", stream=False)

    assert response.json["model"] == "echo"


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("chat", {"think": True}, "think is not supported"),
        ("chat", {"think": "high"}, "think is not supported"),
        ("chat", {"options": {"mirostat": 2}}, "options.mirostat is not supported"),
        ("chat", {"options": {"repeat_last_n": 64}}, "options.repeat_last_n is not supported"),
        ("chat", {"options": {"temperature": "hot"}}, "options.temperature: "),
        ("chat", {"options": {"top_k": -5}}, "options.top_k: "),
        ("chat", {"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ("chat", {"messages": [{"role": "robot"}]}, "messages[0].role: "),
        (
            "chat",
            {"messages": [{"role": "user", "images": ["?"]}]},
            "messages[0].images[0] is no valid base64",
        ),
        ("chat", {"format": "yaml"}, "format: "),
        ("generate", {"template": "x"}, "template is not supported"),
        ("generate", {"context": [1]}, "context is not supported"),
        ("generate", {"width": 512}, "width is not supported"),
        ("generate", {"raw": True, "system": "s"}, "raw and suffix go with neither"),
        ("embed", {"input": "x", "dimensions": 4}, "dimensions is not supported"),
        ("embed", {"input": ["x"] * 3}, "3 inputs; 2 are the most"),
        ("embed", {}, "input is missing"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(client_of, path, fields, told):
    client = client_of(prompts=2)
    base = {"chat": {"messages": [{"role": "user", "content": "Hi"}]}, "generate": {"prompt": "x"}}

    response = await client.post(f"/api/{path}", {"model": "echo"} | base.get(path, {}) | fields)

    assert response.status == 400, response.body
    assert list(response.json) == ["error"]
    assert told in response.error
    assert client.experts.asked == []


# --- and back -----------------------------------------------------------------------------------


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


# --- asked nothing, and the experts -------------------------------------------------------------


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
