"""`GET /openapi.json`: what the routes take and give, made from the models that check them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from capyra.deployments.gateway import replies
from capyra.deployments.gateway.admin import KeepAliveBody, ScaleBody
from capyra.deployments.gateway.chat import ChatBody
from capyra.deployments.gateway.completions import CompletionBody
from capyra.deployments.gateway.dialects.anthropic import shapes as anthropic
from capyra.deployments.gateway.dialects.anthropic.request import CountBody, MessagesBody
from capyra.deployments.gateway.dialects.ollama import shapes as ollama
from capyra.deployments.gateway.dialects.ollama.request import (
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaGenerateBody,
    OllamaShowBody,
)
from capyra.deployments.gateway.dialects.responses import shapes as responses
from capyra.deployments.gateway.dialects.responses.request import ResponsesBody
from capyra.deployments.gateway.embeddings import EmbeddingBody
from capyra.deployments.gateway.fields import Body
from capyra.deployments.gateway.tokens import DetokenizeBody, TokenizeBody

LINES = "application/x-ndjson"
_REF = "#/components/schemas/{model}"
_KEYED = (401, 403, 429)
_READ = (400, 408, 413, 415)
_ASKED = (404, 503, 504)
_WHY = {
    400: "The body is wrong, or the expert cannot do what it asks",
    401: "No key, or none of ours",
    403: "The key may not do this",
    404: "No expert of that name; the message tells the nearest",
    408: "The body did not arrive in time",
    413: "The body, or an image in it, is too large",
    415: "The body is no JSON",
    429: "No room now; Retry-After tells when",
    500: "A mistake of the server; its log knows the request id",
    503: "The expert is stopped, lost or could not be loaded; Retry-After tells when",
    504: "The request's time was over",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What one route is for, takes and gives."""

    summary: str
    body: type[Body] | None = None
    reply: type[BaseModel] | str = replies.Health
    """A JSON document of this shape, or another media type."""
    event: type[BaseModel] | None = None
    """What each event of a stream holds, for routes that stream."""
    errors: tuple[int, ...] = ()
    error: type[BaseModel] = replies.ErrorBody
    """What each of them holds."""
    lines: bool = False
    """Whether a stream is lines of JSON, not server-sent events."""


_GENERATES = (*_KEYED, *_READ, *_ASKED)
_RULES = (*_KEYED, 503)


class _Status(TypedDict):
    reply: type[BaseModel]
    errors: tuple[int, ...]


_RULED: _Status = {"reply": replies.ExpertStatus, "errors": (*_RULES, 400, 404)}
_LOADED: _Status = {"reply": replies.ExpertStatus, "errors": (*_KEYED, *_ASKED)}
_TOLD: _Status = {"reply": replies.ExpertStatus, "errors": (*_RULES, *_READ, 404)}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a conversation",
        ChatBody,
        replies.ChatCompletion,
        replies.ChatChunk,
        errors=_GENERATES,
    ),
    ("POST", "/v1/completions"): Operation(
        "Continue text", CompletionBody, replies.Completion, replies.Completion, errors=_GENERATES
    ),
    ("POST", "/v1/embeddings"): Operation(
        "Make vectors of texts", EmbeddingBody, replies.EmbeddingList, errors=_GENERATES
    ),
    ("POST", "/v1/responses"): Operation(
        "Answer a conversation, as OpenAI's Responses API does, without storing it",
        ResponsesBody,
        responses.ResponseObject,
        responses.ResponseEvent,
        errors=_GENERATES,
    ),
    ("POST", "/v1/messages"): Operation(
        "Answer a conversation, as Anthropic's API does",
        MessagesBody,
        anthropic.AnthropicMessage,
        anthropic.MessageEvent,
        errors=_GENERATES,
        error=anthropic.AnthropicError,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "Count a conversation's tokens",
        CountBody,
        anthropic.TokenCount,
        errors=_GENERATES,
        error=anthropic.AnthropicError,
    ),
    ("POST", "/api/chat"): Operation(
        "Answer a conversation, as Ollama does",
        OllamaChatBody,
        ollama.OllamaChat,
        ollama.OllamaChat,
        errors=_GENERATES,
        error=ollama.OllamaError,
        lines=True,
    ),
    ("POST", "/api/generate"): Operation(
        "Answer a prompt, as Ollama does",
        OllamaGenerateBody,
        ollama.OllamaGenerated,
        ollama.OllamaGenerated,
        errors=_GENERATES,
        error=ollama.OllamaError,
        lines=True,
    ),
    ("POST", "/api/embed"): Operation(
        "Make vectors of texts, as Ollama does",
        OllamaEmbedBody,
        ollama.OllamaEmbedded,
        errors=_GENERATES,
        error=ollama.OllamaError,
    ),
    ("POST", "/api/show"): Operation(
        "One expert, as Ollama shows a model",
        OllamaShowBody,
        ollama.OllamaShown,
        errors=(*_KEYED, *_READ, 404),
        error=ollama.OllamaError,
    ),
    ("GET", "/api/tags"): Operation(
        "The experts, as Ollama lists models",
        reply=ollama.OllamaTags,
        errors=_KEYED,
        error=ollama.OllamaError,
    ),
    ("GET", "/api/ps"): Operation(
        "The loaded experts, as Ollama lists them",
        reply=ollama.OllamaProcesses,
        errors=_KEYED,
        error=ollama.OllamaError,
    ),
    ("GET", "/api/version"): Operation(
        "The version of Ollama whose API this is",
        reply=ollama.OllamaVersion,
        errors=_KEYED,
        error=ollama.OllamaError,
    ),
    ("POST", "/tokenize"): Operation(
        "A prompt's tokens", TokenizeBody, replies.Tokenized, errors=_GENERATES
    ),
    ("POST", "/detokenize"): Operation(
        "The text of tokens", DetokenizeBody, replies.Detokenized, errors=_GENERATES
    ),
    ("GET", "/v1/models"): Operation("List the experts", reply=replies.ModelList, errors=_KEYED),
    ("GET", "/v1/models/{id}"): Operation("One expert", reply=replies.Model, errors=(*_KEYED, 404)),
    ("GET", "/v1/experts"): Operation(
        "The experts, as Control sees them", reply=replies.ExpertStatusList, errors=_RULES
    ),
    ("GET", "/v1/experts/{id}"): Operation("One of them", **_RULED),
    ("POST", "/v1/experts/{id}/load"): Operation("Load its weights, and wait for them", **_LOADED),
    ("POST", "/v1/experts/{id}/unload"): Operation("Give its weights back", **_RULED),
    ("POST", "/v1/experts/{id}/pin"): Operation("Keep it loaded", **_RULED),
    ("POST", "/v1/experts/{id}/unpin"): Operation("Let it go when it idles", **_RULED),
    ("POST", "/v1/experts/{id}/keep-alive"): Operation(
        "Set how long its weights stay after a request", KeepAliveBody, **_TOLD
    ),
    ("POST", "/v1/experts/{id}/scale"): Operation(
        "Hold it at so many replicas, or release it", ScaleBody, **_TOLD
    ),
    ("GET", "/v1/why/{id}"): Operation(
        "What was decided about an expert or a request, and why",
        reply=replies.Why,
        errors=_RULES,
    ),
    ("GET", "/v1/trace"): Operation(
        "The requests of the last while, for `capyra replay`", reply=LINES, errors=_RULES
    ),
    ("GET", "/health/live"): Operation("Whether the gateway lives"),
    ("GET", "/health/ready"): Operation("Whether the gateway knows its experts"),
    ("GET", "/metrics"): Operation(
        "Metrics for Prometheus", reply="text/plain; version=0.0.4; charset=utf-8", errors=_KEYED
    ),
    ("GET", "/openapi.json"): Operation("This document", reply="application/json"),
}


def document(version: str) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    shapes: set[type[BaseModel]] = set()
    for operation in OPERATIONS.values():
        shapes |= {
            shape
            for shape in (operation.body, operation.reply, operation.event, operation.error)
            if isinstance(shape, type)
        }
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    _, schemas = models_json_schema([(shape, "validation") for shape in ordered], ref_template=_REF)
    paths: dict[str, Any] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Capyra",
            "version": version,
            "description": "Many language-model experts behind one OpenAI-compatible endpoint.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    responses = {
        "200": {"description": operation.summary, "content": _content(operation)},
        **{
            str(status): _error(status, operation.error)
            for status in sorted({*operation.errors, 500})
        },
    }
    if path == "/health/ready":
        responses["503"] = {
            "description": "Not yet, and why",
            "content": {"application/json": {"schema": _ref(replies.Health)}},
        }
    made: dict[str, Any] = {"summary": operation.summary, "responses": responses}
    if "{id}" in path:
        made["parameters"] = [
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
        ]
    if 401 in operation.errors:
        # Optional: a gateway without keys asks for none.
        made["security"] = [{"key": []}, {"api_key": []}, {}]
    if operation.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return made


def _content(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.reply, str):
        kind = "object" if operation.reply == "application/json" else "string"
        return {operation.reply: {"schema": {"type": kind}}}
    content: dict[str, Any] = {"application/json": {"schema": _ref(operation.reply)}}
    if operation.event is not None and operation.lines:
        content["application/x-ndjson"] = {"schema": _line(operation.event, operation.error)}
    elif operation.event is not None:
        content["text/event-stream"] = {"schema": _event(operation.event, operation.error)}
    return content


def _line(shape: type[BaseModel], error: type[BaseModel]) -> dict[str, Any]:
    return {"description": "Each line", "anyOf": [_ref(shape), _ref(error)]}


def _event(shape: type[BaseModel], error: type[BaseModel]) -> dict[str, Any]:
    """One event of a stream: 3.1 has no words for a sequence of them."""
    piece = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_ref(shape), _ref(error)]},
    }
    return {
        "type": "object",
        "description": "Each event; OpenAI's chat and completions end with [DONE]",
        "properties": {"data": {"anyOf": [{"const": "[DONE]"}, piece]}},
        "required": ["data"],
    }


def _error(status: int, shape: type[BaseModel]) -> dict[str, Any]:
    return {
        "description": _WHY[status],
        "content": {"application/json": {"schema": _ref(shape)}},
    }


def _ref(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=shape.__name__)}
