"""The figures as bars, in SVG written by hand: no library for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

COLOURS = {
    "native": "#c0632b",
    "vllm": "#4a6fa5",
    "llamacpp": "#6a9a5b",
    "transformers": "#9a8c7a",
}
BAR, GAP, LEFT, WIDTH = 14, 22, 210, 360


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """One group of bars for each measure, one bar for each engine. Bars are relative to the
    largest of their group: measures have different units, which their names tell."""
    lines: list[str] = []
    y = 40
    for measure, values in groups.items():
        most = max(values.values()) or 1.0
        lines.append(_text(LEFT - 12, y + BAR * len(values) / 2 + 4, measure, "end"))
        for engine, value in values.items():
            width = max(1.0, WIDTH * value / most)
            colour = COLOURS.get(engine, "#777777")
            lines.append(
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'
            )
            lines.append(_text(LEFT + width + 6, y + BAR - 4, f"{value:.3g} {engine}", "start"))
            y += BAR
        y += GAP - BAR
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 140}" height="{y + 10}" '
        'font-family="sans-serif" font-size="11" fill="#333333">'
    )
    back = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, back, _text(12, 22, title, "start"), *lines, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
