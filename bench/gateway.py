"""What the gateway costs: Capyra with `echo` experts beside a bare FastAPI ingress.

Both run in one Serve, behind the same HAProxy, with gRPC between replicas; both answer the same
body through one handle call to a generator. They are asked in turn.

requests_ratio_c1, requests_ratio_c32   our requests/s ÷ the bare ingress's
stream_tokens_ratio_c16                 our streamed tokens/s ÷ the bare ingress's
ttft_p99_ratio_c32                      our 99th percentile of the first token ÷ the bare one's
p50_added_ms_c1                         milliseconds that we add to the median request
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import Results, alternate, run
from capyra.deployments.cli.loadgen.drive import Driver
from capyra.deployments.cli.loadgen.figures import figures
from capyra.deployments.cli.loadgen.plan import Plan
from capyra.deployments.cli.loadgen.wire import Target
from capyra.deployments.experts_file import load
from capyra.deployments.serve_config import render

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

EXPERTS = """
experts:
  echo:
    engine: echo
    pin: true
    queue: {running: 64, waiting: 64}
"""
BARE = {
    "name": "bare",
    "route_prefix": "/bare",
    "import_path": "bench.bare:build",
    "deployments": [{"name": "Bare"}, {"name": "Words"}],
}
PROMPT = "The quick brown fox jumps over the lazy dog and runs away from it."


def measure(quick: bool) -> Results:
    from serving import start

    os.environ["PYTHONPATH"] = str(ROOT)
    server = start(EXPERTS)
    try:
        # What `capyra serve` deployed, and the bare ingress beside it; nothing of ours restarts.
        config = render(load(server.file))
        config["http_options"]["port"] = int(server.url.rpartition(":")[2])
        config["applications"].append(BARE)
        server.rest.deploy(config)
        server.await_running("bare")
        return _compare(server.url, rounds=3 if quick else 7, seconds=4.0 if quick else 8.0)
    finally:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)


def _compare(url: str, rounds: int, seconds: float) -> Results:
    results = Results()
    sides = (f"{url}", f"{url}/bare")
    asked = Plan(
        model="echo",
        requests=None,
        seconds=seconds,
        prompts=(PROMPT,),
        output_tokens=1,
        stream=False,
        warmup=20,
        fields={"temperature": 0},
    )
    streamed = replace(asked, stream=True, output_tokens=64)

    def rates(loads: list[dict[str, Any]]) -> list[float]:
        return [load["throughput"]["requests_per_s"] for load in loads]

    for clients in (1, 32):
        ours, bare = _turns(rounds, sides, replace(asked, concurrency=clients))
        results.ratio(f"requests_ratio_c{clients}", rates(ours), rates(bare))
        if clients == 1:
            p50 = [[f["latency_ms"]["p50"] for f in side] for side in (ours, bare)]
            results.median("p50_added_ms_c1", [a - b for a, b in zip(*p50, strict=True)])
    ours, bare = _turns(rounds, sides, replace(streamed, concurrency=16))
    tokens = [[f["throughput"]["output_tokens_per_s"] for f in side] for side in (ours, bare)]
    results.ratio("stream_tokens_ratio_c16", *tokens)
    ours, bare = _turns(rounds, sides, replace(streamed, concurrency=32))
    first = [[f["ttft_ms"]["p99"] for f in side] for side in (ours, bare)]
    results.ratio("ttft_p99_ratio_c32", *first)
    return results


def _turns(rounds: int, sides: Sequence[str], plan: Plan) -> list[list[dict[str, Any]]]:
    """What each side's loads came to, the sides taking turns."""
    return alternate(rounds, *(partial(_load, side, plan) for side in sides))


def _load(url: str, plan: Plan) -> dict[str, Any]:
    async def drive() -> dict[str, Any]:
        driver = Driver(Target.of(url), plan)
        await driver.prepare()
        return figures(await driver.run())

    found = asyncio.run(drive())
    if found["requests"]["failed"]:
        raise SystemExit(f"requests failed at {url}: {found['requests']['failures']}")
    return found


if __name__ == "__main__":
    run(measure)
