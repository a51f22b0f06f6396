"""`load`, `unload`, `pin`, `unpin`, `why`, `replay`: which experts are in memory, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import JsonOption, ServerOption
from capyra.deployments.cli.output import duration, print_json, print_table, say
from capyra.engine.errors import InvalidValue

if TYPE_CHECKING:
    from capyra.deployments.cli.client import Client
    from capyra.deployments.experts_file import ExpertsFile
    from capyra.orchestrator.residency.replay import Figures
    from capyra.orchestrator.residency.traces import Arrival

ExpertArgument = Annotated[str, typer.Argument(metavar="EXPERT", help="The expert.")]
FIGURES = ("", ">REQUESTS", ">WAITED", ">MEAN", ">P99", ">LONGEST", ">LOADS", ">GiB·HOURS")
GIB = 2**30


def load(expert: ExpertArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Bring an expert's weights into memory, and return when they are there."""
    _tell(server, expert, "load", as_json)


def unload(
    expert: ExpertArgument, server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Give an expert's weights back, after the requests that run."""
    _tell(server, expert, "unload", as_json)


def pin(expert: ExpertArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Keep an expert in memory until it is unpinned."""
    _tell(server, expert, "pin", as_json)


def unpin(expert: ExpertArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Let an expert go when it idles, whatever the experts file says."""
    _tell(server, expert, "unpin", as_json)


def why(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An expert, or the id of a request.")],
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what was decided about an expert or a request, and on what grounds."""
    with _client(server) as client:
        lines = client.get(f"/v1/why/{name}").get("lines") or []
    if as_json:
        print_json(lines)
    elif lines:
        typer.echo("\n".join(lines))
    else:
        say(f"nobody remembers {name!r}: it is no expert, or a request of long ago")


def _tell(server: str | None, expert: str, what: str, as_json: bool) -> None:
    with _client(server) as client:
        told = client.post(f"/v1/experts/{expert}/{what}")
    show(told, as_json=as_json)


def show(told: dict[str, Any], *, as_json: bool) -> None:
    """The expert as it is after an operator's word."""
    if as_json:
        print_json(told)
        return
    words = [str(told.get("state"))]
    words += ["pinned"] if told.get("pinned") else []
    words += [] if told.get("held") is None else [f"held at {told['held']}"]
    say(f"{told.get('name')}: {', '.join(words)}")


# --- replay -----------------------------------------------------------------------------------


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The traffic, as JSON lines.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Experts files to compare.")
    ],
    nodes: Annotated[
        int, typer.Option(metavar="N", min=1, max=4096, help="How many nodes there are.")
    ] = 1,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Bytes for experts on each, over `residency.node_memory`."
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Write TRACE first, with what the server remembers."),
    ] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run recorded traffic through other settings, in simulated time."""
    from capyra.deployments.experts_file import load as read

    if record:
        _record(trace, server)
    arrivals = _arrivals(trace)
    found = {str(file): _replayed(arrivals, read(file), nodes, memory) for file in files}
    if as_json:
        print_json({name: asdict(figures) for name, figures in found.items()})
    else:
        print_table(FIGURES, [_cells(name, figures) for name, figures in found.items()])


def _record(trace: Path, server: str | None) -> None:
    with _client(server) as client:
        lines = client.lines("/v1/trace")
    try:
        trace.write_text(lines)
    except OSError as error:
        raise InvalidValue(f"cannot write the trace {trace}: {error}") from error


def _arrivals(trace: Path) -> list[Arrival]:
    from capyra.orchestrator.residency.traces import parse

    try:
        with trace.open() as lines:
            return sorted(parse(lines), key=lambda each: each.at)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidValue(f"cannot read the trace {trace}: {error}") from error


def _replayed(
    arrivals: list[Arrival], file: ExpertsFile, nodes: int, memory: str | None
) -> Figures:
    from capyra.deployments.memory import weight_bytes
    from capyra.orchestrator.residency.replay import replay as run
    from capyra.orchestrator.residency.spec import ExpertSpec, Policy

    active = {name: each for name, each in file.experts.items() if each.active}
    strangers = sorted({each.expert for each in arrivals} - active.keys())
    if strangers:
        raise InvalidValue(f"the file has no active expert {strangers[0]!r}, which the trace asks")
    capacity = file.residency.node_memory if memory is None else _size(memory)
    if capacity is None:
        raise InvalidValue("how much memory a node has is not told: give --memory")
    experts = tuple(
        ExpertSpec.of(name, each, weight_bytes(file.model_path(name)))
        for name, each in active.items()
    )
    there = {f"node {number}": capacity for number in range(1, nodes + 1)}
    return run(arrivals, experts, there, Policy.of(file.residency))


def _size(text: str) -> int:
    from capyra.engine.config import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidValue(f"--memory {text} {error}") from error


def _cells(name: str, figures: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{figures.requests:,}",
        f"{figures.waited:,}",
        duration(figures.wait_mean_s),
        duration(figures.wait_p99_s),
        duration(figures.wait_longest_s),
        f"{figures.loads:,}",
        f"{figures.byte_hours / GIB:.1f}",
    )


def _client(server: str | None) -> Client:
    from capyra.deployments.cli.client import Client

    return Client(addresses.server(server), addresses.key())
