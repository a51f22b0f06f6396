"""One load for all who ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from capyra.engine.base import ProgressSink
from capyra.engine.errors import LoadFailed
from capyra.engine.types import Progress


class SharedLoad:
    """Runs `work` once for any number of callers; it is cancelled when the last of them leaves.

    `work` gets a sink that reports to all callers, and must clean up after itself when it fails
    or is cancelled. A caller that comes late hears the newest progress at once.
    """

    def __init__(self, work: Callable[[ProgressSink], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._sinks: list[ProgressSink] = []
        self._newest: Progress | None = None

    @property
    def running(self) -> bool:
        # Not a flag that the work clears: cancelled before its first step, it would clear nothing.
        return self._task is not None and not self._task.done()

    async def join(self, progress: ProgressSink) -> None:
        """Wait for the load that runs, or start one."""
        if self._task is None or self._task.done():
            self._newest = None
            self._task = asyncio.create_task(self._work(self._report), name="load")
        elif self._newest is not None:
            progress(self._newest)
        task = self._task
        self._sinks.append(progress)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled() and not _leaving():
                raise LoadFailed("the load was given up: the expert is unloading") from error
            raise
        finally:
            self._sinks.remove(progress)
            if not self._sinks and not task.done():
                await _end(task)

    async def cancel(self) -> None:
        """End the load that runs, if one does; those who wait for it get `LoadFailed`."""
        if self._task is not None:
            await _end(self._task)

    def _report(self, progress: Progress) -> None:
        self._newest = progress
        for sink in tuple(self._sinks):
            sink(progress)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _leaving() -> bool:
    """Whether it is the caller itself that is being cancelled."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0
