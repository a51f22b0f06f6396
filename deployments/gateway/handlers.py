"""What each route does: read, decide, ask the expert, deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version

from capyra.deployments.experts import Experts, ExpertView, Word
from capyra.deployments.gateway import admin, embeddings, models, openapi, tokens
from capyra.deployments.gateway.admin import KeepAliveBody, ScaleBody
from capyra.deployments.gateway.answers import Terms, deliver, within
from capyra.deployments.gateway.chat import ChatBody, ChatDialect
from capyra.deployments.gateway.completions import CompletionBody, CompletionDialect
from capyra.deployments.gateway.embeddings import EmbeddingBody
from capyra.deployments.gateway.exchange import JSON, Exchange
from capyra.deployments.gateway.fan import merged
from capyra.deployments.gateway.meters import EXPOSITION_TYPE, Meters
from capyra.deployments.gateway.reading import Reader
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.gateway.sse import compact
from capyra.deployments.gateway.tokens import DetokenizeBody, TokenizeBody
from capyra.orchestrator.residency.events import KeepAlive, Pin, Unload

_TRACE = (b"traceparent", b"tracestate")


class Handlers:
    """One method for each route."""

    def __init__(
        self, experts: Experts, config: ServerConfig, meters: Meters, now: Callable[[], float]
    ) -> None:
        self._experts = experts
        self._config = config
        self._meters = meters
        self._now = now
        self._since = int(now())
        self._document: bytes | None = None
        self.reader = Reader(config.body)

    async def chat(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, ChatBody)
        view = self._expert(exchange, body.model)
        seconds = self._seconds(view, body.timeout)
        request = body.request(
            id_=exchange.id,
            salt=_salt(exchange, view, body.cache_salt),
            seconds=_left(exchange, seconds),
            defaults=view.config.sampling,
            config=self._config,
        )
        dialect = ChatDialect(
            id_=exchange.id, model=view.name, created=int(self._now()), usage=body.wants_usage
        )
        batches = self._experts.generate(view.name, request, body.call(_trace(exchange)))
        terms = Terms(bool(body.stream), seconds, request.n)
        await deliver(exchange, batches, dialect, terms, self._config.heartbeat)

    async def complete(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, CompletionBody)
        view = self._expert(exchange, body.model)
        seconds = self._seconds(view, body.timeout)
        requests = body.requests(
            id_=exchange.id,
            salt=_salt(exchange, view, body.cache_salt),
            seconds=_left(exchange, seconds),
            defaults=view.config.sampling,
            most=self._config.prompts,
        )
        dialect = CompletionDialect(
            id_=exchange.id,
            model=view.name,
            created=int(self._now()),
            requests=requests,
            usage=body.wants_usage,
        )
        call, n = body.call(_trace(exchange)), requests[0].n
        begin = [partial(self._experts.generate, view.name, request, call) for request in requests]
        width = view.config.queue.running
        batches = begin[0]() if len(begin) == 1 else merged(begin, n, width)
        terms = Terms(bool(body.stream), seconds, n * len(requests))
        await deliver(exchange, batches, dialect, terms, self._config.heartbeat)

    async def embed(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, EmbeddingBody)
        view = self._expert(exchange, body.model)
        seconds = self._seconds(view, body.timeout)
        request = body.request(
            id_=exchange.id,
            salt=_salt(exchange, view, body.cache_salt),
            seconds=_left(exchange, seconds),
            most=self._config.prompts,
        )
        async with within(exchange, seconds):
            found = await self._experts.embed(view.name, request, body.call(_trace(exchange)))
        exchange.record.prompt_tokens = found.prompt_tokens
        await exchange.reply(200, embeddings.reply(body, found))

    async def tokenize(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, TokenizeBody)
        view = self._expert(exchange, body.model)
        async with within(exchange, self._seconds(view, None)):
            found = await self._experts.render(view.name, body.rendered(self._config))
        await exchange.reply(200, tokens.tokenized(view, found))

    async def detokenize(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, DetokenizeBody)
        view = self._expert(exchange, body.model)
        async with within(exchange, self._seconds(view, None)):
            text = await self._experts.detokenize(view.name, body.tokens)
        await exchange.reply(200, tokens.detokenized(text))

    async def models(self, exchange: Exchange) -> None:
        found = models.listing(self._experts.views(), self._since)
        await exchange.reply(200, compact(found).encode())

    async def model(self, exchange: Exchange) -> None:
        view = models.find(self._experts.views(), exchange.path.rpartition("/")[2])
        await exchange.reply(200, compact(models.card(view, self._since)).encode())

    # --- operators --------------------------------------------------------------------------

    async def experts(self, exchange: Exchange) -> None:
        found = admin.listing(await self._experts.statuses())
        await exchange.reply(200, compact(found).encode())

    async def expert(self, exchange: Exchange) -> None:
        await self._status(exchange, self._named(exchange, -1))

    async def load(self, exchange: Exchange) -> None:
        view = models.find_running(self._experts.views(), self._named(exchange, -2).name)
        seconds = self._seconds(view, None)
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
        body = await self.reader.read(exchange, KeepAliveBody)
        await self._instruct(exchange, view, KeepAlive(view.name, body.keep_alive))

    async def scale(self, exchange: Exchange) -> None:
        view = self._named(exchange, -2)
        body = await self.reader.read(exchange, ScaleBody)
        await self._instruct(exchange, view, body.word(view))

    async def why(self, exchange: Exchange) -> None:
        lines = await self._experts.why(exchange.path.rpartition("/")[2])
        await exchange.reply(200, compact({"lines": list(lines)}).encode())

    async def trace(self, exchange: Exchange) -> None:
        lines = "".join(f"{line}\n" for line in await self._experts.trace())
        await exchange.reply(200, lines.encode(), ((b"content-type", openapi.LINES.encode()),))

    def _named(self, exchange: Exchange, at: int) -> ExpertView:
        """The expert that the path names in that segment."""
        return models.find(self._experts.views(), exchange.path.split("/")[at])

    async def _instruct(self, exchange: Exchange, view: ExpertView, word: Word) -> None:
        await self._experts.instruct(word)
        await self._status(exchange, view)

    async def _status(self, exchange: Exchange, view: ExpertView) -> None:
        found = admin.one(await self._experts.statuses(), view.name)
        await exchange.reply(200, compact(found).encode())

    # --- the server -------------------------------------------------------------------------

    async def live(self, exchange: Exchange) -> None:
        await exchange.reply(200, b'{"status":"live"}')

    async def ready(self, exchange: Exchange) -> None:
        if self._experts.views():
            await exchange.reply(200, b'{"status":"ready"}')
        else:
            reason = compact({"status": "waiting", "reason": "no expert is known yet"})
            await exchange.reply(503, reason.encode(), (JSON, (b"retry-after", b"1")))

    async def metrics(self, exchange: Exchange) -> None:
        kind = (b"content-type", EXPOSITION_TYPE.encode())
        await exchange.reply(200, self._meters.exposition(), (kind,))

    async def document(self, exchange: Exchange) -> None:
        if self._document is None:
            self._document = compact(openapi.document(version("capyra"))).encode()
        await exchange.reply(200, self._document)

    def _expert(self, exchange: Exchange, name: str) -> ExpertView:
        view = models.find_running(self._experts.views(), name)
        exchange.record.expert = view.name
        exchange.extra += (
            (b"x-capyra-expert", view.name.encode()),
            (b"x-capyra-route", b"named"),
        )
        return view

    def _seconds(self, view: ExpertView, asked: float | None) -> float:
        """How long the request may take: the shortest of what each side allows."""
        deadline = self._config.deadline
        return min(
            deadline.default if asked is None else asked,
            deadline.max,
            view.config.queue.deadline,
        )


def _left(exchange: Exchange, seconds: float) -> float:
    spent = asyncio.get_running_loop().time() - exchange.began
    return max(seconds - spent, 0.001)


def _salt(exchange: Exchange, view: ExpertView, asked: str | None) -> str:
    """Whose cached K/V the request may find: its tenant's, unless the operator shares."""
    tenant = "" if view.config.share_cache else exchange.tenant
    return f"{tenant}\n{asked}" if asked else tenant


def _trace(exchange: Exchange) -> Mapping[str, str]:
    found = {}
    for name in _TRACE:
        if value := exchange.header(name):
            found[name.decode()] = value.decode("latin-1")
    return found
