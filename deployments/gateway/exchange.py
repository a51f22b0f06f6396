"""One HTTP request and its answer, on plain ASGI."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from capyra.deployments.gateway.errors import ClientGone, ErrorReply
from capyra.deployments.gateway.meters import Record

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")
LAST_WORD_S = 30.0
"""How long a client may take to read the end of its answer, for which no other deadline holds."""
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Held:
    """Body bytes that the requests of one gateway hold at this moment."""

    bytes: int = 0


class Exchange:
    """What a handler sees of a request, and how it answers.

    `id` is ours and unique; `shown_id` is the client's own `x-request-id` if it sent a sane one.
    """

    __slots__ = (
        "_headers",
        "_receive",
        "_send",
        "began",
        "epilogue",
        "extra",
        "held",
        "id",
        "last_word_s",
        "method",
        "path",
        "record",
        "scope",
        "shape",
        "shown_id",
        "started",
        "tenant",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, record: Record) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.record = record
        self.began = asyncio.get_running_loop().time()
        self.id = secrets.token_hex(12)
        given = self.header(b"x-request-id")
        self.shown_id = given if given and _SANE_ID.fullmatch(given) else self.id.encode()
        self.tenant = ""
        self.held = 0
        self.last_word_s = LAST_WORD_S
        self.started = False
        self.extra: list[Header] = [(b"x-request-id", self.shown_id)]
        self.epilogue: Callable[[ErrorReply], bytes] | None = None
        """How a failure is told once headers are out; None: the connection just ends."""
        self.shape: Callable[[ErrorReply], bytes] = ErrorReply.openai
        """How it is told before."""

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    async def receive(self) -> Message:
        return await self._receive()

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        self.started = True
        self.record.status = status
        headers = [*headers, *self.extra]
        await self._put({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool) -> None:
        await self._put({"type": "http.response.body", "body": body, "more_body": more})

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:
            # How a server says that the connection is closed.
            raise ClientGone from error

    async def reply(self, status: int, body: bytes, headers: Iterable[Header] = (JSON,)) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, (*headers, length))
        await self.end(b"" if self.method == "HEAD" else body)

    async def end(self, body: bytes) -> None:
        """Send the last bytes, if the client takes them in time."""
        try:
            async with asyncio.timeout(self.last_word_s):
                await self.write(body, more=False)
        except TimeoutError as error:
            raise ClientGone from error

    async def fail(self, error: ErrorReply) -> None:
        """Tell the client what went wrong, in the way that is still open."""
        self.record.code = error.code
        if not self.started:
            await self.reply(error.status, self.shape(error), (JSON, *error.headers))
        elif self.epilogue is not None:
            await self.end(self.epilogue(error))

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Within this, the client's leaving ends the task's work with `ClientGone`."""
        return _Watch(self._receive)


class _Watch:
    """Cancels the task that entered it when the client goes away.

    Left before the last message is sent: after that, a server reports every client as gone.
    """

    __slots__ = ("_before", "_gone", "_over", "_owner", "_receive", "_task")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._over = False

    async def __aenter__(self) -> None:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._before = owner.cancelling()
        self._task = asyncio.create_task(self._look())
        self._task.add_done_callback(self._left)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._task.cancel()
        if self._gone:
            others = self._owner.uncancel() > self._before
            if kind is asyncio.CancelledError and not others:
                raise ClientGone from error

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _left(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        # A server whose `receive` fails has lost the client as well.
        task.exception()
        if self._over:
            return
        self._gone = True
        self._owner.cancel()
