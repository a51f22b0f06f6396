"""What Anthropic's clients are told: whole messages, the events of a stream, errors."""

from __future__ import annotations

from typing import Any

from capyra.deployments.gateway.answers import Answer
from capyra.deployments.gateway.dialects.calls import Called, sorted_out
from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.flow import EVENTS, Manner
from capyra.deployments.gateway.sse import compact, escape
from capyra.engine.types import (
    Delta,
    Done,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    Usage,
)

PING = Manner(EVENTS.content_type, b'event: ping\ndata: {"type":"ping"}\n\n')
_STOPPED = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
NAMES = {
    "response_format": "output_config.format",
    "stop": "stop_sequences",
}


def error_body(error: ErrorReply) -> bytes:
    fields = {"type": _TYPES.get(error.status, "invalid_request_error"), "message": error.message}
    return compact({"type": "error", "error": fields}).encode("ascii")


def counted(tokens: int) -> bytes:
    return compact({"input_tokens": tokens}).encode("ascii")


class MessagesDialect:
    """One message, as blocks of text and of calls."""

    manner = PING

    def __init__(self, *, id_: str, model: str, max_tokens: int | None) -> None:
        self._id = f"msg_{id_}"
        self._model = model
        self._max_tokens = max_tokens
        self._blocks = 0
        self._open: int | str | None = None
        """What is being written: text, or the call of that number."""
        self._finished = Finished(0, "stop")

    def started(self, event: Started, /) -> str:
        usage = Usage(event.prompt_tokens, 0, event.cached_tokens)
        return _event("message_start", {"message": self._message([], usage, None)})

    def delta(self, event: Delta, /) -> str:
        if not event.text:
            return ""
        opened = "" if self._open == "text" else self._begin("text", {"type": "text", "text": ""})
        return (
            f"{opened}event: content_block_delta\ndata: "
            f'{{"type":"content_block_delta","index":{self._blocks - 1},'
            f'"delta":{{"type":"text_delta","text":{escape(event.text)}}}}}\n\n'
        )

    def tool_call(self, event: ToolCallDelta, /) -> str:
        told = ""
        if self._open != event.call:
            block: dict[str, Any] = {"type": "tool_use", "id": event.id, "name": event.name}
            block["input"] = {}
            told = self._begin(event.call, block)
        if event.arguments:
            delta = {"type": "input_json_delta", "partial_json": event.arguments}
            told += _event("content_block_delta", {"index": self._blocks - 1, "delta": delta})
        return told

    def finished(self, event: Finished, /) -> str:
        self._finished = event
        return self._end()

    def done(self, event: Done, /) -> str:
        delta = self._stopped(self._finished.reason, self._finished.stop, event.usage)
        fields = {"delta": delta, "usage": _usage(event.usage)}
        return _event("message_delta", fields) + _event("message_stop", {})

    def failed(self, error: ErrorReply, /) -> bytes:
        return b"event: error\ndata: " + error_body(error) + b"\n\n"

    def whole(self, answer: Answer, /) -> bytes:
        (choice,) = answer.choices
        text, calls = sorted_out(choice)
        reason = "stop" if choice.reason == "tool_calls" and not calls else choice.reason
        stopped = self._stopped(reason, choice.stop, answer.usage)
        return compact(self._message(_blocks(text, calls), answer.usage, stopped)).encode("ascii")

    def _begin(self, what: int | str, block: dict[str, Any]) -> str:
        ended = self._end()
        self._open = what
        self._blocks += 1
        started = {"index": self._blocks - 1, "content_block": block}
        return ended + _event("content_block_start", started)

    def _end(self) -> str:
        if self._open is None:
            return ""
        self._open = None
        return _event("content_block_stop", {"index": self._blocks - 1})

    def _message(
        self, content: list[dict[str, Any]], usage: Usage, stopped: dict[str, str | None] | None
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **(stopped or {"stop_reason": None, "stop_sequence": None}),
            "usage": _usage(usage),
        }

    def _stopped(
        self, reason: FinishReason, stop: str | int | None, usage: Usage
    ) -> dict[str, str | None]:
        told = _STOPPED[reason]
        sequence = None
        if reason == "stop" and isinstance(stop, str):
            told, sequence = "stop_sequence", stop
        elif reason == "length" and usage.completion_tokens < (self._max_tokens or 0):
            told = "model_context_window_exceeded"
        return {"stop_reason": told, "stop_sequence": sequence}


def _event(name: str, fields: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {compact({'type': name, **fields})}\n\n"


def _usage(usage: Usage) -> dict[str, int]:
    """Tokens that were found in the cache are counted apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _blocks(text: str, calls: list[Called]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    return blocks + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in calls
    ]
