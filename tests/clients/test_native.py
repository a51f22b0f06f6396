"""The official clients on the native engine, behind a real server. The models are random: what they
say means nothing, but how they say it must be right."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from jsonschema import validate
from openai import OpenAI

from serving import Server, start
from streams import png
from tiny import TEMPLATE, tiny_model, tiny_seer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

EXPERTS = """
experts:
  words:
    model: {words}
    context: 2048
    resources: {{threads: 1}}
  eyes:
    model: {eyes}
    resources: {{threads: 1}}
"""
ALIKE = {"temperature": 0, "max_tokens": 24}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Lyon", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def native() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        words = tiny_model(Path(folder) / "words", template="{# tools #}" + TEMPLATE)
        eyes = tiny_seer(Path(folder) / "eyes")
        server = start(EXPERTS.format(words=words, eyes=eyes))
        try:
            yield server
        finally:
            left = server.stop()
            shutil.rmtree(server.directory, ignore_errors=True)
        assert not left, left


@pytest.fixture(scope="module")
def client(native: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{native.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: OpenAI, content: Any = "Hello there", model: str = "words", **more: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=model, messages=messages, **{**ALIKE, **more})


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    whole = ask(client)
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == (
        whole.choices[0].message.content
    )
    counted = chunks[-1].usage
    assert (counted.prompt_tokens, counted.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )


def test_several_answers_to_one_prompt(client: OpenAI) -> None:
    sampled = {"n": 3, "temperature": 1, "seed": 7}
    one, two = (ask(client, **sampled).choices for _ in range(2))
    texts = [choice.message.content for choice in one]
    assert texts == [choice.message.content for choice in two]
    assert len(set(texts)) == 3


def test_stop_strings(client: OpenAI) -> None:
    whole = ask(client).choices[0].message.content
    middle = whole[len(whole) // 2 :][:2]
    stopped = ask(client, stop=[middle]).choices[0]
    assert stopped.message.content == whole[: whole.index(middle)]
    assert stopped.finish_reason == "stop"


def test_logprobs(client: OpenAI) -> None:
    told = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(told) == 24
    for token in told:
        # Greedy: what was said is the likeliest.
        assert token.logprob == max(each.logprob for each in token.top_logprobs)
        assert token.logprob <= 0


def test_a_schema_holds(client: OpenAI) -> None:
    asked = {"name": "stay", "schema": SCHEMA, "strict": True}
    answer = ask(
        client,
        max_tokens=200,
        temperature=1,
        seed=1,
        response_format={"type": "json_schema", "json_schema": asked},
    )
    validate(json.loads(answer.choices[0].message.content), SCHEMA)


def test_a_tool_that_must_be_called_is_called(client: OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "book", "parameters": SCHEMA}}]
    choice = ask(
        client,
        max_tokens=200,
        temperature=1,
        seed=1,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "book"}},
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "book")
    validate(json.loads(call.function.arguments), SCHEMA)


def picture(colour: str) -> dict[str, Any]:
    url = f"data:image/png;base64,{png(colour, 48)}"
    return {"type": "image_url", "image_url": {"url": url}}


def test_images_are_seen(client: OpenAI) -> None:
    def told(colour: str) -> list[float]:
        content = [picture(colour), {"type": "text", "text": "What is it?"}]
        answer = ask(client, content, model="eyes", logprobs=True, max_tokens=4)
        return [token.logprob for token in answer.choices[0].logprobs.content]

    # The second time the prompt is in the cache, and computed in other pieces.
    assert told("red") == pytest.approx(told("red"), abs=1e-4)
    assert told("red") != pytest.approx(told("blue"), abs=1e-4)
    with pytest.raises(openai.BadRequestError, match="cannot see images"):
        ask(client, [picture("red")])


def test_completions_and_embeddings(client: OpenAI) -> None:
    found = client.completions.create(
        model="words", prompt="Once", echo=True, logprobs=1, max_tokens=3, temperature=0
    )
    assert found.choices[0].text.startswith("Once")
    assert len(found.choices[0].logprobs.tokens) == 4 + 3
    same, again, other = client.embeddings.create(model="words", input=["cat", "cat", "dog"]).data
    assert same.embedding == pytest.approx(again.embedding)
    assert same.embedding != pytest.approx(other.embedding)


def test_what_does_not_fit_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "x" * 3000)
    assert refused.value.code == "context_length_exceeded"


def test_weights_that_left_come_back(client: OpenAI) -> None:
    before = ask(client, extra_body={"keep_alive": 0}).choices[0].message.content
    assert ask(client).choices[0].message.content == before


# --- the other APIs say the same, in their own words ---------------------------------------------


@pytest.fixture(scope="module")
def messages(native: Server) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=native.url, api_key="none", max_retries=0) as made:
        yield made.messages


@pytest.fixture(scope="module")
def llama(native: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=native.url) as made:
        yield made


def spoken(content: Any = "Hello there", **more: Any) -> dict[str, Any]:
    """A request to Anthropic's API."""
    sampling = {name: more.pop(name) for name in ("temperature", "top_k") if name in more}
    said = [{"role": "user", "content": content}]
    body = {"temperature": 0, **sampling}
    return {"model": "words", "max_tokens": 24, "messages": said, "extra_body": body, **more}


def test_every_api_gives_the_same_answer(
    client: OpenAI, messages: Any, llama: ollama.Client
) -> None:
    expected = ask(client).choices[0].message.content
    options = {"temperature": 0, "num_predict": 24}
    said = [{"role": "user", "content": "Hello there"}]
    fields = {"model": "words", "input": "Hello there", "temperature": 0, "max_output_tokens": 24}

    assert messages.create(**spoken()).content[0].text == expected
    with messages.stream(**spoken()) as stream:
        assert "".join(stream.text_stream) == expected
    assert client.responses.create(**fields).output_text == expected
    events = client.responses.create(**fields, stream=True)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == expected
    assert llama.chat("words", said, options=options).message.content == expected
    parts = llama.generate("words", "Hello there", options=options, stream=True)
    assert "".join(part.response for part in parts) == expected


def test_every_api_calls_the_tool_that_must_be_called(client: OpenAI, messages: Any) -> None:
    asked = spoken(
        max_tokens=200,
        temperature=1,
        tools=[{"name": "book", "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": "book"},
    )
    answer = messages.create(**asked)
    with messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for one in (answer, streamed):
        (call,) = one.content
        assert (one.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "book")
        validate(call.input, SCHEMA)

    response = client.responses.create(
        model="words",
        input="Hello there",
        max_output_tokens=200,
        tools=[{"type": "function", "name": "book", "parameters": SCHEMA, "strict": True}],
        tool_choice={"type": "function", "name": "book"},
    )
    (made,) = response.output
    assert (made.type, made.name) == ("function_call", "book")
    validate(json.loads(made.arguments), SCHEMA)


def test_a_schema_holds_in_every_api(client: OpenAI, messages: Any, llama: ollama.Client) -> None:
    schema = {"type": "json_schema", "schema": SCHEMA}
    answer = messages.create(**spoken(max_tokens=200, output_config={"format": schema}))
    validate(json.loads(answer.content[0].text), SCHEMA)
    response = client.responses.create(
        model="words", input="Hello", text={"format": {**schema, "name": "stay"}}
    )
    validate(json.loads(response.output_text), SCHEMA)
    said = [{"role": "user", "content": "Hello"}]
    told = llama.chat("words", said, format=SCHEMA, options={"num_predict": 200})
    validate(json.loads(told.message.content), SCHEMA)


def test_images_are_seen_through_every_api(
    client: OpenAI, messages: Any, llama: ollama.Client
) -> None:
    red = png("red", 48)
    words = {"type": "text", "text": "What is it?"}
    expected = ask(client, [picture("red"), words], model="eyes", max_tokens=4)
    source = {"type": "base64", "media_type": "image/png", "data": red}
    shown = [{"type": "image", "source": source}, words]
    response = client.responses.create(
        model="eyes",
        temperature=0,
        max_output_tokens=4,
        input=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "input_image",
                        "detail": "auto",
                        "image_url": f"data:image/png;base64,{red}",
                    },
                    {"type": "input_text", "text": "What is it?"},
                ],
            }
        ],
    )
    answer = messages.create(**spoken(shown, model="eyes", max_tokens=4))

    text = expected.choices[0].message.content
    assert response.output_text == text
    assert "".join(block.text for block in answer.content) == text
    said = [{"role": "user", "content": "What?", "images": [base64.b64decode(red)]}]
    assert llama.chat("eyes", said, options={"num_predict": 4}).eval_count == 4

    with pytest.raises(anthropic.BadRequestError, match="cannot see images"):
        messages.create(**spoken(shown))
    with pytest.raises(ollama.ResponseError, match="cannot see images"):
        llama.chat("words", said)


def test_what_does_not_fit_is_refused_in_each_clients_words(
    client: OpenAI, messages: Any, llama: ollama.Client
) -> None:
    with pytest.raises(anthropic.BadRequestError, match="`max_tokens`"):
        messages.create(**spoken(max_tokens=5000))
    with pytest.raises(openai.BadRequestError, match="`max_output_tokens`"):
        client.responses.create(model="words", input="x", max_output_tokens=5000)
    with pytest.raises(ollama.ResponseError, match=r"`options\.num_predict`"):
        llama.generate("words", "x", options={"num_predict": 5000})
