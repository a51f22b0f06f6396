"""One answer of a request: what a step made of it, as events."""

from __future__ import annotations

from collections.abc import Collection

from capyra.engine.delivery import Delivery
from capyra.engine.types import Event, FinishReason, GenerateRequest, TokenLogprob
from capyra.engine.vllm.calls import Piece
from capyra.engine.vllm.language import Language


class Answer:
    """Knows nothing of vLLM: it is told its tokens, and tells events."""

    def __init__(
        self,
        request: GenerateRequest,
        index: int,
        *,
        limit: int,
        language: Language,
        ends: Collection[int],
    ) -> None:
        limits = request.limits
        self.index = index
        self.written = 0
        self.finished = False
        self._limit = limit
        self._language = language
        self._delivery = Delivery(request, index, language.parser(request.prompt))
        self._shown = frozenset(language.shown(request.prompt))
        self._stops = frozenset(limits.stop_token_ids)
        self._ends = frozenset(ends)
        self._include_stop = limits.include_stop
        self._logprobs = request.logprobs

    @property
    def full(self) -> bool:
        """Whether it may have no more tokens."""
        return self.written >= self._limit

    def take(self, piece: Piece) -> list[Event]:
        """What a step made of it. Tokens beyond its end, which other processes may have made
        before they heard of it, are nobody's."""
        events: list[Event] = []
        for place, token in enumerate(piece.tokens):
            if self.finished:
                return events
            events += self._write(token, self._logprob(piece, place, token))
        if piece.finished is not None and not self.finished:
            events += self.finish("stop" if piece.finished == "stop" else "length", piece.stop)
        return events

    def finish(self, reason: FinishReason, stop: int | None = None) -> list[Event]:
        self.finished = True
        return self._delivery.finish(reason, stop)

    def _write(self, token: int, logprob: TokenLogprob | None) -> list[Event]:
        self.written += 1
        if token in self._ends:
            return self._delivery.token(token, b"", logprob) + self.finish("stop")
        tokenizer = self._language.tokenizer
        data = tokenizer.name(token) if token in self._shown else tokenizer.data(token)
        if token in self._stops:
            told = data if self._include_stop else b""
            return self._delivery.token(token, told, logprob) + self.finish("stop", token)
        events = self._delivery.token(token, data, logprob)
        if self._delivery.stopped is not None:
            return events + self.finish("stop")
        return events + self.finish("length") if self.full else events

    def _logprob(self, piece: Piece, place: int, token: int) -> TokenLogprob | None:
        if self._logprobs is None or piece.logprobs is None:
            return None
        return self._language.logprob(token, piece.logprobs[place], self._logprobs)
