"""The official `anthropic` client for Python, on echoes: whatever version is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from serving import Server
from streams import png

pytestmark = pytest.mark.cluster

TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
CALL = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Lyon"}}</tool_call>'
GREEDY = {"temperature": 0}


@pytest.fixture
def client(server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def fields(text: Any = "Hello", model: str = "alpha", **more: Any) -> dict[str, Any]:
    # Newer versions of the client have no word for temperature.
    body = {**GREEDY, **more.pop("extra_body", {})}
    said = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 500, "messages": said, "extra_body": body, **more}


def ask(client: Anthropic, text: Any = "Hello", model: str = "alpha", **more: Any) -> Any:
    return client.messages.create(**fields(text, model, **more))


def test_a_message(client: Anthropic) -> None:
    answer = ask(client, system="You repeat.")
    assert [(block.type, block.text) for block in answer.content] == [("text", "Hello")]
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", "alpha", "end_turn")
    assert answer.usage.output_tokens == 6
    assert answer._request_id


def test_streaming(client: Anthropic) -> None:
    with client.messages.stream(**fields("Grüße 👋🏽")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Grüße 👋🏽"
    assert final.content[0].text == text
    assert final.stop_reason == "end_turn"
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 0
    assert final.usage.output_tokens > 0


def test_raw_events(client: Anthropic) -> None:
    kinds = [event.type for event in ask(client, stream=True)]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def test_why_it_stops(client: Anthropic) -> None:
    stopped = ask(client, "one two three", stop_sequences=["two"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "two")
    assert stopped.content[0].text == "one "
    cut = ask(client, "one two three", max_tokens=3)
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "one")


def test_a_prefilled_answer_is_continued(client: Anthropic) -> None:
    turns = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "one"}]
    assert ask(client, messages=turns).content[0].text == " two"


def test_a_call_and_its_result(client: Anthropic) -> None:
    answer = ask(client, CALL, tools=[TOOL])
    assert answer.stop_reason == "tool_use"
    text, call = answer.content
    assert (text.type, call.type) == ("text", "tool_use")
    assert (call.name, call.input) == ("weather", {"city": "Lyon"})

    with client.messages.stream(**fields(CALL, tools=[TOOL])) as stream:
        streamed = stream.get_final_message().content[1]
    assert (streamed.name, streamed.input) == ("weather", {"city": "Lyon"})

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    turns = [
        {"role": "user", "content": "What is it like?"},
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    assert ask(client, messages=turns, tools=[TOOL]).content[0].text == "It rains."


def test_tokens_are_counted(client: Anthropic) -> None:
    said = [{"role": "user", "content": "Hello"}]
    short = client.messages.count_tokens(model="alpha", messages=said)
    long = client.messages.count_tokens(model="alpha", messages=said, system="Be brief")
    answer = ask(client)
    assert short.input_tokens == (
        answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    )
    assert long.input_tokens > short.input_tokens


def test_images(client: Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": png()}
    content = [{"type": "text", "text": "see: "}, {"type": "image", "source": source}]
    assert ask(client, content).content[0].text == "see: [image png 4x4]"


def test_errors_are_the_clients_own(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="did you mean 'alpha'") as unknown:
        ask(client, model="alpa")
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="thinking is not supported"):
        ask(client, thinking={"type": "enabled", "budget_tokens": 1024})
    with pytest.raises(anthropic.BadRequestError, match="there is no field n"):
        ask(client, extra_body={"n": 2})
    with pytest.raises(anthropic.InternalServerError, match="fail_load") as broken:
        ask(client, model="broken")
    assert broken.value.body["error"]["type"] == "overloaded_error"


def test_an_error_inside_a_stream_is_raised(client: Anthropic) -> None:
    asked = fields("x" * 400, model="beta", stream=True, extra_body={"timeout": 0.5})
    with pytest.raises(anthropic.APIStatusError, match="not complete after"):
        list(client.messages.create(**asked))


def test_pings_while_an_expert_loads(server: Server, client: Anthropic) -> None:
    asked = fields(model="slow")
    body = asked | asked.pop("extra_body") | {"stream": True}
    with server.client() as raw, raw.stream("POST", "/v1/messages", json=body) as response:
        names = [line for line in response.iter_lines() if line.startswith("event: ")]
    assert names[0] == "event: ping"
    assert names.index("event: message_start") > 0
    with client.messages.stream(**fields(model="slow")) as stream:
        assert "".join(stream.text_stream) == "Hello"
