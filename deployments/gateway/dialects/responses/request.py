"""`POST /v1/responses`: what a client may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from capyra.deployments.gateway.dialects.responses.items import Ignored, Item, conversation
from capyra.deployments.gateway.fields import (
    MOST_TOKENS,
    Body,
    GenerationBody,
    Handling,
    ModelName,
    Plain,
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
from capyra.engine.types import (
    ChatPrompt,
    GenerateRequest,
    Message,
    OutputFormat,
    TextPart,
)

LOGPROBS = "message.output_text.logprobs"


class ResponseTool(Body):
    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    description: Text | None = None
    strict: bool | None = None


class ChosenTool(Body):
    type: Literal["function"]
    name: Name


class PlainFormat(Body):
    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    type: Literal["json_schema"]
    name: str = Field(min_length=1, max_length=64)
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = Field(
        default=None, description="Without effect: a schema is always enforced"
    )


class TextConfig(Body):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Plain | None = Field(default=None, description="Refused: no expert can set it")


class Reasoning(Body):
    effort: Plain | None = None
    summary: Plain | None = None
    generate_summary: Plain | None = None


class ResponseStreamOptions(Body):
    include_obfuscation: bool | None = Field(
        default=None, description="Accepted, without effect: nothing is padded"
    )


_STATELESS = "nothing is remembered here: send the whole conversation as input"


class ResponsesBody(Handling):
    """What a client may say."""

    refused: ClassVar[Mapping[str, str]] = {
        **Handling.refused,
        "access_programs": "there are none here",
        "background_options": _STATELESS,
        "context_management": "send the items that shall be read",
        "moderation": "no expert moderates",
        "prompt": "there are no stored prompts here: send instructions and input",
    }

    model: ModelName
    input: (
        Text | Annotated[list[Item], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)]
    )
    instructions: Text | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description=f"With include: [{LOGPROBS}]"
    )
    include: Annotated[list[Plain], Field(max_length=32)] | None = Field(
        default=None, description=f"Only {LOGPROBS} has an effect: there is nothing else"
    )
    text: TextConfig | None = Field(default=None, description="The answer's format")
    tools: Annotated[list[ResponseTool], Field(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: only where tool_choice names a function"
    )
    max_tool_calls: int | None = Field(
        default=None, ge=1, description="Without effect: there are no built-in tools"
    )
    store: bool | None = Field(default=None, description="Not true: nothing is stored")
    background: bool | None = Field(default=None, description="Not true: nothing is stored")
    previous_response_id: Plain | None = Field(
        default=None, description="Only null: nothing is remembered"
    )
    conversation: Any = Field(default=None, description="Only null: nothing is remembered")
    reasoning: Reasoning | None = Field(default=None, description="Only effort none")
    truncation: Literal["auto", "disabled"] | None = Field(
        default=None, description="Not auto: nothing is dropped"
    )
    metadata: dict[Plain, Plain] | None = Field(default=None, description="Told back")
    user: Plain | None = Field(default=None, description="Accepted, without effect")
    safety_identifier: Plain | None = Field(default=None, description="Accepted, without effect")
    service_tier: Plain | None = Field(default=None, description="Accepted, without effect")
    prompt_cache_key: Plain | None = Field(default=None, description="Accepted, without effect")
    prompt_cache_retention: Plain | None = Field(
        default=None, description="Accepted, without effect"
    )
    prompt_cache_options: Ignored = None
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
        self._check()
        box, chosen = toolbox(
            [_tool(tool) for tool in self.tools or ()], self._choice(), self.parallel_tool_calls
        )
        wishes = GenerationBody(
            model=self.model,
            temperature=self.temperature,
            top_p=self.top_p,
            priority=self.priority,
        )
        return wishes.asked(
            ChatPrompt(self._conversation(config), box, chosen),
            id_=id_,
            salt=salt,
            seconds=seconds,
            defaults=defaults,
            max_tokens=self.max_output_tokens or defaults.max_tokens,
            logprobs=(self.top_logprobs or 0) if LOGPROBS in (self.include or ()) else None,
            wanted=self._format(),
        )

    def _check(self) -> None:
        """What could only be done with a memory, or by another model."""
        reasoning = self.reasoning or Reasoning()
        thinks = reasoning.effort not in (None, "none")
        for name, wanted, instead in (
            ("store: true", self.store, "nothing is stored here: send store: false"),
            ("background", self.background, "nothing is stored here: wait for the answer"),
            ("previous_response_id", self.previous_response_id, _STATELESS),
            ("conversation", self.conversation, _STATELESS),
            ("reasoning", thinks or reasoning.summary, "no expert can set it"),
            ("text.verbosity", self.text and self.text.verbosity, "no expert can set it"),
            (
                "truncation: auto",
                self.truncation == "auto",
                "nothing is dropped from a conversation that is too long",
            ),
        ):
            if wanted:
                param = name.partition(":")[0]
                raise Unsupported(f"{name} is not supported: {instead}", param=param)
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options needs stream: true", param="stream_options")
        if self.top_logprobs and LOGPROBS not in (self.include or ()):
            raise InvalidValue(f"top_logprobs needs include: [{LOGPROBS}]", param="top_logprobs")

    def _choice(self) -> Choice | None:
        if isinstance(self.tool_choice, ChosenTool):
            name = self.tool_choice.name
            return NamedChoice(type="function", function=ChosenFunction(name=name))
        return self.tool_choice

    def _format(self) -> OutputFormat:
        wanted = self.text and self.text.format
        if isinstance(wanted, SchemaFormat):
            return OutputFormat("json_schema", compact(wanted.schema_, param="text.format.schema"))
        return OutputFormat(wanted.type) if wanted else OutputFormat()

    def _conversation(self, config: ServerConfig) -> tuple[Message, ...]:
        begin: tuple[Message, ...] = ()
        if self.instructions:
            begin = (Message("system", (TextPart(self.instructions),)),)
        if isinstance(self.input, str):
            return (*begin, Message("user", (TextPart(self.input),)))
        return (*begin, *conversation(self.input, config))


def _tool(tool: ResponseTool) -> FunctionTool:
    function = Function(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return FunctionTool(type="function", function=function)
