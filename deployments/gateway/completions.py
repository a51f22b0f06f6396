"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from capyra.deployments.gateway.answers import Answer
from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.fan import PromptStarted
from capyra.deployments.gateway.fields import MOST_TOKENS, GenerationBody, Text, TokenId
from capyra.deployments.gateway.flow import EVENTS
from capyra.deployments.gateway.settings import MOST_PROMPTS
from capyra.deployments.gateway.sse import (
    DONE,
    TextLogprobs,
    compact,
    error_event,
    escape,
    usage_fields,
)
from capyra.engine.config import SamplingDefaults
from capyra.engine.errors import InvalidValue
from capyra.engine.types import (
    Delta,
    Done,
    Finished,
    GenerateRequest,
    Started,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    ToolCallDelta,
)

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, which clients of this old route count on."""

Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=2**20, fail_fast=True)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
TokenLists = Annotated[list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
Prompts = Text | Texts | Tokens | TokenLists


def prompts(given: Prompts, suffix: str | None = None) -> tuple[TextPrompt | TokenPrompt, ...]:
    """One prompt or several, as text or as tokens."""
    if isinstance(given, str):
        return (TextPrompt(given, suffix),)
    if isinstance(given[0], int):
        return (TokenPrompt(tuple(given)),)
    return tuple(
        TextPrompt(one, suffix) if isinstance(one, str) else TokenPrompt(tuple(one))
        for one in given
    )


class CompletionBody(GenerationBody):
    """What a client may say."""

    prompt: Prompts = Field(description="Text or token ids, or a list of either")
    suffix: Text | None = Field(default=None, description="What comes after the answer")
    echo: bool | None = Field(default=None, description="Begin the answer with the prompt")
    logprobs: int | None = Field(default=None, ge=0, le=20)
    max_tokens: int | None = Field(
        default=None, ge=0, le=MOST_TOKENS, description="By default the expert's own, or 16"
    )
    best_of: Literal[1] | None = Field(default=None, description="Only 1: use n")

    def requests(
        self, *, id_: str, salt: str, seconds: float, defaults: SamplingDefaults, most: int
    ) -> tuple[GenerateRequest, ...]:
        """What the engine is asked, for each prompt."""
        self.check()
        found = prompts(self.prompt, self.suffix)
        if len(found) > most:
            raise InvalidValue(
                f"there are {len(found)} prompts; {most} are the most", param="prompt"
            )
        if self.suffix is not None and isinstance(found[0], TokenPrompt):
            raise InvalidValue("suffix needs a prompt of text", param="suffix")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidValue("max_tokens 0 makes sense only with echo", param="max_tokens")
        max_tokens = self.max_tokens
        if max_tokens is None:
            max_tokens = defaults.max_tokens or DEFAULT_MAX_TOKENS
        sampling, limits, wanted = self.sampling(defaults), self.limits(max_tokens), self.format()
        return tuple(
            GenerateRequest(
                id=id_ if len(found) == 1 else f"{id_}-{number}",
                prompt=prompt,
                sampling=sampling,
                limits=limits,
                format=wanted,
                n=self.n or 1,
                logprobs=self.logprobs,
                prompt_logprobs=self.logprobs if self.echo else None,
                echo=bool(self.echo),
                cache_salt=salt,
                priority=self.priority or 0,
                deadline_s=seconds,
            )
            for number, prompt in enumerate(found)
        )


class CompletionDialect:
    """OpenAI's completions, whole and in chunks."""

    manner = EVENTS

    def __init__(
        self,
        *,
        id_: str,
        model: str,
        created: int,
        requests: Sequence[GenerateRequest],
        usage: bool = False,
    ) -> None:
        self._id = f"cmpl-{id_}"
        self._model = model
        self._created = created
        self._requests = requests
        self._usage = usage
        self._head = (
            f'data: {{"id":"{self._id}","object":"text_completion","created":{created},'
            f'"model":{escape(model)},"choices":['
        )
        self._tail = "]" + (',"usage":null' if usage else "") + "}\n\n"
        self._logprobs: dict[int, TextLogprobs] = {}
        """By answer; only those that told some."""

    def started(self, event: Started, /) -> str:
        self._enter_prompt(event)
        return ""

    def delta(self, event: Delta, /) -> str:
        if not event.text and not event.logprobs:
            return ""
        logprobs = "null"
        if self._requests[0].logprobs is not None:
            kept = self._logprobs.setdefault(event.index, TextLogprobs())
            kept.extend(event.logprobs or ())
            logprobs = compact(kept.take())
        return self._chunk(event.index, escape(event.text), logprobs, "null")

    def tool_call(self, _: ToolCallDelta, /) -> str:
        return ""

    def finished(self, event: Finished, /) -> str:
        return self._chunk(event.index, '""', "null", f'"{event.reason}"')

    def done(self, event: Done, /) -> str:
        if not self._usage:
            return DONE
        return f'{self._head}],"usage":{compact(usage_fields(event.usage))}}}\n\n{DONE}'

    def failed(self, error: ErrorReply, /) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer, /) -> bytes:
        for started in answer.prompts:
            self._enter_prompt(started)
        choices: list[dict[str, Any]] = []
        for index, choice in enumerate(answer.choices):
            logprobs = None
            if self._requests[0].logprobs is not None:
                kept = self._logprobs.setdefault(index, TextLogprobs())
                kept.extend(choice.logprobs)
                logprobs = kept.take()
            choices.append(
                {
                    "index": index,
                    "text": choice.text,
                    "logprobs": logprobs,
                    "finish_reason": choice.reason,
                }
            )
        reply = {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
            "usage": usage_fields(answer.usage),
        }
        return compact(reply).encode("ascii")

    def _enter_prompt(self, event: Started) -> None:
        """With `echo`, the prompt's own log-probabilities begin each of its answers."""
        if event.prompt_logprobs is None:
            return
        number = event.prompt if isinstance(event, PromptStarted) else 0
        request = self._requests[number]
        tokens = _named_first(request, event.prompt_logprobs)
        for index in range(number * request.n, (number + 1) * request.n):
            self._logprobs.setdefault(index, TextLogprobs()).extend(tokens)

    def _chunk(self, index: int, text: str, logprobs: str, reason: str) -> str:
        return (
            f'{self._head}{{"index":{index},"text":{text},"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}{self._tail}'
        )


def _named_first(
    request: GenerateRequest, tokens: Sequence[TokenLogprob | None]
) -> list[TokenLogprob | str]:
    """The prompt's tokens. What has no probability (the first) is what the others leave of the
    prompt's text."""
    known = "".join(one.token for one in tokens if one is not None)
    text = request.prompt.text if isinstance(request.prompt, TextPrompt) else known
    first = text[: max(len(text) - len(known), 0)]
    named: list[TokenLogprob | str] = []
    for one in tokens:
        if one is None:
            named.append(first)
            first = ""
        else:
            named.append(one)
    return named
