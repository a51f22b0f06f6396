"""Paged K/V storage: blocks of 16 tokens, one pair of tensors for each layer.

This is all that the model knows of the cache. Which block belongs to whom is the scheduler's
business; how a block is stored is `KvLayer`'s, so that quantised blocks come as another layer
with the same four methods.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from capyra.engine.native.blocks import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers that look equally far back: one block table serves them all."""

    window: int | None
    """A token sees itself and `window - 1` tokens before it; None: all of them."""
    layers: tuple[int, ...]
    block_bytes: int
    """One block in all layers of the group, K and V."""


class KvLayer:
    """One layer's blocks, `[blocks, 16, kv_heads, head_dim]` for K and for V."""

    __slots__ = ("k", "v")

    def __init__(self, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        # Zeros, not whatever was there: what is masked is multiplied by 0, and 0 × NaN is NaN.
        shape = (blocks, BLOCK_TOKENS, kv_heads, head_dim)
        self.k, self.v = _untouched_zeros(shape, dtype), _untouched_zeros(shape, dtype)

    def write(self, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Keep `[T, kv_heads, head_dim]` at these slots (block × 16 + offset)."""
        self.k.view(-1, *self.k.shape[2:]).index_copy_(0, slots, k.to(self.k.dtype))
        self.v.view(-1, *self.v.shape[2:]).index_copy_(0, slots, v.to(self.v.dtype))

    def read(self, blocks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """K and V of these blocks in their order, `[len × 16, kv_heads, head_dim]` each."""
        shape = (-1, *self.k.shape[2:])
        k, v = self.k.index_select(0, blocks), self.v.index_select(0, blocks)
        return k.view(shape).to(dtype), v.view(shape).to(dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        self.k.index_copy_(0, target, self.k.index_select(0, source))
        self.v.index_copy_(0, target, self.v.index_select(0, source))

    def clear(self, blocks: Tensor) -> None:
        self.k.index_fill_(0, blocks, 0)
        self.v.index_fill_(0, blocks, 0)


def _untouched_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Pages that the system makes when they are first touched, and takes back with the tensor:
    unused blocks cost nothing. torch writes its zeros, 0.85 s for a cache of 1 GiB, and what is
    allocated after a load and an unload may be old memory that has to be cleared."""
    count = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)


class KvPool:
    """The layers of a model, their groups' blocks numbered from 0 in each group."""

    def __init__(
        self,
        groups: Sequence[CacheGroup],
        blocks: Sequence[int],
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> None:
        self.groups = tuple(groups)
        self.blocks = tuple(blocks)
        self.dtype = dtype
        self.layers: list[KvLayer] = [
            KvLayer(blocks[group], kv_heads, head_dim, dtype)
            for _, group in sorted(
                (layer, index) for index, group in enumerate(groups) for layer in group.layers
            )
        ]

    @property
    def nbytes(self) -> int:
        """All blocks of all groups, touched or not."""
        pairs = zip(self.groups, self.blocks, strict=True)
        return sum(group.block_bytes * count for group, count in pairs)

    def copy(self, group: int, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy whole blocks of a group, in all of its layers: for copy on write."""
        pairs = torch.tensor(source), torch.tensor(target)
        for layer in self.groups[group].layers:
            self.layers[layer].copy(*pairs)

    def clear(self, group: int, blocks: Sequence[int]) -> None:
        """Zero these blocks. Needed only where a sequence left NaN or infinity in them: the
        unused end of a block is masked, not skipped, by the one who gets it next."""
        index = torch.tensor(blocks)
        for layer in self.groups[group].layers:
            self.layers[layer].clear(index)
