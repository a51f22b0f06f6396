"""The shapes of what Anthropic's clients are answered. They document, as `replies.py` does."""

from __future__ import annotations

from typing import Any, Literal

from capyra.deployments.gateway.replies import Reply

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class AnthropicErrorFields(Reply):
    type: str
    message: str


class AnthropicError(Reply):
    """What is answered when something is wrong; in a stream, its last event."""

    type: Literal["error"]
    error: AnthropicErrorFields


class TokenCount(Reply):
    input_tokens: int


class MessageUsage(Reply):
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnsweredText(Reply):
    type: Literal["text"]
    text: str


class AnsweredCall(Reply):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class AnthropicMessage(Reply):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredText | AnsweredCall]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TextPiece(Reply):
    type: Literal["text_delta"]
    text: str


class InputPiece(Reply):
    type: Literal["input_json_delta"]
    partial_json: str


class Stopped(Reply):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageEvent(Reply):
    """One event of a stream. The stream ends with `message_stop`, or with an `AnthropicError`."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    ]
    message: AnthropicMessage | None = None
    index: int | None = None
    content_block: AnsweredText | AnsweredCall | None = None
    delta: TextPiece | InputPiece | Stopped | None = None
    usage: MessageUsage | None = None
