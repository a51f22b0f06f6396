"""`eval`: models on a set of questions whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import JsonOption, ServerOption
from capyra.deployments.cli.ending import FAILED, INTERRUPTED
from capyra.deployments.cli.output import duration, plural, print_json, print_table, say
from capyra.engine.errors import InvalidValue

if TYPE_CHECKING:
    from capyra.deployments.cli.examination import Marked, Tally


class Check(StrEnum):
    LAST_LINE = "last-line"
    WHOLE = "whole"
    CONTAINS = "contains"


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Experts to ask."),
    ],
    questions: Annotated[
        Path,
        typer.Option(
            "--questions",
            "-q",
            metavar="FILE",
            help="One JSON object on each line.",
        ),
    ],
    server: ServerOption = None,
    check: Annotated[
        Check, typer.Option(help="What of the answer has to be the result.")
    ] = Check.LAST_LINE,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="Only the first N.")
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", "-c", metavar="N", min=1, max=256, help="At once."),
    ] = 4,
    max_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Longest answer.")] = 256,
    show: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show so many wrong answers of each model.")
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every answer to this file, as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask models questions with known answers, and count.

    Each line of the file is an object with `prompt` and `result`; `field` groups the table,
    `image` is a file beside it or a data URL. Answers are greedy.
    """
    from capyra.deployments.cli.client import Client
    from capyra.deployments.cli.examination import Examination, read_questions, tally

    asked = read_questions(questions)[:limit]
    marked: dict[str, list[Marked]] = {}
    examination = Examination(asked, check.value, concurrency, max_tokens)
    with Client(addresses.server(server), addresses.key()) as client:
        known = {str(card.get("id")) for card in client.models()}
        if unknown := [name for name in models if name not in known]:
            there = ", ".join(sorted(known)) or "none"
            raise InvalidValue(f"there is no model {unknown[0]!r}: the server has {there}")
        for name in models:
            with _watching(name, len(asked)) as watch:
                try:
                    marked[name] = examination.take(client, name, watch)
                except KeyboardInterrupt:
                    raise typer.Exit(INTERRUPTED) from None
    tallies = {name: tally(each) for name, each in marked.items()}
    if save is not None:
        _save(save, marked)
    if as_json:
        print_json({name: each.report() for name, each in tallies.items()})
    else:
        _print(tallies)
        for name in models if show else ():
            _show(name, marked[name], show)
    if failed := [name for name, each in tallies.items() if each.failed]:
        say(f"not all questions were answered by {', '.join(failed)}: --save tells why")
        raise typer.Exit(FAILED)


def _print(tallies: dict[str, Tally]) -> None:
    fields = sorted({field for each in tallies.values() for field in each.fields})
    rows = [
        [field, *(_share(*each.fields.get(field, (0, 0))) for each in tallies.values())]
        for field in fields
    ]
    rows.append(["all", *(_share(each.right, each.asked) for each in tallies.values())])
    rows.append(
        ["first token, median", *(duration(each.first_token_s) for each in tallies.values())]
    )
    rows.append(["answer, median", *(duration(each.answer_s) for each in tallies.values())])
    print_table(["", *(f">{name}" for name in tallies)], rows)


def _share(right: int, asked: int) -> str:
    return f"{right} of {asked}  {right / asked:6.1%}" if asked else "-"


def _show(name: str, marked: list[Marked], count: int) -> None:
    wrong = [each for each in marked if not each.right][:count]
    for each in wrong:
        said = each.failure or each.text
        typer.echo(
            f"\n{name} · {each.question.prompt}\n  not  {said}\n  but  {each.question.result}"
        )


def _watching(name: str, count: int) -> AbstractContextManager[Callable[[], None]]:
    """A progress bar on a terminal; elsewhere one line."""
    import sys

    if sys.stderr.isatty():
        return _bar(name, count)
    say(f"asking {name} {plural(count, 'question')}")
    return nullcontext(lambda: None)


def _bar(name: str, count: int) -> AbstractContextManager[Callable[[], None]]:
    from collections.abc import Iterator
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[Callable[[], None]]:
        console = Console(stderr=True, highlight=False)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"asking {name}", total=count)
            yield lambda: progress.advance(task)

    return shown()


def _save(path: Path, marked: dict[str, list[Marked]]) -> None:
    found: dict[str, Any] = {name: [each.record() for each in of] for name, of in marked.items()}
    try:
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InvalidValue(f"cannot write {path}: {error.strerror}") from error
