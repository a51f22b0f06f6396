"""What an expert is asked, for what a client says."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import pytest
from PIL import Image

from capyra.deployments.experts import Call
from capyra.engine.config import ExpertConfig
from capyra.engine.types import (
    ChatPrompt,
    ImagePart,
    Limits,
    Message,
    OutputFormat,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def asked(client, **fields):
    response = await client.chat(**fields)
    assert response.status == 200, response.body
    return client.experts.asked[-1]


async def refused(client, **fields):
    response = await client.chat(**fields)
    assert response.status == 400, response.body
    assert client.experts.asked == []
    return response.error


def image(kind="PNG", size=(2, 2)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind)
    return out.getvalue()


def pictures(*urls):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": parts}]


def data_url(data: bytes, claim="image/png") -> str:
    return f"data:{claim};base64,{base64.b64encode(data).decode()}"


async def test_a_silent_request_takes_the_experts_own_settings(client):
    config = ExpertConfig(engine="echo", sampling={"temperature": 0.3, "top_k": 5, "max_tokens": 9})
    client.experts.known["echo"] = replace(client.experts.known["echo"], config=config)

    silent = await asked(client)
    loud = await asked(client, temperature=0, top_k=-1, max_tokens=3, n=None, stop=None)

    assert silent.sampling == Sampling(temperature=0.3, top_k=5)
    assert silent.limits == Limits(max_tokens=9)
    assert loud.sampling == Sampling(temperature=0)
    assert loud.limits == Limits(max_tokens=3)


async def test_every_parameter_reaches_the_expert(client):
    request = await asked(
        client,
        n=2,
        stop="x",
        seed=-1,
        temperature=0.1,
        top_p=0.2,
        top_k=3,
        min_p=0.4,
        presence_penalty=0.5,
        frequency_penalty=-0.6,
        repetition_penalty=1.7,
        logit_bias={"8": 9, "10": -1.5},
        logprobs=True,
        top_logprobs=4,
        max_completion_tokens=11,
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=[12],
        include_stop_str_in_output=True,
        priority=5,
        cache_salt="me",
        timeout=13,
    )

    assert request.n == 2
    assert request.sampling == Sampling(
        temperature=0.1,
        top_p=0.2,
        top_k=3,
        min_p=0.4,
        presence_penalty=0.5,
        frequency_penalty=-0.6,
        repetition_penalty=1.7,
        logit_bias={8: 9.0, 10: -1.5},
        seed=2**63 - 1,
    )
    assert request.limits == Limits(
        max_tokens=11,
        min_tokens=2,
        stop=("x",),
        stop_token_ids=(12,),
        ignore_eos=True,
        include_stop=True,
    )
    assert (request.logprobs, request.priority) == (4, 5)
    assert request.cache_salt.endswith("me")
    assert 12 < request.deadline_s <= 13


async def test_how_a_request_is_handled(client):
    await client.post(
        "/v1/chat/completions",
        {
            "model": "echo",
            "messages": [{"role": "user", "content": "x"}],
            "keep_alive": "1h30m",
        },
        {"traceparent": "00-abc-def-01", "x-request-id": "mine"},
    )
    await asked(client, keep_alive=-1)

    first, second = client.experts.calls
    assert first == Call(5400.0, {"traceparent": "00-abc-def-01"}, "mine")
    assert second == Call(-1.0, {}, client.experts.asked[-1].id)


async def test_the_shortest_deadline_counts(client_of):
    client = client_of(deadline={"default": 50, "max": 60})
    config = ExpertConfig(engine="echo", queue={"deadline": 20})
    client.experts.known["echo"] = replace(client.experts.known["echo"], config=config)

    assert (await asked(client, model="other")).deadline_s == pytest.approx(50, abs=1)
    assert (await asked(client, model="other", timeout=1e6)).deadline_s == pytest.approx(60, abs=1)
    assert (await asked(client, timeout=1e6)).deadline_s == pytest.approx(20, abs=1)


async def test_a_conversation(client):
    request = await asked(
        client,
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "bob"},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "audio": None,
                "function_call": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
            },
            {"role": "tool", "content": "5", "tool_call_id": "c"},
        ],
        tools=[TOOL],
    )

    assert request.prompt == ChatPrompt(
        (
            Message("system", (TextPart("be kind"),)),
            Message("user", (TextPart("a"),), "bob"),
            Message("assistant", (), None, (ToolCall("c", "f", "{"),)),
            Message("tool", (TextPart("5"),), tool_call_id="c"),
        ),
        (Tool("f", "", {"type": "object"}),),
    )


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
    ],
)
async def test_tool_choice(client, choice, expected):
    request = await asked(client, tools=[TOOL], tool_choice=choice)

    assert request.prompt.tool_choice == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
        ),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"max_tokens": 1, "min_tokens": 2}, "min_tokens"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True}, "messages"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"structured_outputs": {"json": "[1]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
        ),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    ],
)
async def test_what_makes_no_sense_together(client, fields, param):
    assert (await refused(client, **fields))["param"] == param


async def test_one_call_at_a_time_is_what_a_named_function_means(client):
    named = {"type": "function", "function": {"name": "f"}}

    await asked(client, tools=[TOOL], tool_choice=named, parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, OutputFormat()),
        ({"response_format": {"type": "json_object"}}, OutputFormat("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
                }
            },
            OutputFormat("json_schema", '{"type":"object"}'),
        ),
        ({"structured_outputs": {"json": {"a": 1}}}, OutputFormat("json_schema", '{"a":1}')),
        ({"structured_outputs": {"json": '{"a": 1}'}}, OutputFormat("json_schema", '{"a": 1}')),
        ({"structured_outputs": {"json_object": True}}, OutputFormat("json_object")),
        ({"structured_outputs": {"regex": "a+"}}, OutputFormat("regex", "a+")),
        ({"structured_outputs": {"grammar": "g"}}, OutputFormat("grammar", "g")),
        (
            {"structured_outputs": {"choice": ["a-b", "c.d(e)"]}},
            OutputFormat("regex", r"a-b|c\.d\(e\)"),
        ),
    ],
)
async def test_the_shape_of_an_answer(client, fields, expected):
    assert (await asked(client, **fields)).format == expected


async def test_a_continued_answer(client):
    request = await asked(
        client,
        messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "It"}],
        continue_final_message=True,
        add_generation_prompt=False,
    )

    assert request.prompt.continue_last


async def test_numbers_out_of_range_within_a_schema(client):
    body = (
        b'{"model":"echo","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
        b'"function":{"name":"f","parameters":{"maximum":1e999}}}]}'
    )

    response = await client.post("/v1/chat/completions", body)

    assert response.status == 400
    assert response.error["param"] == "tools[0].function.parameters"


# --- images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_an_image_is_what_its_bytes_are(client, kind):
    data = image(kind)

    request = await asked(client, messages=pictures(data_url(data, "image/claimed")))

    assert request.prompt.messages[0].parts == (ImagePart(data, f"image/{kind.lower()}"),)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.org/cat.png", "remote images are not fetched"),
        ("data:image/png,abc", "is no image"),
        ("data:image/png;base64,!!!", "no valid base64"),
        ("data:image/png;base64,", "no image that can be read"),
        (data_url(b"<svg/>"), "no image that can be read"),
        (data_url(image()[:20]), "no image that can be read"),
        (data_url(image("BMP")), "no image that can be read"),
    ],
)
async def test_what_is_no_image(client, url, said):
    error = await refused(client, messages=pictures(url))

    assert error["param"] == "messages[0].content[0].image_url.url"
    assert said in error["message"]


async def test_images_have_limits(client_of):
    client = client_of(images={"count": 1, "pixels": 16})
    small, large = data_url(image()), data_url(image(size=(5, 4)))

    assert (await client.chat(messages=pictures(small))).status == 200
    assert (await client.chat(messages=pictures(small, small))).status == 413
    too_large = await client.chat(messages=pictures(large))
    assert too_large.status == 413
    assert "more than 16 pixels" in too_large.error["message"]


async def test_tenants_share_no_cache_unless_they_may(client):
    shared = ExpertConfig(engine="echo", share_cache=True)
    client.experts.known["other"] = replace(client.experts.known["other"], config=shared)

    salts = {(await asked(client, cache_salt=salt)).cache_salt for salt in ("a", "b", None)}

    assert len(salts) == 3
    assert (await asked(client, model="other")).cache_salt == ""
