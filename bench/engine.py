"""The native engine beside transformers, llama.cpp and vLLM, on a Llama of 300 M random weights.

Each engine is a process of its own, with two threads, bfloat16, the same token ids and greedy
answers of the same lengths; they take turns. vLLM is eager and in-process. The ratios:

prefill512_vs_llamacpp_bf16, prefill512_vs_vllm       our prompt tokens/s ÷ theirs
decode1_vs_vllm, decode16_vs_vllm, decode16_vs_transformers    our tokens/s ÷ theirs, by batch
reload_vs_vllm_reload        their time from a process without weights to a first token ÷ ours
process_start_vs_vllm        their time from no process to a first token ÷ ours
ttft_prefix1024_steps        our time to a first token after a cached prefix of 1,024 tokens, in
                             steps of decoding; ttft_prefix1024_speedup: ÷ without the cache
prefix1024_identical         the part of the answers that are the same without the cache

and, for each engine, tokens/s, seconds, milliseconds and MiB by plain names. TTFT under load: a
Poisson stream of short questions after four shared prefixes; who has no scheduler answers in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.engines.model import model
from bench.engines.plot import bars
from bench.engines.process import EngineDied, EngineProcess
from bench.engines.workload import (
    PREFIX,
    QUESTION,
    Workload,
    decode_rate,
    first_tokens,
    percentile,
    step,
)
from bench.harness import PeerMissing, Results, parser, report

HERE = Path(__file__).parent / "engines"
PEERS = Path(os.environ.get("PEERS", Path.home() / ".cache" / "capyra" / "peers"))
PYTHONS = {
    "native": Path(sys.executable),
    "vllm": PEERS / "vllm" / "bin" / "python",
    "llamacpp": PEERS / "llama-cpp" / "bin" / "python",
    "transformers": PEERS / "transformers" / "bin" / "python",
}
DRIVERS = {"llamacpp": "drive_llama_cpp.py"}
THREADS = 2
RATIOS = {
    "prefill512_vs_llamacpp_bf16": ("prefill512_tokens_per_s", "llamacpp", False),
    "prefill512_vs_vllm": ("prefill512_tokens_per_s", "vllm", False),
    "decode1_vs_vllm": ("decode1_tokens_per_s", "vllm", False),
    "decode16_vs_vllm": ("decode16_tokens_per_s", "vllm", False),
    "decode16_vs_transformers": ("decode16_tokens_per_s", "transformers", False),
    "reload_vs_vllm_reload": ("reload_s", "vllm", True),
    "process_start_vs_vllm": ("process_start_s", "vllm", True),
}
"""Measure, peer, and whether less is better."""
PLOTTED = (
    *(f"prefill{length}_tokens_per_s" for length in (128, 512, 2048)),
    *(f"decode{batch}_tokens_per_s" for batch in (1, 4, 16)),
    *("process_start_s", "reload_s", "rss_mib", "ttft_p50_ms", "ttft_p99_ms"),
)


class Bench:
    """Measures engines in turn; what each measure gave is kept by its name and engine."""

    def __init__(self, engines: Sequence[str], directory: Path, *, quick: bool) -> None:
        self.engines = list(engines)
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.left_out: list[str] = []
        self.died: dict[str, str] = {}
        self.identical: dict[str, list[bool]] = defaultdict(list)
        self._directory = directory
        self._quick = quick
        self._patience = 20.0 if quick else 150.0
        self._limit = 270.0 if quick else 5400.0
        self._begun = time.monotonic()
        self._work = Workload(seed=int(time.time()))
        self._running: dict[str, ExitStack] = {}
        self._processes: dict[str, EngineProcess] = {}

    def measure(self) -> None:
        self._begun = time.monotonic()
        try:
            for _ in range(1 if self._quick else 3):
                self._in_turn(self._start)
            for number in range(3 if self._quick else 5):
                before = self._spent()
                for measure in self._measures():
                    self._in_turn(measure)
                if 2 * self._spent() - before > self._limit:
                    self.left_out.append(f"rounds after {number + 1}, for which there is no time")
                    break
            self._in_turn(self._weigh)
        finally:
            for stack in self._running.values():
                stack.close()

    def _in_turn(self, measure: Callable[[str], None]) -> None:
        for name in self.engines:
            if name not in self.died:
                try:
                    measure(name)
                except EngineDied as error:
                    self.died[name] = str(error)

    def _spent(self) -> float:
        return time.monotonic() - self._begun

    def _measures(self) -> list[Callable[[str], None]]:
        return [
            self._reload,
            *(partial(self._prefill, length) for length in (128, 512, 2048)),
            *(partial(self._decode, batch) for batch in (1, 4, 16)),
            self._prefix,
            self._load,
        ]

    def _keep(self, measure: str, name: str, value: float) -> None:
        self.values[measure][name].append(value)

    def _too_long(self, what: str, name: str, seconds: float) -> bool:
        """Whether a measure would take longer than it is worth, or than there is time; a report
        says so."""
        patience = min(self._patience, self._limit - self._spent())
        if seconds <= patience:
            return False
        line = f"{name}: {what}, which would take {seconds:.0f} s"
        if line not in self.left_out:
            self.left_out.append(line)
        return True

    def _prompt_seconds(self, tokens: int, name: str) -> float:
        """How long so many prompt tokens will take, by the longest prompt measured so far."""
        for length in (512, 128):
            if rates := self.values[f"prefill{length}_tokens_per_s"].get(name):
                return tokens / rates[-1]
        return 0.0

    def _start(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name).close()
        stack = self._running[name] = ExitStack()
        driver = HERE / DRIVERS.get(name, f"drive_{name}.py")
        environment = {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": ""}
        log = self._directory.parent / f"{name}.log"
        process = EngineProcess(name, [str(PYTHONS[name]), str(driver)], environment, log)
        self._processes[name] = stack.enter_context(process)
        process.wait_up(180)
        process.load(self._directory, THREADS)
        process.run(self._work.first())
        self._keep("process_start_s", name, time.perf_counter() - process.begun)

    def _reload(self, name: str) -> None:
        process = self._processes[name]
        process.unload()
        begin = time.perf_counter()
        process.load(self._directory, THREADS)
        process.run(self._work.first())
        self._keep("reload_s", name, time.perf_counter() - begin)

    def _prefill(self, length: int, name: str) -> None:
        if self._too_long(f"a prompt of {length}", name, self._prompt_seconds(length, name)):
            return
        requests = self._work.prefill(length)
        (seconds,) = first_tokens(requests, self._processes[name].run(requests))
        self._keep(f"prefill{length}_tokens_per_s", name, length / seconds)

    def _decode(self, batch: int, name: str) -> None:
        length, count = (16, 24) if self._quick else (64, 64)
        seconds = self._prompt_seconds(batch * length, name)
        if self._too_long(f"{batch} prompts to decode", name, seconds):
            return
        answers = self._processes[name].run(self._work.decode(batch, length, count))
        self._keep(f"decode{batch}_tokens_per_s", name, decode_rate(answers))

    def _prefix(self, name: str) -> None:
        if name == "transformers":
            return  # it keeps no prefixes
        seconds = self._prompt_seconds(2 * PREFIX, name)
        if self._too_long("a prefix of 1024 tokens", name, seconds):
            return
        before, found, fresh = self._work.prefix(16 if self._quick else 32)
        process = self._processes[name]
        process.run(before)
        with_cache, without = process.run(found)[0], process.run(fresh)[0]
        ttft = with_cache.stamps[0]
        self._keep("ttft_prefix1024_ms", name, 1000 * ttft)
        self._keep("ttft_prefix1024_steps", name, ttft / step(with_cache))
        self._keep("ttft_prefix1024_speedup", name, without.stamps[0] / ttft)
        self.identical[name].append(with_cache.tokens == without.tokens)

    def _load(self, name: str) -> None:
        count, rate = (10, 1.0) if self._quick else (40, 1.0)
        seconds = self._prompt_seconds(count * 288, name) / 2  # half of it is cached
        if self._too_long(f"{count} requests under load", name, seconds):
            return
        requests = self._work.poisson(count, rate)
        times = [1000 * one for one in first_tokens(requests, self._processes[name].run(requests))]
        self._keep("ttft_p50_ms", name, percentile(times, 0.5))
        self._keep("ttft_p99_ms", name, percentile(times, 0.99))

    def _weigh(self, name: str) -> None:
        for kind, mebibytes in self._processes[name].memory().items():
            self._keep(f"{kind}_mib", name, mebibytes)


def results(bench: Bench) -> Results:
    found = Results()
    for figure, (measure, peer, less) in RATIOS.items():
        ours, theirs = bench.values[measure]["native"], bench.values[measure][peer]
        pairs = min(len(ours), len(theirs))
        if pairs:
            sides = (theirs, ours) if less else (ours, theirs)
            found.ratio(figure, *(side[:pairs] for side in sides))
    for figure in ("ttft_prefix1024_steps", "ttft_prefix1024_speedup"):
        if values := bench.values[figure].get("native"):
            found.median(figure, values)
    if same := bench.identical["native"]:
        found.figures["prefix1024_identical"] = statistics.fmean(same)
    for measure, engines in bench.values.items():
        for name, values in engines.items():
            if values:
                found.median(f"{name}_{measure}", values)
    found.raw |= {
        "threads": THREADS,
        "left_out": bench.left_out,
        "died": bench.died,
        "identical": dict(bench.identical),
        "prefix": {"tokens": PREFIX, "question": QUESTION},
    }
    return found


def draw(bench: Bench) -> str:
    groups = {
        measure: {name: statistics.median(v) for name, v in bench.values[measure].items() if v}
        for measure in PLOTTED
        if any(bench.values[measure].values())
    }
    return bars("A Llama of 300 M weights, bfloat16, two threads: medians", groups)


def main() -> None:
    arguments = _arguments()
    engines = ["native", *(name for name in PYTHONS if name in arguments.peers)]
    missing = [name for name in engines if not PYTHONS[name].exists()]
    benches: list[Bench] = []

    def measure() -> Results:
        if missing:
            raise PeerMissing(f"{', '.join(missing)}: not installed under {PEERS}")
        gguf = PYTHONS["llamacpp"] if "llamacpp" in engines else None
        bench = Bench(engines, model(PEERS / "models", gguf), quick=arguments.quick)
        bench.measure()
        benches.append(bench)
        return results(bench)

    report(measure, arguments.json)
    (bench,) = benches
    if arguments.json:
        arguments.json.with_suffix(".svg").write_text(draw(bench))
    for line in bench.left_out:
        print(f"left out: {line}")
    if bench.died:
        sys.exit("\n".join(f"no figures of {name}: {why}" for name, why in bench.died.items()))


def _arguments() -> argparse.Namespace:
    known = [name for name in PYTHONS if name != "native"]

    def names(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}: the peers are {', '.join(known)}"
            )
        return found

    taken = parser(sys.modules[__name__].__doc__)
    taken.add_argument(
        "--peers",
        type=names,
        default=known,
        metavar="A,B",
        help=f"compare with these only, of {', '.join(known)}; empty: with none",
    )
    return taken.parse_args()


if __name__ == "__main__":
    main()
