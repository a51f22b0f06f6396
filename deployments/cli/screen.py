"""Where an answer appears, piece by piece; and before it, how far the expert's load is."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TextIO

from capyra.deployments.cli.chat import Answer
from capyra.deployments.cli.client import CallPiece, ChatEvent, Text, Waiting
from capyra.deployments.cli.output import duration
from capyra.deployments.cli.report import LineReporter, LiveReporter

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Screen:
    """Answers go to `out` as they are; everything about them goes to `err`."""

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        color: bool | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        plain = bool(os.environ.get("NO_COLOR")) or not self._err.isatty()
        self._color = not plain if color is None else color
        self._quiet = quiet
        self._clock = clock
        self._load: LiveReporter | LineReporter | None = None
        self._stage = ""

    def begin(self) -> Answer:
        return Answer(self._clock())

    def show(self, events: Generator[ChatEvent, None, None], answer: Answer) -> None:
        """Show the answer as it comes; `answer` has what came, whatever happens."""
        thinking = False
        try:
            with closing(events):
                for event in events:
                    answer.take(event, self._clock())
                    thinking = self._event(event, thinking)
        finally:
            self._clear()
            self._turn(thinking, False)

    def end(self, answer: Answer) -> None:
        """The end of the answer's last line."""
        if answer.calls or not answer.text.endswith("\n"):
            self._write("\n", self._out)

    def note(self, text: str) -> None:
        """Something about the answer, or in place of one."""
        self._err.write(f"{DIM}{text}{PLAIN}\n" if self._color else f"{text}\n")
        self._err.flush()

    def _event(self, event: ChatEvent, thinking: bool) -> bool:
        match event:
            case Waiting():
                self._wait(event)
            case Text(thinking=thought):
                self._clear()
                thinking = self._turn(thinking, thought)
                self._write(event.text, self._err if thought else self._out)
            case CallPiece(name=name, arguments=arguments):
                self._clear()
                self._write(f"\n→ {name} {arguments}" if name else arguments, self._out)
        return thinking

    def _turn(self, before: bool, now: bool) -> bool:
        """Thinking is dim, so that it is not taken for the answer."""
        if before != now and not self._quiet:
            if self._color:
                self._err.write(DIM if now else PLAIN)
            self._err.write("" if now else "\n\n")
            self._err.flush()
        return now

    def _write(self, text: str, out: TextIO) -> None:
        if self._quiet:
            return
        # What a model writes must not steer the terminal; a file gets it as it is.
        out.write(_CONTROL.sub("\ufffd", text) if out.isatty() else text)
        out.flush()

    def _wait(self, event: Waiting) -> None:
        terminal = self._err.isatty()
        if self._quiet or (event.fraction is None and not terminal):
            return
        if self._load is None:
            self._load = LiveReporter() if terminal else LineReporter(self._err)
        stage = f"loading: {event.stage}" if event.stage else "waiting"
        if stage != self._stage:
            self._stage = stage
            self._load.stage(stage)
        if event.fraction is not None:
            left = "" if event.eta_s is None else f"{duration(math.ceil(event.eta_s))} left"
            self._load.update(event.fraction, left)

    def _clear(self) -> None:
        if isinstance(self._load, LiveReporter):
            self._load.close()
        self._load, self._stage = None, ""
