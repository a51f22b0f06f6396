"""Reads tool calls character by character.

Each reader is a generator: a bare `yield` waits for the next character, so that a grammar is
written as if all of the text were there, and can be left at any place.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Collection, Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, str, T]

_SPACE = " \t\r\n"
_NAME_KEYS = ("name", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters")
_CLOSING = {"{": "}", "[": "]"}


class Broken(Exception):
    """The character that came cannot be part of a call here."""


class CallReader:
    """Reads calls and says so: `start` with a name, `write` with arguments, `end`.

    After `start` a call stands, whatever follows.
    """

    def __init__(
        self,
        start: Callable[[str], None],
        write: Callable[[str], None],
        end: Callable[[], None],
    ) -> None:
        self._start = start
        self._write = write
        self._end = end

    def objects(self, known: Collection[str] | None, close: str) -> Steps[None]:
        """After `{`: one call or several with or without a separator, then the closing mark."""
        char = "{"
        while char == "{":
            yield from self._object(known)
            char = yield from _solid()
            if char in ",;":
                char = yield from _solid()
        yield from _rest(close, char)

    def array(self, known: Collection[str] | None, close: str) -> Steps[None]:
        """After `[`: calls, `]` and the closing mark."""
        char = ","
        while char == ",":
            if (yield from _solid()) != "{":
                raise Broken
            yield from self._object(known)
            char = yield from _solid()
        if char != "]":
            raise Broken
        if close:
            yield from _rest(close, (yield from _solid()))

    def named(self, char: str) -> Steps[None]:
        """A name and its arguments: `name{…}`, `name[ARGS]{…}`, `name[CALL_ID]…[ARGS]{…}`."""
        name = ""
        while char not in "{[":
            if not (char.isalnum() or char in "_-.:/"):
                raise Broken
            name += char
            char = yield
        while char == "[":
            tag = yield from _until("]")
            if tag == "CALL_ID":
                yield from _until("[")
            elif tag == "ARGS":
                char = yield from _solid()
            else:
                raise Broken
        if char != "{" or not name:
            raise Broken
        self._start(name)
        yield from _container(char, self._write)
        self._end()

    def python(self, char: str, close: str) -> Steps[None]:
        """`name(key=value, …)` up to the closing mark."""
        code = char
        while not code.endswith(close):
            code += yield
        calls = _python_calls(code[: -len(close)])
        for name, arguments in calls:
            self._start(name)
            self._write(arguments)
            self._end()

    def _object(self, known: Collection[str] | None) -> Steps[None]:
        """After `{`: members in any order. Arguments stream as soon as the name is known."""
        name: str | None = None
        arguments: str | None = None
        started = False
        char = yield from _solid()
        while char != "}":
            if char != '"':
                raise Broken
            key = yield from _string()
            if (yield from _solid()) != ":":
                raise Broken
            char = yield from _solid()
            if key in _NAME_KEYS and name is None:
                name = yield from _name(char, known)
                char = yield from _solid()
            elif key in _ARGUMENT_KEYS and arguments is None:
                if char == "{" and name is not None:
                    arguments, started = "", True
                    self._start(name)
                    yield from _container(char, self._write)
                else:
                    arguments = yield from _arguments(char)
                char = yield from _solid()
            else:
                char = yield from _skip(char)
            if char == ",":
                char = yield from _solid()
            elif char != "}":
                raise Broken
        if name is None:
            raise Broken
        if not started:
            self._start(name)
            self._write(arguments or "{}")
        self._end()


def _solid() -> Steps[str]:
    """The next character that is no space."""
    char = yield
    while char in _SPACE:
        char = yield
    return char


def _until(end: str) -> Steps[str]:
    text = ""
    while (char := (yield)) != end:
        text += char
    return text


def _rest(mark: str, char: str) -> Steps[None]:
    """The rest of a mark that begins with this character."""
    if mark[:1] != char:
        raise Broken
    for expected in mark[1:]:
        if (yield) != expected:
            raise Broken


def _string() -> Steps[str]:
    """After the opening quote: the string that is meant."""
    raw = ['"']
    yield from _quoted(raw.append)
    try:
        return str(json.loads("".join(raw), strict=False))
    except ValueError as error:
        raise Broken from error


def _quoted(sink: Callable[[str], None]) -> Steps[None]:
    """After the opening quote, up to the closing one, as it is written."""
    char = ""
    while char != '"':
        char = yield
        sink(char)
        if char == "\\":
            sink((yield))


def _container(char: str, sink: Callable[[str], None]) -> Steps[None]:
    """An object or a list as it is written; what is inside must only be balanced."""
    closing = [_CLOSING[char]]
    sink(char)
    while closing:
        char = yield
        if char in "}]" and char != closing.pop():
            raise Broken
        sink(char)
        if char == '"':
            yield from _quoted(sink)
        elif char in "{[":
            closing.append(_CLOSING[char])


def _name(char: str, known: Collection[str] | None) -> Steps[str]:
    if char != '"':
        raise Broken
    name = yield from _string()
    if not name or (known is not None and name not in known):
        raise Broken
    return name


def _arguments(char: str) -> Steps[str]:
    """Arguments that cannot stream: the name is not known yet, or they are a string of JSON."""
    if char == '"':
        return (yield from _string())
    if char != "{":
        raise Broken
    raw: list[str] = []
    yield from _container(char, raw.append)
    return "".join(raw)


def _skip(char: str) -> Steps[str]:
    """A value that means nothing to us; the next character after it that is no space."""
    if char == '"':
        yield from _quoted(lambda _: None)
        return (yield from _solid())
    if char in "{[":
        yield from _container(char, lambda _: None)
        return (yield from _solid())
    while char not in ",}" and char not in _SPACE:
        char = yield
    return char if char in ",}" else (yield from _solid())


def _python_calls(code: str) -> list[tuple[str, str]]:
    """Names and arguments of calls written in Python, with literal keyword arguments only."""
    try:
        lines = ast.parse(code.strip()).body
        calls = [line.value for line in lines if isinstance(line, ast.Expr)]
        found = [_python_call(call) for call in calls if isinstance(call, ast.Call)]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Broken from error
    if not found or len(found) != len(lines):
        raise Broken
    return found


def _python_call(call: ast.Call) -> tuple[str, str]:
    inner = call.args[0] if len(call.args) == 1 else None
    if isinstance(inner, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
        return _python_call(inner)
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError("only keyword arguments have names")
    arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return ast.unparse(call.func), json.dumps(arguments, ensure_ascii=False)
