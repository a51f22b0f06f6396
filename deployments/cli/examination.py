"""Questions with known answers, asked and marked."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capyra.deployments.cli.chat import image_url
from capyra.deployments.cli.client import Client, Text
from capyra.engine.errors import CapyraError, InvalidValue


@dataclass(frozen=True, slots=True)
class Question:
    prompt: str
    result: str
    field: str = ""
    image: str | None = None
    """As a request carries it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """One answer. `first_token_s` is None where none came; `failure` tells why."""

    question: Question
    text: str
    right: bool
    answer_s: float
    first_token_s: float | None = None
    failure: str | None = None

    def record(self) -> dict[str, Any]:
        return {
            "prompt": self.question.prompt,
            "result": self.question.result,
            "field": self.question.field,
            "answer": self.text,
            "right": self.right,
            "failure": self.failure,
            "first_token_s": self.first_token_s,
            "answer_s": self.answer_s,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """What a model's answers come to. `fields` holds right answers, and all."""

    fields: dict[str, tuple[int, int]]
    right: int
    asked: int
    failed: int
    first_token_s: float
    answer_s: float

    def report(self) -> dict[str, Any]:
        return {
            "right": self.right,
            "asked": self.asked,
            "failed": self.failed,
            "fields": {
                field: {"right": right, "asked": asked}
                for field, (right, asked) in self.fields.items()
            },
            "first_token_p50_s": self.first_token_s,
            "answer_p50_s": self.answer_s,
        }


class Examination:
    """The same questions for every model, so many at once."""

    def __init__(
        self, questions: Sequence[Question], check: str, concurrency: int, max_tokens: int
    ) -> None:
        self._questions = questions
        self._check = check
        self._concurrency = concurrency
        self._max_tokens = max_tokens

    def take(self, client: Client, model: str, watch: Callable[[], None]) -> list[Marked]:
        """All answers of a model, in the order of the questions."""

        def one(question: Question) -> Marked:
            marked = self._ask(client, model, question)
            watch()
            return marked

        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                return list(pool.map(one, self._questions))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, client: Client, model: str, question: Question) -> Marked:
        began = time.monotonic()
        first, text, failure = None, "", None
        try:
            for event in client.chat(self._body(model, question)):
                if isinstance(event, Text) and not event.thinking:
                    first = first or time.monotonic() - began
                    text += event.text
        except CapyraError as error:
            failure = str(error)
        right = failure is None and is_right(text, question.result, self._check)
        return Marked(question, text, right, time.monotonic() - began, first, failure)

    def _body(self, model: str, question: Question) -> dict[str, Any]:
        content: Any = question.prompt
        if question.image is not None:
            content = [
                {"type": "image_url", "image_url": {"url": question.image}},
                {"type": "text", "text": question.prompt},
            ]
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }


def is_right(text: str, result: str, check: str) -> bool:
    """`last-line`: the work may stand above the result. `whole`, `contains`: as they say."""
    said = text.strip()
    if check == "contains":
        return result in said
    return result == (said.rpartition("\n")[2].strip() if check == "last-line" else said)


def tally(marked: Iterable[Marked]) -> Tally:
    answers = list(marked)
    fields: dict[str, tuple[int, int]] = {}
    for each in answers:
        right, asked = fields.get(each.question.field, (0, 0))
        fields[each.question.field] = (right + each.right, asked + 1)
    firsts = [each.first_token_s for each in answers if each.first_token_s is not None]
    times = [each.answer_s for each in answers if each.failure is None]
    return Tally(
        fields,
        sum(each.right for each in answers),
        len(answers),
        sum(each.failure is not None for each in answers),
        statistics.median(firsts) if firsts else 0.0,
        statistics.median(times) if times else 0.0,
    )


def read_questions(path: Path) -> list[Question]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"cannot read the questions in {path}: {error}") from error
    found = [
        _question(line, f"{path}:{number}", path.parent)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise InvalidValue(f"{path} has no questions: write one JSON object on each line")
    return found


def _question(line: str, place: str, folder: Path) -> Question:
    try:
        told = json.loads(line)
    except ValueError as error:
        raise InvalidValue(f"{place}: this is no JSON object ({error})") from error
    if not isinstance(told, dict):
        raise InvalidValue(f"{place}: this is no JSON object")
    for name in ("prompt", "result"):
        if not isinstance(told.get(name), str) or not told[name]:
            raise InvalidValue(f"{place}: a question needs a {name}, which is a text")
    image = told.get("image")
    if image is not None and not isinstance(image, str):
        raise InvalidValue(f"{place}: an image is a file or a data URL")
    if image is not None and not image.startswith("data:"):
        image = image_url(folder / image)
    return Question(told["prompt"], told["result"], str(told.get("field") or ""), image)
