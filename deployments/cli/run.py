"""`run`: one answer, or a conversation."""

from __future__ import annotations

import os
import stat
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import JsonOption, ServerOption
from capyra.deployments.cli.ending import INTERRUPTED
from capyra.engine.errors import InvalidValue, UnknownExpert

if TYPE_CHECKING:
    from capyra.deployments.cli.chat import Chat
    from capyra.deployments.cli.client import Client


def run(
    expert: Annotated[str, typer.Argument(metavar="EXPERT", help="The expert to talk to.")],
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to ask; with piped input, that follows it."),
    ] = None,
    server: ServerOption = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="What the expert shall be.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting, such as temperature=0.2."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="An image that goes with the prompt."),
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Tell tokens and times after each answer.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Talk to an expert.

    One answer if there is a prompt, a conversation if not.
    """
    from capyra.deployments.cli.chat import Chat, image_url
    from capyra.deployments.cli.client import Client
    from capyra.deployments.cli.settings import parse_pair

    chat = Chat(expert, system, dict(parse_pair(pair) for pair in settings or ()))
    chat.images = [image_url(path) for path in image or ()]
    text = _prompt(prompt)
    if text is None and (as_json or not sys.stdout.isatty()):
        raise InvalidValue("a conversation needs a terminal: give a prompt")
    with Client(addresses.server(server), addresses.key()) as client:
        if text is None:
            _converse(client, chat, stats)
        else:
            _once(client, chat, text, stats=stats, as_json=as_json)


def _prompt(said: str | None) -> str | None:
    """The prompt, with what is piped in after it; None for a conversation."""
    if said is None and sys.stdin.isatty():
        return None
    piped = sys.stdin.read() if said is None or _is_piped() else ""
    text = "\n\n".join(part for part in (said or "", piped.strip("\n")) if part.strip())
    if not text:
        raise InvalidValue("there is nothing to ask: give a prompt, or pipe one in")
    return text


def _is_piped() -> bool:
    """Whether somebody feeds the input: in a service or a test it may be open for ever."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _once(client: Client, chat: Chat, text: str, *, stats: bool, as_json: bool) -> None:
    from capyra.deployments.cli.output import print_json
    from capyra.deployments.cli.screen import Screen

    screen = Screen(quiet=as_json)
    answer = screen.begin()
    try:
        screen.show(client.chat(chat.ask(text)), answer)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if answer.first is not None:
            screen.end(answer)
    if as_json:
        calls = [{"name": name, "arguments": told} for name, told in answer.calls.values()]
        print_json(
            {
                "model": chat.model,
                "text": answer.text,
                "tool_calls": calls,
                "finish_reason": answer.reason,
                "stats": answer.facts(),
            }
        )
    elif stats:
        screen.note(answer.summary())


def _converse(client: Client, chat: Chat, stats: bool) -> None:
    from capyra.deployments.cli.lines import Keyboard
    from capyra.deployments.cli.repl import WORDS, Repl
    from capyra.deployments.cli.screen import Screen

    screen = Screen()
    screen.note(_greeting(client.models(), chat.model))
    with Keyboard(WORDS) as read:
        repl = Repl(chat, client.chat, read, screen)
        repl.stats = stats
        repl.run()


def _greeting(cards: list[dict[str, Any]], model: str) -> str:
    """One line about the expert; an unknown one is refused before anything is typed."""
    by_name = {str(card.get("id")): card for card in cards}
    if model not in by_name:
        near = get_close_matches(model, by_name, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(sorted(by_name))}"
        raise UnknownExpert(f"no expert is called {model!r}: {hint}")
    told: dict[str, Any] = by_name[model].get("capyra") or {}
    parts = [model]
    if told.get("state"):
        parts.append(str(told["state"]))
    if isinstance(told.get("context"), int):
        parts.append(f"context {told['context']:,}")
    return " · ".join([*parts, "/help tells what can be typed"])
