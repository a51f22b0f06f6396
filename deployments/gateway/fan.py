"""Several prompts of one request, asked side by side and told as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from capyra.deployments.gateway.answers import Batches
from capyra.engine.errors import EngineFault, QueueFull
from capyra.engine.types import (
    Accepted,
    Delta,
    Done,
    Failed,
    Finished,
    Progress,
    Started,
    StreamItem,
    ToolCallDelta,
    Usage,
)


@dataclass(frozen=True, slots=True)
class PromptStarted(Started):
    """`Started` of the prompt of that number."""

    prompt: int = 0


Parcel = tuple[int, Sequence[StreamItem] | Exception | None]
"""A prompt's number, and a batch of its answer, what broke it, or its end."""

RETRY_S = 0.2
"""Between two tries of a prompt whose turn came while others had filled the expert's room."""


async def merged(begin: Sequence[Callable[[], Batches]], answers: int, width: int) -> Batches:
    """One stream of all: accepted when the first `width` prompts have their places, done when all
    are. The others follow as those end.

    Each prompt has `answers` answers; they are numbered through.
    """
    width = min(width, len(begin))
    inbox: asyncio.Queue[Parcel] = asyncio.Queue(maxsize=2 * width)
    turns = iter(enumerate(begin))
    pumps = [asyncio.create_task(_pump(turns, inbox, width)) for _ in range(width)]
    ledger = _Ledger(len(begin), answers, width)
    try:
        while not ledger.complete:
            number, parcel = await inbox.get()
            if isinstance(parcel, Exception):
                raise parcel
            if parcel is None:
                ledger.end(number)
            elif batch := ledger.enter(number, parcel):
                yield batch
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)


async def _pump(
    turns: Iterator[tuple[int, Callable[[], Batches]]], inbox: asyncio.Queue[Parcel], width: int
) -> None:
    """Read one prompt's answer after the other, as long as there are any."""
    for number, begin in turns:
        try:
            # Nobody tells when an expert in another process has room again.
            while await _refused(  # noqa: ASYNC110
                number, begin(), inbox, patient=number >= width
            ):
                await asyncio.sleep(RETRY_S)
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is read
            await inbox.put((number, error))
        else:
            await inbox.put((number, None))


async def _refused(
    number: int, stream: Batches, inbox: asyncio.Queue[Parcel], *, patient: bool
) -> bool:
    """Pass the answer on; or tell that there was no room for it, to those who can wait."""
    try:
        async with aclosing(stream):
            async for batch in stream:
                last = batch[-1]
                if patient and isinstance(last, Failed) and last.failure.code == QueueFull.code:
                    return True
                patient = False
                await inbox.put((number, batch))
    except QueueFull:
        if not patient:
            raise
    return patient


class _Ledger:
    """What has come from which prompt."""

    def __init__(self, prompts: int, answers: int, width: int) -> None:
        self._answers = answers
        self._unanswered = set(range(prompts))
        self._accepted: dict[int, Accepted] = {}
        self._first = width
        """So many have to be accepted before anything is told."""
        self._early: list[StreamItem] = []
        self._fraction = 0.0
        self._usage = Usage(0, 0)

    @property
    def complete(self) -> bool:
        return not self._unanswered

    def end(self, number: int) -> None:
        """The stream of that prompt ended."""
        if number in self._unanswered:
            raise EngineFault("one of several answers ended without Done")

    def enter(self, number: int, batch: Sequence[StreamItem]) -> Sequence[StreamItem]:
        """What of this batch, and of earlier ones, can be told now."""
        told = len(self._accepted) >= self._first
        items = [item for each in batch if (item := self._item(number, each)) is not None]
        if len(self._accepted) < self._first:
            for item in items:
                if isinstance(item, Failed):
                    # One that is refused is never accepted: nothing of the others is told.
                    raise item.failure.error()
            self._early += items
            return ()
        if told:
            return items
        every = self._accepted.values()
        first = self._accepted[0]
        whole = replace(
            first,
            ready=all(one.ready for one in every),
            waiting=max(one.waiting for one in every),
        )
        return (whole, *self._early, *items)

    def _item(self, number: int, item: StreamItem) -> StreamItem | None:
        shift = number * self._answers
        match item:
            case Delta():
                return Delta(shift + item.index, item.text, item.token_ids, item.logprobs)
            case ToolCallDelta() | Finished():
                return replace(item, index=shift + item.index)
            case Started():
                return PromptStarted(
                    item.prompt_tokens, item.cached_tokens, item.prompt_logprobs, number
                )
            case Accepted():
                self._accepted[number] = item
                return None
            case Progress():
                # Two replicas may load at once: a client sees the one that is further.
                if item.fraction < self._fraction:
                    return None
                self._fraction = item.fraction
                return item
            case Done():
                self._unanswered.discard(number)
                self._usage = _sum(self._usage, item.usage)
                return Done(self._usage) if self.complete else None
            case Failed():
                return item


def _sum(one: Usage, other: Usage) -> Usage:
    names = one.timing.keys() | other.timing.keys()
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        # They ran side by side: the longest is what the client waited for.
        {name: max(one.timing.get(name, 0.0), other.timing.get(name, 0.0)) for name in names},
    )
