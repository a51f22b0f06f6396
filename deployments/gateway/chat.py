"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from capyra.deployments.gateway.answers import Answer
from capyra.deployments.gateway.answers import Choice as Answered
from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.fields import MOST_TOKENS, GenerationBody, Plain
from capyra.deployments.gateway.flow import EVENTS
from capyra.deployments.gateway.messages import Choice, FunctionTool, Messages, chat_prompt
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.gateway.sse import (
    DONE,
    chat_logprobs,
    compact,
    error_event,
    escape,
    usage_fields,
)
from capyra.engine.config import SamplingDefaults
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import (
    Delta,
    Done,
    Finished,
    GenerateRequest,
    Started,
    ToolCallDelta,
)


class ChatBody(GenerationBody):
    """What a client may say."""

    messages: Messages
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=MOST_TOKENS, description="The newer name of max_tokens"
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: Annotated[list[FunctionTool], Field(max_length=256)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: only where tool_choice names a function"
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="false: only with continue_final_message"
    )
    continue_final_message: bool | None = Field(
        default=None, description="The answer continues the assistant's last message"
    )
    modalities: Annotated[list[Literal["text"]], Field(min_length=1)] | None = None
    metadata: dict[Plain, Plain] | None = Field(
        default=None, description="Accepted, without effect"
    )
    store: bool | None = Field(default=None, description="Accepted; nothing is ever stored")
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = Field(
        default=None, description="Accepted, without effect"
    )
    safety_identifier: Plain | None = Field(default=None, description="Accepted, without effect")
    prompt_cache_key: Plain | None = Field(default=None, description="Accepted, without effect")
    prompt_cache_retention: Plain | None = Field(
        default=None, description="Accepted, without effect"
    )

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidValue("top_logprobs needs logprobs: true", param="top_logprobs")
        continues = bool(self.continue_final_message)
        if continues and self.add_generation_prompt:
            raise InvalidValue(
                "add_generation_prompt and continue_final_message exclude each other",
                param="add_generation_prompt",
            )
        if self.add_generation_prompt is False and not continues:
            raise Unsupported(
                "add_generation_prompt: false needs continue_final_message: true",
                param="add_generation_prompt",
            )
        if (
            self.max_tokens is not None
            and self.max_completion_tokens is not None
            and self.max_tokens != self.max_completion_tokens
        ):
            raise InvalidValue(
                "max_tokens and max_completion_tokens say different things",
                param="max_completion_tokens",
            )

    def request(
        self,
        *,
        id_: str,
        salt: str,
        seconds: float,
        defaults: SamplingDefaults,
        config: ServerConfig,
    ) -> GenerateRequest:
        """What the engine is asked."""
        self.check()
        prompt = chat_prompt(
            self.messages,
            self.tools,
            self.tool_choice,
            self.parallel_tool_calls,
            bool(self.continue_final_message),
            config,
        )
        return self.asked(
            prompt,
            id_=id_,
            salt=salt,
            seconds=seconds,
            defaults=defaults,
            max_tokens=self.max_completion_tokens or self.max_tokens or defaults.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class ChatDialect:
    """OpenAI's chat completions, whole and in chunks. What never changes is written once."""

    manner = EVENTS

    def __init__(self, *, id_: str, model: str, created: int, usage: bool = False) -> None:
        self._id = f"chatcmpl-{id_}"
        self._model = model
        self._created = created
        self._usage = usage
        self._head = (
            f'data: {{"id":"{self._id}","object":"chat.completion.chunk","created":{created},'
            f'"model":{escape(model)},"choices":['
        )
        self._tail = "]" + (',"usage":null' if usage else "") + "}\n\n"
        self._begun: set[int] = set()

    def started(self, _: Started, /) -> str:
        return ""

    def delta(self, event: Delta, /) -> str:
        if not event.text and not event.logprobs:
            return ""
        logprobs = "null" if event.logprobs is None else compact(chat_logprobs(event.logprobs))
        return self._chunk(event.index, f'"content":{escape(event.text)}', logprobs, "null")

    def tool_call(self, event: ToolCallDelta, /) -> str:
        call: dict[str, Any] = {"index": event.call}
        function: dict[str, str] = {"arguments": event.arguments}
        if event.id is not None:
            call |= {"id": event.id, "type": "function"}
        if event.name is not None:
            function = {"name": event.name, **function}
        call["function"] = function
        return self._chunk(event.index, f'"tool_calls":[{compact(call)}]', "null", "null")

    def finished(self, event: Finished, /) -> str:
        return self._chunk(event.index, "", "null", f'"{event.reason}"')

    def done(self, event: Done, /) -> str:
        if not self._usage:
            return DONE
        return f'{self._head}],"usage":{compact(usage_fields(event.usage))}}}\n\n{DONE}'

    def failed(self, error: ErrorReply, /) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer, /) -> bytes:
        reply = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [_choice(at, one) for at, one in enumerate(answer.choices)],
            "usage": usage_fields(answer.usage),
        }
        return compact(reply).encode("ascii")

    def _chunk(self, index: int, delta: str, logprobs: str, reason: str) -> str:
        if index not in self._begun:
            self._begun.add(index)
            delta = '"role":"assistant"' + ("," if delta else ',"content":""') + delta
        return (
            f'{self._head}{{"index":{index},"delta":{{{delta}}},"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}{self._tail}'
        )


def _choice(index: int, choice: Answered) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for _, (id_, name, arguments) in sorted(choice.calls.items())
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": chat_logprobs(choice.logprobs) if choice.logprobs else None,
        "finish_reason": choice.reason,
    }
