"""The engine bench's own logic: workloads, readings, the pipe to an engine, the picture."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench import engine as bench
from bench.engine import Bench, results
from bench.engines.lines import Answer, Request, in_turn
from bench.engines.plot import bars
from bench.engines.process import EngineDied, EngineProcess
from bench.engines.workload import (
    PREFIX,
    Workload,
    decode_rate,
    first_tokens,
    percentile,
    step,
)

ECHO = """
import sys
sys.path.insert(0, sys.argv[1])
from lines import Answer, Driver, serve

class Echo(Driver):
    def load(self, model, threads):
        print("a library that prints")
        if model == "broken":
            raise ValueError("no such model")
    def unload(self):
        sys.exit("gone")
    def run(self, requests):
        return [Answer(r.tokens[: r.count], [r.at]) for r in requests]

serve(Echo)
"""


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[EngineProcess]:
    """A driver that answers each prompt with its own first tokens."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    command = [sys.executable, str(script), str(bench.HERE)]
    with EngineProcess("echo", command, {}, tmp_path / "echo.log") as process:
        process.wait_up(30)
        yield process


def test_an_engine_answers_through_its_pipe(echo: EngineProcess) -> None:
    echo.load(Path("model"), 2)
    (answer,) = echo.run([Request([5, 6, 7], 2, at=0.5)])
    assert answer == Answer([5, 6], [0.5])
    memory = echo.memory()
    assert 0 < memory["pss"] <= memory["rss"]


def test_what_an_engine_raises_is_told(echo: EngineProcess) -> None:
    with pytest.raises(EngineDied, match="echo: ValueError: no such model"):
        echo.load(Path("broken"), 2)
    echo.load(Path("model"), 2)


def test_a_dead_engine_says_its_last_words(echo: EngineProcess) -> None:
    with pytest.raises(EngineDied, match=r"echo ended.*gone"):
        echo.unload()


def test_prompts_differ_and_shared_prefixes_do_not() -> None:
    work = Workload(1)
    before, found, fresh = (requests[0] for requests in work.prefix(4))
    assert before.tokens[:PREFIX] == found.tokens[:PREFIX]
    assert before.tokens != found.tokens == fresh.tokens
    assert before.salt == found.salt != fresh.salt
    batch = work.decode(4, 16, 8)
    assert len({tuple(request.tokens) for request in batch}) == 4
    assert {request.at for request in batch} == {0.0}


def test_a_poisson_stream_has_its_rate_and_four_prefixes() -> None:
    requests = Workload(1).poisson(400, rate=2.0)
    assert 400 / requests[-1].at == pytest.approx(2.0, rel=0.2)
    assert len({tuple(request.tokens[:256]) for request in requests}) == 4
    assert len({tuple(request.tokens) for request in requests}) == 400


def test_readings_of_answers() -> None:
    answers = [Answer([1] * 4, [1.0, 2.0, 3.0, 4.0]), Answer([1] * 4, [2.0, 3.0, 4.0, 5.0])]
    requests = [Request([1], 4, at=0.5), Request([1], 4)]
    assert first_tokens(requests, answers) == [0.5, 2.0]
    # From 2.0, when both are written, to 4.0, when the first ends: two tokens of each.
    assert decode_rate(answers) == 2.0
    assert step(Answer([1] * 4, [0.0, 1.0, 2.0, 9.0])) == 1.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_engines_without_a_scheduler_answer_arrivals_in_turn() -> None:
    sizes = []

    def compute(requests: list[Request]) -> Iterator[list[int]]:
        sizes.append(len(requests))
        for place in range(requests[0].count):
            yield [request.tokens[0] + place for request in requests]

    requests = [Request([10], 2), Request([20], 2, at=0.001), Request([30], 2)]
    answers = in_turn(requests, compute)
    assert [answer.tokens for answer in answers] == [[10, 11], [20, 21], [30, 31]]
    assert sizes == [2, 1]
    assert answers[0].stamps == answers[2].stamps
    assert answers[1].stamps[0] >= 0.001


def test_figures_are_ratios_of_rounds_and_less_time_is_better() -> None:
    run = Bench(["native", "vllm"], Path("model"), quick=True)
    run.values["prefill512_tokens_per_s"] |= {"native": [30.0, 20.0], "vllm": [10.0, 10.0]}
    run.values["reload_s"] |= {"native": [0.5], "vllm": [2.0, 9.0]}
    run.identical["native"] = [True, False]
    run.died["vllm"] = "vllm ended"
    figures = results(run).figures
    assert figures["prefill512_vs_vllm"] == 2.5
    assert figures["reload_vs_vllm_reload"] == 4.0
    assert figures["prefix1024_identical"] == 0.5
    assert figures["vllm_reload_s"] == 5.5
    assert not {name for name in figures if "llamacpp" in name or "transformers" in name}
    assert results(run).raw["died"] == {"vllm": "vllm ended"}


def test_what_a_ratio_needs_is_measured() -> None:
    run = Bench(["native"], Path("model"), quick=True)
    measures = {getattr(one, "func", one).__name__ for one in run._measures()}
    assert measures == {"_reload", "_prefill", "_decode", "_prefix", "_load"}
    assert all(name in (bench.__doc__ or "") for name in bench.RATIOS)


def test_what_would_take_too_long_is_left_out_and_named() -> None:
    run = Bench(["vllm"], Path("model"), quick=True)
    run.values["prefill512_tokens_per_s"]["vllm"] = [20.0]
    run._prefill(2048, "vllm")
    run._prefix("vllm")
    assert results(run).raw["left_out"] == [
        "vllm: a prompt of 2048, which would take 102 s",
        "vllm: a prefix of 1024 tokens, which would take 102 s",
    ]
    assert "vllm_prefill2048_tokens_per_s" not in results(run).figures


def test_a_picture_is_svg_with_a_bar_for_each_value() -> None:
    picture = bars("title & more", {"decode": {"native": 2.0, "vllm": 1.0}, "none": {"vllm": 0.0}})
    root = ElementTree.fromstring(picture)
    rectangles = [one for one in root if one.tag.endswith("rect") and one.get("x")]
    assert [float(one.get("width", 0)) for one in rectangles] == [360.0, 180.0, 1.0]
    assert re.search("title &amp; more", picture)
