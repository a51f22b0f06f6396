"""The weights of one engine: one load or unload at a time, shared by everyone who waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from capyra.engine.base import Engine
from capyra.engine.errors import CapyraError, DeadlineExceeded, ExpertLost, LoadFailed
from capyra.engine.types import Progress

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0
"""How long a failed load is answered with its reason before a request may try again."""


class Loader:
    """Owns whether an engine's weights are there.

    Loads are single flight, with progress for all who wait; a failure is remembered a while; a
    load asked for during an unload follows it.
    """

    def __init__(
        self, expert: str, engine: Engine, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self._expert = expert
        self._engine = engine
        self._clock = clock
        self._changed = changed
        self._task: asyncio.Task[str | None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._progress = Progress("starting", 0.0)
        self._moved = asyncio.Event()
        self._failure: str | None = None
        self._failed_at = 0.0

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def ready(self) -> bool:
        """Whether the engine may be used now."""
        return self._task is None and self._leaving is None and self._engine.stats().loaded

    def start(self) -> asyncio.Task[str | None]:
        """The load that runs, or a new one; its result is why it failed. A failure just seen is
        raised again instead."""
        if self._task is None:
            if self._failure and self._clock() - self._failed_at < RETRY_AFTER_S:
                raise self._failed(self._failure)
            self._failure = None
            self._show(Progress("starting", 0.0))
            self._task = asyncio.create_task(self._load())
            self._task.add_done_callback(self._ended)
            self._changed()
        return self._task

    async def wait(self, deadline: float) -> AsyncIterator[Progress]:
        """Progress until the weights are there; `deadline` is a moment of the loop's clock."""
        if self.ready:
            return
        task = self.start()
        shown: Progress | None = None
        while not task.done():
            if self._progress != shown:
                shown = self._progress
                yield shown
                continue
            self._moved.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._moved.wait()
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the deadline passed while expert {self._expert!r} was loading "
                    f"({self._progress.stage}, {self._progress.fraction:.0%})"
                ) from error
        # Not `self._failure`: a reader that was slow may come when another load runs already.
        if task.cancelled():
            raise ExpertLost(f"this replica of expert {self._expert!r} is closing")
        if reason := task.result():
            raise self._failed(reason)

    async def settle(self) -> None:
        """Until no load runs."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def unload(self) -> None:
        """Give the weights back; whoever asks for them meanwhile gets them loaded after it."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._unload())
        await asyncio.shield(self._leaving)

    async def _unload(self) -> None:
        try:
            await self._engine.unload()
        finally:
            self._leaving = None
            self._changed()

    async def cancel(self) -> None:
        """End a load, and see an unload to its end; those who wait get `ExpertLost`."""
        if self._task is not None:
            self._task.cancel()
        if running := [each for each in (self._task, self._leaving) if each is not None]:
            await asyncio.wait(running)

    async def _load(self) -> str | None:
        loop = asyncio.get_running_loop()

        def show(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._show, progress)

        try:
            if self._leaving is not None:
                await asyncio.shield(self._leaving)
            await self._engine.load(show)
        except CapyraError as error:
            return error.message
        except Exception:
            # The border to an engine: whatever it throws, its waiters get an answer.
            logger.exception("loading expert %s broke", self._expert)
            return "its engine broke; the replica's log has the details"
        return None

    def _ended(self, task: asyncio.Task[str | None]) -> None:
        # A callback, because one that is cancelled before its first step runs no `finally`.
        self._task = None
        if not task.cancelled() and (reason := task.result()):
            self._failure, self._failed_at = reason, self._clock()
        self._moved.set()
        self._changed()

    def _show(self, progress: Progress) -> None:
        self._progress = progress
        self._moved.set()

    def _failed(self, reason: str) -> LoadFailed:
        return LoadFailed(
            f"expert {self._expert!r} could not be loaded: {reason}",
            retry_after_s=RETRY_AFTER_S,
        )
