"""The shapes of what the gateway answers. They document: the answers themselves are written by
hand, because they are written often, and tests hold them against these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from capyra.deployments.experts import State


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorFields(Reply):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Reply):
    """What every route answers when something is wrong; in a stream, its last event."""

    error: ErrorFields


class PromptTokensDetails(Reply):
    cached_tokens: int


class UsageFields(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Alternative(Reply):
    token: str
    logprob: float
    bytes: list[int]


class ChatToken(Alternative):
    top_logprobs: list[Alternative]


class ChatLogprobs(Reply):
    content: list[ChatToken]
    refusal: None


class FunctionCall(Reply):
    name: str
    arguments: str


class Call(Reply):
    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(Reply):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[Call] | None = None


class ChatChoice(Reply):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Reply):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageFields


class CallPieceFunction(Reply):
    name: str | None = None
    arguments: str


class CallPiece(Reply):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CallPieceFunction


class ChatDelta(Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallPiece] | None = None


class ChatChunkChoice(Reply):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(Reply):
    """One event of a stream. The stream ends with `data: [DONE]`, or with an `ErrorBody`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: UsageFields | None = None


class CompletionLogprobs(Reply):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Reply):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class Completion(Reply):
    """An answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageFields | None = None


class Embedding(Reply):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Reply):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Reply):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Tokenized(Reply):
    count: int
    max_model_len: int | None
    tokens: list[int]
    text: str


class Detokenized(Reply):
    prompt: str


class ReplicaFields(Reply):
    id: str
    node: str
    pid: int
    state: State
    in_flight: int
    running: int
    waiting: int
    weight_bytes: int
    kv_bytes: int
    rss_bytes: int
    problem: str | None


class SkillFields(Reply):
    name: str
    description: str


class ExpertFields(Reply):
    """What Capyra knows of an expert beside OpenAI's fields."""

    state: State
    target: int | None
    problem: str | None
    replicas: list[ReplicaFields]
    engine: str
    context: int | None
    capabilities: dict[str, Any] | None
    description: str
    license: str | None
    skills: list[SkillFields]


class Model(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["capyra"]
    capyra: ExpertFields


class ModelList(Reply):
    object: Literal["list"]
    data: list[Model]


class LeaseFields(Reply):
    """What one replica holds, or may."""

    replica: str
    node: str
    state: State
    bytes: int
    in_flight: int


class ExpertStatus(Reply):
    """One expert, as Control sees it."""

    name: str
    state: State
    held: int | None
    pinned: bool
    keep_alive_s: float
    bytes: int
    measured: bool
    waiting: int
    eta_s: float
    blocked: str
    idle_s: float | None
    next_use_s: float | None
    leases: list[LeaseFields]


class ExpertStatusList(Reply):
    object: Literal["list"]
    data: list[ExpertStatus]


class Why(Reply):
    """What was decided, oldest first; empty where nobody remembers."""

    lines: list[str]


class Health(Reply):
    status: Literal["live", "ready", "waiting"]
    reason: Annotated[str | None, Field(description="Why it is not ready")] = None
