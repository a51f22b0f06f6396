"""The Serve deployment around the gateway's ASGI app."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capyra.deployments.cluster import ServeExperts
from capyra.deployments.gateway.app import build
from capyra.deployments.gateway.meters import PrometheusMeters
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.names import (
    CONTROL_APP,
    CONTROL_DEPLOYMENT,
    EXPERT_DEPLOYMENT,
    GATEWAY_DEPLOYMENT,
)
from capyra.deployments.serve_state import open_handle
from capyra.engine.config import ExpertConfig

REQUEST_ID = b"x-request-id"


class GatewaySettings(BaseModel, extra="forbid", frozen=True):
    """The gateway's `user_config`: it changes in place, without a restart."""

    server: ServerConfig = ServerConfig()
    experts: dict[str, ExpertConfig] = {}


@serve.deployment(name=GATEWAY_DEPLOYMENT, max_ongoing_requests=10_000)
@serve.ingress()
class Gateway:
    """One replica of the gateway. New settings make a new app; requests end on the old one."""

    def __init__(self) -> None:
        self._experts = ServeExperts(
            handle=lambda name: open_handle(EXPERT_DEPLOYMENT, name),
            control=open_handle(CONTROL_DEPLOYMENT, CONTROL_APP),
        )
        self._meters = PrometheusMeters()
        self._app: ASGIApp = build(self._experts, ServerConfig(), self._meters)
        self._tasks = [
            asyncio.create_task(self._experts.keep_watching()),
            asyncio.create_task(self._experts.keep_telling()),
        ]

    def __serve_build_asgi_app__(self) -> ASGIApp:
        async def current(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, _without_request_id(send))

        return current

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        settings = GatewaySettings.model_validate(user_config)
        self._experts.configure(settings.experts)
        self._app = build(self._experts, settings.server, self._meters)


def _without_request_id(send: Send) -> Send:
    """Serve gives every answer the request's id itself, and one is enough."""

    async def passing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [h for h in message["headers"] if h[0] != REQUEST_ID]
        await send(message)

    return passing
