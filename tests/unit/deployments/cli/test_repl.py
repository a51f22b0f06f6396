"""A conversation, typed and answered by scripts."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest

from capyra.deployments.cli.chat import Chat
from capyra.deployments.cli.client import ChatEvent, Counted, Ended, Text
from capyra.deployments.cli.repl import ALIASES, BY_NAME, COMMANDS, Repl
from capyra.deployments.cli.screen import Screen
from capyra.engine.errors import QueueFull

Answering = Callable[[str], list[ChatEvent | BaseException]]


def echo(text: str) -> list[ChatEvent | BaseException]:
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    return [Text(text.upper()), Ended("stop"), Counted(usage)]


class Talk:
    """One conversation: what is typed (an exception is a key), what was asked and shown."""

    def __init__(self, *typed: str | BaseException, answering: Answering = echo) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.out, self.err = io.StringIO(), io.StringIO()
        self._typed = iter([*typed, EOFError()])
        self._answering = answering
        self.chat = Chat("echo")
        screen = Screen(self.out, self.err)
        Repl(self.chat, self._ask, self._read, screen).run()

    @property
    def notes(self) -> str:
        return self.err.getvalue()

    @property
    def said(self) -> list[str]:
        return [turn["content"] for turn in self.chat.turns]

    def _read(self, _: str) -> str:
        line = next(self._typed)
        if isinstance(line, BaseException):
            raise line
        return line

    def _ask(self, body: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        self.asked.append({**body, "messages": list(body["messages"])})
        for event in self._answering(body["messages"][-1]["content"]):
            if isinstance(event, BaseException):
                raise event
            yield event


def test_messages_are_answered_in_their_conversation() -> None:
    talk = Talk("one", "", "two")
    assert talk.out.getvalue() == "ONE\nTWO\n"
    assert talk.said == ["one", "ONE", "two", "TWO"]
    assert len(talk.asked[1]["messages"]) == 3


def test_ctrl_c_ends_the_answer_and_not_the_conversation() -> None:
    def answering(text: str) -> list[ChatEvent | BaseException]:
        return [Text("ha"), KeyboardInterrupt()] if text == "stop" else echo(text)

    talk = Talk("stop", "go", answering=answering)
    assert talk.out.getvalue() == "ha\nGO\n"
    assert "(stopped)" in talk.notes
    assert talk.said == ["stop", "ha", "go", "GO"]


def test_ctrl_c_before_the_first_word_forgets_the_question() -> None:
    talk = Talk("stop", answering=lambda _: [KeyboardInterrupt()])
    assert talk.said == []


def test_ctrl_c_at_the_prompt_tells_how_to_leave() -> None:
    talk = Talk(KeyboardInterrupt(), "go")
    assert "/bye or Ctrl-D leaves" in talk.notes
    assert talk.out.getvalue() == "GO\n"


def test_a_failure_is_told_and_the_conversation_goes_on() -> None:
    def answering(text: str) -> list[ChatEvent | BaseException]:
        return [QueueFull("the queue is full")] if text == "one" else echo(text)

    talk = Talk("one", "two", answering=answering)
    assert "the queue is full" in talk.notes
    assert talk.said == ["two", "TWO"]


def test_bye_leaves_before_the_end_of_the_input() -> None:
    assert Talk("/bye", "not asked").asked == []
    assert Talk("/exit", "not asked").asked == []


def test_clear_forgets() -> None:
    talk = Talk("one", "/clear", "two")
    assert [turn["content"] for turn in talk.asked[1]["messages"]] == ["two"]


def test_system_is_set_shown_and_removed() -> None:
    talk = Talk("/system Be brief", "one", '/system ""', "two")
    assert talk.asked[0]["messages"][0] == {"role": "system", "content": "Be brief"}
    assert talk.asked[1]["messages"][0]["role"] == "user"
    assert "system: (none)" in talk.notes


def test_settings_go_with_the_next_question() -> None:
    talk = Talk("/set temperature 0.5", "one", "/set temperature default", "two", "/set")
    assert talk.asked[0]["temperature"] == 0.5
    assert "temperature" not in talk.asked[1]
    assert "all as the expert has it" in talk.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sett x", "there is no /sett"),
        ("/set", "there is frequency_penalty"),
        ("/set seed", "write /set seed VALUE"),
        ("/set seed x", "takes a whole number"),
        ("/stats maybe", "write /stats"),
        ("/image", "write /image FILE"),
        ("/image nosuch.png", "cannot read the image"),
    ],
)
def test_mistakes_at_a_command_are_told(line: str, message: str) -> None:
    talk = Talk(line, "still here")
    assert message in talk.notes
    assert talk.out.getvalue() == "STILL HERE\n"


def test_a_space_makes_a_message_of_a_slash() -> None:
    assert Talk(" /etc/hosts what is it?").said[0] == "/etc/hosts what is it?"


def test_stats_of_the_last_answer_or_of_each() -> None:
    assert "no answer yet" in Talk("/stats").notes
    assert "1 token in" in Talk("one", "/stats").notes
    talk = Talk("/stats on", "one", "two")
    assert talk.notes.count("1 token in") == 2


def test_an_answer_cut_by_its_length_says_so() -> None:
    assert "(cut" in Talk("one", answering=lambda _: [Text("o"), Ended("length")]).notes


def test_help_names_every_command() -> None:
    notes = Talk("/help").notes
    assert all(command.usage in notes for command in COMMANDS)
    assert set(ALIASES) < set(BY_NAME)


def test_errors_that_are_not_ours_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        Talk("one", answering=lambda _: [ZeroDivisionError()])
