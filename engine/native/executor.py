"""Turns a plan into tensors and runs the model on it: the one place where both meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from capyra.engine.native.batch import Model, PlacedImage, Run, StepBatch
from capyra.engine.native.cache import Copy
from capyra.engine.native.kv import KvPool
from capyra.engine.native.plan import Chunk
from capyra.engine.native.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Output:
    """What the model made of one chunk."""

    chunk: Chunk
    hidden: Tensor
    """One row for each token of the chunk."""
    logits: Tensor | None
    """Of the chunk's last tokens, from position `first` on; None if nobody wants any."""
    first: int
    line: int
    """The last of these rows among those of the step."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the model made of a step. `logits` has all rows that anybody wants."""

    outputs: list[Output]
    logits: Tensor | None


Pixels = Callable[[Sequence], Mapping[int, Tensor]]
"""A sequence's preprocessed images by the position where each begins."""


class Executor:
    """Owns the K/V tensors. Thread counts are per phase: setting them costs less than 1 µs."""

    def __init__(
        self,
        model: Model,
        pool: KvPool,
        *,
        prefill_threads: int | None = None,
        decode_threads: int | None = None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._windows = [group.window for group in model.groups()]
        self._prefill_threads = prefill_threads
        self._decode_threads = decode_threads

    @property
    def kv_bytes(self) -> int:
        return self._pool.nbytes

    @property
    def long_after(self) -> int | None:
        return self._model.long_after

    def copy(self, copies: list[Copy]) -> None:
        """Before the step: give blocks that are about to be written to one owner each."""
        for group in {copy.group for copy in copies}:
            pairs = [copy for copy in copies if copy.group == group]
            self._pool.copy(group, [copy.source for copy in pairs], [copy.target for copy in pairs])

    def run(self, chunks: list[Chunk], pixels: Pixels) -> Result:
        """One forward step. It may be run again with the same chunks, or with some of them."""
        prefill = [chunk for chunk in chunks if not chunk.decode]
        decode = [chunk for chunk in chunks if chunk.decode]
        self._use_threads(self._prefill_threads if prefill else self._decode_threads)
        batch = StepBatch.build(
            [self._run(chunk, pixels(chunk.sequence)) for chunk in prefill],
            [self._run(chunk, {}) for chunk in decode],
            self._windows,
        )
        hidden = self._model.forward(batch, self._pool)
        logits = self._model.logits(hidden[batch.logit_rows]) if len(batch.logit_rows) else None
        outputs = []
        row = line = 0
        for chunk in [*prefill, *decode]:
            first = _first_logits(chunk)
            lines = 0 if first is None else chunk.end - first
            outputs.append(
                Output(
                    chunk,
                    hidden[row : row + chunk.count],
                    logits[line : line + lines] if logits is not None and lines else None,
                    chunk.end - lines,
                    line + lines - 1,
                )
            )
            row += chunk.count
            line += lines
        return Result(outputs, logits)

    def clear(self, group: int, blocks: list[int]) -> None:
        """Zero these blocks: whoever got one with a NaN in it would suffer."""
        self._pool.clear(group, blocks)

    def _run(self, chunk: Chunk, pixels: Mapping[int, Tensor]) -> Run:
        sequence = chunk.sequence
        first = _first_logits(chunk)
        return Run(
            tokens=sequence.tokens[chunk.start : chunk.end],
            context=chunk.start,
            tables=sequence.tables,
            logits_from=None if first is None else first - chunk.start,
            images=[
                PlacedImage(start, self._model.see(image))
                for start, image in pixels.items()
                if chunk.start <= start < chunk.end
            ],
            long=self.long(len(sequence.tokens)),
        )

    def long(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens is computed as a long one."""
        return self.long_after is not None and tokens > self.long_after

    @staticmethod
    def _use_threads(count: int | None) -> None:
        if count is not None and torch.get_num_threads() != count:
            torch.set_num_threads(count)


def _first_logits(chunk: Chunk) -> int | None:
    """The first position of the chunk whose logits are wanted."""
    wanted = chunk.sequence.logits_from
    if wanted is not None and wanted < chunk.end:
        return max(wanted, chunk.start)
    if chunk.last and chunk.sequence.chooses:
        return chunk.end - 1
    return None
