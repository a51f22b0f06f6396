"""What an answer consists of, and when it ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from capyra.engine.base import Engine
from capyra.engine.types import Started, TextPrompt, TokenPrompt
from engines import PROMPT, Answers, ask, chat, ignore, request

Build = Callable[..., Engine]


async def long_answer(engine: Engine) -> Answers:
    """What the engine says when nothing ends it: the text that the other tests cut."""
    return await ask(engine, request(limits={"ignore_eos": True}))


def stop_in(text: str) -> str:
    """Three characters of a text that stand somewhere after its beginning."""
    match = re.compile(r"[^�]{3}", re.DOTALL).search(text, 4)
    assert match is not None, f"no place to stop in {text!r}"
    return match[0]


async def test_events_follow_the_grammar_and_usage_counts_tokens(engine: Engine) -> None:
    answers = await ask(engine, request(max_tokens=5, limits={"ignore_eos": True}))
    assert isinstance(answers.started, Started)
    assert answers.usage.completion_tokens == 5
    assert answers.usage.prompt_tokens == len(engine.render(chat(PROMPT)).token_ids)
    assert answers.usage.timing.keys() >= {"queue", "prefill", "decode"}
    assert all(seconds >= 0 for seconds in answers.usage.timing.values())


async def test_text_is_the_text_of_the_tokens(engine: Engine) -> None:
    answers = await long_answer(engine)
    assert answers.text == engine.detokenize(answers.tokens)
    assert answers.text


async def test_the_same_prompt_as_tokens_gives_the_same(engine: Engine) -> None:
    for prompt in (chat(PROMPT), TextPrompt(PROMPT)):
        tokens = TokenPrompt(engine.render(prompt).token_ids)
        first = await ask(engine, request(prompt=prompt))
        second = await ask(engine, request(prompt=tokens))
        assert first.tokens == second.tokens
        assert first.usage.prompt_tokens == second.usage.prompt_tokens


async def test_ends_at_max_tokens(engine: Engine) -> None:
    whole = await long_answer(engine)
    for count in (1, 2, 7):
        cut = await ask(engine, request(max_tokens=count, limits={"ignore_eos": True}))
        assert (cut.reason, cut.stop) == ("length", None)
        assert cut.tokens == whole.tokens[:count]


async def test_no_tokens_at_all(engine: Engine) -> None:
    nothing = await ask(engine, request(max_tokens=0))
    assert (nothing.reason, nothing.text, nothing.tokens) == ("length", "", [])
    assert nothing.usage.prompt_tokens > 0


async def test_without_max_tokens_the_context_ends_it(build: Build) -> None:
    engine = build(context=160)
    await engine.load(ignore)
    answers = await ask(engine, request(max_tokens=None, limits={"ignore_eos": True}))
    assert answers.reason == "length"
    assert answers.usage.prompt_tokens + answers.usage.completion_tokens == 160


@pytest.mark.parametrize("include", [False, True])
async def test_stop_strings_cut_the_text_and_span_tokens(engine: Engine, include: bool) -> None:
    whole = await long_answer(engine)
    stop = stop_in(whole.text)
    place = whole.text.index(stop)
    limits = {"ignore_eos": True, "stop": ("never to be seen", stop), "include_stop": include}
    cut = await ask(engine, request(limits=limits))
    assert cut.text == whole.text[: place + len(stop) if include else place]
    assert (cut.reason, cut.stop) == ("stop", stop)
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert stop in engine.detokenize(cut.tokens), "the stop string's tokens count too"


async def test_a_stop_string_that_is_never_complete_holds_nothing_back(engine: Engine) -> None:
    whole = await long_answer(engine)
    stop = whole.text[-3:] + "never to be seen"
    assert (await ask(engine, request(limits={"ignore_eos": True, "stop": (stop,)}))).text == (
        whole.text
    )


@pytest.mark.parametrize("include", [False, True])
async def test_stop_token_ids(engine: Engine, include: bool) -> None:
    whole = await long_answer(engine)
    token = whole.tokens[5]
    place = whole.tokens.index(token)
    limits = {"ignore_eos": True, "stop_token_ids": (token,), "include_stop": include}
    cut = await ask(engine, request(limits=limits))
    assert cut.tokens == whole.tokens[: place + 1]
    assert cut.text == engine.detokenize(cut.tokens if include else cut.tokens[:-1])
    assert (cut.reason, cut.stop) == ("stop", token)


async def test_nothing_stops_before_min_tokens(engine: Engine) -> None:
    whole = await long_answer(engine)
    limits = {"ignore_eos": True, "min_tokens": 12}
    by_token = await ask(
        engine, request(limits={**limits, "stop_token_ids": tuple(whole.tokens[:6])})
    )
    assert by_token.usage.completion_tokens > 12
    by_text = await ask(engine, request(limits={**limits, "stop": (whole.text[:1],)}))
    assert by_text.usage.completion_tokens > 12
    assert by_text.text.startswith(engine.detokenize(whole.tokens[:6]))


async def test_each_of_n_answers_is_whole(engine: Engine) -> None:
    alone = await long_answer(engine)
    together = await ask(engine, request(n=3, limits={"ignore_eos": True}))
    assert [answer.tokens for answer in together.answers] == [alone.tokens] * 3
    assert [answer.text for answer in together.answers] == [alone.text] * 3
    assert together.usage.completion_tokens == 3 * len(alone.tokens)
    assert together.usage.prompt_tokens == alone.usage.prompt_tokens


async def test_echo_puts_the_prompt_first(engine: Engine) -> None:
    prompt = TextPrompt("Once upon a time, ä漢🦫 there")
    plain = await ask(engine, request(prompt=prompt, n=2))
    echoed = await ask(engine, request(prompt=prompt, n=2, echo=True))
    for answer, other in zip(plain.answers, echoed.answers, strict=True):
        assert other.text == prompt.text + answer.text
        assert other.tokens == answer.tokens
    assert (await ask(engine, request(prompt=prompt, echo=True, max_tokens=0))).text == prompt.text
