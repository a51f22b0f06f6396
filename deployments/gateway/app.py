"""The gateway as an ASGI application: routes, and the one boundary where errors end."""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from capyra.deployments.experts import Experts
from capyra.deployments.gateway.dialects.errors import shape_of
from capyra.deployments.gateway.dialects.handlers import Translations
from capyra.deployments.gateway.errors import ClientGone, UnknownRoute, WrongMethod, reply_to
from capyra.deployments.gateway.exchange import Exchange, Receive, Scope, Send
from capyra.deployments.gateway.handlers import Handlers
from capyra.deployments.gateway.keys import Keys
from capyra.deployments.gateway.meters import Meters, Record
from capyra.deployments.gateway.operators import Operators
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.errors import ConfigError, QueueFull

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `{id}` in a path stands for one segment."""

    method: str
    path: str
    handler: Handler
    open: bool = False
    """Answered without a key and beyond the limit of requests in flight."""


def build(
    experts: Experts,
    config: ServerConfig,
    meters: Meters,
    *,
    keys: Keys | None = None,
    now: Callable[[], float] = time.time,
) -> Gateway:
    """The application. Keys come from the environment unless given.

    Who deployed it had a key in the environment; whether this process has it is another question,
    and without one it would serve everybody.
    """
    if keys is None:
        keys = Keys.from_environment(config.key_env)
    if config.exposed and not keys:
        raise ConfigError(
            f"server.host {config.host} can be reached from outside, and this node has no key: set "
            f"{config.key_env} in the environment of every node, before Ray starts"
        )
    handlers = Handlers(experts, config, meters, now)
    return Gateway(routes(handlers, experts), handlers, config, meters, keys)


def routes(to: Handlers, experts: Experts) -> tuple[Route, ...]:
    other, operators = Translations(to), Operators(to, experts)
    return (
        Route("POST", "/v1/chat/completions", to.chat),
        Route("POST", "/v1/completions", to.complete),
        Route("POST", "/v1/embeddings", to.embed),
        Route("POST", "/v1/responses", other.responses),
        Route("POST", "/v1/messages", other.messages),
        Route("POST", "/v1/messages/count_tokens", other.count),
        Route("POST", "/api/chat", other.ollama_chat),
        Route("POST", "/api/generate", other.ollama_generate),
        Route("POST", "/api/embed", other.ollama_embed),
        Route("POST", "/api/show", other.ollama_show),
        Route("GET", "/api/tags", other.ollama_tags),
        Route("GET", "/api/ps", other.ollama_running),
        Route("GET", "/api/version", other.ollama_version),
        Route("POST", "/tokenize", to.tokenize),
        Route("POST", "/detokenize", to.detokenize),
        Route("GET", "/v1/models", to.models),
        Route("GET", "/v1/models/{id}", to.model),
        Route("GET", "/v1/experts", operators.experts),
        Route("GET", "/v1/experts/{id}", operators.expert),
        Route("POST", "/v1/experts/{id}/load", operators.load),
        Route("POST", "/v1/experts/{id}/unload", operators.unload),
        Route("POST", "/v1/experts/{id}/pin", operators.pin),
        Route("POST", "/v1/experts/{id}/unpin", operators.unpin),
        Route("POST", "/v1/experts/{id}/keep-alive", operators.keep_alive),
        Route("POST", "/v1/experts/{id}/scale", operators.scale),
        Route("GET", "/v1/why/{id}", operators.why),
        Route("GET", "/v1/trace", operators.trace),
        Route("GET", "/health/live", to.live, open=True),
        Route("GET", "/health/ready", to.ready, open=True),
        Route("GET", "/metrics", to.metrics),
        Route("GET", "/openapi.json", to.document, open=True),
    )


class Gateway:
    """Finds the route, checks the key, counts, and turns whatever is raised into an answer."""

    def __init__(
        self,
        table: tuple[Route, ...],
        handlers: Handlers,
        config: ServerConfig,
        meters: Meters,
        keys: Keys,
    ) -> None:
        self._handlers = handlers
        self._limit = config.in_flight
        self._meters = meters
        self._keys = keys
        self._exact: dict[str, dict[str, Route]] = {}
        self._named: dict[tuple[str, str], dict[str, Route]] = {}
        """By what comes before the name, and after it."""
        for route in table:
            stem, brace, tail = route.path.partition("{id}")
            if brace:
                self._named.setdefault((stem, tail), {})[route.method] = route
            else:
                self._exact.setdefault(stem, {})[route.method] = route
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(Exchange(scope, receive, send, Record()))
        else:
            # A WebSocket, refused before it opens: the server answers 403.
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, exchange: Exchange) -> None:
        record = exchange.record
        exchange.shape = shape_of(exchange.path)
        self.in_flight += 1
        counted = False
        try:
            route = self._route(exchange)
            record.route = route.path
            self._meters.began(route.path)
            counted = True
            if not route.open:
                self._admit(exchange)
            await route.handler(exchange)
        except ClientGone:
            record.code = "client_gone"
        except Exception as error:  # noqa: BLE001 - the one place where everything ends
            await self._fail(exchange, error)
        finally:
            self.in_flight -= 1
            self._handlers.reader.release(exchange)
            record.seconds = asyncio.get_running_loop().time() - exchange.began
            if not counted:
                self._meters.began(record.route)
            self._meters.ended(record)

    def _route(self, exchange: Exchange) -> Route:
        path, method = exchange.path, exchange.method
        methods = self._exact.get(path)
        if methods is None:
            methods = self._named_methods(path)
        if methods is None:
            shown = path if len(path) <= 64 else f"{path[:64]}…"
            near = difflib.get_close_matches(path[:256], self._exact, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]}?" if near else "GET /openapi.json lists the routes"
            raise UnknownRoute(f"there is nothing at {shown}: {hint}")
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allow = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))
            raise WrongMethod(f"{method} is not allowed here: use {allow}", allow=allow)
        return route

    def _named_methods(self, path: str) -> dict[str, Route] | None:
        """The routes of a path whose last segment, or the one before it, is a name."""
        stem, slash, last = path.rpartition("/")
        if last and (found := self._named.get((stem + slash, ""))):
            return found
        stem, inner, name = stem.rpartition("/")
        return self._named.get((stem + inner, slash + last)) if name else None

    def _admit(self, exchange: Exchange) -> None:
        exchange.tenant = self._keys.tenant(
            exchange.header(b"authorization"), exchange.header(b"x-api-key")
        )
        if self.in_flight > self._limit:
            raise QueueFull(f"the gateway serves {self._limit} requests already: try again shortly")

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        reply = reply_to(error, exchange.shown_id.decode())
        if reply.status == 500:
            log.error("request %s failed", exchange.shown_id.decode(), exc_info=error)
        try:
            await exchange.fail(reply)
        except ClientGone:
            exchange.record.code = "client_gone"


async def _live(receive: Receive, send: Send) -> None:
    """The ASGI server's start and end: nothing is to be done at either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
