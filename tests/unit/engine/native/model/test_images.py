from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from capyra.engine.errors import InvalidValue, ModelError, TooLarge
from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.spec import VisionSpec
from capyra.engine.types import ImagePart

VISION = VisionSpec(
    hidden_size=8,
    intermediate_size=8,
    layers=1,
    heads=1,
    image_size=32,
    patch_size=8,
    channels=3,
    norm_eps=1e-6,
    activation="gelu_tanh",
    tokens=4,
    image_token=1,
    begin_token=2,
    end_token=3,
)


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> ImagePart:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return ImagePart(data.getvalue(), f"image/{kind.lower()}")


def claiming(side: int) -> ImagePart:
    """A tiny file that says it holds a huge image."""
    data = bytearray(encoded(Image.new("1", (1, 1))).data)
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return ImagePart(bytes(data), "image/png")


@pytest.fixture
def reader(tmp_path: Path) -> ImageReader:
    return ImageReader.of(tmp_path, VISION)


def test_pixels_lie_between_minus_one_and_one(reader: ImageReader) -> None:
    pixels = reader.read(encoded(Image.new("RGB", (10, 70), (255, 0, 127))))
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 5, 5].tolist() == pytest.approx([1, -1, -0.004], abs=1e-3)


def test_a_photo_is_turned_upright(reader: ImageReader) -> None:
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = reader.read(encoded(image, exif=exif))
    assert pixels[0, 4, 16] == -1
    assert pixels[0, 28, 16] == 1


def test_the_models_own_files_are_obeyed_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.0] * 3, "image_std": [0.0] * 3}))
    with pytest.raises(ModelError, match=r"`image_std` is .*; supported: 3 positive numbers"):
        ImageReader.of(tmp_path, VISION)
    path.write_text(json.dumps({"image_mean": [0.2] * 3, "image_std": [0.1] * 3, "resample": 2}))
    reader = ImageReader.of(tmp_path, VISION)
    pixels = reader.read(encoded(Image.new("RGB", (9, 9), (255, 255, 255))))
    assert pixels[0, 0, 0] == pytest.approx(8)
    path.write_text(json.dumps({"do_resize": False}))
    with pytest.raises(ModelError, match="`do_resize` is false; supported: true"):
        ImageReader.of(tmp_path, VISION)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(40), b"%PDF-1.7"])
def test_what_is_no_image_is_an_invalid_value(reader: ImageReader, data: bytes) -> None:
    with pytest.raises(InvalidValue, match="cannot be read as PNG, JPEG, WEBP, GIF"):
        reader.read(ImagePart(data, "image/png"))


def test_a_cut_image_is_an_invalid_value(reader: ImageReader) -> None:
    whole = encoded(Image.effect_noise((50, 50), 9), "JPEG")
    with pytest.raises(InvalidValue, match="cannot be read"):
        reader.read(ImagePart(whole.data[:-300], whole.media_type))


@pytest.mark.parametrize("side", [8_001, 14_000])
def test_a_huge_image_is_refused_before_it_is_decoded(reader: ImageReader, side: int) -> None:
    with pytest.raises(TooLarge, match=r"pixels"):
        reader.read(claiming(side))
