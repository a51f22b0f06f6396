"""The vocabulary of the Engine contract: what goes in, what comes out.

Plain frozen dataclasses: they cross process borders many times a second, and whoever builds
one has validated it. Token counts are counts of the expert's own tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from capyra.engine.errors import Failure

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
Pooling = Literal["mean", "last"]


# --- what goes in ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image, still encoded. `media_type` is what its bytes are, not what a client claimed."""

    data: bytes
    media_type: str


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """A JSON object, as text: what a model wrote may be broken, and stays as it was written."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`: the model decides; `none`: no calls; `required`: at least one; `named`: this one."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages, rendered by the expert's chat template.

    With `continue_last` the last message is an assistant's, and the answer continues it.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    continue_last: bool = False


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Text as it is. A `suffix` asks for what goes between the two (fill in the middle)."""

    text: str
    suffix: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The shape that the answer must have. `spec` is a schema, a pattern or a grammar."""

    kind: Literal["text", "json_object", "json_schema", "regex", "grammar"] = "text"
    spec: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0 and `None` mean off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When an answer ends. `max_tokens` None means: as long as the context allows."""

    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop: bool = False
    """Whether the stop string or token that ended the answer is part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One prompt, `n` answers.

    `cache_salt` separates tenants: two requests share cached K/V only if their salts are equal.
    `deadline` is seconds that the request may take in all, counted by the one who runs it.
    """

    id: str
    prompt: Prompt
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    format: OutputFormat = OutputFormat()
    n: int = 1
    logprobs: int | None = None
    """None: no log-probabilities; k: the chosen token's, and those of the k likeliest."""
    prompt_logprobs: int | None = None
    echo: bool = False
    """Whether the prompt's text is the beginning of the answer."""
    cache_salt: str = ""
    priority: int = 0
    """Higher is sooner."""
    deadline_s: float | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    id: str
    inputs: tuple[TextPrompt | TokenPrompt, ...]
    pooling: Pooling | None = None
    """None: as the expert's model was trained."""
    normalize: bool = True
    cache_salt: str = ""
    deadline_s: float | None = None


# --- what comes out -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, int, float], ...] = ()
    """The likeliest tokens at this place, best first: text, id, log-probability."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of every answer that begins: the prompt is in the K/V cache."""

    prompt_tokens: int
    cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one answer. `text` never ends inside a character, nor inside a stop string;
    so it may be empty while `token_ids` is not, and the other way round.

    Every generated token is in exactly one `Delta`, those of a tool call, of a stop string and
    the one that ended the answer too, though they leave no text. `logprobs` are the model's own:
    before temperature, bias and penalties.
    """

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call. `id` and `name` come with its first piece, and only there."""

    index: int
    call: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of one answer. `stop` is the stop string or token id that ended it."""

    index: int
    reason: FinishReason
    stop: str | int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds by phase: `queue`, `load`, `prefill`, `decode`."""


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a stream that succeeded: every answer has finished."""

    usage: Usage


Event = Started | Delta | ToolCallDelta | Finished | Done


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is. `fraction` never goes back; `eta_s` is None while nobody can tell."""

    stage: str
    fraction: float
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a replica says before all else: the request is valid here and has its place."""

    expert: str
    replica: str
    ready: bool
    """Whether weights are loaded; if not, `Progress` follows until they are."""
    waiting: int
    """Requests that will be served before this one."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a replica says last, when it cannot go on."""

    failure: Failure


StreamItem = Accepted | Progress | Event | Failed
"""What travels from a replica to the gateway, in lists, in order."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a continuation is: summed and for each of its tokens."""

    logprob: float
    token_logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prefilled:
    """What a prefill left behind: this many tokens of the prefix need no work for `ttl_s`."""

    tokens: int
    cached_tokens: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the model will see it."""

    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do for one expert; known without weights.

    What is not here is refused by name before it reaches the engine: a parameter that is
    silently ignored is a wrong answer.
    """

    context: int
    max_batch: int
    vocabulary: int = 0
    """Token ids go from 0 to one below this; 0: the engine cannot tell."""
    images: bool = False
    tools: bool = False
    formats: frozenset[str] = frozenset({"text"})
    logprobs: int = 0
    """The most alternatives a token's log-probabilities can list; -1 for none at all."""
    prompt_logprobs: bool = False
    embeddings: bool = False
    scoring: bool = False
    prefill: bool = False
    suffix: bool = False
    adapters: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    """The names of the fields of `Sampling` and `Limits` that have an effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A moment of an engine, for the residency map, the scheduler's price and the metrics."""

    loaded: bool
    running: int = 0
    waiting: int = 0
    weight_bytes: int = 0
    kv_bytes: int = 0
    kv_used: float = 0.0
    """The part of the K/V blocks in use, 0 to 1."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Totals by phase: `load`, `prefill`, `decode`."""


def text_of(messages: Sequence[Message]) -> str:
    """All text of a conversation, for those who look at words and not at tokens."""
    return "\n".join(message.text for message in messages)
