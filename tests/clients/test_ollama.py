"""The official `ollama` client for Python, on echoes: whatever version is installed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from ollama import Client

from serving import Server
from streams import png

pytestmark = pytest.mark.cluster

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lyon"}}</tool_call>'


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(host=server.url) as made:
        yield made


def chat(client: Client, text: str = "Hello", model: str = "alpha", **more: Any) -> Any:
    options = {"temperature": 0, **more.pop("options", {})}
    said = [{"role": "user", "content": text}]
    return client.chat(**{"model": model, "messages": said, "options": options, **more})


def test_chat(client: Client) -> None:
    answer = chat(client, keep_alive="5m")
    assert (answer.message.role, answer.message.content) == ("assistant", "Hello")
    assert (answer.model, answer.done, answer.done_reason) == ("alpha", True, "stop")
    assert answer.eval_count == 6
    assert answer.total_duration > 0


def test_streaming(client: Client) -> None:
    parts = list(chat(client, "Grüße 👋🏽", stream=True))
    assert "".join(part.message.content for part in parts) == "Grüße 👋🏽"
    assert [part.done for part in parts[-2:]] == [False, True]
    assert parts[-1].eval_count > 0


def test_generate(client: Client) -> None:
    whole = client.generate("alpha", "Hello", options={"temperature": 0})
    parts = list(client.generate("alpha:latest", "Hello", options={"temperature": 0}, stream=True))
    assert whole.response == "Hello"
    assert "".join(part.response for part in parts) == "Hello"


def test_options(client: Client) -> None:
    stopped = chat(client, "one two three", options={"stop": ["two"], "num_ctx": 4096})
    assert (stopped.message.content, stopped.done_reason) == ("one ", "stop")
    cut = chat(client, "one two three", options={"num_predict": 3})
    assert (cut.message.content, cut.done_reason) == ("one", "length")


def test_a_call_and_its_result(client: Client) -> None:
    whole = chat(client, CALL, tools=[TOOL]).message
    streamed = [
        call
        for part in chat(client, CALL, tools=[TOOL], stream=True)
        for call in part.message.tool_calls or ()
    ]
    for (call,) in (whole.tool_calls, streamed):
        assert call.function.name == "weather"
        assert call.function.arguments == {"city": "Lyon"}
    result = {"role": "tool", "content": "It rains.", "tool_name": "weather"}
    said = [{"role": "user", "content": "What is it like?"}, whole, result]
    assert chat(client, messages=said, tools=[TOOL]).message.content == "It rains."


def test_vectors(client: Client) -> None:
    same, again, other = client.embed("alpha", ["cat", "cat", "economics"]).embeddings
    assert same == pytest.approx(again)
    assert same != pytest.approx(other)


def test_the_experts(client: Client) -> None:
    client.generate("alpha")
    assert "alpha" in [model.model for model in client.list().models]
    assert "alpha" in [model.model for model in client.ps().models]
    shown = client.show("alpha")
    assert "completion" in shown.capabilities
    assert shown.modelinfo["capyra.context_length"] > 0


def test_images(client: Client) -> None:
    said = [{"role": "user", "content": "see: ", "images": [base64.b64decode(png())]}]
    assert chat(client, messages=said).message.content == "see: [image png 4x4]"


def test_errors_are_the_clients_own(client: Client) -> None:
    with pytest.raises(ollama.ResponseError, match="did you mean 'alpha'") as unknown:
        chat(client, model="alpa")
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="think is not supported") as refused:
        chat(client, think=True)
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match=r"options\.mirostat is not supported"):
        chat(client, options={"mirostat": 1})
    with pytest.raises(ollama.ResponseError, match="fail_load") as broken:
        chat(client, model="broken")
    assert broken.value.status_code == 503


def test_signs_of_life_while_an_expert_loads(client: Client) -> None:
    parts = list(chat(client, model="slow", stream=True))
    assert parts[0].message.content == ""
    assert "".join(part.message.content for part in parts) == "Hello"


def test_asked_nothing_an_expert_is_loaded_or_leaves(client: Client) -> None:
    assert client.generate("slow", keep_alive="1m").done_reason == "load"
    assert chat(client, model="slow").load_duration < 1e9
    assert client.generate("slow", keep_alive=0).done_reason == "unload"
