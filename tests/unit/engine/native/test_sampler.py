"""The sampler against a plain reference: one row, float64, no shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capyra.engine.native.sampler import IMPOSSIBLE, Row, choose, likelihoods
from capyra.engine.types import Sampling

VOCABULARY = 600
"""More than a stretch of the draw."""


def some_logits(seed: int = 7, size: int = VOCABULARY) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator) * 2.5


def reference(
    logits: torch.Tensor, sampling: Sampling, prompt: Sequence[int], written: Sequence[int]
) -> NDArray[np.float64]:
    """The distribution that the settings mean."""
    row = logits.double().numpy().copy()
    for token in set(prompt) | set(written):
        factor = sampling.repetition_penalty
        row[token] = row[token] / factor if row[token] > 0 else row[token] * factor
    for token in set(written):
        row[token] -= sampling.presence_penalty
        row[token] -= sampling.frequency_penalty * list(written).count(token)
    for token, bias in sampling.logit_bias.items():
        row[token] += bias
    row /= sampling.temperature
    chances = np.exp(row - row.max())
    chances /= chances.sum()
    chances[chances < sampling.min_p * chances.max()] = 0
    if sampling.top_k:
        chances[chances < np.sort(chances)[-sampling.top_k]] = 0
    chances /= chances.sum()
    kept, total = np.zeros_like(chances), 0.0
    for token in np.argsort(-chances, kind="stable"):
        if total >= sampling.top_p:
            break
        kept[token] = chances[token]
        total += chances[token]
    return kept / kept.sum()


def draw(
    logits: torch.Tensor, sampling: Sampling, prompt: Sequence[int], written: Sequence[int]
) -> NDArray[np.int64]:
    """How often each token is chosen by requests of different seeds."""
    rows = [Row(replace(sampling, seed=seed), 0, prompt) for seed in range(2_500)]
    for row in rows:
        for token in written:
            row.wrote(token)
    return np.bincount(choose(logits.expand(len(rows), -1), rows), minlength=len(logits))


SETTINGS = {
    "plain": Sampling(),
    "cold": Sampling(temperature=0.3),
    "hot": Sampling(temperature=1.9),
    "top-k": Sampling(top_k=5),
    "top-p": Sampling(top_p=0.8),
    "min-p": Sampling(min_p=0.1),
    "all three": Sampling(temperature=1.5, top_k=40, top_p=0.9, min_p=0.02),
    "presence": Sampling(presence_penalty=1.5),
    "frequency": Sampling(frequency_penalty=0.7),
    "repetition": Sampling(repetition_penalty=1.6),
    "reward": Sampling(presence_penalty=-1.0, repetition_penalty=0.8),
    "bias": Sampling(logit_bias={3: 4.0, 599: 6.5, 10: -100.0}),
    "everything": Sampling(
        temperature=0.8,
        top_k=60,
        top_p=0.95,
        min_p=0.01,
        presence_penalty=0.5,
        frequency_penalty=0.2,
        repetition_penalty=1.2,
        logit_bias={7: 2.0},
    ),
}


@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_draws_follow_the_reference(sampling: Sampling) -> None:
    """Chi-square; rare tokens are put together, impossible ones must never come."""
    logits = some_logits()
    top = logits.topk(6).indices.tolist()
    prompt, written = [top[0], top[1], 8], [top[2], top[2], top[3], 9, 9, 9]
    expected = reference(logits, sampling, prompt, written)
    seen = draw(logits, sampling, prompt, written)
    assert not seen[expected == 0].any(), "a token that was ruled out"
    count = seen.sum()
    common = expected * count >= 5
    pairs = [*zip(seen[common], expected[common], strict=True)]
    pairs.append((seen[~common].sum(), expected[~common].sum()))
    statistic = sum((s - e * count) ** 2 / (e * count) for s, e in pairs if e > 0)
    freedom = max(1, len(pairs) - 1)
    assert statistic < quantile(freedom), (statistic, freedom)


def quantile(freedom: int) -> float:
    """Chi-square's, for one false alarm in 100,000 (Wilson and Hilferty)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 4.26 * part**0.5) ** 3)


def test_the_test_can_tell_distributions_apart() -> None:
    logits = some_logits()
    expected = reference(logits, Sampling(temperature=1.3), [], [])
    seen = draw(logits, Sampling(), [], [])
    common = expected * seen.sum() >= 5
    wrong = ((seen - expected * seen.sum()) ** 2 / (expected * seen.sum()))[common].sum()
    assert wrong > quantile(int(common.sum()))


rows = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    top_k=st.sampled_from([0, 1, 3, 50, 10_000]),
    min_p=st.sampled_from([0.0, 0.05]),
    presence_penalty=st.sampled_from([0.0, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    seed=st.integers(-(2**70), 2**70),
)


@given(batch=st.lists(rows, min_size=2, max_size=16), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_company_changes_nothing(batch: list[Sampling], seed: int) -> None:
    """Every row chooses alone what it chooses in a batch, token after token; ties included."""
    logits = torch.stack([some_logits(seed + place).round() for place in range(len(batch))])
    together = [Row(sampling, 0, [1, 2]) for sampling in batch]
    for _ in range(3):
        for row, token in zip(together, choose(logits, together), strict=True):
            row.wrote(token)
    replay = [Row(sampling, 0, [1, 2]) for sampling in batch]
    for _ in range(3):
        for place, row in enumerate(replay):
            row.wrote(choose(logits[place : place + 1], [row])[0])
    assert choose(logits, together) == [
        choose(logits[place : place + 1], [row])[0] for place, row in enumerate(replay)
    ]


def test_answers_of_one_request_differ_and_repeat() -> None:
    logits = torch.zeros(1, VOCABULARY)

    def text(index: int, seed: int | None = 3) -> list[int]:
        row = Row(Sampling(seed=seed), index)
        tokens = []
        for _ in range(8):
            tokens += choose(logits, [row])
            row.wrote(tokens[-1])
        return tokens

    assert text(0) == text(0)
    assert len({tuple(text(index)) for index in range(4)}) == 4
    assert text(0, None) != text(0, None)
    assert len(set(text(0))) > 1


def test_greedy_takes_the_best_and_reads_nothing_else() -> None:
    logits = some_logits().expand(3, -1)
    kinds = [Sampling(temperature=0), Sampling(top_k=1), Sampling(temperature=1e-9)]
    assert choose(logits, [Row(kind, 0) for kind in kinds]) == [int(logits[0].argmax())] * 3


def test_what_is_barred_or_not_allowed_never_comes() -> None:
    logits = some_logits()
    best, second, third = logits.topk(3).indices.tolist()
    row = Row(Sampling(temperature=0), 0)
    row.bar([best])
    assert choose(logits.unsqueeze(0), [row]) == [second]
    row.bar([])
    allowed = np.zeros(VOCABULARY, dtype=bool)
    allowed[third] = True
    row.allowed = np.packbits(allowed, bitorder="little")
    assert choose(logits.unsqueeze(0), [row]) == [third]


def test_a_row_without_a_possible_token_says_so_alone() -> None:
    logits = torch.stack([some_logits(), some_logits(), some_logits()])
    logits[0, 5] = torch.nan
    stuck = Row(Sampling(seed=1), 0)
    stuck.allowed = np.zeros(VOCABULARY // 8, dtype=np.uint8)
    chosen = choose(logits, [Row(Sampling(seed=1), 0), stuck, Row(Sampling(seed=1), 0)])
    assert chosen[:2] == [IMPOSSIBLE, IMPOSSIBLE]
    assert chosen[2] != IMPOSSIBLE


def test_the_callers_logits_stay_as_they_are() -> None:
    logits = some_logits().unsqueeze(0)
    before = logits.clone()
    choose(logits, [Row(Sampling(repetition_penalty=2.0, logit_bias={1: 5.0}), 0, [1, 2])])
    assert torch.equal(logits, before)


def test_likelihoods_are_the_models_own() -> None:
    logits = torch.stack([some_logits(1), some_logits(2)])
    first, second = likelihoods(logits, [4, 5], [0, 3])
    expected = logits.double().log_softmax(-1)
    assert first.logprob == pytest.approx(float(expected[0, 4]), abs=1e-5)
    assert first.top == ()
    assert [token for token, _ in second.top] == logits[1].topk(3).indices.tolist()
    assert second.top[0][1] == pytest.approx(float(expected[1].max()), abs=1e-5)
