"""The official `openai` client on the native engine, behind a real server. The models are random:
what they say means nothing, but how they say it must be right."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from jsonschema import validate
from openai import OpenAI
from PIL import Image

from serving import start
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
def client() -> Iterator[OpenAI]:
    with tempfile.TemporaryDirectory() as folder:
        words = tiny_model(Path(folder) / "words", template="{# tools #}" + TEMPLATE)
        eyes = tiny_seer(Path(folder) / "eyes")
        server = start(EXPERTS.format(words=words, eyes=eyes))
        try:
            with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
                yield made
        finally:
            left = server.stop()
            shutil.rmtree(server.directory, ignore_errors=True)
        assert not left, left


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
    made = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(made, "PNG")
    data = base64.b64encode(made.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


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
