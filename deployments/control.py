"""Control: one replica that decides which experts are in memory, and tells the gateways.

It may die: replicas carry on with what they hold, report to the next one within a second, and what
must outlive it lies in the store of Ray's GCS.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel
from ray import serve

from capyra.deployments.experts import ExpertStatus, Word
from capyra.deployments.memory import weight_bytes
from capyra.deployments.names import CONTROL_DEPLOYMENT
from capyra.deployments.reports import Reply, Report, Snapshot, Standing, Use, Wish
from capyra.deployments.residence import Residence
from capyra.deployments.serve_state import ServeCluster
from capyra.deployments.statuses import statuses
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import Failure
from capyra.orchestrator.config import Residency
from capyra.orchestrator.residency.effects import Load, Park, Persisted
from capyra.orchestrator.residency.events import Epoch
from capyra.orchestrator.residency.spec import ExpertSpec, Policy

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5
POLL_DEADLINE_S = 10.0
LONGEST_WAIT_S = 5.0
STANDING_S = 2.0
"""How long a gateway waits at most to hear again how it stands with its request."""


class ControlledExpert(BaseModel, extra="forbid", frozen=True):
    """What Control knows of an expert beforehand."""

    config: ExpertConfig
    model: Path | None = None


class ControlSettings(BaseModel, extra="forbid", frozen=True):
    """Control's `user_config`."""

    experts: dict[str, ControlledExpert] = {}
    residency: Residency = Residency()

    def specs(self) -> list[ExpertSpec]:
        return [
            ExpertSpec.of(name, each.config, weight_bytes(each.model), each.model)
            for name, each in self.experts.items()
        ]


@serve.deployment(name=CONTROL_DEPLOYMENT, max_ongoing_requests=20_000, health_check_period_s=2)
class Control:
    """The residence behind a Serve handle."""

    def __init__(self) -> None:
        self._cluster = ServeCluster()
        self._residence: Residence | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        settings = ControlSettings.model_validate(user_config)
        specs = await asyncio.to_thread(settings.specs)
        first = self._residence is None
        if self._residence is None:
            self._residence = Residence(self._cluster, await self._recall(), _wall_clock())
        await self._residence.configure(
            specs, Policy.of(settings.residency), settings.residency.node_memory
        )
        if first:
            self._tasks = [
                asyncio.create_task(self._residence.keep_acting()),
                asyncio.create_task(self._keep_looking(self._residence)),
            ]

    async def _recall(self) -> Persisted:
        text = await self._cluster.read()
        return Persisted() if text is None else Persisted.loads(text, time.time())

    async def _keep_looking(self, residence: Residence) -> None:
        """Ask Serve and Ray how things are, for ever."""
        while True:
            try:
                async with asyncio.timeout(POLL_DEADLINE_S):
                    residence.see_nodes(await self._cluster.nodes())
                    asked_at = residence.now()
                    await residence.look(await self._cluster.poll(), asked_at)
            except Exception:
                # Serve's controller restarts now and then; the next poll asks the new one.
                logger.warning("could not read Serve's targets; trying again", exc_info=True)
            await asyncio.sleep(POLL_INTERVAL_S)

    def _ready(self) -> Residence:
        assert self._residence is not None, "Serve configures a replica before it is asked"
        return self._residence

    # --- replicas ---------------------------------------------------------------------------

    async def report(self, report: Report) -> None:
        await self._ready().report(report)

    async def order(self, replica: str, after: Epoch) -> Load | Park | None:
        return await self._ready().order(replica, after, LONGEST_WAIT_S)

    async def is_further(self, expert: str, replica: str) -> bool:
        return self._ready().is_further(expert, replica)

    # --- gateways ---------------------------------------------------------------------------

    async def snapshot(self, seen: int) -> Snapshot:
        return await self._ready().snapshot(seen, LONGEST_WAIT_S)

    async def wait(self, wish: Wish, seen: Standing | None) -> Standing | Reply:
        return await self._ready().wait(wish, seen, STANDING_S)

    async def leave(self, wish: str) -> None:
        self._ready().leave(wish)

    async def used(self, uses: Sequence[Use]) -> None:
        self._ready().used(uses)

    # --- operators --------------------------------------------------------------------------

    async def statuses(self) -> list[ExpertStatus]:
        return statuses(self._ready().machine)

    async def instruct(self, word: Word) -> Failure | None:
        return await self._ready().instruct(word)

    async def why(self, name: str) -> list[str]:
        return self._ready().machine.why(name)

    async def trace(self) -> list[str]:
        return self._ready().trace()

    async def check_health(self) -> None:
        """Serve calls this, and starts another Control where it raises."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"a task of Control's has ended: {task}")

    async def __del__(self) -> None:
        """Serve calls and awaits this when it stops the replica."""
        for task in self._tasks:
            task.cancel()
        if self._residence is not None:
            self._residence.close()


def _wall_clock() -> Callable[[], float]:
    """The wall clock as it was once, going on by a clock that is never set back."""
    ahead = time.time() - time.monotonic()
    return lambda: time.monotonic() + ahead
