"""Attention, by phase: whole spans of a prompt, single decode rows, and dense batches.

Prefill and decode are separate on purpose: a span is many queries on one sequence and wants a
causal product; a decode row is one query on a sequence of its own and wants to read K/V once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.native.batch import DecodeTable, GroupStep, Span, SpanTable, StepBatch
from capyra.engine.native.kv import KvLayer, KvPool
from capyra.engine.native.model.ops import Ops, widened
from capyra.engine.native.model.spec import DecoderSpec

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, q `[…, heads, head_dim]`, k and v `[…, kv_heads, head_dim]` → `[…, heads × head_dim]`."""


def paged(
    spec: DecoderSpec, batch: StepBatch, pool: KvPool, dtype: torch.dtype, ops: Ops
) -> Attend:
    """Attention of one step over paged K/V. Masks are made once and serve all layers."""
    steps: dict[int, tuple[GroupStep, tuple[_SpanPlan | _RowsPlan, ...]]] = {}
    for group, step in zip(pool.groups, batch.groups, strict=True):
        plans = tuple(
            _plan(span, table, group.window, dtype, ops.few)
            for span, table in zip(batch.spans, step.spans, strict=True)
        )
        steps |= dict.fromkeys(group.layers, (step, plans))
    split = batch.prefill_rows

    def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        step, plans = steps[index]
        layer = pool.layers[index]
        layer.write(step.slots, k, v)
        parts = [
            _attend_span(spec, layer, plan, q)
            if isinstance(plan, _SpanPlan)
            else _attend_rows(spec, layer, plan.table, q[plan.rows], ops)
            for plan in plans
        ]
        if step.decode is not None:
            parts.append(_attend_rows(spec, layer, step.decode, q[split:], ops))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return attend


def dense(
    spec: DecoderSpec, images: Sequence[Sequence[tuple[int, int]]], rows: int, dtype: torch.dtype
) -> Attend:
    """Attention of `[batch, rows]` sequences that begin at position 0. `images` lists for each
    sequence the first row and number of rows of every image in it."""
    masks: dict[int | None, Tensor | None] = {}
    for window in {layer.window for layer in spec.layers}:
        if not any(images) and (window is None or window >= rows):
            masks[window] = None
        elif any(images):
            masks[window] = torch.stack(
                [_mask(rows, rows, 0, window, placed, dtype) for placed in images]
            ).unsqueeze(1)
        else:
            masks[window] = _mask(rows, rows, 0, window, (), dtype)

    def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = masks[spec.layers[index].window]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return attention(spec, q, k, v, mask, mask is None).transpose(1, 2).flatten(-2)

    return attend


def attention(
    spec: DecoderSpec, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """q `[b, heads, n, d]` on k and v `[b, kv_heads, m, d]`; `causal` needs n = m."""
    cap = spec.attention_softcap
    if cap is None:
        return functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=causal,
            scale=spec.attention_scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    if causal:
        mask = _mask(q.shape[2], k.shape[2], 0, None, (), q.dtype)
    grouped = q.view(len(q), k.shape[1], -1, *q.shape[2:])
    scores = grouped @ k.unsqueeze(2).transpose(-1, -2) * spec.attention_scale
    scores = torch.tanh(scores / cap) * cap
    if mask is not None:
        scores = scores + (mask.unsqueeze(1) if mask.dim() == 4 else mask)
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    return (weights @ v.unsqueeze(2)).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class _SpanPlan:
    """Rows of one span, the blocks they see and which tokens of them; no mask means causal."""

    rows: slice
    blocks: Tensor
    seen: slice
    mask: Tensor | None
    dtype: torch.dtype
    """What it is computed in."""


@dataclass(frozen=True, slots=True)
class _RowsPlan:
    """A span of a few rows, each of which attends by itself: nothing is gathered for them."""

    rows: slice
    table: DecodeTable


def _plan(
    span: Span, table: SpanTable, window: int | None, dtype: torch.dtype, few: int
) -> _SpanPlan | _RowsPlan:
    if span.length <= few and not span.images:
        return _rows_plan(span, table, window)
    dtype = torch.float32 if widened(dtype) else dtype
    end = span.context + span.length
    oldest = 0 if window is None else max(0, span.context - window + 1)
    seen = slice(oldest - table.start, end - table.start)
    count = end - oldest
    fresh = count == span.length
    mask = None
    if span.images or not fresh or (window is not None and span.length > window):
        mask = _mask(span.length, count, span.context - oldest, window, span.images, dtype)
    rows = slice(span.row, span.row + span.length)
    return _SpanPlan(rows, table.blocks, seen, mask, dtype)


def _rows_plan(span: Span, table: SpanTable, window: int | None) -> _RowsPlan:
    end = torch.arange(span.context, span.context + span.length) + 1 - table.start
    first = torch.zeros_like(end) if window is None else (end - window).clamp(min=-table.start)
    lines = table.blocks.expand(span.length, -1).contiguous()
    rows = slice(span.row, span.row + span.length)
    return _RowsPlan(rows, DecodeTable(lines, torch.stack((first, end), 1)))


def _mask(
    rows: int,
    count: int,
    context: int,
    window: int | None,
    images: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> Tensor:
    """What is added to scores `[rows, count]` when row 0 stands at place `context` of `count`.

    An image's rows see all of their image, as far as the window reaches back.
    """
    at = torch.arange(context, context + rows).unsqueeze(1)
    to = torch.arange(count)
    seen = to <= at
    for first, length in images:
        image = slice(first, first + length)
        seen[image, context + first : context + first + length] = True
    if window is not None:
        seen &= to > at - window
    return torch.zeros(rows, count, dtype=dtype).masked_fill_(~seen, float("-inf"))


def _attend_span(spec: DecoderSpec, layer: KvLayer, plan: _SpanPlan, q: Tensor) -> Tensor:
    # Many queries are a matrix product; the one of a decode row is bound by reading K/V.
    dtype = plan.dtype
    k, v = layer.read(plan.blocks, dtype)
    wide = q[plan.rows].to(dtype)
    wide, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (wide, k[plan.seen], v[plan.seen]))
    out = attention(spec, wide, k, v, plan.mask, plan.mask is None and wide.shape[2] > 1)
    return out.squeeze(0).transpose(0, 1).flatten(-2).to(q.dtype)


def _attend_rows(
    spec: DecoderSpec, layer: KvLayer, table: DecodeTable, q: Tensor, ops: Ops
) -> Tensor:
    softcap = spec.attention_softcap or 0.0
    return ops.attend(
        q, layer.k, layer.v, table.blocks, table.seen, spec.attention_scale, softcap
    ).flatten(-2)
