from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from capyra.engine.checks import check, check_context, check_embed
from capyra.engine.errors import ContextTooLong, InvalidValue, RequestError, Unsupported
from capyra.engine.types import (
    Capabilities,
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    ImagePart,
    Limits,
    Message,
    OutputFormat,
    Sampling,
    TextPart,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolChoice,
)

NOTHING = Capabilities(context=100, max_batch=1)
EVERYTHING = Capabilities(
    context=100,
    max_batch=1,
    vocabulary=10,
    images=True,
    tools=True,
    formats=frozenset({"text", "json_schema"}),
    logprobs=5,
    prompt_logprobs=True,
    embeddings=True,
    suffix=True,
    adapters=frozenset({"poet"}),
    parameters=frozenset(each.name for each in (*fields(Sampling), *fields(Limits))),
)
NO_LOGPROBS = replace(NOTHING, logprobs=-1)
HELLO = (Message("user", (TextPart("Hello"),)),)
PICTURE = (*HELLO, Message("user", (TextPart("See"), ImagePart(b"", "image/png"))))
TOOLS = (Tool("add"), Tool("look_up"))


def asked(**values: Any) -> GenerateRequest:
    return GenerateRequest(**{"id": "r", "prompt": TextPrompt("Hello"), **values})


LACKING: list[tuple[str, GenerateRequest]] = [
    *(
        (name, asked(sampling=Sampling(**{name: value})))
        for name, value in {
            "temperature": 0.0,
            "top_p": 0.9,
            "top_k": 1,
            "min_p": 0.1,
            "presence_penalty": 1,
            "frequency_penalty": 1,
            "repetition_penalty": 1.1,
            "logit_bias": {1: 1},
            "seed": 0,
        }.items()
    ),
    *(
        (name, asked(limits=Limits(**{name: value})))
        for name, value in {
            "min_tokens": 1,
            "stop": ("x",),
            "stop_token_ids": (1,),
            "ignore_eos": True,
            "include_stop": True,
        }.items()
    ),
    ("prompt_logprobs", asked(prompt_logprobs=0)),
    ("response_format", asked(format=OutputFormat("json_schema", "{}"))),
    ("suffix", asked(prompt=TextPrompt("a", "b"))),
    ("tools", asked(prompt=ChatPrompt(HELLO, tools=TOOLS))),
    ("messages[1].content[1]", asked(prompt=ChatPrompt(PICTURE))),
    ("adapter", asked(adapter="poet")),
]


@pytest.mark.parametrize(("param", "request_"), LACKING, ids=[param for param, _ in LACKING])
def test_what_an_engine_lacks_is_refused_by_name(param: str, request_: GenerateRequest) -> None:
    with pytest.raises(Unsupported) as refused:
        check(request_, NOTHING)
    assert refused.value.param == param
    check(request_, EVERYTHING)


def test_a_plain_request_asks_for_nothing_special() -> None:
    check(asked(limits=Limits(max_tokens=5)), NOTHING)
    check(asked(prompt=ChatPrompt(HELLO), n=3, echo=True), NOTHING)


@pytest.mark.parametrize(
    ("error", "param", "values", "capabilities"),
    [
        (Unsupported, "logprobs", {"logprobs": 0}, NO_LOGPROBS),
        (InvalidValue, "top_logprobs", {"logprobs": 6}, EVERYTHING),
        (InvalidValue, "prompt_logprobs", {"prompt_logprobs": 6}, EVERYTHING),
        (InvalidValue, "logit_bias", {"sampling": Sampling(logit_bias={10: 1})}, EVERYTHING),
        (InvalidValue, "stop_token_ids", {"limits": Limits(stop_token_ids=(-1,))}, EVERYTHING),
        (InvalidValue, "prompt", {"prompt": TokenPrompt((0, 10))}, EVERYTHING),
        (InvalidValue, "stop[1]", {"limits": Limits(stop=("a", ""))}, EVERYTHING),
        (Unsupported, "adapter", {"adapter": "painter"}, EVERYTHING),
        (
            InvalidValue,
            "tools",
            {"prompt": ChatPrompt(HELLO, tool_choice=ToolChoice("required"))},
            EVERYTHING,
        ),
        (
            InvalidValue,
            "tool_choice",
            {"prompt": ChatPrompt(HELLO, TOOLS, ToolChoice("named", "subtract"))},
            EVERYTHING,
        ),
    ],
)
def test_values_are_judged(
    error: type[RequestError], param: str, values: dict[str, Any], capabilities: Capabilities
) -> None:
    with pytest.raises(error) as refused:
        check(asked(**values), capabilities)
    assert refused.value.param == param


def test_without_a_known_vocabulary_ids_are_the_engines_business() -> None:
    check(asked(prompt=TokenPrompt((10**9,))), NOTHING)


def test_embeddings() -> None:
    request = EmbedRequest(id="e", inputs=(TextPrompt("a"), TokenPrompt((3, 11))))
    with pytest.raises(Unsupported, match="no embeddings"):
        check_embed(request, NOTHING)
    with pytest.raises(InvalidValue) as refused:
        check_embed(request, EVERYTHING)
    assert refused.value.param == "input[1]"


@pytest.mark.parametrize(
    ("prompt", "wanted", "granted"), [(10, 90, 90), (10, 0, 0), (100, 0, 0), (99, None, 1)]
)
def test_what_fits_the_context(prompt: int, wanted: int | None, granted: int) -> None:
    assert check_context(prompt, Limits(max_tokens=wanted), 100) == granted


@pytest.mark.parametrize(
    ("prompt", "wanted", "param", "numbers"),
    [
        (10, 91, "max_tokens", ("10", "91", "100")),
        (100, 1, "messages", ("100", "1", "100")),
        (100, None, "messages", ("100", "100", "0")),
        (250, None, "messages", ("250", "100", "0")),
    ],
)
def test_what_does_not_fit_is_said_in_numbers(
    prompt: int, wanted: int | None, param: str, numbers: tuple[str, ...]
) -> None:
    with pytest.raises(ContextTooLong) as refused:
        check_context(prompt, Limits(max_tokens=wanted), 100)
    assert refused.value.param == param
    assert all(number in refused.value.message for number in numbers)
