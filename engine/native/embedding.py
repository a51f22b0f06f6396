"""Vectors: the last hidden states of an input, pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.errors import EngineFault
from capyra.engine.native.executor import Output
from capyra.engine.native.outlet import Outlet
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence as Tokens
from capyra.engine.native.work import Choice, Work
from capyra.engine.types import Embeddings, Pooling


class Embedding(Work):
    """One sequence for each input. The mean needs every hidden state, so it reuses no K/V."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[Sequence[int]],
        outlet: Outlet,
        clock: Callable[[], float],
        *,
        pooling: Pooling,
        normalize: bool,
        root: Callable[[int], bytes],
        tenant: str,
        deadline: float | None = None,
    ) -> None:
        super().__init__(name, outlet, clock, deadline=deadline)
        self._pooling = pooling
        self._normalize = normalize
        self._rows = [
            Tokens(
                request=name,
                index=index,
                root=root(len(tokens)),
                tokens=list(tokens),
                tenant=tenant,
                reusable=pooling == "last",
                chooses=False,
            )
            for index, tokens in enumerate(inputs)
        ]
        self._sums: dict[int, Tensor] = {}
        self._vectors: dict[int, tuple[float, ...]] = {}

    @property
    def prompt_tokens(self) -> int:
        return sum(len(row.tokens) for row in self._rows)

    def sequences(self) -> list[Tokens]:
        return self._rows

    def begin(self, scheduler: Scheduler) -> None:
        for row in self._rows:
            scheduler.add(row)

    def take(self, output: Output, scheduler: Scheduler) -> list[Choice]:
        sequence, hidden = output.chunk.sequence, output.hidden.float()
        index = sequence.index
        if self._pooling == "last":
            self._sums[index] = hidden[-1]
        elif output.chunk.start == 0:
            self._sums[index] = hidden.sum(0)
        else:
            self._sums[index] = self._sums[index] + hidden.sum(0)
        if output.chunk.end == len(sequence.tokens):
            self._vectors[index] = self._finished(self._sums.pop(index), len(sequence.tokens))
            scheduler.finish(sequence)
        if len(self._vectors) == len(self._rows):
            self._end()
        return []

    def _finished(self, total: Tensor, tokens: int) -> tuple[float, ...]:
        vector = total if self._pooling == "last" else total / tokens
        if not torch.isfinite(vector).all():
            raise EngineFault(f"the model made no usable vector for request {self.name!r}")
        if self._normalize:
            vector = functional.normalize(vector, dim=0)
        return tuple(vector.tolist())

    def _end(self) -> None:
        self.over = True
        vectors = tuple(self._vectors[index] for index in range(len(self._rows)))
        self.outlet.put([Embeddings(vectors, self.prompt_tokens)])
        self.outlet.finish()
