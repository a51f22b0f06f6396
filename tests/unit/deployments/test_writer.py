"""What must outlive Control gets where it is safe: late perhaps, but never out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capyra.deployments.outbox import Outbox
from capyra.deployments.writer import Writer
from capyra.orchestrator.residency.effects import Load, Persist, Persisted, SetTarget
from capyra.orchestrator.residency.events import Epoch


class Store:
    """Each write waits until it is let go, and may fail."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.endings: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.kept: list[str] = []
        self.targets: list[int] = []

    async def write(self, text: str) -> None:
        self.begun.put_nowait(text)
        error = await self.endings.get()
        if error is not None:
            raise error
        self.kept.append(text)

    async def set_target(self, expert: str, replicas: int) -> None:
        self.targets.append(replicas)

    async def kill(self, replica: str) -> None: ...

    async def end(self, error: Exception | None = None) -> str:
        """Let the next write end; what it wrote."""
        async with asyncio.timeout(5):
            text = await self.begun.get()
        self.endings.put_nowait(error)
        return text


@asynccontextmanager
async def writing(store: Store) -> AsyncIterator[Writer]:
    writer = Writer(store.write, retry_s=0)
    task = asyncio.create_task(writer.keep_writing())
    yield writer
    task.cancel()
    await asyncio.wait([task])


async def test_what_failed_is_written_again_without_being_asked() -> None:
    store = Store()
    async with writing(store) as writer:
        number = writer.put("a")
        await store.end(OSError("away"))
        assert not await writer.is_safe(number, 5)
        assert await store.end() == "a"
        number = writer.put("b")
        assert await store.end() == "b"
        assert await writer.is_safe(number, 5)
    assert store.kept == ["a", "b"]


async def test_one_write_at_a_time_and_only_the_newest_next() -> None:
    store = Store()
    async with writing(store) as writer:
        first = writer.put("1")
        async with asyncio.timeout(5):
            assert await store.begun.get() == "1"
        numbers = [writer.put(text) for text in ("2", "3", "4")]
        assert not await writer.is_safe(first, 0.01), "given up, but not by the store"
        assert store.begun.empty()
        store.endings.put_nowait(None)
        assert await store.end() == "4"
        assert all([await writer.is_safe(number, 5) for number in [first, *numbers]])
    assert store.kept == ["1", "4"]


async def test_only_what_rests_on_a_write_waits_for_it() -> None:
    store, orders = Store(), list[object]()
    outbox = Outbox(store, orders.append, lambda _: None, retry_s=0)
    acting = asyncio.create_task(outbox.keep_acting())
    load = Load("a", "a/1", 1, Epoch(1, 1))
    number = outbox.put([load, Persist(Persisted(1)), SetTarget("a", 2, Epoch(1, 2))])
    async with asyncio.timeout(5):
        await store.begun.get()
    assert (orders, store.targets) == ([load], [])
    store.endings.put_nowait(None)
    assert await outbox.is_safe(number)
    await outbox.idle()
    assert store.targets == [2]
    acting.cancel()
    await asyncio.wait([acting])
