"""Control: one replica that hears every expert's replicas and tells the gateways.

It decides nothing yet; residency will. It may die: replicas carry on and report to the next one
within a second, answers go on. Until those reports came, its first snapshot knows no replicas.
"""

from __future__ import annotations

import asyncio
import logging
import time

from pydantic import BaseModel
from ray import serve

from capyra.deployments.names import CONTROL_DEPLOYMENT
from capyra.deployments.reports import Report, Snapshot
from capyra.deployments.roster import Roster
from capyra.deployments.serve_state import read_asked

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5
LONGEST_WAIT_S = 5.0


class ControlSettings(BaseModel, extra="forbid", frozen=True):
    """Control's `user_config`."""

    experts: tuple[str, ...] = ()


@serve.deployment(name=CONTROL_DEPLOYMENT, max_ongoing_requests=10_000)
class Control:
    """The roster behind a Serve handle."""

    def __init__(self) -> None:
        self._roster = Roster()
        self._changed = asyncio.Condition()
        self._poll = asyncio.create_task(self._poll_targets())

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        self._roster.configure(ControlSettings.model_validate(user_config).experts)
        await self._announce()

    async def report(self, report: Report) -> None:
        self._roster.report(report, time.monotonic())
        await self._announce()

    async def snapshot(self, seen: int) -> Snapshot:
        """The newest snapshot; waits a while for one other than `seen`."""
        if self._roster.snapshot.version == seen:
            try:
                async with asyncio.timeout(LONGEST_WAIT_S), self._changed:
                    await self._changed.wait_for(lambda: self._roster.snapshot.version != seen)
            except TimeoutError:
                pass
        return self._roster.snapshot

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _poll_targets(self) -> None:
        while True:
            try:
                self._roster.retarget(await read_asked(), time.monotonic())
                await self._announce()
            except Exception:
                # Serve's controller restarts now and then; the next poll asks the new one.
                logger.warning("could not read Serve's targets; trying again", exc_info=True)
            await asyncio.sleep(POLL_INTERVAL_S)
