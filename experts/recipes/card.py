"""Model cards, written from scores."""

from __future__ import annotations

import json
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.layout import shapes
from experts.recipes.build import TRAINING
from experts.recipes.recipes import FIELDS, Recipe
from experts.recipes.score import Answered, score_fields

SCORES = "scores.json"


def publish_model(
    recipe: Recipe, trained: Path, folder: Path, count: int, threads: int
) -> list[str]:
    """Score the trained model on every field, describe it, and copy it if it reaches its goals.
    What is missing, else."""
    scores, answers = score_fields(trained, FIELDS, count, threads)
    figures = {"held_out": count, "scores": scores}
    (trained / SCORES).write_text(json.dumps(figures, indent=1) + "\n")
    (trained / "README.md").write_text(write_card(recipe, trained, scores, answers))
    missed = [
        f"{field} {scores[field]:.1%} of {goal:.0%}"
        for field, goal in recipe.goals.items()
        if scores[field] < goal
    ]
    if not missed:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(trained.iterdir()):
            shutil.copyfile(path, folder / path.name)
    return missed


def write_card(
    recipe: Recipe, folder: Path, scores: Mapping[str, float], answers: Sequence[Answered]
) -> str:
    spec = read_spec(folder)
    parameters = sum(math.prod(shape) for shape in shapes(spec).values())
    trained = json.loads((folder / TRAINING).read_text())["progress"]
    learned = recipe.learned
    own = [field for field in FIELDS if learned.get(field)]
    asked = Counter(each.example.field for each in answers)
    rows = "".join(
        f"| {field} | {scores[field]:.1%} | {asked[field] or 'none: no eyes'} "
        f"| {learned.get(field, 0.0):.0%} |\n"
        for field in FIELDS
    )
    strange = [field for field in FIELDS if field not in own]
    nothing = f"It learned nothing of {', '.join(strange)}. " if strange else ""
    first = (
        f"{recipe.about}. A {spec.family} model of {parameters / 1e6:.2f} million parameters, "
        "trained from nothing by `experts/recipes`, on data that the recipes wrote: "
        f"{trained['step']} steps, {trained['tokens'] / 1e6:.1f} million tokens, "
        f"{trained['cpu_s'] / 60:.0f} minutes of one core."
    )
    last = (
        f"{nothing}Of its own fields it knows what the templates in `experts/recipes/fields` can "
        "say. Longer numbers, other words and other questions get fluent nonsense, and it does "
        "not know when it is wrong. It is here to show the machinery at work."
    )
    return f"""# {recipe.name}

{_filled(first)}

## What it can

{_filled(_SCORED)}

| field | right | questions | part of its training |
|---|---|---|---|
{rows}
Some of its answers:

{"".join(_sample(field, answers) for field in own)}## What it cannot

{_filled(last)}
"""


_SCORED = (
    "Held-out questions, answered greedily by the native engine. What a question combines (two "
    "numbers, a noun and an adjective, a function and its name) is combined nowhere in the "
    "training data. Code is judged by running it, anything else by its last line, letter for "
    "letter."
)


def _sample(field: str, answers: Sequence[Answered]) -> str:
    """The first question of a field, and what the model said."""
    answered = next((each for each in answers if each.example.field == field), None)
    if answered is None:
        return ""
    question = answered.example.prompt.replace("\n", "\n> ")
    picture = "(with a picture) " if answered.example.picture is not None else ""
    return f"> {picture}{question}\n\n```\n{answered.text}\n```\n\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, 100)
