"""`python -m capyra.deployments.cli`: the command line, for whoever has no script installed."""

from __future__ import annotations

from capyra.deployments.cli import main

if __name__ == "__main__":
    main()
