"""One model with vLLM on CUDA, from an HTTP request to its answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
import torch

from engines import MAKERS
from serving import start
from tiny import tiny_model

# Not skipped as a module: pytest calls a run without any test a failure.
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    pytest.mark.skipif(MAKERS["vllm"].missing, reason="vllm is not installed"),
]

EXPERTS = """
experts:
  large:
    engine: vllm
    model: {model}
    dtype: bfloat16
    resources: {{gpus: 1}}
    keep_alive: -1
    options: {{gpu_memory_utilization: 0.3, enforce_eager: true}}
"""


def test_a_request_is_answered(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", hidden=256, dtype=torch.bfloat16)
    server = start(EXPERTS.format(model=model))
    try:
        answer = httpx.post(
            f"{server.url}/v1/chat/completions",
            json={
                "model": "large",
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 8,
            },
            timeout=600,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0
    finally:
        left = server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)
    assert not left, left
