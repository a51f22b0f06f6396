"""Embeddings and tokens."""

from __future__ import annotations

import base64
import struct

import pytest

from capyra.engine.types import TextPrompt, TokenPrompt

PATH = "/v1/embeddings"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", (TextPrompt("a"),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2], (TokenPrompt((1, 2)),)),
        ([[1], [2]], (TokenPrompt((1,)), TokenPrompt((2,)))),
    ],
)
async def test_embeddings(client, given, expected):
    response = await client.post(PATH, {"model": "echo", "input": given, "user": "me"})

    assert client.experts.asked[0].inputs == expected
    reply = response.json
    assert [one["embedding"] for one in reply["data"]] == [
        [float(at), 0.5] for at in range(len(expected))
    ]
    assert reply["usage"] == {"prompt_tokens": len(expected), "total_tokens": len(expected)}


async def test_embeddings_as_base64(client):
    body = {"model": "echo", "input": ["a", "b"], "encoding_format": "base64"}

    reply = (await client.post(PATH, body)).json

    assert struct.unpack("<2f", base64.b64decode(reply["data"][1]["embedding"])) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"dimensions": 2}, "unsupported"), ({"input": ["a"] * 3}, "invalid_value")],
)
async def test_embeddings_that_cannot_be(client_of, fields, code):
    client = client_of(prompts=2)

    response = await client.post(PATH, {"model": "echo", "input": "a"} | fields)

    assert response.status == 400
    assert response.error["code"] == code


async def test_tokens_of_text_and_of_a_conversation(client):
    text = await client.post("/tokenize", {"model": "echo", "prompt": "ab"})
    chat = await client.post(
        "/tokenize", {"model": "echo", "messages": [{"role": "user", "content": "a"}]}
    )

    assert text.json == {"count": 2, "max_model_len": 4096, "tokens": [97, 98], "text": "ab"}
    assert chat.json["text"] == "<user>a"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "a", "messages": [{"role": "user", "content": "a"}]},
        {"prompt": "a", "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
async def test_tokens_of_what(client, fields):
    assert (await client.post("/tokenize", {"model": "echo"} | fields)).status == 400


async def test_text_of_tokens(client):
    response = await client.post("/detokenize", {"model": "echo", "tokens": [97, 98]})

    assert response.json == {"prompt": "ab"}
