"""Progress in a log: few lines, each with its time."""

from __future__ import annotations

import io
from datetime import datetime

from capyra.deployments.cli.report import LineReporter


def test_a_log_has_a_line_for_what_matters() -> None:
    out = io.StringIO()
    seconds = iter([0.0, 1.0, 3.5])
    reporter = LineReporter(out, lambda: datetime(2030, 1, 2, 3, 4, 5), lambda: next(seconds))
    reporter.stage("starting experts")
    for percent in range(0, 101, 5):
        reporter.update(percent / 100, "some")
    reporter.done("all up")
    reporter.note("by the way")
    reporter.ready("http://here", "curl …")
    assert out.getvalue().splitlines() == [
        f"03:04:05 {line}"
        for line in (
            "starting experts",
            "starting experts: 25%, some",
            "starting experts: 50%, some",
            "starting experts: 75%, some",
            "starting experts: 100%, some",
            "starting experts: done in 2.5 s, all up",
            "by the way",
            "ready at http://here",
            "try: curl …",
        )
    ]
