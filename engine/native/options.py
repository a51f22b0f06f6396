"""What an operator can set for the native engine. Everything has a default that serves."""

from __future__ import annotations

from pydantic import Field

from capyra.engine.config import Settings


class NativeOptions(Settings):
    """How the native engine divides its steps."""

    chunk: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Prompt tokens of a step in which answers are being written",
    )
    step: int = Field(
        default=512, ge=1, le=65536, description="Prompt tokens of a step in which none is"
    )
    decode_steps_between_admissions: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Steps for answers alone between two steps that also read prompts",
    )
    blocks: int | None = Field(
        default=None,
        ge=2,
        le=2**31,
        description="K/V blocks of 16 tokens; by default what `kv.memory` holds",
    )
    prefix_cache: bool = Field(
        default=True, description="Find the K/V of prompts that begin alike, instead of computing"
    )
    patience: int = Field(
        default=2048,
        ge=1,
        le=2**31,
        description="Steps after which a waiting request comes before more urgent ones",
    )
    lag: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Tokens that wait for a slow reader before its request steps aside",
    )
    prefill_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads of steps that read prompts; by default `resources.threads`",
    )
    decode_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads of steps that only write; by default `resources.threads`",
    )
    tool_format: str | None = Field(
        default=None,
        description="How the model writes tool calls; by default what its template shows",
    )
