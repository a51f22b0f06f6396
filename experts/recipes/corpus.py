"""From examples to batches: conversations as the engine itself would read them, of like length,
with the rows marked whose next token is an answer's."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from capyra.engine.native.language import Language
from capyra.engine.native.model.families import read_spec
from capyra.engine.types import ChatPrompt, ImagePart, Message, TextPart
from experts.recipes.example import Draw, Example, Picture, stream

SECOND_TURN = 0.1
"""Part of the conversations that go on for another turn."""
_POOL = 24
"""Batches that are put together at once, so that each holds conversations of one length."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation's tokens; `answer[i]` says whether token i is the assistant's own."""

    tokens: list[int]
    answer: list[bool]
    images: list[tuple[int, Tensor]]
    """First row and pixels."""


@dataclass(frozen=True, slots=True)
class Batch:
    tokens: Tensor
    """`[conversations, rows]`, padded at the end."""
    rows: Tensor
    """Which of all rows are followed by a token of an answer."""
    targets: Tensor
    images: list[list[tuple[int, Tensor]]]


class Reader:
    """Conversations as one model's files say, through the code that serves it."""

    def __init__(self, directory: Path) -> None:
        self._language = Language(directory, read_spec(directory), None)
        (self._end,) = self._language.tokenizer.ends

    def sample(self, turns: Sequence[Example]) -> Sample:
        messages: list[Message] = []
        tokens: list[int] = []
        answer: list[bool] = []
        images: list[tuple[int, Tensor]] = []
        for turn in turns:
            messages.append(question(turn))
            read = self._language.read(ChatPrompt(tuple(messages)))
            # What was taught so far is the beginning of what is read now.
            answer += [False] * (len(read.tokens) - len(answer))
            taught = [*self._language.tokenizer.encode(turn.answer), self._end]
            tokens = [*read.tokens, *taught]
            answer += [True] * len(taught)
            images = sorted((read.images or {}).items())
            messages.append(Message("assistant", (TextPart(turn.answer),)))
        return Sample(tokens, answer, images)


def question(example: Example) -> Message:
    text = TextPart(example.prompt)
    if example.picture is None:
        return Message("user", (text,))
    return Message("user", (shown(example.picture), text))


def shown(picture: Picture) -> ImagePart:
    """As a client would send it."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return ImagePart(data.getvalue(), "image/png")


def batches(sources: Sequence[tuple[Reader, Draw]], seed: str, tokens: int) -> Iterator[Batch]:
    """Training batches of about so many tokens each, without end, from all sources alike. Nothing
    in them is held out."""
    source = random.Random(f"{seed} order")
    streams = [
        (reader, stream(draw, f"{seed} {index}", held=False))
        for index, (reader, draw) in enumerate(sources)
    ]
    while True:
        samples: list[Sample] = []
        filled = 0
        while filled < _POOL * tokens:
            reader, examples = source.choice(streams)
            turns = [next(examples)]
            if source.random() < SECOND_TURN:
                turns.append(next(examples))
            samples.append(reader.sample(turns))
            filled += len(samples[-1].tokens)
        samples.sort(key=lambda sample: len(sample.tokens))
        pool = list(_cut(samples, tokens))
        source.shuffle(pool)
        yield from map(collate, pool)


def _cut(samples: Sequence[Sample], tokens: int) -> Iterator[list[Sample]]:
    """Neighbours in length, in batches of about equal numbers of tokens. No batch is a leftover:
    a step on few tokens would be as long as any other, and lead anywhere."""
    total = sum(len(sample.tokens) for sample in samples)
    share = total / max(1, round(total / tokens))
    batch: list[Sample] = []
    passed, border = 0, share
    for sample in samples:
        batch.append(sample)
        passed += len(sample.tokens)
        if passed >= border:
            yield batch
            batch = []
            border += share
    if batch:
        yield batch


def collate(samples: Sequence[Sample]) -> Batch:
    rows = max(len(sample.tokens) for sample in samples)
    tokens = torch.zeros(len(samples), rows, dtype=torch.long)
    taught = torch.zeros(len(samples), rows, dtype=torch.bool)
    for index, sample in enumerate(samples):
        tokens[index, : len(sample.tokens)] = torch.tensor(sample.tokens)
        taught[index, : len(sample.tokens)] = torch.tensor(sample.answer)
    ahead = taught.roll(-1, 1)
    ahead[:, -1] = False
    places = ahead.flatten().nonzero().squeeze(1)
    targets = tokens.roll(-1, 1).flatten()[places]
    return Batch(tokens, places, targets, [sample.images for sample in samples])
