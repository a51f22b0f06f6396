"""How the echo engine chooses a token: exactly as the request's sampling says.

A distribution that depends on the expected token alone is shaped once and kept; only penalties,
which depend on what was written so far, need one for each token.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from capyra.engine.echo.model import Echo, Floats, Place, logits
from capyra.engine.echo.vocabulary import END
from capyra.engine.types import Sampling


class Shape(NamedTuple):
    """All that shapes a distribution but the text before."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    bias: tuple[tuple[int, float], ...]
    barred: tuple[int, ...]


class Choice(NamedTuple):
    """Candidates, likeliest first, and how likely it is that one of the first so many is taken."""

    tokens: list[int]
    cumulative: list[float]


def shaped(row: Floats, shape: Shape) -> Choice:
    """Bias, temperature, min-p, top-k and top-p, in this order."""
    row = row.copy()
    for token, bias in shape.bias:
        row[token] += bias
    row[list(shape.barred)] = -np.inf
    if shape.temperature == 0 or shape.top_k == 1:
        return Choice([int(row.argmax())], [1.0])
    order = np.argsort(-row, kind="stable")
    scaled = row[order] / shape.temperature
    weights = np.exp(scaled - scaled[0])
    # The likeliest weighs 1, so a weight is already relative to it.
    kept = max(int(np.count_nonzero(weights >= shape.min_p)), 1)
    if shape.top_k:
        kept = min(kept, shape.top_k)
    weights = weights[:kept] / weights[:kept].sum()
    if shape.top_p < 1:
        before = np.cumsum(weights) - weights
        kept = max(int(np.count_nonzero(before < shape.top_p)), 1)
        weights = weights[:kept] / weights[:kept].sum()
    return Choice(order[:kept].tolist(), list(accumulate(weights.tolist())))


@lru_cache(maxsize=64)
def _choices(_: Shape) -> dict[Place, Choice]:
    """The distributions of one shape by place, filled as they are needed."""
    return {}


class Sampler:
    """Chooses the tokens of one answer."""

    def __init__(
        self, sampling: Sampling, index: int, prompt: Iterable[int] = (), barred: Iterable[int] = ()
    ) -> None:
        self._sampling = sampling
        self._index = index
        self._penalised = (
            sampling.presence_penalty != 0
            or sampling.frequency_penalty != 0
            or sampling.repetition_penalty != 1
        )
        self._seen = set(prompt) if self._penalised else set[int]()
        self._counts: Counter[int] = Counter()
        self.bar(barred)

    @cached_property
    def _dice(self) -> random.Random:
        """Made when they are first thrown: most answers are greedy. The answers of one request
        have dice of their own."""
        if self._sampling.seed is None:
            return random.Random()
        return random.Random(f"{self._sampling.seed}/{self._index}")  # an int loses its sign

    def bar(self, tokens: Iterable[int]) -> None:
        """From here on these tokens, and only these, may not be chosen."""
        sampling, barred = self._sampling, frozenset(tokens)
        # Whether the expected token is always chosen, whatever was written before.
        greedy = sampling.temperature == 0 or sampling.top_k == 1
        self._exact = greedy and not sampling.logit_bias and barred <= {END}
        self._shape = Shape(
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
            sampling.min_p,
            tuple(sorted(sampling.logit_bias.items())),
            tuple(sorted(barred)),
        )
        self._kept = _choices(self._shape)

    def run(self, echo: Echo, count: int) -> Sequence[int]:
        """The next tokens, up to the expected end or to one that is no byte; none if each needs
        a distribution of its own."""
        if self._penalised:
            return ()
        if self._exact:
            return echo.take(count)
        tokens: list[int] = []
        for expected in echo.source[echo.place : echo.place + count]:
            place = (expected, END)
            choice = self._kept.get(place) or self._choice(place)
            tokens.append(self._draw(choice))
            if tokens[-1] >= 256:
                break
        echo.place += len(tokens)
        return tokens

    def choose(self, place: Place) -> int:
        """The next token, wherever the answer is."""
        if not self._penalised:
            return self._draw(self._kept.get(place) or self._choice(place))
        return self._draw(shaped(self._penalise(place), self._shape))

    def write(self, token: int) -> None:
        """The answer has this token now: penalties count it."""
        if self._penalised:
            self._counts[token] += 1
            self._seen.add(token)

    def _draw(self, choice: Choice) -> int:
        tokens, cumulative = choice
        if len(tokens) == 1:
            return tokens[0]
        return tokens[min(bisect(cumulative, self._dice.random()), len(tokens) - 1)]

    def _choice(self, place: Place) -> Choice:
        choice = self._kept[place] = shaped(logits(place), self._shape)
        return choice

    def _penalise(self, place: Place) -> Floats:
        """Repetition counts the prompt too; presence and frequency only what was written."""
        row, seen = logits(place).copy(), list(self._seen)
        factor = self._sampling.repetition_penalty
        row[seen] = np.where(row[seen] > 0, row[seen] / factor, row[seen] * factor)
        for token, count in self._counts.items():
            row[token] -= self._sampling.frequency_penalty * count + self._sampling.presence_penalty
        return row
