"""Memory that stands for weights: really allocated, really given back."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Iterator

from capyra.engine.base import ProgressSink
from capyra.engine.types import Progress

_PIECE = 2**20
"""Bytes touched at once: a millisecond or a few of page faults."""
_TOLD = 100
"""How often progress is reported, about."""
_TICK_S = 0.05
"""But not more often than this."""


async def load(size: int, seconds: float, progress: ProgressSink) -> mmap.mmap | None:
    """Allocate and touch so many bytes, in at least so many seconds; nothing stays if it is
    cancelled."""
    clock = asyncio.get_running_loop().time
    begin = clock()
    progress(Progress("weights", 0.0, seconds))
    memory = mmap.mmap(-1, size) if size else None
    try:
        told = 0
        for touched in _touch(memory, size):
            if touched - told >= size / _TOLD:
                told = touched
                progress(Progress("weights", 0.5 * touched / size))
            await asyncio.sleep(0)
        while (passed := clock() - begin) < seconds:
            progress(Progress("weights", 0.5 + 0.5 * passed / seconds, seconds - passed))
            await asyncio.sleep(min(max(_TICK_S, seconds / _TOLD), seconds - passed))
    except BaseException:
        if memory is not None:
            memory.close()
        raise
    progress(Progress("ready", 1.0, 0.0))
    return memory


def _touch(memory: mmap.mmap | None, size: int) -> Iterator[int]:
    """Make every page real; how many bytes are, so far."""
    if memory is None:
        return
    with memoryview(memory) as view:
        for start in range(0, size, _PIECE):
            end = min(start + _PIECE, size)
            with view[start : end : mmap.PAGESIZE] as pages:
                pages[:] = bytes(len(pages))
            yield end
