"""`POST /v1/messages` and `/v1/messages/count_tokens`: what a client may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from capyra.deployments.gateway.dialects.anthropic.blocks import (
    Block,
    CacheControl,
    TextBlock,
    Turn,
    conversation,
    texts,
)
from capyra.deployments.gateway.fields import (
    MOST_TOKENS,
    REFUSED,
    Body,
    GenerationBody,
    Handling,
    ModelName,
    Plain,
    Stop,
    Text,
    compact,
)
from capyra.deployments.gateway.messages import (
    Choice,
    ChosenFunction,
    Function,
    FunctionTool,
    Name,
    NamedChoice,
    toolbox,
)
from capyra.deployments.gateway.settings import MOST_MESSAGES, ServerConfig
from capyra.engine.config import SamplingDefaults
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import ChatPrompt, GenerateRequest, Message, OutputFormat


class ClientTool(Block):
    """A tool of the client's own."""

    name: Name
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: Text | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = Field(
        default=None, description="Accepted, without effect: input is always streamed as it comes"
    )


class AnyTool(Body):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool | None = Field(
        default=None, description="true: only with type tool"
    )


class OneTool(Body):
    type: Literal["tool"]
    name: Name
    disable_parallel_tool_use: bool | None = None


class NoTool(Body):
    type: Literal["none"]


ToolChoice = Annotated[AnyTool | OneTool | NoTool, Field(discriminator="type")]


class Thinking(Body):
    type: Literal["disabled", "enabled", "adaptive"]
    budget_tokens: int | None = None
    display: Plain | None = None


class JsonOutput(Body):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    format: JsonOutput | None = None
    effort: Plain | None = Field(default=None, description="Refused: no expert can set it")


class Metadata(Body):
    user_id: Plain | None = None


_SERVER_TOOL = "this server has no tools of its own: only yours, with input_schema"


class Asked(Body):
    """What counting tokens has in common with answering."""

    refused: ClassVar[Mapping[str, str]] = {
        **REFUSED,
        "allowed_callers": _SERVER_TOOL,
        "allowed_domains": _SERVER_TOOL,
        "blocked_domains": _SERVER_TOOL,
        "container": "nothing runs here but models",
        "context_management": "send the messages that shall be read",
        "defer_loading": "every tool is shown to the expert",
        "diagnostics": "requests are not remembered",
        "inference_geo": "the experts are where they are",
        "input_examples": "write them into the tool's description",
        "max_uses": _SERVER_TOOL,
        "mcp_servers": _SERVER_TOOL,
        "speed": "an expert has one speed",
        "user_profile_id": "there are no profiles here",
        "workspace_id": "there are no workspaces here",
    }

    model: ModelName
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)]
    system: Text | list[TextBlock] | None = None
    tools: Annotated[list[ClientTool], Field(max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = Field(default=None, description="Only disabled")
    output_config: OutputConfig | None = Field(default=None, description="The answer's format")
    cache_control: CacheControl | None = Field(
        default=None, description="Without effect: what can be reused always is"
    )

    def prompt(self, config: ServerConfig) -> ChatPrompt:
        """The conversation as an engine takes it."""
        self._check()
        said = conversation(self.messages, config)
        system = texts(self.system)
        if system:
            said = (Message("system", system), *said)
        box, chosen = toolbox([_tool(tool) for tool in self.tools or ()], self._choice(), None)
        last = said[-1]
        if last.tool_calls:
            raise InvalidValue(
                f"messages ends with a tool_use: the tool_result of {last.tool_calls[-1].id} is "
                "missing",
                param="messages",
            )
        return ChatPrompt(said, box, chosen, continue_last=last.role == "assistant")

    def _check(self) -> None:
        if self.thinking is not None and self.thinking.type != "disabled":
            raise Unsupported(
                "thinking is not supported: no expert can set it; leave it out, or send "
                'thinking: {"type": "disabled"}',
                param="thinking",
            )
        if self.output_config is not None and self.output_config.effort is not None:
            raise Unsupported(
                "output_config.effort is not supported: no expert can set it",
                param="output_config.effort",
            )
        if isinstance(self.tool_choice, AnyTool) and self.tool_choice.disable_parallel_tool_use:
            raise Unsupported(
                "tool_choice.disable_parallel_tool_use is supported only with type tool",
                param="tool_choice.disable_parallel_tool_use",
            )

    def _choice(self) -> Choice:
        match self.tool_choice:
            case OneTool(name=name):
                return NamedChoice(type="function", function=ChosenFunction(name=name))
            case NoTool():
                return "none"
            case AnyTool(type="any"):
                return "required"
        return "auto"


class CountBody(Asked):
    """What a client may say to have its prompt counted."""


class MessagesBody(Asked, Handling):
    """What a client may say."""

    max_tokens: int = Field(ge=1, le=MOST_TOKENS)
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=16)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=2**31, description="0: off")
    metadata: Metadata | None = Field(default=None, description="Accepted, without effect")
    service_tier: Literal["auto", "standard_only"] | None = Field(
        default=None, description="Accepted, without effect"
    )
    priority: int | None = Field(default=None, ge=-100, le=100, description="Higher is sooner")

    def request(
        self,
        *,
        id_: str,
        salt: str,
        seconds: float,
        defaults: SamplingDefaults,
        config: ServerConfig,
    ) -> GenerateRequest:
        """What the engine is asked."""
        wishes = GenerationBody(
            model=self.model,
            stop=self.stop_sequences,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            priority=self.priority,
        )
        return wishes.asked(
            self.prompt(config),
            id_=id_,
            salt=salt,
            seconds=seconds,
            defaults=defaults,
            max_tokens=self.max_tokens,
            wanted=self._format(),
        )

    def _format(self) -> OutputFormat | None:
        wanted = self.output_config and self.output_config.format
        if not wanted:
            return None
        return OutputFormat(
            "json_schema", compact(wanted.schema_, param="output_config.format.schema")
        )


def _tool(tool: ClientTool) -> FunctionTool:
    function = Function(
        name=tool.name,
        description=tool.description,
        parameters=tool.input_schema,
        strict=tool.strict,
    )
    return FunctionTool(type="function", function=function)
