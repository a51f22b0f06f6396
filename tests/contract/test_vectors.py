"""Embeddings: the same for the same, in order, and of use."""

from __future__ import annotations

import math

import pytest

from capyra.engine.base import Engine
from capyra.engine.errors import ContextTooLong
from capyra.engine.types import EmbedRequest, TextPrompt, TokenPrompt
from engines import PROMPT

TEXTS = ("", "a", PROMPT, "ä漢🦫", PROMPT + " Indeed.", "Something else entirely: 12345!")


@pytest.fixture(autouse=True)
def _offered(engine: Engine) -> None:
    if not engine.capabilities().embeddings:
        pytest.skip("the engine makes no embeddings")


def wanted(*texts: str, normalize: bool = True) -> EmbedRequest:
    return EmbedRequest(id="e", inputs=tuple(map(TextPrompt, texts)), normalize=normalize)


async def test_each_input_has_its_vector_in_order(engine: Engine) -> None:
    together = await engine.embed(wanted(*TEXTS))
    assert len(together.vectors) == len(TEXTS)
    assert len({len(vector) for vector in together.vectors}) == 1
    for text, vector in zip(TEXTS, together.vectors, strict=True):
        alone = await engine.embed(wanted(text))
        assert alone.vectors[0] == pytest.approx(vector, abs=1e-5)
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-3)
    assert len({tuple(round(x, 4) for x in vector) for vector in together.vectors}) == len(TEXTS)


async def test_tokens_are_counted_and_may_be_sent(engine: Engine) -> None:
    text = await engine.embed(wanted(PROMPT, PROMPT))
    once = await engine.embed(wanted(PROMPT))
    assert text.prompt_tokens == 2 * once.prompt_tokens > 0
    tokens = TokenPrompt(tuple(engine.tokenize(PROMPT)))
    assert len((await engine.embed(EmbedRequest(id="e", inputs=(tokens,)))).vectors) == 1


async def test_nothing_to_embed(engine: Engine) -> None:
    nothing = await engine.embed(EmbedRequest(id="e", inputs=()))
    assert (nothing.vectors, nothing.prompt_tokens) == ((), 0)


async def test_without_normalising_the_direction_is_the_same(engine: Engine) -> None:
    (unit,) = (await engine.embed(wanted(PROMPT))).vectors
    (plain,) = (await engine.embed(wanted(PROMPT, normalize=False))).vectors
    length = math.hypot(*plain)
    assert [value / length for value in plain] == pytest.approx(unit, abs=1e-4)


async def test_an_input_longer_than_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(ContextTooLong):
        await engine.embed(wanted("word " * engine.capabilities().context))
