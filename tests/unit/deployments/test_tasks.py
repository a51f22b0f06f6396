"""Whoever lost a task is not well."""

from __future__ import annotations

import asyncio

import pytest

from capyra.deployments.tasks import check_running


async def test_a_task_that_ended_is_told() -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    tasks = [asyncio.create_task(wait()), asyncio.create_task(asyncio.sleep(60))]
    check_running("expert 'a'", tasks)
    gate.set()
    await tasks[0]
    with pytest.raises(RuntimeError, match="expert 'a' has ended"):
        check_running("expert 'a'", tasks)
    tasks[1].cancel()
