"""What is special about echo; what every engine does is in `tests/contract`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from capyra.engine.config import ExpertConfig
from capyra.engine.echo.embedding import embed
from capyra.engine.echo.engine import EchoEngine
from capyra.engine.echo.options import EchoOptions
from capyra.engine.errors import Cancelled, EngineFault, LoadFailed
from capyra.engine.registry import EngineSpec, check_options, create
from capyra.engine.types import (
    ChatPrompt,
    Delta,
    Progress,
    Sampling,
    Tool,
    ToolCallDelta,
    ToolChoice,
)
from engines import ask, chat, idle, ignore, request, until


async def loaded(**options: Any) -> EchoEngine:
    engine = create(EngineSpec("echo", ExpertConfig(engine="echo", options=options)))
    assert isinstance(engine, EchoEngine)
    await engine.load(ignore)
    return engine


@pytest.mark.parametrize(
    "options",
    [
        {"load_secs": 1},
        {"load_seconds": -1},
        {"load_seconds": "soon"},
        {"memory": "many"},
        {"fail_load": "sometimes"},
        {"fail_load": 0},
        {"tokens_per_second": -1},
        {"tokens_per_second": float("nan")},
        {"embedding_size": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check_options("echo", options)


def test_options_in_an_operators_words() -> None:
    options = check_options(
        "echo", {"load_seconds": "1m", "memory": "1.5GiB", "fail_load": "always"}
    )
    assert isinstance(options, EchoOptions)
    assert (options.load_seconds, options.memory) == (60, 1.5 * 2**30)


@pytest.mark.parametrize("text", ["Hello, Ä漢🦫!", "", "x" * 1000, "a\x00b\nc"])
async def test_greedy_is_exact(text: str) -> None:
    engine = await loaded()
    answers = await ask(engine, request(text, max_tokens=None))
    assert (answers.text, answers.reason, answers.stop) == (text, "stop", None)
    assert answers.usage.completion_tokens == len(text.encode()) + 1, "the end is a token too"


async def test_without_an_end_it_starts_over() -> None:
    engine = await loaded()
    answers = await ask(engine, request("ab", max_tokens=7, limits={"ignore_eos": True}))
    assert (answers.text, answers.reason) == ("abababa", "length")
    answers = await ask(engine, request("ab", max_tokens=9, limits={"min_tokens": 5}))
    assert (answers.text, answers.reason) == ("ababab", "stop")


async def test_temperature_changes_the_case_of_letters_only() -> None:
    engine = await loaded()
    text = "letters and 12345 numbers " * 20
    hot = request(text, sampling=Sampling(temperature=2, seed=1), max_tokens=None)
    answers = await ask(engine, hot)
    assert answers.text != text
    assert answers.text.lower() == text
    swapped = sum(a != b for a, b in zip(answers.text, text, strict=True))
    assert 0.04 < swapped / sum(map(str.isalpha, text)) < 0.12


TOOLS = (Tool("look_up"),)


async def test_what_reads_like_a_call_comes_back_as_one() -> None:
    engine = await loaded()
    text = 'So: <tool_call>{"name": "look_up", "arguments": {"q": "capybara"}}</tool_call>'
    prompt = ChatPrompt(chat(text).messages, TOOLS)
    answers = await ask(engine, request(prompt=prompt, max_tokens=None))
    assert (answers.text, answers.reason) == ("So: ", "tool_calls")
    calls = [event for event in answers.events if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "look_up"
    assert "".join(call.arguments for call in calls) == '{"q": "capybara"}'
    for choice in (ToolChoice("none"), ToolChoice()):
        tools = TOOLS if choice.mode == "none" else ()
        plain = ChatPrompt(prompt.messages, tools, choice)
        answers = await ask(engine, request(prompt=plain, max_tokens=None))
        assert (answers.text, answers.reason) == (text, "stop")


async def test_a_forced_call_carries_what_was_said() -> None:
    engine = await loaded()
    prompt = ChatPrompt(chat('a "capybara"').messages, TOOLS, ToolChoice("required"))
    answers = await ask(engine, request(prompt=prompt, max_tokens=None))
    calls = [event for event in answers.events if isinstance(event, ToolCallDelta)]
    assert (answers.text, answers.reason) == ("", "tool_calls")
    assert "".join(call.arguments for call in calls) == '{"text": "a \\"capybara\\""}'


async def test_an_answer_breaks_when_it_is_told_to() -> None:
    engine = await loaded(fail_after_tokens=3)
    stream = engine.generate(request("abcdef"))
    said = [await anext(stream) for _ in range(1 + 3)]
    assert [event.text for event in said if isinstance(event, Delta)] == ["a", "b", "c"]
    with pytest.raises(EngineFault, match="3 tokens"):
        await anext(stream)
    assert idle(engine)
    assert (await ask(engine, request("ab"))).text == "ab"


async def test_an_unload_ends_a_prefill_that_waits() -> None:
    engine = await loaded(prefill_tokens_per_second=1)
    prefill = asyncio.create_task(engine.prefill(chat("Hello"), ttl_s=1))
    await until(lambda: engine.stats().running == 1)
    await engine.unload()
    with pytest.raises(Cancelled):
        await prefill


async def test_loads_fail_as_often_as_they_are_told_to() -> None:
    engine = create(EngineSpec("echo", ExpertConfig(engine="echo", options={"fail_load": 2})))
    for _ in range(2):
        with pytest.raises(LoadFailed):
            await engine.load(ignore)
    await engine.load(ignore)
    await engine.unload()
    await engine.load(ignore)
    always = create(EngineSpec("e", ExpertConfig(engine="echo", options={"fail_load": "always"})))
    for _ in range(3):
        with pytest.raises(LoadFailed):
            await always.load(ignore)


def test_a_load_takes_its_time() -> None:
    """On a loop whose clock is ours: an hour passes at once."""
    engine = create(EngineSpec("e", ExpertConfig(engine="echo", options={"load_seconds": "1h"})))
    heard: list[Progress] = []
    with VirtualRunner() as runner:
        runner.run(engine.load(heard.append))
        assert runner.get_loop().time() >= 3600
        assert engine.stats().seconds["load"] >= 3600
        runner.run(engine.close())
    assert heard[-1] == Progress("ready", 1.0, 0.0)
    assert [each.fraction for each in heard] == sorted(each.fraction for each in heard)


def test_words_come_at_their_speed() -> None:
    with VirtualRunner() as runner:
        engine = runner.run(loaded(tokens_per_second=2, prefill_tokens_per_second=10))
        answers = runner.run(ask(engine, request("abcde", max_tokens=None)))
        runner.run(engine.close())
    assert answers.usage.timing == pytest.approx({"queue": 0, "prefill": 0.9, "decode": 2.5})


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            # A nanosecond more, lest a step be too small for a float to take.
            self._passed += timeout + 1e-9 if timeout else 0
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._passed


class VirtualRunner(asyncio.Runner):
    def __init__(self) -> None:
        super().__init__(loop_factory=VirtualLoop)


def test_embeddings_tell_likeness() -> None:
    def near(one: str, other: str) -> float:
        vectors = embed(one.encode(), 256), embed(other.encode(), 256)
        return sum(a * b for a, b in zip(*vectors, strict=True))

    assert near("The capybara swims", "a capybara swimming") > 0.3
    assert near("The capybara swims", "quarterly tax report") < 0.2
    assert near("Hello there", "hello THERE") == pytest.approx(1)
