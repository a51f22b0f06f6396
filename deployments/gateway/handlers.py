"""What each route does: read, decide, ask the expert, deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Protocol

from capyra.deployments.experts import Call, Experts, ExpertView
from capyra.deployments.gateway import embeddings, models, openapi, tokens
from capyra.deployments.gateway.answers import Dialect, Terms, deliver, within
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
from capyra.engine.config import SamplingDefaults
from capyra.engine.types import Embeddings, EmbedRequest, GenerateRequest, Prompt, Rendered

_TRACE = (b"traceparent", b"tracestate")


class Question(Protocol):
    """What a client asks for text with, in whichever API."""

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool | None: ...

    @property
    def timeout(self) -> float | None: ...

    @property
    def cache_salt(self) -> str | None: ...

    def request(
        self,
        *,
        id_: str,
        salt: str,
        seconds: float,
        defaults: SamplingDefaults,
        config: ServerConfig,
    ) -> GenerateRequest: ...

    def call(self, trace: Mapping[str, str], /) -> Call: ...


class VectorQuestion(Protocol):
    """And for vectors."""

    @property
    def model(self) -> str: ...

    @property
    def timeout(self) -> float | None: ...

    @property
    def cache_salt(self) -> str | None: ...

    def request(self, *, id_: str, salt: str, seconds: float, most: int) -> EmbedRequest: ...

    def call(self, trace: Mapping[str, str], /) -> Call: ...


class Handlers:
    """One method for each route of OpenAI's API and our own; and what all APIs share."""

    def __init__(
        self, experts: Experts, config: ServerConfig, meters: Meters, now: Callable[[], float]
    ) -> None:
        self._experts = experts
        self.config = config
        self._meters = meters
        self.now = now
        self.since = int(now())
        self._document: bytes | None = None
        self.reader = Reader(config.body)

    @property
    def second(self) -> int:
        """The time, as OpenAI's clients are told it."""
        return int(self.now())

    @property
    def views(self) -> Mapping[str, ExpertView]:
        return self._experts.views()

    async def chat(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, ChatBody)
        await self.answer(
            exchange,
            body,
            lambda view, _: ChatDialect(
                id_=exchange.id, model=view.name, created=self.second, usage=body.wants_usage
            ),
        )

    async def answer(
        self,
        exchange: Exchange,
        question: Question,
        dialect: Callable[[ExpertView, GenerateRequest], Dialect],
    ) -> None:
        """Ask the expert, and deliver what it says in the client's own language."""
        view = self.running(exchange, question.model)
        seconds = self.seconds(view, question.timeout)
        request = question.request(
            id_=exchange.id,
            salt=_salt(exchange, view, question.cache_salt),
            seconds=_left(exchange, seconds),
            defaults=view.config.sampling,
            config=self.config,
        )
        batches = self._experts.generate(view.name, request, _call(exchange, question))
        terms = Terms(bool(question.stream), seconds, request.n)
        await deliver(exchange, batches, dialect(view, request), terms, self.config.heartbeat)

    async def complete(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, CompletionBody)
        view = self.running(exchange, body.model)
        seconds = self.seconds(view, body.timeout)
        requests = body.requests(
            id_=exchange.id,
            salt=_salt(exchange, view, body.cache_salt),
            seconds=_left(exchange, seconds),
            defaults=view.config.sampling,
            most=self.config.prompts,
        )
        dialect = CompletionDialect(
            id_=exchange.id,
            model=view.name,
            created=self.second,
            requests=requests,
            usage=body.wants_usage,
        )
        call, n = _call(exchange, body), requests[0].n
        begin = [partial(self._experts.generate, view.name, request, call) for request in requests]
        width = view.config.queue.running
        batches = begin[0]() if len(begin) == 1 else merged(begin, n, width)
        terms = Terms(bool(body.stream), seconds, n * len(requests))
        await deliver(exchange, batches, dialect, terms, self.config.heartbeat)

    async def embed(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, EmbeddingBody)
        found, _ = await self.vectors(exchange, body)
        await exchange.reply(200, embeddings.reply(body, found))

    async def vectors(
        self, exchange: Exchange, question: VectorQuestion
    ) -> tuple[Embeddings, ExpertView]:
        view = self.running(exchange, question.model)
        seconds = self.seconds(view, question.timeout)
        request = question.request(
            id_=exchange.id,
            salt=_salt(exchange, view, question.cache_salt),
            seconds=_left(exchange, seconds),
            most=self.config.prompts,
        )
        async with within(exchange, seconds):
            found = await self._experts.embed(view.name, request, _call(exchange, question))
        exchange.record.prompt_tokens = found.prompt_tokens
        return found, view

    async def tokenize(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, TokenizeBody)
        found, view = await self.rendered(exchange, body.model, body.rendered)
        await exchange.reply(200, tokens.tokenized(view, found))

    async def rendered(
        self, exchange: Exchange, model: str, prompt: Callable[[ServerConfig], Prompt]
    ) -> tuple[Rendered, ExpertView]:
        """The prompt as the model will see it."""
        view = self.running(exchange, model)
        async with within(exchange, self.seconds(view, None)):
            return await self._experts.render(view.name, prompt(self.config)), view

    async def detokenize(self, exchange: Exchange) -> None:
        body = await self.reader.read(exchange, DetokenizeBody)
        view = self.running(exchange, body.model)
        async with within(exchange, self.seconds(view, None)):
            text = await self._experts.detokenize(view.name, body.tokens)
        await exchange.reply(200, tokens.detokenized(text))

    async def models(self, exchange: Exchange) -> None:
        found = models.listing(self._experts.views(), self.since)
        await exchange.reply(200, compact(found).encode())

    async def model(self, exchange: Exchange) -> None:
        view = models.find(self._experts.views(), exchange.path.rpartition("/")[2])
        await exchange.reply(200, compact(models.card(view, self.since)).encode())

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

    def running(self, exchange: Exchange, name: str) -> ExpertView:
        view = models.find_running(self._experts.views(), name)
        exchange.record.expert = view.name
        exchange.extra += (
            (b"x-capyra-expert", view.name.encode()),
            (b"x-capyra-route", b"named"),
        )
        return view

    def seconds(self, view: ExpertView, asked: float | None) -> float:
        """How long the request may take: the shortest of what each side allows."""
        deadline = self.config.deadline
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


def _call(exchange: Exchange, question: Question | VectorQuestion | CompletionBody) -> Call:
    return replace(question.call(_trace(exchange)), shown_id=exchange.shown_id.decode())


def _trace(exchange: Exchange) -> Mapping[str, str]:
    found = {}
    for name in _TRACE:
        if value := exchange.header(name):
            found[name.decode()] = value.decode("latin-1")
    return found
