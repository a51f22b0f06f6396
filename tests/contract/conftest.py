"""Every test of this folder runs on every engine, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from capyra.engine.base import Engine
from engines import MAKERS, Maker, idle, ignore, until

Build = Callable[..., Engine]


@pytest.fixture(params=[name for name, maker in MAKERS.items() if not maker.missing])
def maker(request: pytest.FixtureRequest) -> Maker:
    return MAKERS[request.param]


@pytest.fixture
async def build(maker: Maker, tmp_path: Path) -> AsyncIterator[Build]:
    """Makes engines, parked; at the end each is idle, closes, and is gone without a trace."""
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    made: list[Engine] = []

    def make(*, slow: bool = False, engine: Engine | None = None, **config: Any) -> Engine:
        if slow and maker.slow is None:
            pytest.skip(f"{maker.name} cannot be made slow")
        folder = tmp_path / str(len(made))
        folder.mkdir()
        options = maker.slow if slow and maker.slow else {}
        made.append(engine or maker.build(folder, options, **config))
        return made[-1]

    yield make
    for engine in made:
        await until(lambda engine=engine: idle(engine))
        await engine.close()
        await engine.close()
        assert not engine.stats().loaded
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    assert set(threading.enumerate()) <= threads


@pytest.fixture
async def engine(build: Build) -> Engine:
    """An engine with its weights."""
    engine = build()
    await engine.load(ignore)
    return engine
