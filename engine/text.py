"""From tokens to text that can be sent: whole characters only, and no stop string.

Both classes are engine-agnostic and incremental: however an answer is cut into tokens, the
pieces add up to the same text.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from capyra.engine.errors import InvalidValue

_UTF8 = codecs.getincrementaldecoder("utf-8")


def utf8(text: str, param: str | None = None) -> bytes:
    """The text's bytes; `InvalidValue` for a lone surrogate, which JSON can carry and UTF-8
    cannot."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"character {error.start} of the text is a lone surrogate, "
            f"U+{ord(text[error.start]):X}: send well-formed Unicode",
            param=param,
        ) from error


class IncrementalText:
    """Bytes of tokens in, text out; a character is held back until all of its bytes are there.

    Bytes that are no UTF-8 become U+FFFD, exactly as if the whole had been decoded at once.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _UTF8("replace")

    @property
    def pending(self) -> bool:
        """Whether the beginning of a character is held back."""
        return bool(self._decoder.getstate()[0])

    def push(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What was held back: nothing, or U+FFFD for the beginning of a character."""
        return self._decoder.decode(b"", final=True)


class _Automaton:
    """All stop strings as one automaton (Aho and Corasick). A state is a prefix of a stop string;
    after any text, the state is the longest such prefix that the text ends with."""

    __slots__ = ("depth", "fail", "found", "moves")

    def __init__(self, stops: Sequence[str]) -> None:
        self.moves: list[dict[str, int]] = [{}]
        self.depth = [0]
        self.fail = [0]
        self.found: list[str | None] = [None]
        for stop in stops:
            self._add(stop)
        self._link()

    def _add(self, stop: str) -> None:
        state = 0
        for character in stop:
            following = self.moves[state].get(character)
            if following is None:
                following = len(self.moves)
                self.moves[state][character] = following
                self.moves.append({})
                self.depth.append(self.depth[state] + 1)
                self.fail.append(0)
                self.found.append(None)
            state = following
        self.found[state] = stop

    def _link(self) -> None:
        states = deque(self.moves[0].values())
        while states:
            state = states.popleft()
            # A state's own stop string is longer than any that its suffix completes.
            self.found[state] = self.found[state] or self.found[self.fail[state]]
            for character, following in self.moves[state].items():
                states.append(following)
                self.fail[following] = self.step(self.fail[state], character)

    def step(self, state: int, character: str) -> int:
        while character not in self.moves[state]:
            if state == 0:
                return 0
            state = self.fail[state]
        return self.moves[state][character]


@lru_cache(maxsize=256)
def _automaton(stops: tuple[str, ...]) -> _Automaton:
    return _Automaton(stops)


class StopMatcher:
    """Cuts a text at the first stop string, wherever the text is cut into pieces.

    First is the one that *ends* first: it is complete when others may still be growing. Of those
    that end at the same character the longest counts, so that none is left in the answer. What
    may become a stop string is held back, and nothing more.
    """

    __slots__ = ("_automaton", "_held", "_include", "_state", "stopped")

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        if not all(stops):
            raise InvalidValue("a stop string is empty: it would end every answer", param="stop")
        self._automaton = _automaton(tuple(stops))
        self._include = include
        self._state = 0
        self._held = ""
        self.stopped: str | None = None
        """The stop string that was found; after it, nothing comes out any more."""

    def push(self, text: str) -> str:
        """What of the text so far is certain now."""
        if self.stopped is not None:
            return ""
        automaton, state = self._automaton, self._state
        text = self._held + text
        for place in range(len(self._held), len(text)):
            state = automaton.step(state, text[place])
            stop = automaton.found[state]
            if stop is not None:
                self.stopped, self._state, self._held = stop, 0, ""
                end = place + 1
                return text[:end] if self._include else text[: end - len(stop)]
        self._state = state
        certain = len(text) - automaton.depth[state]
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back: the answer ended before it became a stop string."""
        held, self._held, self._state = self._held, "", 0
        return held
