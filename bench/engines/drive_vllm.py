"""vLLM, eager and in-process: `LLMEngine` with its engine core in this process."""

from __future__ import annotations

import os

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("BENCH_CORES", "0-1"),
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

import gc
import time

import torch
from lines import Answer, Driver, Request, serve
from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.sampling_params import RequestOutputKind


class Vllm(Driver):
    def __init__(self) -> None:
        self._engine: LLMEngine | None = None
        self._names = 0

    def load(self, model: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=model,
                dtype="bfloat16",
                enforce_eager=True,
                skip_tokenizer_init=True,
                max_model_len=4096,
                max_num_seqs=16,
                kv_cache_memory_bytes=2**30,
                enable_prefix_caching=True,
                disable_log_stats=True,
            )
        )

    def unload(self) -> None:
        assert self._engine is not None
        self._engine.engine_core.shutdown()
        self._engine = None
        cleanup_dist_env_and_memory()
        gc.collect()

    def run(self, requests: list[Request]) -> list[Answer]:
        engine = self._engine
        assert engine is not None
        start = time.perf_counter()
        order = sorted(range(len(requests)), key=lambda index: requests[index].at)
        answers: dict[str, Answer] = {}
        found: list[Answer] = [Answer() for _ in requests]
        while order or engine.has_unfinished_requests():
            now = time.perf_counter() - start
            while order and requests[order[0]].at <= now:
                index = order.pop(0)
                answers[self._add(requests[index])] = found[index]
            if not engine.has_unfinished_requests():
                time.sleep(max(0.0, requests[order[0]].at - now))
                continue
            outputs = engine.step()
            now = time.perf_counter() - start
            for output in outputs:
                for token in output.outputs[0].token_ids:
                    answers[output.request_id].add(token, now)
        return found

    def _add(self, request: Request) -> str:
        assert self._engine is not None
        self._names += 1
        name = f"{self._names}"
        prompt = {"prompt_token_ids": request.tokens}
        if request.salt:
            prompt["cache_salt"] = request.salt
        sampling = SamplingParams(
            temperature=0,
            max_tokens=request.count,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._engine.add_request(name, prompt, sampling)
        return name


if __name__ == "__main__":
    serve(Vllm)
