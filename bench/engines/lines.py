"""A driver's side of the pipe: one JSON object a line in, one out. Standard library only.

`{"do": "load", "model": …, "threads": …}`, `{"do": "unload"}` and `{"do": "run", "requests": […]}`
are answered by `{"ok": …}`, or by `{"error": …}` when the engine raised.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field


@dataclass
class Request:
    """Greedy, to exactly `count` tokens. Equal salts may share cached prefixes."""

    tokens: list[int]
    count: int
    salt: str = ""
    at: float = 0.0
    """Seconds after the run's start at which it arrives."""


@dataclass
class Answer:
    tokens: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    """When each token was there, in seconds after the run's start."""

    def add(self, token: int, moment: float) -> None:
        self.tokens.append(token)
        self.stamps.append(moment)


class Driver(ABC):
    """One engine, in this process; constructing it imports all that a first load will need."""

    @abstractmethod
    def load(self, model: str, threads: int) -> None:
        """Bring the weights in."""

    @abstractmethod
    def unload(self) -> None:
        """Give them back; `load` may come again."""

    @abstractmethod
    def run(self, requests: list[Request]) -> list[Answer]:
        """Answer all of them; those that arrive together go as one batch."""


Compute = Callable[[list[Request]], Iterator[list[int]]]
"""Equally long prompts of one batch → the next token of each, step by step."""


def in_turn(requests: list[Request], compute: Compute) -> list[Answer]:
    """For an engine without a scheduler of its own: what arrives together is one batch, and
    batches are computed one after the other."""
    start = time.perf_counter()
    answers = [Answer() for _ in requests]
    moments = sorted({request.at for request in requests})
    for moment in moments:
        time.sleep(max(0.0, start + moment - time.perf_counter()))
        batch = [index for index, request in enumerate(requests) if request.at == moment]
        for tokens in compute([requests[index] for index in batch]):
            now = time.perf_counter() - start
            for index, token in zip(batch, tokens, strict=True):
                answers[index].add(token, now)
    return answers


def serve(make: Callable[[], Driver]) -> None:
    """A driver's main: answer until the pipe closes. What libraries print goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    driver = make()
    pipe.write(json.dumps({"ok": "up"}) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = {"ok": _do(driver, command)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the bench is told
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        pipe.write(json.dumps(reply) + "\n")
    # The bench is gone, or done with us: engines' threads must not keep the process.
    os._exit(0)


def _do(driver: Driver, command: dict) -> object:
    match command["do"]:
        case "load":
            driver.load(command["model"], command["threads"])
        case "unload":
            driver.unload()
        case "run":
            requests = [Request(**fields) for fields in command["requests"]]
            return [asdict(answer) for answer in driver.run(requests)]
    return None
