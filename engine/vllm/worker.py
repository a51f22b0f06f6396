"""vLLM's CPU worker and weight loader, which also tell how far they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.v1.worker.cpu_worker import CPUWorker

from capyra.engine.vllm import stages

LOAD_FORMAT = "capyra"
"""Under this name vLLM finds the loader below."""


@register_model_loader(LOAD_FORMAT)
class Loader(DefaultModelLoader):  # type: ignore[misc]  # vLLM is not there where types are checked
    def __init__(self, load_config: Any) -> None:
        super().__init__(replace(load_config, load_format="auto"))

    def get_all_weights(self, model_config: Any, model: Any) -> Iterator[Any]:
        folder = Path(model_config.model)
        total = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        done = 0
        for name, tensor in super().get_all_weights(model_config, model):
            yield name, tensor
            done += tensor.nbytes
            stages.report("weights", done / max(total, done))


class Worker(CPUWorker):  # type: ignore[misc]  # as above
    def init_device(self) -> None:
        stages.report("starting", 0.5)
        super().init_device()

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        stages.report("weights", 0.0)
        super().load_model(*args, **kwargs)

    def initialize_from_config(self, *args: Any, **kwargs: Any) -> None:
        stages.report("cache", 0.0)
        super().initialize_from_config(*args, **kwargs)
