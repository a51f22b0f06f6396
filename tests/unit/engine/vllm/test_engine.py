"""The asyncio side of the vLLM engine, over a driver that computes nothing."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from capyra.engine.config import ExpertConfig
from capyra.engine.errors import EngineFault, LoadFailed
from capyra.engine.registry import EngineSpec
from capyra.engine.types import Progress
from capyra.engine.vllm.arguments import Plan
from capyra.engine.vllm.calls import Piece
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.engine import VllmEngine
from capyra.engine.vllm.stages import OnStage
from capyra.engine.vllm.work import Work
from engines import ask, idle, ignore, reading, request, until
from tiny import tiny_model


class Parrot(Driver):
    """Says `a` once a note, or breaks. As with vLLM, a process has one at a time."""

    open = 0

    def __init__(self, tally: Tally, readers: asyncio.AbstractEventLoop) -> None:
        self.weight_bytes, self.kv_bytes, self.block = 1, 1, 32
        self.broken = False
        self._tally = tally
        self._readers = readers
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        type(self).open += 1

    def run(self) -> None:
        while (note := self._inbox.get()) is not None:
            note()

    def submit(self, work: Work) -> None:
        self._inbox.put(lambda: self._answer(work))

    def abort(self, name: str) -> None: ...

    def drop(self, name: str) -> None: ...

    def stop(self) -> None:
        self._inbox.put(None)

    def close(self) -> None:
        type(self).open -= 1

    def _answer(self, work: Work) -> None:
        if self.broken:
            raise RuntimeError("out of luck")
        for call in work.calls():
            self._tally.take(work, Piece(call=call.id, tokens=(65,), finished="length"))
        handover = work.outlet.handover()
        assert handover is not None
        self._readers.call_soon_threadsafe(handover)


class Cage:
    def __init__(self) -> None:
        self.parrots: list[Parrot] = []

    def start(
        self, plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
    ) -> Driver:
        if Parrot.open:
            raise LoadFailed("there is one already")
        on_stage("ready", 1.0)
        self.parrots.append(Parrot(tally, readers))
        return self.parrots[-1]


@pytest.fixture
def cage() -> Cage:
    return Cage()


@pytest.fixture
async def engine(cage: Cage, tmp_path: Path) -> AsyncIterator[VllmEngine]:
    spec = EngineSpec("large", ExpertConfig(engine="vllm"), tiny_model(tmp_path))
    engine = VllmEngine(spec, cage.start)
    yield engine
    await engine.close()
    assert Parrot.open == 0


async def test_a_load_says_something_at_once(engine: VllmEngine) -> None:
    heard: list[Progress] = []
    await engine.load(heard.append)
    assert [each.fraction for each in heard] == [0, 1]


async def test_a_load_comes_after_the_unload_before_it(engine: VllmEngine, cage: Cage) -> None:
    await engine.load(ignore)
    unload = asyncio.create_task(engine.unload())
    await until(lambda: not engine.stats().loaded)
    assert not unload.done()
    await asyncio.gather(unload, engine.load(ignore))
    assert engine.stats().loaded
    assert len(cage.parrots) == 2
    assert (await ask(engine, request(max_tokens=1))).usage.completion_tokens == 1


async def test_a_driver_that_breaks_is_closed_and_the_next_one_serves(
    engine: VllmEngine, cage: Cage
) -> None:
    await engine.load(ignore)
    cage.parrots[0].broken = True
    with pytest.raises(EngineFault, match="out of luck"):
        await ask(engine, request())
    assert not engine.stats().loaded
    assert idle(engine)
    await engine.load(ignore)
    assert (await ask(engine, request(max_tokens=1))).tokens == [65]


async def test_a_cancelled_load_leaves_nothing(engine: VllmEngine) -> None:
    load = asyncio.create_task(engine.load(ignore))
    await asyncio.sleep(0)
    load.cancel()
    await asyncio.wait([load])
    assert not engine.stats().loaded
    assert Parrot.open == 0


async def test_who_leaves_is_forgotten(engine: VllmEngine, cage: Cage) -> None:
    await engine.load(ignore)
    cage.parrots[0].submit = lambda work: None  # type: ignore[method-assign]  # nothing comes
    async with reading(engine, request()):
        await until(lambda: engine.stats().waiting == 1)
    assert idle(engine)
