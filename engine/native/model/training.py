"""What a training loop needs beyond `dense_forward`: fresh parameters, and a checkpoint that
others can read.

Parameters are a plain dictionary of leaf tensors by their names. `layout.arrange` makes weights
of them for the forward pass, and any optimizer takes its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from capyra.engine.native.model.layout import published, shapes
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.weights import SINGLE


def initial_parameters(spec: DecoderSpec, seed: int, deviation: float = 0.02) -> dict[str, Tensor]:
    """Fresh float32 parameters of all tensors of the spec: norms that change nothing, no biases,
    matrices normal with this deviation, those that write to the residual stream with less."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in shapes(spec).items():
        kind = name.split(".")[-2] if "." in name else name
        if name.endswith(".bias"):
            tensor = torch.zeros(shape)
        elif "norm" in kind:
            gemma = spec.norm == "gemma" and "layer_norm" not in kind and kind != "post_layernorm"
            tensor = torch.zeros(shape) if gemma else torch.ones(shape)
        else:
            narrow = kind in ("o_proj", "down_proj", "out_proj", "fc2")
            scale = deviation / (2 * len(spec.layers)) ** 0.5 if narrow else deviation
            tensor = torch.empty(shape).normal_(0, scale, generator=generator)
        parameters[name] = tensor.requires_grad_()
    return parameters


def save_parameters(
    spec: DecoderSpec, parameters: Mapping[str, Tensor], directory: Path, dtype: torch.dtype
) -> None:
    """As `model.safetensors` in Hugging Face's layout, beside a `config.json` of the same spec."""
    tensors = {
        published(spec, name): parameters[name].detach().to(dtype).contiguous()
        for name in shapes(spec)
    }
    save_file(tensors, directory / SINGLE, metadata={"format": "pt"})
