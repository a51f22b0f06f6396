"""The bench's side of the pipe: an engine in a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.engines.lines import Answer, Request


class EngineDied(Exception):
    """The engine's process ended, raised, or did not answer in time."""


class EngineProcess:
    """Started when it is constructed. Its log is a file, whose end explains a death."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.begun = time.perf_counter()
        self._log = log
        self._buffer = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it and what it started."""
        self._to.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._from.close()

    def wait_up(self, deadline_s: float) -> None:
        self._reply(deadline_s)

    def load(self, model: Path, threads: int, deadline_s: float = 180) -> None:
        self._ask({"do": "load", "model": str(model), "threads": threads}, deadline_s)

    def unload(self, deadline_s: float = 60) -> None:
        self._ask({"do": "unload"}, deadline_s)

    def run(self, requests: Sequence[Request], deadline_s: float = 300) -> list[Answer]:
        found = self._ask({"do": "run", "requests": [vars(one) for one in requests]}, deadline_s)
        return [Answer(**fields) for fields in found]

    def memory(self) -> dict[str, float]:
        """MiB, this process and its children: RSS counts shared pages whole, PSS by share."""
        sums = {"Rss": 0, "Pss": 0}
        for pid in self._family():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, _, rest = line.partition(":")
                if key in sums:
                    sums[key] += int(rest.split()[0])
        return {key.lower(): value / 1024 for key, value in sums.items()}

    def _family(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def _ask(self, command: Mapping[str, Any], deadline_s: float) -> Any:
        try:
            self._to.write(json.dumps(command).encode() + b"\n")
            self._to.flush()
        except BrokenPipeError:
            raise EngineDied(self._last_words("ended")) from None
        return self._reply(deadline_s)

    def _reply(self, deadline_s: float) -> Any:
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not ready.select(max(0.0, end - time.monotonic())):
                    raise EngineDied(self._last_words(f"did not answer within {deadline_s:g} s"))
                piece = os.read(self._from.fileno(), 2**16)
                if not piece:
                    raise EngineDied(self._last_words("ended"))
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        if "error" in reply:
            raise EngineDied(f"{self.name}: {reply['error']}")
        return reply["ok"]

    def _last_words(self, what: str) -> str:
        code = self._process.poll()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        said = f"; its last words: {last[0][:300]}" if last else ""
        return f"{self.name} {what}{'' if code is None else f' with code {code}'}{said}"
