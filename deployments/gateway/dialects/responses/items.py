"""A conversation as clients of the Responses API write it: a list of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from capyra.deployments.gateway.dialects.turns import merged
from capyra.deployments.gateway.fields import Body, Plain, Text
from capyra.deployments.gateway.messages import CallId, Name, Pictures, check_count
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.errors import InvalidValue
from capyra.engine.types import Message, Part, TextPart, ToolCall

Status = Literal["in_progress", "completed", "incomplete"]
Ignored = Annotated[Any, Field(description="Accepted, without effect")]


class InputText(Body):
    type: Literal["input_text"]
    text: Text
    prompt_cache_breakpoint: Ignored = None


class InputImage(Body):
    type: Literal["input_image"]
    image_url: Text | None = Field(default=None, description="A data: URL with base64")
    detail: Literal["auto", "low", "high", "original"] | None = Field(
        default=None, description="Accepted, without effect"
    )
    file_id: None = None
    prompt_cache_breakpoint: Ignored = None


class OutputText(Body):
    type: Literal["output_text"]
    text: Text
    annotations: list[Any] | None = Field(default=None, description="Accepted, without effect")
    logprobs: list[Any] | None = Field(default=None, description="Accepted, without effect")


class OutputRefusal(Body):
    type: Literal["refusal"]
    refusal: Text


Content = Annotated[
    InputText | InputImage | OutputText | OutputRefusal, Field(discriminator="type")
]


class MessageItem(Body):
    """What somebody said; also as clients get it from an earlier answer."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[Content]
    id: Plain | None = None
    status: Status | None = None
    phase: Plain | None = None


class CallItem(Body):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: Text
    id: Plain | None = None
    status: Status | None = None


class ResultItem(Body):
    """What came of it."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Text | list[InputText]
    id: Plain | None = None
    status: Status | None = None


Item = MessageItem | CallItem | ResultItem


def conversation(items: Sequence[Item], config: ServerConfig) -> tuple[Message, ...]:
    """The items as an engine takes them, within the limits of this gateway. A turn's text and
    its calls are items of their own; they become one message."""
    check_count(len(items), config, param="input")
    return merged(_messages(items, Pictures(config)))


def _messages(items: Sequence[Item], pictures: Pictures) -> Iterator[Message]:
    for at, item in enumerate(items):
        match item:
            case CallItem():
                call = ToolCall(item.call_id, item.name, item.arguments)
                yield Message("assistant", tool_calls=(call,))
            case ResultItem():
                parts = tuple(_parts(item.output, f"input[{at}].output", pictures))
                yield Message("tool", parts, tool_call_id=item.call_id)
            case MessageItem():
                role = "system" if item.role == "developer" else item.role
                parts = tuple(_parts(item.content, f"input[{at}].content", pictures))
                if role != "user" and not all(isinstance(part, TextPart) for part in parts):
                    raise InvalidValue(
                        f"input[{at}].content: only a user shows images",
                        param=f"input[{at}].content",
                    )
                yield Message(role, parts)


def _parts(content: str | Sequence[Content], place: str, pictures: Pictures) -> Iterator[Part]:
    if isinstance(content, str):
        yield TextPart(content)
        return
    for at, part in enumerate(content):
        match part:
            case InputText() | OutputText():
                yield TextPart(part.text)
            case OutputRefusal():
                yield TextPart(part.refusal)
            case InputImage(image_url=None):
                raise InvalidValue(
                    f"{place}[{at}].image_url is missing", param=f"{place}[{at}].image_url"
                )
            case InputImage():
                yield pictures.decode(part.image_url or "", f"{place}[{at}].image_url")
