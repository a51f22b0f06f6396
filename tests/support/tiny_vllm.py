"""vLLM engines for tests: of tiny models, and slow where somebody must be in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capyra.engine.config import ExpertConfig
from capyra.engine.registry import EngineSpec
from capyra.engine.vllm import package
from capyra.engine.vllm.arguments import Plan
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.engine import Start, VllmEngine
from capyra.engine.vllm.stages import OnStage

package.surround()

from capyra.engine.vllm import inprocess  # noqa: E402 - vLLM reads what was set above


class SlowSteps(inprocess.InProcess):
    """Takes its time for every step."""

    def step(self) -> list[Any]:
        time.sleep(0.1)
        return super().step()


def slow_steps(
    plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
) -> Driver:
    return inprocess.load(plan, tally, readers, on_stage, SlowSteps)


def slow_load(
    plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
) -> Driver:
    for _ in range(6000):
        on_stage("starting", 0.0)
        time.sleep(0.01)
    return inprocess.load(plan, tally, readers, on_stage)


def vllm(
    folder: Path,
    options: Mapping[str, Any] | None = None,
    start: Start = inprocess.load,
    **config: Any,
) -> VllmEngine:
    # Threads only get into each other's way on so little work.
    config = {"resources": {"threads": 1}, **config}
    settings = ExpertConfig(engine="vllm", options=dict(options or {}), **config)
    return VllmEngine(EngineSpec("tiny", settings, folder), start)
