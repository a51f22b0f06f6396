"""What the residency machine wants done, on its way to whoever does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from capyra.orchestrator.residency.effects import (
    Answer,
    Effect,
    Kill,
    Load,
    Park,
    Persist,
    SetTarget,
)

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long one effect may take. One that fails is wanted again by the machine, after a while."""


class Cluster(Protocol):
    """What moves the cluster. Each may fail with any error."""

    async def write(self, text: str) -> None:
        """Keep this safe in the place of what was kept."""

    async def set_target(self, expert: str, replicas: int) -> None: ...

    async def kill(self, replica: str) -> None: ...


class Outbox:
    """Carries effects out in their order.

    Serve is asked by a second hand, also in order: a controller that is away holds up neither
    orders to replicas nor answers to requests.
    """

    def __init__(
        self,
        cluster: Cluster,
        order: Callable[[Load | Park], None],
        answer: Callable[[Answer], None],
    ) -> None:
        self._cluster = cluster
        self._order = order
        self._answer = answer
        self._effects: asyncio.Queue[Sequence[Effect]] = asyncio.Queue()
        self._moves: asyncio.Queue[SetTarget | Kill] = asyncio.Queue()

    def put(self, effects: Sequence[Effect]) -> None:
        if effects:
            self._effects.put_nowait(effects)

    async def keep_acting(self) -> None:
        """Carry out what comes, for ever."""
        async with asyncio.TaskGroup() as hands:
            hands.create_task(self._keep_deciding())
            hands.create_task(self._keep_moving())

    async def idle(self) -> None:
        """Until all that was put is done."""
        await self._effects.join()
        await self._moves.join()

    async def _keep_deciding(self) -> None:
        while True:
            effects = await self._effects.get()
            await self._carry_out(effects)
            self._effects.task_done()

    async def _carry_out(self, effects: Sequence[Effect]) -> None:
        safe = True
        for effect in effects:
            match effect:
                case Persist():
                    # What nobody could write down is not followed, but who waits is answered.
                    safe = await _tried("write", self._cluster.write(effect.state.dumps()))
                case Answer():
                    self._answer(effect)
                case Load() | Park() if safe:
                    self._order(effect)
                case SetTarget() | Kill() if safe:
                    self._moves.put_nowait(effect)

    async def _keep_moving(self) -> None:
        while True:
            effect = await self._moves.get()
            if isinstance(effect, Kill):
                await _tried("kill", self._cluster.kill(effect.replica))
            else:
                setting = self._cluster.set_target(effect.expert, effect.replicas)
                await _tried("set a target", setting)
            self._moves.task_done()


async def _tried(what: str, work: Awaitable[None]) -> bool:
    """Whether it succeeded, in time."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await work
    except Exception:
        logger.warning("could not %s; it will be tried again if it is still wanted", what,
                       exc_info=True)  # fmt: skip
        return False
    return True
