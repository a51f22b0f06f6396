"""What one setting of the experts file means for another, and for the disk beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from capyra.deployments.names import CONTROL_APP, GATEWAY_APP
from capyra.deployments.problems import Finding, explain, nearest, validate
from capyra.deployments.yaml_lines import KeyPath
from capyra.engine.config import ExpertConfig
from capyra.engine.registry import ENGINES, options_model
from capyra.orchestrator.config import BUILT_IN_MODELS, Panel, Residency, Routing, VirtualModel

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_NOT_YET = "is checked, but has no effect in this version; it may stay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What of a file is right by itself. `names` are those of all experts, right or not."""

    base: Path
    names: tuple[str, ...]
    experts: Mapping[str, ExpertConfig]
    residency: Residency
    routing: Routing
    models: Mapping[str, VirtualModel]
    consensus: Panel
    has_models: bool


def check(parts: Parts) -> Iterator[Finding]:
    """Every contradiction between the parts."""
    yield from _names(parts)
    for name, expert in parts.experts.items():
        here: KeyPath = ("experts", name)
        yield from _engine(here, expert)
        # An expert that is off need not have its files here.
        if expert.active:
            yield from _files(here, expert, parts.base)
        yield from _memory(here, expert, parts.residency)
    yield from _activity(parts)
    yield from _references(parts)


def remark(data: Mapping[str, Any], experts: Mapping[str, ExpertConfig]) -> Iterator[Finding]:
    """What is right, but may not be what the operator expects."""
    for name, expert in experts.items():
        here: KeyPath = ("experts", name)
        license_ = expert.license
        if not expert.enabled:
            yield Finding((*here, "enabled"), "the expert is off; set it to true to serve it")
        elif license_ is not None and not license_.usable:
            where = f" at {license_.url}" if license_.url else ""
            yield Finding(
                (*here, "license"),
                f"the expert is off until its licence, {license_.id}, is accepted; "
                f"read it{where}, then set `accepted: true`",
                at_key=True,
            )
    for section in ("routing", "consensus"):
        if section in data:
            yield Finding((section,), _NOT_YET, at_key=True)


def is_hub_id(model: str, base: Path) -> bool:
    """Whether a model is named `owner/name` on a hub; a directory of that name goes before it."""
    return _HUB_ID.fullmatch(model) is not None and _kind(base / model) != "directory"


def _names(parts: Parts) -> Iterator[Finding]:
    reserved = {
        GATEWAY_APP: "an application of Capyra's own",
        CONTROL_APP: "an application of Capyra's own",
    }
    reserved |= dict.fromkeys(BUILT_IN_MODELS, "a built-in virtual model")
    seen: dict[str, str] = {}
    for name in parts.names:
        here: KeyPath = ("experts", name)
        if name in reserved:
            yield Finding(
                here, f"`{name}` is {reserved[name]}; name the expert otherwise", at_key=True
            )
        first = seen.setdefault(name.lower(), name)
        if first != name:
            yield Finding(here, f"differs from `{first}` in case only; rename one", at_key=True)
    for name in parts.models:
        here = ("models", name)
        if name in BUILT_IN_MODELS:
            yield Finding(
                here,
                f"`{name}` is built in; set it up under `routing` or `consensus`",
                at_key=True,
            )
        if name.lower() in seen:
            yield Finding(here, f"an expert is called `{name}` too; rename one", at_key=True)


def _engine(here: KeyPath, expert: ExpertConfig) -> Iterator[Finding]:
    row = ENGINES.get(expert.engine)
    if row is None:
        text = f"no engine is called `{expert.engine}`; {nearest(expert.engine, ENGINES)}"
        yield Finding((*here, "engine"), text)
        return
    if row.needs_model and expert.model is None:
        yield Finding(
            (*here, "model"),
            f"is missing, and the engine `{expert.engine}` needs one; name a directory or a hub id",
        )
    options = options_model(expert.engine)
    try:
        validate(options, expert.options)
    except ValidationError as error:
        yield from explain(error, options, expert.options, (*here, "options"))


def _files(here: KeyPath, expert: ExpertConfig, base: Path) -> Iterator[Finding]:
    yield from _model((*here, "model"), expert.model, base)
    yield from _model((*here, "speculation", "draft"), expert.speculation.draft, base)
    if expert.revision is not None and (expert.model is None or not is_hub_id(expert.model, base)):
        yield Finding(
            (*here, "revision"), "only a hub id has revisions, and `model` names none; remove it"
        )
    template = expert.chat_template
    if template is not None and _kind(base / template) != "file":
        yield Finding(
            (*here, "chat_template"),
            f"there is no file {base / template}; mend the path: it begins at the experts file",
        )


def _model(path: KeyPath, model: str | None, base: Path) -> Iterator[Finding]:
    if model is None or is_hub_id(model, base):
        return
    kind = _kind(base / model)
    if kind == "file":
        yield Finding(path, f"{base / model} is a file; name the directory that it lies in")
    elif kind is None:
        yield Finding(
            path,
            f"there is no directory {base / model}; mend the path, which begins at the experts "
            "file, or write a hub id, `owner/name`",
        )


def _kind(path: Path) -> Literal["directory", "file"] | None:
    try:
        if path.is_dir():
            return "directory"
        return "file" if path.exists() else None
    except OSError:  # a name too long, a folder that may not be entered
        return None


def _memory(here: KeyPath, expert: ExpertConfig, residency: Residency) -> Iterator[Finding]:
    needed, room = expert.resources.memory, residency.node_memory
    if needed is not None and room is not None and needed > room:
        yield Finding(
            (*here, "resources", "memory"),
            f"{_size(needed)} never fit a node, which has {_size(room)} by "
            "`residency.node_memory`; "
            "lower this or raise that",
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.4g} GiB"


def _activity(parts: Parts) -> Iterator[Finding]:
    active = [expert for expert in parts.experts.values() if expert.active]
    # A broken expert might be an active one: one mistake at a time.
    if parts.names and not active and len(parts.experts) == len(parts.names):
        yield Finding(
            ("experts",),
            "no expert is active; enable one whose licence permits it, or accept a licence",
            at_key=True,
        )
    pinned = sum(expert.resources.memory or 0 for expert in active if expert.pin)
    total = parts.residency.total_memory
    if total is not None and pinned > total:
        yield Finding(
            ("residency", "total_memory"),
            f"pinned experts alone need {_size(pinned)}; raise this, or unpin one",
        )


def _references(parts: Parts) -> Iterator[Finding]:
    """Experts that are named where experts are not described."""
    for i, rule in enumerate(parts.routing.rules):
        for effect, names in (("allow", rule.allow), ("deny", rule.deny)):
            yield from _known(("routing", "rules", i, effect), names, parts.names)
    yield from _known(("consensus", "members"), parts.consensus.members, parts.names)
    for name, model in parts.models.items():
        here: KeyPath = ("models", name)
        if model.route is not None:
            yield from _known((*here, "route", "experts"), model.route.experts, parts.names)
        if model.panel is not None:
            yield from _known((*here, "panel", "members"), model.panel.members, parts.names)
    if parts.has_models:
        # Without a router a client would meet them as errors: better the operator does, now.
        yield Finding(
            ("models",),
            "nothing answers virtual models in this version; remove them",
            at_key=True,
        )


def _known(path: KeyPath, names: Iterable[str], experts: Iterable[str]) -> Iterator[Finding]:
    for i, name in enumerate(names):
        if name not in experts:
            yield Finding((*path, i), f"no expert is called `{name}`; {nearest(name, experts)}")
