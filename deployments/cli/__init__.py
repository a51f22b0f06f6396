"""The command line. Modules are imported by the command that needs them: help comes at once."""

from __future__ import annotations

import os
import sys

from capyra.deployments.cli.app import app
from capyra.deployments.cli.ending import FAILED, exit_code, sentence
from capyra.engine.errors import CapyraError


def main() -> None:
    """The console script `capyra`. Every failure ends here, as a sentence and an exit code."""
    try:
        app(prog_name="capyra")
    except CapyraError as error:
        sys.stderr.write(f"{sentence(error)}\n")
        sys.exit(exit_code(error))
    except Exception as error:
        if os.environ.get("CAPYRA_DEBUG"):
            raise
        sys.stderr.write(
            f"capyra: this is a mistake in Capyra: {type(error).__name__}: {error}; "
            "CAPYRA_DEBUG=1 shows where\n"
        )
        sys.exit(FAILED)
