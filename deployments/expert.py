"""The Serve deployment that hosts one expert: a `Host`, and its reports to Control."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import ray
from pydantic import BaseModel
from ray import serve

from capyra.deployments.experts import Call, ReplicaView
from capyra.deployments.host import Host
from capyra.deployments.memory import resident_bytes
from capyra.deployments.names import CONTROL_APP, CONTROL_DEPLOYMENT, EXPERT_DEPLOYMENT
from capyra.deployments.reports import REPORT_INTERVAL_S, Report
from capyra.deployments.serve_state import open_handle
from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import CapyraError, Failure
from capyra.engine.registry import EngineSpec, create
from capyra.engine.types import (
    Embeddings,
    EmbedRequest,
    GenerateRequest,
    Prompt,
    Rendered,
    StreamItem,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ExpertSettings(BaseModel, extra="forbid", frozen=True):
    """An expert's `user_config`: it changes in place, without a restart."""

    name: str
    config: ExpertConfig
    model: Path | None = None
    """Where the model lies on every node; None for engines that need none."""


@serve.deployment(name=EXPERT_DEPLOYMENT)
class Expert:
    """One replica of one expert."""

    def __init__(self) -> None:
        context = serve.get_replica_context()
        self._id = context.replica_id.unique_id
        self._node = ray.get_runtime_context().get_node_id()
        self._settings: ExpertSettings | None = None
        self._host = Host(context.app_name, self._id, self._make, time.monotonic)
        self._reports = asyncio.create_task(self._keep_reporting())

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        settings = ExpertSettings.model_validate(user_config)
        # A relative `model` is another directory where the experts file lies elsewhere.
        before, self._settings = self._settings, settings
        moved = before is not None and before.model != settings.model
        await self._host.configure(settings.config, moved=moved)
        if self._host.problem is not None:
            self._settings = before

    def _make(self, config: ExpertConfig) -> Engine:
        assert self._settings is not None
        return create(EngineSpec(self._settings.name, config, self._settings.model))

    async def generate(
        self, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[list[StreamItem]]:
        async with aclosing(self._host.generate(request, call)) as batches:
            async for batch in batches:
                yield batch

    async def embed(self, request: EmbedRequest, call: Call) -> Embeddings | Failure:
        return await _told(self._host.embed(request, call))

    async def render(self, prompt: Prompt) -> Rendered | Failure:
        return await _told(self._host.render(prompt))

    async def detokenize(self, token_ids: Sequence[int]) -> str | Failure:
        return await _told(self._host.detokenize(token_ids))

    # --- reports ----------------------------------------------------------------------------

    async def _keep_reporting(self) -> None:
        """Tell Control how things are: when they change, and every second."""
        control = open_handle(CONTROL_DEPLOYMENT, CONTROL_APP)
        while True:
            self._host.changed.clear()
            try:
                if self._settings is not None:
                    async with asyncio.timeout(REPORT_INTERVAL_S):
                        await control.report.remote(self._report())
            except Exception:
                # Control may be restarting; the next report reaches the new one.
                logger.debug("Control did not take a report", exc_info=True)
            try:
                async with asyncio.timeout(REPORT_INTERVAL_S):
                    await self._host.changed.wait()
            except TimeoutError:
                continue

    def _report(self) -> Report:
        view = ReplicaView(
            id=self._id,
            node=self._node,
            pid=os.getpid(),
            state=self._host.state(),
            stats=self._host.stats(),
            in_flight=self._host.in_flight,
            rss_bytes=resident_bytes(),
            problem=self._host.problem,
        )
        return Report(self._host.name, view, self._host.capabilities())

    async def __del__(self) -> None:
        """Serve calls and awaits this when it stops the replica, after the last request."""
        self._reports.cancel()
        await self._host.close()


async def _told(work: Awaitable[T]) -> T | Failure:
    """Our errors as values: Serve would wrap them as exceptions of its own."""
    try:
        return await work
    except CapyraError as error:
        return Failure.of(error)
