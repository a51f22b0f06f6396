from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from capyra.engine.native.model.decoder import dense_forward
from capyra.engine.native.model.families import parse_spec
from capyra.engine.native.model.layout import arrange, arrange_vision, shapes
from capyra.engine.native.model.training import initial_parameters, save_parameters
from capyra.engine.native.model.vision import look
from capyra.engine.native.model.weights import load_weights

_TEXT = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", **_TEXT, "final_logit_softcapping": 9.0},
    "vision_config": _VISION,
    "mm_tokens_per_image": 4,
    "image_token_index": 39,
}


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "phi3", "gemma2", "cohere"])
def test_every_parameter_learns(kind: str) -> None:
    spec = parse_spec({"model_type": kind, **_TEXT, "logit_scale": 1.0})
    parameters = initial_parameters(spec, seed=1, deviation=0.2)
    tokens = torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(2))
    losses = []
    for _ in range(12):
        logits = dense_forward(spec, arrange(spec, parameters), tokens)
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter -= 3e-3 * gradient.sign()
        losses.append(loss.item())
    # A bias of keys moves all scores of a query alike: softmax does not see it.
    blind = {name for name in parameters if name.endswith("k_proj.bias")}
    assert {
        name
        for name, gradient in zip(parameters, gradients, strict=True)
        if not gradient.abs().max() > 1e-9
    } <= blind
    assert losses[-1] < losses[0] / 2


def test_eyes_learn_too() -> None:
    spec = parse_spec(GEMMA3)
    assert spec.vision is not None
    parameters = initial_parameters(spec, seed=1, deviation=0.2)
    features = look(spec, arrange_vision(spec.vision, parameters), torch.ones(1, 3, 16, 16))
    tokens = torch.tensor([[5, 39, 39, 39, 39, 6]])
    logits = dense_forward(spec, arrange(spec, parameters), tokens, [[(1, features[0])]])
    logits[0, -1].logsumexp(0).backward()
    grad = parameters["vision_tower.embeddings.patch_embedding.weight"].grad
    assert grad is not None
    assert grad.abs().max() > 0


def test_the_same_seed_is_the_same_model() -> None:
    spec = parse_spec(GEMMA3)
    one, two, other = (initial_parameters(spec, seed) for seed in (1, 1, 2))
    assert list(one) == list(shapes(spec))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("config", [{"model_type": "mistral", **_TEXT}, GEMMA3])
def test_a_saved_model_loads(tmp_path: Path, config: dict[str, Any]) -> None:
    spec = parse_spec(config)
    parameters = initial_parameters(spec, seed=3)
    save_parameters(spec, parameters, tmp_path, torch.bfloat16)
    weights = load_weights(tmp_path, spec, None, lambda _stage, _done: None)
    assert weights.dtype == torch.bfloat16
    for name, parameter in parameters.items():
        assert torch.equal(weights.tensors[name], parameter.detach().bfloat16())
