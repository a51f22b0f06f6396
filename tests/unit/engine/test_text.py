from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capyra.engine.errors import InvalidValue
from capyra.engine.text import IncrementalText, StopMatcher, utf8


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[Sequence[object]]) -> list[Sequence[object]]:
    """Something, in pieces."""
    value = draw(whole)
    places = draw(st.lists(st.integers(0, len(value)), max_size=12))
    return [value[start:end] for start, end in pairwise([0, *sorted(places), len(value)])]


ANY_BYTES = st.binary(max_size=40) | st.text(max_size=20).map(
    lambda text: text.encode(errors="replace")
)


@given(cut(ANY_BYTES))
def test_any_split_of_bytes_gives_the_same_text(pieces: list[bytes]) -> None:
    text = IncrementalText()
    said = [text.push(piece) for piece in pieces]
    whole = b"".join(pieces).decode(errors="replace")
    assert "".join(said) + text.finish() == whole
    assert not text.pending


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_character_comes_with_its_last_byte(text: str) -> None:
    """Never half of it, and never later than it could."""
    incremental = IncrementalText()
    for character in text:
        data = character.encode()
        for byte in data[:-1]:
            assert incremental.push(bytes([byte])) == ""
            assert incremental.pending
        assert incremental.push(data[-1:]) == character


def test_the_beginning_of_a_character_ends_as_a_replacement() -> None:
    text = IncrementalText()
    assert text.push("é".encode()[:1]) == ""
    assert text.finish() == "�"


def naive(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The stop string that ends first, of those the longest: by looking at every place."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


LETTERS = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), min_size=1, max_size=4)


@given(cut(LETTERS), STOPS, st.booleans())
def test_any_split_of_text_stops_at_the_same_place(
    pieces: list[str], stops: list[str], include: bool
) -> None:
    matcher = StopMatcher(stops, include=include)
    said = "".join(matcher.push(piece) for piece in pieces)
    if matcher.stopped is None:
        said += matcher.finish()
    assert (said, matcher.stopped) == naive("".join(pieces), stops, include)
    assert matcher.push("more") == "" or matcher.stopped is None


@given(LETTERS, STOPS)
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    said = ""
    for place, character in enumerate(text, start=1):
        said += matcher.push(character)
        if matcher.stopped is not None:
            return
        held = text[len(said) : place]
        possible = [
            text[start:place]
            for start in range(place + 1)
            if any(stop.startswith(text[start:place]) for stop in stops)
        ]
        assert held == possible[0], "the longest ending that begins a stop string"


def test_the_work_for_a_character_does_not_grow() -> None:
    """A stop string that almost matches, over and over: each character is looked at twice at
    most, whatever is held back."""
    matcher = StopMatcher(["a" * 1000 + "b"])
    steps = 0

    class Counting(dict):  # type: ignore[type-arg]
        def __contains__(self, key: object) -> bool:
            nonlocal steps
            steps += 1
            return super().__contains__(key)

    matcher._automaton.moves[:] = [Counting(moves) for moves in matcher._automaton.moves]
    for _ in range(5000):
        matcher.push("a")
    assert steps <= 2 * 5000


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidValue, match="empty"):
        StopMatcher(["a", ""])


def test_a_lone_surrogate_is_no_text() -> None:
    assert utf8("ä") == "ä".encode()
    with pytest.raises(InvalidValue, match=r"character 2 .* U\+D800") as refused:
        utf8("ab\ud800c", "messages[0].content")
    assert refused.value.param == "messages[0].content"
