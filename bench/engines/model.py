"""The model that all engines serve: a Llama of some 300 million random weights in bfloat16, made
once, as a Hugging Face directory with the same weights as GGUF beside them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 16384,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "bfloat16",
}
VOCABULARY = 16384
_NAME = "llama-300m"


def model(folder: Path, gguf_python: Path | None) -> Path:
    """The model's directory under `folder`; GGUF is written where llama.cpp's environment is."""
    where = folder / _NAME
    if not (where / "model.safetensors").is_file():
        making = folder / f"{_NAME}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        _make(making)
        shutil.rmtree(where, ignore_errors=True)
        making.rename(where)
    if gguf_python is not None and not (where / "model.gguf").is_file():
        making = where / "model.gguf.making"
        script = Path(__file__).parent / "to_gguf.py"
        subprocess.run([str(gguf_python), str(script), str(where), str(making)], check=True)
        making.rename(where / "model.gguf")
    return where


def _make(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from capyra.engine.native.model.families import read_spec
    from capyra.engine.native.model.layout import shapes

    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    _tokenizer(folder)
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in shapes(read_spec(folder)).items():
        if name.endswith("norm.weight"):
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
            continue
        # Sharp at the end, so that the likeliest token is seldom a matter of rounding.
        size = 4.0 if name.startswith("lm_head") else 1.0
        scale = 1.0 if "embed" in name else size / shape[-1] ** 0.5
        tensors[name] = (torch.randn(shape, generator=random) * scale).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _tokenizer(folder: Path) -> None:
    """One token for each byte, and names for the rest: the engines are given token ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "</s>", *letters]
    names += [f"t{place}" for place in range(len(names), VOCABULARY)]
    tokenizer = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
