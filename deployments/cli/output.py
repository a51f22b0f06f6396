"""What goes to standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

WIDEST = 10_000
"""Columns of an output that is no terminal: nothing is cut or wrapped for a program."""


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(message: str) -> None:
    """A message beside the data: on standard error."""
    typer.echo(message, err=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns without lines around them. Cells may have rich's markup; a column whose
    name begins with `>` holds figures."""
    sys.stdout.write(table_text(columns, rows, terminal=sys.stdout.isatty()))


def table_text(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool, width: int = 0
) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=column is not columns[-1],
        )
    for row in rows:
        table.add_row(*row)
    if terminal:
        console = Console(highlight=False, width=width or None)
    else:
        console = Console(highlight=False, width=WIDEST, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: float | None) -> str:
    """Bytes as an operator reads them."""
    if count is None:
        return "-"
    unit = 0
    while count >= 1000 and unit < 4:
        count /= 1024
        unit += 1
    digits = 0 if unit == 0 or count >= 99.5 else 1
    return f"{count:.{digits}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
