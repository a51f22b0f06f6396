"""One answer of the echo engine, written token by token."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from capyra.engine.delivery import Delivery
from capyra.engine.echo.model import Echo, Place, logprobs, read
from capyra.engine.echo.sampler import Sampler
from capyra.engine.echo.vocabulary import BYTES, END, TEXT
from capyra.engine.errors import EngineFault
from capyra.engine.types import Delta, Event, FinishReason, GenerateRequest, TokenLogprob


class Answer:
    """Writes one answer; every call of `write` goes on where the last one ended."""

    def __init__(
        self,
        request: GenerateRequest,
        index: int,
        prompt: list[int],
        echo: Echo,
        *,
        delivery: Delivery,
        limit: int,
        breaks_after: int | None = None,
    ) -> None:
        limits = request.limits
        self.written: list[int] = []
        self.finished = False
        self._request = request
        self._prompt = prompt
        self._echo = Echo(echo.source, echo.place)
        self._delivery = delivery
        self._limit = limit
        self._breaks_after = breaks_after
        self._plain = _plain(index)
        self._stops = frozenset(limits.stop_token_ids)
        self._ends = frozenset() if limits.ignore_eos else frozenset({END})
        self._early = limits.min_tokens > 0
        early = {END, *self._stops} if self._early else set[int]()
        self._sampler = Sampler(request.sampling, index, early | ({END} - self._ends))
        self._exact = self._sampler.exact and request.logprobs is None and not self._stops

    def write(self, count: int) -> list[Event]:
        """The events of up to so many more tokens."""
        events: list[Event] = []
        goal = min(len(self.written) + count, self._limit)
        while len(self.written) < goal and not self.finished:
            if self._breaks_after is not None and len(self.written) >= self._breaks_after:
                raise EngineFault(
                    f"the answer broke after {self._breaks_after} tokens, as `fail_after_tokens` "
                    "asks"
                )
            room = goal - len(self.written)
            if self._breaks_after is not None:
                room = min(room, self._breaks_after - len(self.written))
            chunk = self._echo.take(room) if self._exact else b""
            events += self._copy(chunk) if chunk else self._choose()
        if not self.finished and len(self.written) >= self._limit:
            events += self.finish("length")
        return events

    def finish(self, reason: FinishReason, stop: int | None = None) -> list[Event]:
        self.finished = True
        return self._delivery.finish(reason, stop)

    def _copy(self, chunk: bytes) -> list[Event]:
        """Tokens that need no choice, because the likeliest is always taken."""
        if self._delivery.transparent and chunk.isascii():
            self.written += chunk
            return [self._plain[byte] for byte in chunk]
        events: list[Event] = []
        for byte in chunk:
            self.written.append(byte)
            events += self._delivery.token(byte, BYTES[byte])
            if self._delivery.stopped is not None:
                return events + self.finish("stop")
        return events

    def _choose(self) -> list[Event]:
        if self._early and len(self.written) >= self._request.limits.min_tokens:
            self._early = False
            self._sampler.bar({END} - self._ends)
        place = self._echo.expects
        token = self._sampler.choose(place, self._prompt, self.written)
        logprob = None
        if self._request.logprobs is not None:
            logprob = token_logprob(token, place, self._request.logprobs)
        self._echo.write(token)
        self.written.append(token)
        if token in self._ends:
            return self._delivery.token(token, b"", logprob) + self.finish("stop")
        if token in self._stops:
            data = BYTES[token] if self._request.limits.include_stop else b""
            return self._delivery.token(token, data, logprob) + self.finish("stop", token)
        events = self._delivery.token(token, BYTES[token], logprob)
        if self._delivery.stopped is not None:
            events += self.finish("stop")
        return events


@lru_cache(maxsize=16)
def _plain(index: int) -> tuple[Delta, ...]:
    """The event of every token that is one whole character: made once, for speed."""
    return tuple(Delta(index, chr(byte), (byte,)) for byte in range(128))


@lru_cache(maxsize=4096)
def token_logprob(token: int, place: Place, count: int) -> TokenLogprob:
    """A token's log-probability at a place, and those of the likeliest there."""
    return TokenLogprob(TEXT[token], token, float(logprobs(place)[token]), _likeliest(place, count))


@lru_cache(maxsize=4096)
def _likeliest(place: Place, count: int) -> tuple[tuple[str, int, float], ...]:
    row = logprobs(place)
    order = np.argsort(-row, kind="stable")[:count]
    return tuple((TEXT[token], int(token), float(row[token])) for token in order)


def prompt_logprobs(prompt: list[int], count: int) -> tuple[TokenLogprob | None, ...]:
    """Of each token of a prompt; the first follows from nothing."""
    places = zip(prompt[1:], read(prompt)[1:], strict=True)
    return (None, *(token_logprob(token, place, count) for token, place in places))
