"""From an engine's name in the experts file to the engine, imported only when it is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ConfigError

Factory = Callable[["EngineSpec"], Engine]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a factory gets: the expert's name, its settings, and where its model lies."""

    expert: str
    config: ExpertConfig
    model: Path | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the registry.

    `options` names the pydantic model of `ExpertConfig.options`: it is imported to check the
    experts file, so its module must be cheap (no torch, no vllm). `factory` builds the engine.
    """

    options: str
    factory: str
    needs_model: bool = True
    install: str = ""
    """What to type when the factory's module cannot be imported."""


ENGINES: dict[str, Entry] = {
    "echo": Entry(
        options="capyra.engine.echo.options:EchoOptions",
        factory="capyra.engine.echo.engine:create",
        needs_model=False,
    ),
    "native": Entry(
        options="capyra.engine.native.options:NativeOptions",
        factory="capyra.engine.native.engine:create",
    ),
    "vllm": Entry(
        options="capyra.engine.vllm.options:VllmOptions",
        factory="capyra.engine.vllm.starting:create",
    ),
}


def entry(name: str) -> Entry:
    """The row of that name; `ConfigError` if there is none."""
    if name not in ENGINES:
        raise ConfigError(f"no engine is called {name!r}: there is {', '.join(sorted(ENGINES))}")
    return ENGINES[name]


def options_model(name: str) -> type[BaseModel]:
    """What an engine's `options` are validated with."""
    model: type[BaseModel] = _named(entry(name).options)
    return model


def check_options(name: str, options: dict[str, Any]) -> BaseModel:
    """An expert's `options` as its engine understands them; pydantic's error if it does not."""
    return options_model(name).model_validate(options)


def create(spec: EngineSpec) -> Engine:
    """The engine of an expert, parked."""
    row = entry(spec.config.engine)
    try:
        factory: Factory = _named(row.factory)
    except ImportError as error:
        hint = f": {row.install}" if row.install else ""
        raise ConfigError(
            f"expert {spec.expert!r} wants the engine {spec.config.engine!r}, which cannot be "
            f"imported ({error}){hint}"
        ) from error
    try:
        return factory(spec)
    except ValidationError as error:
        raise ConfigError(f"expert {spec.expert!r}: {error}") from error


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
