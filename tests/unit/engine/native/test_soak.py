"""Random load with aborts, slow readers and lost readers, for as long as one likes."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from capyra.engine.native.engine import NativeEngine
from capyra.engine.native.memory import give_back
from capyra.engine.types import OutputFormat, Sampling, TextPrompt, TokenPrompt
from engines import idle, request, until
from tiny import native, tiny_model


def resident() -> int:
    give_back()
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


async def one_request(engine: NativeEngine, dice: random.Random, name: str) -> None:
    """A client with a mind of its own."""
    common = [7] * dice.choice([0, 40, 100])
    prompt = TokenPrompt((*common, *(dice.randrange(256) for _ in range(dice.randint(1, 150)))))
    kind = dice.random()
    if kind < 0.1:
        await engine.score(prompt, ["a", "bc", "def" * 5], cache_salt=dice.choice("xy"))
        return
    if kind < 0.2:
        await engine.prefill(TextPrompt("p" * dice.randint(1, 200)), ttl_s=dice.random())
        return
    asked = request(
        id=name,
        prompt=prompt,
        n=dice.choice([1, 1, 1, 3]),
        max_tokens=dice.randint(1, 80),
        sampling=Sampling(temperature=dice.choice([0, 1]), top_p=dice.choice([1, 0.9])),
        logprobs=dice.choice([None, None, 2]),
        prompt_logprobs=dice.choice([None, None, None, 1]),
        format=dice.choice([OutputFormat(), OutputFormat(), OutputFormat("regex", "[a-z]{1,60}")]),
        cache_salt=dice.choice("xy"),
        priority=dice.choice([0, 0, 1]),
    )
    leaves_after = dice.choice([None, None, dice.randint(0, 30)])
    aborts_after = dice.choice([None, None, dice.randint(0, 30)])
    async with aclosing(engine.generate(asked)) as stream:
        count = 0
        async for _ in stream:
            count += 1
            if count == leaves_after:
                return
            if count == aborts_after:
                engine.abort(name)
            if dice.random() < 0.02:
                await asyncio.sleep(0.01)


async def load_for(engine: NativeEngine, seconds: float, dice: random.Random) -> int:
    """Twelve clients, one request after the other."""
    end = time.monotonic() + seconds
    served = 0

    async def client(number: int) -> None:
        nonlocal served
        while time.monotonic() < end:
            await one_request(engine, dice, f"{number}-{served}")
            served += 1

    await asyncio.gather(*(client(number) for number in range(12)))
    return served


async def soak(folder: Path, seconds: float) -> None:
    engine = native(
        tiny_model(folder, windows=(None, 24)),
        {"blocks": 60, "step": 64, "chunk": 32, "lag": 20},
        context=400,
        queue={"running": 6},
    )
    await engine.load(lambda _: None)
    dice = random.Random(1)
    try:
        await load_for(engine, seconds / 4, dice)
        before = resident()
        served = await load_for(engine, seconds, dice)
        await until(lambda: idle(engine))
        assert served > 5 * seconds
        assert engine.stats().loaded
        cache = engine._machine.loop._scheduler.cache if engine._machine else None
        assert cache is not None
        await asyncio.sleep(1.1)
        await engine.score(TextPrompt("let pins expire"), ["x"])
        await until(lambda: engine.stats().kv_used == 0)
        assert [pool.held for pool in cache.pools] == [0, 0]
        assert resident() - before < 8 * 2**20
    finally:
        await engine.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_ten_minutes(tmp_path: Path) -> None:
    await soak(tmp_path / "model", float(os.environ.get("SOAK_SECONDS", "600")))
