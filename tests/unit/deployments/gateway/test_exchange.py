"""A client that leaves, seen from the work that it leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from capyra.deployments.gateway.errors import ClientGone
from capyra.deployments.gateway.exchange import Exchange
from capyra.deployments.gateway.meters import Record


class Client:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.get_running_loop().create_future()
        scope: dict[str, Any] = {"method": "GET", "path": "/", "headers": []}
        self.exchange = Exchange(scope, self._receive, self._send, Record())

    async def _receive(self) -> dict[str, Any]:
        await self.gone
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None: ...


class Deaf(Client):
    """Takes no byte."""

    async def _send(self, message: Any) -> None:
        await self.gone


async def served(client: Client, work: asyncio.Future[None]) -> str:
    async with client.exchange.watched():
        await work
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return "served"


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_leaving_ends_the_work_or_comes_too_late_and_nothing_between(steps: int) -> None:
    client, work = Client(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(served(client, work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    client.gone.set_result(None)
    for _ in range(steps):
        await asyncio.sleep(0)
    if not work.done():
        work.set_result(None)
    (told,) = await asyncio.gather(task, return_exceptions=True)
    assert told == "served" or isinstance(told, ClientGone)


async def test_a_client_that_never_reads_is_not_waited_for_for_ever() -> None:
    exchange = Deaf().exchange
    exchange.last_word_s = 0.01
    with pytest.raises(ClientGone):
        await exchange.end(b"the end")
