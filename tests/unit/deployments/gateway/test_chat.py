"""`POST /v1/chat/completions`, whole and as a stream."""

from __future__ import annotations

from capyra.engine.types import ChatPrompt, Message, TextPart


async def test_a_whole_answer(client):
    response = await client.chat()

    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-capyra-expert"] == "echo"
    assert response.headers["x-capyra-route"] == "named"
    assert "prefill;dur=250.0" in response.headers["server-timing"]
    reply = response.json
    assert reply.pop("id").startswith("chatcmpl-")
    assert reply == {
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "echo",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }
    assert client.experts.asked[0].prompt == ChatPrompt((Message("user", (TextPart("Hi"),)),))
    assert client.experts.open == 0


async def test_a_stream(client):
    response = await client.chat(stream=True)

    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, end = response.events
    assert end == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_ends_a_stream_that_asks_for_it(client):
    response = await client.chat(stream=True, stream_options={"include_usage": True})

    *chunks, last, _ = response.events
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 9
