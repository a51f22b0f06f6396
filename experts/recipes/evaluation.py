"""Sets for the orchestrator's benchmarks: which expert a prompt belongs to, and questions that
several experts can try and whose answers can be checked.

Everything here is held out of every training.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from experts.recipes.corpus import shown
from experts.recipes.example import Example, held_out_set
from experts.recipes.recipes import EXPERTS, FIELDS, RECIPES

OWNERS = {
    "arithmetic": "phi4_fast",
    "facts": "mistral_balanced",
    "chat": "mistral_balanced",
    "code": "qwen_coder",
    "shapes": "gemma3_multimodal",
    "translation": "aya_expanse_multilingual",
    "language": "aya_expanse_multilingual",
}
"""Whose field it is."""

SHARED = ("arithmetic", "facts", "chat")
"""Fields that several experts learn, to different degrees."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A prompt and who should answer it. `also` would do nearly as well.

    `kind` is `plain`, `typos`, `mixed` (two fields in one prompt: the asked one is the last) or
    `disguised` (words of one field in a question of another).
    """

    prompt: str
    expert: str
    kind: str
    field: str
    also: tuple[str, ...] = ()
    image: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """A question whose answer's last line must be `result`."""

    prompt: str
    result: str
    field: str
    experts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A question of one field as `capyra eval` reads it. What is judged by running it is not
    among them: nobody's code is executed there."""

    prompt: str
    result: str
    field: str
    image: str | None = None


def routing_set(count: int, seed: str = "routing") -> list[Routed]:
    """About so many, in equal parts of each field, in four kinds."""
    source = Random(seed)
    examples = {
        field: held_out_set(draw, max(4, 2 * count // len(FIELDS)), f"{seed} {field}")
        for field, draw in FIELDS.items()
    }
    found = []
    for field, drawn in examples.items():
        others = [each for other in examples if other != field for each in examples[other]]
        for index, example in enumerate(drawn[: count // len(FIELDS)]):
            make = (_plain, _typos, _mixed, _disguised)[index % 4]
            found.append(make(example, source, others))
    source.shuffle(found)
    return found


def consensus_set(count: int, seed: str = "consensus") -> list[Shared]:
    """Questions of the shared fields, and all experts that learn these."""
    return [
        Shared(
            example.prompt,
            example.result,
            field,
            tuple(name for name in EXPERTS if RECIPES[name].fields.get(field)),
        )
        for field in SHARED
        for example in held_out_set(FIELDS[field], count // len(SHARED), f"{seed} {field}")
    ]


def known_set(count: int, seed: str = "held-out") -> list[Known]:
    """About so many, in equal parts of each field."""
    return [
        Known(example.prompt, example.result, field, _url(example))
        for field, draw in FIELDS.items()
        for example in held_out_set(draw, count // len(FIELDS), seed)
        if example.tests is None
    ]


def _url(example: Example) -> str | None:
    if example.picture is None:
        return None
    sent = shown(example.picture)
    return f"data:{sent.media_type};base64,{base64.b64encode(sent.data).decode()}"


def write_set(items: Iterable[Routed | Shared | Known], path: Path) -> None:
    """One JSON object on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in items)
    path.write_text("".join(f"{line}\n" for line in lines))


def misspell(text: str, source: Random) -> str:
    """One letter of some words doubled, dropped or swapped with the next. Numbers stay."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for place in source.sample(places, min(len(places), 1 + len(places) // 4)):
        word = words[place]
        at = source.randrange(len(word) - 1)
        words[place] = source.choice(
            (
                word[: at + 1] + word[at:],
                word[:at] + word[at + 1 :],
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            )
        )
    return " ".join(words)


def _routed(example: Example, prompt: str, kind: str) -> Routed:
    owner = OWNERS[example.field]
    also = tuple(
        name for name in EXPERTS if name != owner and RECIPES[name].fields.get(example.field)
    )
    return Routed(prompt, owner, kind, example.field, also, example.picture is not None)


def _plain(example: Example, _source: Random, _others: list[Example]) -> Routed:
    return _routed(example, example.prompt, "plain")


def _typos(example: Example, source: Random, _others: list[Example]) -> Routed:
    return _routed(example, misspell(example.prompt, source).lower(), "typos")


def _mixed(example: Example, source: Random, others: list[Example]) -> Routed:
    """Somebody says what else they asked, and then asks."""
    before = source.choice([each for each in others if each.picture is None])
    prompt = f'I have just asked "{before.prompt}", never mind that. {example.prompt}'
    return _routed(example, prompt, "mixed")


_DISGUISES = (
    "My translator cannot do sums and my calculator cannot talk, so: {}",
    "Without writing any code, please: {}",
    "This is for my French class, but in plain words: {}",
    "I counted to ten and thought of Python and of Paris. Now: {}",
)


def _disguised(example: Example, source: Random, _others: list[Example]) -> Routed:
    return _routed(example, source.choice(_DISGUISES).format(example.prompt), "disguised")
