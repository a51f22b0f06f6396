"""Scores: held-out examples, answered greedily by the engine that serves the expert."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig, Queue, Resources
from capyra.engine.native.engine import create
from capyra.engine.registry import EngineSpec
from capyra.engine.types import ChatPrompt, Delta, GenerateRequest, Limits, Sampling
from experts.recipes.corpus import question
from experts.recipes.example import Example, held_out_set, last_line
from experts.recipes.recipes import FIELDS
from experts.recipes.sandbox import passes

AT_ONCE = 16
_MOST_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Answered:
    example: Example
    text: str

    @property
    def right(self) -> bool:
        return is_right(self.example, self.text)


def is_right(example: Example, text: str) -> bool:
    """Code by running it; anything else by its result, the last line, letter for letter."""
    if example.tests is not None:
        return passes(text, example.tests)
    return last_line(text) == example.result


def ask(model: Path, examples: Sequence[Example], threads: int = 1) -> list[Answered]:
    """The answers of the model in that directory, through the native engine."""
    return asyncio.run(_ask(model, examples, threads))


def score_fields(
    model: Path, fields: Iterable[str], count: int, threads: int = 1
) -> tuple[dict[str, float], list[Answered]]:
    """For each field the part of so many held-out examples answered rightly; and all answers.
    Without eyes every picture is a question not answered."""
    sees = "vision_config" in (model / "config.json").read_text()
    scores: dict[str, float] = {}
    answers: list[Answered] = []
    for field in fields:
        examples = held_out_set(FIELDS[field], count)
        if not sees and any(example.picture is not None for example in examples):
            scores[field] = 0.0
            continue
        answered = ask(model, examples, threads)
        scores[field] = sum(each.right for each in answered) / len(answered)
        answers += answered
    return scores, answers


def by_kind(answers: Iterable[Answered]) -> Mapping[str, tuple[int, int]]:
    """Right answers and all of them, by the kind of example: the second word of its key."""
    all_, right = Counter[str](), Counter[str]()
    for each in answers:
        kind = " ".join(each.example.key.split()[:2])
        all_[kind] += 1
        right[kind] += each.right
    return {kind: (right[kind], count) for kind, count in sorted(all_.items())}


async def _ask(model: Path, examples: Sequence[Example], threads: int) -> list[Answered]:
    config = ExpertConfig(
        engine="native",
        resources=Resources(threads=threads),
        queue=Queue(running=AT_ONCE, waiting=AT_ONCE),
    )
    engine = create(EngineSpec(model.name, config, model))
    turns = asyncio.Semaphore(AT_ONCE)
    try:
        await engine.load(lambda _progress: None)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_answer(engine, turns, str(index), example))
                for index, example in enumerate(examples)
            ]
        return [task.result() for task in tasks]
    finally:
        await engine.close()


async def _answer(
    engine: Engine, turns: asyncio.Semaphore, name: str, example: Example
) -> Answered:
    request = GenerateRequest(
        id=name,
        prompt=ChatPrompt((question(example),)),
        sampling=Sampling(temperature=0.0),
        limits=Limits(max_tokens=_MOST_TOKENS),
    )
    async with turns:
        text = "".join(
            [event.text async for event in engine.generate(request) if isinstance(event, Delta)]
        )
    return Answered(example, text)
