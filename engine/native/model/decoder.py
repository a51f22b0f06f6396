"""The decoder. One function computes all layers of all families; how rows attend is handed in,
so that serving (paged K/V, no padding) and training (dense batches, gradients) share the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.errors import Unsupported
from capyra.engine.native.batch import StepBatch
from capyra.engine.native.kv import CacheGroup, KvPool
from capyra.engine.native.model.attention import Attend, dense, paged
from capyra.engine.native.model.layout import (
    DecoderWeights,
    LayerWeights,
    Linear,
    arrange,
    arrange_vision,
)
from capyra.engine.native.model.ops import TORCH, Ops, serving
from capyra.engine.native.model.rope import rotation
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.vision import look
from capyra.engine.native.model.weights import Weights

Rotation = tuple[Tensor, Tensor, bool]
"""Cosine, sine, interleaved."""


class Decoder:
    """A loaded model, for serving; see `batch.Model` for its contract."""

    def __init__(
        self,
        spec: DecoderSpec,
        weights: Weights,
        kv_dtype: torch.dtype | None = None,
        ops: Ops | None = None,
    ) -> None:
        self.spec = spec
        self._ops = ops or serving()
        self._dtype = weights.dtype
        self._kv_dtype = kv_dtype or weights.dtype
        self.weights = weights
        self._weights = arrange(spec, weights.tensors)
        self._eyes = arrange_vision(spec.vision, weights.tensors) if spec.vision else None

    @property
    def vocab_size(self) -> int:
        return self.spec.vocab_size

    @property
    def long_after(self) -> int | None:
        return self.spec.long_after

    def groups(self) -> tuple[CacheGroup, ...]:
        return self.spec.groups(self._kv_dtype)

    def allocate(self, blocks: Sequence[int]) -> KvPool:
        return KvPool(self.groups(), blocks, self.spec.kv_heads, self.spec.head_dim, self._kv_dtype)

    @torch.inference_mode()
    def forward(self, batch: StepBatch, pool: KvPool) -> Tensor:
        token_ids = batch.token_ids
        if batch.images:
            token_ids = token_ids.clone()
        for row, features in batch.images:
            # The placeholder may lie outside the vocabulary.
            token_ids[row : row + len(features)] = 0
        x = embed(self.spec, self._weights, token_ids)
        for row, features in batch.images:
            x[row : row + len(features)] = features
        rotations = rotate_by(self.spec, batch.positions, batch.long_rows)
        attend = paged(self.spec, batch, pool, self._dtype, self._ops)
        return decode(self.spec, self._weights, x, rotations, attend, self._ops)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        return unembed(self.spec, self._weights, hidden, self._ops)

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> Tensor:
        if self.spec.vision is None or self._eyes is None:
            raise Unsupported("this model has no eyes: it takes no images")
        return look(self.spec, self._eyes, pixels.to(self._dtype).unsqueeze(0), self._ops).squeeze(
            0
        )


def dense_forward(
    spec: DecoderSpec,
    weights: DecoderWeights,
    token_ids: Tensor,
    images: Sequence[Sequence[tuple[int, Tensor]]] = (),
) -> Tensor:
    """Logits `[batch, rows, vocab]` of whole sequences `[batch, rows]`, with gradients.

    `images` lists for each sequence the first row and the features of every image in it.
    Sequences are padded at their end: no row sees what comes after it.
    """
    rows = token_ids.shape[1]
    x = embed(spec, weights, token_ids)
    if any(images):
        x = x.clone()
    for index, placed in enumerate(images):
        for row, features in placed:
            x[index, row : row + len(features)] = features
    extents = [[(row, len(features)) for row, features in placed] for placed in images]
    long = spec.long_after is not None and rows > spec.long_after
    rotations = rotate_by(
        spec, torch.arange(rows), torch.ones(rows, dtype=torch.bool) if long else None
    )
    attend = dense(spec, extents, rows, x.dtype)
    return unembed(spec, weights, decode(spec, weights, x, rotations, attend, TORCH), TORCH)


def embed(spec: DecoderSpec, weights: DecoderWeights, token_ids: Tensor) -> Tensor:
    x = functional.embedding(token_ids, weights.embedding)
    if spec.embedding_scale == 1.0:
        return x
    # Rounded to the model's type, as it was when the model was trained.
    return x * torch.tensor(spec.embedding_scale, dtype=x.dtype)


def unembed(spec: DecoderSpec, weights: DecoderWeights, hidden: Tensor, ops: Ops) -> Tensor:
    logits = ops.linear(hidden, Linear(weights.head, None)).float()
    if spec.logit_scale != 1.0:
        logits = logits * spec.logit_scale
    if spec.logit_softcap is not None:
        logits = torch.tanh(logits / spec.logit_softcap) * spec.logit_softcap
    return logits


def rotate_by(spec: DecoderSpec, positions: Tensor, long_rows: Tensor | None) -> list[Rotation]:
    """Each of the spec's rotations for these positions."""
    found = []
    for rope in spec.ropes:
        cos, sin = rotation(rope, positions, long_rows)
        found.append((cos.unsqueeze(-2), sin.unsqueeze(-2), rope.interleaved))
    return found


def decode(
    spec: DecoderSpec,
    weights: DecoderWeights,
    x: Tensor,
    rotations: Sequence[Rotation],
    attend: Attend,
    ops: Ops,
) -> Tensor:
    """Embeddings `[…, hidden]` through all layers and the last norm."""
    kind, eps = spec.norm, spec.norm_eps
    delta: Tensor | None = None
    for index, w in enumerate(weights.layers):
        if delta is None:
            normed = ops.norm(x, w.attention_norm, eps, kind)
        else:
            x, normed = ops.add_norm(x, delta, w.attention_norm, eps, kind)
        attended = _attention(spec, w, index, normed, rotations, attend, ops)
        if w.mlp_norm is None:
            delta = attended + _feed_forward(spec, w, normed, ops)
            continue
        if w.attention_post_norm is not None:
            attended = ops.norm(attended, w.attention_post_norm, eps, kind)
        x, normed = ops.add_norm(x, attended, w.mlp_norm, eps, kind)
        delta = _feed_forward(spec, w, normed, ops)
        if w.mlp_post_norm is not None:
            delta = ops.norm(delta, w.mlp_post_norm, eps, kind)
    assert delta is not None, "a decoder has layers"
    return ops.add_norm(x, delta, weights.norm, eps, kind)[1]


def _attention(
    spec: DecoderSpec,
    w: LayerWeights,
    index: int,
    x: Tensor,
    rotations: Sequence[Rotation],
    attend: Attend,
    ops: Ops,
) -> Tensor:
    q, k, v = _project(spec, w, x, ops)
    if w.q_norm is not None and w.k_norm is not None:
        q = ops.norm(q, w.q_norm, spec.norm_eps, spec.norm)
        k = ops.norm(k, w.k_norm, spec.norm_eps, spec.norm)
    rope = spec.layers[index].rope
    if rope is not None:
        cos, sin, interleaved = rotations[rope]
        q, k = ops.rotate(q, k, cos, sin, interleaved)
    return ops.linear(attend(index, q, k, v), w.out)


def _project(spec: DecoderSpec, w: LayerWeights, x: Tensor, ops: Ops) -> list[Tensor]:
    if len(w.qkv) == 3:
        parts = [ops.linear(x, projection) for projection in w.qkv]
    else:
        joined = ops.linear(x, w.qkv[0])
        end_q = spec.heads * spec.head_dim
        end_k = end_q + spec.kv_heads * spec.head_dim
        parts = [joined[..., :end_q], joined[..., end_q:end_k], joined[..., end_k:]]
    return [part.view(*part.shape[:-1], -1, spec.head_dim) for part in parts]


def _feed_forward(spec: DecoderSpec, w: LayerWeights, x: Tensor, ops: Ops) -> Tensor:
    if len(w.gate_up) == 2:
        gate, up = (ops.linear(x, projection) for projection in w.gate_up)
    else:
        gate, up = ops.linear(x, w.gate_up[0]).chunk(2, -1)
    return ops.linear(ops.glu(gate, up, spec.activation), w.down)
