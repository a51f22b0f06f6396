"""A conversation, and what is known of an answer. Pure: no terminal, no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capyra.deployments.cli.output import duration, plural
from capyra.engine.errors import InvalidValue

if TYPE_CHECKING:
    from capyra.deployments.cli.client import ChatEvent

FEWEST_PIECES = 4

IMAGE_KINDS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def image_url(path: Path) -> str:
    """An image file as a request carries it. What it is, its first bytes say."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise InvalidValue(f"cannot read the image {path}: {error.strerror}") from error
    for magic, kind in IMAGE_KINDS.items():
        if data.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    raise InvalidValue(f"{path} is no PNG, JPEG, GIF or WebP image")


@dataclass
class Chat:
    """What was said so far, and how the next answer shall be made."""

    model: str
    system: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """They go with the next message."""

    def ask(self, text: str) -> dict[str, Any]:
        """The body of the request for the answer to `text`, which is now part of it all."""
        content: Any = text
        if self.images:
            parts = [{"type": "image_url", "image_url": {"url": url}} for url in self.images]
            content = [*parts, {"type": "text", "text": text}]
            self.images = []
        self.turns.append({"role": "user", "content": content})
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return {"model": self.model, "messages": [*opening, *self.turns], **self.settings}

    def answered(self, text: str) -> None:
        """Keep the answer. Without one the question goes too: two in a row confuse a model."""
        if text:
            self.turns.append({"role": "assistant", "content": text})
        else:
            self.turns.pop()

    def clear(self) -> None:
        self.turns.clear()
        self.images.clear()


@dataclass
class Answer:
    """An answer as it arrives. Times are of the reader's clock."""

    began: float
    text: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    reason: str | None = None
    first: float | None = None
    last: float | None = None
    pieces: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    tokens: int | None = None

    def take(self, event: ChatEvent, at: float) -> None:
        from capyra.deployments.cli.client import CallPiece, Counted, Ended, Text

        match event:
            case Text(text=text, thinking=thinking):
                self.text += "" if thinking else text
                self._piece(at)
            case CallPiece(call=call, name=name, arguments=arguments):
                parts = self.calls.setdefault(call, ["", ""])
                parts[0] += name
                parts[1] += arguments
                self._piece(at)
            case Ended(reason=reason):
                self.reason = reason
            case Counted():
                self.prompt_tokens = event.prompt
                self.cached_tokens = event.cached
                self.tokens = event.completion

    def _piece(self, at: float) -> None:
        self.first = at if self.first is None else self.first
        self.last = at
        self.pieces += 1

    @property
    def first_s(self) -> float | None:
        return None if self.first is None else self.first - self.began

    @property
    def tokens_per_s(self) -> float | None:
        """How fast tokens follow the first piece, whose time is the prompt's and the load's.

        A piece may hold several tokens; the first is taken for an average one. From a handful of
        pieces nothing can be told.
        """
        made = self.pieces if self.tokens is None else self.tokens
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        if self.pieces < FEWEST_PIECES:
            return None
        return (made - made / self.pieces) / (self.last - self.first)

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.tokens,
            "first_token_s": self.first_s,
            "total_s": None if self.last is None else self.last - self.began,
            "tokens_per_s": self.tokens_per_s,
        }

    def summary(self) -> str:
        """For people. Without the server's count, pieces stand for tokens, and it says so."""
        if self.first is None or self.last is None:
            return "no answer"
        counted = self.tokens is not None
        made = plural(self.tokens or 0, "token") if counted else plural(self.pieces, "piece")
        parts = [f"{made} in {duration(self.last - self.began)}"]
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.1f} {'tokens' if counted else 'pieces'}/s")
        parts.append(f"first after {duration(self.first - self.began)}")
        if self.prompt_tokens is not None:
            cached = f", {self.cached_tokens} cached" if self.cached_tokens else ""
            parts.append(f"prompt {self.prompt_tokens}{cached}")
        return " · ".join(parts)


def total(answers: Iterable[Answer]) -> str:
    """A conversation's sum."""
    known = [one for one in answers if one.first is not None]
    made = sum(one.tokens or one.pieces for one in known)
    return f"{plural(len(known), 'answer')}, {plural(made, 'token')}"
