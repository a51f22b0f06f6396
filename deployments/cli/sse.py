"""Server-sent events, read as they arrive. Pure: bytes in, events out."""

from __future__ import annotations

from dataclasses import dataclass

from capyra.engine.errors import CapyraError

LONGEST_EVENT = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Data:
    text: str
    event: str = "message"


@dataclass(frozen=True, slots=True)
class Comment:
    text: str


SseEvent = Data | Comment


class SseParser:
    """Cut anywhere, the bytes give the same events. An event that its blank line never ended
    is dropped, as the standard says."""

    def __init__(self) -> None:
        self._rest = b""
        self._fresh = True
        self._data: list[bytes] = []
        self._size = 0
        self._name = "message"

    def feed(self, chunk: bytes) -> list[SseEvent]:
        text = self._rest + chunk
        if self._fresh and len(text) >= 3:
            self._fresh = False
            text = text.removeprefix(b"\xef\xbb\xbf")
        # A carriage return at the very end may be half of a line's end.
        whole = text.rstrip(b"\r") if text.endswith(b"\r") else text
        lines = whole.splitlines(keepends=True)
        self._rest = text[len(whole) :]
        if lines and not lines[-1].endswith((b"\n", b"\r")):
            self._rest = lines.pop() + self._rest
        if len(self._rest) + self._size > LONGEST_EVENT:
            raise CapyraError("the server sent an event without end; it is not what it claims")
        found: list[SseEvent] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), found)
        return found

    def _take(self, line: bytes, found: list[SseEvent]) -> None:
        if not line:
            if self._data:
                found.append(Data(b"\n".join(self._data).decode("utf-8", "replace"), self._name))
            self._data, self._size, self._name = [], 0, "message"
        elif line.startswith(b":"):
            found.append(Comment(line[1:].removeprefix(b" ").decode("utf-8", "replace")))
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
                self._size += len(value)
            elif field == b"event":
                self._name = value.decode("utf-8", "replace")
