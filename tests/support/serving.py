"""A real server for tests: `capyra serve` as a person starts it, on ports and directories of its
own, and gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import pytest

from capyra.deployments.processes import command_of, descendants, free_ports, mentioning
from capyra.deployments.rest import ServeRest

START_DEADLINE_S = 150.0


@dataclass
class Server:
    """A running `capyra serve`, and what a test wants of it."""

    process: subprocess.Popen[str]
    directory: Path
    file: Path
    url: str
    dashboard: str
    environment: dict[str, str]

    def client(self, timeout_s: float = 30.0) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout_s)

    @cached_property
    def rest(self) -> ServeRest:
        return ServeRest(self.dashboard)

    def capyra(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command of ours against this server."""
        return subprocess.run(
            [sys.executable, "-m", "capyra.deployments.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def replicas(self, expert: str) -> list[dict[str, object]]:
        with self.client() as client:
            details = client.get(f"/v1/models/{expert}").json()
        found: list[dict[str, object]] = details["capyra"]["replicas"]
        return found

    def pids(self) -> dict[str, list[int]]:
        """The process numbers of every running replica, as Serve's REST tells them."""
        found: dict[str, list[int]] = {}
        for name, application in self.rest.details()["applications"].items():
            for deployment in application["deployments"].values():
                found[name] = sorted(
                    replica["pid"]
                    for replica in deployment["replicas"]
                    if replica["state"] == "RUNNING"
                )
        return found

    def await_running(self, app: str) -> None:
        give_up = time.monotonic() + START_DEADLINE_S
        while self.rest.details()["applications"].get(app, {}).get("status") != "RUNNING":
            assert time.monotonic() < give_up, f"{app} does not run"
            time.sleep(0.2)

    def stop(self) -> list[str]:
        """End it as Ctrl-C does; what it left behind, by command line."""
        self.rest.close()
        below = descendants(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        left = {pid for pid in below if command_of(pid)} | set(mentioning(self.directory))
        return [command_of(pid) for pid in left]


def start(experts: str) -> Server:
    directory = Path(tempfile.mkdtemp(prefix="cpy-"))
    file = directory / "experts.yaml"
    file.write_text(experts)
    port, dashboard = free_ports(2)
    environment = {**os.environ, "CAPYRA_RUN_DIR": str(directory)}
    environment.pop("CAPYRA_API_KEY", None)
    environment |= {
        "CAPYRA_SERVER": f"http://127.0.0.1:{port}",
        "CAPYRA_DASHBOARD": f"http://127.0.0.1:{dashboard}",
    }
    with (directory / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "capyra.deployments.cli", "serve", str(file)),
                *("--port", str(port), "--dashboard-port", str(dashboard)),
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    server = Server(
        process,
        directory,
        file,
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{dashboard}",
        environment,
    )
    _await_ready(server)
    return server


def _await_ready(server: Server) -> None:
    give_up = time.monotonic() + START_DEADLINE_S
    log = server.directory / "serve.log"
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            pytest.fail(f"capyra serve ended:\n{log.read_text()}")
        if "curl" in log.read_text():
            return
        time.sleep(0.2)
    server.process.kill()
    pytest.fail(f"capyra serve is not up:\n{log.read_text()}")
