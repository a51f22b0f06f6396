"""What each route for operators does: see what is in memory and why, and say what shall be."""

from __future__ import annotations

from capyra.deployments.experts import Experts, ExpertView, Word
from capyra.deployments.gateway import admin, models, openapi
from capyra.deployments.gateway.admin import KeepAliveBody, ScaleBody
from capyra.deployments.gateway.answers import within
from capyra.deployments.gateway.exchange import Exchange
from capyra.deployments.gateway.handlers import Handlers
from capyra.deployments.gateway.sse import compact
from capyra.orchestrator.residency.events import KeepAlive, Pin, Unload


class Operators:
    """One method for each route."""

    def __init__(self, core: Handlers, experts: Experts) -> None:
        self._core = core
        self._experts = experts

    async def experts(self, exchange: Exchange) -> None:
        found = admin.listing(await self._experts.statuses())
        await exchange.reply(200, compact(found).encode())

    async def expert(self, exchange: Exchange) -> None:
        await self._status(exchange, self._named(exchange, -1))

    async def load(self, exchange: Exchange) -> None:
        view = models.find_running(self._core.views, self._named(exchange, -2).name)
        seconds = self._core.seconds(view, None)
        async with within(exchange, seconds):
            await self._experts.load(view.name, seconds)
        await self._status(exchange, view)

    async def unload(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        await self._instruct(exchange, view, Unload(view.name))

    async def pin(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        await self._instruct(exchange, view, Pin(view.name, on=True))

    async def unpin(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        await self._instruct(exchange, view, Pin(view.name, on=False))

    async def keep_alive(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        body = await self._core.reader.read(exchange, KeepAliveBody)
        await self._instruct(exchange, view, KeepAlive(view.name, body.keep_alive))

    async def scale(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        body = await self._core.reader.read(exchange, ScaleBody)
        await self._instruct(exchange, view, body.word(view))

    async def why(self, exchange: Exchange) -> None:
        lines = await self._experts.why(exchange.path.rpartition("/")[2])
        await exchange.reply(200, compact({"lines": list(lines)}).encode())

    async def trace(self, exchange: Exchange) -> None:
        lines = "".join(f"{line}\n" for line in await self._experts.trace())
        await exchange.reply(200, lines.encode(), ((b"content-type", openapi.LINES.encode()),))

    def _named(self, exchange: Exchange, at: int) -> ExpertView:
        """The expert that the path names in that segment."""
        return models.find(self._core.views, exchange.path.split("/")[at])

    async def _instruct(self, exchange: Exchange, view: ExpertView, word: Word) -> None:
        await self._experts.instruct(word)
        await self._status(exchange, view)

    async def _status(self, exchange: Exchange, view: ExpertView) -> None:
        found = admin.one(await self._experts.statuses(), view.name)
        await exchange.reply(200, compact(found).encode())
