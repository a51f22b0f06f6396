"""What an operator does to a serving cluster, while fifty streams run on the other experts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from serving import Server
from traffic import traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

UNTOUCHED = ["alpha", "beta"]


def write(server: Server, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load(server.file.read_text())
    change(content["experts"])
    server.file.write_text(yaml.safe_dump(content))


def deploy(server: Server) -> None:
    done = server.capyra("deploy", str(server.file), "--address", server.dashboard)
    assert done.returncode == 0, done.stderr


def scale_by_command(server: Server, replicas: int) -> None:
    done = server.capyra("scale", "tiny", str(replicas))
    assert done.returncode == 0, done.stderr


def await_replicas(server: Server, expert: str, count: int) -> None:
    give_up = time.monotonic() + 60
    while len(server.pids()[expert]) != count:
        assert time.monotonic() < give_up, server.pids()
        time.sleep(0.2)


def test_changes_break_no_stream_and_restart_no_other_process(own_server: Server) -> None:
    server = own_server
    before = server.pids()
    with traffic(server.url, UNTOUCHED, count=50, prompt="x" * 120) as running:
        # One expert's settings change, in place.
        write(server, lambda experts: experts["slow"].update(description="changed"))
        deploy(server)
        with server.client() as client:
            assert client.get("/v1/models/slow").json()["capyra"]["description"] == "changed"
        # One is added, and serves.
        write(server, lambda experts: experts.update(added={"engine": "echo"}))
        deploy(server)
        assert "Hi" in server.capyra("run", "added", "Hi").stdout
        # One is removed, and is unknown.
        write(server, lambda experts: experts.pop("added"))
        deploy(server)
        with server.client() as client:
            assert client.get("/v1/models/added").status_code == 404
        # One is scaled 1 -> 3 -> 0 -> 1, by Serve's REST and by our command.
        for scale in (server.rest.scale, None):
            for count in (3, 0, 1):
                if scale is None:
                    scale_by_command(server, count)
                else:
                    scale("tiny", count)
                await_replicas(server, "tiny", count)
                listed = server.rest.details()["applications"]["tiny"]["deployments"]["Expert"]
                assert listed["target_num_replicas"] == count
    assert len(running.streams) > 50
    assert not running.failures
    after = server.pids()
    for name in before.keys() - {"tiny"}:
        assert after[name] == before[name], f"{name} was restarted"


def test_an_expert_at_zero_is_refused_with_what_to_do(own_server: Server) -> None:
    own_server.rest.scale("tiny", 0)
    await_replicas(own_server, "tiny", 0)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    with own_server.client() as client:
        give_up = time.monotonic() + 10
        while (answer := client.post("/v1/chat/completions", json=body)).status_code != 503:
            assert time.monotonic() < give_up, answer.text
            time.sleep(0.2)
        assert answer.json()["error"]["code"] == "expert_stopped"
        assert "capyra scale tiny 1" in answer.json()["error"]["message"]
    own_server.rest.scale("tiny", 1)
    await_replicas(own_server, "tiny", 1)
