"""The echo model: a tiny language model whose likeliest answer is the last thing it was told.

It is a function of the tokens before, as every language model is. After the mark that opens an
answer it expects, byte by byte, what the last user (or tool) said, then the end. The expected
token has a logit of 10, the other case of an expected letter 5, everything else -50; where the
end is expected, beginning again has -10. Outside of answers it expects nothing: every token is
as likely as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from capyra.engine.echo.vocabulary import ASSISTANT, BEGIN, END, SIZE, TOOL, USER

Floats = NDArray[np.float64]
Place = tuple[int, int] | None
"""What decides a distribution: the expected token, and what comes instead of an end that is
barred. None where nothing is expected."""

EXPECTED, SWAPPED, AGAIN, OTHER = 10.0, 5.0, -10.0, -50.0
_FILLER = ord("\n")
"""What an answer to nothing consists of, if it may not end."""


class Echo:
    """One answer being written: what it repeats, and how far it is."""

    __slots__ = ("place", "source")

    def __init__(self, source: bytes, place: int = 0) -> None:
        self.source = source
        self.place = min(place, len(source))

    @property
    def expects(self) -> Place:
        if self.place < len(self.source):
            return self.source[self.place], END
        return END, self.source[0] if self.source else _FILLER

    def take(self, count: int) -> bytes:
        """The next expected bytes, up to the end: what greedy decoding gives."""
        taken = self.source[self.place : self.place + count]
        self.place += len(taken)
        return taken

    def write(self, token: int) -> None:
        """Go on after a token, whichever was chosen."""
        if self.place < len(self.source):
            self.place += 1
        elif token != END:
            self.place = min(1, len(self.source))


@lru_cache(maxsize=1024)
def logits(place: Place) -> Floats:
    row = np.full(SIZE, OTHER)
    if place is not None:
        expected, otherwise = place
        if expected == END:
            row[otherwise] = AGAIN
        elif chr(expected).isascii() and chr(expected).isalpha():
            row[expected ^ 0x20] = SWAPPED
        row[expected] = EXPECTED
    row.flags.writeable = False
    return row


@lru_cache(maxsize=1024)
def logprobs(place: Place) -> Floats:
    """The model's own log-probabilities: before temperature, bias and penalties."""
    row: Floats = logits(place) - logits(place).max()
    row -= np.log(np.exp(row).sum())
    row.flags.writeable = False
    return row


def begin(tokens: Sequence[int]) -> Echo:
    """The answer that follows these tokens.

    Tokens without a mark that opens an answer are a bare text: the answer is that text.
    """
    control = [place for place, token in enumerate(tokens) if token >= 256]
    if not control or tokens[control[-1]] != ASSISTANT:
        return Echo(bytes([token for token in tokens if token < 256]))
    echo = Echo(_said(tokens, control))
    for token in tokens[control[-1] + 1 :]:
        echo.write(token)
    return echo


def _said(tokens: Sequence[int], control: Sequence[int]) -> bytes:
    """What was said last before the last control token, by anybody but the assistant."""
    pieces = [
        (tokens[start] if start >= 0 else BEGIN, tokens[start + 1 : end])
        for start, end in pairwise([-1, *control])
        if start < 0 or tokens[start] not in (ASSISTANT, END)
    ]
    asked = [piece for mark, piece in pieces if mark in (USER, TOOL)]
    return bytes((asked or [piece for _, piece in pieces])[-1])


def read(tokens: Sequence[int]) -> list[Place]:
    """What is expected at the place of each token of a prompt.

    As `_said` tells it for each mark, but in one pass: a prompt may consist of marks.
    """
    places: list[Place] = []
    echo: Echo | None = None
    mark, start = BEGIN, 0
    asked: bytes | None = None
    other = b""
    for place, token in enumerate(tokens):
        places.append(echo.expects if echo else None)
        if token >= 256:
            piece = bytes(tokens[start:place])
            if mark in (USER, TOOL):
                asked = piece
            elif mark not in (ASSISTANT, END):
                other = piece
            echo = Echo(other if asked is None else asked) if token == ASSISTANT else None
            mark, start = token, place + 1
        elif echo:
            echo.write(token)
    return places
