"""Images in a conversation: `data:` URLs, looked at before anybody decodes them."""

from __future__ import annotations

import base64
import binascii
import io
import warnings

from capyra.deployments.gateway.settings import Images
from capyra.engine.errors import InvalidValue, TooLarge, Unsupported
from capyra.engine.types import ImagePart

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def decode(url: str, param: str, limits: Images) -> ImagePart:
    """The image of a `data:` URL. Only its head is read: pixels are decoded by the expert."""
    head, comma, payload = url.partition(",")
    scheme, _, claims = head.partition(":")
    if scheme.lower() in ("http", "https"):
        raise Unsupported(
            f"{param}: remote images are not fetched: send the image itself, as "
            "data:image/png;base64,…",
            param=param,
        )
    if scheme.lower() != "data" or not comma or not claims.lower().endswith(";base64"):
        raise InvalidValue(
            f"{param} is no image: write data:image/png;base64,… and the bytes", param=param
        )
    return decode_base64(payload, param, limits)


def decode_base64(payload: str, param: str, limits: Images) -> ImagePart:
    """The image that this base64 spells."""
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"{param} is no valid base64: {error}", param=param) from error
    return ImagePart(data, _media_type(data, param, limits))


def _media_type(data: bytes, param: str, limits: Images) -> str:
    # Pillow is only paid for by those who send images.
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Its own limit for pixels warns; ours, below, refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                (width, height), kind = image.size, image.format
    except Image.DecompressionBombError as error:
        raise _too_large(param, limits) from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise InvalidValue(
            f"{param} is no image that can be read here ({', '.join(FORMATS)})", param=param
        ) from error
    if width * height > limits.pixels:
        raise _too_large(param, limits)
    return f"image/{str(kind).lower()}"


def _too_large(param: str, limits: Images) -> TooLarge:
    return TooLarge(f"{param} has more than {limits.pixels} pixels", param=param)
