"""Work that only reads: scores of continuations, and prefixes computed ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from capyra.engine.errors import EngineFault
from capyra.engine.types import Prefilled, Score
from capyra.engine.vllm.calls import LAST, Call, Piece
from capyra.engine.vllm.work import Work

_READ: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True}
"""vLLM always writes a token; here nobody wants it."""


class Scoring(Work):
    """Each continuation is read as the end of a prompt. The prompt itself comes from the prefix
    cache: vLLM then leaves its log-probabilities undefined, and nobody looks at them."""

    def __init__(
        self, name: str, prompt: Sequence[int], written: Sequence[Sequence[int]], salt: str
    ) -> None:
        super().__init__(name, len(prompt))
        self._prompt = tuple(prompt)
        self._written = [tuple(each) for each in written]
        self._salt = salt
        self._distinct = list(dict.fromkeys(each for each in self._written if each))
        self._found: dict[tuple[int, ...], Score] = {(): Score(0.0, ())}

    def calls(self) -> list[Call]:
        return [self._call(place, reuse=True) for place in range(len(self._distinct))]

    def take(self, piece: Piece) -> None:
        if piece.prompt_logprobs is None:
            self.fail(EngineFault(f"vLLM gave no log-probabilities to {self.name!r}"))
            return
        place = int(piece.call.split("/")[-2])
        continuation, begin = self._distinct[place], len(self._prompt)
        if piece.cached >= begin:
            # The cache reached into the continuation itself.
            self.again.append(self._call(place, reuse=False))
            return
        self.started = True
        ranked = piece.prompt_logprobs[begin : begin + len(continuation)]
        found = tuple(
            each[token][0]
            for token, each in zip(continuation, ranked, strict=True)
            if each is not None
        )
        self._found[continuation] = Score(math.fsum(found), found)
        if len(self._found) > len(self._distinct):
            self.outlet.put([[self._found[each] for each in self._written]])
            self.end()

    def _call(self, place: int, *, reuse: bool) -> Call:
        sampling = {**_READ, "prompt_logprobs": 0, "skip_reading_prefix_cache": not reuse}
        return Call(
            id=f"{self.name}/{place}/{int(reuse)}",
            tokens=self._prompt + self._distinct[place],
            salt=self._salt,
            sampling=sampling,
        )


class Warming(Work):
    """Works behind everybody's back. vLLM cannot hold blocks for a time: what was computed stays
    until somebody needs the room, the oldest first."""

    def __init__(
        self, name: str, prefix: Sequence[int], *, block: int, ttl_s: float, salt: str
    ) -> None:
        super().__init__(name, len(prefix))
        self._prefix = tuple(prefix)
        self._block = block
        self._ttl_s = ttl_s
        self._salt = salt

    def calls(self) -> list[Call]:
        return [
            Call(
                id=f"{self.name}/0",
                tokens=self._prefix,
                salt=self._salt,
                priority=LAST,
                sampling=_READ,
            )
        ]

    def take(self, piece: Piece) -> None:
        self.started = True
        self.cached_tokens = piece.cached
        whole = len(self._prefix) // self._block * self._block
        self.outlet.put([Prefilled(whole, piece.cached, self._ttl_s)])
        self.end()
