"""What must outlive Control, on its way to where it is safe."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

RETRY_S = 2.0
"""What could not be written is written again after so long."""


class Writer:
    """Writes the newest state, and skips what it has replaced.

    One write at a time, however long it takes: one that was given up could still arrive, and
    would then take the place of a newer one.
    """

    def __init__(self, write: Callable[[str], Awaitable[None]], retry_s: float = RETRY_S) -> None:
        self._write = write
        self._retry_s = retry_s
        self._text = ""
        self.newest = 0
        """The number of what was put last."""
        self._safe = 0
        self._tried = 0
        """The newest whose writing has ended, well or not."""
        self._came = asyncio.Event()
        self._ended = asyncio.Condition()

    def put(self, text: str) -> int:
        """Have this written in the place of all before; its number."""
        self._text = text
        self.newest += 1
        self._came.set()
        return self.newest

    async def is_safe(self, number: int, patience_s: float) -> bool:
        """Whether this, or a newer one, is safe; False once writing it failed or took so long."""
        try:
            async with asyncio.timeout(patience_s), self._ended:
                await self._ended.wait_for(lambda: self._tried >= number)
        except TimeoutError:
            logger.warning("what must outlive Control was not written in %.1f s", patience_s)
        return self._safe >= number

    async def keep_writing(self) -> None:
        """Write what comes, for ever; what fails is written again, or what replaced it."""
        while True:
            await self._await_work()
            self._came.clear()
            number = self.newest
            try:
                await self._write(self._text)
            except Exception:
                logger.warning("could not write down what must outlive Control; it is tried again",
                               exc_info=True)  # fmt: skip
            else:
                self._safe = number
            async with self._ended:
                self._tried = number
                self._ended.notify_all()

    async def _await_work(self) -> None:
        """Until something came, or what failed is due again."""
        patience_s = None if self._safe == self.newest else self._retry_s
        try:
            async with asyncio.timeout(patience_s):
                await self._came.wait()
        except TimeoutError:
            return
