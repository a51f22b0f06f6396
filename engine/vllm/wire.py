"""Our calls and pieces in vLLM's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm import SamplingParams
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from capyra.engine.vllm.calls import Call, Piece, Ranked

REFUSALS = (VLLMClientError, ValueError)
"""What vLLM raises when it finds that we ask for something wrong."""
FAILURES = (VLLMError, OSError, RuntimeError, NotImplementedError, AssertionError, KeyError)
"""What it raises when it cannot load."""


def params(call: Call) -> Any:
    """The call's `SamplingParams`. vLLM raises one of `REFUSALS` for what it cannot do."""
    settings = dict(call.sampling)
    if (wanted := settings.get("structured_outputs")) is not None:
        settings["structured_outputs"] = StructuredOutputsParams(**wanted)
    return SamplingParams(
        **settings, detokenize=False, output_kind=RequestOutputKind.DELTA, skip_clone=True
    )


def piece(call: str, output: Any) -> Piece:
    """One of vLLM's `RequestOutput`s, in our words."""
    answer = output.outputs[0]
    reason = answer.finish_reason
    told = output.prompt_logprobs
    return Piece(
        call=call,
        tokens=tuple(answer.token_ids),
        logprobs=None if answer.logprobs is None else tuple(map(_ranked, answer.logprobs)),
        prompt_logprobs=None
        if told is None
        else tuple(None if each is None else _ranked(each) for each in told),
        cached=output.num_cached_tokens or 0,
        finished=reason if reason in (None, "stop", "length") else "error",
        stop=answer.stop_reason if isinstance(answer.stop_reason, int) else None,
    )


def _ranked(found: Mapping[int, Any]) -> Ranked:
    return {token: (each.logprob, each.rank) for token, each in found.items()}
