"""What an operator can set for the echo engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from capyra.engine.config import Bytes, Seconds, Settings


class EchoOptions(Settings):
    """How the echo engine behaves: as fast as it can, unless told to be slow or to fail."""

    load_seconds: Seconds = Field(default=0.0, description="How long a load takes at least")
    memory: Bytes = Field(
        default=0, description="Bytes that a load allocates and touches, and an unload gives back"
    )
    fail_load: Literal["never", "always"] | Annotated[int, Field(ge=1)] = Field(
        default="never", description="Which loads fail: a number means the first so many"
    )
    tokens_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="Speed of each answer; 0: no limit",
    )
    prefill_tokens_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="Speed at which prompts are read, one after the other; 0: no limit",
    )
    fail_after_tokens: int | None = Field(
        default=None, ge=0, description="Every answer breaks after so many tokens"
    )
    cache_tokens: int = Field(
        default=2**20, ge=0, le=2**28, description="Tokens that the prefix cache holds"
    )
    embedding_size: int = Field(default=256, ge=2, le=65536, description="Length of a vector")
