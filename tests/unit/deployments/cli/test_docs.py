"""Every command and option is in docs/cli.md, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from capyra.deployments.cli.app import app
from capyra.deployments.cli.repl import ALIASES, COMMANDS
from capyra.deployments.cli.settings import SETTINGS

PAGE = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()


def commands(group: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


COMMAND_BY_NAME = commands(typer.main.get_command(app))
SECTIONS = dict(
    re.findall(r"^## `capyra ([a-z ]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
)


def options(command: Any) -> set[str]:
    told = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return {name for name in told if name.startswith("-")} - {"--help", "-h"}


def test_the_page_has_a_section_for_each_command_and_no_other() -> None:
    assert set(SECTIONS) == set(COMMAND_BY_NAME)
    assert all(f"| [`{name}`]" in PAGE for name in COMMAND_BY_NAME)


@pytest.mark.parametrize("name", COMMAND_BY_NAME)
def test_a_section_has_each_option_and_no_other(name: str) -> None:
    table = "\n".join(line for line in SECTIONS[name].splitlines() if line.startswith("| `-"))
    firsts = " ".join(line.split(" | ")[0] for line in table.splitlines())
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", firsts)) == options(COMMAND_BY_NAME[name])


def test_the_programs_own_options_are_there() -> None:
    root = typer.main.get_command(app)
    assert all(f"`{name}`" in PAGE for name in options(root))


def test_the_conversations_commands_and_settings_are_there() -> None:
    section = SECTIONS["run"]
    for word in (*(command.name for command in COMMANDS), *ALIASES):
        assert re.search(rf"`{re.escape(word)}[ `]", section), word
    assert all(f"`{name}`" in section for name in SETTINGS)


def test_defaults_in_the_page_are_the_commands() -> None:
    for name, option, default in (
        ("serve", "dashboard_port", 8265),
        ("deploy", "timeout", 300),
        ("scale", "timeout", 180),
        ("bench", "prompt_tokens", 128),
        ("bench", "output_tokens", 64),
    ):
        command = COMMAND_BY_NAME[name]
        assert next(one.default for one in command.params if one.name == option) == default
        line = f"--{option.replace('_', '-')} "
        row = next(row for row in SECTIONS[name].splitlines() if line in row)
        assert str(default) in row
