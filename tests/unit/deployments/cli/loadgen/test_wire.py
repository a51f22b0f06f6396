"""HTTP answers, read however their bytes are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from capyra.deployments.cli.loadgen.wire import Connection, Target, WireError

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
)
SIZED = b"HTTP/1.1 503 No\r\ncontent-length: 11\r\n\r\nhello world"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED
OPEN = b"HTTP/1.1 200 OK\r\n\r\nhello world"


class Sink:
    def __init__(self) -> None:
        self.status = 0
        self.data = b""

    def head(self, status: int) -> None:
        self.status = status

    def body(self, data: bytes, at: float) -> None:
        self.data += data


class Line(asyncio.Transport):
    """The other end, played by the test: `play` is called with the connection when it is asked."""

    def __init__(self, play: Callable[[Connection], None]) -> None:
        super().__init__()
        self._play = play
        self.aborted = False
        self.connection = Connection(lambda: 1.0)
        self.connection.connection_made(self)

    def write(self, data: object) -> None:
        self._play(self.connection)

    def abort(self) -> None:
        self.aborted = True


async def ask(play: Callable[[Connection], None], timeout_s: float = 5.0) -> tuple[Sink, Line]:
    line, sink = Line(play), Sink()
    await line.connection.ask(b"GET", sink, timeout_s)
    return sink, line


@pytest.mark.parametrize("answer", [CHUNKED, SIZED, EARLY])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
async def test_answers_are_read_in_any_pieces(answer: bytes, step: int) -> None:
    ends = [*range(0, len(answer), step), len(answer)]

    def play(connection: Connection) -> None:
        for start, end in pairwise(ends):
            connection.data_received(answer[start:end])

    sink, line = await ask(play)
    assert sink.data == b"hello world"
    assert sink.status == (200 if answer is CHUNKED else 503)
    assert line.connection.usable


async def test_who_leaves_as_the_answer_comes_leaves_no_connection() -> None:
    loop = asyncio.get_running_loop()

    def play(connection: Connection) -> None:
        loop.call_soon(connection.data_received, SIZED)
        loop.call_soon(asking.cancel)

    line = Line(play)
    asking = asyncio.create_task(line.connection.ask(b"GET", Sink(), 5.0))
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert line.aborted
    assert not line.connection.usable


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    def play(connection: Connection) -> None:
        connection.data_received(OPEN)
        connection.connection_lost(None)

    sink, line = await ask(play)
    assert sink.data == b"hello world"
    assert not line.connection.usable


async def test_a_connection_that_shall_close_is_not_used_again() -> None:
    answer = SIZED.replace(b"No\r\n", b"No\r\nConnection: close\r\n")
    _, line = await ask(lambda connection: connection.data_received(answer))
    assert line.aborted
    assert not line.connection.usable


def lost(before: bytes) -> Callable[[Connection], None]:
    def play(connection: Connection) -> None:
        if before:
            connection.data_received(before)
        connection.connection_lost(None)

    return play


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (lost(b""), "disconnected"),
        (lost(CHUNKED[:20]), "cut"),
        (lost(CHUNKED[:-3]), "cut"),
        (lost(SIZED[:-1]), "cut"),
        (lambda connection: connection.data_received(b"SSH-2.0\r\n\r\n"), "not HTTP"),
        (lambda connection: connection.data_received(CHUNKED.replace(b"5;", b"z;")), "not HTTP"),
        (lambda connection: connection.data_received(b"x" * 100_000), "not HTTP"),
        (lambda _: None, "timeout"),
    ],
)
async def test_failures_have_their_kind(play: Callable[[Connection], None], kind: str) -> None:
    with pytest.raises(WireError) as raised:
        await ask(play, timeout_s=0.01)
    assert raised.value.kind == kind


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    line = Line(lambda _: None)
    line.connection.data_received(SIZED)
    assert line.aborted
    assert not line.connection.usable


async def test_cancelling_closes_the_connection() -> None:
    line = Line(lambda _: None)
    task = asyncio.create_task(line.connection.ask(b"GET", Sink(), 5.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert line.aborted


@asynccontextmanager
async def closed_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield port


async def test_nobody_there() -> None:
    async with closed_port() as port:
        with pytest.raises(WireError, match="connect failed"):
            await Connection.connect(Target.of(f"http://127.0.0.1:{port}"), lambda: 0.0, 5.0)


def test_requests_are_whole() -> None:
    request = Target.of("http://[::1]:81/base/", "k").post("/v1/x", b"{}")
    assert request == (
        b"POST /base/v1/x HTTP/1.1\r\nhost: [::1]:81\r\nauthorization: Bearer k\r\n"
        b"content-type: application/json\r\naccept: */*\r\ncontent-length: 2\r\n\r\n{}"
    )
    secure = Target.of("https://models.example")
    assert (secure.port, secure.secure) == (443, True)
