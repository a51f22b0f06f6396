"""Leaving at any moment, and being sent away: nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from capyra.engine.base import Engine
from capyra.engine.types import Delta, Event, Finished, GenerateRequest, Started
from engines import Reader, ask, collect, idle, ignore, reading, request, until

Build = Callable[..., Engine]

ENDLESS = {"ignore_eos": True}


def short(**fields: object) -> GenerateRequest:
    return request(n=2, max_tokens=4, limits=ENDLESS, **fields)


async def test_closing_the_iterator_at_every_event(engine: Engine) -> None:
    whole = await ask(engine, short())
    for place in range(len(whole.events) + 1):
        stream = engine.generate(short())
        events = [await anext(stream) for _ in range(place)]
        await stream.aclose()
        await until(lambda: idle(engine))
        assert len(events) == place
    assert (await ask(engine, short())).tokens == whole.tokens


async def test_cancelling_the_reader_at_every_event(engine: Engine) -> None:
    whole = await ask(engine, short())
    for place in range(len(whole.events)):
        there = asyncio.Event()

        async def read(place: int = place, there: asyncio.Event = there) -> None:
            async with aclosing(engine.generate(short())) as stream:
                for _ in range(place):
                    await anext(stream)
                there.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: idle(engine))
    assert (await ask(engine, short())).tokens == whole.tokens


async def test_cancelling_a_reader_that_waits_for_the_next_event(build: Build) -> None:
    engine = build(slow=True)
    await engine.load(ignore)
    async with reading(engine, request(limits=ENDLESS)) as reader:
        await until(lambda: len(reader.events) > 0)
        reader.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader.task
        await until(lambda: idle(engine))


async def test_abort_while_it_writes(build: Build) -> None:
    engine = build(slow=True)
    await engine.load(ignore)
    async with reading(engine, request(n=2, limits=ENDLESS)) as reader:
        await until(lambda: any(isinstance(event, Delta) for event in reader.events))
        assert engine.abort("r")
        answers = await reader.answers()
    assert isinstance(answers.events[0], Started)
    assert answers.reason == "cancelled"
    assert not engine.abort("r"), "it is over"


async def test_abort_while_it_waits(build: Build) -> None:
    engine = build(slow=True, queue={"running": 1})
    await engine.load(ignore)
    async with (
        reading(engine, request(id="first", limits=ENDLESS)) as first,
        reading(engine, request(id="second", n=2)) as second,
    ):
        await until(lambda: len(first.events) > 0 and engine.stats().waiting == 1)
        assert engine.abort("second")
        answers = await second.answers()
        assert [type(event) for event in answers.events[:-1]] == [Finished, Finished]
        assert answers.reason == "cancelled"
        assert answers.usage.prompt_tokens > 0
        assert not first.task.done(), "the other goes on"


async def test_abort_before_the_prompt_is_read(engine: Engine) -> None:
    async with reading(engine, request("word " * 300, limits=ENDLESS)) as reader:
        await until(lambda: not idle(engine))
        assert engine.abort("r")
        assert (await reader.answers()).reason == "cancelled"


async def test_abort_between_two_events(engine: Engine) -> None:
    stream = engine.generate(request(max_tokens=1000, limits=ENDLESS))
    events: list[Event] = [await anext(stream), await anext(stream)]
    engine.abort("r")
    events += [event async for event in stream]
    assert collect(events, 1).reason == "cancelled"


async def test_abort_of_nobody(engine: Engine) -> None:
    assert not engine.abort("nobody")
    await ask(engine, request(id="gone", max_tokens=1))
    assert not engine.abort("gone")


async def test_one_that_leaves_does_not_touch_the_others(engine: Engine) -> None:
    alone = await ask(engine, request(max_tokens=64, limits=ENDLESS))
    async with reading(engine, request(max_tokens=64, limits=ENDLESS)) as staying:
        for place in range(8):
            leaving = Reader(engine, request(id=f"leaving-{place}", limits=ENDLESS))
            await asyncio.sleep(0)
            leaving.task.cancel()
            await asyncio.wait([leaving.task])
        assert (await staying.answers()).tokens == alone.tokens
