"""One answer of a request, token by token: what is barred, what ends it, what is told of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from capyra.engine.delivery import Delivery
from capyra.engine.native.sampler import Likelihood, Row
from capyra.engine.native.structured import Guide
from capyra.engine.native.words import Words
from capyra.engine.types import Event, FinishReason, GenerateRequest


class Answer:
    """Knows nothing of K/V: it is told its tokens, and tells events."""

    def __init__(
        self,
        request: GenerateRequest,
        index: int,
        prompt: Sequence[int],
        *,
        limit: int,
        words: Words,
        delivery: Delivery,
        guide: Guide | None,
        shown: Collection[int] = (),
    ) -> None:
        limits = request.limits
        self.index = index
        self.row = Row(request.sampling, index, prompt)
        self.written = 0
        self.finished = False
        self._limit = limit
        self._words = words
        self._delivery = delivery
        self._guide = guide
        self._shown = frozenset(shown)
        """Control tokens that the answer's reader must see, as marks of tool calls are."""
        self._stops = frozenset(limits.stop_token_ids)
        self._ends = frozenset[int]() if limits.ignore_eos else words.ends
        self._include_stop = limits.include_stop
        self._min_tokens = limits.min_tokens
        if limits.min_tokens:
            self.row.bar(self._ends | self._stops)

    @property
    def full(self) -> bool:
        """Whether it may have no more tokens."""
        return self.written >= self._limit

    def prepare(self) -> Row:
        """The row of its next choice."""
        if self._guide is not None:
            self.row.allowed = self._guide.allowed()
        return self.row

    def write(self, token: int, likelihood: Likelihood | None) -> list[Event]:
        """The token is the answer's next."""
        self.written += 1
        self.row.wrote(token)
        if self.written == self._min_tokens:
            self.row.bar(())
        logprob = None if likelihood is None else self._words.logprob(likelihood)
        if token in self._ends:
            return self._delivery.token(token, b"", logprob) + self.finish("stop")
        data = self._words.name(token) if token in self._shown else self._words.data(token)
        if token in self._stops:
            told = data if self._include_stop else b""
            return self._delivery.token(token, told, logprob) + self.finish("stop", token)
        events = self._delivery.token(token, data, logprob)
        if self._guide is not None:
            self._guide.accept(token)
        if self._delivery.stopped is not None or (self._guide is not None and self._guide.over):
            return events + self.finish("stop")
        return events + self.finish("length") if self.full else events

    def finish(self, reason: FinishReason, stop: int | None = None) -> list[Event]:
        self.finished = True
        return self._delivery.finish(reason, stop)
