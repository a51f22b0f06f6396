"""From an engine's events to batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from capyra.deployments.relay import relay
from capyra.engine.errors import ContextTooLong, DeadlineExceeded
from capyra.engine.types import Accepted, Delta, Done, Event, StreamItem, Usage


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


HEAD = Accepted("alpha", "r1", ready=True, waiting=0)


async def test_the_head_comes_with_what_comes_soon() -> None:
    async def short() -> AsyncGenerator[Event]:
        yield Done(Usage(1, 1))

    batches = relay(short(), asyncio.get_running_loop().time() + 10, HEAD)
    assert [batch async for batch in batches] == [[HEAD, Done(Usage(1, 1))]]


async def test_the_head_does_not_wait_for_long() -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncGenerator[Event]:
        await gate.wait()
        yield Done(Usage(1, 1))

    batches = relay(slow(), asyncio.get_running_loop().time() + 10, HEAD)
    assert await anext(batches) == [HEAD]
    gate.set()
    assert [batch async for batch in batches] == [[Done(Usage(1, 1))]]


async def test_what_an_engine_refuses_at_once_has_no_head() -> None:
    async def refusing() -> AsyncGenerator[Event]:
        raise ContextTooLong("too long")
        yield

    with pytest.raises(ContextTooLong):
        await anext(relay(refusing(), asyncio.get_running_loop().time() + 10, HEAD))
