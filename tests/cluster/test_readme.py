"""Every example of the README runs: its commands, its requests, its Python, its YAML.

The server is the tests' own: the names of the demo's experts stand for its experts here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from capyra.deployments.experts_file import load
from serving import Server

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
STANDS_FOR = {
    "phi4_fast": "alpha",
    "mistral_balanced": "slow",
    "qwen_coder": "alpha",
    "aya_expanse_multilingual": "beta",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    # `capyra stop` would end the server that the other tests use; every server here ends so.
    found = [line.split("   #")[0].strip() for line in lines]
    return [line for line in found if line and not line.endswith("capyra stop")]


def here(text: str, server: Server) -> str:
    """The example as it is on this server."""
    for name, other in STANDS_FOR.items():
        text = text.replace(name, other)
    text = text.replace("http://127.0.0.1:8082", server.url)
    text = text.replace("experts/demo.yaml", str(server.file))
    return text.replace(".venv/bin/capyra", f"{sys.executable} -m capyra.deployments.cli")


def test_the_experts_it_names_are_the_demos() -> None:
    assert set(STANDS_FOR) <= set(load(ROOT / "experts" / "demo.yaml").experts)


@pytest.mark.parametrize("command", commands())
def test_commands(server: Server, command: str) -> None:
    done = subprocess.run(
        ["bash", "-ec", here(command, server)],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr
    if command.startswith("curl"):
        assert '"content":"' in done.stdout


@pytest.mark.parametrize("code", blocks("python"))
def test_python(server: Server, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", here(code, server)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml(tmp_path: Path, text: str) -> None:
    assert yaml.safe_load(text)
    path = tmp_path / "experts.yaml"
    path.write_text(text)
    assert load(path).experts


def test_files_it_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
