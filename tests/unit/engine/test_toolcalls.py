from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capyra.engine.toolcalls import FORMATS, CallPiece, Piece, guess, parser

TOOLS = ("look_up", "add")
Read = tuple[str, list[tuple[str, str]]]


def read(name: str, *pieces: str) -> Read:
    """The text and the calls of an answer that comes in these pieces."""
    parsing = parser(name, TOOLS)
    out = [piece for text in pieces for piece in parsing.push(text)] + parsing.finish()
    return together(out)


def together(pieces: list[Piece]) -> Read:
    text, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        elif piece.name is not None:
            assert piece.call == len(calls), "calls are counted from 0"
            calls.append((piece.name, piece.arguments))
        else:
            assert piece.call == len(calls) - 1, "one call after the other"
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    return text, calls


X, Y = ("look_up", '{"q": "a }\\" ]b", "n": [1, {"x": null}]}'), ("add", "{}")

# What a model of that format writes, and what is meant.
WRITTEN: list[tuple[str, str, Read]] = [
    ("hermes", f'<tool_call>\n{{"name": "look_up", "arguments": {X[1]}}}\n</tool_call>', ("", [X])),
    (
        "hermes",
        f'Let me see.\n<tool_call>{{"arguments": {X[1]}, "name": "look_up"}}</tool_call>\n'
        '<tool_call>{"name": "add"}</tool_call>\n',
        ("Let me see.\n", [X, Y]),
    ),
    ("hermes", '<tool_call>{"name": "add"}<tool_call>{"name": "add"}', ("", [Y, Y])),
    ("hermes", '<tool_call>{"name": "new", "arguments": {}}</tool_call>', ("", [("new", "{}")])),
    ("hermes", '<tool_call>{"name":"add","arguments":"{\\"a\\":1}"}</tool_call> So.',
     (" So.", [("add", '{"a":1}')])),
    ("mistral", f'[TOOL_CALLS] [{{"name": "look_up", "arguments": {X[1]}}}, {{"name": "add", '
     '"arguments": {}, "id": "abcdefghi"}]', ("", [X, Y])),
    ("mistral", f"[TOOL_CALLS]look_up{X[1]}[TOOL_CALLS]add{{}}", ("", [X, Y])),
    ("mistral", f"Well. [TOOL_CALLS]look_up[CALL_ID]a1[ARGS]{X[1]}", ("Well. ", [X])),
    ("llama3", f'{{"name": "look_up", "parameters": {X[1]}}}; {{"name": "add"}}', ("", [X, Y])),
    ("llama3", f'<|python_tag|>{{"type": "function", "name": "look_up", "parameters": {X[1]}}}',
     ("", [X])),
    ("phi4", f'<|tool_call|>[{{"name": "look_up", "arguments": {X[1]}}}, {{"name": "add"}}]'
     "<|/tool_call|>", ("", [X, Y])),
    ("gemma", f'```json\n{{"name": "look_up", "parameters": {X[1]}}}\n```', ("", [X])),
    ("gemma", f'{{"name": "look_up", "parameters": {X[1]}}}', ("", [X])),
    ("gemma", f'[{{"name": "look_up", "parameters": {X[1]}}}, {{"name": "add"}}]', ("", [X, Y])),
    ("gemma", 'Sure:\n```tool_code\nprint(look_up(q="ä", n=[1]))\nadd()\n```\nDone.',
     ("Sure:\n\nDone.", [("look_up", '{"q": "ä", "n": [1]}'), Y])),
    ("cohere", '<|START_ACTION|>[\n  {"tool_call_id": "0", "tool_name": "look_up", '
     f'"parameters": {X[1]}}}\n]<|END_ACTION|>', ("", [X])),
    # Cut off in the middle: what was written stays.
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1', ("", [("add", '{"a": 1')])),
    ("hermes", '<tool_call>{"name": "add"}</tool', ("", [Y])),
]  # fmt: skip

# No call, though it may look like one: it stays text to the last character.
TEXTS: list[tuple[str, str]] = [
    *((name, text) for name in FORMATS for text in ("", " \n", "Hello.", "a < b [TOOL] `x` { }")),
    ("hermes", "<tool_call>not JSON</tool_call> and so on"),
    ("hermes", '<tool_call>{"name": 3}</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arg'),
    ("hermes", '{"name": "add", "arguments": {}}'),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS]two words"),
    ("llama3", '{"name": "Bob", "parameters": {"age": 3}}'),
    ("llama3", '{"name": "add", "age": 3'),
    ("llama3", 'The JSON is {"name": "add", "parameters": {}}'),
    ("llama3", '<|python_tag|>import os'),
    ("phi4", "<|tool_call|>[]<|/tool_call|>"),
    ("gemma", "```json\n[1, 2]\n```"),
    ("gemma", '```json\n{"name": "Bob", "parameters": {}}\n```'),
    ("gemma", "```python\nadd()\n```"),
    ("gemma", "```tool_code\nadd(1)\n```"),
    ("gemma", "```tool_code\nx = add()\n```"),
    ("cohere", "<|START_ACTION|>{nothing}<|END_ACTION|>"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "meant"), WRITTEN)
def test_what_models_write(name: str, text: str, meant: Read) -> None:
    assert read(name, text) == meant
    assert read(name, *text) == meant


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_text_passes_unharmed(name: str, text: str) -> None:
    assert read(name, text) == (text, [])
    assert read(name, *text) == (text, [])


FRAGMENTS = sorted(
    {
        fragment
        for each in FORMATS.values()
        for fragment in (*each.syntax.marks, each.syntax.close)
        if fragment
    }
    | {'{"name": "add", "arguments": {"a": [1]}}', '{"tool_name": "look_up"', ', "parameters": {}}'}
    | {"[", "]", "{", "}", ",", ";", '"', "\\", ":", " ", "\n", "x", "add(", "a=1)", "[ARGS]"}
)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_any_split_gives_the_same(name: str, text: str, places: list[int]) -> None:
    places = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    assert read(name, *(text[start:end] for start, end in pairwise(places))) == read(name, text)


@given(st.sampled_from(sorted(FORMATS)), st.text(max_size=30))
def test_no_text_is_lost(name: str, text: str) -> None:
    assert read(name, text) == (text, [])


@given(
    st.sampled_from(sorted(TOOLS)),
    st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.lists(st.none()), max_size=3),
)
def test_any_arguments_arrive_as_they_were_written(name: str, arguments: dict[str, object]) -> None:
    for ascii_only in (True, False):
        written = json.dumps(arguments, ensure_ascii=ascii_only)
        call = f'{{"name": "{name}", "arguments": {written}}}'
        assert read("hermes", f"<tool_call>{call}</tool_call>") == ("", [(name, written)])
        assert read("llama3", call) == ("", [(name, written)])


def test_arguments_stream_as_they_come() -> None:
    parsing = parser("hermes", TOOLS)
    assert parsing.push('<tool_call>{"name": "add", "arguments": ') == []
    assert parsing.push('{"a"') == [CallPiece(0, '{"a"', "add")]
    assert parsing.push(": 1") == [CallPiece(0, ": 1")]
    assert parsing.push("}}") == [CallPiece(0, "}")]


def test_text_comes_promptly() -> None:
    for name in FORMATS:
        parsing = parser(name, TOOLS)
        assert parsing.push("Hello") == ["Hello"]
        assert parsing.push(" and") == [" and"]


def test_templates_tell_their_format() -> None:
    assert guess("{{ '<tool_call>' }}") == "hermes"
    assert guess("…[TOOL_CALLS]…") == "mistral"
    assert guess("{{ bos_token }}{{ messages }}") is None
