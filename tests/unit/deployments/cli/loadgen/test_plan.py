"""Loads are repeatable, of the wanted length, and at random times of the wanted mean."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from capyra.deployments.cli.loadgen.plan import Plan, Words, arrivals, body, prompt
from capyra.engine.errors import InvalidValue


def test_words_are_fitted_to_the_servers_tokens() -> None:
    words = Words.fit(32, 32 * 2 + 10, 160, 160 * 2 + 10)
    assert (words.each, words.fixed, words.measured) == (2.0, 10.0, True)
    assert words.count(210) == 100
    assert words.count(1) == 1


def test_a_server_that_counts_nonsense_is_not_believed() -> None:
    assert Words.fit(32, 50, 160, 50) == Words()


def test_prompts_are_repeatable_and_their_own_after_the_shared_part() -> None:
    plan = Plan(model="m", prompt_tokens=100, prefix_tokens=40, seed=3)
    first, second = (prompt(plan, index, Words()).split() for index in (0, 1))
    assert len(first) == len(second) == 100
    assert first[:40] == second[:40]
    assert first[40:] != second[40:]
    assert prompt(plan, 0, Words()).split() == first
    other = Plan(model="m", prompt_tokens=100, prefix_tokens=40, seed=4)
    assert prompt(other, 0, Words()).split()[:40] != first[:40]


def test_prompts_of_a_file_are_taken_in_turn() -> None:
    plan = Plan(model="m", prompts=("a", "b"))
    assert [prompt(plan, index, Words()) for index in range(3)] == ["a", "b", "a"]


def test_bodies() -> None:
    chat = body(Plan(model="m", fields={"ignore_eos": True}, output_tokens=5), "hi")
    assert chat == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    text = body(Plan(model="m", endpoint="completions", stream=False), "hi", output_tokens=1)
    assert text == {"model": "m", "prompt": "hi", "max_tokens": 1, "stream": False}


def test_arrivals_have_the_rate_and_are_random() -> None:
    times = list(islice(arrivals(rate=50.0, burst=1, seed=1), 5001))
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.05)
    assert variance**0.5 == pytest.approx(mean, rel=0.1)
    assert times == list(islice(arrivals(50.0, 1, 1), 5001))


def test_bursts_come_at_once_and_keep_the_rate() -> None:
    times = list(islice(arrivals(rate=50.0, burst=10, seed=1), 20_001))
    assert len(set(times[:100])) == 10
    assert times[-1] == pytest.approx(20_000 / 50, rel=0.1)


def test_a_load_must_end() -> None:
    with pytest.raises(InvalidValue, match="say how long"):
        Plan(model="m", requests=None)
