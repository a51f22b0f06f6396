"""What Ollama's clients are told: objects, one a line in streams; errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from capyra.deployments.gateway.answers import Answer
from capyra.deployments.gateway.answers import Choice as Answered
from capyra.deployments.gateway.dialects.calls import Called, sorted_out
from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.flow import Manner
from capyra.deployments.gateway.sse import chat_logprobs, compact
from capyra.engine.types import (
    Delta,
    Done,
    Embeddings,
    Finished,
    Started,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

NAMES = {
    "frequency_penalty": "options.frequency_penalty",
    "max_tokens": "options.num_predict",
    "min_p": "options.min_p",
    "presence_penalty": "options.presence_penalty",
    "repetition_penalty": "options.repeat_penalty",
    "response_format": "format",
    "seed": "options.seed",
    "stop": "options.stop",
    "temperature": "options.temperature",
    "top_k": "options.top_k",
    "top_p": "options.top_p",
}


def error_body(error: ErrorReply) -> bytes:
    return compact({"error": error.message}).encode("ascii")


class OllamaDialect:
    """An answer, as a message (`/api/chat`) or as a bare text (`/api/generate`)."""

    def __init__(
        self, *, model: str, chat: bool, now: Callable[[], float], spent: Callable[[], float]
    ) -> None:
        self._model = model
        self._chat = chat
        self._now = now
        self._spent = spent
        self._calls = Answered()
        """Those not told yet: a call is told whole."""
        self._reason = "stop"
        # A line that says nothing: its clients know no comments.
        beat = self._line({**self._said("", []), "done": False})
        self.manner = Manner(b"application/x-ndjson", beat.encode("ascii"), comments=False)

    def started(self, _: Started, /) -> str:
        return ""

    def delta(self, event: Delta, /) -> str:
        if not event.text and not event.logprobs:
            return ""
        return self._line({**self._said(event.text, [], event.logprobs), "done": False})

    def tool_call(self, event: ToolCallDelta, /) -> str:
        told = ""
        if event.call not in self._calls.calls:
            told = self._tell_calls()
        call = self._calls.calls.setdefault(event.call, ["", "", ""])
        call[0] += event.id or ""
        call[1] += event.name or ""
        call[2] += event.arguments
        return told

    def finished(self, event: Finished, /) -> str:
        self._reason = _reason(event.reason)
        return self._tell_calls()

    def done(self, event: Done, /) -> str:
        return self._line({**self._said("", []), **self._end(self._reason, event.usage)})

    def failed(self, error: ErrorReply, /) -> bytes:
        return error_body(error) + b"\n"

    def whole(self, answer: Answer, /) -> bytes:
        (choice,) = answer.choices
        text, calls = sorted_out(choice)
        said = self._said(text, calls, choice.logprobs)
        end = self._end(_reason(choice.reason), answer.usage)
        return self._line({**said, **end}).encode("ascii")

    def _tell_calls(self) -> str:
        if not self._calls.calls:
            return ""
        text, calls = sorted_out(self._calls)
        self._calls = Answered()
        return self._line({**self._said(text, calls), "done": False})

    def _said(
        self,
        text: str,
        calls: list[Called],
        logprobs: tuple[TokenLogprob, ...] | list[TokenLogprob] | None = None,
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {"response": text}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if calls:
                message["tool_calls"] = [_call(at, call) for at, call in enumerate(calls)]
            fields = {"message": message}
        if logprobs:
            fields["logprobs"] = chat_logprobs(logprobs)["content"]
        return fields

    def _line(self, fields: dict[str, Any]) -> str:
        return compact({"model": self._model, "created_at": stamp(self._now()), **fields}) + "\n"

    def _end(self, reason: str, usage: Usage) -> dict[str, Any]:
        timing = usage.timing
        return {
            "done": True,
            "done_reason": reason,
            "total_duration": nanoseconds(self._spent()),
            "load_duration": nanoseconds(timing.get("load", 0.0)),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(timing.get("prefill", 0.0)),
            "eval_count": usage.completion_tokens,
            "eval_duration": nanoseconds(timing.get("decode", 0.0)),
        }


class LoadedDialect(OllamaDialect):
    """What is told of a request that asked nothing: the expert is loaded, or left."""

    def __init__(self, reason: str, **more: Any) -> None:
        super().__init__(**more)
        self._loaded = reason

    def whole(self, _: Answer, /) -> bytes:
        return self.told()

    def told(self) -> bytes:
        fields = {**self._said("", []), "done": True, "done_reason": self._loaded}
        return self._line(fields).encode("ascii")


def embedded(model: str, found: Embeddings, seconds: float) -> bytes:
    return compact(
        {
            "model": model,
            "embeddings": found.vectors,
            "total_duration": nanoseconds(seconds),
            "load_duration": 0,
            "prompt_eval_count": found.prompt_tokens,
        }
    ).encode("ascii")


def stamp(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _reason(reason: str) -> str:
    return "length" if reason == "length" else "stop"


def _call(index: int, call: Called) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function}
