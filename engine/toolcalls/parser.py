"""One parser for every format: text up to a mark, then calls, then text again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from capyra.engine.toolcalls.base import CallPiece, Piece
from capyra.engine.toolcalls.reader import Broken, CallReader, Steps

_SLICE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """How a format is written."""

    marks: tuple[str, ...]
    """What opens calls; then comes an object, or a list of them."""
    close: str = ""
    """What ends them, if anything does."""
    named: bool = False
    """Whether a name and its arguments may come instead: `name{…}`."""
    python: bool = False
    """Whether a call in Python may come instead: `name(key=value)`."""
    bare: bool = False
    """Whether an answer that begins with `{` or `[` may be calls without a mark. Ordinary JSON
    looks alike: only tools that the request offers can be called."""


class MarkedParser:
    """A `ToolCallParser` of one syntax, for one answer."""

    def __init__(self, syntax: Syntax, tools: Collection[str] = ()) -> None:
        self._syntax = syntax
        self._known = frozenset(tools) if syntax.bare else None
        self._reader = CallReader(self._start, self._write, self._end)
        self._block: Steps[None] | None = None
        """The calls being read; None in text."""
        self._raw: list[str] = []
        """What was read of a call that does not stand yet: text, if it breaks."""
        self._stands = False
        self._held = ""
        """The end of the text, when it may become a mark."""
        self._space: list[str] = []
        """Spaces at the beginning or after a call: text only if text follows."""
        self._said = False
        self._calls = 0
        self._calls_before = 0
        self._pieces: list[Piece] = []
        self._name: str | None = None
        self._arguments: list[str] = []
        """Of the call that stands: what is not among the pieces yet."""

    def push(self, text: str) -> list[Piece]:
        # In slices, so that what is left over is never copied at length.
        for start in range(0, len(text), _SLICE):
            rest = text[start : start + _SLICE]
            while rest:
                rest = self._scan(rest) if self._block is None else self._read(self._block, rest)
        return self._take()

    def finish(self) -> list[Piece]:
        left = self._held
        if self._block is not None:
            left = "".join(self._raw)
            if self._calls and self._syntax.close.startswith(left.strip()):
                left = ""
            self._block = None
        self._say(left)
        if self._space and not self._calls:
            self._pieces.append("".join(self._space))
        self._raw, self._held, self._space = [], "", []
        return self._take()

    def _scan(self, text: str) -> str:
        """Text up to the next mark; what follows the mark is left over."""
        text, self._held = self._held + text, ""
        begin = text.lstrip()
        if self._syntax.bare and not self._said and not self._calls and begin[:1] in ("{", "["):
            self._say(text[: len(text) - len(begin)])
            self._open("")
            return begin
        found = [(text.find(mark), mark) for mark in self._syntax.marks if mark in text]
        if found:
            place, mark = min(found)
            self._say(text[:place])
            self._open(mark)
            return text[place + len(mark) :]
        certain = len(text) - max(_overlap(text, mark) for mark in self._syntax.marks)
        self._say(text[:certain])
        self._held = text[certain:]
        return ""

    def _read(self, block: Steps[None], text: str) -> str:
        """Calls up to their end; what follows is left over."""
        for place, char in enumerate(text):
            self._raw.append(char)
            try:
                block.send(char)
            except StopIteration:
                self._block, self._raw = None, []
                return text[place + 1 :]
            except Broken:
                return self._give_up() + text[place + 1 :]
            if self._stands:
                self._raw.clear()
        return ""

    def _give_up(self) -> str:
        """Go back to text; what must be read again as text is left over.

        Before the first call of a block that is only the last character: what was read is said,
        so that nothing is read over and over.
        """
        raw = "".join(self._raw)
        said = 0 if self._calls > self._calls_before else len(raw) - 1
        self._block, self._raw, self._stands = None, [], False
        self._say(raw[:said])
        return raw[said:]

    def _open(self, mark: str) -> None:
        self._calls_before = self._calls
        self._raw = [mark] if mark else []
        self._block = self._calls_after(self._syntax.close if mark else "")
        next(self._block)

    def _calls_after(self, close: str) -> Steps[None]:
        char = " "
        while char.isspace():
            char = yield
        if char == "{":
            yield from self._reader.objects(self._known, close)
        elif char == "[":
            yield from self._reader.array(self._known, close)
        elif self._syntax.named:
            yield from self._reader.named(char)
        elif self._syntax.python:
            yield from self._reader.python(char, close)
        else:
            raise Broken

    def _say(self, text: str) -> None:
        if not text:
            return
        if not self._said and text.isspace():
            self._space.append(text)
            return
        self._flush()
        self._pieces.append("".join([*self._space, text]))
        self._space, self._said = [], True

    def _start(self, name: str) -> None:
        self._flush()
        self._space, self._said, self._stands = [], False, True
        self._name = name
        self._calls += 1

    def _write(self, arguments: str) -> None:
        self._arguments.append(arguments)

    def _end(self) -> None:
        self._stands = False
        self._raw.clear()

    def _flush(self) -> None:
        if self._name is not None or self._arguments:
            arguments = "".join(self._arguments)
            self._pieces.append(CallPiece(self._calls - 1, arguments, self._name))
            self._name, self._arguments = None, []

    def _take(self) -> list[Piece]:
        self._flush()
        pieces, self._pieces = self._pieces, []
        return pieces


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text may begin this mark."""
    if mark[0] not in text:
        return 0
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
