"""Answers on standard output, everything about them beside it."""

from __future__ import annotations

import io
from collections.abc import Generator

import pytest

from capyra.deployments.cli.client import CallPiece, ChatEvent, Ended, Text, Waiting
from capyra.deployments.cli.screen import Screen
from capyra.engine.errors import ExpertLost


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(*events: ChatEvent | BaseException) -> Generator[ChatEvent, None, None]:
    for event in events:
        if isinstance(event, BaseException):
            raise event
        yield event


def shown(out: io.StringIO, *events: ChatEvent, quiet: bool = False) -> tuple[str, str]:
    err = io.StringIO()
    screen = Screen(out, err, quiet=quiet)
    answer = screen.begin()
    screen.show(play(*events), answer)
    screen.end(answer)
    return out.getvalue(), err.getvalue()


def test_a_file_gets_the_answer_as_it_is() -> None:
    assert shown(io.StringIO(), Text("a\x1b[2Jb\r\n"), Ended("stop")) == ("a\x1b[2Jb\r\n", "")


def test_a_terminal_is_not_steered_by_an_answer() -> None:
    out, _ = shown(Terminal(), Text("a\x1b[2Jb\x07\tc\n"))
    assert out == "a\ufffd[2Jb\ufffd\tc\n"


def test_an_answer_ends_its_last_line() -> None:
    assert shown(io.StringIO(), Text("no end")) == ("no end\n", "")


def test_thinking_and_loading_stay_beside_the_answer() -> None:
    out, err = shown(
        io.StringIO(),
        Waiting(),
        Waiting("weights", 0.5, 1.2),
        Text("hm", thinking=True),
        Text("yes"),
    )
    assert out == "yes\n"
    assert "loading: weights: 50%, 2.0 s left" in err
    assert err.endswith("hm\n\n")


def test_calls_are_shown() -> None:
    out, _ = shown(io.StringIO(), CallPiece(0, "add", '{"a":'), CallPiece(0, "", "1}"))
    assert out == '\n→ add {"a":1}\n'


def test_what_came_before_a_failure_is_kept() -> None:
    screen = Screen(io.StringIO(), io.StringIO())
    answer = screen.begin()
    with pytest.raises(ExpertLost):
        screen.show(play(Text("Hal"), ExpertLost("gone")), answer)
    assert answer.text == "Hal"


def test_notes_are_plain_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    Screen(io.StringIO(), err).note("x")
    assert err.getvalue() == "x\n"
    colored = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    Screen(io.StringIO(), colored).note("x")
    assert colored.getvalue() == "\x1b[2mx\x1b[0m\n"
    plain = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(io.StringIO(), plain).note("x")
    assert plain.getvalue() == "x\n"
