"""What only vLLM has: its grammars, its process-wide state, its own processes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engines import MAKERS

if MAKERS["vllm"].missing:
    pytest.skip("vllm is not installed", allow_module_level=True)

import psutil

from capyra.engine.base import Engine
from capyra.engine.errors import CapyraError, EngineFault, InvalidValue, LoadFailed
from capyra.engine.types import (
    ChatPrompt,
    OutputFormat,
    TextPrompt,
    Tool,
    ToolCallDelta,
    ToolChoice,
)
from capyra.engine.vllm import inprocess
from engines import PROMPT, ask, chat, idle, ignore, reading, request, until
from tiny import native, tiny_model
from tiny_vllm import vllm

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS = (
    "{%- if tools -%}{%- for tool in tools -%}{{ tool.function.name }} {% endfor -%}{%- endif -%}"
    "{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), hidden=128, template=TOOLS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model: Path) -> AsyncIterator[Engine]:
    engine = vllm(model)
    await engine.load(ignore)
    yield engine
    await engine.close()


@pytest.mark.parametrize(
    ("kind", "spec", "pattern"),
    [
        ("regex", "[a-f]{3}-[0-9]+x", r"[a-f]{3}-[0-9]+x"),
        ("grammar", 'start: "yes" | "no"', "yes|no"),
        ("json_schema", '{"type": "integer", "minimum": 3, "maximum": 5}', "[345]"),
    ],
)
async def test_formats(engine: Engine, kind: Any, spec: str, pattern: str) -> None:
    asked = request(format=OutputFormat(kind, spec), max_tokens=300)
    answers = await ask(engine, asked)
    if answers.reason == "stop":
        assert re.fullmatch(pattern, answers.text.strip())
    else:
        assert kind == "regex", "only this one has answers of any length"
        assert re.match(r"[a-f]{3}-[0-9]+", answers.text)


async def test_a_format_that_is_none_is_refused_and_the_engine_goes_on(engine: Engine) -> None:
    for kind, spec in (("regex", "(("), ("grammar", "start: nothing"), ("json_schema", "{")):
        with pytest.raises(InvalidValue) as refused:
            await ask(engine, request(format=OutputFormat(kind, spec)))
        assert refused.value.param == "response_format"
    await ask(engine, request(max_tokens=1))
    assert idle(engine)


async def test_a_call_that_is_demanded_is_made(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    prompt = ChatPrompt(
        chat(PROMPT).messages,
        tools=(Tool("look_up", parameters=schema), Tool("other")),
        tool_choice=ToolChoice("named", "look_up"),
    )
    answers = await ask(engine, request(prompt=prompt, max_tokens=200))
    calls = [event for event in answers.events if isinstance(event, ToolCallDelta)]
    assert [each.name for each in calls if each.name] == ["look_up"]
    assert json.loads("".join(each.arguments for each in calls))["n"] in (1, 2)
    assert answers.reason == "tool_calls"


async def test_scores_do_not_depend_on_what_is_cached(engine: Engine) -> None:
    prompt, texts = TextPrompt(PROMPT * 4), ["one", "two words", "x" * 200]
    first = await engine.score(prompt, texts, cache_salt="a")
    again = await engine.score(prompt, texts, cache_salt="a")
    for one, other in zip(first, again, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


async def test_the_native_engine_says_the_same(engine: Engine, model: Path) -> None:
    """One contract, one tokenizer, one template: and in float32 the same greedy tokens."""
    other = native(model)
    await other.load(ignore)
    for place in range(0, 40, 5):
        asked = request(PROMPT[place:], max_tokens=32, limits={"ignore_eos": True}, logprobs=0)
        ours, theirs = await ask(other, asked), await ask(engine, asked)
        assert (ours.tokens, ours.text) == (theirs.tokens, theirs.text)
        assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens
        for one, another in zip(ours.answers[0].logprobs, theirs.answers[0].logprobs, strict=True):
            assert one.logprob == pytest.approx(another.logprob, abs=1e-3)
    await other.close()


async def test_a_process_has_one_engine(engine: Engine, model: Path) -> None:
    second = vllm(model)
    with pytest.raises(LoadFailed, match="one process"):
        await second.load(ignore)
    await second.close()
    await ask(engine, request(max_tokens=1))


class Breaking(inprocess.InProcess):
    """Breaks at the third step, as an engine does whose memory is gone."""

    steps = 0

    def step(self) -> list[Any]:
        type(self).steps += 1
        if self.steps == 3:
            raise RuntimeError("out of luck")
        return super().step()


async def test_an_engine_that_breaks_parks_and_loads_again(model: Path, engine: Engine) -> None:
    await engine.unload()
    broken = vllm(model, start=lambda *args: inprocess.load(*args, Breaking))
    await broken.load(ignore)
    with pytest.raises(EngineFault, match="out of luck"):
        await ask(broken, request(limits={"ignore_eos": True}))
    assert not broken.stats().loaded
    await broken.load(ignore)
    assert (await ask(broken, request())).tokens
    await broken.close()
    await engine.load(ignore)


async def test_a_model_that_vllm_does_not_know(tmp_path: Path, engine: Engine) -> None:
    await engine.unload()
    folder = tiny_model(tmp_path, hidden=128)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["NobodyForCausalLM"], "model_type": "nobody"}
    (folder / "config.json").write_text(json.dumps(config))
    unknown = vllm(folder)
    with pytest.raises(CapyraError) as refused:
        await unknown.load(ignore)
    assert "vLLM" in refused.value.message
    await unknown.close()
    await engine.load(ignore)


async def test_the_same_with_processes_of_its_own(model: Path, engine: Engine) -> None:
    expected = (await ask(engine, request())).tokens
    await engine.unload()
    apart = vllm(model, {"processes": True, "cores": "0"}, start=_with_processes)
    before = set(psutil.Process().children(recursive=True))
    await apart.load(ignore)
    answers = await asyncio.gather(*(ask(apart, request(id=str(n), n=2)) for n in range(3)))
    assert {tuple(each.tokens) for each in answers} == {tuple(expected)}
    async with reading(apart, request(max_tokens=1000, limits={"ignore_eos": True})) as reader:
        await until(lambda: len(reader.events) > 3)
        assert apart.abort("r")
        assert (await reader.answers()).reason == "cancelled"
    await apart.unload()
    assert idle(apart)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [each for each in left if "EngineCore" in " ".join(each.cmdline())]
    await apart.close()


def _with_processes(*args: Any) -> Any:
    from capyra.engine.vllm import processes

    return processes.load(*args)
