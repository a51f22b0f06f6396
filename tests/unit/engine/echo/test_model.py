from __future__ import annotations

import io
import math
from typing import Any

import pytest
from PIL import Image

from capyra.engine.echo import model, vocabulary
from capyra.engine.echo.model import Echo, begin, logprobs, read
from capyra.engine.echo.template import render
from capyra.engine.echo.tools import forced_call
from capyra.engine.echo.vocabulary import ASSISTANT, END, SIZE
from capyra.engine.echo.vocabulary import USER as ASKS
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import (
    ChatPrompt,
    ImagePart,
    Message,
    Role,
    TextPart,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolCall,
    ToolChoice,
)


def said(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


USER = said("user", "Hello")


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ((USER,), b"Hello"),
        ((said("system", "Be brief."), USER), b"Hello"),
        ((USER, said("assistant", "Hi"), said("user", "Bye")), b"Bye"),
        ((USER, said("assistant", "Hi"), said("tool", "42")), b"42"),
        ((USER, said("assistant", "Hi")), b"Hello"),
        ((said("system", "Be brief."),), b"Be brief."),
        ((said("user", ""),), b""),
        ((said("user", "ä漢<|end|>"),), "ä漢<|end|>".encode()),
    ],
)
def test_the_answer_is_what_was_said_last(messages: tuple[Message, ...], answer: bytes) -> None:
    echo = begin(render(ChatPrompt(messages)))
    assert (echo.source, echo.place) == (answer, 0)


def test_an_answer_that_was_begun_goes_on() -> None:
    prompt = ChatPrompt((USER, said("assistant", "He")), continue_last=True)
    assert begin(render(prompt)).take(99) == b"llo"


def test_a_text_and_its_bare_tokens_are_echoed() -> None:
    assert begin(render(TextPrompt("Once"))).source == b"Once"
    bare = TokenPrompt(tuple(vocabulary.tokenize("Once")))
    assert begin(render(bare)).source == b"Once"
    assert begin([]).source == b""


def test_after_the_end_it_begins_again() -> None:
    echo = Echo(b"ab")
    written = []
    for _ in range(5):
        expected, otherwise = echo.expects or (0, 0)
        written.append(otherwise if expected == END else expected)
        echo.write(written[-1])
    assert bytes(written) == b"ababa"
    assert Echo(b"").expects == (END, ord("\n"))


def test_probabilities() -> None:
    letter, other, end = (
        logprobs(place) for place in [(ord("a"), END), (ord("1"), END), (END, 97)]
    )
    for row in (letter, other, end, logprobs(None)):
        assert math.fsum(math.exp(value) for value in row) == pytest.approx(1)
    assert letter[ord("a")] - letter[ord("A")] == pytest.approx(5)
    assert other[ord("1")] == pytest.approx(0, abs=1e-6)
    assert end[END] - end[97] == pytest.approx(20)
    assert logprobs(None)[0] == pytest.approx(-math.log(SIZE))


def test_a_prompt_is_read_as_answers_are_written() -> None:
    """The model is a function of the tokens before: one that reads and one that writes agree."""
    prompt = render(ChatPrompt((USER, said("assistant", "HellX"), said("user", "Bye"))))
    tokens = [*prompt, *b"Byt", END]
    places = read(tokens)
    for place, token in enumerate(tokens):
        if places[place] is not None:
            assert begin(tokens[:place]).expects == places[place], (place, token)
    assert [place for place in places if place] == [
        *((byte, END) for byte in b"Hello"),
        (END, ord("H")),
        *((byte, END) for byte in b"Bye"),
        (END, ord("B")),
    ]
    assert tokens[places.index((ord("H"), END)) - 1] == ASSISTANT


def test_a_prompt_of_marks_is_read_in_one_pass() -> None:
    class Counted(list[int]):
        """Counts how much of it is copied."""

        copied = 0

        def __getitem__(self, place: Any) -> Any:
            found = super().__getitem__(place)
            self.copied += len(found) if isinstance(place, slice) else 1
            return found

    tokens = Counted([ASKS, *b"hello", END, *[ASSISTANT] * 2000])
    assert read(tokens)[-1] == (ord("h"), END)
    assert tokens.copied < 2 * len(tokens)


def test_an_image_is_seen_by_its_size() -> None:
    data = io.BytesIO()
    Image.new("L", (48, 32)).save(data, "PNG")
    parts = (TextPart("See: "), ImagePart(data.getvalue(), "image/png"))
    assert begin(render(ChatPrompt((Message("user", parts),)))).source == (
        b"See: [image png 48x32]"
    )


def test_tools_and_calls_are_part_of_the_prompt() -> None:
    call = ToolCall("call_1", "add", '{"a": 1}')
    messages = (USER, Message("assistant", tool_calls=(call,)), said("tool", "2"))
    text = vocabulary.show(render(ChatPrompt(messages, tools=(Tool("add", "Adds."),))))
    assert '"name": "add", "description": "Adds."' in text
    assert '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>' in text


STRING, NUMBER = {"type": "string"}, {"type": "number"}


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({}, '{"text": "said"}'),
        ({"properties": {"text": STRING, "more": NUMBER}}, '{"text": "said"}'),
        ({"properties": {"q": STRING}, "additionalProperties": False}, '{"q": "said"}'),
        ({"properties": {"n": NUMBER, "q": STRING}, "required": ["q"]}, '{"q": "said"}'),
        ({"properties": {"q": {}}, "required": ["q"]}, '{"q": "said"}'),
        ({"required": ["q"]}, '{"q": "said"}'),
    ],
)
@pytest.mark.parametrize("mode", ["required", "named"])
def test_a_forced_call(schema: dict[str, object], arguments: str, mode: str) -> None:
    tools = (Tool("look_up", parameters=schema), Tool("other"))
    choice = ToolChoice("required") if mode == "required" else ToolChoice("named", "look_up")
    assert forced_call(ChatPrompt((USER,), tools, choice), "said") == (
        f'<tool_call>{{"name": "look_up", "arguments": {arguments}}}</tool_call>'
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"n": NUMBER}, "required": ["n"]},
        {"properties": {"a": STRING, "b": STRING}, "required": ["a", "b"]},
        {"properties": {"n": NUMBER}, "additionalProperties": False},
    ],
)
def test_a_tool_that_takes_no_text_cannot_be_forced(schema: dict[str, object]) -> None:
    prompt = ChatPrompt((USER,), (Tool("add", parameters=schema),), ToolChoice("required"))
    with pytest.raises(Unsupported, match="'add'") as refused:
        forced_call(prompt, "said")
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize(
    "schema",
    [{"properties": [1]}, {"properties": "x"}, {"required": 5}, {"required": [["a"]]}],
)
def test_parameters_that_are_no_schema_are_the_callers_mistake(schema: dict[str, object]) -> None:
    prompt = ChatPrompt((USER,), (Tool("add", parameters=schema),), ToolChoice("required"))
    with pytest.raises(InvalidValue, match="'add'") as refused:
        forced_call(prompt, "said")
    assert refused.value.param == "tools"


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_nothing_is_forced_without_being_asked(mode: str) -> None:
    choice = ToolChoice(mode)  # type: ignore[arg-type]
    assert forced_call(ChatPrompt((USER,), (Tool("add"),), choice), "said") is None


def test_control_tokens_have_names_and_no_text() -> None:
    tokens = render(ChatPrompt((USER,)))
    assert vocabulary.show(tokens) == "<|begin|><|user|>Hello<|end|><|assistant|>"
    assert vocabulary.detokenize(tokens) == "Hello"
    assert vocabulary.tokenize(vocabulary.show(tokens), special=True) == tokens
    assert model.begin(tokens).source == b"Hello"
