"""The whole native engine on tiny random models: what must not change the answer, and what may
not touch the others."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from capyra.engine.config import ExpertConfig
from capyra.engine.errors import Cancelled, ConfigError, EngineFault, InvalidValue
from capyra.engine.native.batch import StepBatch
from capyra.engine.native.engine import NativeEngine, create
from capyra.engine.native.kv import KvPool
from capyra.engine.native.machine import build
from capyra.engine.native.model.decoder import Decoder
from capyra.engine.native.plan import StepPlan
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.registry import EngineSpec
from capyra.engine.types import (
    ChatPrompt,
    Delta,
    EmbedRequest,
    Event,
    GenerateRequest,
    ImagePart,
    Message,
    OutputFormat,
    Sampling,
    TextPart,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolCallDelta,
    ToolChoice,
)
from engines import Answers, ask, collect, request, until
from tiny import END, native, tiny_model, tiny_seer

ENDLESS = {"ignore_eos": True}
WINDOWS: list[tuple[int | None, ...]] = [(None,), (24,), (None, 24)]


def texts(count: int, length: int = 150) -> list[TokenPrompt]:
    """Prompts of many lengths, some with a beginning in common."""
    generator = torch.Generator().manual_seed(5)
    common = torch.randint(0, 256, (length,), generator=generator).tolist()
    prompts = []
    for place in range(count):
        own = torch.randint(0, 256, (1 + place * 7 % 60,), generator=generator).tolist()
        prompts.append(TokenPrompt((*common[: (place % 3) * length // 2], *own)))
    return prompts


@asynccontextmanager
async def running(folder: Path, *args: Any, **config: Any) -> AsyncIterator[NativeEngine]:
    engine = native(folder, *args, **config)
    try:
        await engine.load(lambda _: None)
        yield engine
    finally:
        await engine.close()


async def all_at_once(engine: NativeEngine, asked: list[GenerateRequest]) -> list[Answers]:
    return list(await asyncio.gather(*(ask(engine, one) for one in asked)))


def written(answers: list[Answers]) -> list[list[int]]:
    return [answer.tokens for one in answers for answer in one.answers]


def greedy(prompts: list[TokenPrompt], tokens: int = 40, **fields: Any) -> list[GenerateRequest]:
    return [
        request(id=str(place), prompt=prompt, max_tokens=tokens, limits=ENDLESS, **fields)
        for place, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
async def test_how_it_is_computed_changes_no_greedy_answer(
    windows: tuple[int | None, ...], tmp_path: Path
) -> None:
    """Alone, in chunks, in batches, from cached prefixes."""
    folder = tiny_model(tmp_path / "model", windows=windows)
    asked = greedy(texts(8), tokens=24)
    async with running(folder, {"prefix_cache": False}) as plain:
        expected = [(await ask(plain, one)).tokens for one in asked]
    ways: list[dict[str, Any]] = [
        {"step": 1, "chunk": 1},
        {"step": 33, "chunk": 7, "decode_steps_between_admissions": 2},
        {"step": 40, "chunk": 40, "prefix_cache": False},
    ]
    for options in ways:
        async with running(folder, options, queue={"running": 6}) as engine:
            assert written(await all_at_once(engine, asked)) == expected, options
            again = await all_at_once(engine, asked[-2:])
            assert written(again) == expected[-2:], options
            cached = sum(one.usage.cached_tokens for one in again)
            assert (cached > 0) == options.get("prefix_cache", True)


@pytest.mark.parametrize("windows", [(None,), (None, 24)], ids=str)
@pytest.mark.parametrize("prefix_cache", [True, False])
async def test_preempted_answers_go_on_as_if_nothing_had_been(
    windows: tuple[int | None, ...], prefix_cache: bool, tmp_path: Path
) -> None:
    folder = tiny_model(tmp_path / "model", windows=windows)
    asked = greedy([TokenPrompt((place, *range(20))) for place in range(4)], tokens=100)
    async with running(folder) as plain:
        expected = written(await all_at_once(plain, asked))
    options = {"blocks": 14, "step": 8, "chunk": 8, "prefix_cache": prefix_cache}
    async with running(folder, options, queue={"running": 4}) as engine:
        assert written(await all_at_once(engine, asked)) == expected
        assert engine._tally.moment.preemptions > 0
        assert engine.stats().kv_used == 0


async def test_n_answers_fork_and_are_each_what_they_would_be_alone(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", windows=(None, 24))
    sampling = Sampling(temperature=1.2, seed=9)
    for options in ({}, {"blocks": 14, "step": 40, "chunk": 20}):
        async with running(folder, options, queue={"running": 4}) as engine:
            prompt = texts(3)[2]
            together = await ask(
                engine,
                request(prompt=prompt, n=4, sampling=sampling, max_tokens=20, limits=ENDLESS),
            )
            again = await ask(
                engine,
                request(prompt=prompt, n=2, sampling=sampling, max_tokens=20, limits=ENDLESS),
            )
            assert written([together])[:2] == written([again])
            assert len({tuple(tokens) for tokens in written([together])}) == 4
            assert engine.stats().kv_used == 0


async def test_a_seed_gives_the_same_text_alone_and_in_a_batch_of_sixteen(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    kinds = [
        Sampling(temperature=1.0, seed=1),
        Sampling(temperature=0.7, top_p=0.9, seed=2),
        Sampling(temperature=1.3, top_k=20, min_p=0.01, seed=3),
        Sampling(temperature=1.0, repetition_penalty=1.2, presence_penalty=0.5, seed=4),
    ]
    asked = [
        request(
            id=str(place), prompt=prompt, max_tokens=30, sampling=kinds[place % 4], limits=ENDLESS
        )
        for place, prompt in enumerate(texts(16))
    ]
    async with running(folder) as engine:
        alone = [(await ask(engine, one)).tokens for one in asked]
    async with running(folder) as engine:
        assert written(await all_at_once(engine, asked)) == alone


async def test_a_prompt_that_is_being_computed_is_computed_once(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    prompt = TokenPrompt(tuple(range(200)))
    async with running(folder) as engine:
        asked = [request(id=str(place), prompt=prompt, max_tokens=4) for place in range(8)]
        answers = await all_at_once(engine, asked)
        cached = sorted(one.usage.cached_tokens for one in answers)
        assert cached == [0] + [192] * 7
        assert len({tuple(tokens) for tokens in written(answers)}) == 1


async def test_a_slow_reader_is_waited_for_and_loses_nothing(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    asked = request(max_tokens=300, limits=ENDLESS)
    async with running(folder, {"lag": 16}) as engine:
        whole = await ask(engine, asked)
        async with aclosing(engine.generate(asked)) as stream:
            events: list[Event] = [await anext(stream)]
            other = await ask(engine, request(id="other", max_tokens=200, limits=ENDLESS))
            assert other.usage.completion_tokens == 200
            assert engine._tally.moment.completion_tokens <= 300 + 200 + 40
            events += [event async for event in stream]
        assert collect(events, 1).tokens == whole.tokens


class Fragile(Decoder):
    """Breaks on a token, in one way or the other."""

    RAISES, POISON = 250, 251

    def forward(self, batch: StepBatch, pool: KvPool) -> torch.Tensor:
        if (batch.token_ids == self.RAISES).any():
            raise RuntimeError("a kernel broke")
        hidden = super().forward(batch, pool)
        for row in (batch.token_ids == self.POISON).nonzero().flatten().tolist():
            hidden[row:] = torch.where(
                torch.arange(row, len(hidden)).unsqueeze(-1) == row, torch.nan, hidden[row:]
            )
            pool.layers[0].v.view(-1, *pool.layers[0].v.shape[2:])[batch.groups[0].slots[row]] = (
                torch.nan
            )
        return hidden


@pytest.mark.parametrize("poison", [Fragile.RAISES, Fragile.POISON])
async def test_what_breaks_ends_its_own_request_only(poison: int, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    prompts = [TokenPrompt(tuple(range(place, place + 30))) for place in range(6)]
    poisoned = TokenPrompt((*range(40), poison))
    bad = request(id="bad", prompt=poisoned, limits=ENDLESS)
    ban = Sampling(temperature=0, logit_bias={250: -100, 251: -100})
    good = greedy(prompts, tokens=30, sampling=ban)
    async with running(folder, {"blocks": 40}, partial(build, decoder=Fragile)) as engine:
        expected = written([await ask(engine, one) for one in good])
        results = await asyncio.gather(
            *(ask(engine, one) for one in good[:3]),
            ask(engine, bad),
            *(ask(engine, one) for one in good[3:]),
            return_exceptions=True,
        )
        assert isinstance(results.pop(3), EngineFault)
        assert written([one for one in results if isinstance(one, Answers)]) == expected
        assert engine.stats().kv_used == 0
        for _ in range(3):
            # Whoever gets the blocks that it had is none the worse.
            assert written(await all_at_once(engine, good)) == expected
        with pytest.raises(EngineFault):
            await engine.embed(EmbedRequest(id="e", inputs=(bad.prompt,)))  # type: ignore[arg-type]
        assert (
            len((await engine.embed(EmbedRequest(id="e", inputs=(good[0].prompt,)))).vectors) == 1
        )  # type: ignore[arg-type]


async def test_aborting_what_is_no_generation(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    async with running(folder, {"step": 1, "chunk": 1}) as engine:
        long = EmbedRequest(id="long", inputs=(TokenPrompt(tuple(range(250)) * 6),))
        task = asyncio.create_task(engine.embed(long))
        await until(lambda: engine.stats().running > 0)
        assert engine.abort("long")
        with pytest.raises(Cancelled):
            await task


async def test_pooling(tmp_path: Path) -> None:
    """The mean does not depend on chunks; the last may come from a cached prefix."""
    folder = tiny_model(tmp_path / "model")
    inputs = tuple(texts(5))
    vectors = {}
    for step in (512, 10):
        async with running(folder, {"step": step, "chunk": min(step, 256)}) as engine:
            for pooling in ("mean", "last"):
                for again in range(2):
                    asked = EmbedRequest(id="e", inputs=inputs, pooling=pooling)  # type: ignore[arg-type]
                    found = torch.tensor((await engine.embed(asked)).vectors)
                    vectors[step, pooling, again] = found
    for pooling in ("mean", "last"):
        first = vectors[512, pooling, 0]
        for key, found in vectors.items():
            if key[1] == pooling:
                assert torch.allclose(found, first, atol=1e-4)
    assert not torch.allclose(vectors[512, "mean", 0], vectors[512, "last", 0], atol=1e-2)


async def test_scores_under_pressure_are_the_same(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", windows=(None, 24))
    continuations = ["", "a", "abc" * 20, "abc" * 20, "xyz"]
    found = []
    for options in ({}, {"blocks": 16, "step": 9, "chunk": 3}):
        async with running(folder, options, queue={"running": 2}) as engine:
            found.append(await engine.score(TextPrompt("k" * 70), continuations))
            assert engine.stats().kv_used == 0
    for one, other in zip(*found, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


class Careless(Scheduler):
    """Breaks an invariant as soon as it has something to do."""

    def plan(self) -> StepPlan:
        raise AssertionError("blocks were lost")


async def test_a_broken_engine_parks_and_can_be_loaded_again(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    async with running(folder, {}, partial(build, scheduling=Careless)) as engine:
        with pytest.raises(EngineFault, match="blocks were lost"):
            await ask(engine, request())
        assert not engine.stats().loaded
        assert engine.stats().running + engine.stats().waiting == 0
        with pytest.raises(EngineFault):
            await ask(engine, request())
        await engine.load(lambda _: None)
        assert engine.stats().loaded


async def test_a_deadline_frees_what_was_held(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    async with running(folder) as engine:
        for _ in range(3):
            with pytest.raises(Exception, match="time is over"):
                await ask(engine, request(max_tokens=1900, limits=ENDLESS, deadline_s=0.01))
        await ask(engine, request(max_tokens=1))
        assert engine.stats().kv_used == 0


async def test_control_tokens_leave_no_text_but_count(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    async with running(folder) as engine:
        forced = Sampling(temperature=0, logit_bias={END: 100})
        answers = await ask(engine, request(sampling=forced))
        assert (answers.text, answers.tokens, answers.reason) == ("", [END], "stop")
        endless = await ask(engine, request(sampling=forced, limits=ENDLESS, max_tokens=3))
        assert (endless.text, endless.tokens) == ("", [END] * 3)


def picture(colour: str) -> ImagePart:
    data = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(data, "PNG")
    return ImagePart(data.getvalue(), "image/png")


async def test_images_are_seen_whole_cached_by_content_and_the_same_in_chunks(
    tmp_path: Path,
) -> None:
    folder = tiny_seer(tmp_path / "model")

    def look(*colours: str) -> GenerateRequest:
        parts = [part for colour in colours for part in (TextPart("what is " * 3), picture(colour))]
        prompt = ChatPrompt((Message("user", (*parts, TextPart("?"))),))
        return request(id="-".join(colours), prompt=prompt, max_tokens=12, limits=ENDLESS)

    asked = [look("red"), look("blue"), look("red", "blue"), look("red", "green"), look()]
    async with running(folder, {"prefix_cache": False}) as engine:
        expected = written([await ask(engine, one) for one in asked])
        assert len({tuple(tokens) for tokens in expected}) == len(asked), "it sees nothing"
    for options in ({}, {"step": 1, "chunk": 1}, {"step": 20, "chunk": 10, "blocks": 14}):
        async with running(folder, options, queue={"running": 3}) as engine:
            assert written(await all_at_once(engine, asked)) == expected
            again = await ask(engine, asked[2])
            assert written([again]) == [expected[2]]
            assert again.usage.cached_tokens > 30
            assert engine.stats().kv_used == 0


TOOLS = (
    Tool(
        "weather",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    ),
    Tool("time", parameters={"type": "object", "properties": {}, "additionalProperties": False}),
)


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama3", "phi4", "gemma", "cohere"])
async def test_forced_calls_are_parsed_calls(style: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", template=TOOL_TEMPLATE)
    async with running(folder, {"tool_format": style}) as engine:
        for choice in (ToolChoice("named", "weather"), ToolChoice("required")):
            prompt = ChatPrompt((Message("user", (TextPart("?"),)),), TOOLS, choice)
            asked = request(prompt=prompt, max_tokens=600, sampling=Sampling(seed=3))
            async with aclosing(engine.generate(asked)) as stream:
                events = [event async for event in stream]
            calls = [event for event in events if isinstance(event, ToolCallDelta)]
            names = {call.name for call in calls if call.name}
            assert names
            assert names <= ({"weather"} if choice.mode == "named" else {"weather", "time"})
            reason = next(event.reason for event in events if hasattr(event, "reason"))
            assert reason in ("tool_calls", "length")
            if choice.mode == "named":
                assert reason == "tool_calls"
            said = "".join(event.text for event in events if isinstance(event, Delta))
            assert reason == "length" or not said.strip()


async def test_a_bad_format_is_the_requests_fault(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    async with running(folder) as engine:
        for bad in (OutputFormat("json_schema", '{"type": 3}'), OutputFormat("regex", "((")):
            with pytest.raises(InvalidValue) as refused:
                await ask(engine, request(format=bad))
            assert refused.value.param == "response_format"
        assert engine.stats().waiting == 0


def test_what_cannot_be_built_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model"):
        create(EngineSpec("x", ExpertConfig(engine="native")))
    folder = tiny_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="tool_format"):
        native(folder, {"tool_format": "smoke"})
    with pytest.raises(ConfigError, match=r"kv\.memory"):
        native(folder, kv={"memory": 1000})


def test_a_small_cache_makes_a_short_context(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    engine = native(folder, {"blocks": 10})
    assert engine.capabilities().context == 160


TOOL_TEMPLATE = (
    "{%- if tools -%}<|system|>{{ tools | tojson }}<|end|>{%- endif -%}"
    "{%- for message in messages -%}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
