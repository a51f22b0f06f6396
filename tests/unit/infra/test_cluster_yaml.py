"""`cluster.yaml` against what will read it: Ray, the shell, the repository."""

from __future__ import annotations

import copy
import itertools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from capyra.deployments.environment import MODE

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / "infra" / "node.env"

Config = dict[str, Any]


# --- Ray ----------------------------------------------------------------------------------------


def test_ray_accepts_it(cluster: Config) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_refuses_a_misspelt_key(cluster: Config) -> None:
    broken = {**copy.deepcopy(cluster), "idle_timeout": 5}
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(broken))


def test_only_workers_offer_the_memory_that_experts_reserve(cluster: Config) -> None:
    offered = {
        name: node["resources"]["memory"] for name, node in cluster["available_node_types"].items()
    }
    assert offered.pop(cluster["head_node_type"]) == 0
    assert set(offered) == {"worker", "worker-spot"}
    assert min(offered.values()) > 64 * 2**30


def test_the_fleet_starts_with_a_worker_and_fits_its_limit(cluster: Config) -> None:
    nodes = cluster["available_node_types"]
    assert nodes["worker"]["min_workers"] >= 1
    assert all(node.get("max_workers", 0) <= cluster["max_workers"] for node in nodes.values())


# --- the shell and the repository ---------------------------------------------------------------

COMMANDS = [
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
]


def commands(cluster: Config) -> list[str]:
    return list(itertools.chain.from_iterable(cluster.get(key, []) for key in COMMANDS))


def test_commands_are_shell(cluster: Config) -> None:
    for command in commands(cluster):
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert not done.stderr, command
    # What a shell inside a command is given, `bash -n` outside does not look at.
    inner = [shlex.split(c) for c in commands(cluster) if "bash -c" in c]
    assert inner
    for words in inner:
        script = words[words.index("-c") + 1]
        assert not subprocess.run(["bash", "-n", "-c", script], capture_output=True).stderr


def test_make_targets_exist(cluster: Config) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = re.findall(r"\bmake -C ~/capyra (\S+)", " ".join(commands(cluster)))
    assert used
    assert set(used) <= targets


def test_capyra_subcommands_exist(cluster: Config) -> None:
    from typer.main import get_command

    cli = pytest.importorskip("capyra.deployments.cli")
    known = set(get_command(cli.app).list_commands(None))  # type: ignore[attr-defined, unused-ignore]
    used = re.findall(r"\bcapyra ([a-z]+)", " ".join(cluster["head_start_ray_commands"]))
    assert used == ["deploy"]
    assert set(used) <= known


def test_what_is_deployed_is_in_the_repository(cluster: Config) -> None:
    files = re.findall(r"~/capyra/(experts/\S+)", " ".join(cluster["head_start_ray_commands"]))
    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_all_that_an_installation_needs_is_sent(cluster: Config) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["scikit-build"]
    needed = {"Makefile", "pyproject.toml", "experts", "infra", build["cmake"]["source-dir"]}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(build["wheel"]["packages"].values())
    mounts = {k: v for k, v in cluster["file_mounts"].items() if k.startswith("~/capyra/")}
    assert {name.removeprefix("~/capyra/") for name in mounts} >= needed
    for there, here in mounts.items():
        assert there == f"~/capyra/{here}"
        assert (ROOT / here).exists()


# --- security -----------------------------------------------------------------------------------


def exports(home: Path, path: str = "/usr/bin:/bin") -> dict[str, str]:
    """What a shell exports that has read `node.env`."""
    done = subprocess.run(
        ["bash", "-c", f". {ENVIRONMENT} && env -0"],
        env={"HOME": str(home), "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_nodes_ask_for_a_token_and_run_serve_as_a_local_server_does(tmp_path: Path) -> None:
    environment = exports(tmp_path)
    ray = {key: value for key, value in environment.items() if key.startswith("RAY_")}
    assert ray == {**MODE, "RAY_AUTH_MODE": "token"}
    assert environment["PATH"].startswith(f"{tmp_path}/capyra/.venv/bin:")


def test_secrets_reach_the_processes_when_there_are_any(tmp_path: Path) -> None:
    (tmp_path / ".capyra").mkdir()
    (tmp_path / ".capyra" / "secrets.env").write_text("CAPYRA_API_KEY='a b'\n")
    assert exports(tmp_path)["CAPYRA_API_KEY"] == "a b"


def test_every_shell_of_a_node_reads_the_environment(cluster: Config, tmp_path: Path) -> None:
    (command,) = [c for c in cluster["setup_commands"] if ".bashrc" in c]
    for _ in range(2):  # `ray up` repeats the setup
        subprocess.run(["bash", "-c", command], env={"HOME": str(tmp_path)}, check=True)
    assert (tmp_path / ".bashrc").read_text() == ". ~/capyra/infra/node.env\n"


def test_the_token_travels_and_the_dashboard_stays_at_home(cluster: Config) -> None:
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in cluster["setup_commands"]
    starts = [c for c in cluster["head_start_ray_commands"] if "ray start" in c]
    assert starts
    assert all("--dashboard-host=127.0.0.1" in command for command in starts)


def test_ray_does_not_call_home(cluster: Config) -> None:
    # `ray up` says so in the head's environment, over `node.env`, unless the command does.
    (start,) = [c for c in cluster["head_start_ray_commands"] if "ray start" in c]
    assert "--disable-usage-stats" in start
