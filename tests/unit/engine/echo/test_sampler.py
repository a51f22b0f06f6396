from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capyra.engine.echo.model import Echo, Floats, logits
from capyra.engine.echo.sampler import Sampler, Shape, shaped
from capyra.engine.echo.vocabulary import END
from capyra.engine.types import Sampling

A, B = ord("a"), ord("b")
DRAWS = 4000
CRITICAL = 24.3
"""Chi-square with 2 degrees of freedom exceeds this once in 190,000 runs; seeds are fixed."""


def reference(row: list[float], sampling: Sampling) -> dict[int, float]:
    """Token probabilities in plain arithmetic: bias, temperature, min-p, top-k, top-p."""
    biased = [value + sampling.logit_bias.get(token, 0) for token, value in enumerate(row)]
    order = sorted(range(len(row)), key=lambda token: (-biased[token], token))
    top = biased[order[0]]
    weights = {token: math.exp((biased[token] - top) / sampling.temperature) for token in order}
    kept = [token for token in order if weights[token] >= sampling.min_p] or order[:1]
    kept = kept[: sampling.top_k or None]
    total = math.fsum(weights[token] for token in kept)
    nucleus: list[int] = []
    mass = 0.0
    for token in kept:
        if nucleus and mass >= sampling.top_p < 1:
            break
        nucleus.append(token)
        mass += weights[token] / total
    total = math.fsum(weights[token] for token in nucleus)
    return {token: weights[token] / total for token in nucleus}


def shape(sampling: Sampling, *barred: int) -> Shape:
    return Shape(
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
        sampling.min_p,
        tuple(sorted(sampling.logit_bias.items())),
        barred,
    )


@given(
    st.lists(st.integers(-80, 80), min_size=4, max_size=12, unique=True),
    st.builds(
        Sampling,
        temperature=st.floats(0.1, 2),
        top_p=st.floats(0.05, 1),
        top_k=st.integers(0, 6),
        min_p=st.floats(0, 1),
        logit_bias=st.dictionaries(st.integers(0, 3), st.floats(-20, 20), max_size=2),
    ),
)
def test_any_sampling_shapes_as_plain_arithmetic_does(row: list[int], sampling: Sampling) -> None:
    # A tenth apart, so that no two candidates are so near that rounding decides.
    values: Floats = np.array(row) / 10 + np.arange(len(row)) * 1e-3
    choice = shaped(values, shape(sampling))
    expected = reference(values.tolist(), sampling)
    found = dict(zip(choice.tokens, np.diff([0, *choice.cumulative]).tolist(), strict=True))
    common = set(found) & set(expected)
    for token in common:
        assert found[token] == pytest.approx(expected[token], rel=1e-3, abs=1e-6)
    # At the edge of top-p or min-p one more or less may be kept, or several that weigh nothing.
    edge = set(found) ^ set(expected)
    weight = sum(found.get(token, 0) + expected.get(token, 0) for token in edge)
    assert len(edge) <= 1 or weight < 1e-9


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=2.0, seed=1),
        Sampling(temperature=1.0, seed=2, logit_bias={B: 58.0}),
        Sampling(temperature=1.5, seed=3, top_k=2),
        Sampling(temperature=1.5, seed=4, top_k=2, logit_bias={B: 60.0, A: 1.0}),
        Sampling(temperature=2.0, seed=5, min_p=0.2, logit_bias={A ^ 0x20: 4.0}),
        Sampling(temperature=2.0, seed=6, top_p=0.7, logit_bias={A ^ 0x20: 4.0, B: 59.0}),
    ],
    ids=["temperature", "bias", "top_k", "top_k and bias", "min_p", "top_p"],
)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    sampler = Sampler(sampling, 0)
    counts = Counter(sampler.run(Echo(b"a" * DRAWS), DRAWS))
    expected = reference(logits((A, END)).tolist(), sampling)
    assert counts.keys() <= expected.keys()
    seen = {token: p for token, p in expected.items() if p * DRAWS >= 5}
    square = sum((counts[token] - p * DRAWS) ** 2 / (p * DRAWS) for token, p in seen.items())
    assert square < CRITICAL


def test_token_by_token_and_in_runs_are_the_same() -> None:
    sampling = Sampling(temperature=2.0, seed=9)
    run, single = Sampler(sampling, 0), Sampler(sampling, 0)
    echo = Echo(b"Some words to write.")
    assert list(run.run(Echo(echo.source), 20)) == [
        single.choose((byte, END)) for byte in echo.source
    ]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=1, temperature=2)])
def test_greedy_is_exact(sampling: Sampling) -> None:
    echo = Echo(b"Abc 123")
    assert bytes(Sampler(sampling, 0).run(echo, 100)) == b"Abc 123"
    assert Sampler(sampling, 0).choose(echo.expects) == END


def test_what_is_barred_is_never_chosen() -> None:
    sampler = Sampler(Sampling(temperature=0), 0, barred={END, A})
    assert sampler.choose((A, END)) == A ^ 0x20
    assert sampler.choose((END, B)) == B
    assert list(sampler.run(Echo(b"a"), 5)) == [A ^ 0x20]
    sampler.bar(())
    assert sampler.choose((END, B)) == END


@pytest.mark.parametrize(
    ("penalty", "prompt", "written", "chosen"),
    [
        ({}, [A], [A] * 9, A),
        ({"presence_penalty": 2.0}, [A], [A] * 9, A),
        ({"presence_penalty": 5.5}, [A], [A], A ^ 0x20),
        ({"presence_penalty": 5.5}, [A] * 9, [], A),
        ({"frequency_penalty": 2.0}, [], [A] * 2, A),
        ({"frequency_penalty": 2.0}, [], [A] * 3, A ^ 0x20),
        ({"repetition_penalty": 3.0}, [A], [], A ^ 0x20),
        ({"repetition_penalty": 3.0}, [A, A ^ 0x20], [], A),
        ({"presence_penalty": -6.0}, [], [A ^ 0x20], A ^ 0x20),
    ],
)
def test_penalties(
    penalty: dict[str, Any], prompt: list[int], written: list[int], chosen: int
) -> None:
    sampler = Sampler(Sampling(temperature=0, **penalty), 0, prompt)
    for token in written:
        sampler.write(token)
    assert sampler.choose((A, END)) == chosen
