"""A server that does nothing but answer: against it, the generator measures itself.

Run as a module in a process of its own; it prints its port, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

from capyra.deployments.cli.loadgen.wire import content_length

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def answer(pieces: int) -> tuple[bytes, bytes]:
    """A whole stream, a chunk for each piece; and the answer that is not streamed."""
    told = {"prompt_tokens": 1, "completion_tokens": pieces}
    events = [json.dumps({"choices": [{"index": 0, "delta": {"content": " so"}}]})] * pieces
    events += [json.dumps({"choices": [], "usage": told}), "[DONE]"]
    data = [f"data: {event}\n\n".encode() for event in events]
    chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in data]
    whole = {"choices": [{"index": 0, "message": {"content": " so" * pieces}}], "usage": told}
    body = json.dumps(whole).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    return b"".join([STREAM, *chunks, b"0\r\n\r\n"]), head + body


class Stub(asyncio.Protocol):
    """Reads a request, writes the answer at once: who is behind reads many pieces in one."""

    def __init__(self, pieces: int) -> None:
        self._stream, self._whole = answer(pieces)
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._buffer = b""
        self._transport.write(self._stream if b'"stream": true' in body else self._whole)


async def _serve(pieces: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(pieces), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    await over.wait()
    loop.remove_reader(sys.stdin)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
