"""Errors, in the shape of whichever API a path belongs to: also where it has no such route."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from capyra.deployments.gateway.dialects.anthropic import answer as anthropic
from capyra.deployments.gateway.dialects.ollama import answer as ollama
from capyra.deployments.gateway.errors import ErrorReply

Shape = Callable[[ErrorReply], bytes]

_SHAPES: Mapping[str, Shape] = {
    "/v1/messages": anthropic.error_body,
    "/api": ollama.error_body,
}


def shape_of(path: str) -> Shape:
    """How errors on this path are written."""
    for stem, shape in _SHAPES.items():
        if path == stem or path.startswith(f"{stem}/"):
            return shape
    return ErrorReply.openai
