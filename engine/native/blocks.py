"""The blocks of one cache group: who holds them, which are free, which are merely remembered.

A block is *held* while at least one sequence (or pin) refers to it. A block that nobody holds is
either *free*, or *idle*: its content is in the prefix index and may be wanted again. Idle blocks
are given away last, the one released longest ago first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

BLOCK_TOKENS = 16
NO_BLOCK = -1
"""In a block table: the window has passed here, and nobody will look."""


def blocks_for(tokens: int) -> int:
    """Blocks that hold this many tokens."""
    return -(-tokens // BLOCK_TOKENS)


class BlockPool:
    """Counts references. `forgotten` is told when an idle block's content is given up."""

    def __init__(self, count: int, forgotten: Callable[[int], None]) -> None:
        self.count = count
        self._forgotten = forgotten
        self._references = [0] * count
        self._remembered = [False] * count
        self._free = list(range(count - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """How many `allocate` calls would succeed now."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        return self.count - self.available

    @property
    def idle(self) -> int:
        return len(self._idle)

    def references(self, block: int) -> int:
        return self._references[block]

    def allocate(self) -> int:
        """A block with one reference. Its old content, if it was idle, is forgotten."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            self._remembered[block] = False
            self._forgotten(block)
        self._references[block] = 1
        return block

    def retain(self, block: int) -> None:
        """One more reference, to a held block or to an idle one."""
        if self._references[block] == 0:
            del self._idle[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One reference less. Release the deepest block of a prefix first: it goes first."""
        assert self._references[block] > 0, f"block {block} is released but nobody holds it"
        self._references[block] -= 1
        if self._references[block]:
            return
        if self._remembered[block]:
            self._idle[block] = None
        else:
            self._free.append(block)

    def remember(self, block: int) -> None:
        """The held block's content is in the prefix index: keep it when nobody holds it."""
        assert self._references[block] > 0, f"block {block} is remembered but nobody holds it"
        self._remembered[block] = True

    def unremember(self, block: int) -> bool:
        """The held block's content is to be forgotten; whether it was in the prefix index."""
        remembered, self._remembered[block] = self._remembered[block], False
        return remembered
