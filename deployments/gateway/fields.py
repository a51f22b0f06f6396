"""The fields that chat and completions share, and what they mean to an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from capyra.deployments.experts import Call
from capyra.engine.config import FOREVER, SamplingDefaults, parse_duration
from capyra.engine.errors import InvalidValue
from capyra.engine.types import GenerateRequest, Limits, OutputFormat, Prompt, Sampling

T = TypeVar("T")

TEN_YEARS = 10 * 365 * 86400
MOST_TOKENS = 2**24

_DURATION = (
    r"^(?=.)(?:\d{1,3}d)?(?:\d{1,4}h)?(?:\d{1,5}m(?!s))?(?:\d{1,6}(?:\.\d{1,3})?s)?(?:\d{1,9}ms)?$"
)
_NO_NUL = r"^[^\u0000]*$"
_ID = r"^(?:0|[1-9][0-9]{0,8})$"


class Body(BaseModel):
    """The base of every request's body. Unknown fields are mistakes; nothing is converted:
    a number in quotes is a mistake too."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    refused: ClassVar[Mapping[str, str]] = {}
    """Well-known fields that nobody here can honour, and what to do instead."""


def _seconds(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch(_DURATION, value):
            raise ValueError("is no duration: write seconds, or 500ms, 30s, 5m, 1h30m, -1")
        return parse_duration(value)
    if isinstance(value, int | float) and value < 0 and value != FOREVER:
        raise ValueError("is no keep-alive: write a duration, 0, or -1 for ever")
    return value


Text = Annotated[str, Field(json_schema_extra={"pattern": _NO_NUL})]
"""Free text. `reading.py` refuses NUL, once for the whole body."""
Plain = Annotated[str, Field(max_length=4096, json_schema_extra={"pattern": _NO_NUL})]
"""A label that only the client understands."""

ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        description="The expert's name",
        json_schema_extra={"pattern": _NO_NUL},
    ),
]
KeepAlive = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=-1, le=TEN_YEARS),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": -1},
                {"type": "number", "minimum": 0, "maximum": TEN_YEARS},
                {"type": "string", "pattern": _DURATION},
            ]
        }
    ),
]
Stop = Annotated[str, Field(min_length=1, max_length=256, json_schema_extra={"pattern": _NO_NUL})]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=_ID)],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=1024),
    WithJsonSchema(
        {
            "type": "object",
            "patternProperties": {_ID: {"type": "number", "minimum": -100, "maximum": 100}},
            "additionalProperties": False,
            "maxProperties": 1024,
        }
    ),
]


class StreamOptions(Body):
    include_usage: bool | None = Field(
        default=None, description="End the stream with a chunk that holds the usage"
    )
    include_obfuscation: bool | None = Field(
        default=None, description="Accepted, without effect: nothing is padded"
    )


class JsonSchema(Body):
    name: str = Field(min_length=1, max_length=64)
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = Field(
        default=None, description="Without effect: a schema is always enforced"
    )


class TextFormat(Body):
    type: Literal["text"]


class JsonObjectFormat(Body):
    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class StructuredOutputs(Body):
    """vLLM's extension. Exactly one of these."""

    json_: dict[str, Any] | Text | None = Field(
        default=None, alias="json", description="A JSON schema, or its text"
    )
    regex: Text | None = Field(default=None, description="A regular expression")
    choice: Annotated[list[Stop], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="The answer is one of these"
    )
    grammar: Text | None = Field(default=None, description="A grammar")
    json_object: Literal[True] | None = Field(default=None, description="Any JSON object")

    def format(self) -> OutputFormat:
        given = [
            name
            for name in ("json_", "regex", "choice", "grammar", "json_object")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise InvalidValue(
                "structured_outputs takes exactly one of json, regex, choice, grammar and "
                f"json_object; {len(given)} were given",
                param="structured_outputs",
            )
        if self.json_ is not None:
            spec = self.json_ if isinstance(self.json_, str) else None
            schema = _parsed(self.json_) if isinstance(self.json_, str) else self.json_
            return OutputFormat(
                "json_schema", spec or compact(schema, param="structured_outputs.json")
            )
        if self.regex is not None:
            return OutputFormat("regex", self.regex)
        if self.choice is not None:
            return OutputFormat("regex", "|".join(map(_escape, self.choice)))
        if self.grammar is not None:
            return OutputFormat("grammar", self.grammar)
        return OutputFormat("json_object")


def _parsed(text: str) -> Any:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(
            f"structured_outputs.json is no JSON: {error}", param="structured_outputs.json"
        ) from error
    if not isinstance(schema, dict):
        raise InvalidValue(
            "structured_outputs.json must be a JSON schema, an object",
            param="structured_outputs.json",
        )
    return schema


def _escape(text: str) -> str:
    """The text as a regular expression. `re.escape` escapes more than other dialects allow."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def compact(value: Any, *, param: str) -> str:
    """JSON text of what came as JSON; numbers beyond every float came in as infinite."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise InvalidValue(f"{param} holds a number out of range", param=param) from error


def _top_k(value: int) -> int:
    return max(value, 0)


REFUSED: dict[str, str] = {
    "dimensions": "an expert's vectors have their own length",
    "audio": "no expert speaks",
    "function_call": "use tool_choice",
    "functions": "use tools",
    "guided_choice": "use structured_outputs.choice",
    "guided_grammar": "use structured_outputs.grammar",
    "guided_json": "use response_format, or structured_outputs.json",
    "guided_regex": "use structured_outputs.regex",
    "prediction": "an expert speculates by its own settings",
    "reasoning_effort": "no expert can set it",
    "use_beam_search": "no engine has it",
    "verbosity": "no expert can set it",
    "web_search_options": "no expert searches the web",
}


class Handling(Body):
    """Extensions that say how a request is handled, not what is answered."""

    refused: ClassVar[Mapping[str, str]] = REFUSED

    keep_alive: KeepAlive | None = Field(
        default=None, description="How long the expert stays loaded after this request"
    )
    timeout: float | None = Field(
        default=None, gt=0, le=TEN_YEARS, description="Seconds that the request may take in all"
    )
    cache_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        json_schema_extra={"pattern": _NO_NUL},
        description="Cached K/V is shared only between requests with the same salt",
    )

    def call(self, trace: Mapping[str, str]) -> Call:
        return Call(keep_alive_s=self.keep_alive, trace=trace)


class GenerationBody(Handling):
    """What every way of asking for text has in common."""

    model: ModelName
    stream: bool | None = Field(default=None, description="Send the answer token by token")
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=128, description="Answers to one prompt")
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = Field(
        default=None, description="Text, or up to 16 texts, before which the answer ends"
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Annotated[int, Field(ge=-1, lt=2**31), AfterValidator(_top_k)] | None = Field(
        default=None, description="0 and -1: off"
    )
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    logit_bias: LogitBias | None = Field(
        default=None, description="Token id → what is added to its logit"
    )
    max_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    min_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    priority: int | None = Field(default=None, ge=-100, le=100, description="Higher is sooner")
    user: Plain | None = Field(default=None, description="Accepted, without effect")

    def sampling(self, defaults: SamplingDefaults) -> Sampling:
        return Sampling(
            temperature=_or(self.temperature, defaults.temperature),
            top_p=_or(self.top_p, defaults.top_p),
            top_k=_or(self.top_k, defaults.top_k),
            min_p=_or(self.min_p, defaults.min_p),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=_or(self.repetition_penalty, defaults.repetition_penalty),
            logit_bias={int(key): bias for key, bias in (self.logit_bias or {}).items()},
            # Engines disagree about negative seeds; these are still 2^63 different ones.
            seed=None if self.seed is None else self.seed & (2**63 - 1),
        )

    def limits(self, max_tokens: int | None) -> Limits:
        if max_tokens is not None and (self.min_tokens or 0) > max_tokens:
            raise InvalidValue(
                f"min_tokens ({self.min_tokens}) is more than max_tokens ({max_tokens})",
                param="min_tokens",
            )
        stop = self.stop or ()
        return Limits(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or 0,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos),
            include_stop=bool(self.include_stop_str_in_output),
        )

    def format(self) -> OutputFormat:
        wanted = self.response_format
        if self.structured_outputs is not None:
            if wanted is not None and wanted.type != "text":
                raise InvalidValue(
                    "response_format and structured_outputs exclude each other",
                    param="structured_outputs",
                )
            return self.structured_outputs.format()
        if wanted is None or wanted.type == "text":
            return OutputFormat()
        if wanted.type == "json_object":
            return OutputFormat("json_object")
        param = "response_format.json_schema.schema"
        return OutputFormat("json_schema", compact(wanted.json_schema.schema_, param=param))

    def asked(
        self,
        prompt: Prompt,
        *,
        id_: str,
        salt: str,
        seconds: float,
        defaults: SamplingDefaults,
        max_tokens: int | None,
        logprobs: int | None = None,
        wanted: OutputFormat | None = None,
    ) -> GenerateRequest:
        """What the engine is asked, whichever API the question came by."""
        return GenerateRequest(
            id=id_,
            prompt=prompt,
            sampling=self.sampling(defaults),
            limits=self.limits(max_tokens),
            format=wanted or self.format(),
            n=self.n or 1,
            logprobs=logprobs,
            cache_salt=salt,
            priority=self.priority or 0,
            deadline_s=seconds,
        )

    def check(self) -> None:
        """What one field alone cannot tell."""
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options needs stream: true", param="stream_options")

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
