"""Clients that want an environment of their own: `make test-clients` installs and runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from serving import Server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = ROOT / "build" / "clients" / "bin" / "python"

pytestmark = [pytest.mark.cluster, pytest.mark.clients]


@pytest.mark.parametrize(
    "command",
    [
        [str(PYTHON), str(HERE / "outside" / "litellm_client.py")],
        [str(PYTHON), str(HERE / "outside" / "langchain_client.py")],
        ["node", str(ROOT / "build" / "clients" / "openai_client.mjs")],
    ],
    ids=["litellm", "langchain-openai", "openai-node"],
)
def test_chat_streaming_and_an_error(server: Server, command: list[str]) -> None:
    done = subprocess.run(
        [*command, server.url], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["chat"] == "Hello"
    assert seen["stream"] == "Hello"
    assert "alpha" in seen["error"], "the nearest name is told"
