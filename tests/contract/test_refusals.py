"""What cannot be done is refused by name, before anything has begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest

from capyra.engine.base import Engine
from capyra.engine.errors import (
    ContextTooLong,
    DeadlineExceeded,
    EngineFault,
    InvalidValue,
    RequestError,
    Unsupported,
)
from capyra.engine.types import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    Limits,
    OutputFormat,
    Sampling,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolChoice,
)
from engines import PROMPT, ask, chat, idle, ignore, request

Build = Callable[..., Engine]

UNUSUAL: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {0: 1.0},
    "seed": 3,
    "min_tokens": 1,
    "stop": ("never to be seen",),
    "stop_token_ids": (0,),
    "ignore_eos": True,
    "include_stop": True,
}


def test_every_parameter_has_an_unusual_value() -> None:
    names = {each.name for each in (*fields(Sampling), *fields(Limits))}
    assert names - {"max_tokens"} == UNUSUAL.keys()


@pytest.mark.parametrize("name", UNUSUAL)
async def test_a_parameter_has_an_effect_or_is_refused(engine: Engine, name: str) -> None:
    value = {name: UNUSUAL[name]}
    if name in {each.name for each in fields(Sampling)}:
        asked = request(sampling=Sampling(**value), max_tokens=2)
    else:
        asked = request(limits=value, max_tokens=2)
    if name in engine.capabilities().parameters:
        await ask(engine, asked)
        return
    await refuses(engine, asked, Unsupported, name)


async def refuses(
    engine: Engine, asked: GenerateRequest, error: type[RequestError], param: str
) -> str:
    """The engine raises that before the first event, and has forgotten the request."""
    with pytest.raises(error) as refused:
        await anext(engine.generate(asked))
    assert refused.value.param == param
    assert idle(engine)
    return refused.value.message


@pytest.mark.parametrize("kind", get_args(get_type_hints(OutputFormat)["kind"]))
async def test_formats(engine: Engine, kind: Any) -> None:
    if kind not in engine.capabilities().formats:
        await refuses(
            engine, request(format=OutputFormat(kind, "{}")), Unsupported, "response_format"
        )


async def test_what_capabilities_lack(engine: Engine) -> None:
    has = engine.capabilities()
    tools = ChatPrompt(chat(PROMPT).messages, tools=(Tool("look_up"),))
    if not has.tools:
        await refuses(engine, request(prompt=tools), Unsupported, "tools")
    if not has.suffix:
        await refuses(engine, request(prompt=TextPrompt("a", "b")), Unsupported, "suffix")
    if has.logprobs < 0:
        await refuses(engine, request(logprobs=0), Unsupported, "logprobs")
    if not has.prompt_logprobs:
        await refuses(engine, request(prompt_logprobs=0), Unsupported, "prompt_logprobs")
    if not has.embeddings:
        with pytest.raises(Unsupported):
            await engine.embed(EmbedRequest(id="e", inputs=(TextPrompt("a"),)))
    if not has.scoring:
        with pytest.raises(Unsupported):
            await engine.score(TextPrompt("a"), ["b"])
    if not has.prefill:
        with pytest.raises(Unsupported):
            await engine.prefill(TextPrompt("a"), ttl_s=1)
    await refuses(engine, request(adapter="no such one"), Unsupported, "adapter")


async def test_values_that_only_the_engine_can_judge(engine: Engine) -> None:
    has = engine.capabilities()
    if has.logprobs >= 0:
        asked = request(logprobs=has.logprobs + 1)
        assert str(has.logprobs) in await refuses(engine, asked, InvalidValue, "top_logprobs")
    assert has.vocabulary, "every engine knows its vocabulary"
    wrong = has.vocabulary
    bias = request(sampling=Sampling(logit_bias={wrong: 1.0}))
    await refuses(engine, bias, InvalidValue, "logit_bias")
    stop = request(limits={"stop_token_ids": (-1,)})
    await refuses(engine, stop, InvalidValue, "stop_token_ids")
    await refuses(engine, request(prompt=TokenPrompt((wrong,))), InvalidValue, "prompt")
    await refuses(engine, request(limits={"stop": ("",)}), InvalidValue, "stop[0]")
    named = ChatPrompt(
        chat(PROMPT).messages,
        tools=(Tool("look_up"),),
        tool_choice=ToolChoice("named", "look_down"),
    )
    if has.tools:
        await refuses(engine, request(prompt=named), InvalidValue, "tool_choice")


async def test_what_does_not_fit_the_context(build: Build) -> None:
    engine = build(context=200)
    await engine.load(ignore)
    length = len(engine.render(chat(PROMPT)).token_ids)
    asked = request(max_tokens=201 - length)
    message = await refuses(engine, asked, ContextTooLong, "max_tokens")
    for number in (length, 201 - length, 200):
        assert str(number) in message
    whole = request(max_tokens=200 - length, limits={"ignore_eos": True})
    assert (await ask(engine, whole)).usage.completion_tokens == 200 - length
    for limit in (None, 1):
        asked = request("word " * 400, max_tokens=limit)
        await refuses(engine, asked, ContextTooLong, "messages")


async def test_a_deadline_that_passes(build: Build) -> None:
    engine = build(slow=True)
    await engine.load(ignore)
    with pytest.raises(DeadlineExceeded):
        await ask(engine, request(deadline_s=0.02, max_tokens=500, limits={"ignore_eos": True}))
    assert idle(engine)
    await ask(engine, request(deadline_s=60, max_tokens=1))


async def test_nothing_works_without_weights(build: Build) -> None:
    engine = build()
    for attempt in (
        lambda: anext(engine.generate(request())),
        lambda: engine.embed(EmbedRequest(id="e", inputs=(TextPrompt("a"),))),
        lambda: engine.score(TextPrompt("a"), ["b"]),
        lambda: engine.prefill(TextPrompt("a"), ttl_s=1),
    ):
        with pytest.raises((EngineFault, Unsupported)) as refused:
            await attempt()
        assert isinstance(refused.value, EngineFault) or not engine.capabilities().embeddings


async def test_an_id_in_use_is_refused(build: Build) -> None:
    engine = build(slow=True)
    await engine.load(ignore)
    stream = engine.generate(request(limits={"ignore_eos": True}))
    await anext(stream)
    with pytest.raises(InvalidValue):
        await anext(engine.generate(request()))
    await stream.aclose()
    await ask(engine, request(max_tokens=1))
