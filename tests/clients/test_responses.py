"""The Responses API of the official `openai` client for Python, on echoes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from serving import Server
from streams import png

pytestmark = pytest.mark.cluster

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
CALL = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Lyon"}}</tool_call>'


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: OpenAI, text: Any = "Hello", model: str = "alpha", **more: Any) -> Any:
    return client.responses.create(model=model, input=text, temperature=0, **more)


def test_a_response(client: OpenAI) -> None:
    answer = ask(client, instructions="You repeat.", metadata={"a": "b"}, store=False)
    assert (answer.output_text, answer.status) == ("Hello", "completed")
    assert answer.metadata == {"a": "b"}
    assert answer.usage.output_tokens == 6
    assert answer.usage.total_tokens == answer.usage.input_tokens + 6


def test_streaming(client: OpenAI) -> None:
    events = list(ask(client, "Grüße 👋🏽", stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "Grüße 👋🏽"
    assert events[-1].response.output_text == "Grüße 👋🏽"
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_the_stream_helper(client: OpenAI) -> None:
    asked = {"model": "alpha", "input": CALL, "tools": [TOOL], "temperature": 0}
    with client.responses.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    text, call = final.output
    assert text.content[0].text == "I look."
    assert (call.name, call.arguments) == ("weather", '{"city": "Lyon"}')


def test_a_cut(client: OpenAI) -> None:
    cut = ask(client, "one two three", max_output_tokens=3)
    assert (cut.status, cut.output_text) == ("incomplete", "one")
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_call_and_its_result(client: OpenAI) -> None:
    answer = ask(client, CALL, tools=[TOOL])
    _, call = answer.output
    assert (call.type, call.name, call.arguments) == (
        "function_call",
        "weather",
        '{"city": "Lyon"}',
    )
    said = [
        {"role": "user", "content": "What is it like?"},
        *answer.output,
        {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."},
    ]
    assert ask(client, said, tools=[TOOL]).output_text == "It rains."


def test_logprobs(client: OpenAI) -> None:
    answer = ask(client, "ab", include=["message.output_text.logprobs"], top_logprobs=2)
    first = answer.output[0].content[0].logprobs[0]
    assert first.token == "a"
    assert [each.token for each in first.top_logprobs] == ["a", "A"]


def test_images(client: OpenAI) -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{png()}"}
    content = [{"type": "input_text", "text": "see: "}, {**picture, "detail": "auto"}]
    assert ask(client, [{"role": "user", "content": content}]).output_text == (
        "see: [image png 4x4]"
    )


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'alpha'"):
        ask(client, model="alpa")
    for fields, told in (
        ({"store": True}, "nothing is stored here"),
        ({"previous_response_id": "resp_1"}, "send the whole conversation"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
    ):
        with pytest.raises(openai.BadRequestError, match=told):
            ask(client, **fields)
    with pytest.raises(openai.InternalServerError, match="fail_load"):
        ask(client, model="broken")


def test_an_error_inside_a_stream_is_raised(client: OpenAI) -> None:
    stream = ask(client, "x" * 400, "beta", stream=True, extra_body={"timeout": 0.5})
    kinds: list[str] = []
    with pytest.raises(openai.APIError, match="not complete after"):
        kinds.extend(event.type for event in stream)
    # What comes before the error is told.
    assert kinds[-1] == "response.failed"
