"""The shapes of what Ollama's clients are answered. They document, as `replies.py` does."""

from __future__ import annotations

from typing import Any, Literal

from capyra.deployments.gateway.replies import ChatToken, Reply


class OllamaError(Reply):
    """What is answered when something is wrong; in a stream, its last line."""

    error: str


class OllamaFunction(Reply):
    index: int
    name: str
    arguments: dict[str, Any]


class OllamaCall(Reply):
    id: str
    function: OllamaFunction


class OllamaSaid(Reply):
    role: Literal["assistant"]
    content: str
    tool_calls: list[OllamaCall] | None = None


class OllamaLine(Reply):
    """A whole answer, or one line of a stream; the last one is `done`, and counts."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | None = None
    logprobs: list[ChatToken] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class OllamaChat(OllamaLine):
    message: OllamaSaid


class OllamaGenerated(OllamaLine):
    response: str


class OllamaEmbedded(Reply):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaDetails(Reply):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(Reply):
    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails


class OllamaTag(OllamaModel):
    modified_at: str


class OllamaTags(Reply):
    models: list[OllamaTag]


class OllamaProcess(OllamaModel):
    size_vram: int
    context_length: int


class OllamaProcesses(Reply):
    models: list[OllamaProcess]


class OllamaShown(Reply):
    license: str
    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(Reply):
    version: str
