"""HTTP/1.1 for the load generator: one connection, one request at a time, no copies to spare."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

LONGEST_HEAD = 64 * 2**10


def content_length(head: bytes) -> int:
    """What a request's head says of its body."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


class WireError(Exception):
    """The connection did not carry the answer; `kind` is the failure's name in the report."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Sink(Protocol):
    """Told of an answer as its bytes arrive."""

    def head(self, status: int) -> None: ...

    def body(self, data: bytes, at: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    secure: bool
    prefix: str
    key: str | None = None

    @classmethod
    def of(cls, server: str, key: str | None = None) -> Target:
        parts = urlsplit(server)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname or "127.0.0.1", port, secure, parts.path.rstrip("/"), key)

    def post(self, path: str, body: bytes) -> bytes:
        """A whole request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        key = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST {self.prefix}{path} HTTP/1.1\r\nhost: {host}:{self.port}\r\n{key}"
            "content-type: application/json\r\naccept: */*\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Connection(asyncio.Protocol):
    """Open it with `connect`, `ask` as long as it is `usable`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sink: Sink | None = None
        self._done: asyncio.Future[None] | None = None
        self._lost = False
        self._reset()

    def _reset(self) -> None:
        self._in_head = True
        self._chunked = False
        self._left: int | None = None
        self._trailer = False
        self._keep = True
        self._begun = False

    @classmethod
    async def connect(
        cls, target: Target, clock: Callable[[], float], timeout_s: float
    ) -> Connection:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if target.secure else None
        try:
            async with asyncio.timeout(timeout_s):
                _, made = await loop.create_connection(
                    lambda: cls(clock), target.host, target.port, ssl=context
                )
        except TimeoutError as error:
            raise WireError("connect timeout") from error
        except OSError as error:
            raise WireError("connect failed") from error
        return made

    @property
    def usable(self) -> bool:
        return not self._lost and self._done is None

    async def ask(self, request: bytes, sink: Sink, timeout_s: float) -> None:
        """Send, and return when the answer is whole. The connection is closed if it failed, or if
        nobody waits for the answer any more."""
        assert self._transport is not None
        assert self.usable
        self._reset()
        self._sink = sink
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        reusable = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._done
            reusable = self._keep
        except TimeoutError as error:
            raise WireError("timeout") from error
        finally:
            if not reusable:
                self.close()
            self._done = self._sink = None

    def close(self) -> None:
        self._lost = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's side -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._lost = True
        if self._done is None or self._done.done():
            return
        if not self._in_head and not self._chunked and self._left is None:
            # An answer without a length ends with its connection.
            self._keep = False
            self._done.set_result(None)
        else:
            self._done.set_exception(WireError("cut" if self._begun else "disconnected"))

    def data_received(self, data: bytes) -> None:
        at = self._clock()
        if self._sink is None or self._done is None or self._done.done():
            # Nobody asked: such a connection has lost its place.
            self.close()
            return
        self._begun = True
        self._buffer = self._buffer + data if self._buffer else data
        try:
            if self._in_head and not self._head(self._sink):
                return
            self._body(self._sink, at)
        except ValueError:
            self._done.set_exception(WireError("not HTTP"))

    def _head(self, sink: Sink) -> bool:
        """Whether the head is whole."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > LONGEST_HEAD:
                raise ValueError("head without end")
            return False
        self._buffer = rest
        lines = head.decode("latin-1").split("\r\n")
        version, _, after = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        status = int(after[:3])
        if 100 <= status < 200:
            return self._head(sink)
        fields = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}
        self._in_head = False
        self._chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self._keep = version != "HTTP/1.0" and fields.get("connection", "").lower() != "close"
        if self._chunked:
            self._left = None
        elif status in (204, 304):
            self._left = 0
        elif "content-length" in fields:
            self._left = int(fields["content-length"])
        sink.head(status)
        return True

    def _body(self, sink: Sink, at: float) -> None:
        if self._chunked:
            whole = self._chunks(sink, at)
        else:
            data, self._buffer = self._buffer, b""
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
            if data:
                sink.body(data, at)
            whole = self._left == 0
        if whole and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _chunks(self, sink: Sink, at: float) -> bool:
        """Hand over the chunks that arrived; whether the last has."""
        buffer, place, found = self._buffer, 0, []
        whole = False
        while True:
            end = buffer.find(b"\r\n", place)
            if end < 0:
                break
            if self._trailer:
                if end == place:
                    place, whole = end + 2, True
                    break
                place = end + 2
                continue
            size = int(buffer[place:end].partition(b";")[0], 16)
            if size == 0:
                self._trailer = True
                place = end + 2
                continue
            if len(buffer) < end + size + 4:
                break
            found.append(buffer[end + 2 : end + 2 + size])
            place = end + size + 4
        self._buffer = buffer[place:]
        if found:
            sink.body(found[0] if len(found) == 1 else b"".join(found), at)
        return whole
