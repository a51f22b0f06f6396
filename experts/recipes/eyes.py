"""Eyes learn to see before a model learns to talk of it.

A tower that learns from answers alone finds colours, and for long nothing else: an answer says
little about where in a picture it comes from. So it is taught first, for a fraction of the cost,
to tell of each cell what is in it and which cell it is. What it tells that by is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.layout import arrange_vision
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.vision import look
from experts.recipes.corpus import shown
from experts.recipes.example import held_out
from experts.recipes.fields.shapes import COLOURS, SHAPES, Scene, compose, key_of, paint
from experts.recipes.optimizer import Trainer, pace

_KINDS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
_CELLS = 9
_PICTURES = 40
"""In one step."""
_PLACE_SCALE = 10.0
"""Fresh places are made as loud as what is seen in them."""


def train_eyes(
    spec: DecoderSpec, parameters: Mapping[str, Tensor], reader: ImageReader, steps: int, seed: int
) -> Iterator[float]:
    """Teaches those of the parameters that see, in place; yields the part of cells told rightly."""
    assert spec.vision is not None
    tower = {
        name: each
        for name, each in parameters.items()
        if name.startswith(("vision_tower.", "multi_modal_projector."))
    }
    with torch.no_grad():
        tower["vision_tower.embeddings.position_embedding.weight"].mul_(_PLACE_SCALE)
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(len(_KINDS) + 1 + _CELLS, spec.hidden_size, generator=generator) * 0.02
    trainer = Trainer({**tower, "head_embed": head.requires_grad_()})
    source = Random(f"eyes {seed}")
    for step in range(steps):
        scenes = [_scene(source) for _ in range(_PICTURES)]
        pixels = torch.stack([reader.read(shown(paint(scene, source))) for scene in scenes])
        told = look(spec, arrange_vision(spec.vision, parameters), pixels) @ head.T
        kinds, places = told[..., :-_CELLS], told[..., -_CELLS:]
        wanted = torch.tensor([_cells(scene) for scene in scenes])
        where = torch.arange(_CELLS).expand_as(wanted)
        loss = functional.cross_entropy(kinds.flatten(0, 1), wanted.flatten())
        loss = loss + functional.cross_entropy(places.flatten(0, 1), where.flatten())
        torch.autograd.backward(loss)
        part = pace(step, steps)
        trainer.step(0.02 * part, 0.004 * part)
        filled = wanted > 0
        yield float((kinds.detach().argmax(-1) == wanted)[filled].float().mean())


def _scene(source: Random) -> Scene:
    """One that is not held out."""
    while held_out(key_of(scene := compose(source))):
        pass
    return scene


def _cells(scene: Scene) -> list[int]:
    cells = [0] * _CELLS
    for thing in scene:
        cells[thing.place] = 1 + _KINDS.index(thing.name)
    return cells
