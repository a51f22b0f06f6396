"""The official `openai` client for Python: whatever version is installed."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from serving import Server

pytestmark = pytest.mark.cluster


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: OpenAI, text: str = "Hello", model: str = "alpha", **more: object) -> object:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=0,
        **more,
    )


def test_chat(client: OpenAI) -> None:
    answer = ask(client, n=2, seed=3, user="somebody")
    assert [choice.message.content for choice in answer.choices] == ["Hello", "Hello"]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_streaming(client: OpenAI) -> None:
    stream = ask(client, "Grüße 👋🏽", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Grüße 👋🏽"
    assert chunks[-1].usage.completion_tokens > 0


def test_stop_and_length(client: OpenAI) -> None:
    stopped = ask(client, "one two three", stop=["two"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("one ", "stop")
    cut = ask(client, "one two three", max_tokens=3).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("one", "length")


def test_logprobs(client: OpenAI) -> None:
    answer = ask(client, "ab", logprobs=True, top_logprobs=2)
    first = answer.choices[0].logprobs.content[0]
    assert first.token == "a"
    assert first.logprob <= 0
    assert [each.token for each in first.top_logprobs] == ["a", "A"]


def test_a_tool_call(client: OpenAI) -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Lyon"}}</tool_call>'
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    choice = ask(client, call, tools=tools).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "weather"
    assert choice.message.tool_calls[0].function.arguments == '{"city": "Lyon"}'


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(
        model="alpha", prompt=["one", "two"], echo=True, temperature=0, max_tokens=3
    )
    assert [choice.text for choice in answer.choices] == ["oneone", "twotwo"]


def test_embeddings(client: OpenAI) -> None:
    found = client.embeddings.create(model="alpha", input=["cat", "cat", "economics"])
    same, again, other = (each.embedding for each in found.data)
    assert same == pytest.approx(again)
    assert same != pytest.approx(other)


def test_models(client: OpenAI) -> None:
    assert "alpha" in [model.id for model in client.models.list()]
    assert client.models.retrieve("beta").id == "beta"


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="alpha"):
        ask(client, model="alpa")
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, response_format={"type": "json_object"})
    assert refused.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="top_p"):
        ask(client, top_p=7)
    with pytest.raises(openai.InternalServerError, match="fail_load"):
        ask(client, model="broken")


def test_an_error_inside_a_stream_is_raised(client: OpenAI) -> None:
    with pytest.raises(openai.APIError, match="not complete after"):
        list(ask(client, "x" * 400, model="beta", stream=True, extra_body={"timeout": 0.5}))
