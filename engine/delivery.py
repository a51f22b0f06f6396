"""One answer's way out of an engine: tokens in, events out."""

from __future__ import annotations

import hashlib

from capyra.engine.text import IncrementalText, StopMatcher
from capyra.engine.toolcalls import CallPiece, ToolCallParser
from capyra.engine.types import (
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    TokenLogprob,
    ToolCallDelta,
)


class Delivery:
    """Turns the tokens of one answer into events: whole characters, no stop string, tool calls
    apart from text.

    The engine calls `token` for each token that it made, and looks at `stopped` after it; at the
    end, whatever ended the answer, `finish`.
    """

    def __init__(
        self, request: GenerateRequest, index: int, parser: ToolCallParser | None = None
    ) -> None:
        limits = request.limits
        self._request = request
        self._index = index
        self._parser = parser
        self._text = IncrementalText()
        self._matcher = (
            StopMatcher(limits.stop, include=limits.include_stop) if limits.stop else None
        )
        self._unmatched = limits.min_tokens
        """Tokens whose text stop strings do not look at yet."""
        self._called = False

    @property
    def stopped(self) -> str | None:
        """The stop string that has ended the answer."""
        return self._matcher.stopped if self._matcher else None

    @property
    def transparent(self) -> bool:
        """Whether text goes through as it is: an engine may then skip `token` for whole
        characters."""
        return self._matcher is None and self._parser is None and not self._text.pending

    def token(self, token_id: int, data: bytes, logprob: TokenLogprob | None = None) -> list[Event]:
        """The events of one more token. `data` is empty for control tokens, and for a token that
        ended the answer and is no part of it."""
        text = self._text.push(data)
        if self._matcher is not None:
            if self._unmatched > 0:
                self._unmatched -= 1
            else:
                text = self._matcher.push(text)
        return self._events(text, (token_id,), None if logprob is None else (logprob,))

    def finish(self, reason: FinishReason, stop: str | int | None = None) -> list[Event]:
        """What was held back, and the answer's last event."""
        text = ""
        if self.stopped is None:
            # A character that was never complete cannot complete a stop string.
            text = self._matcher.finish() if self._matcher else ""
            text += self._text.finish()
        events = self._events(text, (), None) if text else []
        if self._parser is not None:
            events += [self._event(piece) for piece in self._parser.finish()]
        if reason == "stop" and self._called:
            reason, stop = "tool_calls", None
        events.append(Finished(self._index, reason, stop if stop is not None else self.stopped))
        return events

    def _events(
        self, text: str, ids: tuple[int, ...], logprobs: tuple[TokenLogprob, ...] | None
    ) -> list[Event]:
        if self._parser is None:
            return [Delta(self._index, text, ids, logprobs)]
        pieces = self._parser.push(text)
        if ids and not (pieces and isinstance(pieces[0], str)):
            pieces.insert(0, "")
        events = [self._event(piece) for piece in pieces]
        if ids:
            events[0] = Delta(self._index, str(pieces[0]), ids, logprobs)
        return events

    def _event(self, piece: str | CallPiece) -> Event:
        if isinstance(piece, str):
            return Delta(self._index, piece)
        self._called = True
        identity = self._call_id(piece.call) if piece.name is not None else None
        return ToolCallDelta(self._index, piece.call, piece.arguments, identity, piece.name)

    def _call_id(self, call: int) -> str:
        """Unique, and the same for the same request, so that a replay can be compared."""
        name = f"{self._request.id}/{self._index}/{call}"
        return "call_" + hashlib.sha256(name.encode()).hexdigest()[:24]
