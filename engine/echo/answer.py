"""One answer of the echo engine, written token by token."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._echo = Echo(echo.source, echo.place)
        self._delivery = delivery
        self._limit = limit
        self._breaks_after = breaks_after
        self._plain = _plain(index)
        self._stops = frozenset(limits.stop_token_ids)
        self._ends = frozenset() if limits.ignore_eos else frozenset({END})
        self._early = limits.min_tokens > 0
        always = {END} - self._ends
        self._sampler = Sampler(
            request.sampling,
            index,
            prompt,
            always | {END} | self._stops if self._early else always,
        )

    def write(self, count: int) -> list[Event]:
        """The events of up to so many more tokens."""
        events: list[Event] = []
        goal = min(len(self.written) + count, self._limit)
        while not self.finished and (room := goal - len(self.written)) > 0:
            if self._breaks_after is not None:
                room = min(room, self._breaks_after - len(self.written))
                if room == 0 and events:
                    return events
                if room == 0:
                    raise EngineFault(
                        f"the answer broke after {self._breaks_after} tokens, as "
                        "`fail_after_tokens` asks"
                    )
            tokens, logprob = self._next(room)
            events += self._deliver(tokens, logprob)
        if not self.finished and len(self.written) >= self._limit:
            events += self.finish("length")
        return events

    def finish(self, reason: FinishReason, stop: int | None = None) -> list[Event]:
        self.finished = True
        return self._delivery.finish(reason, stop)

    def _next(self, room: int) -> tuple[Sequence[int], TokenLogprob | None]:
        """At least one more token, and at most so many."""
        if self._early:
            left = self._request.limits.min_tokens - len(self.written)
            if left <= 0:
                self._early = False
                self._sampler.bar({END} - self._ends)
            else:
                room = min(room, left)
        if self._request.logprobs is None:
            tokens = self._sampler.run(self._echo, room)
            if tokens:
                return tokens, None
        place = self._echo.expects
        token = self._sampler.choose(place)
        self._sampler.write(token)
        self._echo.write(token)
        if self._request.logprobs is None:
            return (token,), None
        return (token,), token_logprob(token, place, self._request.logprobs)

    def _deliver(self, tokens: Sequence[int], logprob: TokenLogprob | None) -> list[Event]:
        plain = logprob is None and not self._stops and self._delivery.transparent
        if plain and max(tokens) < len(self._plain):
            self.written += tokens
            return [self._plain[token] for token in tokens]
        events: list[Event] = []
        for token in tokens:
            self.written.append(token)
            ends = token in self._ends
            stops = not ends and not self._early and token in self._stops
            kept = not ends and (not stops or self._request.limits.include_stop)
            events += self._delivery.token(token, BYTES[token] if kept else b"", logprob)
            if ends or stops or self._delivery.stopped is not None:
                return events + self.finish("stop", token if stops else None)
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
