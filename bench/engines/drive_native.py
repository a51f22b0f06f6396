"""Capyra's own engine, as a replica uses it: an asyncio loop here, its thread behind it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from lines import Answer, Driver, Request, serve

from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig, KvCache, Resources
from capyra.engine.native import engine as _native  # a parked process has imported it
from capyra.engine.registry import EngineSpec
from capyra.engine.types import Delta, GenerateRequest, Limits, Sampling, TokenPrompt


class Native(Driver):
    def __init__(self) -> None:
        self._loop = asyncio.Runner()
        self._engine: Engine | None = None
        self._names = 0

    def load(self, model: str, threads: int) -> None:
        if self._engine is None:
            config = ExpertConfig(
                engine="native",
                context=4096,
                kv=KvCache(memory="1GiB"),
                resources=Resources(threads=threads),
            )
            self._engine = _native.create(EngineSpec("bench", config, Path(model)))
        self._loop.run(self._engine.load(lambda _: None))

    def unload(self) -> None:
        assert self._engine is not None
        self._loop.run(self._engine.unload())

    def run(self, requests: list[Request]) -> list[Answer]:
        return self._loop.run(self._run(requests))

    async def _run(self, requests: list[Request]) -> list[Answer]:
        start = time.perf_counter()
        return await asyncio.gather(*(self._answer(request, start) for request in requests))

    async def _answer(self, request: Request, start: float) -> Answer:
        assert self._engine is not None
        self._names += 1
        asked = GenerateRequest(
            id=f"{self._names}",
            prompt=TokenPrompt(tuple(request.tokens)),
            sampling=Sampling(temperature=0),
            limits=Limits(max_tokens=request.count, ignore_eos=True),
            cache_salt=request.salt,
        )
        await asyncio.sleep(start + request.at - time.perf_counter())
        answer = Answer()
        async for event in self._engine.generate(asked):
            if isinstance(event, Delta):
                now = time.perf_counter() - start
                for token in event.token_ids:
                    answer.add(token, now)
        return answer


if __name__ == "__main__":
    serve(Native)
