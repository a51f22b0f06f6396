"""A prefix that is computed before anybody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from capyra.engine.native.executor import Output
from capyra.engine.native.generation import Read
from capyra.engine.native.outlet import Outlet
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence as Tokens
from capyra.engine.native.work import Choice, Work
from capyra.engine.types import Prefilled


class Warming(Work):
    """Works behind everybody's back; what it leaves is pinned until its time is over, or until
    somebody needs the blocks. A last block that is not full is nobody's, and is not counted."""

    def __init__(
        self,
        name: str,
        prefix: Read,
        outlet: Outlet,
        clock: Callable[[], float],
        *,
        ttl_s: float,
        root: Callable[[int], bytes],
        tenant: str,
    ) -> None:
        super().__init__(name, outlet, clock)
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._sequence = Tokens(
            request=name,
            root=root(len(prefix.tokens)),
            tokens=list(prefix.tokens),
            tenant=tenant,
            background=True,
            spans=prefix.spans,
            chooses=False,
        )

    @property
    def prompt_tokens(self) -> int:
        return len(self._prefix.tokens)

    def sequences(self) -> list[Tokens]:
        return [self._sequence]

    def pixels(self) -> Mapping[int, Tensor]:
        return self._prefix.images or {}

    def begin(self, scheduler: Scheduler) -> None:
        scheduler.add(self._sequence)

    def take(self, output: Output, scheduler: Scheduler) -> list[Choice]:
        sequence = self._sequence
        if output.chunk.end == len(sequence.tokens):
            tokens = scheduler.cache.pin(sequence, self.clock() + self._ttl_s)
            scheduler.finish(sequence)
            self.over = True
            self.outlet.put([Prefilled(tokens, sequence.cached, self._ttl_s)])
            self.outlet.finish()
        return []
