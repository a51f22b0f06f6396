"""Where a local server keeps its state, so that other commands find it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from capyra.deployments.processes import alive, command_of
from capyra.engine.errors import ConfigError


def base() -> Path:
    """The directory of this user's local servers."""
    chosen = Path(os.environ.get("CAPYRA_RUN_DIR") or _own())
    if len(str(chosen)) > LONGEST_BASE:
        raise ConfigError(
            f"CAPYRA_RUN_DIR {chosen} is too long: sockets lie below it, and their paths may have "
            f"107 letters; choose one of at most {LONGEST_BASE}"
        )
    return chosen


LONGEST_BASE = 28


def _own() -> Path:
    """Everybody may write to /tmp: what lies there under our name may be somebody else's, and its
    records would tell us which processes to end."""
    path = Path(f"/tmp/capyra-{os.getuid()}")
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return path
    if owner != os.getuid():
        raise ConfigError(
            f"{path} belongs to somebody else (user {owner}): choose another directory with "
            "CAPYRA_RUN_DIR"
        )
    return path


@dataclass(frozen=True, slots=True)
class Running:
    """A server that `capyra serve` started here."""

    pid: int
    port: int
    url: str
    dashboard: str
    directory: str
    command: str

    def save(self) -> None:
        path = _file(self.port)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)

    def forget(self) -> None:
        _file(self.port).unlink(missing_ok=True)

    @property
    def is_alive(self) -> bool:
        # A process number comes round again; the command line tells whether it is still ours.
        return alive(self.pid) and command_of(self.pid) == self.command


@contextmanager
def claim(port: int) -> Iterator[None]:
    """Be the only one who starts or runs a server on this port. A record is written only when a
    server stands; of two that start together, one must know before."""
    base().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (base() / f"server-{port}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another server is starting or stopping on port {port}: wait for it, or choose "
                "`--port`"
            ) from error
        yield


def recorded() -> list[Running]:
    """Every server that left a record, alive or not."""
    found = []
    for path in sorted(base().glob("server-*.json")):
        try:
            found.append(Running(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):
            path.unlink(missing_ok=True)
    return found


def running(port: int | None = None) -> Running | None:
    """The server on that port, or the only one there is."""
    servers = [server for server in recorded() if server.is_alive]
    if port is not None:
        servers = [server for server in servers if server.port == port]
    return servers[0] if len(servers) == 1 else None


def _file(port: int) -> Path:
    return base() / f"server-{port}.json"
