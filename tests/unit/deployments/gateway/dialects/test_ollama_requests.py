"""Ollama's API: what the engine is asked."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from capyra.engine.config import ExpertConfig
from capyra.engine.types import (
    ChatPrompt,
    ImagePart,
    Message,
    OutputFormat,
    TextPart,
    TextPrompt,
    Tool,
    ToolCall,
)
from streams import png

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


async def chat(client, **fields):
    said = [{"role": "user", "content": "Hi"}]
    return await client.post("/api/chat", {"model": "echo", "messages": said} | fields)


async def generate(client, **fields):
    return await client.post("/api/generate", {"model": "echo", "prompt": "Hi"} | fields)


async def asked(response, client):
    assert response.status == 200, response.body
    return client.experts.asked[-1]


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
