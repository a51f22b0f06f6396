"""From an engine's events to batches: the first at once, more together only under backlog."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from capyra.engine.errors import CapyraError, DeadlineExceeded, EngineFault
from capyra.engine.types import Done, Event, StreamItem

logger = logging.getLogger(__name__)

HEAD_S = 0.05
"""How long the head waits for company: each batch costs a message between two processes, and
most of the time of a short answer is spent on those."""

MOST_HELD = 256
"""Events held for a slow reader; then the engine's stream waits, which slows that answer only."""


class _Ahead:
    """Reads ahead of its consumer, as far as it may."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self._held: deque[StreamItem] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._error: CapyraError | None = None
        self._ended = False

    async def pump(self) -> None:
        try:
            async for event in self._events:
                self._held.append(event)
                self._filled.set()
                if len(self._held) >= MOST_HELD:
                    self._drained.clear()
                    await self._drained.wait()
        except CapyraError as error:
            self._error = error
        except Exception:
            # The border to an engine: whatever it throws, the client gets an answer.
            logger.exception("an engine broke while it generated")
            self._error = EngineFault("the expert's engine broke; the request was not finished")
        finally:
            self._ended = True
            self._filled.set()

    async def take(self) -> list[StreamItem]:
        """All that is there, or the first that comes; empty at the end."""
        if not self._held and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        batch = list(self._held)
        self._held.clear()
        self._drained.set()
        if not batch and self._error is not None:
            raise self._error
        return batch

    async def take_soon(self, until: float) -> list[StreamItem]:
        """As `take`, but empty if nothing came until then."""
        try:
            async with asyncio.timeout_at(until):
                return await self.take()
        except TimeoutError:
            return []


async def relay(
    events: AsyncIterator[Event], deadline: float, head: StreamItem | None = None
) -> AsyncGenerator[list[StreamItem]]:
    """The events in order, in batches. The engine's stream is closed with this one.

    `deadline` is a moment of the loop's clock. `head` comes first: together with the first events
    if they come soon, alone if they do not, and never if the engine refuses meanwhile.
    """
    clock = asyncio.get_running_loop().time
    ahead = _Ahead(events)
    pump = asyncio.create_task(ahead.pump())
    try:
        if head is not None:
            yield [head, *await ahead.take_soon(min(clock() + HEAD_S, deadline))]
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    batch = await ahead.take()
            except TimeoutError as error:
                raise _late() from error
            if not batch:
                return
            yield batch
            # Where there is always more to take, no timeout ever gets its turn.
            if clock() >= deadline and not isinstance(batch[-1], Done):
                raise _late()
    finally:
        pump.cancel()
        await asyncio.wait({pump})
        if isinstance(events, AsyncGenerator):
            await events.aclose()


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's deadline passed before its answer ended")
