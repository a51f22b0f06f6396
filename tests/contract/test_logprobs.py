"""Log-probabilities: of answers, of prompts, of continuations; all of one model."""

from __future__ import annotations

import math

import pytest

from capyra.engine.base import Engine
from capyra.engine.types import Sampling, TextPrompt, TokenLogprob, TokenPrompt
from engines import PROMPT, Maker, ask, chat, request

ENDLESS = {"ignore_eos": True}


@pytest.fixture
def alternatives(engine: Engine) -> int:
    most = engine.capabilities().logprobs
    if most < 0:
        pytest.skip("the engine has no log-probabilities")
    return min(most, 5)


def sane(each: TokenLogprob, count: int) -> None:
    assert each.logprob <= 0
    assert len(each.top) == count
    likeliest = [logprob for _, _, logprob in each.top]
    assert likeliest == sorted(likeliest, reverse=True)
    assert math.fsum(math.exp(logprob) for logprob in likeliest) <= 1 + 1e-3
    for text, token, logprob in each.top:
        assert isinstance(text, str)
        assert token != each.token_id or logprob == each.logprob
    if count and each.token_id not in [token for _, token, _ in each.top]:
        assert each.logprob <= likeliest[-1]


@pytest.mark.parametrize("wanted", [0, 1, 5])
async def test_each_token_has_its_own(engine: Engine, alternatives: int, wanted: int) -> None:
    count = min(wanted, alternatives)
    answers = await ask(engine, request(logprobs=count, limits=ENDLESS, n=2))
    plain = await ask(engine, request(limits=ENDLESS))
    for answer in answers.answers:
        assert [each.token_id for each in answer.logprobs] == answer.tokens == plain.tokens
        for each in answer.logprobs:
            sane(each, count)
            if count:
                assert each.token_id == each.top[0][1], "greedy takes the likeliest"


async def test_they_are_the_models_own(engine: Engine, alternatives: int, maker: Maker) -> None:
    """Neither temperature nor bias changes them."""
    greedy = await ask(engine, request(logprobs=1, max_tokens=1))
    forced = Sampling(temperature=1.7, logit_bias={greedy.tokens[0]: 100})
    answers = await ask(engine, request(logprobs=1, max_tokens=1, sampling=forced))
    (found,), (expected,) = answers.answers[0].logprobs, greedy.answers[0].logprobs
    assert (found.token, found.token_id) == (expected.token, expected.token_id)
    assert found.logprob == pytest.approx(expected.logprob, abs=maker.tolerance)


async def test_prompt_tokens_have_theirs(engine: Engine, alternatives: int) -> None:
    if not engine.capabilities().prompt_logprobs:
        pytest.skip("the engine has none for prompts")
    rendered = engine.render(chat(PROMPT))
    answers = await ask(engine, request(prompt_logprobs=alternatives, max_tokens=1))
    assert answers.started is not None
    found = answers.started.prompt_logprobs
    assert found is not None
    assert found[0] is None, "the first token follows from nothing"
    for each, token in zip(found[1:], rendered.token_ids[1:], strict=True):
        assert each is not None
        assert each.token_id == token
        sane(each, alternatives)
    again = await ask(engine, request(prompt_logprobs=alternatives, max_tokens=1, id="again"))
    assert again.started is not None
    assert again.started.prompt_logprobs is not None, "a cached prompt has them too"
    assert len(again.started.prompt_logprobs) == len(found)


async def test_a_score_is_what_generating_would_have_said(
    engine: Engine, alternatives: int, maker: Maker
) -> None:
    if not engine.capabilities().scoring:
        pytest.skip("the engine does not score")
    prompt, continuation = TextPrompt(PROMPT), " The quick ä漢"
    rendered, tokens = engine.render(prompt).token_ids, engine.tokenize(continuation)
    scores = await engine.score(prompt, [continuation, "", continuation])
    assert scores[0] == scores[2]
    assert (scores[1].logprob, scores[1].token_logprobs) == (0, ())
    assert len(scores[0].token_logprobs) == len(tokens)
    assert scores[0].logprob == pytest.approx(math.fsum(scores[0].token_logprobs), abs=1e-3)
    for place, token in enumerate(tokens):
        forced = request(
            prompt=TokenPrompt((*rendered, *tokens[:place])),
            sampling=Sampling(logit_bias={token: 100}),
            logprobs=0,
            max_tokens=1,
        )
        generated = (await ask(engine, forced)).answers[0].logprobs
        assert [each.token_id for each in generated] == [token]
        assert scores[0].token_logprobs[place] == pytest.approx(
            generated[0].logprob, abs=maker.tolerance
        )


async def test_the_likelier_continuation_scores_higher(engine: Engine) -> None:
    if not engine.capabilities().scoring:
        pytest.skip("the engine does not score")
    prompt = chat(PROMPT)
    likely = (await ask(engine, request(prompt=prompt, max_tokens=1))).text
    others = [text for text in "qz#" if text != likely]
    scores = await engine.score(prompt, [likely, *others])
    if engine.tokenize(likely) and likely.isascii():
        assert scores[0].token_logprobs[0] >= max(each.token_logprobs[0] for each in scores[1:])
