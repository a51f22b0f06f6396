"""A loaded engine: weights, K/V, and the loop that works with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from capyra.engine.errors import LoadFailed
from capyra.engine.native.blueprint import Blueprint
from capyra.engine.native.cache import Cache
from capyra.engine.native.executor import Executor
from capyra.engine.native.loop import Loop
from capyra.engine.native.model.decoder import Decoder
from capyra.engine.native.model.weights import OnStage, load_weights
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.tally import Tally


@dataclass(frozen=True, slots=True)
class Machine:
    """Whoever drops the last reference to it gives its memory back."""

    loop: Loop
    weight_bytes: int
    kv_bytes: int


Builder = Callable[[Blueprint, Tally, asyncio.AbstractEventLoop, OnStage], Machine]


def build(
    blueprint: Blueprint,
    tally: Tally,
    readers: asyncio.AbstractEventLoop,
    on_stage: OnStage,
    *,
    decoder: type[Decoder] = Decoder,
    scheduling: type[Scheduler] = Scheduler,
) -> Machine:
    """Bring the weights in; what `on_stage` raises ends it. Blocks for as long as that takes."""
    weights = load_weights(blueprint.directory, blueprint.spec, blueprint.dtype, on_stage)
    model = decoder(blueprint.spec, weights, blueprint.kv_dtype)
    try:
        pool = model.allocate([group.blocks for group in blueprint.groups])
    except OSError as error:
        raise LoadFailed(f"there is no memory for the K/V cache: {error}") from error
    executor = Executor(
        model,
        pool,
        prefill_threads=blueprint.prefill_threads,
        decode_threads=blueprint.decode_threads,
    )
    cache = Cache(blueprint.groups, chunk=blueprint.budget.tokens, reuse=blueprint.reuse)
    scheduler = scheduling(cache, blueprint.budget, span=blueprint.span)
    return Machine(Loop(executor, scheduler, tally, readers), weights.nbytes, pool.nbytes)
