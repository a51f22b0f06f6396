"""`bench`: a load on any OpenAI-compatible server, and what users would have felt."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import JsonOption, ServerOption
from capyra.deployments.cli.ending import FAILED, INTERRUPTED
from capyra.deployments.cli.output import print_json, say
from capyra.engine.errors import InvalidValue

if TYPE_CHECKING:
    from capyra.deployments.cli.loadgen.drive import Outcome
    from capyra.deployments.cli.loadgen.plan import Plan
    from capyra.deployments.cli.loadgen.shot import Shot

DEFAULT_REQUESTS = 100


class Endpoint(StrEnum):
    CHAT = "chat"
    COMPLETIONS = "completions"


def bench(
    expert: Annotated[
        str | None,
        typer.Argument(metavar="EXPERT", help="The model to ask; needed if there are several."),
    ] = None,
    server: ServerOption = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests", "-n", metavar="N", min=1, help="How many; 100 if --duration is not given."
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration", "-d", metavar="TIME", help="How long to go on asking, such as 30s or 5m."
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", "-c", metavar="N", min=1, max=10_000, help="Clients that wait in turn."
        ),
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", "-r", metavar="N", min=0.001, help="Instead: requests a second, unasked."
        ),
    ] = None,
    burst: Annotated[
        int, typer.Option(metavar="N", min=1, help="With --rate: so many come at once.")
    ] = 1,
    in_flight: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="With --rate: the most at once; others wait, and it counts."
        ),
    ] = 1024,
    prompt_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Length of each prompt.")
    ] = 128,
    prefix_tokens: Annotated[
        int, typer.Option(metavar="N", min=0, help="So much of each prompt is the same in all.")
    ] = 0,
    output_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Longest answer.")] = 64,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Each answer as long as that, if the server can.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: a file with a prompt on each line."),
    ] = None,
    endpoint: Annotated[Endpoint, typer.Option(help="Which of OpenAI's.")] = Endpoint.CHAT,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Token by token, or all at once.")
    ] = True,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=JSON", help="Another field of each request's body."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds for each request.")
    ] = 600.0,
    warmup: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests before, not counted.")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The same seed, the same load: caches know it. Drawn if not given."
        ),
    ] = None,
    ceiling: Annotated[
        bool, typer.Option("--ceiling", help="Measure first what this generator can do at all.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the report and every request to this file, as JSON."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a load on a server and time its answers.

    Time to first token, between tokens and in all, throughput, failures. The server may be any
    that speaks OpenAI's API.
    """
    import asyncio

    from capyra.deployments.cli.loadgen.plan import Plan

    url = addresses.server(server)
    seconds = _seconds(duration)
    plan = Plan(
        model=expert or _only_model(url),
        endpoint=endpoint.value,
        requests=requests or (DEFAULT_REQUESTS if seconds is None else None),
        seconds=seconds,
        concurrency=concurrency,
        rate=rate,
        burst=burst,
        most_in_flight=in_flight,
        prompt_tokens=prompt_tokens,
        prefix_tokens=prefix_tokens,
        output_tokens=output_tokens,
        prompts=_prompts(prompts),
        stream=stream,
        timeout_s=timeout,
        warmup=warmup,
        seed=secrets.randbelow(2**31) if seed is None else seed,
        fields=_fields(field, ignore_eos),
    )
    report, outcome = asyncio.run(_measure(url, plan, with_ceiling=ceiling))
    if save is not None:
        _save(save, report, outcome)
    if as_json:
        print_json(report)
    else:
        from capyra.deployments.cli.figures_text import text

        typer.echo(text(report), nl=False)
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report["requests"]["failed"] or not report["requests"]["ok"]:
        raise typer.Exit(FAILED)


async def _measure(url: str, plan: Plan, *, with_ceiling: bool) -> tuple[dict[str, Any], Outcome]:
    from capyra.deployments.cli.loadgen.ceiling import ceiling
    from capyra.deployments.cli.loadgen.drive import Driver
    from capyra.deployments.cli.loadgen.figures import figures
    from capyra.deployments.cli.loadgen.wire import Target

    limit = None
    if with_ceiling:
        say("measuring the generator itself")
        limit = await ceiling(plan)
    with _watching(plan) as watch:
        driver = Driver(Target.of(url, addresses.key()), plan, watch)
        await driver.prepare()
        outcome = await driver.run()
    report = {"server": url, **figures(outcome)}
    report["generator"]["ceiling"] = limit
    return report, outcome


def _watching(plan: Plan) -> AbstractContextManager[Callable[[Shot], None]]:
    """A progress bar on a terminal; elsewhere nothing, the report says it all."""
    import sys

    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from capyra.deployments.cli.bench_progress import Bar

    return Bar(plan)


def _only_model(url: str) -> str:
    from capyra.deployments.cli.client import Client

    with Client(url, addresses.key()) as client:
        names = [str(card.get("id")) for card in client.models()]
    if len(names) != 1:
        raise InvalidValue(f"say which model: there is {', '.join(names) or 'none'}")
    return names[0]


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from capyra.engine.config import parse_duration

    try:
        found = parse_duration(text)
    except ValueError as error:
        raise InvalidValue(f"--duration: {error}") from error
    if found <= 0:
        raise InvalidValue(f"--duration: {text!r} is no time at all")
    return found


def _prompts(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"cannot read the prompts in {path}: {error}") from error
    found = tuple(line for line in lines if line.strip())
    if not found:
        raise InvalidValue(f"{path} has no prompts: write one on each line")
    return found


def _fields(pairs: list[str] | None, ignore_eos: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"ignore_eos": True} if ignore_eos else {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError as error:
            raise InvalidValue(f"write --field NAME=JSON, not {pair!r}") from error
        if not name or not equals:
            raise InvalidValue(f"write --field NAME=JSON, not {pair!r}")
    return found


def _save(path: Path, report: dict[str, Any], outcome: Outcome) -> None:
    raw = [shot.record(outcome.start) for shot in outcome.shots]
    try:
        path.write_text(json.dumps(report | {"raw": raw}, indent=2) + "\n")
    except OSError as error:
        raise InvalidValue(f"cannot write {path}: {error.strerror}") from error
