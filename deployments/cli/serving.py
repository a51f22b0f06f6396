"""`serve`, `stop` and `deploy`: a server here, and experts on any cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import AddressOption, JsonOption
from capyra.deployments.cli.output import print_json, say
from capyra.engine.errors import InvalidValue

DEFAULT_FILE = Path("experts/demo.yaml")
FILE_HELP = "The experts file."


def serve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=FILE_HELP)] = DEFAULT_FILE,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; one beyond this machine needs a key."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Port of the server, over the file's."),
    ] = None,
    dashboard_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Port of the Ray dashboard.")
    ] = 8265,
) -> None:
    """Start a server with the experts of FILE here, until Ctrl-C."""
    from capyra.deployments.cli.report import reporting
    from capyra.deployments.server import Options
    from capyra.deployments.server import serve as run

    options = Options(host=host, port=port, dashboard_port=dashboard_port)
    with reporting() as reporter:
        run(file, options, reporter)


def stop(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1, max=65535, help="Which server, where several run here."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the server that runs here.

    That there is none is no error.
    """
    from capyra.deployments import rundir

    ports = [one.port for one in rundir.recorded() if one.is_alive]
    if port is None and len(ports) > 1:
        raise InvalidValue(
            f"several servers run here: choose one with --port {', '.join(map(str, ports))}"
        )
    from capyra.deployments.server import stop as end

    stopped = end(port)
    if as_json:
        print_json({"stopped": None if stopped is None else stopped.url})
    elif stopped is None:
        say("no server of yours runs here" + (f" on port {port}" if port else ""))
    else:
        say(f"stopped the server at {stopped.url}")


def deploy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=FILE_HELP)],
    address: AddressOption = None,
    as_json: JsonOption = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when every application runs.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds that it waits at most.")
    ] = 300.0,
) -> None:
    """Make a running cluster serve the experts of FILE.

    Only what changed is touched.
    """
    from capyra.deployments.cli.report import reporting
    from capyra.deployments.experts_file import load
    from capyra.deployments.rest import ServeRest
    from capyra.deployments.rollout import roll_out

    found = load(file)
    rest = ServeRest(addresses.dashboard(address))
    with reporting() as reporter:
        reporter.stage("deploying")
        names = roll_out(rest, found, reporter, timeout if wait else None)
        reporter.done(", ".join(names))
    if as_json:
        print_json({"applications": names, "running": wait})
