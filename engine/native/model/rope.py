"""Rotary embeddings: from a configuration to frequencies.

Frequencies are computed in float32 as the reference does it, because a difference in the last bit
grows with the position.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from capyra.engine.native.model.fields import Fields
from capyra.engine.native.model.spec import Rope

Scheme = Callable[[Fields, int, float], tuple[Tensor, float]]
"""Settings, rotated dimensions, base → frequencies, scale."""


def parse_rope(settings: Fields, head_dim: int, *, interleaved: bool = False) -> Rope:
    """The rotation that these settings describe. They are complete: see `rope_settings`."""
    theta = settings.number("rope_theta")
    share = settings.number("partial_rotary_factor", 1.0)
    dim = int(head_dim * share)
    if dim % 2 or not 0 < dim <= head_dim:
        raise settings.wrong("partial_rotary_factor", f"an even part of head_dim ({head_dim})")
    if settings.choice("rope_type", dict.fromkeys(_SCHEMES, False) | {"longrope": True}):
        short, long, scale = _longrope(settings, dim, theta)
        return Rope(_floats(short), scale, interleaved, _floats(long))
    scheme = settings.choice("rope_type", _SCHEMES)
    frequencies, scale = scheme(settings, dim, theta)
    return Rope(_floats(frequencies), scale, interleaved)


def rope_settings(config: Fields, theta: float, kind: str | None = None) -> Fields:
    """The rope settings of a configuration, old style (`rope_theta`, `rope_scaling`) or new
    (`rope_parameters`, for each `kind` of layer where kinds differ), in the new style."""
    settings = config.part("rope_parameters")
    if "rope_parameters" not in config:
        settings = config.part("rope_scaling").without("rope_theta")
    elif kind is not None and kind in settings:
        settings = settings.part(kind)
    old_type = settings.choice("type", _OLD_NAMES, "default")
    context = config.integer("max_position_embeddings")
    original = config.integer("original_max_position_embeddings", context)
    if "original_max_position_embeddings" in config:
        settings = settings.without("original_max_position_embeddings")
    return settings.merged(
        {
            "rope_type": old_type,
            "rope_theta": config.number("rope_theta", theta),
            "original_max_position_embeddings": original,
            "max_position_embeddings": context,
        }
    )


def rotation(rope: Rope, positions: Tensor, long_rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Float32 cosine and sine for `[…]` positions, `[…, rotated / 2]` each."""
    angles = positions.float().unsqueeze(-1) * torch.tensor(rope.frequencies)
    if long_rows is not None and rope.long_frequencies is not None:
        far = positions.float().unsqueeze(-1) * torch.tensor(rope.long_frequencies)
        angles = torch.where(long_rows.unsqueeze(-1), far, angles)
    return angles.cos() * rope.scale, angles.sin() * rope.scale


def _base(dim: int, theta: float) -> Tensor:
    """The wavelength of each pair, over 2 π."""
    return torch.as_tensor(theta ** (torch.arange(0, dim, 2).float() / dim))


def _default(_settings: Fields, dim: int, theta: float) -> tuple[Tensor, float]:
    return 1.0 / _base(dim, theta), 1.0


def _linear(settings: Fields, dim: int, theta: float) -> tuple[Tensor, float]:
    return 1.0 / _base(dim, theta) / settings.number("factor"), 1.0


def _llama3(settings: Fields, dim: int, theta: float) -> tuple[Tensor, float]:
    """High frequencies stay, low ones are divided by `factor`, those between are blended."""
    factor, original = settings.number("factor"), settings.number(_ORIGINAL)
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if low >= high:
        raise settings.wrong("low_freq_factor", f"less than high_freq_factor ({high:g})")
    frequencies = 1.0 / _base(dim, theta)
    wavelengths = 2 * math.pi / frequencies
    share = ((original / wavelengths - low) / (high - low)).clamp(0, 1)
    return (1 - share) * frequencies / factor + share * frequencies, 1.0


def _yarn(settings: Fields, dim: int, theta: float) -> tuple[Tensor, float]:
    original = settings.number(_ORIGINAL)
    factor = settings.number("factor", settings.number("max_position_embeddings") / original)
    low, high = (
        dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (settings.number("beta_fast", 32.0), settings.number("beta_slow", 1.0))
    )
    if settings.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    share = 1 - ((torch.arange(dim // 2).float() - low) / (high - low)).clamp(0, 1)
    base = _base(dim, theta)
    frequencies = 1.0 / (factor * base) * (1 - share) + 1.0 / base * share
    if "attention_factor" in settings:
        return frequencies, settings.number("attention_factor")
    if "mscale" in settings and "mscale_all_dim" in settings:
        one, all_dims = settings.number("mscale"), settings.number("mscale_all_dim")
        return frequencies, _yarn_scale(factor, one) / _yarn_scale(factor, all_dims)
    return frequencies, _yarn_scale(factor, 1.0)


def _yarn_scale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _longrope(settings: Fields, dim: int, theta: float) -> tuple[Tensor, Tensor, float]:
    original = settings.number(_ORIGINAL)
    factor = settings.number("factor", settings.number("max_position_embeddings") / original)
    base = _base(dim, theta)
    short, long = (
        1.0 / (torch.tensor(settings.numbers(name, dim // 2)) * base)
        for name in ("short_factor", "long_factor")
    )
    scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return short, long, settings.number("attention_factor", scale)


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())


_ORIGINAL = "original_max_position_embeddings"
_SCHEMES: dict[str, Scheme] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
_OLD_NAMES = {name: name for name in (*_SCHEMES, "longrope")} | {"su": "longrope"}
