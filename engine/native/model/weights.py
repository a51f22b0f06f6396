"""Weights from safetensors files, mapped and not read.

A tensor that is stored in the type that is computed in is a view of the mapped file: no second
copy, and every process of the node shares the pages. The mapping ends when the last tensor goes.
Nothing here unpickles anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from capyra.engine.errors import ModelError
from capyra.engine.native.model.fields import read_json
from capyra.engine.native.model.layout import canonical, shapes, stages
from capyra.engine.native.model.spec import DecoderSpec

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_REFUSED = {
    ".bin": "a pickle can run any code when it is read",
    ".pt": "a pickle can run any code when it is read",
    ".pth": "a pickle can run any code when it is read",
    ".gguf": "GGUF holds another engine's layout",
}
_PAGE = 4096

OnStage = Callable[[str, float], None]
"""A stage's name and the part of all bytes that are in when it is done."""


@dataclass(frozen=True, slots=True)
class Weights:
    """All tensors of a spec by their canonical names, of one type."""

    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    nbytes: int
    mapped_bytes: int
    """The part that is the file itself, and no memory of this process."""


def load_weights(
    directory: Path, spec: DecoderSpec, dtype: torch.dtype | None, on_stage: OnStage
) -> Weights:
    """The weights of that model, their pages brought in stage by stage.

    `dtype` None computes in the type that the embedding is stored in. Tensors of another type are
    converted, each into a copy of its own. Raises `ModelError`, and leaves nothing mapped, for
    whatever is wrong with the files; whatever `on_stage` raises stops the load in the same way.
    """
    with ExitStack() as files:
        found = _Found.open(directory, files)
        found.check(shapes(spec))
        target = dtype or found.dtype("model.embed_tokens.weight")
        total = sum(found.nbytes(name) for name in shapes(spec))
        tensors: dict[str, Tensor] = {}
        done = mapped = 0
        for stage, names in stages(spec):
            for name in names:
                tensor = found.tensor(name)
                done += tensor.nbytes
                if tensor.dtype == target:
                    mapped += tensor.nbytes
                    _touch(tensor)
                tensors[name] = tensor.to(target)
            on_stage(stage, done / total)
    return Weights(tensors, target, sum(t.nbytes for t in tensors.values()), mapped)


class _Found:
    """Every tensor of a checkpoint by its canonical name, and where it lies."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._places: dict[str, tuple[Any, str]] = {}

    @classmethod
    def open(cls, directory: Path, files: ExitStack) -> _Found:
        found = cls(str(directory))
        for path in weight_files(directory):
            with _reading(path):
                file = files.enter_context(safe_open(path, framework="pt"))
                names = list(file.keys())
            for name in names:
                ours = canonical(name)
                if ours is None:
                    continue
                if ours in found._places:
                    raise ModelError(f"{path} holds `{name}`, which another file holds too")
                found._places[ours] = file, name
        return found

    def check(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Exactly these tensors, of these shapes, of types that we know."""
        # A tied model's output matrix may be stored all the same; it is the embedding again.
        present = self._places.keys() - ({"lm_head.weight"} - wanted.keys())
        if missing := sorted(wanted.keys() - present):
            raise ModelError(f"{self._where}: the weights lack {_names(missing)}")
        if unexpected := sorted(present - wanted.keys()):
            raise ModelError(
                f"{self._where}: the weights hold {_names(unexpected)}, for which config.json has "
                "no place"
            )
        for name, shape in wanted.items():
            piece = self._slice(name)
            stored = tuple(piece.get_shape())
            if stored != shape:
                raise ModelError(
                    f"{self._where}: `{name}` has shape {list(stored)}, but config.json makes it "
                    f"{list(shape)}"
                )
            if piece.get_dtype() not in DTYPES:
                raise ModelError(
                    f"{self._where}: `{name}` is stored as {piece.get_dtype()}; this engine reads "
                    f"{', '.join(DTYPES)}"
                )

    def dtype(self, name: str) -> torch.dtype:
        return DTYPES[self._slice(name).get_dtype()]

    def nbytes(self, name: str) -> int:
        size = self.dtype(name).itemsize
        for side in self._slice(name).get_shape():
            size *= side
        return size

    def tensor(self, name: str) -> Tensor:
        file, stored = self._places[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def _slice(self, name: str) -> Any:
        file, stored = self._places[name]
        return file.get_slice(stored)


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model. `ModelError` if there is none, or one is missing."""
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    if (directory / INDEX).is_file():
        return _indexed(directory)
    if not directory.is_dir():
        raise ModelError(f"{directory} is no directory: it must hold a model")
    for path in sorted(directory.iterdir()):
        if reason := _REFUSED.get(path.suffix):
            raise ModelError(
                f"{directory} has its weights in {path.name}, which is never loaded: {reason}. "
                "Convert them to safetensors"
            )
    raise ModelError(f"{directory} holds neither {SINGLE} nor {INDEX}")


def _indexed(directory: Path) -> list[Path]:
    index = directory / INDEX
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: `weight_map` must name each tensor's file")
    paths = []
    for name in sorted({str(place) for place in places.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index} names {name!r}, which is no safetensors file beside it")
        if not (directory / name).is_file():
            raise ModelError(f"{index} names {name}, which is missing")
        paths.append(directory / name)
    return paths


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged or incomplete ({error}): download it again") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _touch(tensor: Tensor) -> None:
    """Bring a mapped tensor's pages in now, so that the first request does not wait for them."""
    data = tensor.reshape(-1).view(torch.uint8)
    data[::_PAGE].max()


def _names(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
