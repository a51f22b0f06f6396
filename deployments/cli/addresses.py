"""Which server a command talks to: an option, the environment, the one started here, a default."""

from __future__ import annotations

import os
from typing import Annotated
from urllib.parse import urlsplit

import typer

from capyra.deployments import rundir
from capyra.engine.errors import InvalidValue

SERVER = "http://127.0.0.1:8082"
DASHBOARD = "http://127.0.0.1:8265"
KEY_VARIABLE = "CAPYRA_API_KEY"

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        "-s",
        metavar="URL",
        envvar="CAPYRA_SERVER",
        help=f"The server; by default the one that runs here, or {SERVER}.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="URL",
        envvar="CAPYRA_DASHBOARD",
        help=f"The Ray dashboard; by default that of the server that runs here, or {DASHBOARD}.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs; messages go to standard error.")
]


def server(said: str | None) -> str:
    """The server's root. Clients call it with and without `/v1`; both are understood."""
    running = None if said else rundir.running()
    url = said or (running.url if running else SERVER)
    return checked(url).removesuffix("/v1")


def dashboard(said: str | None) -> str:
    running = None if said else rundir.running()
    return checked(said or (running.dashboard if running else DASHBOARD))


def key() -> str | None:
    """The key to send. A server's own variable may hold several: the first is ours."""
    return os.environ.get(KEY_VARIABLE, "").partition(",")[0].strip() or None


def checked(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        sane = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sane = False
    if not sane:
        raise InvalidValue(f"{url!r} is no address: write it like {SERVER}")
    return full.rstrip("/")
