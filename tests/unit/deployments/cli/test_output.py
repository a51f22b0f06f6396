from __future__ import annotations

import pytest

from capyra.deployments.cli.output import duration, size, table_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (150 * 2**20, "150 MiB"),
        (1023 * 2**20, "1.0 GiB"),
        (7 * 2**30, "7.0 GiB"),
        (3000 * 2**40, "3000 TiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.84, "840 ms"),
        (0.9996, "1.0 s"),
        (59.96, "1 min 0 s"),
        (3700, "1 h 1 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_table_for_programs_is_whole_and_has_no_spaces_at_its_ends() -> None:
    long = "x" * 300
    text = table_text(
        ("NAME", ">COUNT", "TEXT"), [("a", "7", long), ("bb", "12", "")], terminal=False
    )
    lines = text.splitlines()
    assert lines[0].split() == ["NAME", "COUNT", "TEXT"]
    assert lines[1].endswith(long)
    assert lines[1].index("7") == lines[2].index("2")
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


def test_markup_styles_and_never_shows() -> None:
    assert "[green]" not in table_text(("STATE",), [("[green]ready[/]",)], terminal=False)
