"""Reporters: how long work looks on a terminal, and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from capyra.deployments.cli.output import duration
from capyra.deployments.reporter import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STEP = 0.25
"""A log gets a line for each quarter of a stage, not for each update."""


@contextmanager
def reporting() -> Iterator[Reporter]:
    """The reporter that suits the standard error output, which is left as it was."""
    if not sys.stderr.isatty():
        yield LineReporter(sys.stderr)
        return
    live = LiveReporter()
    try:
        yield live
    finally:
        live.close()


class LineReporter:
    """One line, with its time, for each thing worth a line."""

    def __init__(
        self,
        out: TextIO,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._now = now
        self._clock = clock
        self._stage = ""
        self._began = clock()
        self._told = 0.0

    def stage(self, name: str) -> None:
        self._stage = name
        self._began = self._clock()
        self._told = 0.0
        self._line(name)

    def update(self, fraction: float, text: str = "") -> None:
        if fraction >= self._told + STEP:
            self._told = fraction
            self._line(_joined(f"{self._stage}: {fraction:.0%}", text))

    def done(self, text: str = "") -> None:
        took = duration(self._clock() - self._began)
        self._line(_joined(f"{self._stage}: done in {took}", text))

    def note(self, text: str) -> None:
        self._line(text)

    def ready(self, url: str, example: str) -> None:
        self._line(f"ready at {url}")
        self._line(f"try: {example}")

    def _line(self, text: str) -> None:
        self._out.write(f"{self._now():%H:%M:%S} {text}\n")
        self._out.flush()


class LiveReporter:
    """A moving line for the stage at work, a quiet one for each that is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._clock = clock
        self._began = clock()
        self._name = ""
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def stage(self, name: str) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._clear()
        self._name = name
        self._began = self._clock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[text]}", markup=True),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(name, total=None, text="")
        self._progress.start()

    def update(self, fraction: float, text: str = "") -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=1.0, completed=fraction, text=_safe(text))

    def done(self, text: str = "") -> None:
        took = duration(self._clock() - self._began)
        self._clear()
        told = f"  {_safe(text)}" if text else ""
        self._console.print(f"[green]✓[/] {self._name} [dim]{took}{told}[/]", soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(f"[yellow]•[/] {_safe(text)}", soft_wrap=True)

    def ready(self, url: str, example: str) -> None:
        self._clear()
        self._console.print(f"\n[bold green]Capyra is ready[/] at [bold]{url}[/]\n")
        # Unwrapped, so that it can be copied whole.
        self._console.print(example, markup=False, soft_wrap=True)
        self._console.print("\n[dim]Ctrl-C stops it.[/]")

    def close(self) -> None:
        """Leave the terminal as it was, whatever stage it is in."""
        self._clear()

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


def _joined(text: str, more: str) -> str:
    return f"{text}, {more}" if more else text


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)
