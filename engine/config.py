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
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*$", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")

FOREVER = -1.0
"""A keep-alive without end."""


def parse_size(value: object) -> object:
    """`1.5GiB`, `800MB` or a number of bytes, as bytes."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if not match or match[2].lower() == "i":
        raise ValueError(f"{value!r} is no size: write a number of bytes, or 800MB, 1.5GiB")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def parse_duration(value: object) -> object:
    """`10m`, `1h30m`, `-1` or a number of seconds, as seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    try:
        return float(text)
    except ValueError:
        pass
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(f"{value!r} is no duration: write seconds, or 500ms, 30s, 5m, 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


_SIZE_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["1.5GiB"]}]
}
_DURATION_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "string", "examples": ["5m", "1h30m"]}]}

Bytes = Annotated[
    int, BeforeValidator(parse_size), Field(ge=0, le=2**50), WithJsonSchema(_SIZE_SCHEMA)
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, le=10 * 365 * 86400, allow_inf_nan=False),
    WithJsonSchema(_DURATION_SCHEMA),
]


def _keep_alive(value: object) -> object:
    seconds = parse_duration(value)
    if isinstance(seconds, int | float) and seconds < 0 and seconds != FOREVER:
        raise ValueError(f"{value!r} is no keep-alive: write a duration, 0, or -1 for ever")
    return seconds


KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Field(ge=-1, le=10 * 365 * 86400, allow_inf_nan=False),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""Seconds that weights stay after the last request: 0 leaves at once, -1 never."""

ExpertName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
"""Lower case, because it is also the name of a Ray Serve application and part of a path."""


class Settings(BaseModel):
    """The base of everything in the experts file: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class License(Settings):
    """Under what terms the weights are used. Gated ones stay off until somebody accepts."""

    id: str = Field(min_length=1, description="SPDX identifier, or the licence's own name")
    url: str | None = None
    commercial: bool = True
    gated: bool = False
    accepted: bool = Field(
        default=False, description="Set by the operator who has read a gated licence"
    )

    @property
    def usable(self) -> bool:
        return self.accepted or (self.commercial and not self.gated)


class KvCache(Settings):
    """The K/V cache of one replica."""

    type: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    memory: Bytes | None = Field(
        default=None, description="Bytes for K/V blocks; by default what one full context needs"
    )


class Speculation(Settings):
    """Guess several tokens at once, verify them in one step."""

    method: Literal["off", "ngram", "draft"] = "off"
    draft: str | None = Field(default=None, description="Model directory of the draft model")
    tokens: int = Field(default=4, ge=1, le=16)

    @model_validator(mode="after")
    def _draft_is_named(self) -> Speculation:
        if (self.method == "draft") != (self.draft is not None):
            raise ValueError("`draft` names the model for `method: draft`, and only for it")
        return self


class Replicas(Settings):
    """How many processes may host the expert. `initial` is what a fresh deployment starts with."""

    initial: int = Field(default=1, ge=0, le=256)
    max: int = Field(default=4, ge=1, le=256)

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.initial > self.max:
            raise ValueError(f"initial ({self.initial}) is more than max ({self.max})")
        return self


class Resources(Settings):
    """What one replica may use."""

    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Compute threads; by default all cores"
    )
    gpus: float = Field(default=0, ge=0, le=64)
    parked_memory: Bytes = Field(
        default=256 * 2**20, description="What the process needs without weights"
    )
    memory: Bytes | None = Field(
        default=None, description="Weights and K/V; by default measured at the first load"
    )


class Queue(Settings):
    """How many requests one replica holds. Over `running` + `waiting`: 429 at once."""

    running: int = Field(default=16, ge=1, le=4096, description="Most requests in one batch")
    waiting: int = Field(default=64, ge=0, le=65536)
    deadline: Seconds = Field(default=600, gt=0, description="Longest a request may take in all")


class SamplingDefaults(Settings):
    """For what a request does not say."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    max_tokens: int | None = Field(default=None, ge=1)


class Skill(Settings):
    """Something that the expert is good at; the router learns from the examples."""

    name: str = Field(min_length=1)
    description: str = ""
    examples: tuple[str, ...] = ()


class ExpertConfig(Settings):
    """One model under one name."""

    model: str | None = Field(
        default=None, description="Model directory (relative to the file), or a hub id"
    )
    revision: str | None = Field(default=None, description="Commit or tag of a hub id")
    license: License | None = None
    description: str = ""
    enabled: bool = True
    engine: str = "native"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="What the weights are computed in; auto: as stored"
    )
    context: int | None = Field(
        default=None, ge=16, le=2**24, description="Longest prompt and answer; auto: the model's"
    )
    kv: KvCache = KvCache()
    speculation: Speculation = Speculation()
    keep_alive: KeepAlive = 300.0
    pin: bool = Field(default=False, description="Load at start, never unload")
    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    queue: Queue = Queue()
    skills: tuple[Skill, ...] = ()
    sampling: SamplingDefaults = SamplingDefaults()
    chat_template: str | None = Field(
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
