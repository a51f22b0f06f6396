"""Anthropic's Messages: what its client is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from capyra.engine.errors import ExpertLost, Failure
from capyra.engine.types import (
    Delta,
    Done,
    Failed,
    Finished,
    Started,
    ToolCallDelta,
    Usage,
)
from streams import named_events

PATH = "/v1/messages"
TOOL = {"name": "weather", "description": "tells it", "input_schema": {"type": "object"}}


def body(**fields):
    turns = [{"role": "user", "content": "Hi"}]
    return {"model": "echo", "max_tokens": 9, "messages": turns} | fields


async def ask(client, **fields):
    return await client.post(PATH, body(**fields))


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
