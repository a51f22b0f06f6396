"""One request of a load, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from capyra.deployments.cli.sse import Data, SseParser
from capyra.engine.errors import CapyraError

LONGEST_ERROR = 64 * 2**10


@dataclass(slots=True)
class Shot:
    """Times are of the generator's clock. `intended` is when the request was to be sent: what
    the generator or its limit delayed counts as the server's latency, as it would for a user."""

    index: int
    intended: float
    sent: float = 0.0
    first: float | None = None
    last: float | None = None
    ended: float = 0.0
    gaps: list[float] = field(default_factory=list)
    pieces: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    failure: str | None = None
    """The kind of failure: an HTTP status with its code, an error in the stream, a lost
    connection. None: answered whole."""
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def tokens(self) -> int:
        return self.pieces if self.completion_tokens is None else self.completion_tokens

    @property
    def per_token(self) -> float | None:
        """Seconds for each token after the first."""
        if self.first is None or self.last is None or self.tokens < 2:
            return None
        return (self.last - self.first) / (self.tokens - 1)

    def record(self, start: float) -> dict[str, Any]:
        """For a file, in seconds from the start of the load."""
        return {
            "index": self.index,
            "intended_s": self.intended - start,
            "sent_s": self.sent - start,
            "first_s": None if self.first is None else self.first - start,
            "ended_s": self.ended - start,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "pieces": self.pieces,
            "failure": self.failure,
            "detail": self.detail,
        }


class Reading:
    """Fills a shot from the bytes of its answer, as they arrive."""

    def __init__(self, shot: Shot, *, stream: bool) -> None:
        self._shot = shot
        self._stream = stream
        self._status = 0
        self._parser = SseParser()
        self._rest = bytearray()
        self._whole = False

    def head(self, status: int) -> None:
        self._status = status

    def body(self, data: bytes, at: float) -> None:
        if self._status == 200 and self._stream:
            try:
                events = self._parser.feed(data)
            except CapyraError:
                self._shot.failure = "not an event stream"
                return
            for event in events:
                if isinstance(event, Data):
                    self._event(event.text, at)
        elif self._status == 200 or len(self._rest) < LONGEST_ERROR:
            self._rest += data

    def finish(self, at: float) -> None:
        """The answer is over; what is missing from it is a failure."""
        shot = self._shot
        shot.ended = at
        if self._status != 200:
            shot.failure, shot.detail = _refused(self._status, bytes(self._rest))
        elif not self._stream:
            self._object(at)
        elif shot.failure is None and not self._whole:
            shot.failure = "stream without end"
        if shot.ok and shot.first is None and not shot.completion_tokens:
            shot.failure = "empty answer"

    def _event(self, text: str, at: float) -> None:
        shot = self._shot
        if text == "[DONE]":
            self._whole = True
            return
        try:
            chunk = json.loads(text)
        except ValueError:
            shot.failure = "event is no JSON"
            return
        if error := chunk.get("error"):
            shot.failure, shot.detail = _stream_error(error)
            return
        if any(_has_content(choice) for choice in chunk.get("choices") or ()):
            shot.pieces += 1
            if shot.first is None:
                shot.first = at
            elif shot.last is not None:
                shot.gaps.append(at - shot.last)
            shot.last = at
        if usage := chunk.get("usage"):
            self._count(usage)

    def _object(self, at: float) -> None:
        try:
            answer = json.loads(self._rest)
            self._count(answer.get("usage") or {})
            whole = bool(answer.get("choices"))
        except (ValueError, AttributeError):
            whole = False
        if whole:
            self._shot.pieces = 1
            self._shot.first = self._shot.last = at
        else:
            self._shot.failure = "answer is no completion"

    def _count(self, usage: dict[str, Any]) -> None:
        shot = self._shot
        shot.prompt_tokens = usage.get("prompt_tokens")
        shot.completion_tokens = usage.get("completion_tokens")
        shot.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if delta is None:
        return bool(choice.get("text"))
    return bool(
        delta.get("content")
        or delta.get("tool_calls")
        or delta.get("reasoning_content")
        or delta.get("reasoning")
    )


def _refused(status: int, body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        code, message = error.get("code") or error.get("type"), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = None, body[:200].decode("utf-8", "replace")
    return (f"{status} {code}" if code else str(status)), message


def _stream_error(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "stream error", str(error)[:200]
    return f"stream error {error.get('code') or error.get('type')}", str(error.get("message", ""))
