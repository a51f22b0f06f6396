"""`POST /v1/completions`, one prompt and several."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from capyra.engine.config import ExpertConfig, Queue
from capyra.engine.errors import ContextTooLong, Failure, QueueFull
from capyra.engine.types import (
    Delta,
    Done,
    Failed,
    Finished,
    Progress,
    Started,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    Usage,
)

PATH = "/v1/completions"


def complete(client, prompt, **fields):
    return client.post(PATH, {"model": "echo", "prompt": prompt} | fields)


async def test_a_whole_answer(client):
    response = await complete(client, "x")

    reply = response.json
    assert reply["object"] == "text_completion"
    assert reply["id"].startswith("cmpl-")
    assert reply["choices"] == [
        {"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}
    ]
    assert reply["usage"]["total_tokens"] == 9
    assert client.experts.asked[0].limits.max_tokens == 16


async def test_a_stream(client):
    response = await complete(client, "x", stream=True)

    *chunks, end = response.events
    assert end == "[DONE]"
    assert [one["choices"][0]["text"] for one in chunks] == ["Hel", "lo", ""]
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None, None, "stop"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [TextPrompt("")]),
        (["a"], [TextPrompt("a")]),
        ([1, 2], [TokenPrompt((1, 2))]),
        ([[1, 2], [3]], [TokenPrompt((1, 2)), TokenPrompt((3,))]),
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
    ],
)
async def test_forms_of_a_prompt(client, prompt, expected):
    response = await complete(client, prompt)

    assert response.status == 200
    assert [one.prompt for one in client.experts.asked] == expected
    assert len({one.id for one in client.experts.asked}) == len(expected)
    assert [choice["index"] for choice in response.json["choices"]] == list(range(len(expected)))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1], "suffix": "x"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a"] * 3}, "prompt"),
    ],
)
async def test_what_makes_no_sense(client_of, fields, param):
    client = client_of(prompts=2)

    response = await client.post(PATH, {"model": "echo", "prompt": "x"} | fields)

    assert response.status == 400
    assert response.error["param"] == param
    assert client.experts.asked == []


async def test_logprobs_of_prompt_and_answer(client):
    def token(text, at, logprob):
        return TokenLogprob(text, at, logprob, ((text, at, logprob), ("z", 9, -3.0)))

    client.experts.script = [
        [client.experts.accepted, Started(2, 0, (None, token("yz", 2, -0.5)))],
        [Delta(0, "xyz"), Delta(0, "a", (3,), (token("a", 3, float("-inf")),))],
        [Finished(0, "length"), Done(Usage(2, 1))],
    ]
    fields = {"echo": True, "logprobs": 1, "max_tokens": 1}

    whole = (await complete(client, "xyz", **fields)).json["choices"][0]
    events = (await complete(client, "xyz", stream=True, **fields)).events

    assert client.experts.asked[0].prompt_logprobs == 1
    assert whole["text"] == "xyza"
    expected = {
        "tokens": ["x", "yz", "a"],
        "token_logprobs": [None, -0.5, -9999.0],
        "top_logprobs": [None, {"yz": -0.5, "z": -3.0}, {"a": -9999.0, "z": -3.0}],
        "text_offset": [0, 1, 3],
    }
    assert whole["logprobs"] == expected
    streamed = [event["choices"][0]["logprobs"] for event in events[:-1]]
    for name, values in expected.items():
        assert [value for one in streamed if one for value in one[name]] == values


# --- several prompts ------------------------------------------------------------------------


async def test_several_prompts_are_numbered_through(client):
    def script(*texts):
        return [
            [client.experts.accepted, Started(3)],
            *([Delta(at, text, (1,))] for at, text in enumerate(texts)),
            [*(Finished(at, "stop") for at in range(len(texts))), Done(Usage(3, 2, 1))],
        ]

    client.experts.scripts = {"a": script("a0", "a1"), "b": script("b0", "b1")}

    response = await complete(client, ["a", "b"], n=2)

    assert [one["text"] for one in response.json["choices"]] == ["a0", "a1", "b0", "b1"]
    usage = response.json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 4)


async def test_several_prompts_stream_side_by_side(client):
    gate = asyncio.Event()
    late = client.experts.says("late")
    client.experts.scripts = {"a": [*late[:2], gate, *late[2:]], "b": client.experts.says("soon")}

    async with client.open(
        "POST", PATH, (b'{"model":"echo","prompt":["a","b"],"stream":true}',)
    ) as (response, _):
        await response.until(lambda it: b"soon" in it.body)
        assert b"late" not in response.body
        gate.set()

    assert b"late" in response.body
    assert response.events[-1] == "[DONE]"


async def test_nothing_is_sent_before_every_prompt_has_its_place(client_of):
    client = client_of(heartbeat={"first": 0, "interval": 60})
    gate = asyncio.Event()
    refusal = ContextTooLong("too long")
    client.experts.scripts = {"a": client.experts.says("x"), "b": [gate, refusal]}

    async with client.open(
        "POST", PATH, (b'{"model":"echo","prompt":["a","b"],"stream":true}',)
    ) as (response, _):
        await client.experts.waiting.wait()
        gate.set()

    assert response.status == 400
    assert response.error["code"] == "context_length_exceeded"
    assert client.experts.open == 0


@pytest.mark.parametrize("end", [ZeroDivisionError(), [Failed(Failure("expert_lost", "gone"))]])
async def test_one_failure_ends_all(client, end):
    accepted = client.experts.accepted
    client.experts.scripts = {"a": [[accepted], asyncio.Event()], "b": [[accepted], end]}

    response = await complete(client, ["a", "b"])

    assert response.status in (500, 503)
    assert client.experts.open == 0


async def test_one_that_ends_too_soon_is_our_fault(client):
    client.experts.scripts = {"b": [[client.experts.accepted]]}

    assert (await complete(client, ["a", "b"])).status == 500


@pytest.mark.parametrize("stream", [True, False])
async def test_one_prompt_that_its_expert_refuses_is_told_as_it_was_refused(client, stream):
    refusal = Failed(Failure("queue_full", "no room", retry_after_s=1.0))
    client.experts.scripts = {"a": client.experts.says("x"), "b": [[refusal]]}

    response = await complete(client, ["a", "b"], stream=stream)

    assert response.status == 429
    assert response.error["code"] == "queue_full"


async def test_a_client_that_leaves_cancels_all(client):
    client.experts.script = [[client.experts.accepted], asyncio.Event()]

    async with client.open("POST", PATH, (b'{"model":"echo","prompt":["a","b","c"]}',)) as (
        _,
        leave,
    ):
        await client.experts.waiting.wait()
        leave.set()

    assert client.experts.open == 0
    assert client.app.in_flight == 0


async def test_progress_never_goes_back(client_of):
    client = client_of(heartbeat={"first": 0, "interval": 60})
    accepted = client.experts.accepted
    gates = [asyncio.Event(), asyncio.Event()]
    rest = client.experts.says("x")[1:]
    client.experts.scripts = {
        "a": [[accepted], gates[0], [Progress("read", 0.5)], gates[1], *rest],
        "b": [[accepted], gates[1], [Progress("read", 0.2)], *rest],
    }
    body = b'{"model":"echo","prompt":["a","b"],"stream":true}'
    headers = {"x-capyra-progress": "1"}

    async with client.open("POST", PATH, (body,), headers) as (response, _):
        await response.until(lambda it: it.comments)
        gates[0].set()
        await response.until(lambda it: b"0.5" in it.body)
        gates[1].set()

    assert b"0.2" not in response.body


class Tries:
    """What an expert says to the first try, the second, …"""

    def __init__(self, *scripts):
        self._scripts = iter(scripts)

    def __iter__(self):
        return iter(next(self._scripts))


async def test_more_prompts_than_run_at_once_follow_one_another(client):
    one_at_once = ExpertConfig(engine="echo", queue=Queue(running=1))
    client.experts.known["echo"] = replace(client.experts.known["echo"], config=one_at_once)
    refusal = Failed(Failure("queue_full", "no room", retry_after_s=1.0))
    full = QueueFull("no room", retry_after_s=1.0)
    says = client.experts.says
    gate = asyncio.Event()
    client.experts.scripts = {
        "a": [*says("first")[:2], gate, *says("first")[2:]],
        # Others took the place that the first left: what has waited can wait on.
        "b": Tries([[refusal]], [full], says("second")),
    }

    async with client.open("POST", PATH, (b'{"model":"echo","prompt":["a","b"]}',)) as (reply, _):
        await client.experts.waiting.wait()
        assert client.experts.open == len(client.experts.asked) == 1
        gate.set()

    assert [one["text"] for one in reply.json["choices"]] == ["first", "second"]
    assert len(client.experts.asked) == 4
