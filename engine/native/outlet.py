"""The way from the engine's thread to one reader on the asyncio loop, and back.

The thread puts events in and counts what the reader has not taken yet; when that is too much, the
request steps aside. The reader says from time to time how much it took. Nothing is shared: what
crosses is handed over in whole batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from capyra.engine.errors import CapyraError


class Outlet:
    """The thread's end. Everything here is called on the engine's thread, but for `reader`."""

    def __init__(self, lag: int) -> None:
        self.reader = Reader(lag)
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
    """The asyncio end: iterates over everything in order, then ends, or raises the error."""

    def __init__(self, lag: int) -> None:
        self.taken: Callable[[int], None] = lambda _: None
        """Told, from time to time, how much was taken."""
        self._share = max(1, lag // 4)
        self._count = 0
        self._items: deque[Any] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._error: CapyraError | None = None

    def receive(self, items: list[Any], *, over: bool, error: CapyraError | None) -> None:
        self._items.extend(items)
        self._over = self._over or over
        self._error = self._error or error
        self._news.set()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        self._count += 1
        if self._count >= self._share:
            self.taken(self._count)
            self._count = 0
        return self._items.popleft()
