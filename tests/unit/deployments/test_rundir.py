"""Records of local servers, and the processes behind them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capyra.deployments import rundir
from capyra.deployments.processes import (
    MARK,
    alive,
    command_of,
    descendants,
    end,
    free_block,
    free_ports,
    left_behind,
    mentioning,
    port_taken,
)
from capyra.deployments.rundir import Running
from capyra.engine.errors import ConfigError


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path(f"/tmp/cpyr-{os.getpid()}")
    path.mkdir(exist_ok=True)
    monkeypatch.setenv("CAPYRA_RUN_DIR", str(path))
    return path


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says when it stands, and then waits to be ended."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, f"{tmp_path}/mark"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def record(pid: int, port: int = 1234, command: str | None = None) -> Running:
    told = command_of(pid) if command is None else command
    return Running(pid, port, "http://u", "http://d", "/dir", told)


def test_a_record_is_found_while_its_process_lives(base: Path) -> None:
    record(os.getpid()).save()
    assert rundir.running() == record(os.getpid())
    assert rundir.running(1234) == record(os.getpid())
    assert rundir.running(4321) is None
    record(os.getpid()).forget()
    assert rundir.running() is None


def test_a_process_number_that_came_round_again_is_not_ours(base: Path) -> None:
    record(os.getpid(), command="capyra serve, long ago").save()
    assert rundir.running() is None
    record(os.getpid()).forget()


def test_with_several_servers_one_must_be_named(base: Path) -> None:
    record(os.getpid(), 1).save()
    record(os.getpid(), 2).save()
    assert rundir.running() is None
    assert rundir.running(2) == record(os.getpid(), 2)
    for server in rundir.recorded():
        server.forget()


def test_a_broken_record_is_dropped(base: Path) -> None:
    (base / "server-1.json").write_text("{")
    assert rundir.recorded() == []


def test_a_long_run_directory_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPYRA_RUN_DIR", "/tmp/" + "x" * 60)
    with pytest.raises(ConfigError, match="CAPYRA_RUN_DIR"):
        rundir.base()


def test_processes_are_found_and_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert sleeper.pid in descendants(os.getpid())
    assert mentioning(tmp_path) == [sleeper.pid]
    assert alive(sleeper.pid)
    end([sleeper.pid], grace_s=10)
    assert not alive(sleeper.pid)


def test_who_only_reads_a_log_of_a_cluster_is_not_left_behind_by_it(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert mentioning(tmp_path) == [sleeper.pid]
    assert left_behind(tmp_path) == []
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{tmp_path}/haproxy.cfg"],
        env={**os.environ, MARK: f"{tmp_path}/haproxy.cfg"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as proxy:
        assert proxy.stdout is not None
        proxy.stdout.readline()
        assert left_behind(tmp_path) == [proxy.pid]
        proxy.kill()


def test_a_run_directory_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPYRA_RUN_DIR", raising=False)
    somebody = 2**30 + os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    path = Path(f"/tmp/capyra-{somebody}")
    assert rundir.base() == path
    path.mkdir()
    try:
        with pytest.raises(ConfigError, match="somebody else"):
            rundir.base()
    finally:
        path.rmdir()


def test_ending_nobody_is_no_error() -> None:
    end([], grace_s=10)
    end([2**22 + 1], grace_s=10)


@pytest.mark.usefixtures("base")
def test_a_port_is_claimed_by_one() -> None:
    with rundir.claim(8082):
        with pytest.raises(ConfigError, match="8082"), rundir.claim(8082):
            pass
        with rundir.claim(8083):
            pass
    with rundir.claim(8082):
        pass


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not any(port_taken("127.0.0.1", port) for port in ports)


def test_a_block_of_ports_has_none_that_somebody_uses_or_will() -> None:
    first = free_block(8082)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first[7]))
        listener.listen()
        second = free_block(8082)
    assert first[7] not in second
    assert set(free_block(8082, first[9], second[9])).isdisjoint({first[9], second[9]})
    assert free_block(8083) != first
