"""Anthropic's Messages: what the engine is asked, and what its client is told."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from capyra.engine.errors import ExpertLost, Failure
from capyra.engine.types import (
    Delta,
    Done,
    Failed,
    Finished,
    ImagePart,
    Message,
    OutputFormat,
    Started,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from streams import named_events, png

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


# --- to the engine ------------------------------------------------------------------------------


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


# --- and back -----------------------------------------------------------------------------------


async def test_a_whole_message(client):
    response = await client.post(PATH, body(), {"anthropic-version": "2023-06-01"})

    told = response.json
    assert told.pop("id") == f"msg_{client.experts.asked[0].id}"
    assert told == {
        "type": "message",
        "role": "assistant",
        "model": "echo",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 2,
        },
    }
    assert response.headers["request-id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("finished", "tokens", "expected"),
    [
        (Finished(0, "stop", "END"), 2, ("stop_sequence", "END")),
        (Finished(0, "stop", 7), 2, ("end_turn", None)),
        (Finished(0, "length"), 9, ("max_tokens", None)),
        (Finished(0, "length"), 8, ("model_context_window_exceeded", None)),
    ],
)
async def test_why_it_stopped(client, finished, tokens, expected):
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "a", (1,)), finished, Done(Usage(3, tokens))],
    ]

    told = (await ask(client)).json
    events = named_events((await ask(client, stream=True)).body)

    assert (told["stop_reason"], told["stop_sequence"]) == expected
    delta = dict(events)["message_delta"]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == expected


async def test_a_stream(client):
    response = await ask(client, stream=True)

    events = named_events(response.body)
    assert all(name == data["type"] for name, data in events)
    assert [name for name, _ in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert response.headers["content-type"].startswith("text/event-stream")
    start = events[0][1]["message"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["cache_read_input_tokens"] == 3
    assert [data["delta"]["text"] for _, data in events[2:4]] == ["Hel", "lo"]
    assert events[5][1]["usage"]["output_tokens"] == 2


def calling(experts, *arguments):
    return [
        [experts.accepted, Started(3)],
        [Delta(0, "I look. ", (1,))],
        [ToolCallDelta(0, 0, "", "t1", "weather")],
        *([ToolCallDelta(0, 0, piece)] for piece in arguments),
        [ToolCallDelta(0, 1, "{}", "t2", "time")],
        [Finished(0, "tool_calls"), Done(Usage(3, 2))],
    ]


async def test_calls(client):
    client.experts.script = calling(client.experts, '{"city": ', '"Lyon"}')

    told = (await ask(client, tools=[TOOL])).json
    events = named_events((await ask(client, tools=[TOOL], stream=True)).body)

    assert told["stop_reason"] == "tool_use"
    assert told["content"] == [
        {"type": "text", "text": "I look. "},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Lyon"}},
        {"type": "tool_use", "id": "t2", "name": "time", "input": {}},
    ]
    starts = [data for name, data in events if name == "content_block_start"]
    assert [start["index"] for start in starts] == [0, 1, 2]
    assert starts[1]["content_block"] == {
        "type": "tool_use",
        "id": "t1",
        "name": "weather",
        "input": {},
    }
    pieces = [data for name, data in events if name == "content_block_delta"]
    first = "".join(each["delta"]["partial_json"] for each in pieces if each["index"] == 1)
    assert json.loads(first) == {"city": "Lyon"}
    assert [data["index"] for name, data in events if name == "content_block_stop"] == [0, 1, 2]


@pytest.mark.parametrize("written", ['{"city": "Ly', "[]", '{"n": NaN}', '{"n": 1e999}'])
async def test_a_broken_call_is_text(client, written):
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [ToolCallDelta(0, 0, written, "t1", "weather")],
        [Finished(0, "tool_calls"), Done(Usage(3, 2))],
    ]

    told = (await ask(client, tools=[TOOL])).json

    assert told["content"] == [{"type": "text", "text": f"weather{written}"}]
    assert told["stop_reason"] == "end_turn"


async def test_silence_is_broken_with_pings(client_of):
    client = client_of(heartbeat={"first": 0, "interval": 60})
    gate = asyncio.Event()
    client.experts.script.insert(1, gate)
    data = json.dumps(body(stream=True)).encode()

    async with client.open("POST", PATH, (data,)) as (response, _):
        await response.until(lambda it: len(it.messages) > 1)
        assert named_events(response.body) == [("ping", {"type": "ping"})]
        gate.set()

    assert named_events(response.body)[-1][0] == "message_stop"


async def test_a_failure_inside_a_stream(client):
    lost = Failed(Failure.of(ExpertLost("it died")))
    client.experts.script = [[client.experts.accepted, Started(3)], [Delta(0, "a", (1,))], [lost]]

    events = named_events((await ask(client, stream=True)).body)

    assert events[-1] == (
        "error",
        {"type": "error", "error": {"type": "overloaded_error", "message": "it died"}},
    )


async def test_who_leaves_takes_the_work_along(client):
    client.experts.script.insert(2, asyncio.Event())
    data = json.dumps(body(stream=True)).encode()

    async with client.open("POST", PATH, (data,)) as (_, leave):
        await client.experts.waiting.wait()
        leave.set()

    assert client.experts.open == 0
