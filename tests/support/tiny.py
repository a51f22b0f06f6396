"""Tiny random models as ordinary Hugging Face directories, made in milliseconds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from capyra.engine.config import ExpertConfig
from capyra.engine.native.batch import StepBatch
from capyra.engine.native.blueprint import Blueprint
from capyra.engine.native.engine import NativeEngine
from capyra.engine.native.kv import KvPool
from capyra.engine.native.machine import Builder, Machine, build
from capyra.engine.native.model.decoder import Decoder
from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.layout import published, shapes
from capyra.engine.native.model.weights import OnStage
from capyra.engine.native.tally import Tally
from capyra.engine.registry import EngineSpec

CONTROL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>")
EYES = ("<|image|>", "<|look|>", "<|seen|>")
SPAN = 9
"""Tokens of an image of the model that sees."""
END = 256
VOCABULARY = 256 + len(CONTROL)
TEMPLATE = (
    "{%- for message in messages -%}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
SEEING = (
    "{%- for message in messages -%}<|{{ message.role }}|>"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}"
    "{{ '<|look|>' if part.type == 'image' else part.text }}{%- endfor -%}{%- endif -%}<|end|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def tiny_model(
    folder: Path,
    *,
    layers: int = 2,
    windows: tuple[int | None, ...] = (None,),
    context: int = 2048,
    hidden: int = 32,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
    template: str = TEMPLATE,
    **config: Any,
) -> Path:
    """A Qwen 2 of random weights over bytes. Layers take turns in `windows`."""
    kinds = [windows[index % len(windows)] for index in range(layers)]
    width = next((window for window in kinds if window is not None), None)
    settings: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "eos_token_id": END,
        "use_sliding_window": width is not None,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **config,
    }
    if width is not None:
        settings["sliding_window"] = width
        settings["layer_types"] = [
            "full_attention" if kind is None else "sliding_attention" for kind in kinds
        ]
    return _write(folder, settings, template, CONTROL, seed, dtype)


def tiny_seer(folder: Path, *, seed: int = 1) -> Path:
    """A Gemma 3 of random weights over bytes, with eyes and two windows smaller than an image."""
    text = {
        "model_type": "gemma3_text",
        "vocab_size": VOCABULARY + len(EYES),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "query_pre_attn_scalar": 12,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
    }
    eyes = {
        "model_type": "siglip_vision_model",
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 48,
        "patch_size": 8,
    }
    settings = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": eyes,
        "mm_tokens_per_image": SPAN,
        "image_token_index": VOCABULARY,
        "boi_token_index": VOCABULARY + 1,
        "eoi_token_index": VOCABULARY + 2,
        "eos_token_id": END,
        "torch_dtype": "float32",
    }
    return _write(folder, settings, SEEING, CONTROL + EYES, seed, torch.float32)


def _write(
    folder: Path,
    settings: Mapping[str, Any],
    template: str,
    control: tuple[str, ...],
    seed: int,
    dtype: torch.dtype,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    _write_tokenizer(folder, template, control)
    spec = read_spec(folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes(spec).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("norm.weight"):
            tensor = 1 + 0.1 * noise
        elif name == "lm_head.weight":
            # Sharp enough that the likeliest token is not a matter of rounding.
            tensor = noise * 3 / shape[-1] ** 0.5
        else:
            tensor = noise * (0.5 if "embed" in name else 2 / shape[-1] ** 0.5)
        tensors[published(spec, name)] = tensor.to(dtype).contiguous()
    save_file(tensors, folder / "model.safetensors")
    return folder


def _write_tokenizer(folder: Path, template: str, control: tuple[str, ...]) -> None:
    """One token for each byte, and the control tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": CONTROL[0], "bos_token": None, "chat_template": template})
    )


class SlowDecoder(Decoder):
    """Takes its time for every step."""

    def forward(self, batch: StepBatch, pool: KvPool) -> Tensor:
        time.sleep(0.1)
        return super().forward(batch, pool)


def slow_steps(
    blueprint: Blueprint, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
) -> Machine:
    return build(blueprint, tally, readers, on_stage, decoder=SlowDecoder)


def slow_load(
    blueprint: Blueprint, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: OnStage
) -> Machine:
    for _ in range(6000):
        on_stage("waiting", 0.0)
        time.sleep(0.01)
    return build(blueprint, tally, readers, on_stage)


def native(
    folder: Path, options: Mapping[str, Any] | None = None, build: Builder = build, **config: Any
) -> NativeEngine:
    # Threads only get into each other's way on so little work.
    config = {"resources": {"threads": 1}, **config}
    settings = ExpertConfig(engine="native", options=dict(options or {}), **config)
    return NativeEngine(EngineSpec("tiny", settings, folder), build)
