"""Choosing tokens: seeds, penalties, bias; alone and among others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from capyra.engine.base import Engine
from capyra.engine.types import GenerateRequest, Sampling
from engines import PROMPT, ask, request

ENDLESS = {"ignore_eos": True}


def hot(seed: int | None, **fields: Any) -> GenerateRequest:
    sampling = Sampling(temperature=2.0, seed=seed)
    return request(sampling=sampling, limits=ENDLESS, max_tokens=48, **fields)


async def test_greedy_is_the_same_alone_and_among_others(engine: Engine) -> None:
    prompts = [PROMPT[place:] for place in range(16)]
    asked = [request(text, id=str(place)) for place, text in enumerate(prompts)]
    alone = [(await ask(engine, each)).tokens for each in asked]
    together = await asyncio.gather(*(ask(engine, each) for each in asked))
    assert [answers.tokens for answers in together] == alone


async def test_a_seed_gives_the_same_alone_and_among_others(engine: Engine) -> None:
    alone = await ask(engine, hot(7))
    assert (await ask(engine, hot(7))).tokens == alone.tokens
    others = [ask(engine, hot(seed, id=f"other-{seed}")) for seed in range(8, 23)]
    among, *_ = await asyncio.gather(ask(engine, hot(7)), *others)
    assert among.tokens == alone.tokens


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, -1), (0, 2**63 - 1)])
async def test_another_seed_gives_another_answer(engine: Engine, one: int, other: int) -> None:
    assert (await ask(engine, hot(one))).tokens != (await ask(engine, hot(other))).tokens


async def test_without_a_seed_answers_differ(engine: Engine) -> None:
    answers = [tuple((await ask(engine, hot(None))).tokens) for _ in range(4)]
    assert len(set(answers)) > 1


async def test_n_sampled_answers_differ_and_have_their_seed(engine: Engine) -> None:
    first = await ask(engine, hot(5, n=4))
    second = await ask(engine, hot(5, n=4))
    tokens = [tuple(answer.tokens) for answer in first.answers]
    assert len(set(tokens)) > 1
    assert tokens == [tuple(answer.tokens) for answer in second.answers]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=2.0, top_k=1),
        Sampling(temperature=2.0, top_p=1e-6),
        Sampling(temperature=2.0, min_p=1.0),
    ],
    ids=["top_k", "top_p", "min_p"],
)
async def test_one_candidate_is_greedy(engine: Engine, sampling: Sampling) -> None:
    greedy = await ask(engine, request(limits=ENDLESS))
    assert (await ask(engine, request(sampling=sampling, limits=ENDLESS))).tokens == greedy.tokens


async def test_bias_bans_and_forces(engine: Engine) -> None:
    first = (await ask(engine, request(max_tokens=1))).tokens[0]
    other = engine.tokenize("z")[-1]
    banned = Sampling(temperature=0, logit_bias={first: -100})
    assert first not in (await ask(engine, request(sampling=banned, max_tokens=8))).tokens
    forced = Sampling(temperature=2.0, logit_bias={other: 100})
    answers = await ask(engine, request(sampling=forced, max_tokens=8))
    assert answers.tokens == [other] * 8


@pytest.mark.parametrize(
    "penalty",
    [
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repetition_penalty": 5.0},
    ],
    ids=lambda penalty: next(iter(penalty)),
)
async def test_penalties_break_repetition(engine: Engine, penalty: dict[str, Any]) -> None:
    text = "aaaaaaaa " * 6
    likely = (await ask(engine, request(text, max_tokens=1))).tokens[0]
    # A model may be surer than the largest penalty counts: bias brings its second choice near.
    near: dict[str, Any] = {"temperature": 0, "logit_bias": {likely: -4.0}}
    plain = request(text, sampling=Sampling(**near), limits=ENDLESS, max_tokens=40)
    penalised = replace(plain, sampling=Sampling(**near, **penalty))
    before, after = (await ask(engine, plain)).tokens, (await ask(engine, penalised)).tokens
    assert after != before
    assert len(set(after)) >= len(set(before))
