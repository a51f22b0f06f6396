"""HTTP byte by byte, for clients that misbehave: they trickle, stop reading, and leave."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LINE_LIMIT = 2**20
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


@dataclass(frozen=True)
class Request:
    """One request as bytes, head and body apart."""

    head: bytes
    body: bytes = b""


def post(path: str, body: bytes | Mapping[str, Any], **headers: str) -> Request:
    """A POST as a good client sends it. Headers are named with underscores; they may replace
    `content_type` and `content_length`, and an empty value leaves one out."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "host": "capyra",
        "content-type": "application/json",
        "content-length": str(len(data)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return Request("\r\n".join((f"POST {path} HTTP/1.1", *lines, "", "")).encode(), data)


@dataclass
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def offer(self, data: bytes) -> None:
        """Send for as long as somebody takes it."""
        with suppress(ConnectionError):
            await self.send(data)

    async def trickle(self, data: bytes, gap_s: float) -> None:
        """Send one byte at a time, for as long as somebody takes them."""
        with suppress(ConnectionError):
            for at in range(len(data)):
                await self.send(data[at : at + 1])
                await asyncio.sleep(gap_s)

    async def answer(self) -> Answer | None:
        """The answer, read to its end or to the connection's; None if it came not whole."""
        try:
            status = await self.reader.readline()
            if not status:
                return None
            headers: dict[str, str] = {}
            while line := (await self.reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            length = headers.get("content-length")
            if length is None:
                body = await self.reader.read()
            else:
                body = await self.reader.readexactly(int(length))
        except (ConnectionError, asyncio.IncompleteReadError):
            return None
        return Answer(int(status.split()[1]), headers, body)

    async def ended(self) -> None:
        """Until the other side closes."""
        with suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass

    def stop_reading(self) -> None:
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    def reset(self) -> None:
        """Leave without a word: the other side gets RST instead of FIN."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


@asynccontextmanager
async def connect(url: str, *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """A connection to the server; a small `receive_buffer` makes a reader that stops bite soon."""
    address = urlsplit(url)
    raw = socket.socket()
    try:
        raw.setblocking(False)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=LINE_LIMIT)
    except BaseException:  # who is cancelled while connecting leaves no socket behind
        raw.close()
        raise
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
