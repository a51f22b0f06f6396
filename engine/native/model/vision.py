"""Eyes: a SigLIP tower over patches, and Gemma 3's projector to rows of the decoder."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from capyra.engine.native.model.layout import Linear, VisionLayerWeights, VisionWeights
from capyra.engine.native.model.ops import TORCH, Ops, activate, norm
from capyra.engine.native.model.spec import DecoderSpec, VisionSpec


def look(spec: DecoderSpec, weights: VisionWeights, pixels: Tensor, ops: Ops = TORCH) -> Tensor:
    """Features `[images, tokens, hidden]` of pixels `[images, channels, side, side]`."""
    vision = spec.vision
    assert vision is not None, "this model has no eyes"
    x = functional.conv2d(
        pixels, weights.patches.weight, weights.patches.bias, stride=vision.patch_size
    )
    x = x.flatten(2).transpose(1, 2) + weights.positions
    for layer in weights.layers:
        x = x + _attention(vision, layer, _layer_norm(vision, x, layer.norm1), ops)
        h = ops.linear(_layer_norm(vision, x, layer.norm2), layer.up)
        x = x + functional.linear(
            activate(h, vision.activation), layer.down.weight, layer.down.bias
        )
    return _project(spec, vision, weights, _layer_norm(vision, x, weights.norm))


def _project(spec: DecoderSpec, vision: VisionSpec, weights: VisionWeights, x: Tensor) -> Tensor:
    """Neighbouring patches are averaged, normed, and brought to the decoder's width."""
    side = vision.patches_per_side
    pooled = functional.avg_pool2d(
        x.transpose(1, 2).reshape(len(x), -1, side, side), side // vision.tokens_per_side
    )
    normed = norm(pooled.flatten(2).transpose(1, 2), weights.soft_norm, vision.norm_eps, spec.norm)
    return normed @ weights.projection


def _attention(vision: VisionSpec, layer: VisionLayerWeights, x: Tensor, ops: Ops) -> Tensor:
    """Every patch sees every patch."""
    q, k, v = (
        ops.linear(x, part).view(*x.shape[:2], vision.heads, -1).transpose(1, 2)
        for part in (layer.q, layer.k, layer.v)
    )
    out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
    return ops.linear(out, layer.out)


def _layer_norm(vision: VisionSpec, x: Tensor, weights: Linear) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights.weight, weights.bias, vision.norm_eps)
