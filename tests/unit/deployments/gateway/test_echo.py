"""The gateway over a real engine: what one says, the other must understand."""

from __future__ import annotations

import pytest

from capyra.deployments.experts import ExpertView
from capyra.deployments.gateway.app import build
from capyra.deployments.gateway.keys import Keys
from capyra.deployments.gateway.meters import PrometheusMeters
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.checks import check, check_embed
from capyra.engine.config import ExpertConfig
from capyra.engine.registry import EngineSpec, create
from capyra.engine.types import Accepted

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}


class EngineExperts:
    """One expert: an engine in this process, checked as a replica checks."""

    def __init__(self) -> None:
        config = ExpertConfig(engine="echo", context=512)
        self.engine = create(EngineSpec("echo", config))
        self.view = ExpertView("echo", config, "ready", 1, (), self.engine.capabilities())

    def views(self):
        return {"echo": self.view}

    async def generate(self, expert, request, call):
        check(request, self.engine.capabilities())
        yield [Accepted(expert, "echo-0", ready=True, waiting=0)]
        async for event in self.engine.generate(request):
            yield [event]

    async def embed(self, expert, request, call):
        check_embed(request, self.engine.capabilities())
        return await self.engine.embed(request)

    async def render(self, expert, prompt):
        return self.engine.render(prompt)

    async def detokenize(self, expert, token_ids):
        return self.engine.detokenize(token_ids)


@pytest.fixture
async def echo(client):
    """The usual client, of a gateway over an engine."""
    experts = EngineExperts()
    await experts.engine.load(lambda progress: None)
    meters = PrometheusMeters()
    app = build(experts, ServerConfig(), meters, keys=Keys())
    yield type(client)(app, experts, meters)
    await experts.engine.close()


def text_of(response) -> str:
    choices = [event["choices"] for event in response.events[:-1]]
    return "".join(one[0]["delta"].get("content", "") for one in choices if one)


async def test_an_answer_is_the_same_whole_and_streamed(echo):
    fields = {"temperature": 0, "max_tokens": 40}

    whole = (await echo.chat(**fields)).json
    streamed = await echo.chat(stream=True, stream_options={"include_usage": True}, **fields)

    assert whole["choices"][0]["message"]["content"] == text_of(streamed) != ""
    last = streamed.events[-2]["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last[name] == whole["usage"][name] > 0


async def test_a_stop_string_is_seen_by_nobody(echo):
    whole = (await echo.chat(temperature=0)).json["choices"][0]["message"]["content"]
    stop = whole[1]

    response = await echo.chat(temperature=0, stop=stop, stream=True)

    assert text_of(response) == whole[:1]


async def test_a_seed_repeats_an_answer(echo):
    fields = {"seed": 5, "temperature": 1.5, "n": 2, "max_tokens": 20}

    first, second = [(await echo.chat(**fields)).json["choices"] for _ in range(2)]

    assert [one["index"] for one in first] == [0, 1]
    assert first == second


async def test_logprobs(echo):
    choice = (await echo.chat(logprobs=True, top_logprobs=2, max_tokens=3, temperature=0)).json[
        "choices"
    ][0]

    tokens = choice["logprobs"]["content"]
    assert len(tokens) == 3
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)


async def test_a_tool_call(echo):
    fields = {"tools": [TOOL], "tool_choice": "required", "temperature": 0}

    choice = (await echo.chat(**fields)).json["choices"][0]
    streamed = (await echo.chat(stream=True, **fields)).events

    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]["function"]
    assert call["name"] == "look_up"
    pieces = [
        piece["function"]["arguments"]
        for event in streamed[:-1]
        for piece in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert "".join(pieces) == call["arguments"]


async def test_a_prompt_that_is_too_long(echo):
    response = await echo.chat(messages=[{"role": "user", "content": "x" * 600}], stream=True)

    assert response.status == 400
    assert response.error["code"] == "context_length_exceeded"


async def test_what_the_engine_lacks_is_refused_by_name(echo):
    response = await echo.chat(response_format={"type": "json_object"}, stream=True)

    assert response.status == 400
    assert response.error["code"] == "unsupported"
    assert response.error["param"] == "response_format"


async def test_tokens_go_there_and_back(echo):
    tokens = (await echo.post("/tokenize", {"model": "echo", "prompt": "Grüße"})).json["tokens"]

    back = await echo.post("/detokenize", {"model": "echo", "tokens": tokens})

    assert "Grüße" in back.json["prompt"]


async def test_embeddings(echo):
    reply = (await echo.post("/v1/embeddings", {"model": "echo", "input": ["a", "b", "a"]})).json

    first, second, third = [one["embedding"] for one in reply["data"]]
    assert first == third != second


async def test_a_client_that_leaves_stops_the_engine(echo):
    fields = {"ignore_eos": True, "stream": True}

    async with echo.open_chat(**fields) as (response, leave):
        await response.until(lambda it: len(it.messages) > 1)
        leave.set()

    assert not response.complete
    assert echo.experts.engine.stats().running == 0
