"""A gateway without a cluster: experts that do what a test scripts, and a client on plain ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from capyra.deployments.experts import Call, ExpertStatus, ExpertView, Lease, Word
from capyra.deployments.gateway.app import Gateway, build
from capyra.deployments.gateway.keys import Keys
from capyra.deployments.gateway.meters import PrometheusMeters
from capyra.deployments.gateway.settings import Heartbeat, ServerConfig
from capyra.engine.config import ExpertConfig
from capyra.engine.types import (
    Accepted,
    Capabilities,
    Delta,
    Done,
    Embeddings,
    EmbedRequest,
    Finished,
    GenerateRequest,
    Prompt,
    Rendered,
    Started,
    StreamItem,
    TextPrompt,
    TokenPrompt,
    Usage,
)

CREATED = 1_700_000_000
QUIET = Heartbeat(first=60, interval=60)
"""No heartbeat comes by itself in a test."""

Step = Sequence[StreamItem] | Exception | asyncio.Event
"""A batch, an exception, or a gate at which the expert waits."""


class ScriptedExperts:
    """Experts that play `script` for whatever is asked, and remember it."""

    def __init__(self, *names: str, config: ExpertConfig | None = None) -> None:
        config = config or ExpertConfig(engine="echo")
        self.known: dict[str, ExpertView] = {
            name: ExpertView(
                name, config, "ready", 1, capabilities=Capabilities(context=4096, max_batch=4)
            )
            for name in names
        }
        self.script: list[Step] = self.says("Hel", "lo")
        self.scripts: dict[str, list[Step]] = {}
        """By the text of a text prompt, for requests of several prompts."""
        self.asked: list[GenerateRequest | EmbedRequest] = []
        self.calls: list[Call] = []
        self.told: list[object] = []
        """What operators said."""
        self.open = 0
        self.waiting = asyncio.Event()
        """Set while an expert waits at a gate."""

    accepted = Accepted("echo", "echo-0", ready=True, waiting=0)

    @staticmethod
    def says(*texts: str, index: int = 0, reason: Any = "stop") -> list[Step]:
        """The script of a plain answer, a batch for each piece."""
        pieces: list[Step] = [[Delta(index, text, (at,))] for at, text in enumerate(texts)]
        usage = Usage(7, len(texts), 3, {"prefill": 0.25})
        return [
            [ScriptedExperts.accepted],
            [Started(7, 3)],
            *pieces,
            [Finished(index, reason), Done(usage)],
        ]

    def views(self) -> Mapping[str, ExpertView]:
        return self.known

    async def generate(
        self, expert: str, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[Sequence[StreamItem], None]:
        self.asked.append(request)
        self.calls.append(call)
        self.open += 1
        try:
            script = self.script
            if isinstance(request.prompt, TextPrompt):
                script = self.scripts.get(request.prompt.text, script)
            for step in script:
                if isinstance(step, asyncio.Event):
                    self.waiting.set()
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.open -= 1

    async def embed(self, expert: str, request: EmbedRequest, call: Call) -> Embeddings:
        self.asked.append(request)
        return Embeddings(
            tuple((float(at), 0.5) for at, _ in enumerate(request.inputs)), len(request.inputs)
        )

    async def render(self, expert: str, prompt: Prompt) -> Rendered:
        if isinstance(prompt, TokenPrompt):
            return Rendered(prompt.token_ids, "")
        text = (
            prompt.text
            if isinstance(prompt, TextPrompt)
            else "".join(f"<{one.role}>{one.text}" for one in prompt.messages)
        )
        return Rendered(tuple(text.encode()), text)

    async def detokenize(self, expert: str, token_ids: Sequence[int]) -> str:
        return bytes(one % 256 for one in token_ids).decode("utf-8", "replace")

    async def statuses(self) -> Sequence[ExpertStatus]:
        return [
            ExpertStatus(
                name=name,
                state=view.state,
                held=view.held,
                pinned=False,
                keep_alive_s=300.0,
                bytes=1000,
                measured=True,
                waiting=0,
                eta_s=0.0,
                blocked="",
                idle_s=None,
                next_use_s=12.5,
                leases=(Lease("r1", "n1", view.state, 1000, 2),),
            )
            for name, view in self.known.items()
        ]

    async def load(self, expert: str, seconds: float) -> None:
        self.told.append((expert, seconds))

    async def instruct(self, word: Word) -> None:
        self.told.append(word)

    async def why(self, name: str) -> Sequence[str]:
        return [f"{name}: because"]

    async def trace(self) -> Sequence[str]:
        return ['{"at": 0.0}', '{"at": 1.0}']


@dataclass
class Response:
    """What came out of the application, message by message."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {key.decode(): value.decode() for key, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        return len(self.messages) > 1 and not self.messages[-1]["more_body"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of every event of a stream; comments are left out."""
        found: list[Any] = []
        for event in self.body.decode("ascii").split("\n\n"):
            if event.startswith("data: "):
                data = event.removeprefix("data: ")
                found.append(data if data == "[DONE]" else json.loads(data))
        return found

    @property
    def comments(self) -> list[str]:
        return [one for one in self.body.decode("ascii").split("\n\n") if one.startswith(":")]

    async def until(self, ready: Callable[[Response], bool]) -> None:
        """Wait for what the application sends next, until `ready` is content."""
        while not ready(self):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


class Client:
    """Speaks ASGI to an application, in one task for each request."""

    def __init__(self, app: Gateway, experts: ScriptedExperts, meters: PrometheusMeters) -> None:
        self.app = app
        self.experts = experts
        self.meters = meters

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        parts: Sequence[bytes] = (b"",),
        headers: Mapping[str, str] | None = None,
        *,
        endless: bool = False,
    ) -> AsyncIterator[tuple[Response, asyncio.Event]]:
        """A request under way: its response, and the event that takes the client away.

        With `endless` the body never ends.
        """
        response, leave = Response(), asyncio.Event()
        inbox = list(parts)

        async def receive() -> dict[str, Any]:
            if inbox:
                part = inbox.pop(0)
                more = endless or bool(inbox)
                return {"type": "http.request", "body": part, "more_body": more}
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            response.messages.append(message)
            response.changed.set()

        given = {"content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(key.encode(), value.encode()) for key, value in given.items()],
        }
        task = asyncio.create_task(self.app(scope, receive, send))
        try:
            yield response, leave
            await asyncio.wait_for(task, 10)
        finally:
            task.cancel()

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A whole exchange. What is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        data = data.encode() if isinstance(data, str) else data
        async with self.open(method, path, (data,), headers) as (response, _):
            pass
        return response

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        return await self.request("GET", path, None, headers)

    async def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> Response:
        return await self.request("POST", path, body, headers)

    async def chat(self, **fields: object) -> Response:
        return await self.post("/v1/chat/completions", chat_body(**fields))

    def open_chat(
        self, headers: Mapping[str, str] | None = None, **fields: object
    ) -> AbstractAsyncContextManager[tuple[Response, asyncio.Event]]:
        body = json.dumps(chat_body(**fields)).encode()
        return self.open("POST", "/v1/chat/completions", (body,), headers)


def chat_body(**fields: object) -> dict[str, object]:
    return {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]} | fields


@pytest.fixture
def experts() -> ScriptedExperts:
    return ScriptedExperts("echo", "other")


@pytest.fixture
def client_of(experts: ScriptedExperts) -> Callable[..., Client]:
    """Makes a client of a gateway with these settings."""

    def make(*keys: str, **settings: object) -> Client:
        meters = PrometheusMeters()
        config = ServerConfig.model_validate({"heartbeat": QUIET} | settings)
        app = build(experts, config, meters, keys=Keys(keys), now=lambda: CREATED)
        return Client(app, experts, meters)

    return make


@pytest.fixture
def client(client_of: Callable[..., Client]) -> Client:
    return client_of()
