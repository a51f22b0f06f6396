"""What every parser of tool calls is to its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of one tool call. `name` comes with its first piece, and only there; the pieces'
    `arguments` add up to what the model wrote."""

    call: int
    arguments: str = ""
    name: str | None = None


Piece = str | CallPiece


class ToolCallParser(Protocol):
    """Tells tool calls from text while a model writes.

    However the text is cut, the pieces add up to the same. Text that is no call comes out as
    soon as that is certain; what began like a call and turned out broken comes out as text:
    nothing is lost, and nothing raises.
    """

    def push(self, text: str) -> list[Piece]:
        """What is certain now."""

    def finish(self) -> list[Piece]:
        """What was held back: the answer is over."""
