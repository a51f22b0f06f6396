"""How many K/V blocks each cache group gets."""

from __future__ import annotations

from collections.abc import Sequence

from capyra.engine.errors import ConfigError
from capyra.engine.native.blocks import blocks_for
from capyra.engine.native.cache import Cache, Group
from capyra.engine.native.kv import CacheGroup


def size_blocks(
    groups: Sequence[CacheGroup],
    *,
    context: int,
    running: int,
    chunk: int,
    memory: int | None = None,
    blocks: int | None = None,
) -> list[Group]:
    """Enough for one full context and a block for each running sequence to write on; with
    `memory` (bytes) or `blocks` (of the largest group) more or less, in the same proportions.

    A sliding group needs a window for each running sequence, but never more than all tokens.
    """
    whole = blocks_for(context) + running
    windows = Cache([Group(whole, group.window) for group in groups], chunk=chunk)
    wanted = [
        min(whole, running * windows.demand(number, context) + running)
        for number in range(len(groups))
    ]
    scale = 1.0
    if blocks is not None:
        scale = blocks / max(wanted)
    elif memory is not None:
        pairs = zip(groups, wanted, strict=True)
        scale = memory / sum(group.block_bytes * count for group, count in pairs)
    counts = [round(count * scale - 0.5 + 1e-9) for count in wanted]
    if min(counts) < 2:
        raise ConfigError(
            "the K/V cache is too small for a single block of each kind: raise `kv.memory`"
        )
    return [Group(count, group.window) for group, count in zip(groups, counts, strict=True)]
