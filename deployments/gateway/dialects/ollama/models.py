"""`GET /api/tags` and `/api/ps`, `POST /api/show`: the experts, as Ollama lists models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from capyra.deployments.experts import ExpertView
from capyra.deployments.gateway.dialects.ollama.answer import stamp
from capyra.deployments.gateway.models import context_of

VERSION = "0.12.11"
"""The Ollama whose API this is: clients decide by it what they may ask."""


def tags(views: Mapping[str, ExpertView], since: float) -> dict[str, Any]:
    return {
        "models": [
            {**_model(view), "modified_at": stamp(since)} for _, view in sorted(views.items())
        ]
    }


def running(views: Mapping[str, ExpertView]) -> dict[str, Any]:
    """Those whose weights are loaded. When they leave is not told: that is counted from the last
    answer's end, in each replica."""
    return {
        "models": [
            {**_model(view), "size_vram": 0, "context_length": context_of(view) or 0}
            for _, view in sorted(views.items())
            if view.state == "ready"
        ]
    }


def shown(view: ExpertView, since: float) -> dict[str, Any]:
    known = view.capabilities
    offered = {
        "completion": True,
        "tools": bool(known and known.tools),
        "vision": bool(known and known.images),
        "insert": bool(known and known.suffix),
        "embedding": bool(known and known.embeddings),
    }
    facts: dict[str, Any] = {"general.architecture": "capyra", "general.basename": view.name}
    if context := context_of(view):
        facts["capyra.context_length"] = context
    return {
        "license": view.config.license.id if view.config.license else "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(view),
        "model_info": facts,
        "capabilities": [name for name, can in offered.items() if can],
        "modified_at": stamp(since),
    }


def _model(view: ExpertView) -> dict[str, Any]:
    return {
        "name": view.name,
        "model": view.name,
        "size": sum(replica.stats.weight_bytes for replica in view.replicas),
        "digest": hashlib.sha256(view.config.model_dump_json().encode()).hexdigest(),
        "details": _details(view),
    }


def _details(view: ExpertView) -> dict[str, Any]:
    """What Ollama tells of a file. Nobody here looks into an expert's weights."""
    return {
        "parent_model": "",
        "format": "safetensors" if view.config.model else "",
        "family": view.config.engine,
        "families": [view.config.engine],
        "parameter_size": "",
        "quantization_level": "",
    }
