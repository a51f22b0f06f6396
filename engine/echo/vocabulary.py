"""The echo model's tokens: 256 bytes and a few control tokens.

A token for each byte means that characters do split across tokens, as they do in real models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from capyra.engine.errors import InvalidValue
from capyra.engine.text import utf8

BEGIN, END, SYSTEM, USER, ASSISTANT, TOOL = range(256, 262)
SIZE = 262

NAMES = {
    BEGIN: "<|begin|>",
    END: "<|end|>",
    SYSTEM: "<|system|>",
    USER: "<|user|>",
    ASSISTANT: "<|assistant|>",
    TOOL: "<|tool|>",
}
_IDS = {name: token for token, name in NAMES.items()}
_CONTROL = re.compile("(" + "|".join(map(re.escape, _IDS)) + ")")

BYTES = tuple(bytes([token]) if token < 256 else b"" for token in range(SIZE))
"""What each token adds to an answer."""

TEXT = tuple(NAMES.get(token) or BYTES[token].decode(errors="replace") for token in range(SIZE))
"""What each token looks like alone."""


def tokenize(text: str, *, special: bool = False) -> list[int]:
    if not special:
        return list(utf8(text))
    tokens: list[int] = []
    for piece in _CONTROL.split(text):
        if piece in _IDS:
            tokens.append(_IDS[piece])
        else:
            tokens.extend(utf8(piece))
    return tokens


def detokenize(tokens: Sequence[int]) -> str:
    """Control tokens have no text."""
    check(tokens)
    return b"".join([BYTES[token] for token in tokens]).decode(errors="replace")


def show(tokens: Sequence[int]) -> str:
    """As `detokenize`, with the control tokens' names in their places."""
    pieces = [BYTES[token] or NAMES[token].encode() for token in tokens]
    return b"".join(pieces).decode(errors="replace")


def check(tokens: Sequence[int]) -> None:
    """`InvalidValue` if one of the ids is no token's."""
    if tokens and not (min(tokens) >= 0 and max(tokens) < SIZE):
        wrong = next(token for token in tokens if not 0 <= token < SIZE)
        raise InvalidValue(
            f"{wrong} is no token id of this model: ids go from 0 to {SIZE - 1}", param="prompt"
        )
