"""What answers need of a tokenizer: bytes, names and ends, each found once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from capyra.engine.native.sampler import Likelihood
from capyra.engine.types import TokenLogprob


class Words:
    """`data` gives a token's bytes, nothing for a control token; `name` gives those a name."""

    def __init__(
        self,
        data: Callable[[int], bytes],
        name: Callable[[int], bytes],
        ends: frozenset[int],
    ) -> None:
        self.data = data
        self.name = name
        self.ends = ends
        self._text = lru_cache(maxsize=65536)(self._decode)

    def logprob(self, likelihood: Likelihood) -> TokenLogprob:
        return TokenLogprob(
            self._text(likelihood.token),
            likelihood.token,
            likelihood.logprob,
            tuple((self._text(token), token, value) for token, value in likelihood.top),
        )

    def _decode(self, token: int) -> str:
        return (self.data(token) or self.name(token)).decode(errors="replace")
