"""Tasks that run for as long as their owner does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


def check_running(owner: str, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise if one has ended: what it did for its owner, nobody does any more."""
    for task in tasks:
        if task.done():
            raise RuntimeError(f"a task of {owner} has ended: {task}")
