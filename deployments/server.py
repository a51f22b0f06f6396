"""A local server: one Ray node with Serve and the experts, in the foreground, gone at its end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from capyra.deployments import rundir
from capyra.deployments.environment import local_environment
from capyra.deployments.experts_file import ExpertsFile, load
from capyra.deployments.processes import (
    adopt_orphans,
    alive,
    command_of,
    descendants,
    end,
    free_block,
    free_ports,
    left_behind,
    port_taken,
)
from capyra.deployments.reporter import Reporter
from capyra.deployments.rest import ServeRest
from capyra.deployments.rollout import check_exposure, roll_out
from capyra.deployments.rundir import Running
from capyra.engine.errors import CapacityError, CapyraError, ConfigError

log = logging.getLogger(__name__)

START_DEADLINE_S = 180.0
STOP_GRACE_S = 10.0
SESSIONS_KEPT = 2
"""Ray's log directories of earlier runs that stay, to read what went wrong."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may say over the experts file."""

    host: str | None = None
    port: int | None = None
    dashboard_port: int = 8265


def serve(path: Path, options: Options, reporter: Reporter) -> None:
    """Start everything, say when it is ready, and stop it all when asked to by a signal."""
    reporter.stage("reading the experts file")
    file = _with_options(load(path), options)
    _check_address(file)
    reporter.done(", ".join(name for name, e in file.experts.items() if e.active))
    adopt_orphans()
    directory = rundir.base() / str(file.server.port)
    with rundir.claim(file.server.port), _stopping() as pause:
        clean(file.server.port)
        try:
            running = _start(file, directory, options, reporter, pause)
            reporter.ready(running.url, _example(file, running.url))
            core = _core_processes()
            while all(alive(pid) for pid in core):
                pause(1.0)
            raise CapyraError(f"the Ray node ended; its logs are below {directory}/ray")
        except _Stopped:
            reporter.note("stopping, as asked")
        finally:
            try:
                reporter.stage("stopping")
            finally:
                # Also where nobody reads what is reported any more.
                _stop_all(file.server.port, directory)
            reporter.done("nothing is left running")


def stop(port: int | None = None, grace_s: float = 60.0) -> Running | None:
    """End the server that `serve` started; None if there is none."""
    server = rundir.running(port)
    if server is None:
        return None
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    give_up = time.monotonic() + grace_s
    while server.is_alive and time.monotonic() < give_up:
        time.sleep(0.1)
    if server.is_alive:
        end([server.pid, *descendants(server.pid)], STOP_GRACE_S)
    clean(server.port)
    return server


def clean(port: int) -> None:
    """End what a server on this port left behind when it was killed."""
    for server in rundir.recorded():
        if server.port == port and not server.is_alive:
            end(left_behind(Path(server.directory)), STOP_GRACE_S)
            server.forget()


# --- starting -------------------------------------------------------------------------------


def _with_options(file: ExpertsFile, options: Options) -> ExpertsFile:
    said = {"host": options.host, "port": options.port}
    server = file.server.model_copy(update={k: v for k, v in said.items() if v is not None})
    return file.model_copy(update={"server": server})


def _check_address(file: ExpertsFile) -> None:
    server = file.server
    check_exposure(file)
    other = rundir.running(server.port)
    if other is not None:
        raise ConfigError(
            f"a server runs on port {server.port} already (process {other.pid}): "
            "`capyra stop` ends it, `--port` chooses another"
        )
    if port_taken(server.host, server.port):
        raise ConfigError(f"port {server.port} is taken by another program: choose `--port`")


def _start(
    file: ExpertsFile,
    directory: Path,
    options: Options,
    reporter: Reporter,
    pause: Callable[[float], None],
) -> Running:
    reporter.stage("starting Ray")
    dashboard = _start_ray(file.server.port, directory, options)
    reporter.done(f"dashboard at {dashboard}")
    host = "127.0.0.1" if file.server.host == "0.0.0.0" else file.server.host
    running = Running(
        pid=os.getpid(),
        port=file.server.port,
        url=f"http://{host}:{file.server.port}",
        dashboard=dashboard,
        directory=str(directory),
        command=command_of(os.getpid()),
    )
    running.save()
    reporter.stage("starting experts")
    roll_out(ServeRest(dashboard), file, reporter, START_DEADLINE_S, pause)
    _await_gateway(running.url, pause)
    reporter.done()
    return running


def _start_ray(port: int, directory: Path, options: Options) -> str:
    metrics_port, stats_port = free_ports(2)
    gateways = free_block(port, options.dashboard_port)
    _prune(directory / "ray")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ |= local_environment(directory, metrics_port, stats_port, gateways)
    # Ray and Serve read their environment when they are imported.
    import ray

    on_term = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(
            address="local",
            # On loopback Ray listens to this machine only.
            _node_ip_address="127.0.0.1",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=options.dashboard_port,
            object_store_memory=256 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(directory / "ray"),
        )
    except Exception as error:
        # Ray raises plain exceptions of many kinds when a part of the node does not come up.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CapacityError(
            f"Ray did not start ({reason[0]}); is the machine very busy? Its logs are below "
            f"{directory}/ray"
        ) from error
    finally:
        # Ray puts its own handler there, which would end this process while it cleans up.
        signal.signal(signal.SIGTERM, on_term)
    return f"http://{context.dashboard_url}"


def _await_gateway(url: str, pause: Callable[[float], None]) -> None:
    give_up = time.monotonic() + START_DEADLINE_S
    with httpx.Client(base_url=url, timeout=5.0) as client:
        while not _answers(client):
            if time.monotonic() > give_up:
                raise CapacityError(f"the gateway at {url} does not answer")
            pause(0.1)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _example(file: ExpertsFile, url: str) -> str:
    expert = next(name for name, config in file.experts.items() if config.active)
    return (
        f"curl {url}/v1/chat/completions -H 'content-type: application/json' "
        f'-d \'{{"model": "{expert}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\''
    )


# --- stopping -------------------------------------------------------------------------------


class _Stopped(Exception):
    """A signal came that asks for the end."""


@contextmanager
def _stopping() -> Iterator[Callable[[float], None]]:
    """Waits that SIGINT, SIGTERM and SIGHUP end with `_Stopped`, instead of ending the process
    where it stands. A SIGHUP that is ignored, as `nohup` has it, stays so."""
    event = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        event.set()

    def pause(seconds: float) -> None:
        if event.wait(seconds):
            raise _Stopped

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield pause
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _core_processes() -> list[int]:
    """Without these the node is gone, whatever else still runs."""
    core = ("gcs_server", "raylet")
    return [
        pid for pid in descendants(os.getpid()) if Path(command_of(pid).split(" ")[0]).name in core
    ]


def _stop_all(port: int, directory: Path) -> None:
    import ray
    import ray.serve

    try:
        if ray.is_initialized():
            shut_serve: Callable[[], None] = ray.serve.shutdown
            shut_serve()
            ray.shutdown()
    except Exception:
        # A node that is half gone cannot be asked to end in order; its processes end all the same.
        log.warning("Ray did not shut down in order", exc_info=True)
    end(descendants(os.getpid()), STOP_GRACE_S)
    end(left_behind(directory), STOP_GRACE_S)
    for server in rundir.recorded():
        if server.port == port and server.pid == os.getpid():
            server.forget()


def _prune(sessions: Path) -> None:
    """Forget the logs of all but the newest earlier runs."""
    found = [p for p in sessions.glob("session_2*") if p.is_dir() and not p.is_symlink()]
    for old in sorted(found)[:-SESSIONS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
