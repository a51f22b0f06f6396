"""The seam between the scheduler, which knows no tensors, and the model, which knows no requests.

The scheduler says what one step computes as `Run`s: plain numbers, one run for each sequence that
takes part. `StepBatch.build` lays them out as tensors of `T` rows without padding, prefill rows
first, decode rows after them, and a model computes it:

    hidden = model.forward(batch, pool)           # [T, hidden], K/V of all rows written
    logits = model.logits(hidden[batch.logit_rows])   # [R, vocab], float32

Layers that look equally far back form a *cache group* with block tables of its own: full
attention is one group, sliding windows of one width another. Every run brings one table for each
group, in the order of `model.groups()`. A table lists the sequence's blocks from position 0 on;
a sliding group has `NO_BLOCK` where its window has passed. Before a step the scheduler has put
blocks into the tables for every token that the step adds, and none of those is shared.

The model writes K/V of all rows of a layer before any row of that layer attends, so two runs of
one step may not belong to one sequence. What a step leaves in the blocks depends, up to rounding,
on the tokens before it alone: not on chunks, nor on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from capyra.engine.native.blocks import BLOCK_TOKENS, blocks_for
from capyra.engine.native.kv import CacheGroup, KvPool
from capyra.engine.native.prefix import first_needed


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """What `Model.see` made of one image, and the position in the sequence where it begins.

    Its rows replace the embeddings of the placeholder tokens, and see each other whatever their
    order; so an image lies in one run, whole.
    """

    start: int
    features: Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """The tokens of one sequence that one step computes.

    `context` tokens are in the K/V already, so the first of `tokens` has that position. A prefill
    run is a chunk of a prompt; a decode run is one token, or a few that somebody guessed.
    """

    tokens: Sequence[int]
    context: int
    tables: Sequence[Sequence[int]]
    logits_from: int | None = -1
    """Logits are wanted of the rows from this one on, -1 is the last one; None: of none."""
    images: Sequence[PlacedImage] = ()
    long: bool = False
    """The sequence is longer than `Model.long_after`. K/V made with and without it must not meet:
    a sequence that grows over the border is computed again from its beginning."""


@dataclass(frozen=True, slots=True)
class Span:
    """One prefill run: rows `row` to `row + length`, after `context` tokens."""

    row: int
    length: int
    context: int
    images: tuple[tuple[int, int], ...]
    """First row and number of rows of each image, both counted within the span."""


@dataclass(frozen=True, slots=True)
class SpanTable:
    """Where one group keeps a span and what its rows see. `start` is the first block's position."""

    blocks: Tensor
    start: int


@dataclass(frozen=True, slots=True)
class DecodeTable:
    """Where one group keeps what the decode rows see, one line of blocks a row.

    Row `i` attends to the tokens `seen[i, 0]` up to `seen[i, 1]`, counted from the first of its
    line. Lines are filled up with blocks of their own sequence.
    """

    blocks: Tensor
    seen: Tensor
    """`[rows, 2]`"""


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One cache group's part of a step. `slots[t]` is block × 16 + offset of row `t`."""

    slots: Tensor
    spans: tuple[SpanTable, ...]
    decode: DecodeTable | None


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One forward step of `T` rows; rows from `prefill_rows` on are decode rows."""

    token_ids: Tensor
    positions: Tensor
    prefill_rows: int
    spans: tuple[Span, ...]
    groups: tuple[GroupStep, ...]
    logit_rows: Tensor
    """The rows whose logits are wanted: run by run, prefill before decode."""
    images: tuple[tuple[int, Tensor], ...]
    """First row and features."""
    long_rows: Tensor | None
    """Which rows belong to long sequences, `[T]` bool; None if none does."""

    @classmethod
    def build(
        cls, prefill: Sequence[Run], decode: Sequence[Run], windows: Sequence[int | None]
    ) -> StepBatch:
        """The step of these runs. `windows` are those of `model.groups()`."""
        runs = [*prefill, *decode]
        rows = 0
        token_ids: list[int] = []
        wanted: list[int] = []
        spans: list[Span] = []
        images: list[tuple[int, Tensor]] = []
        for index, run in enumerate(runs):
            length = len(run.tokens)
            placed = [(image.start - run.context, image.features) for image in run.images]
            for first, features in placed:
                assert 0 <= first <= length - len(features), "an image lies in one run, whole"
                images.append((rows + first, features))
            if index < len(prefill):
                extents = tuple((first, len(features)) for first, features in placed)
                spans.append(Span(rows, length, run.context, extents))
            if run.logits_from is not None:
                wanted.extend(range(rows, rows + length)[run.logits_from :])
            token_ids.extend(run.tokens)
            rows += length
        lengths = [len(run.tokens) for run in runs]
        return cls(
            token_ids=torch.tensor(token_ids, dtype=torch.int64),
            positions=torch.cat(
                [torch.arange(run.context, run.context + len(run.tokens)) for run in prefill]
                + [torch.tensor(_decode_positions(decode), dtype=torch.int64)]
            ),
            prefill_rows=sum(lengths[: len(prefill)]),
            spans=tuple(spans),
            groups=tuple(
                _group_step(prefill, decode, group, window) for group, window in enumerate(windows)
            ),
            logit_rows=torch.tensor(wanted, dtype=torch.int64),
            images=tuple(images),
            long_rows=(
                torch.tensor([run.long for run in runs]).repeat_interleave(torch.tensor(lengths))
                if any(run.long for run in runs)
                else None
            ),
        )


class Model(Protocol):
    """What the engine's loop needs of a model. Calls come from the engine's thread, one at a
    time; nothing is kept between them but in the pool."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def long_after(self) -> int | None:
        """Sequences of more tokens than this are `Run.long`; None if there is no difference."""

    def groups(self) -> tuple[CacheGroup, ...]:
        """The cache groups, in the order of every run's tables."""

    def allocate(self, blocks: Sequence[int]) -> KvPool:
        """Storage for so many blocks of each group."""

    def forward(self, batch: StepBatch, pool: KvPool) -> Tensor:
        """The last hidden states of all rows, normed: what logits and embeddings are made of."""

    def logits(self, hidden: Tensor) -> Tensor:
        """The float32 logits of these hidden states."""

    def see(self, pixels: Tensor) -> Tensor:
        """The features of one preprocessed image, one row for each of its placeholder tokens."""


def _decode_positions(decode: Sequence[Run]) -> list[int]:
    return [run.context + offset for run in decode for offset in range(len(run.tokens))]


def _group_step(
    prefill: Sequence[Run], decode: Sequence[Run], group: int, window: int | None
) -> GroupStep:
    slots: list[Tensor] = []
    spans: list[SpanTable] = []
    for run in prefill:
        end = run.context + len(run.tokens)
        first = first_needed(run.context, window)
        blocks = torch.tensor(run.tables[group][first : blocks_for(end)], dtype=torch.int64)
        positions = torch.arange(run.context, end)
        index = positions // BLOCK_TOKENS - first
        slots.append(blocks[index] * BLOCK_TOKENS + positions % BLOCK_TOKENS)
        spans.append(SpanTable(blocks, first * BLOCK_TOKENS))
    table, decode_slots = _decode_table(decode, group, window)
    slots.append(torch.tensor(decode_slots, dtype=torch.int64))
    return GroupStep(torch.cat(slots), tuple(spans), table)


def _decode_table(
    decode: Sequence[Run], group: int, window: int | None
) -> tuple[DecodeTable | None, list[int]]:
    """The lines of all decode rows; a run of several tokens has a line for each."""
    slots: list[int] = []
    seen: list[tuple[int, int]] = []
    lines: list[Sequence[int]] = []
    for run in decode:
        table = run.tables[group]
        for position in range(run.context, run.context + len(run.tokens)):
            block, offset = divmod(position, BLOCK_TOKENS)
            first = first_needed(position, window)
            slots.append(table[block] * BLOCK_TOKENS + offset)
            start = first * BLOCK_TOKENS
            oldest = 0 if window is None else max(0, position - window + 1)
            seen.append((oldest - start, position + 1 - start))
            lines.append(table[first : block + 1])
    if not lines:
        return None, slots
    width = max(map(len, lines))
    padded = [[*line, *[line[-1]] * (width - len(line))] for line in lines]
    return DecodeTable(torch.tensor(padded), torch.tensor(seen)), slots
