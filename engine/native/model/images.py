"""From an encoded image to the pixels that a model's tower expects."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from capyra.engine.errors import InvalidValue, ModelError, TooLarge
from capyra.engine.native.model.fields import Fields, read_json
from capyra.engine.native.model.spec import VisionSpec
from capyra.engine.types import ImagePart

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS = 64 * 10**6
"""A small file can hold a very large image: its size is looked at before it is decoded."""

_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Decodes, turns upright, resizes and normalizes."""

    side: int
    rescale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, directory: Path, vision: VisionSpec) -> ImageReader:
        """As the model's own files say; what they leave out is SigLIP's."""
        if vision.channels != 3:
            raise ModelError(f"{directory}: a tower of {vision.channels} channels; 3 are supported")
        fields = Fields({}, str(directory))
        for name in _FILES:
            if (directory / name).is_file():
                fields = Fields(read_json(directory / name), str(directory / name))
                fields = fields.part("image_processor") if "image_processor" in fields else fields
                break
        for step in ("do_resize", "do_rescale", "do_normalize"):
            fields.must_be(step, True)
        fields.must_be("resample", 2)
        defaults = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        fields = fields.merged(defaults)
        return cls(
            side=vision.image_size,
            rescale=fields.number("rescale_factor", 1 / 255),
            mean=tuple(fields.numbers("image_mean", 3, zero=True)),
            deviation=tuple(fields.numbers("image_std", 3)),
        )

    def read(self, part: ImagePart) -> Tensor:
        """Pixels `[3, side, side]`, float32. `InvalidValue` if this is no image of a known kind,
        `TooLarge` if it is out of all proportion."""
        try:
            with Image.open(io.BytesIO(part.data), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise TooLarge(
                        f"the image has {image.width} × {image.height} pixels; at most "
                        f"{MOST_PIXELS // 10**6} million are read",
                        param="messages",
                    )
                upright = ImageOps.exif_transpose(image).convert("RGB")
            small = upright.resize((self.side, self.side), Image.Resampling.BILINEAR)
        except Image.DecompressionBombError as error:
            raise TooLarge(f"the image is too large: {error}", param="messages") from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise InvalidValue(
                f"the image cannot be read as {', '.join(FORMATS)}: {error}", param="messages"
            ) from error
        pixels = torch.from_numpy(np.array(small, dtype=np.float32)) * self.rescale
        pixels = (pixels - torch.tensor(self.mean)) / torch.tensor(self.deviation)
        return pixels.permute(2, 0, 1).contiguous()
