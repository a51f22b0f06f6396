"""From an expert to its engine, and from a plan to the driver it asks for."""

from __future__ import annotations

import asyncio
import contextlib

from capyra.engine.errors import ConfigError, LoadFailed
from capyra.engine.registry import EngineSpec
from capyra.engine.vllm import package
from capyra.engine.vllm.arguments import Plan
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.engine import VllmEngine
from capyra.engine.vllm.stages import OnStage


def create(spec: EngineSpec) -> VllmEngine:
    """The engine of an expert, parked. `ConfigError` without a vLLM that this engine knows."""
    if spec.model is None:
        raise ConfigError(
            f"`model` of {spec.expert} names no directory, and this version does not fetch models: "
            "name the directory of its files"
        )
    package.require()
    package.surround()
    engine = VllmEngine(spec, start)
    engine.prepare(import_ahead)
    return engine


def start(
    plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
) -> Driver:
    """Called on the thread that will run the driver. Only here is vLLM imported."""
    try:
        from capyra.engine.vllm import inprocess, processes
    except ImportError as error:
        raise LoadFailed(f"vLLM is installed, but cannot be imported: {error}") from error
    load = processes.load if plan.processes else inprocess.load
    return load(plan, tally, readers, on_stage)


def import_ahead() -> None:
    """vLLM's modules, which take seconds: a parked engine has them already. What is wrong with
    them is said by the load that needs them."""
    with contextlib.suppress(ImportError):
        from capyra.engine.vllm import inprocess  # noqa: F401 - for its imports alone
