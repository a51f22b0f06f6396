"""`GET /v1/models`: the experts, as OpenAI lists models, with what Capyra knows beside."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from capyra.deployments.experts import ExpertView, ReplicaView, unusable
from capyra.engine.errors import UnknownExpert
from capyra.engine.types import Capabilities
from capyra.orchestrator.config import BUILT_IN_MODELS


def find(views: Mapping[str, ExpertView], name: str) -> ExpertView:
    """The expert of that name; `UnknownExpert` tells the nearest one."""
    view = views.get(name)
    if view is not None:
        return view
    if name in BUILT_IN_MODELS:
        raise UnknownExpert(
            f"this version has no router yet, so there is no model {name!r}: name an expert",
            param="model",
        )
    near = difflib.get_close_matches(name[:256], views, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "GET /v1/models lists those that exist"
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    raise UnknownExpert(f"there is no model {shown!r}: {hint}", param="model")


def find_running(views: Mapping[str, ExpertView], name: str) -> ExpertView:
    """The same, for a request: that it is stopped, or did not start, is told at once."""
    view = find(views, name)
    if (error := unusable(view)) is not None:
        raise error
    return view


def listing(views: Mapping[str, ExpertView], created: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [card(view, created) for _, view in sorted(views.items())],
    }


def card(view: ExpertView, created: int) -> dict[str, Any]:
    return {
        "id": view.name,
        "object": "model",
        "created": created,
        "owned_by": "capyra",
        "capyra": {
            "state": view.state,
            "target": view.target,
            "problem": view.failure,
            "replicas": [_replica(one) for one in view.replicas],
            "engine": view.config.engine,
            "context": context_of(view),
            "capabilities": _capabilities(view.capabilities),
            "description": view.config.description,
            "license": view.config.license.id if view.config.license else None,
            "skills": [
                {"name": skill.name, "description": skill.description}
                for skill in view.config.skills
            ],
        },
    }


def _replica(view: ReplicaView) -> dict[str, Any]:
    return {
        "id": view.id,
        "node": view.node,
        "pid": view.pid,
        "state": view.state,
        "in_flight": view.in_flight,
        "running": view.stats.running,
        "waiting": view.stats.waiting,
        "weight_bytes": view.stats.weight_bytes,
        "kv_bytes": view.stats.kv_bytes,
        "rss_bytes": view.rss_bytes,
        "problem": view.problem,
    }


def context_of(view: ExpertView) -> int | None:
    return view.capabilities.context if view.capabilities else view.config.context


def _capabilities(known: Capabilities | None) -> dict[str, Any] | None:
    if known is None:
        return None
    return {
        "max_batch": known.max_batch,
        "images": known.images,
        "tools": known.tools,
        "formats": sorted(known.formats),
        "logprobs": known.logprobs,
        "prompt_logprobs": known.prompt_logprobs,
        "embeddings": known.embeddings,
        "scoring": known.scoring,
        "prefill": known.prefill,
        "suffix": known.suffix,
        "adapters": sorted(known.adapters),
        "parameters": sorted(known.parameters),
    }
