"""A conversation as Anthropic's clients write it: turns, made of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from capyra.deployments.gateway.dialects.turns import merged
from capyra.deployments.gateway.fields import Body, Text, compact
from capyra.deployments.gateway.messages import CallId, Name, Pictures, check_count
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.errors import Unsupported
from capyra.engine.types import Message, Part, TextPart, ToolCall

FAILED = "Error: "
"""Begins a tool's result that `is_error`: engines know no other way to say so."""


class CacheControl(Body):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(Body):
    cache_control: CacheControl | None = Field(
        default=None, description="Without effect: what can be reused always is"
    )


class TextBlock(Block):
    type: Literal["text"]
    text: Text
    citations: list[Any] | None = Field(default=None, description="Accepted, without effect")


class ImageSource(Body):
    type: Literal["base64"]
    data: str = Field(description="The image as base64")
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class UrlSource(Body):
    type: Literal["url"]
    url: Text = Field(description="Refused: remote images are not fetched")


class ImageBlock(Block):
    type: Literal["image"]
    source: Annotated[ImageSource | UrlSource, Field(discriminator="type")]


class ToolUseBlock(Block):
    type: Literal["tool_use"]
    id: CallId
    name: Name
    input: dict[str, Any]
    caller: dict[str, Any] | None = Field(default=None, description="Accepted, without effect")


class ToolResultBlock(Block):
    type: Literal["tool_result"]
    tool_use_id: CallId
    content: Text | list[TextBlock] | None = None
    is_error: bool | None = None


UserBlock = Annotated[TextBlock | ImageBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[TextBlock | ToolUseBlock, Field(discriminator="type")]


class UserTurn(Body):
    role: Literal["user"]
    content: Text | Annotated[list[UserBlock], Field(min_length=1)]


class AssistantTurn(Body):
    role: Literal["assistant"]
    content: Text | Annotated[list[AssistantBlock], Field(min_length=1)]


class SystemTurn(Body):
    role: Literal["system"]
    content: Text | Annotated[list[TextBlock], Field(min_length=1)]


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


def conversation(turns: Sequence[Turn], config: ServerConfig) -> tuple[Message, ...]:
    """The turns as an engine takes them, within the limits of this gateway."""
    check_count(len(turns), config)
    pictures = Pictures(config)
    return merged(
        message
        for at, turn in enumerate(turns)
        for message in _messages(turn, f"messages[{at}]", pictures)
    )


def _messages(turn: Turn, place: str, pictures: Pictures) -> Iterator[Message]:
    """A turn as messages: each result of a tool is one of its own."""
    if isinstance(turn, SystemTurn):
        yield Message("system", texts(turn.content))
    elif isinstance(turn, AssistantTurn):
        yield _assistant(turn, place)
    elif isinstance(turn.content, str):
        yield Message("user", (TextPart(turn.content),))
    else:
        yield from _user(turn.content, f"{place}.content", pictures)


def _user(content: Sequence[UserBlock], place: str, pictures: Pictures) -> Iterator[Message]:
    parts: list[Part] = []
    for at, block in enumerate(content):
        if isinstance(block, TextBlock):
            parts.append(TextPart(block.text))
        elif isinstance(block, ImageBlock):
            parts.append(_image(block, f"{place}[{at}].source", pictures))
        else:
            if parts:
                yield Message("user", tuple(parts))
                parts = []
            result = texts(block.content)
            if block.is_error:
                result = (TextPart(FAILED), *result)
            yield Message("tool", result, tool_call_id=block.tool_use_id)
    if parts:
        yield Message("user", tuple(parts))


def _image(block: ImageBlock, place: str, pictures: Pictures) -> Part:
    if isinstance(block.source, UrlSource):
        raise Unsupported(
            f"{place}: remote images are not fetched: send the image itself, with type base64",
            param=place,
        )
    return pictures.decode_base64(block.source.data, f"{place}.data")


def _assistant(turn: AssistantTurn, place: str) -> Message:
    if isinstance(turn.content, str):
        return Message("assistant", (TextPart(turn.content),))
    said: list[Part] = []
    calls: list[ToolCall] = []
    for at, block in enumerate(turn.content):
        if isinstance(block, TextBlock):
            said.append(TextPart(block.text))
        else:
            arguments = compact(block.input, param=f"{place}.content[{at}].input")
            calls.append(ToolCall(block.id, block.name, arguments))
    return Message("assistant", tuple(said), tool_calls=tuple(calls))


def texts(content: str | Sequence[TextBlock] | None) -> tuple[TextPart, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(TextPart(block.text) for block in content or ())
