from __future__ import annotations

import asyncio

import pytest

from capyra.engine.base import ProgressSink
from capyra.engine.errors import LoadFailed
from capyra.engine.loading import SharedLoad
from capyra.engine.types import Progress

HALF, WHOLE = Progress("weights", 0.5), Progress("ready", 1.0)


class Work:
    """A load that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, progress: ProgressSink) -> None:
        self.begun += 1
        progress(HALF)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        progress(WHOLE)


async def joined(load: SharedLoad, heard: list[Progress]) -> asyncio.Task[None]:
    """A caller that waits for the load."""
    task = asyncio.create_task(load.join(heard.append))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_all_share_one_load_and_hear_of_it() -> None:
    work = Work()
    load = SharedLoad(work)
    heard: list[list[Progress]] = [[], []]
    tasks = [await joined(load, each) for each in heard]
    assert heard == [[HALF], [HALF]], "who comes late hears the newest"
    work.gate.set()
    await asyncio.gather(*tasks)
    assert heard == [[HALF, WHOLE]] * 2
    assert (work.begun, load.running) == (1, False)


async def test_the_last_to_leave_ends_it() -> None:
    work = Work()
    load = SharedLoad(work)
    first, second = [await joined(load, []) for _ in range(2)]
    first.cancel()
    await asyncio.wait([first])
    assert work.cancelled == 0
    second.cancel()
    await asyncio.wait([second])
    assert (work.cancelled, load.running) == (1, False)
    work.gate.set()
    await load.join(lambda _: None)
    assert work.begun == 2


async def test_a_failure_reaches_all_and_the_next_starts_afresh() -> None:
    work = Work()
    load = SharedLoad(work)
    work.error = LoadFailed("no such file")
    tasks = [await joined(load, []) for _ in range(2)]
    work.gate.set()
    for task in tasks:
        with pytest.raises(LoadFailed, match="no such file"):
            await task
    work.error = None
    await load.join(lambda _: None)


async def test_ending_it_is_no_cancellation_of_those_who_wait() -> None:
    work = Work()
    load = SharedLoad(work)
    task = await joined(load, [])
    await load.cancel()
    with pytest.raises(LoadFailed, match="unloading"):
        await task
    await load.cancel()


async def test_one_that_is_ended_before_its_first_step_can_begin_again() -> None:
    work = Work()
    load = SharedLoad(work)
    caller = asyncio.create_task(load.join(ignore))
    await asyncio.sleep(0)
    await load.cancel()
    with pytest.raises(LoadFailed):
        await caller
    assert (work.begun, load.running) == (0, False)
    work.gate.set()
    await load.join(ignore)
    assert work.begun == 1


def ignore(progress: Progress) -> None:
    """For loads that nobody watches."""
