"""Lines become messages; what was typed is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from capyra.deployments.cli.lines import MORE, PROMPT, Keyboard, Read, history_path, read_message


def typed(*lines: str) -> tuple[Read, list[str]]:
    prompts: list[str] = []
    rest = iter(lines)

    def read(prompt: str) -> str:
        prompts.append(prompt)
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return read, prompts


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "hello"),
        (["one \\", "two"], "one \ntwo"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "def f():", "    pass", '"""'], "def f():\n    pass"),
        (['"""one line"""'], "one line"),
        (["/set stop \\"[:-1]], "/set stop "),
    ],
)
def test_messages(lines: list[str], message: str) -> None:
    read, prompts = typed(*lines)
    assert read_message(read) == message
    assert prompts == [PROMPT, *[MORE] * (len(lines) - 1)]


def test_the_end_of_the_input_ends_a_message_that_is_open() -> None:
    read, _ = typed('"""', "never closed")
    with pytest.raises(EOFError):
        read_message(read)


def test_history_is_private_and_its_place_is_settable(tmp_path: Path) -> None:
    assert history_path() == tmp_path / "state" / "capyra" / "history"
    with Keyboard(()):
        pass
    assert history_path().stat().st_mode & 0o077 == 0


def test_tab_completes_what_is_known() -> None:
    keyboard = Keyboard(("/set", "/system", "seed"))
    assert [keyboard._complete("/s", n) for n in range(3)] == ["/set", "/system", None]
    assert keyboard._complete("", 0) is None
