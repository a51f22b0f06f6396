"""All that is known of an engine before its weights are in: model, K/V, budget, threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from capyra.engine.native.cache import Cache, Group
from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.fields import read_json
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.options import NativeOptions
from capyra.engine.native.plan import Budget
from capyra.engine.native.sizing import size_blocks
from capyra.engine.registry import EngineSpec

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What `machine.build` builds from."""

    directory: Path
    spec: DecoderSpec
    dtype: torch.dtype | None
    """None: as the weights are stored."""
    kv_dtype: torch.dtype | None
    """None: as the weights are computed in."""
    groups: tuple[Group, ...]
    budget: Budget
    span: int
    """Tokens of an image, 0 if the model sees none."""
    context: int
    reuse: bool
    prefill_threads: int
    decode_threads: int

    @classmethod
    def of(cls, engine: EngineSpec, options: NativeOptions) -> Blueprint:
        """`ModelError` if the directory is no model that runs here."""
        assert engine.model is not None
        config = engine.config
        spec = read_spec(engine.model)
        dtype = _DTYPES.get(config.dtype)
        kv_dtype = _DTYPES.get(config.kv.type)
        span = spec.vision.tokens if spec.vision is not None else 0
        running = config.queue.running
        budget = Budget(
            # An image is computed whole, however long a chunk is meant to be.
            tokens=max(options.step, options.chunk, span) + running,
            chunk=min(options.chunk, max(options.step, options.chunk)),
            running=running,
            decode_steps_between_admissions=options.decode_steps_between_admissions,
            patience=options.patience,
        )
        context = min(spec.context, config.context or spec.context)
        groups = size_blocks(
            spec.groups(kv_dtype or dtype or _stored(engine.model)),
            context=context,
            running=running,
            chunk=budget.tokens,
            memory=config.kv.memory,
            blocks=options.blocks,
        )
        threads = config.resources.threads or torch.get_num_threads()
        return cls(
            directory=engine.model,
            spec=spec,
            dtype=dtype,
            kv_dtype=kv_dtype,
            groups=tuple(groups),
            budget=budget,
            span=span,
            context=min(context, Cache(groups, chunk=budget.tokens).capacity),
            reuse=options.prefix_cache,
            prefill_threads=options.prefill_threads or threads,
            decode_threads=options.decode_threads or threads,
        )


def _stored(directory: Path) -> torch.dtype:
    """The type that the configuration says the weights have: the sizes of blocks depend on it."""
    config = read_json(directory / "config.json")
    name = config.get("torch_dtype") or config.get("dtype")
    return _DTYPES.get(str(name), torch.float32)
