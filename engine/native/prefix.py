"""Which K/V is already there for which beginning of a text.

A block's key is the hash of its tokens and of its parent's key, and the first parent is the hash
of everything that must not meet: model, adapter, tenant. So a key names a whole prefix, and the
radix tree of prefixes needs no pointers: a path is looked up one key at a time, and a block may
go without touching its neighbours. Images enter the hash by their content, because their
placeholder tokens are all alike.

A prefix is usable if every full-attention group still has all of its blocks, and every sliding
group those that the window of the next token reaches.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Prompt tokens that stand for one image: they are computed together or not at all."""

    start: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        return self.start + self.length


def root_key(*parts: str) -> bytes:
    """The namespace of a prefix: prefixes under different roots never meet."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def block_key(parent: bytes, tokens: Sequence[int], start: int, spans: Iterable[Span]) -> bytes:
    """The key of the block of these tokens, which begins at position `start`."""
    digest = hashlib.blake2b(parent, digest_size=_KEY_BYTES)
    digest.update(array("q", tokens).tobytes())
    for span in spans:
        if span.start < start + len(tokens) and start < span.end:
            digest.update((span.start - start).to_bytes(8, "little", signed=True) + span.digest)
    return digest.digest()


def first_needed(position: int, window: int | None) -> int:
    """The first block that a query at `position` attends to."""
    return 0 if window is None else max(0, position - window + 1) // BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Hit:
    """A prefix that is there: its length in blocks, and the blocks of each group.

    Sliding groups have `NO_BLOCK` where the window has passed.
    """

    length: int
    tables: tuple[tuple[int, ...], ...]


class PrefixIndex:
    """From keys to blocks, one column for each cache group."""

    def __init__(self, windows: Sequence[int | None]) -> None:
        self._windows = tuple(windows)
        self._blocks: dict[bytes, list[int]] = {}
        self._keys: list[dict[int, bytes]] = [{} for _ in windows]

    def __len__(self) -> int:
        return len(self._blocks)

    def insert(self, group: int, key: bytes, block: int) -> bool:
        """Name the block by its key; False if another one has that name already."""
        row = self._blocks.setdefault(key, [NO_BLOCK] * len(self._windows))
        if row[group] != NO_BLOCK:
            return False
        row[group] = block
        self._keys[group][block] = key
        return True

    def forget(self, group: int, block: int) -> None:
        """The block's content is gone."""
        key = self._keys[group].pop(block)
        row = self._blocks[key]
        row[group] = NO_BLOCK
        if all(block == NO_BLOCK for block in row):
            del self._blocks[key]

    def match(self, keys: Sequence[bytes]) -> Hit:
        """The longest usable prefix of this path."""
        groups = range(len(self._windows))
        runs = [0] * len(self._windows)
        rows: list[list[int]] = []
        length = 0
        for depth, key in enumerate(keys, start=1):
            row = self._blocks.get(key)
            if row is None:
                row = [NO_BLOCK] * len(self._windows)
            rows.append(row)
            runs = [0 if row[group] == NO_BLOCK else runs[group] + 1 for group in groups]
            if any(
                window is None and run < depth
                for window, run in zip(self._windows, runs, strict=True)
            ):
                break
            if all(runs[group] >= depth - self._first(group, depth) for group in groups):
                length = depth
        return Hit(length, tuple(self._column(group, rows[:length]) for group in groups))

    def _first(self, group: int, depth: int) -> int:
        return first_needed(depth * BLOCK_TOKENS, self._windows[group])

    def _column(self, group: int, rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
        first = self._first(group, len(rows))
        return tuple(row[group] if depth >= first else NO_BLOCK for depth, row in enumerate(rows))
