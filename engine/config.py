"""An expert's settings, as an operator writes them. Frozen, validated once when loaded."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*((?:[kmgt]i?)?)b?", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PART = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(ms|s|m|h|d)"
_DURATION = re.compile(rf"(?:{_PART}\s*)+")

FOREVER = -1.0
"""A keep-alive without end."""

LIGHT = {"description", "skills", "keep_alive", "pin", "sampling", "replicas", "license"}
"""An expert's settings that an engine does not see: changing them keeps it."""


def parse_size(value: object) -> int:
    """`1.5GiB`, `800MB` or a number of bytes, as bytes."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return round(float(match[1]) * _UNITS[match[2].lower()])
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise ValueError(f"{value!r:.60} is no size; write a number of bytes, or 800MB, 1.5GiB")


def parse_duration(value: object) -> float:
    """`10m`, `1h30m`, `-1` or a number of seconds, as seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if _NUMBER.fullmatch(text):
            return float(text)
        if _DURATION.fullmatch(text):
            parts = re.findall(_PART, text)
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise ValueError(f"{value!r:.60} is no duration; write seconds, or 500ms, 30s, 5m, 1h30m")


def _keep_alive(value: object) -> float:
    seconds = parse_duration(value)
    if seconds < 0 and seconds != FOREVER:
        raise ValueError(f"{value!r:.60} is no keep-alive; write a duration, 0, or -1 for ever")
    return seconds


_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9.]+\s*([kmgtKMGT]i?)?[bB]?$"},
    ],
    "examples": ["800MB", "1.5GiB"],
}


_DURATION_PATTERN = r"^([0-9.]+|([0-9.]+\s*(ms|s|m|h|d)\s*)+)$"
_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": _DURATION_PATTERN},
    ],
    "examples": ["500ms", "30s", "1h30m"],
}
_KEEP_ALIVE_SCHEMA = {
    "anyOf": [
        {"const": -1},
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": rf"^-1$|{_DURATION_PATTERN}"},
    ],
    "examples": ["10m", 0, -1],
}

_TEN_YEARS = 10 * 365 * 86400

Bytes = Annotated[
    int, BeforeValidator(parse_size), Field(ge=0, le=2**50), WithJsonSchema(_SIZE_SCHEMA)
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, le=_TEN_YEARS, allow_inf_nan=False),
    WithJsonSchema(_DURATION_SCHEMA),
]
KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Field(ge=-1, le=_TEN_YEARS, allow_inf_nan=False),
    WithJsonSchema(_KEEP_ALIVE_SCHEMA),
]
"""Seconds that weights stay after the last request: 0 leaves at once, -1 never."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
ExpertName = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Lower case, because it is also the name of a Ray Serve application and part of a path."""

Text = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """The base of everything in the experts file: unknown keys are mistakes.

    A validator's message says what is wrong and, after a semicolon, how to mend it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class License(Settings):
    """Under what terms the weights are used. Gated ones stay off until somebody accepts."""

    id: Text = Field(description="SPDX identifier, or the licence's own name")
    url: Text | None = Field(default=None, description="Where its text is")
    commercial: bool = Field(default=True, description="Whether it permits commercial use")
    gated: bool = Field(
        default=False, description="Whether its owner hands the weights only to those who agree"
    )
    accepted: bool = Field(
        default=False,
        description="Set by the operator who has read and accepted a gated or non-commercial one",
    )

    @property
    def usable(self) -> bool:
        return self.accepted or (self.commercial and not self.gated)


class KvCache(Settings):
    """The K/V cache of one replica."""

    type: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="What keys and values are stored in; auto: as computed"
    )
    memory: Bytes | None = Field(
        default=None, description="Bytes for K/V blocks; by default what one full context needs"
    )


class Speculation(Settings):
    """Guess several tokens at once, verify them in one step."""

    method: Literal["off", "ngram", "draft"] = Field(
        default="off", description="Guess from the text so far, or with a small draft model"
    )
    draft: Text | None = Field(
        default=None, description="Draft model: a directory or hub id, as in `model`"
    )
    tokens: int = Field(default=4, ge=1, le=16, description="Tokens guessed in one step")

    @model_validator(mode="after")
    def _draft_is_named(self) -> Speculation:
        if self.method == "draft" and self.draft is None:
            raise ValueError("`method: draft` needs a model; name it with `draft:`")
        if self.method != "draft" and self.draft is not None:
            raise ValueError("`draft` has no effect here; write `method: draft`, or remove it")
        return self


class Replicas(Settings):
    """How many processes may host the expert."""

    initial: int = Field(
        default=1, ge=0, le=256, description="What a fresh deployment starts with; 0: none"
    )
    min: int = Field(
        default=1, ge=1, le=256, description="The fewest while its weights are in memory"
    )
    max: int = Field(default=4, ge=1, le=256, description="The most there may ever be")
    load: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Requests under way that each is meant to have; by default `queue.running`",
    )
    up_delay: Seconds = Field(
        default=5, description="How long they have more to do before there is another"
    )
    down_delay: Seconds = Field(
        default=60, description="How long they have less to do before one goes"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(
                f"min ({self.min}) is more than max ({self.max}); lower one or raise the other"
            )
        if self.initial > self.max:
            raise ValueError(
                f"initial ({self.initial}) is more than max ({self.max}); "
                "lower one or raise the other"
            )
        return self


class Resources(Settings):
    """What one replica may use."""

    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Compute threads; by default all cores"
    )
    gpus: float = Field(
        default=0, ge=0, le=64, description="GPUs that Ray reserves for it; parts are allowed"
    )
    parked_memory: Bytes = Field(
        default=256 * 2**20, description="What the process needs without weights"
    )
    memory: Bytes | None = Field(
        default=None, description="Weights and K/V; by default measured at the first load"
    )


class Queue(Settings):
    """How many requests one replica holds. Over `running` + `waiting`: 429 at once."""

    running: int = Field(default=16, ge=1, le=4096, description="Most requests in one batch")
    waiting: int = Field(
        default=64, ge=0, le=65536, description="Most requests that wait for a place in it"
    )
    deadline: Seconds = Field(default=600, gt=0, description="Longest a request may take in all")


class SamplingDefaults(Settings):
    """For what a request does not say."""

    temperature: float = Field(default=1.0, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Keep the likeliest tokens up to this probability"
    )
    top_k: int = Field(default=0, ge=0, description="Keep this many tokens; 0: all")
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Drop tokens under this part of the likeliest's"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=10, description="Over 1 makes repetition less likely"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Longest answer; by default what the context leaves"
    )


class Skill(Settings):
    """Something that the expert is good at; the router learns from the examples."""

    name: Text = Field(description="A word or two: `code`, `translation`")
    description: str = Field(default="", description="What it covers, for people")
    examples: tuple[Text, ...] = Field(
        default=(), description="Prompts that belong to it; five or more teach something"
    )


class ExpertConfig(Settings):
    """One model under one name."""

    model: Text | None = Field(
        default=None, description="Model directory (relative to the file), or a hub id"
    )
    revision: Text | None = Field(
        default=None, description="Commit, tag or branch of a hub id; by default its main branch"
    )
    license: License | None = Field(default=None, description="Terms of the weights")
    description: str = Field(default="", description="A sentence for `/v1/models` and people")
    enabled: bool = Field(default=True, description="false: known, but not served")
    engine: str = Field(default="native", description="What computes it")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="What the weights are computed in; auto: as stored"
    )
    context: int | None = Field(
        default=None,
        ge=16,
        le=2**24,
        description="Most tokens of prompt and answer together; by default the model's own",
    )
    kv: KvCache = Field(default=KvCache(), description="Its K/V cache")
    speculation: Speculation = Field(default=Speculation(), description="Guessing ahead")
    keep_alive: KeepAlive = Field(
        default=300.0,
        description="How long weights stay after the last request; by default what "
        "`residency.keep_alive` says; 0: leave at once, -1: stay for ever",
    )
    pin: bool = Field(default=False, description="Load at start, never unload")
    replicas: Replicas = Field(default=Replicas(), description="Its processes")
    resources: Resources = Field(default=Resources(), description="What each of them may use")
    queue: Queue = Field(default=Queue(), description="Requests that each of them holds")
    skills: tuple[Skill, ...] = Field(default=(), description="What it is good at")
    sampling: SamplingDefaults = Field(
        default=SamplingDefaults(), description="Defaults for what a request does not say"
    )
    chat_template: Text | None = Field(
        default=None,
        description="Jinja file (relative to the experts file) that replaces the model's own",
    )
    share_cache: bool = Field(
        default=False, description="Let tenants share cached K/V of equal prompts"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the engine itself; it validates them"
    )

    @property
    def active(self) -> bool:
        """Whether it is served: enabled, and its licence permits it."""
        return self.enabled and (self.license is None or self.license.usable)
