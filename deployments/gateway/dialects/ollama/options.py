"""`options` of Ollama's requests."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from capyra.deployments.gateway.fields import MOST_TOKENS, Body, Stop
from capyra.engine.errors import Unsupported

_NEUTRAL: dict[str, tuple[tuple[object, ...], str]] = {
    "mirostat": ((0,), "no engine has it"),
    "tfs_z": ((1,), "no engine has it"),
    "typical_p": ((1,), "no engine has it"),
    "repeat_last_n": ((-1,), "repeat_penalty looks at the whole conversation"),
    "penalize_newline": ((True,), "a line break is a token as every other"),
    "num_keep": ((0, -1), "nothing of a conversation is dropped"),
}
"""What cannot be set, but may be told as it is."""


class Options(Body):
    """As Ollama does it, what is unknown is passed over. How the expert is run (`num_ctx`,
    `num_gpu`, `num_thread`, …) is its operator's business, and is passed over too: what does not
    fit its context is refused by itself."""

    model_config = ConfigDict(extra="ignore")

    num_predict: int | None = Field(
        default=None, ge=-2, le=MOST_TOKENS, description="0, -1 and -2: as the context allows"
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31, description="0 and -1: off")
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[Stop], Field(max_length=16)] | None = None
    repeat_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    mirostat: int | None = Field(default=None, description="Only 0")
    tfs_z: float | None = Field(default=None, description="Only 1")
    typical_p: float | None = Field(default=None, description="Only 1")
    repeat_last_n: int | None = Field(default=None, description="Only -1")
    penalize_newline: bool | None = Field(default=None, description="Only true")
    num_keep: int | None = Field(default=None, description="Only 0 and -1")

    def wishes(self) -> dict[str, Any]:
        """The same as fields of a generation."""
        for name, (neutral, reason) in _NEUTRAL.items():
            given = getattr(self, name)
            if given is not None and given not in neutral:
                raise Unsupported(
                    f"options.{name} is not supported: {reason}", param=f"options.{name}"
                )
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "seed": self.seed,
            "stop": self.stop,
            "repetition_penalty": self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
        }

    def most(self, default: int | None) -> int | None:
        """How long the answer may be."""
        if self.num_predict is None:
            return default
        return self.num_predict if self.num_predict > 0 else None
