"""From our parameters to vLLM's; pure, and without vLLM."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from capyra.engine.types import GenerateRequest, OutputFormat

_FORMS = {"json_schema": "json", "regex": "regex", "grammar": "grammar"}


def answer(
    request: GenerateRequest,
    index: int,
    *,
    limit: int,
    ends: Collection[int],
    shape: OutputFormat,
) -> dict[str, Any]:
    """The arguments of `SamplingParams` for one answer.

    vLLM knows one end of answers, and its files may name several: all are stop tokens here, so
    that it is never asked for its own. Stop strings and text are ours (`Delivery`).
    """
    sampling, limits = request.sampling, request.limits
    # An answer with a format ends when the format does, whatever was asked.
    ending = () if limits.ignore_eos and shape.kind == "text" else ends
    found: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "logit_bias": dict(sampling.logit_bias) or None,
        "seed": None if sampling.seed is None else seed(sampling.seed, index),
        # It makes one at least: the answer drops it.
        "max_tokens": max(1, limit),
        "min_tokens": min(limits.min_tokens, max(1, limit)),
        "stop_token_ids": sorted({*limits.stop_token_ids, *ending}),
        "ignore_eos": True,
        "logprobs": request.logprobs,
        "prompt_logprobs": request.prompt_logprobs if index == 0 else None,
    }
    if shape.kind == "json_object":
        found["structured_outputs"] = {"json_object": True}
    elif shape.kind != "text":
        found["structured_outputs"] = {_FORMS[shape.kind]: shape.spec}
    return found


def seed(wanted: int, index: int) -> int:
    """Another for each answer of a request: vLLM's -1 means none, and neighbours would overlap."""
    digest = hashlib.blake2b(f"{wanted}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
