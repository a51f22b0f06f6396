"""Parked, loading, loaded, parked again: and the memory with it."""

from __future__ import annotations

import asyncio
import gc
import mmap
from collections.abc import Callable
from pathlib import Path

import pytest

from capyra.engine.base import Engine
from capyra.engine.errors import EngineFault, LoadFailed, ModelError
from capyra.engine.types import Progress
from engines import GREEDY, Maker, ask, idle, ignore, reading, request, until

Build = Callable[..., Engine]

ENDLESS = {"ignore_eos": True}


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


async def test_a_load_tells_how_far_it_is(build: Build) -> None:
    engine = build()
    assert not engine.stats().loaded
    heard: list[Progress] = []
    await engine.load(heard.append)
    assert engine.stats().loaded
    fractions = [progress.fraction for progress in heard]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] == 1
    await engine.load(ignore)
    assert (await ask(engine, request())).usage.completion_tokens > 0


async def test_loads_at_the_same_time_are_one(build: Build) -> None:
    engine = build()
    heard: list[list[Progress]] = [[], [], []]
    await asyncio.gather(*(engine.load(each.append) for each in heard))
    assert all(each[-1].fraction == 1 for each in heard)
    assert (await ask(engine, request())).usage.completion_tokens > 0


async def test_a_cancelled_load_leaves_it_parked(
    build: Build, maker: Maker, tmp_path: Path
) -> None:
    engine = maker.loading(tmp_path)
    if engine is None:
        pytest.skip(f"{maker.name} has no way to load slowly")
    build(engine=engine)
    before = resident()
    for _ in range(2):
        heard: list[Progress] = []
        load = asyncio.create_task(engine.load(heard.append))
        await until(lambda heard=heard: len(heard) > 0)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert not engine.stats().loaded
    assert resident() - before < 16 * 2**20


async def test_one_who_stops_waiting_does_not_end_the_load_of_others(
    build: Build, maker: Maker, tmp_path: Path
) -> None:
    engine = maker.loading(tmp_path)
    if engine is None:
        pytest.skip(f"{maker.name} has no way to load slowly")
    build(engine=engine)
    heard: list[Progress] = []
    staying = asyncio.create_task(engine.load(heard.append))
    await until(lambda: len(heard) > 0)
    late: list[Progress] = []
    leaving = asyncio.create_task(engine.load(late.append))
    await until(lambda: len(late) > 0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert not staying.done()
    await engine.unload()
    with pytest.raises(LoadFailed):
        await staying


async def test_a_failed_load_can_be_tried_again(build: Build, maker: Maker, tmp_path: Path) -> None:
    made = maker.failing(tmp_path)
    if made is None:
        pytest.skip(f"{maker.name} has no way to fail")
    engine, mend = made
    build(engine=engine)
    with pytest.raises((LoadFailed, ModelError)) as failed:
        await engine.load(ignore)
    assert failed.value.message
    assert not engine.stats().loaded
    with pytest.raises(EngineFault):
        await anext(engine.generate(request()))
    mend()
    await engine.load(ignore)
    assert (await ask(engine, request())).usage.completion_tokens > 0


async def test_memory_comes_and_goes_ten_times(build: Build, maker: Maker, tmp_path: Path) -> None:
    made = maker.heavy(tmp_path)
    if made is None:
        pytest.skip(f"{maker.name} has no weights to weigh")
    engine, size = made
    build(engine=engine)
    await engine.load(ignore)
    first = (await ask(engine, request())).tokens
    await engine.unload()
    parked = resident()
    for _ in range(10):
        await engine.load(ignore)
        assert (await ask(engine, request())).tokens == first
        assert engine.stats().weight_bytes >= size
        assert resident() - parked > 0.9 * size
        await engine.unload()
        assert engine.stats().weight_bytes == 0
        assert engine.stats().kv_used == 0
        assert resident() - parked < 0.1 * size
    await engine.unload()


async def test_unloading_ends_what_runs(build: Build) -> None:
    engine = build(slow=True, queue={"running": 1})
    await engine.load(ignore)
    async with (
        reading(engine, request(id="one", limits=ENDLESS)) as one,
        reading(engine, request(id="two", sampling=GREEDY)) as two,
    ):
        await until(lambda: len(one.events) > 0 and engine.stats().waiting == 1)
        await engine.unload()
        assert idle(engine)
        assert [(await each.answers()).reason for each in (one, two)] == ["cancelled"] * 2
    with pytest.raises(EngineFault):
        await anext(engine.generate(request()))
    await engine.unload()
    await engine.load(ignore)
    await ask(engine, request(max_tokens=1))


async def test_an_unload_and_a_load_at_the_same_time_end_in_one_of_the_two(build: Build) -> None:
    engine = build()
    for first, second in (("load", "unload"), ("unload", "load"), ("unload", "unload")):
        calls = {"load": lambda: engine.load(ignore), "unload": engine.unload}
        await asyncio.gather(calls[first](), calls[second](), return_exceptions=True)
        if engine.stats().loaded:
            await ask(engine, request(max_tokens=1))
        else:
            with pytest.raises(EngineFault):
                await anext(engine.generate(request()))


async def test_closing_ends_what_runs_and_is_the_end(build: Build) -> None:
    engine = build(slow=True)
    await engine.load(ignore)
    async with reading(engine, request(limits=ENDLESS)) as reader:
        await until(lambda: len(reader.events) > 0)
        await engine.close()
        assert (await reader.answers()).reason == "cancelled"


def test_capabilities_need_no_weights_and_do_not_change(build: Build) -> None:
    engine = build(context=512, queue={"running": 3})
    capabilities = engine.capabilities()
    assert (capabilities.context, capabilities.max_batch) == (512, 3)
    assert capabilities == engine.capabilities()
