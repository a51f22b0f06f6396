"""Chooses tokens from logits, for all rows of a step at once.

A row's choice depends on nothing but its logits, its own settings and what it wrote: chance is a
hash of seed, answer and place, and every operation works on one row alone, in an order that is
its own. So a request with a seed gets the same tokens whatever else is in its batch.

The order is that of most engines: penalties, bias, what is barred or not allowed, temperature,
min-p, top-k, top-p. Top-k keeps what is as likely as the last one kept.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from capyra.engine.types import Sampling

IMPOSSIBLE = -1
"""Instead of a token: the row's logits are not finite, or nothing is allowed."""

Floats = NDArray[np.float32] | NDArray[np.float64]

_STRETCH = 512
_MANY = 1024
_LEAST = np.finfo(np.float32).tiny
_COLDEST = 1e-4
"""Below this temperature float32 cannot tell the scaled logits apart from greedy ones."""


class Row:
    """One answer's side of the sampler."""

    def __init__(self, sampling: Sampling, index: int, prompt: Iterable[int] = ()) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < _COLDEST or sampling.top_k == 1
        self.filtered = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        # As text: any integer is a seed, whatever its sign and size.
        self._key = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=16).digest()
        self._written: Counter[int] = Counter()
        self._places = 0
        self._barred: Tensor | None = None
        self._bias: tuple[Tensor, Tensor] | None = None
        if sampling.logit_bias:
            ids, values = zip(*sampling.logit_bias.items(), strict=True)
            self._bias = torch.tensor(ids), torch.tensor(values, dtype=torch.float32)
        self._counts = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._repeats = sampling.repetition_penalty != 1
        self._seen = set(prompt) if self._repeats else set[int]()
        self.allowed: NDArray[np.uint8] | None = None
        """One bit for each token, where a grammar decides; set anew before every choice."""

    @property
    def plain(self) -> bool:
        """Whether the logits are taken as they are."""
        return not (self._counts or self._repeats) and (
            self._bias is None and self._barred is None and self.allowed is None
        )

    def bar(self, tokens: Iterable[int]) -> None:
        """From now on these tokens, and only these, may not be chosen."""
        ids = sorted(tokens)
        self._barred = torch.tensor(ids) if ids else None

    def wrote(self, token: int) -> None:
        """The token is part of the answer."""
        self._places += 1
        if self._counts:
            self._written[token] += 1
        if self._repeats:
            self._seen.add(token)

    def chance(self) -> float:
        """A number in [0, 1) for the next place, equally likely and always the same."""
        place = struct.pack("<q", self._places)
        digest = hashlib.blake2b(place, key=self._key, digest_size=8).digest()
        return float(int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def edit(self, logits: Tensor) -> None:
        """Penalise, bias, bar; in place."""
        if self._repeats:
            factor = self.sampling.repetition_penalty
            seen = torch.tensor(list(self._seen), dtype=torch.int64)
            values = logits[seen]
            logits[seen] = torch.where(values > 0, values / factor, values * factor)
        if self._counts and self._written:
            ids = torch.tensor(list(self._written))
            counts = torch.tensor(list(self._written.values()), dtype=torch.float32)
            logits[ids] -= self.sampling.frequency_penalty * counts + self.sampling.presence_penalty
        if self._bias is not None:
            logits.index_add_(0, *self._bias)
        if self._barred is not None:
            logits[self._barred] = -torch.inf
        if self.allowed is not None:
            bits = np.unpackbits(self.allowed, bitorder="little", count=len(logits))
            logits.masked_fill_(torch.from_numpy(bits) == 0, -torch.inf)


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row, from `[rows, vocabulary]`, which stays as it is."""
    if not all(row.plain for row in rows):
        logits = logits.clone()
        for line, row in zip(logits, rows, strict=True):
            if not row.plain:
                row.edit(line)
    # numpy's argmax is ten times as fast as torch's.
    tokens = logits.numpy().argmax(axis=-1).tolist()
    best = logits[range(len(rows)), tokens].tolist()
    drawn = [place for place, row in enumerate(rows) if not row.greedy and isfinite(best[place])]
    if drawn:
        heat = torch.tensor([rows[place].sampling.temperature for place in drawn])
        lines = (logits[drawn] / heat.unsqueeze(-1)).softmax(dim=-1).numpy()
        for place, line in zip(drawn, lines, strict=True):
            tokens[place] = _draw(line, rows[place])
    return [token if isfinite(top) else IMPOSSIBLE for token, top in zip(tokens, best, strict=True)]


def _draw(probabilities: Floats, row: Row) -> int:
    """By the inverse of the cumulative distribution: one number decides, so that no row needs
    one for every token."""
    if row.filtered:
        ids, values = _candidates(probabilities, row.sampling)
        return int(ids[_place(values, row.chance())])
    # First the stretch, then the token in it: a cumulative sum of all is twenty times as slow.
    stretches = np.add.reduceat(
        probabilities, np.arange(0, len(probabilities), _STRETCH), dtype=np.float64
    )
    chance = row.chance()
    stretch = _place(stretches, chance)
    begin = stretch * _STRETCH
    rest = max(0.0, chance * stretches.sum() - stretches[:stretch].sum())
    return begin + _place(probabilities[begin : begin + _STRETCH], rest / stretches[stretch])


def _place(weights: Floats, chance: float) -> int:
    """Where in the cumulative sum of the weights the chance falls; never on a weight of 0."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(cumulative, chance * cumulative[-1], side="right"))
    # Rounding may put the chance at the very ends.
    return min(place, int(np.searchsorted(cumulative, cumulative[-1])))


def _candidates(probabilities: Floats, sampling: Sampling) -> tuple[NDArray[np.intp], Floats]:
    """What min-p, top-k and top-p leave, in an order that is always the same. Only what can be
    left is sorted: a vocabulary is long, and most of it is out of the question."""
    size = len(probabilities)
    floor = max(probabilities.max() * np.float32(sampling.min_p), _LEAST)
    if 0 < sampling.top_k < size:
        floor = max(floor, _nth(probabilities, sampling.top_k))
    if sampling.top_p < 1:
        # Tokens below this are together less than 1 - p, so none of them is in the nucleus.
        total = probabilities[probabilities >= floor].sum(dtype=np.float64)
        floor = max(floor, (1 - sampling.top_p) / size * total)
    ids = np.flatnonzero(probabilities >= floor)
    values = probabilities[ids]
    if sampling.top_p >= 1:
        return ids, values
    if len(ids) > _MANY and values[values >= (least := _nth(values, _MANY))].sum() > (
        sampling.top_p * total
    ):
        ids, values = ids[values >= least], values[values >= least]
    order = np.argsort(-values, kind="stable")
    ids, values = ids[order], values[order]
    kept = int(np.searchsorted(np.cumsum(values, dtype=np.float64), sampling.top_p * total)) + 1
    return ids[:kept], values[:kept]


def _nth(values: Floats, count: int) -> float:
    """The so manyth of the values from above."""
    return float(np.partition(values, -count)[-count])


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token's log-probability, and the likeliest tokens there with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def likelihoods(logits: Tensor, tokens: Sequence[int], counts: Sequence[int]) -> list[Likelihood]:
    """What the model itself thought of these tokens, row by row, and `counts` alternatives."""
    logprobs = logits.log_softmax(dim=-1)
    chosen = logprobs.gather(-1, torch.tensor(tokens).unsqueeze(-1)).squeeze(-1).tolist()
    most = min(max(counts, default=0), logits.shape[-1])
    values, ids = logprobs.topk(most, dim=-1) if most else (logprobs[:, :0],) * 2
    return [
        Likelihood(token, logprob, tuple(zip(row_ids[:count], row_values[:count], strict=True)))
        for token, logprob, row_ids, row_values, count in zip(
            tokens, chosen, ids.tolist(), values.tolist(), counts, strict=True
        )
    ]
