"""A stream on its way out: headers with the first bytes, signs of life in silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.exchange import Exchange, Header
from capyra.deployments.gateway.settings import Heartbeat
from capyra.engine.types import Progress

_COMMON = (
    (b"cache-control", b"no-cache"),
    # nginx and its like would keep tokens back until a buffer is full.
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """What a kind of stream says beside its answer."""

    content_type: bytes
    beat: bytes
    """A sign of life."""
    comments: bool = True
    """Whether its clients skip comments, which tell how far a load is."""

    @property
    def headers(self) -> tuple[Header, ...]:
        return ((b"content-type", self.content_type), *_COMMON)


EVENTS = Manner(b"text/event-stream; charset=utf-8", b": waiting\n\n")


class Flow:
    """The way out for one stream. `arm` starts the clock of its heartbeats.

    Silence is noticed by a timer and told by a small task, so that nobody has to wait for the
    next token with a timeout: that would cost a task for each token.
    """

    def __init__(
        self,
        exchange: Exchange,
        heartbeat: Heartbeat,
        manner: Manner,
        epilogue: Callable[[ErrorReply], bytes],
    ) -> None:
        self._exchange = exchange
        self._heartbeat = heartbeat
        self._manner = manner
        self._epilogue = epilogue
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        asks = exchange.header(b"x-capyra-progress") == b"1"
        self._wants_progress = asks and manner.comments
        self._progress: bytes | None = None

    def arm(self) -> None:
        """The request has its place: from now on, silence is broken."""
        if self._timer is None:
            took = (self._loop.time() - self._exchange.began) * 1000
            self._exchange.extra.append((b"server-timing", f"accept;dur={took:.1f}".encode()))
            self._timer = self._loop.call_later(self._heartbeat.first, self._listen)

    async def write(self, data: bytes) -> None:
        """Send these bytes now, after whatever is being sent."""
        if self._beat is not None:
            await self._beat
            self._beat = None
        await self._send(data)

    async def progress(self, progress: Progress) -> None:
        """Tell how far the expert's load is, to clients that asked for it."""
        if not self._wants_progress:
            return
        facts = {
            "stage": progress.stage,
            "fraction": round(progress.fraction, 4),
            "eta_s": None if progress.eta_s is None else round(progress.eta_s, 2),
        }
        self._progress = b": capyra " + json.dumps(facts).encode() + b"\n\n"
        if self._exchange.started:
            await self.write(self._progress)

    async def end(self, data: bytes) -> None:
        """Send the last bytes."""
        if not self._exchange.started:
            await self._start()
        await self._exchange.end(data)

    async def close(self) -> None:
        """Stop the heartbeats; the client may still be told more."""
        if self._timer is not None:
            self._timer.cancel()
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.cancel()
            await asyncio.wait((beat,))
            if not beat.cancelled():
                # It can only have found the client gone, which the caller learns by itself.
                beat.exception()

    def _listen(self) -> None:
        """A moment at which it may have been silent for too long."""
        interval = self._heartbeat.interval
        quiet = self._loop.time() - self._last
        if not self._exchange.started or quiet >= interval:
            self._speak()
        else:
            interval -= quiet
        self._timer = self._loop.call_later(interval, self._listen)

    def _speak(self) -> None:
        # One that is still being sent shows that the client is slow, not the expert.
        if self._beat is None or self._beat.done():
            self._beat = self._loop.create_task(self._send(self._progress or self._manner.beat))

    async def _send(self, data: bytes) -> None:
        if not self._exchange.started:
            await self._start()
        self._last = self._loop.time()
        await self._exchange.write(data, more=True)

    async def _start(self) -> None:
        self._exchange.epilogue = self._epilogue
        await self._exchange.start(200, self._manner.headers)
