"""Every family, every kind of rope, window and norm, against the reference in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capyra.engine.native.batch import StepBatch
from capyra.engine.native.model.decoder import Decoder, dense_forward
from capyra.engine.native.model.layout import arrange
from capyra.engine.native.model.ops import TORCH, serving
from capyra.engine.native.model.weights import Weights

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]

TOLERANCE = 1e-4
LENGTHS = (1, 17, 300)
_BASE = {
    "vocab_size": 320,
    "hidden_size": 72,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4],
    "long_factor": [1.0, 1.5, 2.5, 4.0, 8.0, 16.0],
}
_GEMMA = {**_BASE, "head_dim": 20, "query_pre_attn_scalar": 24, "sliding_window": 8}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _BASE),
    "llama-tied-biased": (
        "llama",
        {**_BASE, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-linear": ("llama", {**_BASE, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama-llama3": ("llama", {**_BASE, "rope_parameters": _LLAMA3}),
    "llama-yarn": ("llama", {**_BASE, "rope_parameters": _YARN}),
    "mistral": ("mistral", {**_BASE, "sliding_window": None}),
    "mistral-window": ("mistral", {**_BASE, "head_dim": 20, "sliding_window": 32}),
    "qwen2": ("qwen2", {**_BASE, "tie_word_embeddings": True}),
    "qwen2-window-yarn": (
        "qwen2",
        {
            **_BASE,
            "use_sliding_window": True,
            "sliding_window": 12,
            "max_window_layers": 1,
            "rope_parameters": {**_YARN, "rope_theta": 1e6},
        },
    ),
    "qwen3": ("qwen3", {**_BASE, "head_dim": 20}),
    "phi3": ("phi3", {**_BASE, "sliding_window": 31}),
    "phi4-mini": (
        "phi3",
        {
            **_BASE,
            "hidden_size": 96,
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 64,
            "rope_parameters": _LONGROPE,
        },
    ),
    "gemma2": ("gemma2", {**_GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 7.0}),
    "gemma3": (
        "gemma3_text",
        {
            **_GEMMA,
            "layer_types": _MIXED,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "cohere": ("cohere", {**_BASE, "logit_scale": 0.25}),
    "cohere-normed": ("cohere", {**_BASE, "use_qk_norm": True, "attention_bias": True}),
    "cohere2": ("cohere2", {**_BASE, "sliding_window": 16, "layer_types": _MIXED}),
}


@pytest.fixture(scope="module", params=list(CASES))
def pair(request: pytest.FixtureRequest, make_pair: Callable[..., Any]) -> Any:
    return make_pair(*CASES[request.param])


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_equal_the_references(pair: Any, table: Any, prompt: Any, length: int) -> None:
    tokens = prompt(length)
    serving = table(pair.ours)
    (logits,) = serving.step([(serving.add(tokens), length)], [])
    expected = pair.reference_logits(tokens)
    assert expected.std() > 0.05, "the reference says nothing"
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_greedy_answers_of_a_mixed_batch_equal_the_references(
    pair: Any, table: Any, prompt: Any
) -> None:
    prompts = [prompt(length) for length in (*LENGTHS, 60)]
    serving = table(pair.ours)
    answers = serving.answer([serving.add(tokens) for tokens in prompts], 64, chunk=50)
    for tokens, answer in zip(prompts, answers, strict=True):
        assert answer == pair.reference_answer(tokens, 64)


def _check_chunks(pair: Any, table: Any, prompt: Any, chunk: int) -> None:
    tokens = prompt(130)
    serving = table(pair.ours)
    served = serving.add(tokens)
    parts = []
    while served.computed < len(tokens):
        count = min(chunk, len(tokens) - served.computed)
        parts += serving.step([(served, count)], [])
    expected = pair.reference_logits(tokens)
    torch.testing.assert_close(torch.cat(parts), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk", [1, 7, 16, 33, 64])
def test_chunks_make_no_difference(pair: Any, table: Any, prompt: Any, chunk: int) -> None:
    _check_chunks(pair, table, prompt, chunk)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(1, 65))
def test_no_chunk_size_makes_a_difference(pair: Any, table: Any, prompt: Any, chunk: int) -> None:
    _check_chunks(pair, table, prompt, chunk)


def test_several_guessed_tokens_are_verified_as_if_one_by_one(
    pair: Any, table: Any, prompt: Any
) -> None:
    """A decode run of several tokens sees what its last token would have seen."""
    tokens = prompt(58)
    serving = table(pair.ours)
    served = serving.add(tokens)
    serving.step([(served, 54)], [])
    run = serving._run(served, 4, 0)
    batch = StepBatch.build([], [run], serving.windows)
    logits = pair.ours.logits(pair.ours.forward(batch, serving.pool))
    expected = pair.reference_logits(tokens)[54:]
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_compiled_kernels_compute_the_same(pair: Any, table: Any, prompt: Any) -> None:
    if serving() is TORCH:
        pytest.skip("no compiled kernels here")
    prompts = [prompt(length) for length in (17, 90)]
    ours = table(pair.ours_with(serving()))
    first, second = (ours.add(tokens) for tokens in prompts)
    ours.step([(first, 16)], [])
    logits = ours.step([(second, 90)], [first])
    torch.testing.assert_close(logits[0], pair.reference_logits(prompts[1]), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        logits[1], pair.reference_logits(prompts[0])[-1:], atol=TOLERANCE, rtol=0
    )


def test_training_computes_the_same(pair: Any, prompt: Any) -> None:
    rows = [prompt(110), prompt(45) + [0] * 65]
    weights = arrange(pair.ours.spec, pair.ours.weights.tensors)
    with torch.no_grad():
        logits = dense_forward(pair.ours.spec, weights, torch.tensor(rows))
    expected = pair.reference_logits(rows[0])
    torch.testing.assert_close(logits[0], expected, atol=TOLERANCE, rtol=0)
    if pair.ours.long_after is None:
        expected = pair.reference_logits(rows[1][:45])
        torch.testing.assert_close(logits[1, :45], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(pair: Any, table: Any, prompt: Any, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in pair.ours.weights.tensors.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    serving = table(Decoder(pair.ours.spec, Weights(tensors, dtype, size, 0)))
    tokens = prompt(40)
    served = serving.add(tokens)
    logits = torch.cat([*serving.step([(served, 39)], []), *serving.step([], [served])])
    expected = pair.reference_logits(tokens)
    assert serving.pool.dtype == dtype
    error = (logits - expected).norm() / expected.norm()
    assert error < (0.05 if dtype == torch.bfloat16 else 0.01)
