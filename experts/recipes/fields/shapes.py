"""Pictures of coloured shapes: what, how many, where, which colour."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from experts.recipes.example import Example, Picture
from experts.recipes.models import IMAGE_SIDE

FIELD = "shapes"

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "yellow": (235, 200, 20),
    "purple": (140, 40, 160),
    "black": (20, 20, 20),
}
PLACES = (
    "at the top left",
    "at the top",
    "at the top right",
    "at the left",
    "in the middle",
    "at the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
)
_GROUNDS = ((255, 255, 255), (235, 235, 235), (250, 245, 225))
_CELL = IMAGE_SIDE // 3


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    place: int
    shape: str
    colour: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


Scene = tuple[Thing, ...]
"""In reading order, each in a place of its own."""


def draw(source: Random) -> Example:
    scene = compose(source)
    prompt, answer = source.choice(_QUESTIONS)(scene, source)
    return Example(FIELD, key_of(scene), prompt, answer, picture=paint(scene, source))


def key_of(scene: Scene) -> str:
    return f"{FIELD} {'; '.join(f'{thing.place} {thing.name}' for thing in scene)}"


def compose(source: Random) -> Scene:
    places = source.sample(range(9), source.choices((1, 2, 3, 4), (2, 3, 3, 2))[0])
    colours = tuple(COLOURS)
    return tuple(
        Thing(place, source.choice(SHAPES), source.choice(colours)) for place in sorted(places)
    )


def paint(scene: Scene, source: Random) -> Picture:
    """Sizes, places within their cells, background and noise differ from picture to picture."""
    picture = np.empty((IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.float32)
    picture[:] = source.choice(_GROUNDS)
    across = np.arange(IMAGE_SIDE, dtype=np.float32) + 0.5
    for thing in scene:
        radius = source.uniform(5.0, 7.0)
        row, column = divmod(thing.place, 3)
        slack = _CELL / 2 - radius
        y = across[:, None] - (row + 0.5) * _CELL - source.uniform(-slack, slack)
        x = across[None, :] - (column + 0.5) * _CELL - source.uniform(-slack, slack)
        picture[_inside(thing.shape, x, y, radius)] = COLOURS[thing.colour]
    noise = np.random.default_rng(source.getrandbits(32)).normal(0, 4, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def _inside(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    if shape == "square":
        inside = (abs(x) < 0.85 * radius) & (abs(y) < 0.85 * radius)
    elif shape == "triangle":
        inside = (y < 0.8 * radius) & (y > 2 * abs(x) - radius)
    elif shape == "cross":
        thin, long = 0.3 * radius, radius
        inside = ((abs(x) < thin) & (abs(y) < long)) | ((abs(y) < thin) & (abs(x) < long))
    else:
        distance = x * x + y * y
        inside = distance < radius**2
        if shape == "ring":
            inside &= distance > (0.55 * radius) ** 2
    return inside


def _list(scene: Scene, source: Random) -> tuple[str, str]:
    prompt = source.choice(
        ("What is in the picture?", "Describe the image.", "What do you see?", "List all shapes.")
    )
    parts = [f"a {thing.name} {PLACES[thing.place]}" for thing in scene]
    return prompt, f"I see {', '.join(parts)}."


def _count(scene: Scene, source: Random) -> tuple[str, str]:
    prompt = source.choice(
        ("How many shapes are there?", "Count the shapes.", "How many things do you see?")
    )
    return prompt, f"{_number(len(scene), 'shape')}."


def _count_some(scene: Scene, source: Random) -> tuple[str, str]:
    """Of one shape or of one colour, most often one that is there."""
    like = source.choice(scene)
    if source.random() < 0.5:
        shape = like.shape if source.random() < 0.7 else source.choice(SHAPES)
        what, count = shape, sum(thing.shape == shape for thing in scene)
        many = f"{shape}es" if shape == "cross" else f"{shape}s"
    else:
        colour = like.colour if source.random() < 0.7 else source.choice(tuple(COLOURS))
        what, count = f"{colour} shape", sum(thing.colour == colour for thing in scene)
        many = f"{what}s"
    prompt = source.choice(("How many {many} are there?", "Count the {many}.")).format(many=many)
    return prompt, f"{_number(count, what)}."


def _where(scene: Scene, source: Random) -> tuple[str, str]:
    thing = source.choice(scene)
    same = [each for each in scene if each.name == thing.name]
    prompt = source.choice(
        ("Where is the {name}?", "In which place is the {name}?", "Find the {name}.")
    )
    where = " and ".join(PLACES[each.place] for each in same)
    return prompt.format(name=thing.name), f"{where[0].upper()}{where[1:]}."


def _what(scene: Scene, source: Random) -> tuple[str, str]:
    place = source.choice(scene).place if source.random() < 0.8 else source.randrange(9)
    found = [thing for thing in scene if thing.place == place]
    prompt = source.choice(("What is {place}?", "Which shape is {place}?"))
    return prompt.format(place=PLACES[place]), f"A {found[0].name}." if found else "Nothing."


def _colour(scene: Scene, source: Random) -> tuple[str, str]:
    thing = source.choice(scene)
    colours = dict.fromkeys(each.colour for each in scene if each.shape == thing.shape)
    prompt = source.choice(("What colour is the {shape}?", "Which colour has the {shape}?"))
    answer = " and ".join(colours)
    return prompt.format(shape=thing.shape), f"{answer[0].upper()}{answer[1:]}."


def _exists(scene: Scene, source: Random) -> tuple[str, str]:
    if source.random() < 0.5:
        name = source.choice(scene).name
    else:
        name = f"{source.choice(tuple(COLOURS))} {source.choice(scene).shape}"
    prompt = source.choice(("Is there a {name}?", "Do you see a {name}?"))
    return prompt.format(name=name), "Yes." if any(t.name == name for t in scene) else "No."


def _number(count: int, what: str) -> str:
    if count == 1:
        return f"There is 1 {what}"
    plural = f"{what}es" if what == "cross" else f"{what}s"
    return f"There are {count or 'no'} {plural}"


_QUESTIONS = (_list, _list, _count, _count_some, _count_some, _where, _what, _colour, _exists)
