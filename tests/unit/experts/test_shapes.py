"""Pictures show what is said about them."""

from __future__ import annotations

from random import Random

import numpy as np
from experts.recipes.fields.shapes import COLOURS, PLACES, SHAPES, Thing, compose, draw, paint


def nearest(pixel: np.ndarray) -> str:
    distances = {
        name: float(np.square(pixel.astype(float) - colour).sum())
        for name, colour in COLOURS.items()
    }
    return min(distances, key=lambda name: distances[name])


def test_a_thing_is_painted_in_its_place_and_colour() -> None:
    for index, shape in enumerate(SHAPES):
        for place in range(9):
            thing = Thing(place, shape, list(COLOURS)[(index + place) % len(COLOURS)])
            picture = paint((thing,), Random(place))
            row, column = divmod(place, 3)
            ground = np.median(picture.reshape(-1, 3), axis=0)
            changed = np.abs(picture - ground).sum(-1) > 60
            inside = np.zeros_like(changed)
            inside[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = True
            assert changed[inside].sum() > 20
            assert not changed[~inside].any()
            assert nearest(np.median(picture[changed], axis=0)) == thing.colour


def test_shapes_differ_by_more_than_noise() -> None:
    masks = []
    for shape in SHAPES:
        picture = paint((Thing(4, shape, "black"),), Random(5))
        masks.append(picture.mean(-1) < 128)
    for first in range(len(masks)):
        for second in range(first):
            assert (masks[first] ^ masks[second]).sum() > 15


def test_a_scene_has_one_thing_in_a_place() -> None:
    for seed in range(100):
        scene = compose(Random(seed))
        assert len({thing.place for thing in scene}) == len(scene)
        assert scene == tuple(sorted(scene))


def test_counts_places_and_lists_agree_with_the_scene() -> None:
    for seed in range(300):
        example = draw(Random(seed))
        things = example.key.removeprefix("shapes ").split("; ")
        if example.prompt.startswith(("What is in the p", "Describe", "What do", "List")):
            for thing in things:
                place, name = thing.split(" ", 1)
                assert f"a {name} {PLACES[int(place)]}" in example.answer
        if example.prompt in ("Count the shapes.", "How many shapes are there?"):
            assert f" {len(things)} " in example.answer
