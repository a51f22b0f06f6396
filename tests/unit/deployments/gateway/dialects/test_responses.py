"""OpenAI's Responses: what the engine is asked, and what its client is told."""

from __future__ import annotations

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
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from streams import named_events, png

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
LOGPROBS = "message.output_text.logprobs"


async def ask(client, **fields):
    return await client.post(PATH, {"model": "echo", "input": "Hi"} | fields)


async def asked(client, **fields):
    response = await ask(client, **fields)
    assert response.status == 200, response.body
    return client.experts.asked[-1]


# --- to the engine ------------------------------------------------------------------------------


async def test_text_with_instructions(client):
    request = await asked(
        client,
        instructions="be brief",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=5,
        metadata={"a": "b"},
        store=False,
        reasoning={"effort": None},
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        previous_response_id=None,
        prompt_cache_key="k",
        user="me",
    )

    assert request.prompt.messages == (
        Message("system", (TextPart("be brief"),)),
        Message("user", (TextPart("Hi"),)),
    )
    assert request.sampling.temperature == 0.5
    assert request.sampling.top_p == 0.9
    assert request.limits.max_tokens == 5
    assert request.logprobs is None


async def test_items(client):
    url = f"data:image/png;base64,{png()}"
    said = {"type": "output_text", "text": "I look", "annotations": [], "logprobs": []}
    request = await asked(
        client,
        tools=[TOOL],
        input=[
            {"role": "developer", "content": "s"},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a"},
                    {"type": "input_image", "image_url": url, "detail": "auto"},
                ],
            },
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [said],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c1", "output": "wet"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "dry"}],
            },
        ],
    )

    assert request.prompt.messages == (
        Message("system", (TextPart("s"),)),
        Message("user", (TextPart("a"), ImagePart(base64.b64decode(png()), "image/png"))),
        Message(
            "assistant",
            (TextPart("I look"),),
            tool_calls=(ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "{")),
        ),
        Message("tool", (TextPart("wet"),), tool_call_id="c1"),
        Message("tool", (TextPart("dry"),), tool_call_id="c2"),
    )
    assert request.prompt.tools == (Tool("weather", "", {"type": "object"}, strict=True),)
    assert not request.prompt.continue_last


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "weather"}, ToolChoice("named", "weather")),
    ],
)
async def test_tool_choice(client, choice, expected):
    request = await asked(client, tools=[TOOL], tool_choice=choice)

    assert request.prompt.tool_choice == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, OutputFormat()),
        ({"type": "json_object"}, OutputFormat("json_object")),
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            OutputFormat("json_schema", '{"type":"object"}'),
        ),
    ],
)
async def test_formats(client, wanted, expected):
    request = await asked(client, text={"format": wanted})

    assert request.format == expected


async def test_logprobs_are_included(client):
    assert (await asked(client, include=[LOGPROBS])).logprobs == 0
    assert (await asked(client, include=[LOGPROBS], top_logprobs=2)).logprobs == 2


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"store": True}, "store", "nothing is stored here: send store: false"),
        ({"background": True}, "background", "nothing is stored here"),
        ({"previous_response_id": "r"}, "previous_response_id", "send the whole conversation"),
        ({"conversation": {"id": "c"}}, "conversation", "send the whole conversation"),
        ({"prompt": {"id": "p"}}, "prompt", "there are no stored prompts"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "no expert can set it"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "no expert can set it"),
        ({"truncation": "auto"}, "truncation", "nothing is dropped"),
        ({"top_logprobs": 2}, "top_logprobs", "needs include"),
        ({"stream_options": {}}, "stream_options", "needs stream: true"),
        ({"n": 2}, "n", "there is no field n"),
        ({"max_tokens": 2}, "max_tokens", "did you mean max_output_tokens?"),
        ({"input": []}, "input", "at least 1 item"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type", "reasoning"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
        ({"parallel_tool_calls": False, "tools": [TOOL]}, "parallel_tool_calls", "supported only"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
            "is missing",
        ),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "https://x/y.png"}],
                    }
                ]
            },
            "input[0].content[0].image_url",
            "remote images are not fetched",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(client, fields, param, told):
    response = await ask(client, **fields)

    assert response.status == 400
    assert response.error["param"] == param
    assert told in response.error["message"]
    assert client.experts.asked == []


# --- and back -----------------------------------------------------------------------------------


async def test_a_whole_response(client):
    told = (await ask(client, metadata={"a": "b"}, max_output_tokens=5, tools=[TOOL])).json

    number = client.experts.asked[0].id
    assert told["id"] == f"resp_{number}"
    assert (told["object"], told["status"], told["created_at"]) == (
        "response",
        "completed",
        1_700_000_000,
    )
    assert told["output"] == [
        {
            "id": f"msg_{number}_0",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
            ],
        }
    ]
    assert told["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9,
    }
    assert (told["metadata"], told["max_output_tokens"], told["store"]) == ({"a": "b"}, 5, False)
    assert told["tools"] == [TOOL]


async def test_a_stream_says_what_the_whole_response_says(client):
    whole = (await ask(client)).json

    events = named_events((await ask(client, stream=True)).body)

    assert [name for name, _ in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [data["sequence_number"] for _, data in events] == list(range(10))
    assert all(name == data["type"] for name, data in events)
    assert events[0][1]["response"]["output"] == []
    assert [data["delta"] for _, data in events[4:6]] == ["Hel", "lo"]
    assert events[6][1]["text"] == "Hello"
    first, second = client.experts.asked
    last = json.loads(json.dumps(events[-1][1]["response"]).replace(second.id, first.id))
    assert last == whole


async def test_calls(client):
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "I look", (1,))],
        [ToolCallDelta(0, 0, "", "c1", "weather")],
        [ToolCallDelta(0, 0, '{"city": ')],
        [ToolCallDelta(0, 0, '"Lyon"}')],
        [ToolCallDelta(0, 1, "{}", "c2", "weather")],
        [Finished(0, "tool_calls"), Done(Usage(3, 2))],
    ]
    whole = (await ask(client, tools=[TOOL])).json
    events = named_events((await ask(client, tools=[TOOL], stream=True)).body)

    assert whole["status"] == "completed"
    kinds = [(each["type"], each.get("arguments")) for each in whole["output"]]
    assert kinds == [
        ("message", None),
        ("function_call", '{"city": "Lyon"}'),
        ("function_call", "{}"),
    ]
    assert whole["output"][1]["call_id"] == "c1"
    first, second = client.experts.asked
    last = json.loads(json.dumps(events[-1][1]["response"]).replace(second.id, first.id))
    assert last["output"] == whole["output"]
    done = [data for name, data in events if name == "response.function_call_arguments.done"]
    assert [each["arguments"] for each in done] == ['{"city": "Lyon"}', "{}"]
    assert [each["output_index"] for each in done] == [1, 2]
    added = [data["item"] for name, data in events if name == "response.output_item.added"]
    assert [item["status"] for item in added] == ["in_progress"] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_cut(client, stream):
    client.experts.script = client.experts.says("a", reason="length")
    response = await ask(client, stream=stream)

    if not stream:
        told = response.json
    else:
        name, data = named_events(response.body)[-1]
        assert name == "response.incomplete"
        told = data["response"]
    assert told["status"] == "incomplete"
    assert told["incomplete_details"] == {"reason": "max_output_tokens"}
    assert told["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_nothing_is_an_empty_message(client, stream):
    client.experts.script = client.experts.says()
    response = await ask(client, stream=stream)

    told = response.json if not stream else named_events(response.body)[-1][1]["response"]
    assert [part["text"] for part in told["output"][0]["content"]] == [""]


async def test_logprobs(client):
    logprobs = (TokenLogprob("a", 1, -0.5, (("a", 1, -0.5),)),)
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "a", (1,), logprobs)],
        [Finished(0, "stop"), Done(Usage(3, 2))],
    ]
    fields = {"include": [LOGPROBS], "top_logprobs": 1}
    whole = (await ask(client, **fields)).json
    events = dict(named_events((await ask(client, stream=True, **fields)).body))

    told = whole["output"][0]["content"][0]["logprobs"]
    assert (told[0]["token"], told[0]["logprob"]) == ("a", -0.5)
    assert events["response.output_text.delta"]["logprobs"] == told
    assert events["response.output_text.done"]["logprobs"] == told


async def test_logprobs_of_a_call_do_not_cut_it(client):
    one, two, end = (TokenLogprob(text, at, -0.5) for at, text in enumerate(("a", "{", "}")))
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "a", (1,), (one,))],
        [Delta(0, "", (2,), (two,))],
        [ToolCallDelta(0, 0, "{", "c1", "weather")],
        [Delta(0, "", (3,), (end,))],
        [ToolCallDelta(0, 0, "}")],
        [Finished(0, "tool_calls"), Done(Usage(3, 3))],
    ]

    response = await ask(client, stream=True, include=[LOGPROBS], tools=[TOOL])

    text, call = named_events(response.body)[-1][1]["response"]["output"]
    assert [each["token"] for each in text["content"][0]["logprobs"]] == ["a"]
    assert (call["name"], call["arguments"]) == ("weather", "{}")


async def test_the_last_tokens_logprobs_are_told_at_the_end(client):
    tokens = [TokenLogprob(text, at, -0.5) for at, text in enumerate(("a", "END"))]
    client.experts.script = [
        [client.experts.accepted, Started(3)],
        [Delta(0, "a", (1,), (tokens[0],))],
        [Delta(0, "", (2,), (tokens[1],))],
        [Finished(0, "stop"), Done(Usage(3, 2))],
    ]
    fields = {"include": [LOGPROBS]}
    whole = (await ask(client, **fields)).json
    streamed = named_events((await ask(client, stream=True, **fields)).body)[-1][1]["response"]

    found = [each["output"][0]["content"][0]["logprobs"] for each in (whole, streamed)]
    assert found[0] == found[1]
    assert [each["token"] for each in found[0]] == ["a", "END"]


async def test_a_failure_inside_a_stream(client):
    lost = Failed(Failure.of(ExpertLost("it died")))
    client.experts.script = [[client.experts.accepted, Started(3)], [Delta(0, "a", (1,))], [lost]]

    (failed, state), (error, fields) = named_events((await ask(client, stream=True)).body)[-2:]

    assert (failed, error) == ("response.failed", "error")
    assert state["response"]["status"] == "failed"
    assert state["response"]["error"] == {"code": "server_error", "message": "it died"}
    assert (fields["code"], fields["message"]) == ("expert_lost", "it died")
    assert fields["error"]["message"] == "it died"
    assert fields["sequence_number"] == state["sequence_number"] + 1
