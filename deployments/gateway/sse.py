"""Pieces of JSON that chunks are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as escape

from capyra.deployments.gateway.errors import ErrorReply
from capyra.engine.types import TokenLogprob, Usage

__all__ = [
    "DONE",
    "TextLogprobs",
    "chat_logprobs",
    "compact",
    "error_event",
    "escape",
    "usage_fields",
]

DONE = "data: [DONE]\n\n"
FLOOR = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot write."""


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def error_event(error: ErrorReply) -> bytes:
    """The end of a stream that failed. No `[DONE]` follows: who only looks for that must not
    take half an answer for a whole one."""
    return b"data: " + error.openai() + b"\n\n"


def usage_fields(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else FLOOR


class TextLogprobs:
    """Log-probabilities of one completion, in OpenAI's older form of parallel lists.

    A token without a probability, which only a prompt's first one is, comes as its text.
    """

    def __init__(self) -> None:
        self._offset = 0
        self._new: list[TokenLogprob | str] = []

    def extend(self, tokens: Iterable[TokenLogprob | str]) -> None:
        self._new.extend(tokens)

    def take(self) -> dict[str, object]:
        """What was not taken yet."""
        told, self._new = self._new, []
        tokens = [one if isinstance(one, str) else one.token for one in told]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [
                None if isinstance(one, str) else finite(one.logprob) for one in told
            ],
            "top_logprobs": [None if isinstance(one, str) else _top(one) for one in told],
            "text_offset": offsets,
        }


def _top(one: TokenLogprob) -> dict[str, float]:
    # The chosen token is always listed, be it likely or not.
    return {
        **{text: finite(logprob) for text, _, logprob in one.top},
        one.token: finite(one.logprob),
    }


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
