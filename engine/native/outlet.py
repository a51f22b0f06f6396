"""The way from the engine's thread to one reader on the asyncio loop, and back.

The thread puts events in and counts what the reader has not taken yet; when that is too much, the
request steps aside. The reader says from time to time how much it took. Nothing is shared: what
crosses is handed over in whole batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from capyra.engine.errors import CapyraError


class Outlet:
    """The thread's end. Everything here is called on the engine's thread, but for `reader`."""

    def __init__(self, reader: Reader, *, lag: int) -> None:
        self.reader = reader
        self._credit = lag
        self._items: list[Any] = []
        self._error: CapyraError | None = None
        self._over = False

    @property
    def slow(self) -> bool:
        """Whether the reader has so much to take that nothing more should be made for it."""
        return self._credit <= 0

    def put(self, items: Iterable[Any]) -> None:
        before = len(self._items)
        self._items.extend(items)
        self._credit -= len(self._items) - before

    def taken(self, count: int) -> None:
        self._credit += count

    def finish(self) -> None:
        self._over = True

    def fail(self, error: CapyraError) -> None:
        if not self._over:
            self._over, self._error = True, error

    def handover(self) -> Callable[[], None] | None:
        """What the asyncio loop is to call, if there is anything new."""
        if not self._items and not self._over:
            return None
        items, self._items = self._items, []
        over, error, reader = self._over, self._error, self.reader
        return lambda: reader.receive(items, over=over, error=error)


class Reader:
    """The asyncio end: what has come and was not read yet."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._error: CapyraError | None = None

    def receive(self, items: list[Any], *, over: bool, error: CapyraError | None) -> None:
        self._items.extend(items)
        self._over = self._over or over
        self._error = self._error or error
        self._news.set()

    async def read(self, taken: Callable[[int], None], share: int) -> AsyncGenerator[Any, None]:
        """Everything in order; then the end, or the error. `taken` is told of every `share`."""
        count = 0
        while True:
            while self._items:
                yield self._items.popleft()
                count += 1
                if count >= share:
                    taken(count)
                    count = 0
            if self._error is not None:
                raise self._error
            if self._over:
                return
            self._news.clear()
            await self._news.wait()
