"""What is typed: lines with history and completion, several of them as one message."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PROMPT, MORE = ">>> ", "... "
FENCE = '"""'
HISTORY_LENGTH = 1000

Read = Callable[[str], str]
"""Shows a prompt and gives the line that is typed; `EOFError` at the end of the input."""


def read_message(read: Read) -> str:
    """One message: a line; lines that end in a backslash, and the one after; or all that is
    between two triple quotes."""
    line = read(PROMPT)
    if line.lstrip().startswith(FENCE):
        return _fenced(line.lstrip().removeprefix(FENCE), read)
    lines = []
    while line.endswith("\\"):
        lines.append(line[:-1])
        line = read(MORE)
    return "\n".join([*lines, line])


def _fenced(line: str, read: Read) -> str:
    lines = []
    while not line.rstrip().endswith(FENCE):
        lines.append(line)
        line = read(MORE)
    lines.append(line.rstrip().removesuffix(FENCE))
    return "\n".join(lines).strip("\n")


def history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "capyra" / "history"


class Keyboard:
    """The terminal's lines, through readline where Python has it."""

    def __init__(self, words: Sequence[str], history: Path | None = None) -> None:
        self._words = words
        self._history = history or history_path()

    def __enter__(self) -> Read:
        try:
            import readline
        except ImportError:
            return input
        # A history that cannot be read or kept is no reason not to talk.
        with suppress(OSError):
            readline.read_history_file(self._history)
        readline.set_history_length(HISTORY_LENGTH)
        readline.set_completer_delims(" ")
        readline.set_completer(self._complete)
        readline.parse_and_bind("tab: complete")
        return input

    def __exit__(self, *_: object) -> None:
        try:
            import readline
        except ImportError:
            return
        with suppress(OSError):
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            readline.write_history_file(self._history)

    def _complete(self, text: str, state: int) -> str | None:
        found = [word for word in self._words if text and word.startswith(text)]
        return found[state] if state < len(found) else None
