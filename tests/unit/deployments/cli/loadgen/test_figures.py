"""From shots to figures, by hand."""

from __future__ import annotations

import json

import pytest

from capyra.deployments.cli.figures_text import text
from capyra.deployments.cli.loadgen.drive import Outcome
from capyra.deployments.cli.loadgen.figures import figures, percentile, spread
from capyra.deployments.cli.loadgen.plan import Plan, Words
from capyra.deployments.cli.loadgen.shot import Shot


def shot(index: int, *, late: float = 0.0, failure: str | None = None) -> Shot:
    """Intended each second; first token after 0.2 s, then two more, 0.1 s each."""
    at = float(index)
    if failure:
        return Shot(index, at, at, ended=at + 9, failure=failure, detail=f"detail {index}")
    sent = at + late
    return Shot(
        index,
        intended=at,
        sent=sent,
        first=sent + 0.2,
        last=sent + 0.4,
        ended=sent + 0.5,
        gaps=[0.1, 0.1],
        pieces=3,
        prompt_tokens=10,
        completion_tokens=6,
    )


def outcome(*shots: Shot, plan: Plan | None = None) -> Outcome:
    made = Outcome(plan or Plan(model="m", rate=1.0), Words(measured=True), 0.0, 10.0, 2.0, 0.03)
    made.shots = list(shots)
    return made


def test_percentiles_are_linear_between_ranks() -> None:
    ordered = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(ordered, p) for p in (0, 50, 90, 100)] == [1.0, 2.5, pytest.approx(3.7), 4.0]
    assert percentile([7.0], 99) == 7.0
    assert spread([]) is None


def test_latency_counts_from_the_intended_start() -> None:
    told = figures(outcome(shot(0), shot(1, late=3.0)))
    assert told["ttft_ms"]["p50"] == pytest.approx(1700)
    assert told["ttft_ms"]["max"] == pytest.approx(3200)
    assert told["latency_ms"]["max"] == pytest.approx(3500)
    assert told["sent_late_ms"]["max"] == pytest.approx(3000)


def test_rates_and_tokens() -> None:
    told = figures(outcome(shot(0), shot(1)))
    assert told["throughput"] == {
        "requests_per_s": pytest.approx(0.2),
        "output_tokens_per_s": pytest.approx(1.2),
        "prompt_tokens_per_s": pytest.approx(2.0),
    }
    assert told["tokens"] == {
        "prompt": 20,
        "cached": 0,
        "output": 12,
        "counted_by": "server",
        "per_piece": 2.0,
    }
    assert told["per_token_ms"]["mean"] == pytest.approx(40)
    assert told["inter_token_ms"]["mean"] == pytest.approx(100)
    assert told["generator"] == {"cpu_share": 0.2, "worst_lag_ms": 30.0}


def test_failures_are_counted_by_kind_and_stay_out_of_the_latencies() -> None:
    told = figures(
        outcome(shot(0), shot(1, failure="timeout"), shot(2, failure="cut"), shot(3, failure="cut"))
    )
    assert told["requests"] == {
        "sent": 4,
        "ok": 1,
        "failed": 3,
        "failures": {
            "cut": {"count": 2, "example": "detail 2"},
            "timeout": {"count": 1, "example": "detail 1"},
        },
    }
    assert told["latency_ms"]["max"] == pytest.approx(500)


def test_pieces_stand_for_tokens_where_the_server_counts_none() -> None:
    bare, counted = shot(0), shot(1)
    bare.completion_tokens = None
    assert figures(outcome(bare))["tokens"]["counted_by"] == "pieces"
    assert "server, pieces" in figures(outcome(bare, counted))["tokens"]["counted_by"]


def report(*shots: Shot, plan: Plan | None = None) -> str:
    told = {"server": "http://s", **figures(outcome(*shots, plan=plan))}
    told["generator"]["ceiling"] = None
    json.dumps(told)
    return text(told)


def test_the_report_for_people() -> None:
    told = report(shot(0), shot(1, late=2.0), shot(2, failure="429 queue_full"))
    assert told.splitlines()[0] == "m at http://s/v1/chat/completions"
    assert "streamed · 1 requests/s · 3 requests in 10.0 s" in told
    first = next(line for line in told.splitlines() if line.startswith("first token"))
    assert first.split()[2:4] == ["1,200", "1,200"]
    assert "sent late" in told
    assert "0.2/s: 2 answered, 1 failed" in told
    assert "1 × 429 queue_full: detail 2" in told
    assert "20% of a core, at most 30.0 ms late" in told


def test_a_report_without_success_has_no_times() -> None:
    told = report(shot(0, failure="timeout"))
    assert "no request succeeded" in told
    assert "first token" not in told


def test_clients_and_whole_answers_are_told_as_such() -> None:
    told = report(shot(0), plan=Plan(model="m", concurrency=2, stream=False))
    assert "not streamed · 2 clients" in told
    assert "first token" not in told
    assert "sent late" not in told


def test_a_busy_generator_doubts_itself() -> None:
    made = outcome(shot(0))
    made.cpu_s = 9.0
    told = {"server": "s", **figures(made)}
    told["generator"]["ceiling"] = None
    assert "it was busy itself" in text(told)
