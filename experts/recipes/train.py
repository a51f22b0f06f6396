"""The training loop: one thread, no framework, the engine's own forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.native.model.attention import dense
from capyra.engine.native.model.decoder import decode, embed, rotate_by, unembed
from capyra.engine.native.model.layout import arrange, arrange_vision
from capyra.engine.native.model.ops import TORCH
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.training import initial_parameters
from capyra.engine.native.model.vision import look
from experts.recipes.corpus import Batch
from experts.recipes.optimizer import Trainer, pace

CHECKPOINT_SECONDS = 120.0
"""Processor seconds between two checkpoints."""
_AVERAGE = 0.99
"""The weights that are kept are a moving average over about a hundred steps."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast a model learns."""

    steps: int
    tokens: int = 2048
    """Of one batch."""
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    deviation: float = 0.04
    seed: int = 1
    eyes: int = 0
    """Steps that eyes learn alone, before all else."""


@dataclass(slots=True)
class Progress:
    step: int = 0
    cpu_s: float = 0.0
    tokens: int = 0
    loss: float = 0.0
    right: float = 0.0
    """Part of the answers' tokens that were the likeliest, and the loss: both of the last steps."""

    def note(self, batch: Batch, loss: float, right: float) -> None:
        fresh = max(0.02, 1 / (self.step + 1))
        self.loss += fresh * (loss - self.loss)
        self.right += fresh * (right - self.right)
        self.step += 1
        self.tokens += batch.tokens.numel()

    def __str__(self) -> str:
        rate = self.tokens / max(self.cpu_s, 1e-9)
        return (
            f"step {self.step}  loss {self.loss:.4f}  right {self.right:.4f}  "
            f"{self.cpu_s:.0f} s  {rate:.0f} tokens/s"
        )


class Training:
    """One model on its way. Everything in it follows from the plan and the batches."""

    def __init__(self, spec: DecoderSpec, plan: Plan) -> None:
        self.spec = spec
        self.plan = plan
        self.parameters = initial_parameters(spec, plan.seed, plan.deviation)
        self.average = {name: each.detach().clone() for name, each in self.parameters.items()}
        self.progress = Progress()
        self._trainer = Trainer(self.parameters)

    def run(self, batches: Iterator[Batch], checkpoint: Path) -> Iterator[Progress]:
        """All steps; whoever asks for the next one sees how it goes."""
        saved = self.progress.cpu_s
        while self.progress.step < self.plan.steps:
            begin = time.process_time()
            self._step(next(batches))
            self.progress.cpu_s += time.process_time() - begin
            if self.progress.cpu_s - saved > CHECKPOINT_SECONDS:
                self.save(checkpoint)
                saved = self.progress.cpu_s
            yield self.progress

    def _step(self, batch: Batch) -> None:
        logits = answers(self.spec, self.parameters, batch)
        loss = functional.cross_entropy(logits, batch.targets)
        torch.autograd.backward(loss)
        right = (logits.detach().argmax(-1) == batch.targets).float().mean()
        part = pace(self.progress.step, self.plan.steps)
        self._trainer.step(part * self.plan.muon_rate, part * self.plan.adam_rate)
        self.progress.note(batch, float(loss.detach()), float(right))
        keep = min(_AVERAGE, self.progress.step / (self.progress.step + 10))
        for name, each in self.parameters.items():
            self.average[name].lerp_(each.detach(), 1 - keep)

    def save(self, path: Path) -> None:
        """Everything but the optimizer's memory: enough to look at, and to score."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {"average": self.average, "progress": asdict(self.progress)}
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)


def answers(spec: DecoderSpec, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Logits of the rows before an answer's tokens: no others are computed."""
    weights = arrange(spec, parameters)
    x = embed(spec, weights, batch.tokens)
    extents: list[list[tuple[int, int]]] = []
    if any(batch.images):
        x, extents = _see(spec, parameters, x, batch)
    count = batch.tokens.shape[1]
    rotations = rotate_by(spec, torch.arange(count), None)
    hidden = decode(spec, weights, x, rotations, dense(spec, extents, count, x.dtype), TORCH)
    return unembed(spec, weights, hidden.flatten(0, 1)[batch.rows], TORCH)


def _see(
    spec: DecoderSpec, parameters: Mapping[str, Tensor], x: Tensor, batch: Batch
) -> tuple[Tensor, list[list[tuple[int, int]]]]:
    """Embeddings with all images' features in their places, and where these are."""
    assert spec.vision is not None
    pixels = torch.stack([each for placed in batch.images for _, each in placed])
    features = look(spec, arrange_vision(spec.vision, parameters), pixels)
    count = spec.vision.tokens
    rows = [
        index * x.shape[1] + first + offset
        for index, placed in enumerate(batch.images)
        for first, _ in placed
        for offset in range(count)
    ]
    flat = x.flatten(0, 1).index_copy(0, torch.tensor(rows), features.flatten(0, 1))
    extents = [[(first, count) for first, _ in placed] for placed in batch.images]
    return flat.view_as(x), extents
