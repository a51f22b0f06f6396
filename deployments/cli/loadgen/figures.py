"""What a load's shots say: percentiles and rates. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from capyra.deployments.cli.loadgen.drive import Outcome
from capyra.deployments.cli.loadgen.shot import Shot

PERCENTILES = (50, 90, 95, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between the two nearest ranks, as numpy does it."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Milliseconds: mean, percentiles, worst. None for no values: there is no such figure."""
    if not seconds:
        return None
    ordered = sorted(value * 1000 for value in seconds)
    found = {"mean": sum(ordered) / len(ordered)}
    found |= {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    found["max"] = ordered[-1]
    return found


def figures(outcome: Outcome) -> dict[str, Any]:
    """The report. Latencies are of the requests that succeeded, from when they were to be sent."""
    plan, wall = outcome.plan, max(outcome.end - outcome.start, 1e-9)
    good = [shot for shot in outcome.shots if shot.ok]
    gaps = [gap for shot in good for gap in shot.gaps]
    prompt = sum(shot.prompt_tokens or 0 for shot in good)
    made = sum(shot.tokens for shot in good)
    pieces = sum(shot.pieces for shot in good)
    return {
        "load": _load(outcome),
        "seconds": wall,
        "interrupted": outcome.interrupted,
        "requests": {
            "sent": len(outcome.shots),
            "ok": len(good),
            "failed": len(outcome.shots) - len(good),
            "failures": _failures(outcome.shots),
        },
        "throughput": {
            "requests_per_s": len(good) / wall,
            "output_tokens_per_s": made / wall,
            "prompt_tokens_per_s": prompt / wall,
        },
        "tokens": {
            "prompt": prompt,
            "cached": sum(shot.cached_tokens for shot in good),
            "output": made,
            "counted_by": _counted_by(good),
            "per_piece": made / pieces if pieces and plan.stream else None,
        },
        "ttft_ms": _since(good, [shot.first for shot in good]) if plan.stream else None,
        "inter_token_ms": spread(gaps),
        "per_token_ms": spread([s for shot in good if (s := shot.per_token) is not None])
        if plan.stream
        else None,
        "latency_ms": _since(good, [shot.ended for shot in good]),
        "sent_late_ms": spread([shot.sent - shot.intended for shot in outcome.shots]),
        "generator": {
            "cpu_share": outcome.cpu_s / wall,
            "worst_lag_ms": outcome.worst_lag_s * 1000,
        },
    }


def _since(shots: Sequence[Shot], times: Sequence[float | None]) -> dict[str, float] | None:
    pairs = zip(shots, times, strict=True)
    return spread([at - shot.intended for shot, at in pairs if at is not None])


def _failures(shots: Sequence[Shot]) -> dict[str, dict[str, Any]]:
    """How many of each kind, and what one of each said."""
    counts = Counter(shot.failure for shot in shots if shot.failure is not None)
    details = {shot.failure: shot.detail for shot in reversed(shots) if shot.failure is not None}
    return {kind: {"count": n, "example": details[kind]} for kind, n in counts.most_common()}


def _counted_by(shots: Sequence[Shot]) -> str:
    counted = sum(shot.completion_tokens is not None for shot in shots)
    if counted == len(shots):
        return "server"
    return "pieces" if counted == 0 else "server, pieces where it did not"


def _load(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    timing: dict[str, Any] = (
        {"mode": "rate", "rate": plan.rate, "burst": plan.burst}
        if plan.rate
        else {"mode": "concurrency", "concurrency": plan.concurrency}
    )
    return timing | {
        "model": plan.model,
        "endpoint": plan.path,
        "stream": plan.stream,
        "requests": plan.requests,
        "duration_s": plan.seconds,
        "prompt_tokens": None if plan.prompts else plan.prompt_tokens,
        "prompt_tokens_measured": outcome.words.measured,
        "prefix_tokens": plan.prefix_tokens,
        "output_tokens": plan.output_tokens,
        "prompts": len(plan.prompts) or None,
        "fields": plan.fields,
        "warmup": plan.warmup,
        "seed": plan.seed,
    }
