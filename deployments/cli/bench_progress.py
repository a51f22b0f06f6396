"""How a running load looks on a terminal."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from capyra.deployments.cli.loadgen.plan import Plan
from capyra.deployments.cli.loadgen.shot import Shot

REFRESH_HZ = 4
"""Drawing takes the generator's own time: seldom is enough."""


class Bar:
    """Called with each shot that ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._ok = self._failed = self._tokens = 0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
            refresh_per_second=REFRESH_HZ,
        )
        self._task = self._progress.add_task("warming up", total=None, text="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, shot: Shot) -> None:
        if self._ok + self._failed == 0:
            self._began = time.monotonic()
        self._ok += shot.ok
        self._failed += not shot.ok
        self._tokens += shot.tokens
        spent = max(time.monotonic() - self._began, 1e-3)
        failed = f", [red]{self._failed} failed[/]" if self._failed else ""
        done = self._ok + self._failed
        plan = self._plan
        by_count = done / plan.requests if plan.requests else 0.0
        by_time = spent / plan.seconds if plan.seconds else 0.0
        self._progress.update(
            self._task,
            description="asking",
            total=1.0,
            completed=min(1.0, max(by_count, by_time)),
            text=f"{done} answered{failed}, {self._tokens / spent:,.0f} tokens/s",
        )
