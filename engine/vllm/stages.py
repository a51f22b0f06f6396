"""How far a load in this process is. vLLM builds its engine in one call; these are its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnStage = Callable[[str, float], None]
"""Told a stage and how far the whole is, 0 to 1. What it raises ends the load."""

_SPANS = {
    "starting": (0.0, 0.1),
    "weights": (0.1, 0.8),
    "cache": (0.8, 0.95),
    "ready": (1.0, 1.0),
}


class _Window:
    """The one load of this process: vLLM's state is global, so there never are two."""

    listener: OnStage | None = None


@contextmanager
def watched(listener: OnStage) -> Iterator[None]:
    _Window.listener = listener
    try:
        yield
    finally:
        _Window.listener = None


def report(stage: str, part: float) -> None:
    """This much of the stage is done. Nobody listens in processes of vLLM's own."""
    if _Window.listener is not None:
        begin, end = _SPANS[stage]
        _Window.listener(stage, begin + (end - begin) * min(1.0, part))
