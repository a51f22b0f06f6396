"""When headers go out, what breaks silence, how failures are told, and who is cancelled."""

from __future__ import annotations

import asyncio
import json

import pytest

from capyra.engine.errors import ExpertLost, Failure, LoadFailed, QueueFull
from capyra.engine.types import (
    Delta,
    Done,
    Failed,
    Finished,
    Progress,
    Started,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

AT_ONCE = {"first": 0, "interval": 60}


async def test_a_refusal_comes_before_headers(client):
    client.experts.script = [QueueFull("no room", retry_after_s=2.5)]

    response = await client.chat(stream=True)

    assert response.status == 429
    assert response.headers["retry-after"] == "3"
    assert response.error["code"] == "queue_full"


async def test_a_failure_soon_after_accepted_is_an_http_error(client):
    failure = Failure.of(LoadFailed("the weights are broken"))
    client.experts.script = [[client.experts.accepted], [Failed(failure)]]

    response = await client.chat(stream=True)

    assert response.status == 503
    assert response.error["message"] == "the weights are broken"


async def test_an_accepted_stream_that_waits_gets_headers_and_a_comment(client_of):
    client = client_of(heartbeat=AT_ONCE)
    gate = asyncio.Event()
    client.experts.script = client.experts.says("Hi")
    client.experts.script.insert(1, gate)

    async with client.open_chat(stream=True) as (response, _):
        await response.until(lambda it: it.comments)
        assert response.status == 200
        assert response.headers["server-timing"].startswith("accept;dur=")
        assert response.comments == [": waiting"]
        assert response.events == []
        gate.set()

    assert response.events[-1] == "[DONE]"
    assert response.complete


async def test_silence_between_tokens_is_broken_too(client_of):
    client = client_of(heartbeat={"first": 60, "interval": 0.001})
    gate = asyncio.Event()
    client.experts.script = client.experts.says("a", "b")
    client.experts.script.insert(3, gate)
    client = client_of(heartbeat={"first": 0.001, "interval": 0.001})

    async with client.open_chat(stream=True) as (response, _):
        await response.until(lambda it: len(it.comments) >= 2)
        gate.set()

    assert response.body.index(b'"a"') < response.body.rindex(b": waiting")


async def test_progress_is_told_to_those_who_ask(client_of):
    client = client_of(heartbeat=AT_ONCE)
    gates = [asyncio.Event(), asyncio.Event()]
    client.experts.script = [
        [client.experts.accepted, Progress("read", 0.25, 3.0)],
        gates[0],
        [Progress("pack", 0.5)],
        gates[1],
        *client.experts.says("Hi")[1:],
    ]

    async with client.open_chat({"x-capyra-progress": "1"}, stream=True) as (response, _):
        await response.until(lambda it: it.comments)
        gates[0].set()
        await response.until(lambda it: len(it.comments) == 2)
        gates[1].set()

    told = [json.loads(comment.removeprefix(": capyra ")) for comment in response.comments]
    assert told == [
        {"stage": "read", "fraction": 0.25, "eta_s": 3.0},
        {"stage": "pack", "fraction": 0.5, "eta_s": None},
    ]


@pytest.mark.parametrize(
    "end",
    [ExpertLost("the replica was lost"), [Failed(Failure("expert_lost", "the replica was lost"))]],
)
async def test_a_later_failure_is_the_last_event(client, end):
    client.experts.script = [*client.experts.says("a", "b")[:3], end]

    response = await client.chat(stream=True)

    assert response.status == 200
    first, last = response.events
    assert first["choices"][0]["delta"]["content"] == "a"
    assert last["error"]["code"] == "expert_lost"
    assert response.complete
    assert b"[DONE]" not in response.body
    assert 'code="expert_lost"' in client.meters.exposition().decode()


async def test_what_came_before_a_failure_in_the_same_batch_is_told(client):
    failed = Failed(Failure("expert_lost", "gone"))
    client.experts.script = [[client.experts.accepted, Started(1), Delta(0, "a", (1,)), failed]]

    response = await client.chat(stream=True)

    assert response.events[0]["choices"][0]["delta"]["content"] == "a"
    assert response.events[1]["error"]["message"] == "gone"


async def test_an_unknown_fault_after_headers_tells_nothing_of_itself(client, caplog):
    client.experts.script = [
        *client.experts.says("a")[:3],
        [Failed(Failure("engine_fault", "secret /path"))],
    ]

    response = await client.chat(stream=True)

    assert response.events[-1]["error"]["code"] == "internal_error"
    assert b"secret" not in response.body
    assert "secret" in caplog.text


async def test_a_stream_without_an_end_is_our_fault(client):
    client.experts.script = client.experts.says("a")[:-1]

    assert (await client.chat(stream=True)).events[-1]["error"]["code"] == "internal_error"
    assert (await client.chat()).status == 500


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_somebody_aborted_is_no_answer(client, stream):
    client.experts.script = [
        [client.experts.accepted, Started(1), Finished(0, "cancelled"), Done(Usage(1, 0))]
    ]

    response = await client.chat(stream=stream)

    assert response.status == 503
    assert response.error["code"] == "cancelled"


async def test_what_was_said_before_an_abort_is_told(client):
    client.experts.script = [
        [client.experts.accepted, Started(1)],
        [Delta(0, "Hel", (1,)), Finished(0, "cancelled"), Done(Usage(1, 1))],
    ]

    response = await client.chat(stream=True)

    assert response.events[0]["choices"][0]["delta"]["content"] == "Hel"
    assert response.events[-1]["error"]["code"] == "cancelled"


async def test_a_backlog_is_coalesced_answer_by_answer(client):
    def piece(index, text, token):
        return Delta(index, text, (token,), (TokenLogprob(text, token, -0.5),))

    client.experts.script = [
        [client.experts.accepted, Started(1)],
        [piece(0, "a", 1), piece(0, "b", 2), piece(1, "x", 3), piece(1, "y", 4), piece(0, "c", 5)],
        [Finished(0, "stop"), Finished(1, "stop"), Done(Usage(1, 5))],
    ]

    response = await client.chat(stream=True, n=2, logprobs=True)

    chunks = [event["choices"][0] for event in response.events[:-1]]
    assert [(one["index"], one["delta"].get("content")) for one in chunks] == [
        (0, "ab"),
        (1, "xy"),
        (0, "c"),
        (0, None),
        (1, None),
    ]
    assert [len(one["logprobs"]["content"]) for one in chunks[:3]] == [2, 2, 1]


async def test_pieces_of_tool_calls_keep_their_order(client):
    client.experts.script = [
        [client.experts.accepted, Started(1)],
        [ToolCallDelta(0, 0, "", "call_1", "f"), ToolCallDelta(0, 0, '{"a":')],
        [ToolCallDelta(0, 0, "1}"), Finished(0, "tool_calls"), Done(Usage(1, 5))],
    ]

    streamed = await client.chat(stream=True)
    whole = await client.chat()

    pieces = [
        event["choices"][0]["delta"]["tool_calls"][0]
        for event in streamed.events[:-1]
        if "tool_calls" in event["choices"][0]["delta"]
    ]
    assert pieces[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a":1}'
    message = whole.json["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]


async def test_any_text_survives(client):
    text = 'é\u2028"\\\n\x00😀 \ud800'
    client.experts.script = client.experts.says(text)

    response = await client.chat(stream=True)

    assert response.events[0]["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("step", range(5))
async def test_a_client_that_leaves_cancels_its_answer(client_of, stream, step):
    client = client_of(heartbeat=AT_ONCE)
    client.experts.script = client.experts.says("a", "b")
    client.experts.script.insert(step, asyncio.Event())

    async with client.open_chat(stream=stream) as (response, leave):
        await client.experts.waiting.wait()
        leave.set()

    assert client.experts.open == 0
    assert client.app.in_flight == 0
    assert not response.complete
    assert 'code="client_gone"' in client.meters.exposition().decode()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_ends_at_its_deadline(client, stream):
    client.experts.script = [[client.experts.accepted], asyncio.Event()]

    response = await client.chat(stream=stream, timeout=0.01)

    assert response.status == 504
    assert response.error["code"] == "deadline_exceeded"
    assert response.headers["x-should-retry"] == "false"
    assert client.experts.open == 0


async def test_a_deadline_after_headers_is_the_last_event(client):
    client.experts.script = [*client.experts.says("a")[:3], asyncio.Event()]

    response = await client.chat(stream=True, timeout=0.05)

    assert response.events[-1]["error"]["code"] == "deadline_exceeded"


async def test_a_server_that_cannot_send_has_lost_its_client(client):
    client.experts.script = [[client.experts.accepted], *client.experts.says("a")[1:]]

    async def send(message):
        raise OSError("connection lost")

    async def receive():
        if sent:
            await asyncio.Event().wait()
        sent.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    sent: list[bool] = []
    body = b'{"model":"echo","messages":[{"role":"user","content":"x"}],"stream":true}'
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    await client.app(scope, receive, send)

    assert client.experts.open == 0
    assert 'code="client_gone"' in client.meters.exposition().decode()
