"""The `server:` part of the experts file."""

from __future__ import annotations

from pydantic import Field, model_validator

from capyra.engine.config import Bytes, Seconds, Settings

MOST_MESSAGES = 2**14
MOST_PROMPTS = 2**12
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class BodyLimits(Settings):
    """How large a request's body may be, and how long it may take to arrive."""

    max: Bytes = Field(default=32 * 2**20, description="Longest body; over it 413")
    timeout: Seconds = Field(
        default=10, gt=0, description="Seconds that a body may take in all; over it 408"
    )
    memory: Bytes = Field(
        default=512 * 2**20,
        description="Bytes that the bodies of all requests in one gateway may hold; over it 429",
    )


class Deadlines(Settings):
    """How long a request may take in all. An expert's own `queue.deadline` may be shorter."""

    default: Seconds = Field(default=600, gt=0, description="For requests without `timeout`")
    max: Seconds = Field(default=3600, gt=0, description="A longer `timeout` is cut to this")

    @model_validator(mode="after")
    def _ordered(self) -> Deadlines:
        if self.default > self.max:
            raise ValueError(
                f"default ({self.default:g} s) is more than max ({self.max:g} s); "
                "lower one or raise the other"
            )
        return self


class Heartbeat(Settings):
    """Comments in a stream that has nothing to say, so that nobody takes it for dead."""

    first: Seconds = Field(
        default=0.1, description="After so long without a token, headers and the first comment"
    )
    interval: Seconds = Field(default=5, gt=0, description="Between comments after that")


class Images(Settings):
    """Image parts of a conversation."""

    count: int = Field(default=16, ge=0, le=1024, description="Most images in one request")
    pixels: int = Field(default=16_000_000, ge=1, le=2**28, description="Most pixels of one image")


class ServerConfig(Settings):
    """The gateway's settings."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; all others than this machine's own need keys",
    )
    port: int = Field(default=8082, ge=1, le=65535, description="Port to listen on")
    replicas: int = Field(default=1, ge=1, le=64, description="Gateway processes")
    key_env: str = Field(
        default="CAPYRA_API_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="Environment variable that holds the keys, separated by commas",
    )
    in_flight: int = Field(
        default=1024, ge=1, le=2**20, description="Most requests at once in one gateway"
    )
    messages: int = Field(
        default=4096, ge=1, le=MOST_MESSAGES, description="Most messages in one request"
    )
    prompts: int = Field(
        default=128,
        ge=1,
        le=MOST_PROMPTS,
        description="Most prompts or embedding inputs in one request",
    )
    body: BodyLimits = Field(default=BodyLimits(), description="Limits of a request's body")
    deadline: Deadlines = Field(default=Deadlines(), description="Limits of a request's time")
    heartbeat: Heartbeat = Field(default=Heartbeat(), description="Signs of life in streams")
    images: Images = Field(default=Images(), description="Limits of image parts")

    @property
    def exposed(self) -> bool:
        """Whether it can be reached from other machines; then it needs keys."""
        return self.host not in LOOPBACK
