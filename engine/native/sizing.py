"""How many K/V blocks each cache group gets."""

from __future__ import annotations

from bisect import bisect_right
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
    """Enough for one full context and a block for each running sequence to write on; or as many
    `blocks`; or what fits into `memory` (bytes).

    That is for full attention. A sliding group gets fewer: a window for each running sequence,
    or a quarter, which keeps the ends of many cached prefixes.
    """
    windows = Cache([Group(1, group.window) for group in groups], chunk=chunk)
    demands = [windows.demand(number, context) + 1 for number in range(len(groups))]

    def counts(whole: int) -> list[int]:
        return [
            whole if group.window is None else min(whole, max(running * demand, whole // 4))
            for group, demand in zip(groups, demands, strict=True)
        ]

    def size(whole: int) -> int:
        pairs = zip(groups, counts(whole), strict=True)
        return sum(group.block_bytes * count for group, count in pairs)

    whole = blocks or blocks_for(context) + running
    if blocks is None and memory is not None:
        # `size` grows with its argument, and by at least one block's bytes for four of it.
        most = 4 * memory // min(group.block_bytes for group in groups)
        whole = bisect_right(range(most + 1), memory, key=size) - 1
    if whole < 2:
        raise ConfigError("the K/V cache holds less than two blocks; raise `kv.memory`")
    return [Group(count, group.window) for group, count in zip(groups, counts(whole), strict=True)]
