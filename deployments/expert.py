"""The Serve deployment that hosts one expert: a `Host`, its reports to Control, and its orders."""

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
from capyra.deployments.serve_state import ask, open_handle
from capyra.deployments.tasks import check_running
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

PATIENCE_S = 15.0
"""How long Control may be silent: it answers after some seconds even if it has no order."""
RETRY_S = 0.2
TURN_S = 3.0
"""How long a fresh replica waits for a Control that is away before it serves."""


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
        self._host = Host(context.app_name, self._id, self._make)
        self._control = open_handle(CONTROL_DEPLOYMENT, CONTROL_APP)
        self._reports = 0
        self._tasks = [
            asyncio.create_task(self._keep_reporting()),
            asyncio.create_task(self._keep_obeying()),
        ]

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        settings = ExpertSettings.model_validate(user_config)
        # A relative `model` is another directory where the experts file lies elsewhere.
        before, self._settings = self._settings, settings
        moved = before is not None and before.model != settings.model
        await self._host.configure(settings.config, moved=moved)
        if self._host.problem is not None:
            self._settings = before
        if before is None:
            await self._await_turn()

    def _make(self, config: ExpertConfig) -> Engine:
        assert self._settings is not None
        return create(EngineSpec(self._settings.name, config, self._settings.model))

    async def generate(
        self, request: GenerateRequest, _call: Call
    ) -> AsyncGenerator[list[StreamItem]]:
        async with aclosing(self._host.generate(request)) as batches:
            async for batch in batches:
                yield batch

    async def embed(self, request: EmbedRequest, _call: Call) -> Embeddings | Failure:
        return await _told(self._host.embed(request))

    async def render(self, prompt: Prompt) -> Rendered | Failure:
        return await _told(self._host.render(prompt))

    async def detokenize(self, token_ids: Sequence[int]) -> str | Failure:
        return await _told(self._host.detokenize(token_ids))

    # --- Control ----------------------------------------------------------------------------

    async def _keep_reporting(self) -> None:
        """Tell Control how things are: when they change, and every second."""
        while True:
            self._host.changed.clear()
            try:
                if self._settings is not None:
                    await ask(self._control.report, self._report(), patience_s=REPORT_INTERVAL_S)
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
        self._reports += 1
        return Report(
            expert=self._host.name,
            view=view,
            capabilities=self._host.capabilities(),
            number=self._reports,
            bytes=self._host.bytes,
            retired=self._host.retired_bytes,
            epoch=self._host.epoch,
            progress=self._host.progress,
            failure=self._host.failure,
        )

    async def _keep_obeying(self) -> None:
        """Hear Control's orders, which it gives when there are any."""
        while True:
            try:
                order = await ask(
                    self._control.order, self._id, self._host.epoch, patience_s=PATIENCE_S
                )
                if order is not None:
                    self._host.obey(order)
            except Exception:
                logger.debug("Control gives no orders", exc_info=True)
                await asyncio.sleep(RETRY_S)

    async def _await_turn(self) -> None:
        """Until Serve may send requests here: it cannot tell replicas with weights from others,
        so a further one shows itself when it is loaded."""
        give_up = time.monotonic() + TURN_S
        while self._host.state() != "ready" and time.monotonic() < give_up:
            try:
                wait = await ask(
                    self._control.is_further, self._host.name, self._id, patience_s=RETRY_S
                )
            except Exception:
                logger.debug("Control does not answer", exc_info=True)
                continue
            if not wait:
                return
            # Not for ever: Control answers.
            give_up = time.monotonic() + TURN_S
            await asyncio.sleep(RETRY_S)

    async def check_health(self) -> None:
        """Serve calls this, and starts another replica where it raises."""
        check_running(f"expert {self._host.name!r}", self._tasks)

    async def __del__(self) -> None:
        """Serve calls and awaits this when it stops the replica, after the last request."""
        for task in self._tasks:
            task.cancel()
        await self._host.close()


async def _told(work: Awaitable[T]) -> T | Failure:
    """Our errors as values: Serve would wrap them as exceptions of its own."""
    try:
        return await work
    except CapyraError as error:
        return Failure.of(error)
