"""From a recipe to a model's directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.training import save_parameters
from experts.recipes.corpus import Reader, batches
from experts.recipes.eyes import train_eyes
from experts.recipes.models import write_model
from experts.recipes.recipes import RECIPES, Recipe
from experts.recipes.train import Progress, Training
from experts.recipes.vocabulary import VOCABULARY

Report = Callable[[Progress], None]
TRAINING = "training.json"


def write_frame(recipe: Recipe, work: Path) -> Path:
    """All of a model but its weights."""
    folder = work / recipe.name
    write_model(folder, recipe.config, recipe.style)
    shutil.copyfile(VOCABULARY, folder / "tokenizer.json")
    return folder


def build_model(recipe: Recipe, work: Path, report: Report) -> Path:
    """The trained model's directory, `work/<name>`. Equal recipes make equal weights on one kind
    of machine; on another the last bits of sums differ, and so do weights."""
    folder = write_frame(recipe, work)
    learned = [RECIPES[name] for name in recipe.drafts_for] or [recipe]
    sources = [(Reader(write_frame(each, work)), each.draw) for each in learned]
    spec = read_spec(folder)
    training = Training(spec, recipe.plan)
    if spec.vision is not None:
        images = ImageReader.of(folder, spec.vision)
        for _ in train_eyes(spec, training.parameters, images, recipe.plan.eyes, recipe.plan.seed):
            pass
    made = batches(sources, f"train {recipe.plan.seed}", recipe.plan.tokens)
    for progress in training.run(made, work / f"{recipe.name}.pt"):
        report(progress)
    save_parameters(spec, training.average, folder, torch.bfloat16)
    record = {"plan": asdict(recipe.plan), "progress": asdict(training.progress)}
    (folder / TRAINING).write_text(json.dumps(record, indent=1) + "\n")
    return folder
