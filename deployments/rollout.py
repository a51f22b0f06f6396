"""Bringing an experts file to a cluster, and waiting until it stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from capyra.deployments.experts_file import ExpertsFile
from capyra.deployments.gateway.keys import Keys
from capyra.deployments.reporter import Reporter
from capyra.deployments.rest import FAILED_STATES, ServeRest, failure_of
from capyra.deployments.serve_config import render
from capyra.engine.errors import CapacityError, CapyraError, ConfigError

PAUSE_S = 0.25


def roll_out(
    rest: ServeRest,
    file: ExpertsFile,
    reporter: Reporter,
    timeout_s: float | None,
    pause: Callable[[float], object] = time.sleep,
) -> list[str]:
    """Deploy, and wait until every application runs; without a timeout, return as soon as Serve
    knows what it is to do.

    The names of the applications. `pause` may raise to give the waiting up.
    """
    check_exposure(file)
    config = render(file)
    names = [application["name"] for application in config["applications"]]
    before = rest.details().get("applications", {})
    rest.deploy(config)
    if removed := sorted(before.keys() - set(names)):
        reporter.note(f"removing what the file does not have: {', '.join(removed)}")
    if timeout_s is not None:
        await_running(rest, names, timeout_s, reporter, pause=pause)
    return names


def check_exposure(file: ExpertsFile) -> None:
    """A server that others can reach has a key; its processes inherit it from this one's
    environment, or from that of the node."""
    server = file.server
    if server.exposed and not Keys.from_environment(server.key_env):
        raise ConfigError(
            f"server.host {server.host} can be reached from outside, and there is no key: set "
            f"{server.key_env}, or keep the host at 127.0.0.1"
        )


def await_running(
    rest: ServeRest,
    names: list[str],
    timeout_s: float,
    reporter: Reporter,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Return when each application runs and those that were removed are gone."""
    give_up = clock() + timeout_s
    while True:
        told: dict[str, Any] = rest.details().get("applications", {})
        for name, application in told.items():
            if application["status"] in FAILED_STATES:
                raise CapyraError(f"{name} did not start: {failure_of(application)}")
        late = [n for n in names if told.get(n, {}).get("status") != "RUNNING"]
        leaving = [n for n in told if n not in names]
        if not late and not leaving:
            return
        awaited = [*late, *(f"{name} to end its answers" for name in leaving)]
        share = 1 - len(awaited) / (len(names) + len(leaving))
        reporter.update(share, f"waiting for {', '.join(awaited)}")
        if clock() > give_up:
            raise CapacityError(
                f"not done after {timeout_s:g} s: {', '.join(late + leaving)}; it goes on"
            )
        pause(PAUSE_S)
