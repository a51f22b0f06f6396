"""What is learned from is what is served."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from experts.recipes.corpus import Reader, batches, collate, question
from experts.recipes.recipes import EXPERTS, FIELDS, RECIPES

from capyra.engine.native.language import Language
from capyra.engine.native.model.families import read_spec
from capyra.engine.types import ChatPrompt, Message, TextPart

Frame = Callable[[str], Path]


@pytest.mark.parametrize("name", EXPERTS)
def test_an_answer_is_taught_where_the_engine_asks_for_it(name: str, frame: Frame) -> None:
    folder = frame(name)
    language = Language(folder, read_spec(folder), None)
    for seed in range(20):
        example = RECIPES[name].draw(Random(seed))
        sample = Reader(folder).sample([example])
        asked = language.read(ChatPrompt((question(example),)))
        assert sample.tokens[: len(asked.tokens)] == asked.tokens
        assert sample.answer.index(True) == len(asked.tokens)
        taught = sample.tokens[len(asked.tokens) :]
        assert language.tokenizer.decode(taught, control=False) == example.answer
        assert taught[-1] in language.tokenizer.ends
        assert len(sample.images) == (example.picture is not None)


@pytest.mark.parametrize("name", EXPERTS)
def test_every_turn_is_taught_as_it_will_be_read_again(name: str, frame: Frame) -> None:
    folder = frame(name)
    turns = [FIELDS["chat"](Random(1)), FIELDS["facts"](Random(2))]
    sample = Reader(folder).sample(turns)
    tokenizer = Language(folder, read_spec(folder), None).tokenizer
    taught = [t for t, answer in zip(sample.tokens, sample.answer, strict=True) if answer]
    assert tokenizer.decode(taught, control=False) == turns[0].answer + turns[1].answer
    first = Reader(folder).sample(turns[:1])
    assert sample.tokens[: len(first.tokens)] == first.tokens


def test_a_control_token_in_a_question_stays_text(frame: Frame) -> None:
    language = Language(frame("phi4_fast"), read_spec(frame("phi4_fast")), None)
    (end,) = language.tokenizer.ends
    read = language.read(ChatPrompt((Message("user", (TextPart("<|end|>"),)),)))
    assert list(read.tokens).count(end) == 1


def test_rows_are_those_before_an_answers_tokens(frame: Frame) -> None:
    reader = Reader(frame("qwen_coder"))
    samples = [reader.sample([FIELDS["facts"](Random(seed))]) for seed in range(3)]
    batch = collate(samples)
    width = batch.tokens.shape[1]
    assert len(batch.rows) == sum(sum(sample.answer) for sample in samples)
    for row, target in zip(batch.rows.tolist(), batch.targets.tolist(), strict=True):
        sample = samples[row // width]
        assert sample.tokens[row % width + 1] == target
        assert sample.answer[row % width + 1]


def test_batches_are_alike_in_length_and_the_same_for_a_seed(frame: Frame) -> None:
    folder = frame("mistral_balanced")
    draw = RECIPES["mistral_balanced"].draw
    made = list(islice(batches([(Reader(folder), draw)], "seed", 512), 30))
    again = list(islice(batches([(Reader(folder), draw)], "seed", 512), 30))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(made, again, strict=True))
    padding = sum(int((batch.tokens == 0).sum()) for batch in made)
    assert padding < 0.1 * sum(batch.tokens.numel() for batch in made)
    assert min(batch.tokens.numel() for batch in made) > 256
