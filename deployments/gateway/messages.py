"""Conversations and tools, as OpenAI's clients write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from capyra.deployments.gateway import images
from capyra.deployments.gateway.fields import Body, Text, compact
from capyra.deployments.gateway.settings import MOST_MESSAGES, ServerConfig
from capyra.engine.errors import InvalidValue, TooLarge, Unsupported
from capyra.engine.types import (
    ChatPrompt,
    Message,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]


class TextContent(Body):
    type: Literal["text"]
    text: Text


class RefusalContent(Body):
    type: Literal["refusal"]
    refusal: Text


class ImageUrl(Body):
    url: str = Field(pattern=r"^(?i:data:|https?://)", description="A data: URL with base64")
    detail: Literal["auto", "low", "high"] | None = Field(
        default=None, description="Accepted, without effect"
    )


class ImageContent(Body):
    type: Literal["image_url"]
    image_url: ImageUrl


TextParts = Annotated[list[TextContent], Field(min_length=1)]
UserPart = Annotated[TextContent | ImageContent, Field(discriminator="type")]
UserParts = Annotated[list[UserPart], Field(min_length=1)]
AssistantPart = Annotated[TextContent | RefusalContent, Field(discriminator="type")]
AssistantParts = Annotated[list[AssistantPart], Field(min_length=1)]


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: Text | TextParts
    name: Name | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: Text | UserParts
    name: Name | None = None


class CalledFunction(Body):
    name: Name
    arguments: Text


class CalledTool(Body):
    id: CallId
    type: Literal["function"]
    function: CalledFunction
    index: int | None = Field(default=None, ge=0, description="Accepted, without effect")


class AssistantMessage(Body):
    """Also as clients get it from an earlier answer, with all its empty fields."""

    role: Literal["assistant"]
    content: Text | AssistantParts | None = None
    name: Name | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=128)] | None = None
    refusal: Text | None = None
    annotations: list[Any] | None = Field(default=None, description="Accepted, without effect")
    audio: None = None
    function_call: None = None


class ToolMessage(Body):
    role: Literal["tool"]
    content: Text | TextParts
    tool_call_id: CallId
    name: Name | None = None


AnyMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]
Messages = Annotated[
    list[AnyMessage], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)
]


class Function(Body):
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    type: Literal["function"]
    function: Function


class ChosenFunction(Body):
    name: Name


class NamedChoice(Body):
    type: Literal["function"]
    function: ChosenFunction


Choice = Literal["none", "auto", "required"] | NamedChoice


def conversation(messages: Sequence[AnyMessage], config: ServerConfig) -> tuple[Message, ...]:
    """The messages as an engine takes them, within the limits of this gateway."""
    check_count(len(messages), config)
    pictures = Pictures(config)
    return tuple(_message(one, f"messages[{at}]", pictures) for at, one in enumerate(messages))


def check_count(messages: int, config: ServerConfig, *, param: str = "messages") -> None:
    if messages > config.messages:
        raise InvalidValue(
            f"there are {messages} messages; {config.messages} are the most", param=param
        )


class Pictures:
    """The images of one request, counted."""

    def __init__(self, config: ServerConfig) -> None:
        self._limits = config.images
        self._count = 0

    def decode(self, url: str, param: str) -> Part:
        """The image of a `data:` URL."""
        self._enter()
        return images.decode(url, param, self._limits)

    def decode_base64(self, payload: str, param: str) -> Part:
        self._enter()
        return images.decode_base64(payload, param, self._limits)

    def _enter(self) -> None:
        self._count += 1
        if self._count > self._limits.count:
            raise TooLarge(f"there are more than {self._limits.count} images", param="messages")


def _message(message: AnyMessage, place: str, pictures: Pictures) -> Message:
    content = message.content
    if isinstance(content, str):
        parts: tuple[Part, ...] = (TextPart(content),)
    else:
        parts = tuple(_parts(content or (), f"{place}.content", pictures))
    if isinstance(message, UserMessage):
        return Message("user", parts, message.name)
    if isinstance(message, AssistantMessage):
        if message.refusal:
            parts = (*parts, TextPart(message.refusal))
        if not parts and not message.tool_calls:
            raise InvalidValue(
                f"{place} says nothing: it needs content or tool_calls", param=f"{place}.content"
            )
        calls = tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in message.tool_calls or ()
        )
        return Message("assistant", parts, message.name, calls)
    if isinstance(message, ToolMessage):
        return Message("tool", parts, message.name, tool_call_id=message.tool_call_id)
    role: Role = "system"
    return Message(role, parts, message.name)


def _parts(
    content: Sequence[TextContent | ImageContent | RefusalContent],
    place: str,
    pictures: Pictures,
) -> Iterator[Part]:
    for at, part in enumerate(content):
        if isinstance(part, TextContent):
            yield TextPart(part.text)
        elif isinstance(part, ImageContent):
            yield pictures.decode(part.image_url.url, f"{place}[{at}].image_url.url")
        else:
            yield TextPart(part.refusal)


def toolbox(
    tools: Sequence[FunctionTool] | None, choice: Choice | None, parallel: bool | None
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that a model may call, and whether it must."""
    if not tools:
        if isinstance(choice, NamedChoice) or choice == "required":
            raise InvalidValue(
                "tool_choice asks for a call, but there are no tools", param="tool_choice"
            )
        return (), ToolChoice()
    made: dict[str, Tool] = {}
    for at, tool in enumerate(tools):
        function, param = tool.function, f"tools[{at}].function"
        if function.name in made:
            raise InvalidValue(
                f"{param}.name: there are two tools {function.name}", param=f"{param}.name"
            )
        schema = function.parameters or {}
        compact(schema, param=f"{param}.parameters")
        made[function.name] = Tool(
            function.name, function.description or "", schema, bool(function.strict)
        )
    named = isinstance(choice, NamedChoice)
    if parallel is False and not named and choice != "none":
        # A named choice is one call anyway; otherwise no engine can promise it yet.
        raise Unsupported(
            "parallel_tool_calls: false is supported only where tool_choice names a function",
            param="parallel_tool_calls",
        )
    if isinstance(choice, NamedChoice):
        if choice.function.name not in made:
            raise InvalidValue(
                f"tool_choice names {choice.function.name}, which is not among the tools",
                param="tool_choice",
            )
        return tuple(made.values()), ToolChoice("named", choice.function.name)
    return tuple(made.values()), ToolChoice(choice or "auto")


def chat_prompt(
    messages: Sequence[AnyMessage],
    tools: Sequence[FunctionTool] | None,
    choice: Choice | None,
    parallel: bool | None,
    continue_last: bool,
    config: ServerConfig,
) -> ChatPrompt:
    said = conversation(messages, config)
    if continue_last and said[-1].role != "assistant":
        raise InvalidValue(
            "continue_final_message needs an assistant's message at the end", param="messages"
        )
    box, chosen = toolbox(tools, choice, parallel)
    return ChatPrompt(said, box, chosen, continue_last)
