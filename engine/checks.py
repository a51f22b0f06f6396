"""Whether an engine can do what a request asks; pure, and settled before anything is accepted.

What an engine lacks is refused by the name that the caller used: never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from capyra.engine.errors import ContextTooLong, InvalidValue, Unsupported
from capyra.engine.types import (
    Capabilities,
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    ImagePart,
    Limits,
    Prompt,
    Sampling,
    TextPrompt,
    TokenPrompt,
)

_ALWAYS = frozenset({"max_tokens"})
"""Without it no answer would be bounded: every engine has it."""
_SAMPLING, _LIMITS = Sampling(), Limits()


def check(request: GenerateRequest, capabilities: Capabilities) -> None:
    """`Unsupported` for what the engine lacks, `InvalidValue` for a value that only it can judge.

    `param` is the parameter's name in the API.
    """
    check_prompt(request.prompt, capabilities)
    _check_parameters(request, capabilities)
    _check_logprobs(request, capabilities)
    if request.format.kind not in capabilities.formats:
        raise Unsupported(
            f"this expert's engine cannot write {request.format.kind!r}: it offers "
            f"{_names(capabilities.formats)}",
            param="response_format",
        )
    if request.adapter is not None and request.adapter not in capabilities.adapters:
        raise Unsupported(
            f"this expert has no adapter {request.adapter!r}: it has "
            f"{_names(capabilities.adapters)}",
            param="adapter",
        )
    for place, stop in enumerate(request.limits.stop):
        if not stop:
            raise InvalidValue("a stop string is empty", param=f"stop[{place}]")


def check_prompt(prompt: Prompt, capabilities: Capabilities) -> None:
    """The prompt alone, for those who only render, score or prefill."""
    if isinstance(prompt, ChatPrompt):
        _check_tools(prompt, capabilities)
        if not capabilities.images and (where := next(_images(prompt), None)):
            raise Unsupported("this expert cannot see images", param=where)
    elif isinstance(prompt, TextPrompt):
        if prompt.suffix is not None and not capabilities.suffix:
            raise Unsupported("this expert cannot fill a gap before a suffix", param="suffix")
    else:
        _check_ids(prompt.token_ids, capabilities, "prompt")


def check_embed(request: EmbedRequest, capabilities: Capabilities) -> None:
    if not capabilities.embeddings:
        raise Unsupported("this expert makes no embeddings", param="model")
    for place, item in enumerate(request.inputs):
        if isinstance(item, TokenPrompt):
            _check_ids(item.token_ids, capabilities, f"input[{place}]")


def check_context(prompt_tokens: int, limits: Limits, context: int) -> int:
    """How many tokens an answer may have at most; `ContextTooLong` if it does not fit."""
    room = context - prompt_tokens
    if limits.max_tokens is None:
        if room > 0:
            return room
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens, the context {context}, which leaves "
            f"{max(room, 0)} for an answer: send a shorter prompt",
            param="messages",
        )
    if limits.max_tokens > room:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and the answer may have {limits.max_tokens}, "
            f"but the context is {context}: send a shorter prompt or a smaller `max_tokens`",
            param="max_tokens" if room > 0 else "messages",
        )
    return limits.max_tokens


def _check_parameters(request: GenerateRequest, capabilities: Capabilities) -> None:
    offered = capabilities.parameters | _ALWAYS
    for name in (*_wanted(request.sampling, _SAMPLING), *_wanted(request.limits, _LIMITS)):
        if name not in offered:
            raise Unsupported(f"this expert's engine has no `{name}`", param=name)
    _check_ids(request.sampling.logit_bias, capabilities, "logit_bias")
    _check_ids(request.limits.stop_token_ids, capabilities, "stop_token_ids")


def _wanted(value: Sampling | Limits, default: Sampling | Limits) -> Iterator[str]:
    if value == default:
        return
    for each in fields(value):
        if getattr(value, each.name) != getattr(default, each.name):
            yield each.name


def _check_logprobs(request: GenerateRequest, capabilities: Capabilities) -> None:
    if request.prompt_logprobs is not None and not capabilities.prompt_logprobs:
        raise Unsupported(
            "this expert's engine has no log-probabilities of prompts", param="prompt_logprobs"
        )
    for name, count in (
        ("logprobs", request.logprobs),
        ("prompt_logprobs", request.prompt_logprobs),
    ):
        if count is None:
            continue
        if capabilities.logprobs < 0:
            raise Unsupported("this expert's engine has no log-probabilities", param=name)
        if count > capabilities.logprobs:
            raise InvalidValue(
                f"{count} alternatives were asked for: this expert's engine lists at most "
                f"{capabilities.logprobs}",
                param="top_logprobs" if name == "logprobs" else name,
            )


def _check_tools(prompt: ChatPrompt, capabilities: Capabilities) -> None:
    choice = prompt.tool_choice
    if prompt.tools and not capabilities.tools:
        raise Unsupported("this expert cannot call tools", param="tools")
    if choice.mode in ("required", "named") and not prompt.tools:
        raise InvalidValue(f"`tool_choice` is {choice.mode}, but no tools are given", param="tools")
    if choice.mode == "named" and all(tool.name != choice.name for tool in prompt.tools):
        raise InvalidValue(
            f"`tool_choice` names {choice.name!r}: the tools are "
            f"{_names(tool.name for tool in prompt.tools)}",
            param="tool_choice",
        )


def _check_ids(ids: Iterable[int], capabilities: Capabilities, param: str) -> None:
    size = capabilities.vocabulary
    if not size:
        return
    for token in ids:
        if not 0 <= token < size:
            raise InvalidValue(
                f"{token} is no token id of this expert: they go from 0 to {size - 1}", param=param
            )


def _images(prompt: ChatPrompt) -> Iterator[str]:
    """Where the conversation's images are."""
    for place, message in enumerate(prompt.messages):
        for part_place, part in enumerate(message.parts):
            if isinstance(part, ImagePart):
                yield f"messages[{place}].content[{part_place}]"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
