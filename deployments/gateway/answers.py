"""The one core: an expert's answer on its way to a client, whole or as a stream.

Every API that Capyra speaks is a `Dialect` over this. Errors that come before the first byte
are raised, and become HTTP errors; later ones become the dialect's error event. Both happen in
`app.py`, in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.exchange import JSON, Exchange
from capyra.deployments.gateway.flow import Flow, Manner
from capyra.deployments.gateway.settings import Heartbeat
from capyra.engine.errors import Cancelled, DeadlineExceeded, EngineFault
from capyra.engine.types import (
    Accepted,
    Delta,
    Done,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Started,
    StreamItem,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

Batches = AsyncGenerator[Sequence[StreamItem], None]


@dataclass(slots=True)
class Choice:
    """One finished answer."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """By number: id, name, arguments."""
    reason: FinishReason = "stop"
    stop: str | int | None = None


@dataclass(slots=True)
class Answer:
    """All answers to a request."""

    choices: list[Choice]
    usage: Usage
    prompts: list[Started] = field(default_factory=list)


class Dialect(Protocol):
    """How one API writes an answer. Pieces of a stream are ASCII text, or nothing."""

    @property
    def manner(self) -> Manner: ...

    def started(self, event: Started, /) -> str: ...

    def delta(self, event: Delta, /) -> str: ...

    def tool_call(self, event: ToolCallDelta, /) -> str: ...

    def finished(self, event: Finished, /) -> str: ...

    def done(self, event: Done, /) -> str:
        """The end of a stream that succeeded."""

    def failed(self, error: ErrorReply, /) -> bytes:
        """The end of a stream that did not."""

    def whole(self, answer: Answer, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How an answer is to be delivered."""

    stream: bool
    seconds: float
    """That the request may take in all, counted from when it came."""
    choices: int = 1


async def deliver(
    exchange: Exchange, batches: Batches, dialect: Dialect, terms: Terms, heartbeat: Heartbeat
) -> None:
    """Pass the answer on as it comes. Whatever ends this, also the client's leaving, ends the
    work behind `batches`."""
    # The client has its last byte before the stream behind it is put away.
    async with aclosing(batches):
        if not terms.stream:
            async with within(exchange, terms.seconds):
                answer = await _collect(exchange, batches, terms)
            exchange.extra.append(_timing(exchange, answer.usage))
            await exchange.reply(200, dialect.whole(answer), (JSON,))
            return
        flow = Flow(exchange, heartbeat, dialect.manner, dialect.failed)
        try:
            async with within(exchange, terms.seconds):
                last = await _stream(exchange, batches, dialect, flow)
        finally:
            await flow.close()
        await flow.end(last)


@asynccontextmanager
async def within(exchange: Exchange, seconds: float) -> AsyncGenerator[None, None]:
    """Work that ends when the request's time is over, or its client goes away."""
    try:
        async with asyncio.timeout_at(exchange.began + seconds) as deadline, exchange.watched():
            yield
    except TimeoutError as error:
        if not deadline.expired():
            raise EngineFault("a timeout came through the seam") from error
        raise DeadlineExceeded(f"the answer was not complete after {seconds:g} seconds") from error


async def _stream(exchange: Exchange, batches: Batches, dialect: Dialect, flow: Flow) -> bytes:
    """Write the stream but its last piece, which is returned."""
    clock = asyncio.get_running_loop().time
    record, began = exchange.record, exchange.began
    async for batch in batches:
        text = ""
        for item in _coalesced(batch) if len(batch) > 1 else batch:
            match item:
                case Delta():
                    if item.token_ids:
                        record.token(clock() - began)
                    text += dialect.delta(item)
                case ToolCallDelta():
                    text += dialect.tool_call(item)
                case Started():
                    text += dialect.started(item)
                case Finished():
                    if item.reason == "cancelled" and text:
                        await flow.write(text.encode("ascii"))
                    _refuse_cut(item)
                    text += dialect.finished(item)
                case Done():
                    _count(exchange, item.usage)
                    return (text + dialect.done(item)).encode("ascii")
                case Accepted():
                    flow.arm()
                case Progress():
                    await flow.progress(item)
                case Failed():
                    if text:
                        await flow.write(text.encode("ascii"))
                    raise item.failure.error()
        if text:
            await flow.write(text.encode("ascii"))
    raise EngineFault("the stream ended without Done")


def _coalesced(batch: Sequence[StreamItem]) -> Iterator[StreamItem]:
    """A batch of several items is a backlog: neighbouring pieces of one answer become one."""
    held: Delta | None = None
    for item in batch:
        if not isinstance(item, Delta):
            if held is not None:
                yield held
                held = None
            yield item
        elif held is None:
            held = item
        elif held.index != item.index:
            yield held
            held = item
        else:
            logprobs = held.logprobs
            if item.logprobs is not None:
                logprobs = (*(logprobs or ()), *item.logprobs)
            held = Delta(
                item.index, held.text + item.text, held.token_ids + item.token_ids, logprobs
            )
    if held is not None:
        yield held


async def _collect(exchange: Exchange, batches: Batches, terms: Terms) -> Answer:
    clock = asyncio.get_running_loop().time
    record, began = exchange.record, exchange.began
    choices = [Choice() for _ in range(terms.choices)]
    texts: list[list[str]] = [[] for _ in choices]
    prompts: list[Started] = []
    async for batch in batches:
        for item in batch:
            match item:
                case Delta():
                    texts[item.index].append(item.text)
                    if item.token_ids:
                        record.token(clock() - began)
                    if item.logprobs:
                        choices[item.index].logprobs.extend(item.logprobs)
                case ToolCallDelta():
                    _add_call(choices[item.index], item)
                case Started():
                    prompts.append(item)
                case Finished():
                    _refuse_cut(item)
                    choices[item.index].reason = item.reason
                    choices[item.index].stop = item.stop
                case Done():
                    _count(exchange, item.usage)
                    for choice, pieces in zip(choices, texts, strict=True):
                        choice.text = "".join(pieces)
                    return Answer(choices, item.usage, prompts)
                case Failed():
                    raise item.failure.error()
                case Accepted() | Progress():
                    pass
    raise EngineFault("the stream ended without Done")


def _add_call(choice: Choice, piece: ToolCallDelta) -> None:
    call = choice.calls.setdefault(piece.call, ["", "", ""])
    call[0] += piece.id or ""
    call[1] += piece.name or ""
    call[2] += piece.arguments


def _refuse_cut(event: Finished) -> None:
    if event.reason == "cancelled":
        # A client that left never reads this: somebody else ended the answer. Told as an
        # error, because half an answer looks like a whole one.
        raise Cancelled("the answer was aborted here before it was complete: try again")


def _count(exchange: Exchange, usage: Usage) -> None:
    record = exchange.record
    record.prompt_tokens = usage.prompt_tokens
    record.cached_tokens = usage.cached_tokens
    record.completion_tokens = usage.completion_tokens


def _timing(exchange: Exchange, usage: Usage) -> tuple[bytes, bytes]:
    total = asyncio.get_running_loop().time() - exchange.began
    phases = [*usage.timing.items(), ("total", total)]
    return (
        b"server-timing",
        ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in phases).encode(),
    )
