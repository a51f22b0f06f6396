"""What the residency machine wants done, on its way to whoever does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from capyra.deployments.writer import RETRY_S, Writer
from capyra.orchestrator.residency.effects import (
    Answer,
    Effect,
    Kill,
    Load,
    Park,
    Persist,
    SetTarget,
    Withdraw,
)
from capyra.orchestrator.residency.events import NEVER, Epoch

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long one effect may take. One that fails is wanted again by the machine, after a while."""


class Cluster(Protocol):
    """What moves the cluster. Each may fail with any error."""

    async def write(self, text: str) -> None:
        """Keep this safe in the place of what was kept. When it ends, it is over for good."""

    async def set_target(self, expert: str, replicas: int) -> None: ...

    async def kill(self, replica: str) -> None: ...


_Order = Load | Park | SetTarget | Kill


class Outbox:
    """Carries effects out in their order, but answers at once: nothing needs to be safe for them.

    Serve is asked by a second hand, also in order, and a third one writes: a controller that is
    away holds up no orders to replicas, and a store that is away only those that rest on what
    is not written yet.
    """

    def __init__(
        self,
        cluster: Cluster,
        order: Callable[[Load | Park], None],
        answer: Callable[[Answer], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._cluster = cluster
        self._writer = Writer(cluster.write, retry_s)
        self._order = order
        self._answer = answer
        self._orders: asyncio.Queue[tuple[list[tuple[_Order, int | None]], float]] = asyncio.Queue()
        self._moves: asyncio.Queue[SetTarget | Kill] = asyncio.Queue()
        self._withdrawn: dict[str, Epoch] = {}
        """Targets up to these are not asked for any longer, by expert."""

    def put(self, effects: Sequence[Effect]) -> int | None:
        """The number under which `is_safe` knows what is to be written of it, if anything is."""
        number: int | None = None
        orders: list[tuple[_Order, int | None]] = []
        for effect in effects:
            match effect:
                case Persist():
                    number = self._writer.put(effect.state.dumps())
                case Answer():
                    self._answer(effect)
                case Withdraw():
                    self._withdrawn[effect.expert] = effect.epoch
                case _:
                    orders.append((effect, number))
        if orders:
            give_up = asyncio.get_running_loop().time() + PATIENCE_S
            self._orders.put_nowait((orders, give_up))
        return number

    async def is_safe(self, number: int | None) -> bool:
        """Whether what was put under this number is written, or soon is."""
        return number is None or await self._writer.is_safe(number, PATIENCE_S)

    async def keep_acting(self) -> None:
        """Carry out what comes, for ever."""
        async with asyncio.TaskGroup() as hands:
            hands.create_task(self._keep_ordering())
            hands.create_task(self._keep_moving())
            hands.create_task(self._writer.keep_writing())

    async def idle(self) -> None:
        """Until all that was put is done."""
        await self._orders.join()
        await self.is_safe(self._writer.newest)
        await self._moves.join()

    async def _keep_ordering(self) -> None:
        while True:
            orders, give_up = await self._orders.get()
            for order, number in orders:
                left = max(0.0, give_up - asyncio.get_running_loop().time())
                # What nobody could write down is not followed.
                if number is None or await self._writer.is_safe(number, left):
                    self._pass_on(order)
            self._orders.task_done()

    def _pass_on(self, order: _Order) -> None:
        if isinstance(order, Load | Park):
            self._order(order)
        else:
            self._moves.put_nowait(order)

    async def _keep_moving(self) -> None:
        while True:
            effect = await self._moves.get()
            if isinstance(effect, Kill):
                await _tried("kill", self._cluster.kill(effect.replica))
            elif effect.epoch > self._withdrawn.get(effect.expert, NEVER):
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
