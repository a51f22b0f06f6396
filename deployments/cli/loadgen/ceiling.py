"""How much the generator could send and read on this machine, were the server infinitely fast."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

from capyra.deployments.cli.loadgen.drive import Driver
from capyra.deployments.cli.loadgen.figures import figures
from capyra.deployments.cli.loadgen.plan import Plan
from capyra.deployments.cli.loadgen.wire import Target

SECONDS = 2.0


async def ceiling(plan: Plan, seconds: float = SECONDS) -> dict[str, Any]:
    """The plan's requests against a server that only answers. It shares the machine with the
    generator, so the truth is this or more."""
    stub = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "capyra.deployments.cli.loadgen.stub",
        str(plan.output_tokens),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert stub.stdin is not None
    assert stub.stdout is not None
    try:
        async with asyncio.timeout(30):
            port = int(await stub.stdout.readline())
        clients = min(plan.most_in_flight, 32) if plan.rate else plan.concurrency
        same = replace(
            plan, rate=None, burst=1, concurrency=clients, requests=None, seconds=seconds
        )
        driver = Driver(Target.of(f"http://127.0.0.1:{port}"), same)
        await driver.prepare()
        found = figures(await driver.run())
    finally:
        stub.stdin.close()
        await stub.wait()
    return {
        "requests_per_s": found["throughput"]["requests_per_s"],
        "output_tokens_per_s": found["throughput"]["output_tokens_per_s"],
        "ttft_ms": found["ttft_ms"],
        "cpu_share": found["generator"]["cpu_share"],
        "failed": found["requests"]["failed"],
    }
