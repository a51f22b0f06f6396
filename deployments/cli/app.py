"""The commands, put together. A new one is a function with options and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from capyra.deployments.cli import bench, config, evaluation, listing, residency, run, serving

app = typer.Typer(
    name="capyra",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: it is there before rich could be imported, and reads well in a pipe.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Many language-model experts behind one OpenAI-compatible endpoint.",
)
files = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check, describe and render experts files."
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"capyra {version('capyra')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None: ...


COMMANDS: tuple[Callable[..., None], ...] = (
    serving.serve,
    serving.stop,
    serving.deploy,
    run.run,
    listing.ps,
    listing.models,
    listing.scale,
    residency.load,
    residency.unload,
    residency.pin,
    residency.unpin,
    residency.why,
    residency.replay,
    bench.bench,
)
CONFIG_COMMANDS: tuple[Callable[..., None], ...] = (config.check, config.schema, config.render)

for command in COMMANDS:
    app.command()(command)
app.command("eval")(evaluation.evaluate)  # its name is a function of Python's
for command in CONFIG_COMMANDS:
    files.command()(command)
app.add_typer(files, name="config")
