"""Anthropic's Messages: what the engine is asked."""

from __future__ import annotations

import base64

import pytest

from capyra.engine.types import (
    ImagePart,
    Message,
    OutputFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from streams import png

PATH = "/v1/messages"
TOOL = {"name": "weather", "description": "tells it", "input_schema": {"type": "object"}}


def body(**fields):
    turns = [{"role": "user", "content": "Hi"}]
    return {"model": "echo", "max_tokens": 9, "messages": turns} | fields


async def ask(client, **fields):
    return await client.post(PATH, body(**fields))


async def asked(client, **fields):
    response = await ask(client, **fields)
    assert response.status == 200, response.body
    return client.experts.asked[-1]


async def refused(client, **fields):
    response = await ask(client, **fields)
    assert response.status == 400, response.body
    assert response.json["type"] == "error"
    assert response.json["error"]["type"] == "invalid_request_error"
    assert client.experts.asked == []
    return response.json["error"]["message"]


async def test_sampling_and_limits(client):
    request = await asked(
        client,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["a", "b"],
        metadata={"user_id": "me"},
        service_tier="auto",
        priority=2,
    )

    assert request.sampling.temperature == 0.5
    assert request.sampling.top_p == 0.9
    assert request.sampling.top_k == 3
    assert request.limits.max_tokens == 9
    assert request.limits.stop == ("a", "b")
    assert request.priority == 2
    assert request.format == OutputFormat()


async def test_the_system_comes_first_and_neighbours_are_joined(client):
    cached = {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    request = await asked(
        client,
        system=[{"type": "text", "text": "s"}],
        cache_control={"type": "ephemeral"},
        messages=[
            {"role": "user", "content": "a"},
            {"role": "user", "content": [cached]},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
        ],
    )

    assert request.prompt.messages == (
        Message("system", (TextPart("s"),)),
        Message("user", (TextPart("a"), TextPart("\n\n"), TextPart("b"))),
        Message("assistant", (TextPart("c"),)),
        Message("user", (TextPart("d"),)),
    )
    assert not request.prompt.continue_last


async def test_a_last_message_of_the_assistant_is_continued(client):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "The an"}]

    request = await asked(client, messages=turns)

    assert request.prompt.continue_last


async def test_calls_and_their_results(client):
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Lyon"}}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "wet"},
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "no"}]},
        {"type": "tool_result", "tool_use_id": "t3", "content": "boom", "is_error": True},
        {"type": "text", "text": "so?"},
    ]
    request = await asked(
        client,
        tools=[TOOL],
        messages=[
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "text", "text": "I look"}, call]},
            {"role": "user", "content": results},
        ],
    )

    assert request.prompt.messages[1:] == (
        Message(
            "assistant",
            (TextPart("I look"),),
            tool_calls=(ToolCall("t1", "weather", '{"city":"Lyon"}'),),
        ),
        Message("tool", (TextPart("wet"),), tool_call_id="t1"),
        Message("tool", (TextPart("no"),), tool_call_id="t2"),
        Message("tool", (TextPart("Error: "), TextPart("boom")), tool_call_id="t3"),
        Message("user", (TextPart("so?"),)),
    )
    assert request.prompt.tools == (Tool("weather", "tells it", {"type": "object"}),)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            ToolChoice("named", "weather"),
        ),
    ],
)
async def test_tool_choice(client, choice, expected):
    request = await asked(client, tools=[TOOL], tool_choice=choice)

    assert request.prompt.tool_choice == expected


async def test_images(client):
    source = {"type": "base64", "media_type": "image/jpeg", "data": png()}
    turn = {"role": "user", "content": [{"type": "image", "source": source}]}

    request = await asked(client, messages=[turn])

    # What it is, not what it is called.
    assert request.prompt.messages[0].parts == (ImagePart(base64.b64decode(png()), "image/png"),)


async def test_a_schema(client):
    schema = {"type": "object"}
    request = await asked(
        client, output_config={"format": {"type": "json_schema", "schema": schema}}
    )

    assert request.format == OutputFormat("json_schema", '{"type":"object"}')


async def test_our_extensions(client):
    await asked(client, keep_alive="5m", timeout=3)

    assert client.experts.calls[0].keep_alive_s == 300


def content(*blocks):
    return [{"role": "user", "content": list(blocks)}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_tokens": None}, "max_tokens: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"temperature": 1.5}, "temperature: "),
        ({"n": 2}, "there is no field n"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking is not supported"),
        ({"thinking": {"type": "adaptive"}}, "thinking is not supported"),
        ({"output_config": {"effort": "high"}}, "output_config.effort is not supported"),
        ({"container": "c"}, "container is not supported"),
        ({"mcp_servers": []}, "mcp_servers is not supported"),
        (
            {"tools": [TOOL | {"type": "web_search_20250305"}]},
            "tools[0].type: ",
        ),
        ({"tools": [TOOL | {"max_uses": 3}]}, "tools[0].max_uses is not supported"),
        ({"tools": [TOOL, TOOL]}, "there are two tools weather"),
        ({"tool_choice": {"type": "any"}}, "tool_choice asks for a call"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
            "tool_choice.disable_parallel_tool_use is supported only",
        ),
        (
            {"messages": content({"type": "document", "source": {}})},
            "messages[0].content[0].type: should be one of",
        ),
        (
            {"messages": content({"type": "image", "source": {"type": "url", "url": "http://x/"}})},
            "messages[0].content[0].source: remote images are not fetched",
        ),
        (
            {
                "messages": content(
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "?"},
                    }
                )
            },
            "messages[0].content[0].source.data is no valid base64",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
                    },
                ]
            },
            "the tool_result of t is missing",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(client, fields, told):
    assert told in await refused(client, **fields)


async def test_thinking_that_is_off_is_no_wish(client):
    await asked(client, thinking={"type": "disabled"})


async def test_tokens_are_counted(client):
    fields = body(system="s")
    del fields["max_tokens"]

    response = await client.post(f"{PATH}/count_tokens", fields)

    assert response.json == {"input_tokens": len("<system>s<user>Hi")}
    assert client.experts.asked == []
    for name, value in (("max_tokens", 9), ("timeout", 3)):
        wrong = await client.post(f"{PATH}/count_tokens", fields | {name: value})
        assert f"there is no field {name}" in wrong.json["error"]["message"]
