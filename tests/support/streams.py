"""Streams as clients of other APIs read them, and what tests ask those APIs with."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image


def named_events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream whose events have names; comments are left out."""
    found = []
    for event in body.decode("ascii").split("\n\n"):
        if event and not event.startswith(":"):
            name, data = event.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def json_lines(body: bytes) -> list[dict[str, Any]]:
    assert body.endswith(b"\n")
    return [json.loads(line) for line in body.decode("ascii").splitlines()]


def png(colour: str = "red", side: int = 4) -> str:
    """A picture, as base64."""
    made = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode()
