"""A load's report, for people."""

from __future__ import annotations

from typing import Any

from capyra.deployments.cli.output import duration, plural

BUSY = 0.7
"""From this share of a core on, the generator's own work may be in the figures."""

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def text(report: dict[str, Any]) -> str:
    """The whole report."""
    lines = [_headline(report), "", *_latencies(report), "", *_rates(report)]
    for kind, told in report["requests"]["failures"].items():
        example = f": {told['example']}" if told["example"] else ""
        lines.append(f"{'failed':<14}{told['count']} × {kind}{example}")
    lines += _generator(report)
    return "\n".join(lines) + "\n"


def _headline(report: dict[str, Any]) -> str:
    load, requests = report["load"], report["requests"]
    if load["mode"] == "rate":
        how = f"{load['rate']:g} requests/s" + (
            f" in bursts of {load['burst']}" if load["burst"] > 1 else ""
        )
    else:
        how = plural(load["concurrency"], "client")
    kind = "streamed" if load["stream"] else "not streamed"
    cut = "interrupted after" if report["interrupted"] else "in"
    asked = plural(requests["sent"], "request")
    return (
        f"{load['model']} at {report['server']}{load['endpoint']}\n"
        f"{kind} · {how} · {asked} {cut} {duration(report['seconds'])}"
    )


def _latencies(report: dict[str, Any]) -> list[str]:
    rows = [
        ("first token", report["ttft_ms"]),
        ("inter-token", report["inter_token_ms"]),
        ("per token", report["per_token_ms"]),
        ("whole answer", report["latency_ms"]),
    ]
    if not report["requests"]["ok"]:
        return ["no request succeeded: there are no times to tell"]
    if report["load"]["mode"] == "rate":
        rows.append(("sent late", report["sent_late_ms"]))
    known = [(name, spread) for name, spread in rows if spread is not None]
    head = f"{'milliseconds':<14}" + "".join(f"{column:>10}" for column in COLUMNS)
    return [head, *(_latency(name, spread) for name, spread in known)]


def _latency(name: str, spread: dict[str, float]) -> str:
    cells = (f"{spread[column]:>10,.{1 if spread[column] < 1000 else 0}f}" for column in COLUMNS)
    return f"{name:<14}{''.join(cells)}"


def _rates(report: dict[str, Any]) -> list[str]:
    requests, rates, tokens = report["requests"], report["throughput"], report["tokens"]
    cached = f", {tokens['cached']:,} of them cached" if tokens["cached"] else ""
    pieces = tokens["per_piece"]
    lines = [
        f"{'requests':<14}{rates['requests_per_s']:,.1f}/s: {requests['ok']} answered, "
        f"{requests['failed']} failed",
        f"{'tokens out':<14}{rates['output_tokens_per_s']:,.0f}/s: {tokens['output']:,} in all"
        + (f", {pieces:.2f} in a piece" if pieces and abs(pieces - 1) > 0.05 else "")
        + ("" if tokens["counted_by"] == "server" else f", counted by {tokens['counted_by']}"),
        f"{'tokens in':<14}{rates['prompt_tokens_per_s']:,.0f}/s: {tokens['prompt']:,} in all"
        + cached,
    ]
    load = report["load"]
    if load["prompt_tokens"] and not load["prompt_tokens_measured"]:
        lines.append(f"{'':<14}the server counts no tokens: prompts are that many words")
    return lines


def _generator(report: dict[str, Any]) -> list[str]:
    own = report["generator"]
    lines = [
        f"{'generator':<14}{own['cpu_share']:.0%} of a core, at most "
        f"{own['worst_lag_ms']:.1f} ms late"
    ]
    if limit := own["ceiling"]:
        lines.append(
            f"{'its ceiling':<14}{limit['requests_per_s']:,.0f} requests/s, "
            f"{limit['output_tokens_per_s']:,.0f} tokens/s, with {limit['cpu_share']:.0%} of a core"
        )
    if own["cpu_share"] > BUSY:
        lines.append(
            "              it was busy itself: these figures may be its own; split the load, or "
            "compare with --ceiling"
        )
    return lines
