"""What crosses to a driver and back: one continuation of one prompt, and pieces of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Ranked = Mapping[int, tuple[float, int]]
"""Tokens at one place, each with its log-probability and its rank, the best being 1."""

LAST = 2**31
"""The priority of what nobody waits for. As with vLLM, lower is sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`sampling` are arguments of vLLM's `SamplingParams`. `salt` separates tenants."""

    id: str
    tokens: tuple[int, ...]
    salt: str = ""
    priority: int = 0
    sampling: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a step made of a call."""

    call: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Ranked, ...] | None = None
    prompt_logprobs: tuple[Ranked | None, ...] | None = None
    cached: int = 0
    finished: Literal["stop", "length", "error"] | None = None
    stop: int | None = None
    """The token id that ended it."""
