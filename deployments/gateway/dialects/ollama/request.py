"""`POST /api/chat`, `/api/generate`, `/api/embed` and `/api/show`: what a client may say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from capyra.deployments.experts import Call
from capyra.deployments.gateway.dialects.ollama.options import Options
from capyra.deployments.gateway.fields import (
    TEN_YEARS,
    Body,
    GenerationBody,
    ModelName,
    Text,
    compact,
)
from capyra.deployments.gateway.messages import (
    CallId,
    FunctionTool,
    Name,
    Pictures,
    check_count,
    toolbox,
)
from capyra.deployments.gateway.settings import MOST_MESSAGES, MOST_PROMPTS, ServerConfig
from capyra.engine.config import FOREVER, SamplingDefaults
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    Message,
    OutputFormat,
    Part,
    Prompt,
    TextPart,
    TextPrompt,
    ToolCall,
)

_DURATION = r"^-?(?:0|(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:h|m(?!s)|s|ms|us|µs|ns)){1,6})$"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _keep_alive(value: object) -> object:
    """Seconds, or a duration as Go writes it; below zero: for ever."""
    if isinstance(value, str):
        if not re.fullmatch(_DURATION, value):
            raise ValueError("is no duration: write seconds, or 30s, 5m, 1h30m, -1")
        if value.startswith("-"):
            return FOREVER
        parts = re.findall(r"([\d.]+)(\D+)", value)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return FOREVER
    return value


def _untagged(name: str) -> str:
    return name.removesuffix(":latest")


Model = Annotated[ModelName, AfterValidator(_untagged)]
KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Field(ge=-1, le=TEN_YEARS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "maximum": TEN_YEARS},
                {"type": "string", "pattern": _DURATION},
            ]
        }
    ),
]
Stream = Annotated[
    bool,
    BeforeValidator(lambda given: True if given is None else given),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
]
Images = Annotated[list[str], Field(max_length=1024)]


class OllamaBody(Body):
    """What every request has. Ollama passes over what it does not know, and so does this."""

    model_config = ConfigDict(extra="ignore")

    model: Model
    keep_alive: KeepAlive | None = Field(
        default=None, description="How long the expert stays loaded after this request"
    )
    options: Options | None = None

    @property
    def timeout(self) -> float | None:
        return None

    @property
    def cache_salt(self) -> str | None:
        return None

    def call(self, trace: Mapping[str, str]) -> Call:
        return Call(keep_alive_s=self.keep_alive, trace=trace)


class OllamaCalledFunction(Body):
    model_config = ConfigDict(extra="ignore")

    name: Name
    arguments: dict[str, Any]


class OllamaCalledTool(Body):
    model_config = ConfigDict(extra="ignore")

    function: OllamaCalledFunction
    id: CallId | None = None


class OllamaMessage(Body):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    images: Images | None = Field(default=None, description="Each as base64")
    tool_calls: Annotated[list[OllamaCalledTool], Field(max_length=128)] | None = None
    tool_name: Name | None = Field(default=None, description="Whose result this is")
    tool_call_id: CallId | None = None


class AnsweringBody(OllamaBody):
    """What both ways of asking for text have in common."""

    stream: Stream = Field(default=True, description="Unless false, a line for each piece")
    format: Literal["", "json"] | dict[str, Any] | None = Field(
        default=None, description="json, or a JSON schema"
    )
    think: bool | Literal["low", "medium", "high", "max"] | None = Field(
        default=None, description="Only false"
    )
    truncate: bool | None = Field(
        default=None, description="Without effect: what is too long is refused"
    )
    shift: bool | None = Field(
        default=None, description="Without effect: an answer ends where the context does"
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    def _asked(
        self, prompt: Prompt, *, id_: str, salt: str, seconds: float, defaults: SamplingDefaults
    ) -> GenerateRequest:
        if self.think:
            raise Unsupported("think is not supported: no expert can set it", param="think")
        if self.top_logprobs and not self.logprobs:
            raise InvalidValue("top_logprobs needs logprobs: true", param="top_logprobs")
        options = self.options or Options()
        return GenerationBody(model=self.model, **options.wishes()).asked(
            prompt,
            id_=id_,
            salt=salt,
            seconds=seconds,
            defaults=defaults,
            max_tokens=options.most(defaults.max_tokens),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            wanted=self._format(),
        )

    def _format(self) -> OutputFormat:
        if not self.format:
            return OutputFormat()
        if self.format == "json":
            return OutputFormat("json_object")
        return OutputFormat("json_schema", compact(self.format, param="format"))


class OllamaChatBody(AnsweringBody):
    """A conversation. Without messages, the expert is loaded."""

    messages: (
        Annotated[list[OllamaMessage], Field(max_length=MOST_MESSAGES, fail_fast=True)] | None
    ) = None
    tools: Annotated[list[FunctionTool], Field(max_length=256)] | None = None

    @property
    def empty(self) -> bool:
        return not self.messages

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
        box, chosen = toolbox(self.tools, None, None)
        prompt = ChatPrompt(_conversation(self.messages or (), config), box, chosen)
        return self._asked(prompt, id_=id_, salt=salt, seconds=seconds, defaults=defaults)


class OllamaGenerateBody(AnsweringBody):
    """A prompt. Without one, the expert is loaded."""

    prompt: Text | None = None
    suffix: Text | None = Field(default=None, description="What comes after the answer")
    system: Text | None = None
    images: Images | None = Field(default=None, description="Each as base64")
    raw: bool | None = Field(default=None, description="true: no chat template")
    template: Text | None = Field(default=None, description="Refused: an expert has its own")
    context: list[int] | None = Field(default=None, description="Refused: use /api/chat")
    width: int | None = Field(default=None, description="Refused: no expert draws")
    height: int | None = Field(default=None, description="Refused: no expert draws")
    steps: int | None = Field(default=None, description="Refused: no expert draws")

    @property
    def empty(self) -> bool:
        return not self.prompt and not self.suffix and not self.images

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
        return self._asked(
            self._prompt(config), id_=id_, salt=salt, seconds=seconds, defaults=defaults
        )

    def _prompt(self, config: ServerConfig) -> Prompt:
        for name, instead in (
            ("template", "an expert has its own"),
            ("context", "send the conversation to /api/chat"),
            ("width", "no expert draws"),
            ("height", "no expert draws"),
            ("steps", "no expert draws"),
        ):
            if getattr(self, name):
                raise Unsupported(f"{name} is not supported: {instead}", param=name)
        bare = bool(self.raw) or self.suffix is not None
        if bare and (self.system or self.images):
            raise InvalidValue("raw and suffix go with neither system nor images", param="system")
        if bare:
            return TextPrompt(self.prompt or "", self.suffix)
        pictures = Pictures(config)
        parts = (TextPart(self.prompt or ""), *_pictures(self.images, "images", pictures))
        said: tuple[Message, ...] = (Message("user", parts),)
        if self.system:
            said = (Message("system", (TextPart(self.system),)), *said)
        return ChatPrompt(said)


class OllamaEmbedBody(OllamaBody):
    """What a client may say."""

    input: (
        Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
    )
    truncate: bool | None = Field(
        default=None, description="Without effect: what is too long is refused"
    )
    dimensions: int | None = Field(
        default=None, description="Refused: an expert's vectors have their own length"
    )

    def request(self, *, id_: str, salt: str, seconds: float, most: int) -> EmbedRequest:
        if self.dimensions:
            raise Unsupported(
                "dimensions is not supported: an expert's vectors have their own length",
                param="dimensions",
            )
        texts = [self.input] if isinstance(self.input, str) else self.input
        if len(texts) > most:
            raise InvalidValue(f"there are {len(texts)} inputs; {most} are the most", param="input")
        inputs = tuple(TextPrompt(text) for text in texts)
        return EmbedRequest(id=id_, inputs=inputs, cache_salt=salt, deadline_s=seconds)


class OllamaShowBody(Body):
    """What a client may say."""

    model_config = ConfigDict(extra="ignore")

    model: Model
    verbose: bool | None = Field(default=None, description="Accepted, without effect")


def _conversation(messages: Sequence[OllamaMessage], config: ServerConfig) -> tuple[Message, ...]:
    check_count(len(messages), config)
    pictures, pending = Pictures(config), _Pending()
    return tuple(
        _message(one, f"messages[{at}]", pictures, pending) for at, one in enumerate(messages)
    )


class _Pending:
    """Calls without results. Ollama's have no ids, but templates want each result to have the
    id of its call."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[ToolCall] = []

    def call(self, call: OllamaCalledTool, param: str) -> ToolCall:
        self._count += 1
        # Nine letters and digits: what Mistral's templates insist on.
        id_ = call.id or f"call{self._count:05}"
        made = ToolCall(id_, call.function.name, compact(call.function.arguments, param=param))
        self._open.append(made)
        return made

    def answered(self, name: str | None) -> str | None:
        """The id of the first call of that tool, or of any."""
        found = next((call for call in self._open if name in (None, call.name)), None)
        if found is None:
            return None
        self._open.remove(found)
        return found.id


def _message(message: OllamaMessage, place: str, pictures: Pictures, pending: _Pending) -> Message:
    parts: list[Part] = [TextPart(message.content)] if message.content else []
    parts += _pictures(message.images, f"{place}.images", pictures)
    calls = tuple(
        pending.call(call, f"{place}.tool_calls[{at}].function.arguments")
        for at, call in enumerate(message.tool_calls or ())
    )
    id_ = None
    if message.role == "tool":
        id_ = message.tool_call_id or pending.answered(message.tool_name)
    return Message(message.role, tuple(parts), message.tool_name, calls, id_)


def _pictures(given: Sequence[str] | None, place: str, pictures: Pictures) -> list[Part]:
    return [pictures.decode_base64(one, f"{place}[{at}]") for at, one in enumerate(given or ())]
