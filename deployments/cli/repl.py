"""The conversation at a terminal: messages go to the expert, lines with a slash to us."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capyra.deployments.cli import settings
from capyra.deployments.cli.chat import Answer, Chat, image_url, total
from capyra.deployments.cli.lines import Read, read_message
from capyra.engine.errors import CapyraError, InvalidValue

if TYPE_CHECKING:
    from capyra.deployments.cli.client import ChatEvent
    from capyra.deployments.cli.screen import Screen

Ask = Callable[[Mapping[str, Any]], "Generator[ChatEvent, None, None]"]


class Leave(Exception):
    """The conversation is over."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line with a slash."""

    usage: str
    help: str
    act: Callable[[Repl, str], None]

    @property
    def name(self) -> str:
        return self.usage.partition(" ")[0]


class Repl:
    """Reads, asks, shows, until the end of the input or `/bye`."""

    def __init__(self, chat: Chat, ask: Ask, read: Read, screen: Screen) -> None:
        self.chat = chat
        self.screen = screen
        self.answers: list[Answer] = []
        self.stats = False
        self._ask = ask
        self._read = read

    def run(self) -> None:
        while True:
            try:
                message = read_message(self._read)
                if message.startswith("/"):
                    self._command(message)
                elif message.strip():
                    self._turn(message)
            except KeyboardInterrupt:
                self.screen.note("\n/bye or Ctrl-D leaves")
            except CapyraError as error:
                self.screen.note(f"{error.message}")
            except EOFError:
                self.screen.note("")
                return
            except Leave:
                return

    def _turn(self, message: str) -> None:
        body = self.chat.ask(message.strip())
        answer = self.screen.begin()
        stopped = False
        try:
            self.screen.show(self._ask(body), answer)
        except KeyboardInterrupt:
            stopped = True
        finally:
            # Half an answer was read by a person, who may refer to it.
            self.chat.answered(answer.text)
            if answer.first is not None:
                self.answers.append(answer)
                self.screen.end(answer)
        if stopped:
            self.screen.note("(stopped)")
        if answer.reason == "length":
            self.screen.note("(cut: the answer reached its longest; /set max_tokens changes that)")
        if self.stats:
            self.screen.note(answer.summary())
        self.screen.note("")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        command = BY_NAME.get(name)
        if command is None:
            raise InvalidValue(
                f"there is no {name}: /help lists what there is; a message that shall begin "
                "with a slash needs a space before it"
            )
        command.act(self, rest.strip())


def _help(repl: Repl, _: str) -> None:
    width = max(len(command.usage) for command in COMMANDS)
    for command in COMMANDS:
        repl.screen.note(f"  {command.usage:<{width}}  {command.help}")
    repl.screen.note("")
    repl.screen.note('  A backslash at the end of a line, or """ around several: one message.')
    repl.screen.note("  Ctrl-C ends an answer, Ctrl-D the conversation.")


def _clear(repl: Repl, _: str) -> None:
    repl.chat.clear()
    repl.screen.note("forgotten: the next message is the first")


def _system(repl: Repl, text: str) -> None:
    if text:
        repl.chat.system = text.strip('"') or None
    repl.screen.note(f"system: {repl.chat.system or '(none)'}")


def _set(repl: Repl, text: str) -> None:
    name, _, value = text.partition(" ")
    if value == "default":
        repl.chat.settings.pop(name, None)
    elif value:
        repl.chat.settings[name] = settings.parse(name, value)
    elif name:
        raise InvalidValue(f"write /set {name} VALUE, or /set {name} default")
    shown = ", ".join(f"{key} {value}" for key, value in sorted(repl.chat.settings.items()))
    repl.screen.note(shown or f"all as the expert has it; there is {', '.join(settings.SETTINGS)}")


def _stats(repl: Repl, text: str) -> None:
    if text in ("on", "off"):
        repl.stats = text == "on"
    elif text:
        raise InvalidValue(f"write /stats, /stats on or /stats off, not {text!r}")
    if repl.answers:
        repl.screen.note(repl.answers[-1].summary())
        repl.screen.note(f"in all: {total(repl.answers)}")
    else:
        repl.screen.note("no answer yet" + ("; each will tell" if repl.stats else ""))


def _image(repl: Repl, text: str) -> None:
    if not text:
        raise InvalidValue("write /image FILE")
    repl.chat.images.append(image_url(Path(text)))
    repl.screen.note(f"{len(repl.chat.images)} image(s) go with the next message")


def _bye(_: Repl, __: str) -> None:
    raise Leave


COMMANDS = (
    Command("/clear", "forget what was said", _clear),
    Command(
        "/system TEXT", 'what the expert shall be; without TEXT shows it, "" removes it', _system
    ),
    Command("/set NAME VALUE", "temperature, max_tokens, seed, stop …; alone shows them", _set),
    Command("/image FILE", "send an image with the next message", _image),
    Command("/stats [on|off]", "tokens and times of the last answer, or of each", _stats),
    Command("/help", "this", _help),
    Command("/bye", "leave", _bye),
)
ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}
BY_NAME = {command.name: command for command in COMMANDS}
BY_NAME |= {alias: BY_NAME[name] for alias, name in ALIASES.items()}
WORDS = (*(command.name for command in COMMANDS), *settings.SETTINGS)
