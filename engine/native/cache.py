"""The K/V of all sequences: block tables, prefix reuse, copy-on-write, passed windows, pins.

It hands out block ids and says what to copy; who owns the tensors does it. Tiers come behind
`_forgotten`, the one place where content is given up, and before `adopt`, the one place where it
is found again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial

from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK, BlockPool, blocks_for
from capyra.engine.native.prefix import Hit, PrefixIndex, first_needed
from capyra.engine.native.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table: full attention, or one sliding window."""

    blocks: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Before the step: this group's block `source` becomes `target`, too."""

    group: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Pin:
    """A prefix that is held until a moment, unless somebody needs its blocks."""

    key: bytes
    until: float
    tables: tuple[tuple[int, ...], ...]


class Cache:
    """Blocks of all groups. `chunk` is the most tokens that one step computes of a sequence."""

    def __init__(self, groups: Seq[Group], *, chunk: int, reuse: bool = True) -> None:
        self.groups = tuple(groups)
        self.chunk = chunk
        self.reuse = reuse
        self.index = PrefixIndex([group.window for group in groups])
        self.pools = [
            BlockPool(group.blocks, partial(self.index.forget, number))
            for number, group in enumerate(groups)
        ]
        self._pins: dict[bytes, Pin] = {}

    # --- how much there is ------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Tokens of the longest sequence that fits when it is alone."""
        room = [
            group.blocks
            for number, group in enumerate(self.groups)
            if self.demand(number, group.blocks * BLOCK_TOKENS + 1) > group.blocks
        ]
        return min(room) * BLOCK_TOKENS if room else 2**62

    @property
    def used(self) -> float:
        """The part of the blocks that somebody holds, in the fullest group."""
        return max(pool.held / pool.count for pool in self.pools)

    def demand(self, group: int, tokens: int) -> int:
        """Blocks that a sequence of so many tokens holds at most at one time."""
        window = self.groups[group].window
        if window is None:
            return blocks_for(tokens)
        return min(blocks_for(tokens), blocks_for(window - 1 + self.chunk) + 1)

    # --- prefixes ---------------------------------------------------------------------------

    def match(self, sequence: Sequence) -> Hit:
        """What the index has for a sequence that holds nothing."""
        if not self.reuse:
            return self.index.match(())
        limit = sequence.reusable_tokens
        while True:
            hit = self.index.match(sequence.keys_to(limit))
            whole = sequence.whole_images(hit.length * BLOCK_TOKENS)
            if whole == hit.length * BLOCK_TOKENS:
                return hit
            limit = whole

    def cost(self, sequence: Sequence, hit: Hit) -> list[int]:
        """Blocks of each group that admitting the sequence takes from those available."""
        costs = []
        for number, (pool, table) in enumerate(zip(self.pools, hit.tables, strict=True)):
            found = [block for block in table if block != NO_BLOCK]
            idle = sum(pool.references(block) == 0 for block in found)
            fresh = self.demand(number, len(sequence.tokens) + 1) - len(found)
            costs.append(idle + max(0, fresh))
        return costs

    def adopt(self, sequence: Sequence, hit: Hit) -> None:
        """The sequence, which held nothing, begins with the hit."""
        self._retain(hit.tables)
        sequence.tables = [list(table) for table in hit.tables]
        sequence.computed = hit.length * BLOCK_TOKENS

    @property
    def pins(self) -> list[Pin]:
        return list(self._pins.values())

    def pin(self, sequence: Sequence, until: float) -> int:
        """Hold the computed prefix until then; how many tokens that are. A pin of the same
        prefix is renewed."""
        hit = self.index.match(sequence.keys_to(sequence.computed))
        if not hit.length:
            return 0
        key = sequence.keys[hit.length - 1]
        self._retain(hit.tables)
        self.unpin(key)
        self._pins[key] = Pin(key, until, hit.tables)
        return hit.length * BLOCK_TOKENS

    def unpin(self, key: bytes) -> None:
        pin = self._pins.pop(key, None)
        if pin is not None:
            self._release(pin.tables)

    def unpin_until(self, now: float) -> None:
        """Let go of what has expired."""
        for pin in [pin for pin in self._pins.values() if pin.until <= now]:
            self.unpin(pin.key)

    def yield_pin(self) -> bool:
        """Give up the pin that expires first; False if there is none."""
        if not self._pins:
            return False
        self.unpin(min(self._pins.values(), key=lambda pin: pin.until).key)
        return True

    # --- sequences --------------------------------------------------------------------------

    def extend(self, sequence: Sequence, count: int) -> list[Copy] | None:
        """Blocks for the next `count` tokens, all or (None) not one; and what to copy first."""
        end = sequence.computed + count
        if not sequence.tables:
            sequence.tables = [[] for _ in self.groups]
        shared = [self._shared_tail(number, sequence) for number in range(len(self.groups))]
        for pool, table, tail in zip(self.pools, sequence.tables, shared, strict=True):
            fresh = blocks_for(end) - len(table) + (tail is not None)
            if fresh > pool.available:
                return None
        copies = []
        for number, (pool, table, tail) in enumerate(
            zip(self.pools, sequence.tables, shared, strict=True)
        ):
            if tail is not None:
                source = table[tail]
                table[tail] = pool.allocate()
                pool.release(source)
                copies.append(Copy(number, source, table[tail]))
            table.extend(pool.allocate() for _ in range(blocks_for(end) - len(table)))
        return copies

    def commit(self, sequence: Sequence, count: int) -> None:
        """`count` more tokens are computed: name the blocks they filled, drop the passed ones."""
        before = sequence.computed // BLOCK_TOKENS
        sequence.computed += count
        keys = sequence.keys_to(sequence.computed) if self.reuse else []
        for number, (pool, table) in enumerate(zip(self.pools, sequence.tables, strict=True)):
            for place in range(before, len(keys)):
                block = table[place]
                if self.index.insert(number, keys[place], block):
                    pool.remember(block)
            self._pass(number, sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child shares what the parent holds."""
        child.tables = [list(table) for table in parent.tables]
        self._retain(child.tables)

    def release(self, sequence: Sequence) -> None:
        """The sequence holds nothing any more, and nothing of it is computed."""
        tables, sequence.tables = sequence.tables, []
        self._release(tables)
        sequence.computed = 0

    def spoil(self, sequences: Seq[Sequence]) -> list[list[int]]:
        """The blocks of each group that nobody holds but these sequences: their content is
        worth nothing, and nobody shall find it."""
        spoiled = []
        for number, pool in enumerate(self.pools):
            held = Counter(
                block
                for sequence in sequences
                for block in (sequence.tables[number] if sequence.tables else ())
                if block != NO_BLOCK
            )
            own = [block for block, count in held.items() if count == pool.references(block)]
            for block in own:
                if pool.unremember(block):
                    self.index.forget(number, block)
            spoiled.append(own)
        return spoiled

    def _shared_tail(self, group: int, sequence: Sequence) -> int | None:
        """The place of the half-filled last block, if others hold it too."""
        place, filled = divmod(sequence.computed, BLOCK_TOKENS)
        table = sequence.tables[group]
        if filled and self.pools[group].references(table[place]) > 1:
            return place
        return None

    def _pass(self, group: int, sequence: Sequence) -> None:
        window = self.groups[group].window
        if window is None:
            return
        table = sequence.tables[group]
        for place in range(first_needed(sequence.computed, window) - 1, -1, -1):
            if table[place] == NO_BLOCK:
                break
            self.pools[group].release(table[place])
            table[place] = NO_BLOCK

    def _retain(self, tables: Seq[Seq[int]]) -> None:
        for pool, table in zip(self.pools, tables, strict=True):
            for block in table:
                if block != NO_BLOCK:
                    pool.retain(block)

    def _release(self, tables: Seq[Seq[int]]) -> None:
        if not tables:
            return
        for pool, table in zip(self.pools, tables, strict=True):
            for block in reversed(table):
                if block != NO_BLOCK:
                    pool.release(block)
