"""What a field is made of: examples, and the split that keeps some of them unseen."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""`[side, side, 3]`."""


@dataclass(frozen=True, slots=True)
class Example:
    """One turn: what is asked, what is taught to be answered, and what is judged.

    `key` is the composition (these numbers, this noun with that adjective): examples of one key
    are all in training or all held out, whatever words they come in. An answer's last line is its
    result; the lines above it are the work that leads there. What has no parts has an empty key: it
    is taught whole, and never held out.
    """

    field: str
    key: str
    prompt: str
    answer: str
    picture: Picture | None = None
    tests: str | None = None
    """Python that an answer is run with: it raises if the answer is wrong."""

    @property
    def result(self) -> str:
        return last_line(self.answer)


Draw = Callable[[random.Random], Example]
"""One random example of a field. All that it does follows from the generator it is given."""

HELD_OUT_PART = 16
"""One composition in so many is never trained on."""


def held_out(key: str) -> bool:
    if not key:
        return False
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT_PART == 0


def stream(draw: Draw, seed: str, *, held: bool) -> Iterator[Example]:
    """Examples without end, all from one side of the split."""
    source = random.Random(seed)
    while True:
        example = draw(source)
        if held_out(example.key) == held:
            yield example


def held_out_set(draw: Draw, count: int, seed: str = "held-out") -> list[Example]:
    """So many different held-out examples, or as many as are found."""
    found: dict[tuple[str, str], Example] = {}
    for tried, example in enumerate(stream(draw, seed, held=True)):
        found.setdefault((example.key, example.prompt), example)
        if len(found) == count or tried > 20 * count:
            break
    return list(found.values())


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()


def mixed(*parts: tuple[float, Draw]) -> Draw:
    """Draws from one of these, by weight."""
    weights = [weight for weight, _ in parts]
    draws = [draw for _, draw in parts]

    def draw(source: random.Random) -> Example:
        return source.choices(draws, weights)[0](source)

    return draw


def words(text: str) -> tuple[str, ...]:
    """A list of words that reads as one."""
    return tuple(text.split())
