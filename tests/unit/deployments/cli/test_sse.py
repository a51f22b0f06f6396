"""The same events, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capyra.deployments.cli import sse
from capyra.deployments.cli.sse import Comment, Data, SseEvent, SseParser
from capyra.engine.errors import CapyraError

STREAM = (
    ": capyra {}\n\ndata: eins\n\nevent: ping\r\ndata: zwei\r\ndata:drei ✓\r\n\r\n"
    "id: 7\ndata\n\n:\n\ndata: never ended"
).encode()
EVENTS: list[SseEvent] = [
    Comment("capyra {}"),
    Data("eins"),
    Data("zwei\ndrei ✓", "ping"),
    Data(""),
    Comment(""),
]


def read(chunks: list[bytes]) -> list[SseEvent]:
    parser = SseParser()
    return [found for chunk in chunks for found in parser.feed(chunk)]


@given(st.sets(st.integers(0, len(STREAM))))
def test_cuts_change_nothing(places: set[int]) -> None:
    ends = [0, *sorted(places), len(STREAM)]
    assert read([STREAM[a:b] for a, b in pairwise(ends)]) == EVENTS


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert read([b"\xef\xbb", b"\xbfdata: x\n\n"]) == [Data("x")]


def test_broken_utf8_does_not_end_the_stream() -> None:
    assert read([b"data: \xff\n\n", b"data: y\n\n"]) == [Data("\ufffd"), Data("y")]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 1000)
    parser = SseParser()
    parser.feed(b"data: " + b"x" * 900 + b"\n")
    with pytest.raises(CapyraError, match="without end"):
        parser.feed(b"data: " + b"x" * 200)
