"""Conversations whose APIs allow what chat templates do not."""

from __future__ import annotations

from collections.abc import Iterable

from capyra.engine.types import Message, TextPart

_BREAK = TextPart("\n\n")


def merged(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages, neighbours of the same speaker joined: many templates want turns to
    alternate, and these APIs promise it."""
    found: list[Message] = []
    for message in messages:
        if found and message.role == found[-1].role and message.role in ("user", "assistant"):
            found[-1] = _joined(found[-1], message)
        else:
            found.append(message)
    return tuple(found)


def _joined(one: Message, other: Message) -> Message:
    between = (_BREAK,) if one.parts and other.parts else ()
    return Message(
        one.role,
        (*one.parts, *between, *other.parts),
        tool_calls=one.tool_calls + other.tool_calls,
    )
