from __future__ import annotations

import pytest

from capyra.engine import toolcalls
from capyra.engine.delivery import Delivery
from capyra.engine.types import (
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Limits,
    TextPrompt,
    TokenLogprob,
    ToolCallDelta,
)


def delivery(*, tools: bool = False, id: str = "r", **limits: object) -> Delivery:  # noqa: A002
    request = GenerateRequest(id=id, prompt=TextPrompt(""), limits=Limits(**limits))  # type: ignore[arg-type]
    return Delivery(request, 0, toolcalls.parser("hermes", ["add"]) if tools else None)


def write(to: Delivery, data: bytes) -> list[Event]:
    """A token for each byte, until a stop string."""
    events: list[Event] = []
    for byte in data:
        events += to.token(byte, bytes([byte]))
        if to.stopped is not None:
            break
    return events


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def tokens(events: list[Event]) -> bytes:
    return bytes(token for event in events if isinstance(event, Delta) for token in event.token_ids)


def test_a_character_comes_with_its_last_token() -> None:
    to = delivery()
    assert to.transparent
    assert write(to, "é".encode()) == [Delta(0, "", (0xC3,)), Delta(0, "é", (0xA9,))]
    assert write(to, b"\xc3") == [Delta(0, "", (0xC3,))]
    assert not to.transparent
    assert to.finish("length") == [Delta(0, "�"), Finished(0, "length")]


@pytest.mark.parametrize(("include", "said"), [(False, "one "), (True, "one two")])
def test_a_stop_string_is_cut_but_its_tokens_count(include: bool, said: str) -> None:
    to = delivery(stop=("two",), include_stop=include)
    events = write(to, b"one two three")
    assert to.stopped == "two"
    events += to.finish("stop")
    assert text(events) == said
    assert tokens(events) == b"one two"
    assert events[-1] == Finished(0, "stop", "two")


def test_what_was_held_back_comes_at_the_end() -> None:
    to = delivery(stop=("two",))
    assert text(write(to, b"one tw")) == "one "
    assert to.finish("length") == [Delta(0, "tw"), Finished(0, "length")]


def test_stop_strings_count_from_min_tokens_on() -> None:
    to = delivery(stop=("a",), min_tokens=3)
    events = write(to, b"aaabca")
    assert text(events) == "aaabc"
    assert tokens(events) == b"aaabca"


def test_tool_calls_are_apart_from_text() -> None:
    to = delivery(tools=True)
    written = b'So: <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    events = write(to, written) + to.finish("stop")
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert text(events) == "So: "
    assert tokens(events) == written, "every token is in exactly one piece"
    assert [call.name for call in calls if call.name is not None] == ["add"]
    assert [call.id is None for call in calls] == [call.name is None for call in calls]
    assert "".join(call.arguments for call in calls) == '{"a": 1}'
    assert events[-1] == Finished(0, "tool_calls")


def test_calls_have_ids_of_their_own_that_a_replay_has_too() -> None:
    def ids(to: Delivery) -> list[str]:
        events = write(to, b'<tool_call>{"name": "add"}{"name": "add"}</tool_call>')
        return [event.id for event in events if isinstance(event, ToolCallDelta) and event.id]

    first, again, other = (ids(delivery(tools=True, id=id)) for id in ("a", "a", "b"))  # noqa: A001
    assert first == again
    assert len({*first, *other}) == 4


def test_a_cut_off_call_keeps_the_reason_of_the_cut() -> None:
    to = delivery(tools=True)
    events = write(to, b'<tool_call>{"name": "add", "arguments": {"a')
    assert to.finish("length")[-1] == Finished(0, "length")
    assert any(isinstance(event, ToolCallDelta) for event in events)


def test_log_probabilities_travel_with_their_token() -> None:
    logprob = TokenLogprob("a", 97, -0.5)
    for to in (delivery(), delivery(tools=True), delivery(stop=("ab",))):
        (event,) = to.token(97, b"a", logprob)
        assert isinstance(event, Delta)
        assert event.logprobs == (logprob,)


def test_a_control_token_has_no_text() -> None:
    assert delivery().token(300, b"") == [Delta(0, "", (300,))]
