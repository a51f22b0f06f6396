"""From an engine's events to batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from capyra.deployments.relay import relay
from capyra.engine.errors import DeadlineExceeded
from capyra.engine.types import Delta, Done, Event, StreamItem, Usage


async def endless() -> AsyncGenerator[Event]:
    while True:
        yield Delta(0, "x", (1,))
        await asyncio.sleep(0)


async def read_slowly(batches: AsyncGenerator[list[StreamItem]]) -> None:
    async for _ in batches:
        # Meanwhile there is more to take.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_deadline_ends_a_stream_that_never_pauses() -> None:
    deadline = asyncio.get_running_loop().time() + 0.01
    with pytest.raises(DeadlineExceeded):
        await read_slowly(relay(endless(), deadline))


async def test_an_answer_that_ended_is_not_late() -> None:
    async def short() -> AsyncGenerator[Event]:
        yield Done(Usage(1, 1))

    batches = relay(short(), asyncio.get_running_loop().time() + 10)
    assert [batch async for batch in batches] == [[Done(Usage(1, 1))]]
