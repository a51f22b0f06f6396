"""`config check`, `config schema` and `config render`: the experts file, before it is deployed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from capyra.deployments.cli.addresses import JsonOption
from capyra.deployments.cli.ending import MISUSED, sentence
from capyra.deployments.cli.output import plural, print_json, say

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The experts file.")]


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Experts files.")],
    as_json: JsonOption = False,
) -> None:
    """Check experts files.

    Says everything that is wrong: file, line, key, and how to mend it.
    """
    from capyra.deployments.experts_file import ExpertsFileError, load

    told = []
    for path in files:
        try:
            file = load(path)
        except ExpertsFileError as error:
            told.append({"file": str(path), "problems": [asdict(p) for p in error.problems]})
            if not as_json:
                say(sentence(error))
        else:
            notices = [asdict(notice) for notice in file.notices]
            told.append({"file": str(path), "problems": [], "notices": notices})
            active = sum(expert.active for expert in file.experts.values())
            off = len(file.experts) - active
            if not as_json:
                say(
                    f"{path}: right; {plural(active, 'expert')}"
                    + (f", {off} more are off" if off else "")
                )
                for notice in file.notices:
                    say(str(notice))
    if as_json:
        print_json(told)
    if any(one["problems"] for one in told):
        raise typer.Exit(MISUSED)


def schema() -> None:
    """Print the JSON schema of experts files, for editors."""
    from capyra.deployments.experts_file import schema as made

    print_json(made())


def render(file: FileArgument, as_json: JsonOption = False) -> None:
    """Print what Ray Serve gets for FILE.

    `serve deploy` reads it.
    """
    import yaml

    from capyra.deployments.experts_file import load
    from capyra.deployments.serve_config import render as rendered

    config = rendered(load(file))
    if as_json:
        print_json(config)
    else:
        typer.echo(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), nl=False)
