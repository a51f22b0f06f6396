"""The weights of one engine: one load or unload at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from capyra.engine.base import Engine
from capyra.engine.errors import CapyraError
from capyra.engine.types import Progress

logger = logging.getLogger(__name__)


class Loader:
    """Owns whether an engine's weights are there.

    A load asked for during an unload follows it; one that is given up leaves the engine parked.
    """

    def __init__(
        self,
        expert: str,
        engine: Engine,
        changed: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        self._expert = expert
        self._engine = engine
        self._changed = changed
        self._moved = moved
        self._task: asyncio.Task[str | None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self.progress = Progress("starting", 0.0)
        self.failure: str | None = None
        """Why the newest load failed."""

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def coming(self) -> bool:
        """Whether a load runs that nobody gave up."""
        return self._task is not None and not self._task.cancelling()

    @property
    def leaving(self) -> bool:
        """Whether weights are on their way out."""
        return self._leaving is not None

    @property
    def ready(self) -> bool:
        """Whether the engine may be used now."""
        return self._task is None and self._leaving is None and self._engine.stats().loaded

    def start(self, after: Iterable[Loader] = ()) -> None:
        """Load, unless the weights are there or on their way, when the loads of `after` ended."""
        if self.running or self.ready:
            return
        self.failure = None
        self.progress = Progress("starting", 0.0)
        before = [each._task for each in after if each._task is not None]
        self._task = asyncio.create_task(self._load(before))
        self._task.add_done_callback(self._ended)
        self._changed()

    def give_up(self) -> None:
        """Leave a load that runs. It runs until the engine has let go of what it had."""
        if self._task is not None and self.coming:
            self._task.cancel()

    def unload(self) -> None:
        """Give the weights back."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._unload())
            self._changed()

    async def _unload(self) -> None:
        try:
            await self._engine.unload()
        finally:
            self._leaving = None
            self._changed()

    async def cancel(self) -> None:
        """End a load, and see an unload to its end."""
        self.give_up()
        if running := [each for each in (self._task, self._leaving) if each is not None]:
            await asyncio.wait(running)

    async def _load(self, before: Sequence[asyncio.Task[str | None]]) -> str | None:
        loop = asyncio.get_running_loop()

        def show(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._show, progress)

        try:
            if before:
                await asyncio.wait(before)
            if self._leaving is not None:
                await asyncio.shield(self._leaving)
            await self._engine.load(show)
        except CapyraError as error:
            return error.message
        except Exception:
            # The border to an engine: whatever it throws, those who wait get an answer.
            logger.exception("loading expert %s broke", self._expert)
            return "its engine broke; the replica's log has the details"
        return None

    def _ended(self, task: asyncio.Task[str | None]) -> None:
        # A callback, because one that is cancelled before its first step runs no `finally`.
        self._task = None
        if not task.cancelled():
            self.failure = task.result()
        self._changed()

    def _show(self, progress: Progress) -> None:
        self.progress = progress
        self._moved()
