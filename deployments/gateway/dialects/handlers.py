"""What each route of other APIs does: the same as ours, told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from capyra.deployments.experts import Call
from capyra.deployments.gateway.dialects.anthropic import answer as anthropic
from capyra.deployments.gateway.dialects.anthropic.request import CountBody, MessagesBody
from capyra.deployments.gateway.dialects.names import naming
from capyra.deployments.gateway.dialects.ollama import answer as ollama
from capyra.deployments.gateway.dialects.ollama import models
from capyra.deployments.gateway.dialects.ollama.request import (
    AnsweringBody,
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaGenerateBody,
    OllamaShowBody,
)
from capyra.deployments.gateway.dialects.responses import answer as responses
from capyra.deployments.gateway.dialects.responses.request import ResponsesBody
from capyra.deployments.gateway.exchange import Exchange
from capyra.deployments.gateway.handlers import Handlers
from capyra.deployments.gateway.models import find
from capyra.deployments.gateway.sse import compact
from capyra.engine.types import GenerateRequest, Limits, TextPrompt


class Translations:
    """One method for each route."""

    def __init__(self, core: Handlers) -> None:
        self._core = core

    async def messages(self, exchange: Exchange) -> None:
        _name(exchange)
        body = await self._core.reader.read(exchange, MessagesBody)
        with naming(anthropic.NAMES):
            await self._core.answer(
                exchange,
                body,
                lambda view, request: anthropic.MessagesDialect(
                    id_=exchange.id, model=view.name, max_tokens=request.limits.max_tokens
                ),
            )

    async def count(self, exchange: Exchange) -> None:
        _name(exchange)
        body = await self._core.reader.read(exchange, CountBody)
        with naming(anthropic.NAMES):
            found, _ = await self._core.rendered(exchange, body.model, body.prompt)
        await exchange.reply(200, anthropic.counted(len(found.token_ids)))

    async def responses(self, exchange: Exchange) -> None:
        body = await self._core.reader.read(exchange, ResponsesBody)
        with naming(responses.NAMES):
            await self._core.answer(
                exchange,
                body,
                lambda view, request: responses.ResponsesDialect(
                    id_=exchange.id,
                    model=view.name,
                    created=self._core.second,
                    body=body,
                    request=request,
                ),
            )

    async def ollama_chat(self, exchange: Exchange) -> None:
        body = await self._core.reader.read(exchange, OllamaChatBody)
        await self._ollama(exchange, body, chat=True)

    async def ollama_generate(self, exchange: Exchange) -> None:
        body = await self._core.reader.read(exchange, OllamaGenerateBody)
        await self._ollama(exchange, body, chat=False)

    async def ollama_embed(self, exchange: Exchange) -> None:
        body = await self._core.reader.read(exchange, OllamaEmbedBody)
        with naming(ollama.NAMES):
            found, view = await self._core.vectors(exchange, body)
        await exchange.reply(200, ollama.embedded(view.name, found, _spent(exchange)))

    async def ollama_tags(self, exchange: Exchange) -> None:
        found = models.tags(self._core.views, self._core.since)
        await exchange.reply(200, compact(found).encode())

    async def ollama_running(self, exchange: Exchange) -> None:
        await exchange.reply(200, compact(models.running(self._core.views)).encode())

    async def ollama_show(self, exchange: Exchange) -> None:
        body = await self._core.reader.read(exchange, OllamaShowBody)
        view = find(self._core.views, body.model)
        await exchange.reply(200, compact(models.shown(view, self._core.since)).encode())

    async def ollama_version(self, exchange: Exchange) -> None:
        await exchange.reply(200, compact({"version": models.VERSION}).encode())

    async def _ollama(
        self, exchange: Exchange, body: OllamaChatBody | OllamaGenerateBody, *, chat: bool
    ) -> None:
        if body.empty:
            await self._load(exchange, body, chat=chat)
            return
        with naming(ollama.NAMES):
            await self._core.answer(
                exchange,
                body,
                lambda view, _: ollama.OllamaDialect(
                    model=view.name, chat=chat, now=self._core.now, spent=lambda: _spent(exchange)
                ),
            )

    async def _load(self, exchange: Exchange, body: AnsweringBody, *, chat: bool) -> None:
        """Asked nothing: load the expert, or with `keep_alive: 0` let it go."""
        leaving = body.keep_alive == 0
        view = self._core.running(exchange, body.model)
        dialect = ollama.LoadedDialect(
            "unload" if leaving else "load",
            model=view.name,
            chat=chat,
            now=self._core.now,
            spent=lambda: _spent(exchange),
        )
        if leaving and view.state != "ready":
            await exchange.reply(200, dialect.told())
        else:
            await self._core.answer(exchange, Loading(body), lambda *_: dialect)


class Loading:
    """The shortest question that there is: an expert is loaded to answer it."""

    stream = False
    timeout = None
    cache_salt = None

    def __init__(self, body: AnsweringBody) -> None:
        self._body = body
        self.model = body.model

    def request(self, *, id_: str, salt: str, seconds: float, **_: object) -> GenerateRequest:
        return GenerateRequest(
            id=id_,
            prompt=TextPrompt(" "),
            limits=Limits(max_tokens=1),
            cache_salt=salt,
            deadline_s=seconds,
        )

    def call(self, trace: Mapping[str, str]) -> Call:
        return self._body.call(trace)


def _name(exchange: Exchange) -> None:
    """The request's id, under the name that Anthropic's clients look for."""
    exchange.extra.append((b"request-id", exchange.shown_id))


def _spent(exchange: Exchange) -> float:
    return asyncio.get_running_loop().time() - exchange.began
