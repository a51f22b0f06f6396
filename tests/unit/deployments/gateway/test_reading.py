"""Bad bodies: each gets one sentence that says what is wrong where, and nothing is left over."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capyra.deployments.gateway.chat import ChatBody
from capyra.deployments.gateway.completions import CompletionBody
from capyra.deployments.gateway.embeddings import EmbeddingBody
from capyra.deployments.gateway.reading import parse
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.gateway.tokens import DetokenizeBody, TokenizeBody
from capyra.engine.config import SamplingDefaults
from capyra.engine.errors import InvalidValue, RequestError, TooLarge, Unsupported

SAID = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
CHAT = "/v1/chat/completions"


def chat(**fields):
    return json.dumps(SAID | fields).encode()


def raw(fields: str) -> bytes:
    return b'{"model":"echo","messages":[{"role":"user","content":"x"}],' + fields.encode() + b"}"


WRONG = [
    (b"", None, "the body is no JSON: EOF"),
    (b"{", None, "the body is no JSON: EOF"),
    (b"[]", None, "the body must be a JSON object"),
    (b"\xff\xfe", None, "the body is no JSON"),
    (b"[" * 100_000, None, "recursion limit"),
    (b'{"a":' * 100_000, None, "recursion limit"),
    (raw(r'"user":"\ud800"'), None, "the body is no JSON"),
    (raw('"user":"\x00"'), None, "control character"),
    (raw(r'"user":"a\u0000b"'), "user", "user holds a NUL character"),
    (raw(r'"metadata":{"a\u0000":"b"}'), "metadata", "NUL"),
    (raw('"temperature":NaN'), "temperature", "finite"),
    (raw('"temperature":1e999'), "temperature", "finite"),
    (raw('"seed":' + "9" * 5000), None, "number out of range"),
    (chat(seed=10**400), "seed", "less than"),
    (chat(max_tokens=10**30), "max_tokens", "less than or equal"),
    (chat(max_tokens=16.5), "max_tokens", "valid integer"),
    (chat(n=True), "n", "valid integer"),
    (chat(stream=1), "stream", "valid boolean"),
    (chat(temperature="0.5"), "temperature", 'valid number; got "0.5"'),
    (chat(model=None), "model", "valid string"),
    (chat(messages=[]), "messages", "at least 1 item"),
    (chat(messages="hi"), "messages", "valid array"),
    (chat(messages=[5]), "messages[0]", "object"),
    (chat(messages=[{"role": "user"}]), "messages[0].content", "messages[0].content is missing"),
    (chat(messages=[{"content": "x"}]), "messages[0].role", "messages[0].role is missing"),
    (
        chat(messages=[{"role": "usr", "content": "x"}]),
        "messages[0].role",
        "should be one of 'system', 'developer', 'user', 'assistant', 'tool'; got \"usr\"",
    ),
    (
        chat(messages=[{"role": "user", "content": [{"type": "text", "txt": "a"}]}]),
        "messages[0].content[0].text",
        "is missing",
    ),
    (
        chat(
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]
        ),
        "messages[0].content[0].image_url.url",
        "valid string; got 5",
    ),
    (chat(stop=["a"] * 17), "stop", "at most 16 items"),
    (chat(stop=""), "stop", "at least 1 character; got"),
    (chat(logit_bias={"x": 1}), "logit_bias.x", "pattern"),
    (chat(keep_alive="5 parsecs"), "keep_alive", "no duration"),
    (chat(keep_alive=-3), "keep_alive", "no keep-alive"),
    (chat(timeout=0), "timeout", "greater than 0"),
    (chat(tempersture=1), "tempersture", "did you mean temperature?"),
    (chat(**{f"k{at}": 1 for at in range(1000)}), None, "1000 mistakes"),
    (chat(response_format={"type": "xml"}), "response_format.type", "should be one of"),
    (
        chat(response_format={"type": "json_schema"}),
        "response_format.json_schema",
        "response_format.json_schema is missing",
    ),
]


@pytest.mark.parametrize(("data", "param", "said"), WRONG)
def test_what_is_wrong_is_told_with_its_place(data, param, said):
    with pytest.raises(InvalidValue) as told:
        parse(ChatBody, data)

    assert told.value.param == param
    assert said in told.value.message
    assert len(told.value.message) < 400


def test_a_whole_number_may_be_written_with_a_point():
    body = parse(ChatBody, chat(max_tokens=16.0, temperature=1.5, top_k=2))

    assert (body.max_tokens, body.temperature, body.top_k) == (16, 1.5, 2)


def test_well_known_fields_that_nobody_honours_are_refused_by_name():
    with pytest.raises(Unsupported, match="functions is not supported: use tools"):
        parse(ChatBody, chat(functions=[]))


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({"model": "m", "messages": SAID["messages"] * 200_000}).encode(),
        b"[" + b"5," * 3_000_000 + b"5]",
    ],
    ids=["objects", "numbers"],
)
def test_a_body_of_countless_values_is_not_even_read(data):
    with pytest.raises(TooLarge, match="too many values"):
        parse(ChatBody, data)


async def test_too_many_messages(client_of):
    response = await client_of(messages=2).chat(messages=SAID["messages"] * 3)

    assert response.status == 400
    assert response.error["param"] == "messages"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/x"])
async def test_a_body_that_says_it_is_no_json(client, kind):
    response = await client.post(CHAT, SAID, {"content-type": kind})

    assert response.status == 415
    assert f"not {kind}" in response.error["message"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/x+json", ""])
async def test_a_body_that_may_be_json(client, kind):
    assert (await client.post(CHAT, SAID, {"content-type": kind})).status == 200


async def test_a_long_body_is_refused_before_it_is_read(client_of):
    client = client_of(body={"max": 100})
    headers = {"content-length": "101"}

    async with client.open("POST", CHAT, (), headers, endless=True) as (response, _):
        await response.until(lambda it: it.complete)

    assert response.status == 413
    assert response.headers["connection"] == "close"


async def test_a_body_that_grows_too_long_is_refused_there(client_of):
    client = client_of(body={"max": 100})

    async with client.open("POST", CHAT, [b" " * 60] * 9, endless=True) as (response, _):
        await response.until(lambda it: it.complete)

    assert response.status == 413


@pytest.mark.parametrize("declared", ["60", "-1", "1e3", "x"])
async def test_what_all_bodies_hold_is_bounded_and_given_back(client_of, declared):
    client = client_of(body={"memory": 100})
    headers = {"content-length": declared}

    async with client.open("POST", CHAT, [b" " * 60], headers, endless=True) as (_, leave):
        for _ in range(3):
            refused = await client.post(CHAT, b" " * 60)
            assert refused.status == 429
        leave.set()

    assert (await client.post(CHAT, b" " * 60)).status == 400
    assert client.app.in_flight == 0


async def test_a_slow_body_has_its_time(client_of):
    client = client_of(body={"timeout": 0.01})

    async with client.open("POST", CHAT, [b"{"] * 3, endless=True) as (response, _):
        await response.until(lambda it: it.complete)

    assert response.status == 408
    assert response.error["code"] == "request_timeout"
    assert response.headers["connection"] == "close"


async def test_a_body_in_pieces(client):
    data = json.dumps(SAID).encode()
    parts = [data[at : at + 7] for at in range(0, len(data), 7)]

    async with client.open("POST", CHAT, parts) as (response, _):
        pass

    assert response.status == 200


async def test_a_client_that_leaves_within_its_body(client):
    async with client.open("POST", CHAT, [b"{"], endless=True) as (response, leave):
        leave.set()

    assert response.messages == []
    assert client.app.in_flight == 0


# --- anything at all ------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
BODIES = {
    CHAT: ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/embeddings": EmbeddingBody,
    "/tokenize": TokenizeBody,
    "/detokenize": DetokenizeBody,
}
GOOD = {
    CHAT: SAID,
    "/v1/completions": {"model": "echo", "prompt": "x"},
    "/v1/embeddings": {"model": "echo", "input": "x"},
    "/tokenize": {"model": "echo", "prompt": "x"},
    "/detokenize": {"model": "echo", "tokens": [1]},
}


def understood(kind, data: bytes) -> None:
    """Everything that happens to a body before an expert is asked."""
    body = parse(kind, data)
    defaults = {"id_": "i", "salt": "", "seconds": 1.0}
    match body:
        case ChatBody():
            body.request(**defaults, defaults=SamplingDefaults(), config=ServerConfig())
        case CompletionBody():
            body.requests(**defaults, defaults=SamplingDefaults(), most=4)
        case EmbeddingBody():
            body.request(**defaults, most=4)
        case TokenizeBody():
            body.rendered(ServerConfig())


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(sorted(BODIES)), data=st.binary(max_size=64))
def test_any_bytes_are_understood_or_refused(path, data):
    with suppress(RequestError):
        understood(BODIES[path], data)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_value_of_any_field_is_understood_or_refused(data):
    path = data.draw(st.sampled_from(sorted(BODIES)))
    kind = BODIES[path]
    names = [field.alias or name for name, field in kind.model_fields.items()]
    field = data.draw(st.sampled_from(names) | st.text(max_size=8))
    body = json.dumps(GOOD[path] | {field: data.draw(JSON)}).encode()
    with suppress(RequestError):
        understood(kind, body)


PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "refusal", "x"])},
        optional={"text": JSON, "image_url": JSON, "refusal": JSON},
    ),
    max_size=3,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer"])},
    optional={
        "content": st.text(max_size=8) | st.none() | PARTS | JSON,
        "name": st.text(max_size=8) | JSON,
        "tool_calls": JSON,
        "tool_call_id": st.text(max_size=8) | JSON,
        "refusal": JSON,
    },
)


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(MESSAGE, max_size=3))
def test_any_conversation_is_understood_or_refused(messages):
    with suppress(RequestError):
        understood(ChatBody, json.dumps({"model": "echo", "messages": messages}).encode())
