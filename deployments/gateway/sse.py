"""Pieces of JSON that chunks are made of."""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring_ascii as escape

from capyra.deployments.gateway.errors import ErrorReply
from capyra.engine.types import TokenLogprob, Usage

__all__ = ["DONE", "chat_logprobs", "compact", "error_event", "escape", "usage_fields"]

DONE = "data: [DONE]\n\n"
FLOOR = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot write."""


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def error_event(error: ErrorReply) -> bytes:
    """The end of a stream that failed. No `[DONE]` follows: who only looks for that must not
    take half an answer for a whole one."""
    return b"data: " + error.body + b"\n\n"


def usage_fields(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else FLOOR


def chat_logprobs(tokens: tuple[TokenLogprob, ...] | list[TokenLogprob]) -> dict[str, object]:
    return {
        "content": [
            {
                **_token(one.token, one.logprob),
                "top_logprobs": [_token(text, logprob) for text, _, logprob in one.top],
            }
            for one in tokens
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float) -> dict[str, object]:
    # Lone surrogates have no bytes; an engine that makes them is asked to be forgiven.
    return {
        "token": text,
        "logprob": finite(logprob),
        "bytes": list(text.encode("utf-8", "replace")),
    }
