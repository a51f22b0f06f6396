"""What becomes of vLLM's pieces, without vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from capyra.engine.errors import EngineFault, InvalidValue
from capyra.engine.types import (
    Delta,
    Done,
    Event,
    Finished,
    OutputFormat,
    Prefilled,
    Score,
    Started,
)
from capyra.engine.vllm import sampling
from capyra.engine.vllm.calls import Piece
from capyra.engine.vllm.driver import Tally
from capyra.engine.vllm.generation import Generation
from capyra.engine.vllm.language import Language
from capyra.engine.vllm.reading import Scoring, Warming
from capyra.engine.vllm.work import Work
from engines import request
from tiny import END, VOCABULARY, tiny_model

PROMPT = (1, 2, 3)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return Language(tiny_model(tmp_path_factory.mktemp("model")), VOCABULARY, None, None)


def generation(language: Language, *, limit: int = 8, **fields: Any) -> Generation:
    wanted = fields.pop("format", OutputFormat())
    asked = request(**fields)
    return Generation(asked, PROMPT, language, limit=limit, shape=wanted)


async def events(work: Work) -> list[Event]:
    """All that came of work that is over."""
    assert work.over
    handover = work.outlet.handover()
    assert handover is not None
    handover()
    return [item async for item in work.outlet.reader]


def text(found: list[Event]) -> str:
    return "".join(event.text for event in found if isinstance(event, Delta))


def letters(language: Language, word: str) -> tuple[int, ...]:
    return tuple(language.tokenizer.encode(word))


async def test_an_answer_from_its_first_piece_to_its_last(language: Language) -> None:
    work, tally = generation(language), Tally()
    (call,) = work.calls()
    assert (call.tokens, call.sampling["max_tokens"]) == (PROMPT, 8)
    tally.take(work, Piece(call=call.id, tokens=letters(language, "a"), cached=2))
    tally.take(work, Piece(call=call.id, tokens=(*letters(language, "b"), END), finished="stop"))
    found = await events(work)
    assert found[0] == Started(3, 2)
    assert text(found) == "ab"
    assert found[-2] == Finished(0, "stop")
    assert isinstance(found[-1], Done)
    assert (found[-1].usage.prompt_tokens, found[-1].usage.completion_tokens) == (3, 3)
    assert (tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens) == (3, 2, 3)


async def test_a_stop_string_ends_the_call_and_what_came_after_is_nobodys(
    language: Language,
) -> None:
    work = generation(language, limits={"stop": ("lo",)})
    work.take(Piece(call="r/0", tokens=letters(language, "hello there")))
    assert work.ended == ["r/0"]
    found = await events(work)
    assert text(found) == "hel"
    assert work.completion_tokens == 5


async def test_nobody_starts_before_the_first(language: Language) -> None:
    work = generation(language, n=2, limit=1)
    work.take(Piece(call="r/1", tokens=letters(language, "b"), finished="length", cached=3))
    assert work.outlet.handover() is None
    work.take(Piece(call="r/0", tokens=letters(language, "a"), finished="length", cached=1))
    found = await events(work)
    assert found[0] == Started(3, 1)
    assert [event.index for event in found if isinstance(event, Finished)] == [0, 1]


async def test_no_tokens_at_all(language: Language) -> None:
    work = generation(language, limit=0)
    assert work.calls()[0].sampling["max_tokens"] == 1
    work.take(Piece(call="r/0", tokens=letters(language, "a")))
    assert work.ended
    found = await events(work)
    assert (text(found), work.completion_tokens) == ("", 0)


async def test_cancelled_before_and_after_the_first_token(language: Language) -> None:
    for pieces in (0, 1):
        work = generation(language)
        for _ in range(pieces):
            work.take(Piece(call="r/0", tokens=letters(language, "a")))
        work.cancel()
        found = await events(work)
        assert sum(isinstance(event, Started) for event in found) == pieces
        assert found[-2] == Finished(0, "cancelled")


@pytest.mark.parametrize(("kind", "error"), [("text", EngineFault), ("regex", InvalidValue)])
async def test_what_vllm_gives_up(language: Language, kind: Any, error: type[Exception]) -> None:
    work = generation(language, format=OutputFormat(kind, "a"))
    work.take(Piece(call="r/0", finished="error"))
    with pytest.raises(error):
        await events(work)


def test_all_ends_are_stops_unless_nobody_wants_them(language: Language) -> None:
    def stops(shape: OutputFormat, **limits: Any) -> list[int]:
        asked = request(limits={"stop_token_ids": (7,), **limits})
        found = sampling.answer(asked, 0, limit=8, ends=language.ends, shape=shape)
        assert found["ignore_eos"] is True
        stops: list[int] = found["stop_token_ids"]
        return stops

    assert stops(OutputFormat()) == [7, END]
    assert stops(OutputFormat(), ignore_eos=True) == [7]
    assert stops(OutputFormat("regex", "a"), ignore_eos=True) == [7, END]


def test_seeds_are_seeds_for_vllm_too() -> None:
    found = {sampling.seed(seed, index) for seed in (-1, 0, 1, 2**63 - 1) for index in range(4)}
    assert len(found) == 16
    assert all(0 <= seed < 2**63 for seed in found)


def ranked(*tokens: int) -> Any:
    return tuple({token: (-float(token), 1)} for token in tokens)


async def test_scores_are_in_the_order_asked_each_computed_once() -> None:
    work = Scoring("s", (1, 2), [(5, 6), (), (5, 6), (7,)], "salt")
    first, second = work.calls()
    assert (first.tokens, second.tokens, first.salt) == ((1, 2, 5, 6), (1, 2, 7), "salt")
    work.take(Piece(call=second.id, prompt_logprobs=(None, *ranked(2, 7))))
    assert not work.over
    work.take(Piece(call=first.id, prompt_logprobs=(None, *ranked(2, 5, 6)), cached=1))
    (scores,) = await events(work)
    both = Score(-11.0, (-5.0, -6.0))
    assert scores == [both, Score(0.0, ()), both, Score(-7.0, (-7.0,))]


async def test_a_continuation_that_was_cached_is_computed_again() -> None:
    work = Scoring("s", (1, 2), [(5,)], "")
    (call,) = work.calls()
    assert call.sampling["skip_reading_prefix_cache"] is False
    work.take(Piece(call=call.id, prompt_logprobs=(None, *ranked(2, 5)), cached=2))
    (again,) = work.again
    assert again.sampling["skip_reading_prefix_cache"] is True
    work.take(Piece(call=again.id, prompt_logprobs=(None, *ranked(2, 5))))
    assert await events(work) == [[Score(-5.0, (-5.0,))]]


async def test_a_prefix_counts_by_whole_blocks() -> None:
    work = Warming("p", range(70), block=32, ttl_s=9, salt="")
    (call,) = work.calls()
    assert call.priority > 10**6, "behind everybody"
    work.take(Piece(call=call.id, tokens=(1,), cached=32, finished="length"))
    assert await events(work) == [Prefilled(64, 32, 9)]
