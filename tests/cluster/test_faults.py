"""Parts of the cluster die while streams run."""

from __future__ import annotations

import os
import signal
import time

import pytest

from capyra.deployments.processes import alive, command_of, descendants
from serving import Server
from traffic import Traffic, traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

READABLE = {"expert_lost"}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)


def await_replica(server: Server, app: str, other_than: int) -> None:
    give_up = time.monotonic() + 60
    while not [pid for pid in server.pids().get(app, []) if pid != other_than]:
        assert time.monotonic() < give_up
        time.sleep(0.2)


def await_streams(found: Traffic, count: int) -> None:
    give_up = time.monotonic() + 60
    while len(found.streams) < count:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_an_expert_replica_dies(own_server: Server) -> None:
    server = own_server
    (victim,) = server.pids()["beta"]
    with (
        traffic(server.url, ["beta"], count=20, prompt="x" * 200) as hit,
        traffic(server.url, ["alpha"], count=4, prompt="y" * 50) as others,
    ):
        time.sleep(2)
        kill(victim)
        await_replica(server, "beta", victim)
        await_streams(hit, 40)
    # Streams that had begun end with an error that a client can read; all that had not, and all
    # that came later, are whole.
    assert 1 <= sum(hit.failures.values()) <= 20
    assert set(hit.failures) <= READABLE
    assert not others.failures


def test_the_gateway_dies(own_server: Server) -> None:
    server = own_server
    (victim,) = server.pids()["gateway"]
    experts = {name: pids for name, pids in server.pids().items() if name != "gateway"}
    with traffic(server.url, ["beta"], count=5, prompt="x" * 100):
        time.sleep(1)
        kill(victim)
        await_replica(server, "gateway", victim)
    give_up = time.monotonic() + 60
    while not _serves(server):
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert {name: p for name, p in server.pids().items() if name != "gateway"} == experts
    with traffic(server.url, ["beta"], count=5, prompt="x" * 20) as later:
        await_streams(later, 5)
    assert not later.failures


def test_serves_controller_dies(own_server: Server) -> None:
    server = own_server
    before = server.pids()
    controller = _controller(server)
    assert controller is not None
    with traffic(server.url, ["beta"], count=20, prompt="x" * 100) as running:
        time.sleep(1)
        kill(controller)
        give_up = time.monotonic() + 60
        while _controller(server) is None:
            assert time.monotonic() < give_up
            time.sleep(0.2)
        await_streams(running, 40)
    assert not running.failures
    give_up = time.monotonic() + 60
    while server.pids() != before:
        assert time.monotonic() < give_up, (server.pids(), before)
        time.sleep(0.5)


def test_control_dies(own_server: Server) -> None:
    server = own_server
    (victim,) = server.pids()["control"]
    with traffic(server.url, ["beta"], count=10, prompt="x" * 100) as running:
        time.sleep(1)
        kill(victim)
        await_replica(server, "control", victim)
        await_streams(running, 20)
    assert not running.failures
    give_up = time.monotonic() + 30
    while not server.replicas("beta"):
        assert time.monotonic() < give_up, "the new Control hears the replicas"
        time.sleep(0.2)


def _serves(server: Server) -> bool:
    body = {"model": "alpha", "messages": [{"role": "user", "content": "Hi"}]}
    try:
        with server.client(5) as client:
            return client.post("/v1/chat/completions", json=body).status_code == 200
    except OSError:
        return False


def _controller(server: Server) -> int | None:
    """The process of Serve's controller. No interface tells it: its title does."""
    for pid in descendants(server.process.pid):
        if command_of(pid).startswith("ray::ServeController"):
            return pid
    return None
